//! A way for checkpoints to somewhere safe: one of the thesis's pipes (`hs_cpipe_*`), as a trait.
//!
//! The replication channel is one, a [file](super::file) is another, and an application may
//! [load](super::Checkpointer::load_pipe) its own. One that counts:
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! use hs_core::checkpoint::{CheckpointId, CheckpointPipe, Kind, PipeError, PipeWriter};
//!
//! /// Counts the bytes of all checkpoints that were written to their end.
//! #[derive(Default)]
//! struct Counter(Arc<AtomicU64>);
//!
//! struct Counting {
//!     total: Arc<AtomicU64>,
//!     len_bytes: u64,
//! }
//!
//! impl CheckpointPipe for Counter {
//!     fn open(&self, _: CheckpointId, _: Kind) -> Result<Box<dyn PipeWriter>, PipeError> {
//!         let total = Arc::clone(&self.0);
//!         Ok(Box::new(Counting { total, len_bytes: 0 }))
//!     }
//!
//!     // Nothing here ever waits.
//!     fn cancel(&self, _: CheckpointId) {}
//! }
//!
//! impl PipeWriter for Counting {
//!     fn write(&mut self, bytes: &[u8]) -> Result<(), PipeError> {
//!         self.len_bytes += bytes.len() as u64;
//!         Ok(())
//!     }
//!
//!     fn commit(self: Box<Self>) -> Result<(), PipeError> {
//!         self.total.fetch_add(self.len_bytes, Ordering::Relaxed);
//!         Ok(())
//!     }
//! }
//!
//! let counter = Counter::default();
//! let id = CheckpointId { generation: 1, increment: 0 };
//! let mut writer = counter.open(id, Kind::Full).unwrap();
//! writer.write(&[0; 100]).unwrap();
//! writer.commit().unwrap();
//! assert_eq!(counter.0.load(Ordering::Relaxed), 100);
//! ```

use alloc::boxed::Box;
use core::fmt;

use super::{CheckpointId, Kind};

/// Why a checkpoint does not get through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PipeError {
    /// Its holder is gone, or was never there.
    Disconnected,
    /// Its holder refused the checkpoint, and may have lost what it had: the next one is full, for all.
    Refused,
    /// It was cancelled on this side.
    Cancelled,
    /// No more checkpoints go through at once.
    Full,
    /// The pipe does not work, or holds nothing that this could be applied to: it gets no more until the next full one.
    Failed,
}

impl fmt::Display for PipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PipeError::Disconnected => "the spare is gone",
            PipeError::Refused => "the spare refused it",
            PipeError::Cancelled => "it was cancelled",
            PipeError::Full => "the channel carries no more checkpoints at once",
            PipeError::Failed => "a sink of checkpoints failed",
        })
    }
}

/// Carries checkpoints to a holder. Called from several threads at once.
pub trait CheckpointPipe: Send + Sync {
    /// Begins to send a checkpoint. Called by its child, in any order of checkpoints: `kind` says what this one needs.
    ///
    /// # Errors
    /// It cannot be sent now.
    fn open(&self, id: CheckpointId, kind: Kind) -> Result<Box<dyn PipeWriter>, PipeError>;

    /// The checkpoint is lost already: its writer's calls, present and future ones (even before `open`), fail with
    /// [`PipeError::Cancelled`], unless its holder has it. Does not block; of an unknown one, nothing.
    fn cancel(&self, id: CheckpointId);

    /// Whether the next checkpoint should be full for this pipe's sake. Asked in the pause: does not block.
    fn wants_full(&self) -> bool {
        false
    }

    /// Whether it has failed and is not to be tried again yet: full checkpoints go past it, as long as there is another.
    /// Asked in the pause: does not block.
    fn rests(&self) -> bool {
        false
    }
}

/// One checkpoint on its way. Dropped without [`commit`](PipeWriter::commit), it is abandoned.
pub trait PipeWriter: Send {
    /// Sends the next bytes. Blocks while the pipe is full.
    ///
    /// # Errors
    /// The checkpoint does not get through.
    fn write(&mut self, bytes: &[u8]) -> Result<(), PipeError>;

    /// All of it was written: what was held back may go. [`commit`](PipeWriter::commit) follows; where a checkpoint has
    /// several writers, each is sealed before the first is waited for.
    ///
    /// # Errors
    /// The checkpoint does not get through.
    fn seal(&mut self) -> Result<(), PipeError> {
        Ok(())
    }

    /// Waits until the holder has the checkpoint, safely.
    ///
    /// # Errors
    /// The checkpoint does not get through, or nobody knows.
    fn commit(self: Box<Self>) -> Result<(), PipeError>;
}

//! What carries checkpoints to the spare: the thesis's pool of pipes (`hs_cpipe_*`), as a trait.

use alloc::boxed::Box;
use core::fmt;

use super::CheckpointId;

/// Why a checkpoint does not get through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PipeError {
    /// The spare is gone, or was never there.
    Disconnected,
    /// The spare refused the checkpoint.
    Refused,
    /// It was cancelled on this side.
    Cancelled,
    /// No more checkpoints go through at once.
    Full,
}

impl fmt::Display for PipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PipeError::Disconnected => "the spare is gone",
            PipeError::Refused => "the spare refused it",
            PipeError::Cancelled => "it was cancelled",
            PipeError::Full => "the channel carries no more checkpoints at once",
        })
    }
}

/// Carries checkpoints to the spare. Called from several threads at once.
pub trait CheckpointPipe: Send + Sync {
    /// Begins to send a checkpoint. Called by its child.
    ///
    /// # Errors
    /// It cannot be sent now.
    fn open(&self, id: CheckpointId) -> Result<Box<dyn PipeWriter>, PipeError>;

    /// The checkpoint is lost already: its writer's calls, present and future ones (even before `open`), fail with
    /// [`PipeError::Cancelled`], unless the spare has acknowledged it. Does not block; of an unknown one, nothing.
    fn cancel(&self, id: CheckpointId);
}

/// One checkpoint on its way. Dropped without [`commit`](PipeWriter::commit), it is abandoned.
pub trait PipeWriter: Send {
    /// Sends the next bytes. Blocks while the channel is full.
    ///
    /// # Errors
    /// The checkpoint does not get through.
    fn write(&mut self, bytes: &[u8]) -> Result<(), PipeError>;

    /// Waits until the spare has acknowledged the checkpoint: all of it was written.
    ///
    /// # Errors
    /// The checkpoint does not get through, or nobody knows.
    fn commit(self: Box<Self>) -> Result<(), PipeError>;
}

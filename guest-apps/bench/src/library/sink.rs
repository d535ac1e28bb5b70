//! Where the checkpoints of a guest alone go: nowhere, or into a pipe that another thread reads empty.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;

use hs_core::checkpoint::{CheckpointId, CheckpointPipe, Kind, PipeError, PipeWriter};
use hs_core::platform::{Machine, Priority};

use crate::Context;
use crate::failure::Failure;
use crate::pipe::Pipe;

/// Takes everything, and has it at once.
pub(super) struct Nowhere;

impl CheckpointPipe for Nowhere {
    fn open(&self, _: CheckpointId, _: Kind) -> Result<Box<dyn PipeWriter>, PipeError> {
        Ok(Box::new(Nowhere))
    }

    fn cancel(&self, _: CheckpointId) {}
}

impl PipeWriter for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> Result<(), PipeError> {
        core::hint::black_box(bytes);
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), PipeError> {
        Ok(())
    }
}

/// Into a pipe; a checkpoint is kept when all of it was read.
pub(super) struct Local {
    pipe: Arc<Pipe>,
}

impl Local {
    /// A pipe, and the thread that reads it empty for ever.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start(context: Context) -> Result<Self, Failure> {
        let pipe = Arc::new(Pipe::new());
        let source = Arc::clone(&pipe);
        let body = move || {
            let mut buffer = vec![0; Pipe::LEN];
            while source.read(&mut buffer) > 0 {}
        };
        context
            .guest
            .spawn("pipe-reader", Priority::Normal, Box::new(body))?;
        Ok(Local { pipe })
    }
}

impl CheckpointPipe for Local {
    fn open(&self, _: CheckpointId, _: Kind) -> Result<Box<dyn PipeWriter>, PipeError> {
        Ok(Box::new(LocalWriter(Arc::clone(&self.pipe))))
    }

    fn cancel(&self, _: CheckpointId) {}
}

struct LocalWriter(Arc<Pipe>);

impl PipeWriter for LocalWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), PipeError> {
        self.0.write(bytes);
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), PipeError> {
        self.0.wait_empty();
        Ok(())
    }
}

//! The way of a checkpoint from its child into the channel: the thesis's `hs_cpipe`.

use alloc::boxed::Box;
use core::sync::atomic::Ordering;

use hs_core::checkpoint::{CheckpointId, CheckpointPipe, Kind, PipeError, PipeWriter};
use hs_core::fault::{self, Point};

use super::Node;
use crate::channel::flow::MessageBuffer;
use crate::channel::frame::{CHUNK_HEADER_LEN, ChunkFlags, chunk_header};
use crate::pair::{Epoch, Sending};

/// The pair thread is woken when so many messages can be sent, rather than for each: a card is told of all of them at once, and
/// telling it is what costs most.
const BATCH: usize = 32;

pub(super) struct Pipe {
    node: &'static Node,
}

impl Pipe {
    pub(super) fn new(node: &'static Node) -> Self {
        Self { node }
    }
}

impl CheckpointPipe for Pipe {
    fn open(&self, id: CheckpointId, _: Kind) -> Result<Box<dyn PipeWriter>, PipeError> {
        let node = self.node;
        let arms = node.front.lock().marks.arms(id);
        let mut pair = node.pair.lock();
        let epoch = match pair.open_transfer(id, arms) {
            Ok(epoch) => epoch,
            Err(error) => {
                drop(pair);
                node.checkpoint_lost();
                return Err(error);
            }
        };
        let (buffer, len_max) = (pair.message_buffer(), pair.message_len_max());
        Ok(Box::new(Writer {
            node,
            id,
            epoch,
            buffer,
            len: CHUNK_HEADER_LEN,
            len_max,
            first: true,
            arms,
            kept: false,
        }))
    }

    fn cancel(&self, id: CheckpointId) {
        self.node.pair.lock().cancel_transfer(id);
        self.node.room.raise();
    }
}

/// A further sink's pipe: when one of its checkpoints is lost, the application is asked for the next, as the channel's do.
pub(super) struct Retried {
    node: &'static Node,
    pipe: Box<dyn CheckpointPipe>,
}

impl Retried {
    pub(super) fn new(node: &'static Node, pipe: Box<dyn CheckpointPipe>) -> Self {
        Self { node, pipe }
    }
}

impl CheckpointPipe for Retried {
    fn open(&self, id: CheckpointId, kind: Kind) -> Result<Box<dyn PipeWriter>, PipeError> {
        let node = self.node;
        match self.pipe.open(id, kind) {
            Ok(writer) => Ok(Box::new(RetriedWriter {
                node,
                writer: Some(writer),
            })),
            Err(error) => {
                node.sink_lost();
                Err(error)
            }
        }
    }

    fn cancel(&self, id: CheckpointId) {
        self.pipe.cancel(id);
    }

    fn wants_full(&self) -> bool {
        self.pipe.wants_full()
    }

    fn rests(&self) -> bool {
        self.pipe.rests()
    }
}

struct RetriedWriter {
    node: &'static Node,
    /// Until it is committed.
    writer: Option<Box<dyn PipeWriter>>,
}

impl PipeWriter for RetriedWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), PipeError> {
        let writer = self.writer.as_mut().ok_or(PipeError::Cancelled)?;
        writer.write(bytes)
    }

    fn seal(&mut self) -> Result<(), PipeError> {
        let writer = self.writer.as_mut().ok_or(PipeError::Cancelled)?;
        writer.seal()
    }

    fn commit(mut self: Box<Self>) -> Result<(), PipeError> {
        let writer = self.writer.take().ok_or(PipeError::Cancelled)?;
        let committed = writer.commit();
        if committed.is_err() {
            self.node.sink_lost();
        }
        committed
    }
}

impl Drop for RetriedWriter {
    fn drop(&mut self) {
        if self.writer.is_some() {
            self.node.sink_lost();
        }
    }
}

struct Writer {
    node: &'static Node,
    id: CheckpointId,
    epoch: Epoch,
    /// The next chunk: its bytes lie behind the room for its header.
    buffer: MessageBuffer,
    len: usize,
    len_max: usize,
    first: bool,
    arms: bool,
    kept: bool,
}

impl Writer {
    /// Sends the chunk, when there is room.
    fn push(&mut self, last: bool) -> Result<(), PipeError> {
        let flags = ChunkFlags {
            first: self.first,
            last,
            arms: self.arms,
        };
        chunk_header(self.buffer.space(), &self.id, flags);
        self.buffer.set_len(self.len);
        let first = core::mem::replace(&mut self.first, false);
        self.len = CHUNK_HEADER_LEN;
        let node = self.node;
        loop {
            let seen = node.room.seen();
            let (sending, batch) = {
                let mut pair = node.pair.lock();
                let sending = pair.send_of_transfer(self.epoch, self.id, &mut self.buffer)?;
                (sending, pair.has_batch(BATCH))
            };
            if last || batch {
                node.wake.raise();
            }
            match sending {
                Sending::Queued => break,
                Sending::NoRoom => node.wait_for_room(seen),
            }
        }
        if first {
            fault::passed(Point::ChunkFirstSent);
        }
        if last {
            fault::passed(Point::ChunkLastSent);
        }
        Ok(())
    }
}

impl PipeWriter for Writer {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), PipeError> {
        while !bytes.is_empty() {
            if self.len == self.len_max {
                self.push(false)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.len_max - self.len));
            self.buffer.space()[self.len..self.len + now.len()].copy_from_slice(now);
            self.len += now.len();
            bytes = later;
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<(), PipeError> {
        self.push(true)
    }

    fn commit(mut self: Box<Self>) -> Result<(), PipeError> {
        let node = self.node;
        loop {
            let seen = node.room.seen();
            self.kept = node.pair.lock().transfer_kept(self.epoch, self.id)?;
            if self.kept {
                return Ok(());
            }
            node.wait_for_room(seen);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.node.pair.lock().close_transfer(self.epoch, self.id);
        if !self.kept {
            self.node.checkpoint_lost();
        }
    }
}

impl Node {
    /// A sink other than the spare has lost a checkpoint.
    fn sink_lost(&self) {
        self.sink_failed.store(true, Ordering::SeqCst);
        self.checkpoint_lost();
    }

    /// Sleeps until the channel has moved since `seen`.
    pub(super) fn wait_for_room(&self, seen: u32) {
        self.room.wait(seen, None);
    }
}

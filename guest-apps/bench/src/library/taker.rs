//! Whoever takes checkpoints with the library: a guest alone, or a node of a pair.

use core::time::Duration;

use bench_plan::contents;
use hs_core::checkpoint::{
    CheckpointError, CheckpointPipe, Checkpointer, CheckpointerConfig, Compression, Flags,
};
use hs_core::event::Status;
use hs_core::platform::CheckpointMemory;
use hs_core::policy::Choice;
use hs_core::role::Term;
use hs_core::sync::{Signal, machine};
use hs_net::node::Node;
use kernel::time::stopwatch_ns;

use super::APPLICATION;
use super::pages::Pages;
use crate::failure::Failure;
use crate::rounds::Subject;

/// Checkpoints in flight at once.
const NCON: usize = 4;
/// Longest that a checkpoint may take.
const LIMIT: Duration = Duration::from_secs(60);

static ENDED: Signal = Signal::new();

/// In which form pages are sent.
#[derive(Clone, Copy, Default)]
pub(crate) struct Wire {
    /// Pages that differences can be made to.
    pub(crate) shadow_pages: usize,
    pub(crate) compression: Compression,
}

/// Takes checkpoints.
pub(crate) enum Taker {
    /// Of a guest alone, and whether it sends every page whole.
    Alone(Checkpointer, bool),
    /// Of a pair's master.
    Node(&'static Node),
}

impl Taker {
    /// Of a guest alone, with the library on `memory`: its checkpoints go to `pipe`.
    pub(crate) fn alone(
        memory: &'static dyn CheckpointMemory,
        pipe: &'static dyn CheckpointPipe,
        choice: Choice,
        wire: Wire,
    ) -> Self {
        let config = CheckpointerConfig {
            application: APPLICATION,
            term: Term::FIRST,
            ncon: NCON,
            choice,
            shadow_pages: wire.shadow_pages,
            compression: wire.compression,
            ended: &ENDED,
        };
        let checkpointer = Checkpointer::new(memory, pipe, config);
        checkpointer.spare_joined();
        Taker::Alone(
            checkpointer,
            wire.shadow_pages == 0 && wire.compression == Compression::None,
        )
    }

    /// Takes a checkpoint: how long the call took, in nanoseconds. Where all slots are taken it is made again when one is free,
    /// and the waiting is not counted.
    ///
    /// # Errors
    /// It was refused, or (if it is waited for) lost.
    pub(crate) fn checkpoint(&self, flags: Flags) -> Result<u64, Failure> {
        let end = machine().now() + LIMIT;
        loop {
            let seen = self.ended().seen();
            let begun = stopwatch_ns();
            let taken = match self {
                Taker::Alone(checkpointer, _) => checkpointer.checkpoint(flags, || ()),
                Taker::Node(node) => node.checkpoint(flags),
            };
            match taken {
                Ok(_) => return Ok(stopwatch_ns() - begun),
                Err(CheckpointError::NoSlot) if machine().now() < end => self.ended().wait(seen, Some(end)),
                Err(error) => return Err(Failure::Checkpoint(error)),
            }
        }
    }

    /// Waits until no checkpoint is in flight.
    ///
    /// # Errors
    /// One is stuck, or was lost since `before`.
    pub(crate) fn settle(&self, before: Status) -> Result<(), Failure> {
        let end = machine().now() + LIMIT;
        loop {
            let seen = self.ended().seen();
            if let Taker::Node(node) = self {
                // Clients there are none; what has arrived is put out of the way.
                node.service().poll(machine().now());
            }
            let status = self.status();
            if status.in_flight == 0 {
                let lost = (status.taken - before.taken) - (status.acked - before.acked);
                return if lost == 0 {
                    Ok(())
                } else {
                    Err(Failure::Lost(lost))
                };
            }
            if machine().now() >= end {
                return Err(Failure::ChildStuck);
            }
            self.ended().wait(seen, Some(end));
        }
    }

    /// Takes a checkpoint of all that is modified, so that nothing is any more.
    ///
    /// # Errors
    /// As for [`checkpoint`](Self::checkpoint).
    pub(crate) fn catch_up(&self) -> Result<(), Failure> {
        let before = self.status();
        self.checkpoint(Flags::ASYNC | Flags::INCREMENTAL)?;
        self.settle(before)
    }

    /// Bytes of an incremental checkpoint with nothing modified. `None`: none can be had, because the policy is for full
    /// ones or the service stack of a pair's node modifies pages of its own; or its length would tell nothing, because not all
    /// pages are sent whole.
    ///
    /// # Errors
    /// As for [`checkpoint`](Self::checkpoint).
    pub(crate) fn empty_bytes(&self) -> Result<Option<u64>, Failure> {
        if matches!(self, Taker::Node(_) | Taker::Alone(_, false)) {
            return Ok(None);
        }
        self.catch_up()?;
        let before = self.status();
        self.catch_up()?;
        let after = self.status();
        Ok((after.full == before.full).then_some(after.bytes - before.bytes))
    }

    /// The library's counters.
    pub(crate) fn status(&self) -> Status {
        match self {
            Taker::Alone(checkpointer, _) => checkpointer.status(),
            Taker::Node(node) => node.status(),
        }
    }

    fn ended(&self) -> &Signal {
        match self {
            Taker::Alone(checkpointer, _) => checkpointer.ended(),
            Taker::Node(node) => node.signal(),
        }
    }
}

/// The library's checkpoints as a subject of measured rounds. Their children are not held back: they run when the program
/// waits, or its time slice is over, so that the stall of a long rewrite has their share of the processor in it.
pub(crate) struct Checkpoints<'a> {
    taker: &'a Taker,
    pages: &'a Pages,
    dirty: &'a [usize],
    flags: Flags,
    /// Of a checkpoint with nothing modified, if that is known.
    empty_bytes: Option<u64>,
    /// Before the checkpoint that is measured.
    before: Status,
    /// Its pause, in nanoseconds.
    pause_ns: u64,
}

impl<'a> Checkpoints<'a> {
    /// Of `pages`, of which `dirty` is modified before each.
    ///
    /// # Errors
    /// As for [`Taker::checkpoint`].
    pub(crate) fn new(
        taker: &'a Taker,
        pages: &'a Pages,
        dirty: &'a [usize],
        flags: Flags,
    ) -> Result<Self, Failure> {
        Ok(Checkpoints {
            taker,
            pages,
            dirty,
            flags,
            empty_bytes: taker.empty_bytes()?,
            before: taker.status(),
            pause_ns: 0,
        })
    }

    /// Whether the checkpoint that was measured holds the dirty set, as far as its length tells.
    fn check(&self) -> Result<(), Failure> {
        let status = self.taker.status();
        match self.empty_bytes {
            Some(empty_bytes) if status.full == self.before.full => {
                let bytes = (status.bytes - self.before.bytes).saturating_sub(empty_bytes);
                if contents::fit(self.dirty.len(), bytes) {
                    return Ok(());
                }
                Err(Failure::OtherBytes {
                    written: self.dirty.len(),
                    bytes,
                })
            }
            _ => Ok(()),
        }
    }
}

impl Subject for Checkpoints<'_> {
    fn write(&mut self, value: u8) {
        self.pages.write(self.dirty, value);
    }

    fn expect(&mut self) {
        self.before = self.taker.status();
    }

    fn checkpoint(&mut self) -> Result<u64, Failure> {
        self.pause_ns = self.taker.checkpoint(self.flags)?;
        Ok(self.pause_ns)
    }

    /// The child's time is from the checkpoint's return to the child's end, whatever the program did meanwhile; 0 if the
    /// checkpoint was waited for.
    fn end(&mut self) -> Result<u64, Failure> {
        self.taker.settle(self.before)?;
        self.check()?;
        let whole_ns = self.taker.status().lag_us * 1000;
        Ok(whole_ns.saturating_sub(self.pause_ns))
    }
}

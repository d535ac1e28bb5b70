//! The pool of pipes, the thesis's `hs_cpipe_*`: where checkpoints go.
//!
//! The thesis's pool lends each checkpoint one of several equal pipes to one spare. Here `ncon` checkpoints share one
//! channel, and the pool holds *sinks*, each with a holder of its own: the replication channel, a file, whatever a user loads.
//! Every checkpoint goes to all sinks that can take it, as through a tee: the child looks at each page once.
//!
//! ```text
//!            join            a full one is taken                  an increment is taken
//! Absent ──────────> Empty ───────────────────────> Following ─────────────────────────┐
//!    ^                 ^                              │  │  ^───────────────────────────┘
//!    └───── leave ─────┴──── its writer failed ───────┘──┘ (it lacks what the next one needs)
//! ```
//!
//! A checkpoint is *kept* when every required sink that follows has it, and at least one sink has. So what is kept can
//! be restored from each required sink; an increment's base is always kept or in flight. A sink that failed follows no more
//! and gets the next full checkpoint, whenever that is taken, unless it rests: a disk that is full must not cost the spare
//! each checkpoint that the spare needs. Only when nobody follows is one taken for that reason. When a
//! sink joins or leaves, what is in flight is lost and the next checkpoint is full: simple, and it happens seldom.
//!
//! What a required sink has of a checkpoint that another lost is no harm: it is a state that the application was in, and the next
//! increment holds everything since the last one that is not lost.
//!
//! Deliberately absent: unloading. A sink whose holder is gone is absent, and its place stays taken.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::shadow::Progress;
use super::{CheckpointId, CheckpointPipe, Kind, PipeError, PipeWriter};

/// Most sinks.
pub const SINKS_MAX: usize = 4;

/// Whether a checkpoint counts as kept without a sink.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// It does not: if this sink fails, the checkpoint is lost.
    Required,
    /// It does: nobody hears of this sink's failures, but the log.
    Optional,
}

/// Names a sink of one [`Checkpointer`](super::Checkpointer).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SinkId(pub(super) usize);

/// There are [`SINKS_MAX`] sinks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolFull;

impl fmt::Display for PoolFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "there are {SINKS_MAX} sinks of checkpoints, as many as possible"
        )
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// Nobody is there to hold anything.
    Absent,
    /// The next full checkpoint goes there.
    Empty,
    /// It has, or is being sent, this full checkpoint and what comes after it.
    Following { generation: u64 },
}

#[derive(Clone, Copy)]
struct Sink {
    pipe: &'static dyn CheckpointPipe,
    need: Need,
    standing: Standing,
}

/// All sinks.
pub(super) struct Pool {
    sinks: Vec<Sink>,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self {
            sinks: Vec::with_capacity(SINKS_MAX),
        }
    }

    /// One more, absent.
    pub(super) fn load(&mut self, pipe: &'static dyn CheckpointPipe, need: Need) -> Result<SinkId, PoolFull> {
        if self.sinks.len() == SINKS_MAX {
            return Err(PoolFull);
        }
        self.sinks.push(Sink {
            pipe,
            need,
            standing: Standing::Absent,
        });
        Ok(SinkId(self.sinks.len() - 1))
    }

    /// Somebody is there who holds nothing.
    pub(super) fn join(&mut self, sink: SinkId) {
        self.sinks[sink.0].standing = Standing::Empty;
    }

    /// Nobody is there any more.
    pub(super) fn leave(&mut self, sink: SinkId) {
        self.sinks[sink.0].standing = Standing::Absent;
    }

    /// Whether checkpoints go anywhere.
    pub(super) fn is_open(&self) -> bool {
        self.sinks.iter().any(|sink| sink.standing != Standing::Absent)
    }

    /// Whether an increment would go anywhere.
    pub(super) fn is_followed(&self) -> bool {
        (self.sinks.iter()).any(|sink| matches!(sink.standing, Standing::Following { .. }))
    }

    /// Whether a sink asks for a full checkpoint.
    pub(super) fn wants_full(&self) -> bool {
        (self.sinks.iter()).any(|sink| sink.standing != Standing::Absent && sink.pipe.wants_full())
    }

    /// Where a checkpoint of this kind goes.
    pub(super) fn crew(&self, kind: Kind) -> Crew {
        let present = || (self.sinks.iter()).filter(|sink| sink.standing != Standing::Absent);
        // There may be nobody else.
        let may_rest = present().any(|sink| !sink.pipe.rests());
        let mut crew = Crew::default();
        for (member, sink) in crew.members.iter_mut().zip(&self.sinks) {
            let goes = match sink.standing {
                Standing::Absent => false,
                _ if kind == Kind::Full => !(may_rest && sink.pipe.rests()),
                Standing::Empty => false,
                Standing::Following { .. } => true,
            };
            *member = goes.then_some((sink.pipe, sink.need));
        }
        crew
    }

    /// This checkpoint is in flight to `crew`.
    pub(super) fn begin(&mut self, id: CheckpointId, kind: Kind, crew: &Crew) {
        if kind != Kind::Full {
            return;
        }
        for (sink, member) in self.sinks.iter_mut().zip(&crew.members) {
            sink.standing = match (sink.standing, member) {
                (Standing::Absent, _) => Standing::Absent,
                (_, Some(_)) => Standing::Following {
                    generation: id.generation,
                },
                (_, None) => Standing::Empty,
            };
        }
    }

    /// A sink's writer of this checkpoint failed: the sink has not what a later increment needs.
    pub(super) fn failed(&mut self, sink: SinkId, id: CheckpointId) {
        let standing = &mut self.sinks[sink.0].standing;
        if let Standing::Following { generation } = standing
            && *generation <= id.generation
        {
            *standing = Standing::Empty;
        }
    }

    /// All pipes, to be called without a lock.
    pub(super) fn pipes(&self) -> [Option<&'static dyn CheckpointPipe>; SINKS_MAX] {
        core::array::from_fn(|index| self.sinks.get(index).map(|sink| sink.pipe))
    }
}

type Member = (&'static dyn CheckpointPipe, Need);

/// The sinks of one checkpoint.
#[derive(Clone, Copy, Default)]
pub(super) struct Crew {
    members: [Option<Member>; SINKS_MAX],
}

/// One checkpoint on its way to all its sinks.
pub(super) struct Tee {
    crew: Crew,
    /// Whether the checkpoint is doomed.
    progress: Arc<Progress>,
    writers: [Option<Box<dyn PipeWriter>>; SINKS_MAX],
    failed: [bool; SINKS_MAX],
}

impl Tee {
    /// No writer is open yet.
    pub(super) fn new(crew: Crew, progress: Arc<Progress>) -> Self {
        Self {
            crew,
            progress,
            writers: [const { None }; SINKS_MAX],
            failed: [false; SINKS_MAX],
        }
    }

    /// Opens a writer to each sink.
    pub(super) fn open(&mut self, id: CheckpointId, kind: Kind) -> Result<(), PipeError> {
        for index in 0..SINKS_MAX {
            let Some((pipe, _)) = self.crew.members[index] else {
                continue;
            };
            match pipe.open(id, kind) {
                Ok(writer) => self.writers[index] = Some(writer),
                Err(error) => self.fail(index, error)?,
            }
        }
        self.anybody()
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), PipeError> {
        self.each(|writer| writer.write(bytes))
    }

    /// Waits until all have it.
    pub(super) fn commit(&mut self) -> Result<(), PipeError> {
        self.each(|writer| writer.seal())?;
        let mut kept = false;
        // What lies near is safe sooner than what is far, and the channel is the first.
        for index in (0..SINKS_MAX).rev() {
            let Some(writer) = self.writers[index].take() else {
                continue;
            };
            match writer.commit() {
                Ok(()) => kept = true,
                Err(error) => self.fail(index, error)?,
            }
        }
        if kept { Ok(()) } else { Err(PipeError::Failed) }
    }

    /// Those that lack this checkpoint, so that nothing can be built on it there.
    pub(super) fn failed(&self) -> impl Iterator<Item = SinkId> {
        (0..SINKS_MAX).filter(|index| self.failed[*index]).map(SinkId)
    }

    fn each(
        &mut self,
        mut call: impl FnMut(&mut dyn PipeWriter) -> Result<(), PipeError>,
    ) -> Result<(), PipeError> {
        for index in 0..SINKS_MAX {
            let Some(writer) = &mut self.writers[index] else {
                continue;
            };
            if let Err(error) = call(&mut **writer) {
                self.fail(index, error)?;
            }
        }
        self.anybody()
    }

    /// A writer failed: of an optional sink, the others go on. Whatever a required one says but that it failed is this
    /// checkpoint's loss alone.
    fn fail(&mut self, index: usize, error: PipeError) -> Result<(), PipeError> {
        self.writers[index] = None;
        // It did what it was told, and can take what comes after: the checkpoint is lost already.
        if error == PipeError::Cancelled && self.progress.is_doomed() {
            return Err(error);
        }
        let optional = matches!(self.crew.members[index], Some((_, Need::Optional)));
        if optional || error == PipeError::Failed {
            self.failed[index] = true;
        }
        if optional {
            log::warn!("an optional sink of checkpoints gets no more until the next full one: {error}");
            return Ok(());
        }
        Err(error)
    }

    fn anybody(&self) -> Result<(), PipeError> {
        let anybody = self.writers.iter().any(Option::is_some);
        if anybody { Ok(()) } else { Err(PipeError::Failed) }
    }
}

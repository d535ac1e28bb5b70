//! Taking checkpoints: the master's side.
//!
//! ```text
//! caller   close gate │ quiesce ─ freeze hooks ─ allocation lock ─ collect tables ─ cptfork ─ let go   (ASYNC: returns here)
//!          └─ the wait ┴────────────────────── the pause ──────────────────────────────────────────┘
//! child                                             child hooks ─ encode header, sections, pages ─ commit … end
//! spare                                                              stage, verify … apply in order, acknowledge ┘
//! ```
//!
//! Sections are collected in the pause, so that they agree with the memory. The child alone looks at pages.
//!
//! **Numbers.** A full checkpoint begins a generation; increments count up within it. An incremental checkpoint names its
//! *base*: the increment that it needs, and it holds every page modified since. The spare applies it onto the base or
//! anything newer, and acknowledges what it has applied; so whatever is acknowledged can be restored.
//!
//! **Losses.** When an increment is lost, those in flight after it can never be applied: they are *doomed*, cancelled and
//! lost too. Their pages all count as dirty again, so the next increment holds them all, and its base is the newest one
//! that is not lost. Until the doomed have ended (and their pages were merged back), no increment can be taken. After the
//! loss of a full checkpoint or of the spare, or a refusal by the spare, the next is full again.
//!
//! **Sinks.** Each checkpoint goes to the spare, if there is one, and to every other sink of the pool (`checkpoint/pool.rs`): a
//! file, whatever the application has loaded. What is said of the spare here holds of each required sink.
//!
//! **Choice.** Where the caller is content with what was modified, the [policy](crate::policy) says whether that is copied
//! within the pause, frozen for the child, or everything is sent in a generation of its own. Each child tells the policy
//! how many pages were modified. If memory is too short for the way that the policy chose, the checkpoint is frozen
//! incrementally instead.
//!
//! **Differences.** Of a page that the spare has already, an increment holds what is different where the shadow (its module has
//! the rules) still knows what the spare has.
//!
//! Where the memory cannot tell what was modified ([plain copies](crate::plain)) every checkpoint is a full one, whatever
//! the flags say: the thesis's "if kernel-support for checkpointing is not present, this flag will have no effect".
//!
//! Deliberately absent: retrying after a loss. The application asks again when a child has ended.

mod child;
pub mod file;
mod flights;
mod pipe;
mod pool;
mod shadow;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bitflags::bitflags;

use self::child::{Task, Workspace};
use self::flights::{Flights, Refusal};
pub use self::pipe::{CheckpointPipe, PipeError, PipeWriter};
use self::pool::Pool;
pub use self::pool::{Need, PoolFull, SINKS_MAX, SinkId};
use self::shadow::{Progress, Shadow};
use crate::class::scope;
use crate::event::Status;
use crate::fault::{self, Point};
pub use crate::format::{CheckpointId, Compression, Kind};
use crate::histogram::Histogram;
use crate::library;
use crate::platform::{CheckpointMemory, CptforkError, FrozenError, Instant, Outcome, PageRange, View};
use crate::policy::{Choice, Policy, Way};
use crate::registry::hook::{self, HookRefusal};
use crate::role::Term;
use crate::sync::{InsideGate, Mutex, Signal, gate, machine};

bitflags! {
    /// How a checkpoint is taken.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Flags: u32 {
        /// Return as soon as the memory is frozen. Without it: when the spare has the checkpoint. `HSCPT_ASYNC`.
        const ASYNC = 1;
        /// What was modified since the last one is enough, if that can be; the policy may send everything all the same.
        /// Without it: everything. `HSCPT_INCR`.
        const INCREMENTAL = 2;
    }
}

/// Why a checkpoint was lost. Its pages count as dirty again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// It did not get through to the spare.
    Pipe(PipeError),
    /// Its pages could not be had.
    Frozen(FrozenError),
    /// A child hook has refused.
    Hook(HookRefusal),
    /// One that it builds on was lost.
    Doomed,
    /// Its child did not say.
    Unknown,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loss::Pipe(error) => error.fmt(f),
            Loss::Frozen(error) => error.fmt(f),
            Loss::Hook(refusal) => refusal.fmt(f),
            Loss::Doomed => f.write_str("a checkpoint that it builds on, or the spare, was lost"),
            Loss::Unknown => f.write_str("its child ended early"),
        }
    }
}

/// Why there is no checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckpointError {
    /// The library was not started.
    NotStarted,
    /// There is no spare, nor any other sink: nothing was frozen.
    NoSpare,
    /// `ncon` checkpoints are in flight, or a loss is being dealt with. Nothing was frozen: ask again when a child has
    /// ended.
    NoSlot,
    /// The calling thread is inside the gate. Nothing was frozen.
    InsideGate,
    /// A freeze hook has refused. Nothing was frozen.
    Hook(HookRefusal),
    /// The memory could not be frozen.
    Cptfork(CptforkError),
    /// It was taken, but the spare does not have it (never with [`Flags::ASYNC`]).
    Lost(CheckpointId, Loss),
}

impl From<Refusal> for CheckpointError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSpare => Self::NoSpare,
            Refusal::NoSlot => Self::NoSlot,
        }
    }
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckpointError::NotStarted => library::NotStarted.fmt(f),
            CheckpointError::NoSpare => {
                f.write_str("there is no spare to send a checkpoint to, nor any other sink")
            }
            CheckpointError::NoSlot => f.write_str("as many checkpoints as allowed (hs.ncon) are in flight"),
            CheckpointError::InsideGate => InsideGate.fmt(f),
            CheckpointError::Hook(refusal) => refusal.fmt(f),
            CheckpointError::Cptfork(error) => error.fmt(f),
            CheckpointError::Lost(id, loss) => write!(f, "checkpoint {id} was lost: {loss}"),
        }
    }
}

/// What keeps checkpointable memory still during a pause. It is dropped as soon as the memory is frozen.
pub trait Quiesced {
    /// The memory is frozen, as checkpoint `id`, and nothing has moved yet.
    fn frozen(&mut self, _id: CheckpointId) {}
}

/// Nothing need be kept still.
impl Quiesced for () {}

/// What a [`Checkpointer`] is told.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointerConfig {
    /// The application's own number; the spare's must be the same.
    pub application: u64,
    /// This master's term.
    pub term: Term,
    /// Most checkpoints in flight at once: the thesis's `ncon`. At least 1.
    pub ncon: usize,
    /// How incremental checkpoints may be taken.
    pub choice: Choice,
    /// Pages whose contents the spare has and of which a copy is kept, so that only differences to them are sent. 0: none.
    pub shadow_pages: usize,
    /// How pages that are sent whole are compressed.
    pub compression: Compression,
    /// Raised whenever a child has ended.
    pub ended: &'static Signal,
}

/// The channel to the spare is the first sink.
const CHANNEL: SinkId = SinkId(0);

/// Takes checkpoints and follows them until the spare, and each other required sink, has them.
pub struct Checkpointer {
    shared: Arc<Shared>,
}

struct Shared {
    memory: &'static dyn CheckpointMemory,
    config: CheckpointerConfig,
    shadow: Shadow,
    state: Mutex<State>,
}

struct State {
    flights: Flights,
    pool: Pool,
    policy: Policy,
    /// How awaited checkpoints ended that their callers have not heard of yet.
    results: Vec<(CheckpointId, Result<(), Loss>)>,
    #[expect(clippy::vec_box, reason = "they go from hand to hand in the pause")]
    workspaces: Vec<Box<Workspace>>,
    /// The areas of the newest checkpoint.
    areas: Vec<PageRange>,
    pauses_us: Histogram,
    gate_us: Histogram,
    status: Status,
}

impl Checkpointer {
    /// A checkpointer without a spare: [`spare_joined`](Self::spare_joined) says when there is one. `pipe` leads there.
    pub fn new(
        memory: &'static dyn CheckpointMemory,
        pipe: &'static dyn CheckpointPipe,
        config: CheckpointerConfig,
    ) -> Self {
        let ncon = config.ncon.max(1);
        let mut pool = Pool::new();
        let channel = pool.load(pipe, Need::Required);
        debug_assert_eq!(channel, Ok(CHANNEL), "it is the first");
        let state = State {
            flights: Flights::new(ncon),
            pool,
            policy: Policy::new(config.choice),
            results: Vec::new(),
            workspaces: core::iter::repeat_with(|| Workspace::new(ncon))
                .take(ncon)
                .collect(),
            areas: Vec::new(),
            pauses_us: Histogram::new(),
            gate_us: Histogram::new(),
            status: Status::default(),
        };
        Self {
            shared: Arc::new(Shared {
                memory,
                config,
                shadow: Shadow::new(memory, config.shadow_pages),
                state: Mutex::new(state),
            }),
        }
    }

    /// Takes a checkpoint. The thesis's `hs_cpt`. The first one, and the first after a spare joined or a full one was lost,
    /// is full whatever the flags say.
    ///
    /// The [gate](crate::sync::gate()) is closed first; the wait for those inside is counted apart from the pause. Then `quiesce`
    /// takes whatever other locks checkpointable memory is changed under, so that it is consistent; what it returns is told the
    /// number and dropped as soon as the memory is frozen. The freeze hooks are called, then the allocation lock is taken.
    ///
    /// # Errors
    /// See [`CheckpointError`]. An asynchronous checkpoint may be lost later; that shows in the [status](Self::status),
    /// and the next one holds what was in it.
    pub fn checkpoint<G: Quiesced>(
        &self,
        flags: Flags,
        quiesce: impl FnOnce() -> G,
    ) -> Result<CheckpointId, CheckpointError> {
        let incremental = flags.contains(Flags::INCREMENTAL) && self.shared.memory.knows_modified();
        let awaited = !flags.contains(Flags::ASYNC);
        // Refused without a pause where that is known beforehand.
        self.shared.state.lock().flights.plan(incremental)?;

        let asked = machine().now();
        let closed = gate().close().map_err(|InsideGate| CheckpointError::InsideGate)?;
        let begun = machine().now();
        let mut quiet = quiesce();
        let taken = hook::call_at_freeze()
            .map_err(CheckpointError::Hook)
            .and_then(|()| self.take(incremental, awaited, begun));
        if let Ok(id) = &taken {
            quiet.frozen(*id);
        }
        drop(quiet);
        drop(closed);
        let id = taken?;
        let micros = |from: Instant, to: Instant| to.since(from).as_micros() as u64;
        let pause_us = micros(begun, machine().now());
        {
            let mut state = self.shared.state.lock();
            state.pauses_us.record(pause_us);
            state.gate_us.record(micros(asked, begun));
        }
        if awaited { self.wait_for(id) } else { Ok(id) }
    }

    /// Freezes the memory and sends a child off with it. The application and its service stack are quiescent.
    fn take(
        &self,
        incremental: bool,
        awaited: bool,
        begun: Instant,
    ) -> Result<CheckpointId, CheckpointError> {
        let shared = &self.shared;
        let library = library::lock();
        let library = library.as_ref().ok_or(CheckpointError::NotStarted)?;
        // Held over cptfork: no child's end comes between the plan, which knows what was lost, and the freezing, which
        // takes the pages that were.
        let mut state = shared.state.lock();
        let mut workspace = state
            .workspaces
            .pop()
            .unwrap_or_else(|| Workspace::new(shared.config.ncon));
        workspace.collect(library, shared.memory);
        // A sink that asks for a full one does so until it has it: one at a time is enough.
        let asked_for_full = state.pool.wants_full() && !state.flights.is_full_in_flight();
        let way = if incremental && !asked_for_full {
            state.policy.choose(workspace.installed_pages())
        } else {
            Way::Full
        };
        let (id, progress) = match self.freeze(&mut state, way, workspace) {
            Err(CheckpointError::Cptfork(CptforkError::OutOfFrames))
                if incremental && way != Way::Incremental && state.policy.is_free() =>
            {
                let mut workspace = Workspace::new(shared.config.ncon);
                workspace.collect(library, shared.memory);
                self.freeze(&mut state, Way::Incremental, workspace)?
            }
            other => other?,
        };
        state.flights.begin(id, progress, begun, awaited);
        Ok(id)
    }

    /// Makes the child, with a view of the memory as `way` has it. Returns what it is to be known by.
    fn freeze(
        &self,
        state: &mut State,
        way: Way,
        mut workspace: Box<Workspace>,
    ) -> Result<(CheckpointId, Arc<Progress>), CheckpointError> {
        let shared = &self.shared;
        let (id, kind) = match state.flights.plan(way != Way::Full) {
            Ok(planned) => planned,
            Err(refusal) => {
                state.workspaces.push(workspace);
                return Err(refusal.into());
            }
        };
        let view = match (kind, way) {
            (Kind::Full, _) => View::Whole,
            (Kind::Incremental { .. }, _) if hook::need_whole(workspace.hooks()) => View::Whole,
            (Kind::Incremental { .. }, Way::Copy) => View::Copied,
            (Kind::Incremental { .. }, _) => View::Incremental,
        };
        let same_areas = shadow::note_areas(&mut state.areas, workspace.areas());
        shared.shadow.begin(id, kind, same_areas, &mut workspace.place);
        state.flights.ahead(id, &mut workspace.place.ahead);
        let berth = workspace.take_berth();
        let progress = Arc::clone(&berth.progress);
        let crew = state.pool.crew(kind);
        let task = Task {
            shared: Arc::clone(shared),
            id,
            kind,
            ends_epoch: !state.flights.is_full_wanted(),
            progress: Arc::clone(&progress),
            crew,
            workspace,
        };
        let (body, ended) = berth.fill(task);
        shared.memory.cptfork_then(view, body, ended).map_err(|error| {
            if error == CptforkError::OutOfFrames {
                shared.shadow.give_back();
            }
            CheckpointError::Cptfork(error)
        })?;
        fault::passed(Point::CheckpointFrozen);
        state.pool.begin(id, kind, &crew);
        state.status.taken += 1;
        match kind {
            Kind::Full => state.status.full += 1,
            Kind::Incremental { .. } => state.status.incremental += 1,
        }
        state.status.copied += u64::from(view == View::Copied);
        Ok((id, progress))
    }

    fn wait_for(&self, id: CheckpointId) -> Result<CheckpointId, CheckpointError> {
        let ended = self.shared.config.ended;
        loop {
            let seen = ended.seen();
            let mut state = self.shared.state.lock();
            if let Some(index) = state.results.iter().position(|(found, _)| *found == id) {
                let (_, result) = state.results.swap_remove(index);
                return result
                    .map(|()| id)
                    .map_err(|loss| CheckpointError::Lost(id, loss));
            }
            drop(state);
            ended.wait(seen, None);
        }
    }

    /// How many more checkpoints could be taken now.
    pub fn free_slots(&self) -> usize {
        self.shared.state.lock().flights.free_slots()
    }

    /// Pages that the newest checkpoint whose child has looked found modified since the one before it.
    pub fn dirty_pages(&self) -> usize {
        self.shared.state.lock().policy.newest().unwrap_or(0)
    }

    /// Raised whenever a child has ended: the signal of the configuration.
    pub fn ended(&self) -> &'static Signal {
        self.shared.config.ended
    }

    /// There is a spare, which holds nothing yet: the next checkpoint is full. What was in flight to another is lost. To be
    /// called without a lock that a pipe's `cancel` takes.
    pub fn spare_joined(&self) {
        self.renew(|pool| pool.join(CHANNEL));
    }

    /// There is no spare any more: what is in flight is lost, and the next checkpoint is full, if there are other sinks. To be
    /// called without a lock that a pipe's `cancel` takes.
    pub fn spare_lost(&self) {
        self.renew(|pool| pool.leave(CHANNEL));
        self.shared.shadow.give_back();
    }

    /// Gives checkpoints one more way to somewhere safe; the next one is full, and what is in flight is lost. The thesis's
    /// `hs_cpipe_load`. The pipe lives as long as the program, and no checkpoint should hold it: make it outside every class.
    ///
    /// To be called without a lock that a pipe's `cancel` takes.
    ///
    /// # Errors
    /// There are [`SINKS_MAX`] sinks, the channel to the spare among them.
    pub fn load_pipe(&self, pipe: Box<dyn CheckpointPipe>, need: Need) -> Result<SinkId, PoolFull> {
        let sink = self.shared.state.lock().pool.load(Box::leak(pipe), need)?;
        self.renew(|pool| pool.join(sink));
        Ok(sink)
    }

    /// Whether checkpoints go anywhere.
    pub fn is_open(&self) -> bool {
        self.shared.state.lock().pool.is_open()
    }

    fn renew(&self, change: impl FnOnce(&mut Pool)) {
        // Whoever takes a checkpoint holds the allocation lock before the state's, so a class must not be asked under that.
        let _outside = scope::leave();
        let doomed = {
            let mut state = self.shared.state.lock();
            self.shared.shadow.void();
            change(&mut state.pool);
            let open = state.pool.is_open();
            state.flights.renew(open)
        };
        self.shared.cancel(&doomed);
    }

    /// Counters. (Retransmissions are the channel's to add.)
    pub fn status(&self) -> Status {
        let state = self.shared.state.lock();
        Status {
            in_flight: state.flights.in_flight() as u64,
            pause_p50_us: state.pauses_us.percentile(50),
            pause_p99_us: state.pauses_us.percentile(99),
            pause_max_us: state.pauses_us.max(),
            gate_p99_us: state.gate_us.percentile(99),
            gate_max_us: state.gate_us.max(),
            ..state.status
        }
    }

    /// The newest checkpoint that the spare is known to have.
    pub fn newest_kept(&self) -> Option<CheckpointId> {
        self.shared.state.lock().flights.kept()
    }
}

impl Shared {
    /// A child is gone.
    fn ended(&self, id: CheckpointId, outcome: Outcome) {
        let now = machine().now();
        let (doomed, result) = {
            let mut state = self.state.lock();
            let Some((flight, doomed)) = state.flights.end(id, outcome) else {
                return;
            };
            if outcome == Outcome::Lost {
                self.shadow.void();
            }
            let result = match outcome {
                Outcome::Kept => Ok(()),
                Outcome::Lost => Err(flight.loss.unwrap_or(Loss::Unknown)),
            };
            if result.is_ok() {
                let lag = now.since(flight.taken_at);
                state.status.acked += 1;
                state.status.lag_us = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
            }
            if flight.awaited {
                state.results.push((id, result));
            }
            (doomed, result)
        };
        if let Err(loss) = result {
            log::warn!("checkpoint {id} was lost: {loss}");
            if loss == Loss::Frozen(FrozenError::Cancelled) {
                // Memory ran out: what is only there to save bytes goes first.
                self.shadow.give_back();
            }
        }
        self.cancel(&doomed);
        self.config.ended.raise();
    }

    fn cancel(&self, doomed: &[CheckpointId]) {
        if doomed.is_empty() {
            return;
        }
        let pipes = self.state.lock().pool.pipes();
        for pipe in pipes.into_iter().flatten() {
            doomed.iter().for_each(|id| pipe.cancel(*id));
        }
    }
}

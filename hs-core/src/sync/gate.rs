//! The checkpoint gate: threads that change checkpointable memory are inside, a checkpoint is taken while nobody is.
//!
//! ```text
//! worker 1   ──enter══════leave────────────enter (waits) ·········══════leave──
//! worker 2   ─────────enter═════════leave────────────────────────────────────────
//! taker      ──────────────close (waits) ··freeze│open───────────────────────────
//! ```
//!
//! A program of one worker needs no gate: it takes a checkpoint when its own state is whole. Of several workers, one may be
//! in the middle of a change when another takes a checkpoint. Whoever is inside the gate keeps checkpoints away; many may be
//! inside at once, and what they do to each other is for locks, of which [`CheckpointMutex`](super::CheckpointMutex) brings the
//! gate with it.
//!
//! Whoever closes comes before all that have not entered yet, so that it does not starve. A thread that is inside enters again
//! without a look at the rest: it must not wait for a taker that waits for it. Hence each thread's depth is known by its
//! [slot](crate::platform::Machine::thread_slot), and a checkpoint from inside is refused rather than waited for in vain.
//!
//! The gate lies outside checkpointable memory, so that it is open after a restore.
//!
//! **Order.** Gate first, then other locks, the service stack's among them: the taker takes the service lock when nobody is
//! inside, and whoever waits for the gate with that lock in hand waits for ever.
//!
//! Deliberately absent: a bound on the wait. What is done inside should be short; the time that checkpoints wait for it is in
//! the node's status. Absent too is fairness towards those that wait to enter: they run when the taker has let go, unless it
//! closes again at once, which `ncon` bounds.

use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU32, Ordering};

use super::{Signal, machine};
use crate::platform::THREAD_SLOTS;

/// In the state: nobody may enter.
const CLOSED: u32 = 1 << 31;
/// In the state: somebody sleeps until the gate opens.
pub(super) const AWAITED: u32 = 1 << 30;
/// The rest of it: the number of threads inside.
const INSIDE: u32 = AWAITED - 1;

/// The checkpoint gate. A program has one: [`gate`].
#[derive(Debug)]
pub struct Gate {
    /// Whoever closes sleeps on it until the last one has left.
    pub(super) state: AtomicU32,
    /// Raised when it opens and is awaited.
    opened: Signal,
    /// How often the thread of each slot has entered and not left. Each is written by its own thread alone.
    depths: [AtomicU32; THREAD_SLOTS],
}

static GATE: Gate = Gate::new();

/// The gate of this program, which every checkpoint closes.
pub fn gate() -> &'static Gate {
    &GATE
}

/// The calling thread is inside the gate: it would wait for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InsideGate;

impl fmt::Display for InsideGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "this thread is inside the checkpoint gate (or in a hook): let go of its guards before the checkpoint",
        )
    }
}

/// The calling thread is inside the gate until this is dropped.
#[derive(Debug)]
pub struct GateGuard<'a> {
    gate: &'a Gate,
    /// The gate counts by thread.
    _not_send: PhantomData<*const ()>,
}

/// Nobody is inside the gate until this is dropped, but the calling thread may enter.
#[derive(Debug)]
pub struct Closed<'a> {
    gate: &'a Gate,
    slot: usize,
    _not_send: PhantomData<*const ()>,
}

impl Gate {
    /// A gate that is open.
    pub const fn new() -> Self {
        Self {
            state: AtomicU32::new(0),
            opened: Signal::new(),
            depths: [const { AtomicU32::new(0) }; THREAD_SLOTS],
        }
    }

    /// Enters, to change checkpointable memory: waits while a checkpoint is taken. A thread may enter again while it is inside.
    #[must_use = "the thread leaves the gate when the guard is dropped"]
    pub fn enter(&self) -> GateGuard<'_> {
        self.pass();
        GateGuard {
            gate: self,
            _not_send: PhantomData,
        }
    }

    /// Whether the calling thread is inside, or has closed it: whatever waits for a checkpoint would wait for this thread.
    pub fn is_inside(&self) -> bool {
        self.depths[machine().thread_slot()].load(Ordering::Relaxed) > 0
    }

    /// [`enter`](Self::enter) whose guard is another's business.
    pub(crate) fn pass(&self) {
        let depth = &self.depths[machine().thread_slot()];
        let before = depth.load(Ordering::Relaxed);
        depth.store(before + 1, Ordering::Relaxed);
        if before == 0 {
            self.change_when_open(|state| state + 1);
        }
    }

    /// Undoes one [`pass`](Self::pass) of this thread.
    pub(crate) fn leave(&self) {
        let depth = &self.depths[machine().thread_slot()];
        let before = depth.load(Ordering::Relaxed);
        depth.store(before - 1, Ordering::Relaxed);
        if before > 1 {
            return;
        }
        let state = self.state.fetch_sub(1, Ordering::Release);
        if state & CLOSED != 0 && state & INSIDE == 1 {
            machine().wake(&self.state, usize::MAX);
        }
    }

    /// Closes the gate: nobody enters from here on, and it returns when the last one has left. Others that want to close it
    /// wait for this one.
    ///
    /// # Errors
    /// The calling thread is inside, or has closed the gate already.
    pub fn close(&self) -> Result<Closed<'_>, InsideGate> {
        let slot = machine().thread_slot();
        if self.depths[slot].load(Ordering::Relaxed) > 0 {
            return Err(InsideGate);
        }
        self.change_when_open(|state| state | CLOSED);
        loop {
            let state = self.state.load(Ordering::Acquire);
            if state & INSIDE == 0 {
                break;
            }
            machine().wait(&self.state, state, None);
        }
        // What a hook does on this thread enters without a look at the rest.
        self.depths[slot].store(1, Ordering::Relaxed);
        Ok(Closed {
            gate: self,
            slot,
            _not_send: PhantomData,
        })
    }

    /// Whether somebody has closed it, or waits until the last one has left.
    pub fn is_closed(&self) -> bool {
        self.state.load(Ordering::Relaxed) & CLOSED != 0
    }

    /// Changes the state as soon as the gate is open.
    fn change_when_open(&self, change: impl Fn(u32) -> u32) {
        loop {
            // Before the look at the state: an opening in between is not lost.
            let seen = self.opened.seen();
            let state = self.state.load(Ordering::Relaxed);
            let next = if state & CLOSED == 0 {
                change(state)
            } else {
                state | AWAITED
            };
            let changed = self
                .state
                .compare_exchange_weak(state, next, Ordering::Acquire, Ordering::Relaxed);
            match (changed.is_ok(), state & CLOSED == 0) {
                (true, true) => return,
                (true, false) => self.opened.wait(seen, None),
                (false, _) => {}
            }
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for GateGuard<'_> {
    fn drop(&mut self) {
        self.gate.leave();
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.gate.depths[self.slot].store(0, Ordering::Relaxed);
        let state = self.gate.state.swap(0, Ordering::Release);
        if state & AWAITED != 0 {
            self.gate.opened.raise();
        }
    }
}

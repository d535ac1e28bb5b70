//! Locks and signals on the machine's `wait` and `wake`, and the [checkpoint gate](Gate).
//!
//! One thing here is made for checkpointable memory: the [`CheckpointMutex`], which no checkpoint finds held. Any other lock
//! there would be restored as it was, held or not.

mod gate;
#[cfg(test)]
mod gate_tests;

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use spin::Once;

pub use self::gate::{Closed, Gate, GateGuard, InsideGate, gate};
use crate::platform::{Instant, Machine};

static MACHINE: Once<&'static dyn Machine> = Once::new();

/// Makes `machine` the one that all code of the library runs on. Later calls change nothing.
pub fn install(machine: &'static dyn Machine) {
    MACHINE.call_once(|| machine);
}

/// The machine.
///
/// # Panics
/// If [`install`] was not called: the first step of every program on the library.
pub fn machine() -> &'static dyn Machine {
    *MACHINE
        .get()
        .expect("hs_core::sync::install is the first step of every program on the library")
}

/// The machine, if one is installed: for the global allocator, which is older than it.
#[inline]
pub(crate) fn machine_if_installed() -> Option<&'static dyn Machine> {
    MACHINE.get().copied()
}

/// A lock that sleeps while another thread holds it. Its holder runs at the highest priority, so that
/// a checkpoint child that holds one cannot be kept from letting go by a busy application.
pub type Mutex<T> = lock_api::Mutex<crate::raw::SleepingLock, T>;

/// Proof that a [`Mutex`] is held.
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, crate::raw::SleepingLock, T>;

/// A lock that may lie in checkpointable memory: it is found free after a restore, whoever held it on the old master. To hold it
/// is to be inside the [gate](gate()), so that no checkpoint is taken meanwhile, and what it guards is whole in every one.
///
/// Its holder's priority stays as it is. The order is: gate, this lock, the service stack's lock. A guard that is leaked
/// (`mem::forget`) keeps the gate from ever closing again.
pub type CheckpointMutex<T> = lock_api::Mutex<crate::raw::CheckpointLock, T>;

/// Proof that a [`CheckpointMutex`] is held, and that no checkpoint is taken.
pub type CheckpointMutexGuard<'a, T> = lock_api::MutexGuard<'a, crate::raw::CheckpointLock, T>;

/// A condition variable: sleep until what a [`Mutex`] guards has changed.
#[derive(Debug, Default)]
pub struct Condvar {
    notified: AtomicU32,
}

impl Condvar {
    /// A condition variable that nobody waits on.
    pub const fn new() -> Self {
        Self {
            notified: AtomicU32::new(0),
        }
    }

    /// Lets go of the lock, sleeps until notified or `deadline`, takes the lock again. A notification after the lock was
    /// let go is not lost. May return early: look at the condition again.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Option<Instant>) {
        let seen = self.notified.load(Ordering::SeqCst);
        MutexGuard::unlocked(guard, || machine().wait(&self.notified, seen, deadline));
    }

    /// Wakes one thread that waits.
    pub fn notify_one(&self) {
        self.notify(1);
    }

    /// Wakes every thread that waits.
    pub fn notify_all(&self) {
        self.notify(usize::MAX);
    }

    fn notify(&self, count: usize) {
        self.notified.fetch_add(1, Ordering::SeqCst);
        machine().wake(&self.notified, count);
    }
}

/// Sleeps for `duration`.
pub fn sleep(duration: Duration) {
    let deadline = machine().now() + duration;
    let nobody = AtomicU32::new(0);
    while machine().now() < deadline {
        machine().wait(&nobody, 0, Some(deadline));
    }
}

/// A counter of events to sleep on. Raising it is cheap and may happen in an interrupt handler, if the
/// machine's `wake` may.
#[derive(Debug, Default)]
pub struct Signal {
    raised: AtomicU32,
}

impl Signal {
    /// A signal that was never raised.
    pub const fn new() -> Self {
        Self {
            raised: AtomicU32::new(0),
        }
    }

    /// How often it was raised, wrapping. Read it *before* looking for work, then pass it to
    /// [`wait`](Signal::wait): an event in between is not lost.
    pub fn seen(&self) -> u32 {
        self.raised.load(Ordering::SeqCst)
    }

    /// Wakes every thread that waits.
    pub fn raise(&self) {
        self.raised.fetch_add(1, Ordering::SeqCst);
        machine().wake(&self.raised, usize::MAX);
    }

    /// Sleeps until the signal was raised after `seen`, or `deadline` is there. May return early.
    pub fn wait(&self, seen: u32, deadline: Option<Instant>) {
        machine().wait(&self.raised, seen, deadline);
    }
}

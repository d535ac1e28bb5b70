//! The lock under [`CheckpointMutex`](crate::sync::CheckpointMutex).

use core::sync::atomic::{AtomicU32, Ordering};

use crate::sync::{Signal, gate};

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;

/// What sleepers sleep on. Outside checkpointable memory, where a machine need not look at a word; shared by the locks whose
/// addresses fall together, which costs a needless look at most.
static BEDS: [Signal; BEDS_COUNT] = [const { Signal::new() }; BEDS_COUNT];

const BEDS_COUNT: usize = 16;

/// The lock under [`CheckpointMutex`](crate::sync::CheckpointMutex): one word, which may lie in checkpointable memory.
#[derive(Debug)]
pub struct CheckpointLock {
    state: AtomicU32,
}

impl CheckpointLock {
    fn bed(&self) -> &'static Signal {
        &BEDS[(&raw const self.state).addr() / align_of::<AtomicU32>() % BEDS_COUNT]
    }

    fn take(&self) -> bool {
        self.state
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }
}

// SAFETY: `state` leaves FREE only by a successful exchange in `lock` or `try_lock`, and returns to it only in `unlock`, which
// lock_api calls only for the holder: so there is at most one holder at a time. A restore changes nothing of that: whoever is
// between `lock` and `unlock` is inside the gate, so that every checkpoint has the word FREE.
unsafe impl lock_api::RawMutex for CheckpointLock {
    #[allow(
        clippy::declare_interior_mutable_const,
        reason = "lock_api asks for it; used as an initial value only"
    )]
    const INIT: Self = Self {
        state: AtomicU32::new(FREE),
    };

    // The gate counts by thread.
    type GuardMarker = lock_api::GuardNoSend;

    fn lock(&self) {
        gate().pass();
        if self.take() {
            return;
        }
        let bed = self.bed();
        loop {
            let seen = bed.seen();
            if self.state.swap(CONTENDED, Ordering::Acquire) == FREE {
                return;
            }
            bed.wait(seen, None);
        }
    }

    fn try_lock(&self) -> bool {
        gate().pass();
        let taken = self.take();
        if !taken {
            gate().leave();
        }
        taken
    }

    unsafe fn unlock(&self) {
        if self.state.swap(FREE, Ordering::Release) == CONTENDED {
            self.bed().raise();
        }
        gate().leave();
    }

    // Without the gate: who only looks changes nothing.
    fn is_locked(&self) -> bool {
        self.state.load(Ordering::Relaxed) != FREE
    }
}

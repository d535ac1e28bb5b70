//! The lock under [`Mutex`](crate::sync::Mutex).

use core::sync::atomic::{AtomicU32, Ordering};

use crate::sync::machine;

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;

/// The lock under [`Mutex`](crate::sync::Mutex): one word, asleep on the machine's `wait` when contended.
#[derive(Debug)]
pub struct SleepingLock {
    state: AtomicU32,
}

// SAFETY: `state` leaves FREE only by a successful exchange in `lock` or `try_lock`, and returns to it only
// in `unlock`, which lock_api calls only for the holder: so there is at most one holder at a time.
unsafe impl lock_api::RawMutex for SleepingLock {
    #[allow(
        clippy::declare_interior_mutable_const,
        reason = "lock_api asks for it; used as an initial value only"
    )]
    const INIT: Self = Self {
        state: AtomicU32::new(FREE),
    };

    type GuardMarker = lock_api::GuardNoSend;

    fn lock(&self) {
        let machine = machine();
        // Before the exchange: from the moment that the lock is held no preemption may find us at a low priority.
        machine.lock_taken();
        if self
            .state
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
        {
            return;
        }
        while self.state.swap(CONTENDED, Ordering::Acquire) != FREE {
            machine.wait(&self.state, CONTENDED, None);
        }
    }

    fn try_lock(&self) -> bool {
        let machine = machine();
        machine.lock_taken();
        let taken = self
            .state
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
            .is_ok();
        if !taken {
            machine.lock_released();
        }
        taken
    }

    unsafe fn unlock(&self) {
        let machine = machine();
        if self.state.swap(FREE, Ordering::Release) == CONTENDED {
            machine.wake(&self.state, 1);
        }
        machine.lock_released();
    }
}

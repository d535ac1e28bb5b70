//! Time: the monotonic clock since boot, and the wall clock that the RTC began.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use hs_core::platform::Instant;

use crate::arch::tsc;

static WALL_AT_ZERO_US: AtomicU64 = AtomicU64::new(0);

/// Microseconds since boot.
pub fn now() -> Instant {
    Instant::from_micros(tsc::micros_since_boot())
}

/// The time-stamp counter, in nanoseconds since some moment: for measuring what takes less than a microsecond.
pub fn stopwatch_ns() -> u64 {
    tsc::to_nanos(tsc::ticks())
}

/// Notes that it is `wall` (since 1970, UTC) now.
pub fn set_wall_clock(wall: Duration) {
    let zero_us = (wall.as_micros() as u64).saturating_sub(now().as_micros());
    WALL_AT_ZERO_US.store(zero_us, Ordering::Relaxed);
}

/// Time since 1970, UTC.
pub fn wall_clock() -> Duration {
    Duration::from_micros(WALL_AT_ZERO_US.load(Ordering::Relaxed) + now().as_micros())
}

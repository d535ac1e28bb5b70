//! What happens while SQLite is at work: the network is looked after, and a statement that takes too long is ended.
//!
//! SQLite calls in every so many of its operations. None of this is checkpointed: no checkpoint is taken inside of SQLite.

use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use hs_core::platform::Instant;
use hs_core::sync::machine;
use spin::Once;

/// Operations of SQLite between two looks at the clock: well below a millisecond's worth, even emulated.
pub(super) const OPERATIONS: c_int = 2_000;

/// Work without a breath.
const BREATH_EVERY: Duration = Duration::from_millis(5);

static BREATHER: Once<fn()> = Once::new();
static ENDS_US: AtomicU64 = AtomicU64::new(u64::MAX);
static BREATH_AT_US: AtomicU64 = AtomicU64::new(0);

/// Has `breather` called every few milliseconds while SQLite works. It must not call SQLite, nor take a checkpoint. Later calls
/// change nothing.
pub fn set_breather(breather: fn()) {
    BREATHER.call_once(|| breather);
}

/// From here to the next call SQLite may work until `ends`.
pub(super) fn begin(now: Instant, ends: Instant) {
    ENDS_US.store(ends.as_micros(), Ordering::Relaxed);
    BREATH_AT_US.store((now + BREATH_EVERY).as_micros(), Ordering::Relaxed);
}

/// SQLite's progress handler: anything but 0 ends the statement.
pub(super) unsafe extern "C" fn progress(_: *mut c_void) -> c_int {
    let now = machine().now();
    if now.as_micros() >= BREATH_AT_US.load(Ordering::Relaxed) {
        if let Some(breather) = BREATHER.get() {
            breather();
        }
        BREATH_AT_US.store((now + BREATH_EVERY).as_micros(), Ordering::Relaxed);
    }
    c_int::from(now.as_micros() >= ENDS_US.load(Ordering::Relaxed))
}

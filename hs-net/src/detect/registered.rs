//! The user's detection function: the thesis's `hs_detreg`.

use hs_core::detection::Liveness;
use spin::Mutex;

/// A function that says whether the master lives, and what it is called with.
pub type Function = (fn(usize) -> Liveness, usize);

/// A lock that needs no machine: functions are registered before there is a node.
static REGISTERED: Mutex<Option<Function>> = Mutex::new(None);

/// Registers the function by which a spare sees whether its master lives, and its argument. The thesis's `hs_detreg`, with
/// [`Liveness`] for its contradictory numbers.
///
/// To be called before [`run`](crate::node::run), as the thesis has it ("You must register the failure detection function with
/// `hs_detreg` before calling `hs_init`"); what is registered later is not called. The last call counts. Unless `hs.detect`
/// (or [`PairConfig::detection`](hs_core::role::PairConfig::detection)) says otherwise, the function alone decides; there it is
/// the sign `user`.
///
/// A spare that has a master calls it again and again, one heartbeat apart, on a thread of its own: it may block. While it
/// does, what it said last counts. It must not touch checkpointable memory: a spare's is not its own.
///
/// ```
/// use hs_net::detect::{Liveness, register};
///
/// fn is_alive(threshold: usize) -> Liveness {
///     let temperature = 20;
///     if temperature > threshold { Liveness::Failed } else { Liveness::Alive }
/// }
///
/// register(is_alive, 80);
/// ```
pub fn register(function: fn(usize) -> Liveness, argument: usize) {
    *REGISTERED.lock() = Some((function, argument));
}

/// What is registered.
pub(crate) fn registered() -> Option<Function> {
    *REGISTERED.lock()
}

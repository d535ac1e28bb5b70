//! Time that goes on after a takeover.

/// A machine's wall clock as the server sees it.
///
/// The machine that takes over may have a clock behind the old master's. The server never lets time go back, so it would
/// stand still until that clock has caught up: no key would expire, no wait would end. A `Clock` goes on from
/// where the old master's was instead. A clock that is ahead is believed: expiries are moments of the world's time.
///
/// It belongs to the machine that runs the server, and so lies outside checkpointable memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    behind_ms: u64,
}

impl Clock {
    /// For a server whose newest time is `server_ms` on a machine whose wall clock says `wall_ms`, both in milliseconds
    /// since 1970.
    pub const fn new(server_ms: u64, wall_ms: u64) -> Self {
        Self {
            behind_ms: server_ms.saturating_sub(wall_ms),
        }
    }

    /// The server's time, in milliseconds since 1970, when the machine's wall clock says `wall_ms`.
    pub const fn now_ms(self, wall_ms: u64) -> u64 {
        wall_ms.saturating_add(self.behind_ms)
    }
}

//! A turn of an application's loop: look, work, keep, rest.
//!
//! ```text
//! loop {
//!     let seen = node.look();        // what has arrived is in the service stack now
//!     …                              // the application's own work: events, bytes in, bytes out
//!     node.keep(changed);            // a checkpoint beside the application, if it is due
//!     node.rest(seen, None);         // sleeps until something happens
//! }
//! ```
//!
//! What the application says goes out when the spare has the state that it comes from ([`commit`](crate::commit)); so whoever
//! serves clients calls [`keep`](Node::keep) or [`rest`](Node::rest) at the end of each turn, where its state is whole.

use core::sync::atomic::Ordering;
use core::time::Duration;

use hs_core::checkpoint::{CheckpointError, Flags};
use hs_core::platform::Instant;

use super::Node;
use crate::commit::Due;
use crate::service::ConnectionId;

/// How long [`Node::keep_for_certain`] tries.
pub const KEEP_LIMIT: Duration = Duration::from_secs(5);
/// How soon it tries again, if nothing happens before.
pub(super) const KEEP_STEP: Duration = Duration::from_millis(10);

impl Node {
    /// Takes in what has arrived. Returns what [`rest`](Node::rest) is to be given: whatever happens from here on ends it.
    ///
    /// # Panics
    /// On a spare: applications run on masters.
    pub fn look(&'static self) -> u32 {
        let seen = self.application.seen();
        self.service().poll(self.setup.machine.now());
        seen
    }

    /// Takes what a client has sent, and returns how many bytes: none if there is nothing more now. A connection that its
    /// client has finished is closed.
    ///
    /// # Panics
    /// On a spare: applications run on masters.
    pub fn receive(&'static self, connection: ConnectionId, into: &mut [u8]) -> usize {
        let mut service = self.service();
        service.recv(connection, into).unwrap_or_else(|_| {
            service.close(connection);
            0
        })
    }

    /// Takes an asynchronous, incremental checkpoint when one is due: as soon as the application has `changed` or something that it
    /// said waits to go out, and none is in flight; or the node [wants one](Node::checkpoint_wanted). What was changed while one is in
    /// flight is remembered, and the [signal](Node::signal) is raised when it is time for the next. One that is refused for now or lost
    /// later the node remembers too.
    ///
    /// # Panics
    /// On a spare: applications run on masters.
    pub fn keep(&'static self, changed: bool) {
        if changed {
            self.changed.store(true, Ordering::SeqCst);
        }
        self.service().flush(self.setup.machine.now());
        self.keep_what_is_due();
    }

    /// Takes the checkpoint that is due, or says when one is.
    fn keep_what_is_due(&self) -> Option<Instant> {
        let due = self.checkpoint_due(self.unkept());
        if due == Due::Now || self.checkpoint_wanted() {
            let _ = self.checkpoint(Flags::ASYNC | Flags::INCREMENTAL);
        } else if due == Due::Never && self.retry_at().is_none() && self.output_is_forsaken() {
            self.checkpoint_lost();
        }
        match due {
            Due::At(at) => Some(at),
            Due::Now | Due::Never => None,
        }
    }

    /// Returns when the spare has all that was changed, or when there is none: before something is told that no
    /// [commit queue](crate::commit) holds back, as on the console. What goes over the service stack needs no more than
    /// [`keep`](Node::keep). After [`KEEP_LIMIT`] of failures the spare is as good as none, and `false` is returned.
    ///
    /// # Panics
    /// On a spare: applications run on masters.
    pub fn keep_for_certain(&'static self) -> bool {
        let machine = self.setup.machine;
        // One checkpoint covers what was said and what was changed.
        self.service().flush(machine.now());
        let give_up_at = machine.now() + KEEP_LIMIT;
        loop {
            let seen = self.application.seen();
            match self.checkpoint(Flags::INCREMENTAL) {
                Ok(_) | Err(CheckpointError::NoSpare | CheckpointError::NotStarted) => return true,
                Err(error) => {
                    let now = machine.now();
                    if now >= give_up_at {
                        log::warn!("a change is told that no spare has: {error}");
                        return false;
                    }
                    self.application.wait(seen, Some(now + KEEP_STEP));
                }
            }
        }
    }

    /// Sleeps until something has happened after the [look](Node::look) that returned `seen`, or until `due`. What was said
    /// since the last [`keep`](Node::keep) gets its checkpoint first.
    ///
    /// # Panics
    /// On a spare: applications run on masters.
    pub fn rest(&'static self, seen: u32, due: Option<Instant>) {
        self.service().flush(self.setup.machine.now());
        let keep_at = self.keep_what_is_due();
        let poll_at = self.service().poll_at(self.setup.machine.now());
        self.application
            .wait(seen, [poll_at, keep_at, due].into_iter().flatten().min());
    }
}

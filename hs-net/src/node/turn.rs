//! A turn of an application's loop: look, work, keep, rest.
//!
//! ```text
//! loop {
//!     let seen = node.look();        // what has arrived is in the service stack now
//!     …                              // the application's own work: events, bytes in, bytes out
//!     node.keep(changed);            // a checkpoint beside the application, if it is due
//!     node.rest(seen, None);         // what was said goes out; sleeps until something happens
//! }
//! ```

use hs_core::checkpoint::Flags;
use hs_core::platform::Instant;

use super::Node;
use crate::service::ConnectionId;

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

    /// Takes an asynchronous, incremental checkpoint, if the application has `changed` or the node [wants
    /// one](Node::checkpoint_wanted). One that is refused for now or lost later the node remembers, and wants again.
    pub fn keep(&self, changed: bool) {
        if changed || self.checkpoint_wanted() {
            let _ = self.checkpoint(Flags::ASYNC | Flags::INCREMENTAL);
        }
    }

    /// Sends what was said, and sleeps until something has happened after the [look](Node::look) that returned `seen`, or
    /// until `due`.
    ///
    /// # Panics
    /// On a spare: applications run on masters.
    pub fn rest(&'static self, seen: u32, due: Option<Instant>) {
        let poll_at = {
            let mut service = self.service();
            service.flush(self.setup.machine.now());
            service.poll_at(self.setup.machine.now())
        };
        self.application
            .wait(seen, [poll_at, due].into_iter().flatten().min());
    }
}

//! The service stack on its card, behind its lock.

use core::ops::{Deref, DerefMut};

use hs_core::platform::Instant;
use hs_core::role::PairConfig;
use hs_core::sync::MutexGuard;

use super::Node;
use super::rounds::Inbox;
use crate::service::Service;
use crate::wire::Wire;

/// Most frames taken from the card in one [`poll`](ServiceGuard::poll).
const FRAMES_PER_POLL: usize = 128;

/// What the service lock guards.
pub(super) struct Front {
    service: Option<&'static mut Service>,
    /// To tell the peer's heartbeats from clients' frames.
    wire: Wire,
    serving_told: bool,
    /// The card may have more frames.
    more: bool,
    /// The card had no room for the queue's next frame: it says when it has.
    stalled: bool,
}

impl Front {
    pub(super) fn new(mac: [u8; 6], config: &PairConfig) -> Self {
        let wire = Wire::new(mac, config.machine_address, config.peer_machine_address, false);
        Self {
            service: None,
            wire,
            serving_told: false,
            more: false,
            stalled: false,
        }
    }

    pub(super) fn begin(&mut self, service: &'static mut Service) {
        self.service = Some(service);
        // Frames may have come before the card's signal was the application's.
        self.more = true;
    }

    /// The stack, for the next node.
    #[cfg(test)]
    pub(super) fn take_service(&mut self) -> &'static mut Service {
        self.service.take().expect("this node serves")
    }

    /// Whether somebody listens, and that is news.
    pub(super) fn newly_serving(&mut self) -> bool {
        let listens = self
            .service
            .as_ref()
            .is_some_and(|service| service.is_listening());
        listens && !core::mem::replace(&mut self.serving_told, true)
    }
}

/// The service stack, locked. Beside what it can do here, it is a [`Service`].
pub struct ServiceGuard<'a> {
    node: &'static Node,
    front: MutexGuard<'a, Front>,
}

impl<'a> ServiceGuard<'a> {
    pub(super) fn new(node: &'static Node, front: MutexGuard<'a, Front>) -> Self {
        assert!(front.service.is_some(), "only a master has a service stack");
        Self { node, front }
    }

    /// Sends what is to be sent, takes in what has arrived, and makes events of it. Bounded: if there is more,
    /// [`poll_at`](ServiceGuard::poll_at) says now.
    pub fn poll(&mut self, now: Instant) {
        if !self.is_idle(now) || self.frames_queued() > 0 {
            self.flush(now);
        }
        let node = self.node;
        let Front {
            service, wire, more, ..
        } = &mut *self.front;
        let service = service.as_mut().expect("checked when the guard was made");
        let take = |service: &mut Service, frame: &[u8]| {
            if wire.is_own(frame) {
                Inbox::put(&node.inbox, wire, frame, now);
            } else {
                service.ingest(now, frame);
            }
        };
        let mut frames = 0;
        while frames < FRAMES_PER_POLL
            && service.can_ingest()
            && node.setup.service_nic.receive(&mut |frame| take(service, frame))
        {
            frames += 1;
        }
        *more = frames == FRAMES_PER_POLL;
        if frames > 0 && service.has_datagrams() {
            // They may be another thread's than the one that polls.
            node.application.raise();
        }
        if !service.is_idle(now) {
            service.refresh(now);
        }
        self.tell_serving();
    }

    /// Sends what is to be sent.
    pub fn flush(&mut self, now: Instant) {
        let nic = self.node.setup.service_nic;
        self.front.stalled = false;
        loop {
            self.egress(now);
            let full = !self.can_ingest();
            let queue = self.queue();
            queue.release(queue.tail());
            let mut sent = 0;
            while let Some(frame) = queue.front() {
                if nic.transmit(frame).is_err() {
                    self.front.stalled = true;
                    return nic.kick();
                }
                queue.pop();
                sent += 1;
            }
            if sent > 0 {
                nic.kick();
            }
            // What did not find room finds it now. The sockets' buffers bound this.
            if !full || sent == 0 {
                return;
            }
        }
    }

    /// When to [`poll`](ServiceGuard::poll) again, if the node's signal is not raised before; `None` if there is no need to.
    pub fn poll_at(&mut self, now: Instant) -> Option<Instant> {
        // What was taken in may have been answered already: by a reset, a reply to a ping.
        let unsent = self.frames_queued() > 0 && !self.front.stalled;
        if self.front.more || unsent {
            return Some(now);
        }
        Service::poll_at(self, now)
    }

    fn tell_serving(&mut self) {
        if self.front.newly_serving() {
            self.node.setup.machine.emit(&hs_core::event::Event::Serving);
        }
    }
}

impl Deref for ServiceGuard<'_> {
    type Target = Service;

    fn deref(&self) -> &Service {
        self.front
            .service
            .as_ref()
            .expect("checked when the guard was made")
    }
}

impl DerefMut for ServiceGuard<'_> {
    fn deref_mut(&mut self) -> &mut Service {
        self.front
            .service
            .as_mut()
            .expect("checked when the guard was made")
    }
}

//! The service stack on its card, behind its lock, and what of its output may go.
//!
//! Two threads send: the application's, whatever may go when it [flushes](ServiceGuard::flush), and the pair thread, what the
//! spare's acknowledgement has released, at once ([`Node::release_output`]). Each frame leaves from this card's hardware
//! address, so that no switch learns where the service's own is and all ports get what is sent there (or from the service's, if
//! the spare does not listen for itself).

use core::ops::{Deref, DerefMut};
use core::sync::atomic::Ordering;

use hs_core::checkpoint::{CheckpointId, Checkpointer, Quiesced};
use hs_core::fault::{self, Point};
use hs_core::platform::{Instant, Nic, RingFull};
use hs_core::role::{Hearing, PairConfig};
use hs_core::sync::MutexGuard;

use super::Node;
use super::descriptors::Table;
use super::rounds::Inbox;
use crate::commit::{Due, Marks, Tail};
use crate::service::Service;
use crate::wire::Wire;
use crate::writes;

/// Most frames taken from the card in one [`poll`](ServiceGuard::poll).
const FRAMES_PER_POLL: usize = 128;
/// Of a frame, its source's hardware address.
const SOURCE: core::ops::Range<usize> = 6..12;

/// What a checkpoint covers: frames and changes of files up to there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Covered {
    frames: Tail,
    files: writes::Tail,
}

/// What the service lock guards.
pub(super) struct Front {
    service: Option<&'static mut Service>,
    /// To tell the peer's heartbeats from clients' frames.
    wire: Wire,
    /// The hardware address that frames leave from, if not the service's own.
    source: Option<[u8; 6]>,
    /// What checkpoints in flight cover.
    pub(super) marks: Marks<Covered>,
    /// The newest checkpoint that all required sinks have, as far as was looked.
    kept: Option<CheckpointId>,
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
            source: (config.hearing == Hearing::Own).then_some(mac),
            marks: Marks::new(),
            kept: None,
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

    /// Hands the card what may go. Returns how many frames it has taken.
    fn send(&mut self, nic: &dyn Nic) -> usize {
        let Some(service) = &mut self.service else {
            return 0;
        };
        if !self.marks.is_withheld() {
            service.release_all();
        }
        if service.next_frame().is_some() {
            fault::passed(Point::OutputReleased);
        }
        self.stalled = false;
        let mut sent = 0;
        while let Some(frame) = service.next_frame() {
            if transmit_from(nic, self.source, frame).is_err() {
                self.stalled = true;
                break;
            }
            service.forget_frame();
            sent += 1;
        }
        if sent > 0 || self.stalled {
            nic.kick();
        }
        if sent > 0 {
            fault::passed(Point::OutputSent);
        }
        sent
    }

    /// What was said before `tail` may go.
    fn release(&mut self, tail: Tail) {
        if let Some(service) = &mut self.service {
            service.release(tail);
        }
    }

    /// Whether there is something to hand to the card.
    fn may_send(&self) -> bool {
        let service = self.service.as_ref();
        service.is_some_and(|service| {
            service.next_frame().is_some() || (!self.marks.is_withheld() && service.has_output_behind(None))
        })
    }

    /// Whether something was said that no checkpoint covers yet.
    fn output_waits(&self) -> bool {
        let service = self.service.as_ref();
        self.marks.is_withheld()
            && service.is_some_and(|service| {
                service.has_output_behind(self.marks.covered().map(|covered| covered.frames))
            })
    }
}

/// Sends `frame` as if from the card with this hardware address, if one is given.
fn transmit_from(nic: &dyn Nic, source: Option<[u8; 6]>, frame: &[u8]) -> Result<(), RingFull> {
    match source {
        Some(source) if frame.len() >= SOURCE.end => {
            nic.transmit_parts(&[&frame[..SOURCE.start], &source, &frame[SOURCE.end..]])
        }
        _ => nic.transmit(frame),
    }
}

/// What a checkpoint's pause holds still: the service stack, and the descriptor table, which keeps the records of descriptors up to
/// date.
pub(super) struct Stillness<'a> {
    node: &'a Node,
    front: MutexGuard<'a, Front>,
    descriptors: MutexGuard<'a, Table>,
}

impl Quiesced for Stillness<'_> {
    fn frozen(&mut self, id: CheckpointId) {
        let front = &mut *self.front;
        if let Some(service) = &front.service {
            let covered = Covered {
                frames: service.tail(),
                files: self.descriptors.files_tail(),
            };
            front.marks.taken(id, covered, self.node.setup.machine.now());
        }
        let found = self.node.checkpointer.get().map_or(0, Checkpointer::dirty_pages);
        front.marks.found_dirty(found);
    }
}

impl Node {
    /// Holds still what a checkpoint freezes.
    pub(super) fn quiesce(&self) -> Stillness<'_> {
        Stillness {
            node: self,
            front: self.front.lock(),
            descriptors: self.descriptors.lock(),
        }
    }

    /// When the next checkpoint is due, because output or changes of the application's wait for it.
    pub(super) fn checkpoint_due(&self, changed: bool) -> Due {
        let front = self.front.lock();
        let waits = changed || front.output_waits() || self.files_wait(&front);
        front.marks.due(waits, self.setup.machine.now())
    }

    /// Whether files were changed and no checkpoint covers that yet.
    fn files_wait(&self, front: &Front) -> bool {
        let covered = front.marks.covered().map(|covered| covered.files);
        self.descriptors.lock().has_changes_behind(covered)
    }

    /// From here on what is said and written waits. Files with the front's lock in hand: no checkpoint comes in between.
    fn withhold(&self, front: &mut Front) {
        front.marks.withhold();
        self.withhold_files(true);
    }

    /// What a checkpoint covers may go.
    fn release(&self, front: &mut Front, covered: Option<Covered>) {
        if let Some(covered) = covered {
            front.release(covered.frames);
            self.release_files(covered.files);
        }
    }

    /// From here on output waits for other sinks too, spare or not.
    pub(super) fn await_other_sinks(&self) {
        self.others_required.store(true, Ordering::SeqCst);
        self.withhold(&mut self.front.lock());
    }

    /// What all required sinks have goes out: where there are others than the spare, whoever has it last decides.
    fn release_what_is_kept(&self, front: &mut Front) {
        if !self.others_required.load(Ordering::Relaxed) {
            return;
        }
        let newest = self.checkpointer.get().and_then(Checkpointer::newest_kept);
        if let Some(checkpoint) = newest.filter(|_| newest != front.kept) {
            front.kept = newest;
            let covered = front.marks.kept(checkpoint);
            self.release(front, covered);
            self.withhold(front);
        }
    }

    /// Looks whether all required sinks have more by now, for who cannot wait for the next flush.
    pub(super) fn look_what_is_kept(&self) {
        self.release_what_is_kept(&mut self.front.lock());
    }

    /// The spare has `checkpoint`: what was said before it goes out, now.
    pub(super) fn release_output(&self, checkpoint: CheckpointId) {
        let nic = self.setup.service_nic;
        let mut front = self.front.lock();
        if !front.marks.is_withheld() {
            // The first that this spare has. What was said until now lies behind the checkpoint that is asked for.
            self.withhold(&mut front);
            drop(front);
            return self.want_checkpoint();
        }
        if self.others_required.load(Ordering::Relaxed) {
            // The child tells the application when they have it too.
            return;
        }
        let covered = front.marks.kept(checkpoint);
        let was_full = front
            .service
            .as_ref()
            .is_some_and(|service| !service.can_ingest());
        self.release(&mut front, covered);
        front.send(nic);
        let waits = was_full || front.output_waits() || self.files_wait(&front);
        drop(front);
        if waits || self.unkept() {
            // For the next checkpoint, which it alone can take, or for what it had no room for.
            self.application.raise();
        }
    }

    /// Nobody can take over any more: what waits goes out.
    pub(super) fn let_output_go(&self) {
        let mut front = self.front.lock();
        front.marks.let_go();
        self.withhold_files(false);
        front.send(self.setup.service_nic);
        drop(front);
        // For what had no room in a full queue.
        self.application.raise();
    }

    /// Whether output counts as covered by checkpoints of which none is in flight any more: they were lost without a pipe that
    /// says so, by a hook's refusal in the child.
    pub(super) fn output_is_forsaken(&self) -> bool {
        let front = self.front.lock();
        // With the lock in hand: none begins.
        front.marks.covered().is_some()
            && self
                .checkpointer
                .get()
                .is_some_and(|checkpointer| checkpointer.free_slots() == self.setup.pair.ncon.max(1))
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
        if !self.is_idle(now) || self.front.may_send() {
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
                node.forward(frame);
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

    /// Says what is to be said: it goes out when the spare has the state that it comes from, at once if there is no spare.
    pub fn flush(&mut self, now: Instant) {
        let nic = self.node.setup.service_nic;
        self.node.release_what_is_kept(&mut self.front);
        loop {
            self.egress(now);
            let full = !self.can_ingest();
            let sent = self.front.send(nic);
            // What did not find room finds it now. The sockets' buffers bound this.
            if !full || sent == 0 || self.front.stalled {
                return;
            }
        }
    }

    /// When to [`poll`](ServiceGuard::poll) again, if the node's signal is not raised before; `None` if there is no need to.
    pub fn poll_at(&mut self, now: Instant) -> Option<Instant> {
        // What was taken in may have been answered already: by a reset, a reply to a ping.
        let unsent = self.front.may_send() && !self.front.stalled;
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

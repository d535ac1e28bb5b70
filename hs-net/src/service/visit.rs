//! Visits to connections that something has happened to, or whose time has come.
//!
//! ```text
//!   a segment taken in, a call of the application's ──> touch ─┬─> line Send ──> egress ──> its next moment ──> timers
//!                                        timers ──> wake ──────┴─> line Look ──> refresh ──> line Ready ──> events
//! ```
//!
//! A connection in neither line has its next moment in the timers, or one before it, and nothing to tell. One in line Send stays
//! there as long as the queue has no room.

use hs_core::platform::Instant;
use smoltcp::iface::PollResult;
use smoltcp::socket::tcp;
use smoltcp::time::Instant as StackInstant;

use super::device::QueueDevice;
use super::entry::{Entry, Line, Phase};
use super::timers::NEVER_US;
use super::{FORGETTING_PORT, RESET_US, Service};

/// What is left to do now, on the stack's clock.
const AT_ONCE_US: i64 = i64::MIN;

impl Service {
    /// Something has happened to `slot`: it is visited next.
    pub(super) fn touch(&mut self, slot: u16) {
        self.lines.join(Line::Send, self.entries, slot);
        self.lines.join(Line::Look, self.entries, slot);
    }

    /// All are visited next: the stack is on another machine.
    pub(super) fn touch_all(&mut self) {
        self.for_each_occupied(|service, slot| {
            if service.entries[usize::from(slot)].phase != Phase::Listening {
                service.touch(slot);
            }
        });
        self.udp_touched = true;
    }

    /// Calls `with` for each slot that is not free; it may become so.
    pub(super) fn for_each_occupied(&mut self, mut with: impl FnMut(&mut Self, u16)) {
        let mut next = self.occupied.next(0);
        while let Some(slot) = next {
            with(self, slot);
            next = slot.checked_add(1).and_then(|slot| self.occupied.next(slot));
        }
    }

    /// `slot` is anybody's again. Its socket is closed and has forgotten its client.
    pub(super) fn vacate(&mut self, slot: u16) {
        self.entries[usize::from(slot)].phase = Phase::Free;
        self.occupied.set(slot, false);
        self.count(slot);
        self.demux.remove(self.entries, slot);
        self.timers.set(slot, NEVER_US);
        self.lines.jump(Line::Free, self.entries, slot);
    }

    /// Touches those whose time has come.
    fn wake(&mut self, now_us: i64) {
        while let Some(slot) = self.timers.take_due(now_us) {
            self.touch(slot);
        }
        if self.udp_due_us <= now_us {
            self.udp_due_us = NEVER_US;
            self.udp_touched = true;
        }
    }

    /// Lets the stack put what it has to say into the queue, as far as there is room.
    pub fn egress(&mut self, now: Instant) {
        let now = self.stack_time(now);
        self.interface.poll_maintenance(now);
        self.wake(now.total_micros());
        if self.udp_touched {
            self.egress_udp(now);
        }
        // In turn, a frame each. The queue bounds this: each visit adds a frame, or is the slot's last.
        while self.can_ingest()
            && let Some(slot) = self.lines.leave(Line::Send, self.entries)
        {
            self.egress_slot(slot, now);
        }
    }

    fn egress_slot(&mut self, slot: u16, now: StackInstant) {
        let entry = &mut self.entries[usize::from(slot)];
        if entry.phase == Phase::Free {
            return;
        }
        self.counters.visits += 1;
        let ends = |entry: &Entry| (entry.socket().state(), entry.socket().remote_endpoint().is_none());
        let before = ends(entry);
        let mut device = QueueDevice::new(None, &mut self.output, self.config.frame_len_max);
        let result = self.interface.poll_egress(now, &mut device, &mut entry.sockets);
        let wanted = device.wanted;
        if ends(entry) != before {
            self.lines.join(Line::Look, self.entries, slot);
        }
        if result != PollResult::None {
            self.lines.join(Line::Send, self.entries, slot);
            return;
        }
        if wanted {
            self.lines.join(Line::Neighbour, self.entries, slot);
        }
        let entry = &self.entries[usize::from(slot)];
        let socket_at = self.interface.poll_at(now, &entry.sockets);
        let at_us = socket_at.map(|at| at.total_micros());
        let at_us = at_us.into_iter().chain(entry.phase_until_us()).min();
        self.timers.advance(slot, at_us.unwrap_or(NEVER_US));
    }

    fn egress_udp(&mut self, now: StackInstant) {
        while self.can_ingest() {
            let mut device = QueueDevice::new(None, &mut self.output, self.config.frame_len_max);
            let sockets = &mut self.udp_sockets;
            // The queue bounds this: each round adds a frame or is the last.
            if self.interface.poll_egress(now, &mut device, sockets) == PollResult::None {
                self.udp_touched = false;
                let sockets_at = self.interface.poll_at(now, &self.udp_sockets);
                let at_us = sockets_at.map(|at| at.total_micros());
                let at_us = at_us.into_iter().chain(self.unsent_until_us()).min();
                self.udp_due_us = at_us.unwrap_or(NEVER_US);
                return;
            }
        }
    }

    /// Looks at the connections that something has happened to: makes events of what has changed, ends what has taken too
    /// long.
    pub fn refresh(&mut self, now: Instant) {
        let now_us = self.stack_time(now).total_micros();
        self.wake(now_us);
        while let Some(slot) = self.lines.leave(Line::Look, self.entries) {
            self.counters.visits += 1;
            self.refresh_entry(slot, now_us);
        }
        self.refresh_udp(now_us);
        self.arm();
    }

    pub(super) fn refresh_entry(&mut self, slot: u16, now_us: i64) {
        let entry = &mut self.entries[usize::from(slot)];
        let phase = entry.phase;
        let is_free = match phase {
            Phase::Free | Phase::Listening => return,
            Phase::HalfOpen { until_us } => entry.refresh_half_open(now_us, until_us),
            Phase::Open => false,
            Phase::Closing { until_us } => entry.refresh_closing(now_us, until_us),
            Phase::Gone => entry.refresh_gone(now_us),
        };
        if is_free {
            return self.vacate(slot);
        }
        if entry.phase == Phase::Open {
            self.counters.opened += u64::from(phase != Phase::Open);
            entry.refresh_open();
        }
        let is_in_time_wait = entry.is_in_time_wait();
        if entry.phase != phase || matches!(phase, Phase::Closing { .. }) {
            // Its moment is another one, or it was reset and has that to say; and what was read for nobody made room.
            self.lines.join(Line::Send, self.entries, slot);
        }
        if is_in_time_wait {
            self.lines.join(Line::TimeWait, self.entries, slot);
        }
        self.count(slot);
        if self.entries[usize::from(slot)].news.any() {
            self.lines.join(Line::Ready, self.entries, slot);
        }
    }

    /// When [`egress`](Service::egress) and [`refresh`](Service::refresh) have something to do, if no frame arrives.
    /// A moment that is past means now.
    pub fn poll_at(&mut self, now: Instant) -> Option<Instant> {
        match self.next_us() {
            AT_ONCE_US => Some(now),
            NEVER_US => None,
            at_us => {
                let at_us = at_us.saturating_sub(self.clock_offset_us).max(0);
                Some(Instant::from_micros(at_us as u64).max(now))
            }
        }
    }

    /// Whether there is nothing to do at `now`.
    pub fn is_idle(&self, now: Instant) -> bool {
        let now_us = (now.as_micros() as i64).saturating_add(self.clock_offset_us);
        self.next_us() > self.clock_us.max(now_us)
    }

    fn next_us(&self) -> i64 {
        let has_news = !self.lines.is_empty(Line::Ready) || !self.lines.is_empty(Line::Look);
        // Without room for a frame nothing is sent until some have gone, and the card says when.
        let may_send = !self.lines.is_empty(Line::Send) || self.udp_touched;
        if has_news || (may_send && self.can_ingest()) {
            return AT_ONCE_US;
        }
        self.timers.first_us().min(self.udp_due_us)
    }
}

/// What becomes of an entry. They say whether it is free.
impl Entry {
    /// Nobody knows this client any more. One that still has a reset to send is not silent yet.
    fn is_silent(&self) -> bool {
        self.socket().state() == tcp::State::Closed && self.socket().remote_endpoint().is_none()
    }

    fn refresh_half_open(&mut self, now_us: i64, until_us: i64) -> bool {
        match self.socket().state() {
            tcp::State::SynReceived if now_us < until_us => {}
            tcp::State::SynReceived => {
                self.socket_mut().abort();
                self.leave(now_us + RESET_US);
            }
            // Reset by its client: smoltcp listens with it again.
            tcp::State::Listen => {
                self.socket_mut().close();
                return true;
            }
            tcp::State::Closed if self.is_silent() => return true,
            tcp::State::Closed => self.leave(now_us + RESET_US),
            _ => {
                self.phase = Phase::Open;
                self.news.opened = true;
            }
        }
        false
    }

    fn refresh_open(&mut self) {
        let socket = self.socket();
        let (unread, finished) = (socket.recv_queue(), !socket.may_recv());
        let has_room = socket.send_capacity() - socket.send_queue() >= socket.send_capacity() / 2;
        let gone = socket.state() == tcp::State::Closed;
        self.news.readable |= unread > self.unread || (finished && !self.finished);
        (self.unread, self.finished) = (unread, finished);
        if self.wants_room && has_room {
            self.wants_room = false;
            self.news.writable = true;
        }
        if gone {
            self.phase = Phase::Gone;
            self.news.closed = true;
        }
    }

    fn refresh_closing(&mut self, now_us: i64, until_us: i64) -> bool {
        let socket = self.socket_mut();
        // Nobody reads it, but the peer's end of stream lies behind it.
        while socket.can_recv() && socket.recv(|bytes| (bytes.len(), ())).is_ok() {}
        if self.is_silent() {
            return true;
        }
        let state = self.socket().state();
        if now_us >= until_us && state == tcp::State::Closed {
            // Nobody answers for the client's address: smoltcp would try for ever. Listening forgets it.
            let socket = self.socket_mut();
            socket
                .listen(FORGETTING_PORT)
                .expect("a closed socket may listen");
            socket.close();
            return true;
        }
        if now_us >= until_us && state != tcp::State::TimeWait {
            self.socket_mut().abort();
            self.leave(now_us + RESET_US);
        }
        false
    }

    fn refresh_gone(&mut self, now_us: i64) -> bool {
        if self.news.closed {
            return false;
        }
        let is_silent = self.is_silent();
        if !is_silent {
            self.leave(now_us + RESET_US);
        }
        is_silent
    }
}

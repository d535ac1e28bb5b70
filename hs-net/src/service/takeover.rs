//! What a restored stack needs on its new machine: its connections go on, or, where they cannot, end.

use hs_core::platform::Instant;
use smoltcp::socket::tcp;
use smoltcp::time::Duration;
use smoltcp::wire::{EthernetAddress, HardwareAddress};

use super::Service;
use super::entry::Phase;
use super::output::is_udp;
use super::probe::{self, Input};
use crate::ingress::{Ear, Uncovered};

/// After a takeover the stack's clock is ahead by this much: past smoltcp's least retransmission timeout, so that what
/// was armed fires at once.
const TAKEOVER_AHEAD: Duration = Duration::from_millis(1500);

/// What becomes of input that clients have sent and the checkpoint does not cover.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unseen {
    /// It is taken in: the old master's machine died, and the input had no part in it.
    TakenIn,
    /// It may be what the application died of, and the same code with the same input would die again: the connections that it
    /// came on are reset, and datagrams are dropped.
    Refused,
}

/// What a takeover has done with connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Resumed {
    /// Connections that go on.
    pub connections: usize,
    /// Frames of clients that were taken in, because the checkpoint did not cover them.
    pub taken_in: usize,
    /// Connections that were reset.
    pub reset: usize,
}

impl Service {
    /// Goes on from a restored stack of which clients have seen nothing that is not in it. The clock goes on from where the
    /// checkpoint left it, and ahead of that, so that whatever was sent and not acknowledged is sent again at once. What was
    /// queued may go out: the old master may have sent it or not, and TCP sorts that out. For UDP nobody does, so queued datagrams are
    /// dropped: their senders hear nothing rather than the same twice. Each open connection is poked, so that both ends know where they stand. Then
    /// what the `ear` has heard and the checkpoint does not cover is taken in or refused.
    ///
    /// Connections of services that opted out are reset, and the application finds an event for each that it knew.
    pub fn take_over(&mut self, now: Instant, ear: &Ear, unseen: Unseen) -> Resumed {
        let ahead_us = self.go_on(now);
        self.output.withheld.retain(|frame| !is_udp(frame));
        let mut resumed = Resumed {
            reset: self.reset_where(now, ahead_us, |prompt| prompt),
            ..Resumed::default()
        };
        let keep_alive = self.config.keep_alive.into();
        for entry in self.entries.iter() {
            if matches!(entry.phase, Phase::Open | Phase::Gone | Phase::Closing { .. }) {
                let socket = self.sockets.get_mut::<tcp::Socket>(entry.handle);
                // Due at once when it is set.
                socket.set_keep_alive(Some(keep_alive));
            }
        }
        let Uncovered { frames, may_lack } = ear.uncovered(&self.recent);
        match unseen {
            Unseen::TakenIn => {
                resumed.taken_in = frames.len();
                frames.iter().for_each(|frame| self.ingest(now, frame));
            }
            Unseen::Refused => {
                let suspects = |service: &Self, slot: usize| {
                    let mut inputs = frames.iter().filter_map(|frame| Input::parse(frame));
                    may_lack || inputs.any(|input| service.has_connection(slot, &input))
                };
                for slot in 0..self.entries.len() {
                    if self.entries[slot].phase == Phase::Open && suspects(self, slot) {
                        self.reset_entry(slot, ahead_us);
                        resumed.reset += 1;
                    }
                }
                let harmless = frames
                    .iter()
                    .filter(|frame| Input::parse(frame).is_none() && !is_udp(frame));
                harmless.for_each(|frame| self.ingest(now, frame));
            }
        }
        self.refresh(now);
        resumed.connections = self.connections().count();
        resumed
    }

    /// Goes on from a restored stack that is older than what clients have seen: one from a file. Every connection is
    /// reset, and the application finds an event for each that it knew. UDP sockets keep what waits in them. The resets lie in
    /// the queue afterwards.
    pub fn reset_after_restore(&mut self, now: Instant) {
        let ahead_us = self.go_on(now);
        self.output.withheld.clear();
        self.reset_where(now, ahead_us, |_| true);
        self.refresh(now);
    }

    /// Sets the clock, and returns the stack's time.
    fn go_on(&mut self, now: Instant) -> i64 {
        let ahead_us = self.clock_us.saturating_add(TAKEOVER_AHEAD.total_micros() as i64);
        self.clock_offset_us = ahead_us.saturating_sub(now.as_micros() as i64);
        self.due = None;
        self.output.prompt.clear();
        self.restart_udp(ahead_us);
        ahead_us
    }

    /// Resets the connections of services that opted out or not, as `chosen` says, with certainty: clients may be ahead of this
    /// stack. Returns how many of them the application knew.
    fn reset_where(&mut self, now: Instant, ahead_us: i64, chosen: impl Fn(bool) -> bool) -> usize {
        let mut known = 0;
        for slot in 0..self.entries.len() {
            if chosen(self.entries[slot].prompt) {
                known += usize::from(self.reset_entry(slot, ahead_us));
            }
        }
        self.egress(now);
        let HardwareAddress::Ethernet(mac) = self.interface.hardware_addr();
        for slot in 0..self.entries.len() {
            let entry = &mut self.entries[slot];
            if chosen(entry.prompt)
                && let Some((remote_mac, remote)) = entry.peer.take()
                && !matches!(entry.phase, Phase::Free | Phase::Listening)
            {
                let local = (self.config.network.address, entry.port);
                self.push_probe(mac, local, remote_mac, remote);
            }
        }
        known
    }

    fn push_probe(
        &mut self,
        mac: EthernetAddress,
        local: probe::End,
        remote_mac: EthernetAddress,
        remote: probe::End,
    ) {
        if self.can_ingest() {
            self.output.push(probe::PROBE_LEN, |into| {
                probe::write(into, mac, local, remote_mac, remote);
            });
        }
    }

    /// Resets what the entry has, and returns whether the application knew it.
    fn reset_entry(&mut self, slot: usize, ahead_us: i64) -> bool {
        let entry = &mut self.entries[slot];
        let socket = self.sockets.get_mut::<tcp::Socket>(entry.handle);
        match entry.phase {
            Phase::Free | Phase::Listening => false,
            Phase::HalfOpen { .. } | Phase::Closing { .. } => {
                socket.abort();
                entry.leave(ahead_us);
                false
            }
            Phase::Open | Phase::Gone => {
                socket.abort();
                entry.phase = Phase::Gone;
                entry.news.closed = true;
                true
            }
        }
    }

    /// Whether `input` is for the connection of the entry.
    fn has_connection(&self, slot: usize, input: &Input) -> bool {
        let socket = self.sockets.get::<tcp::Socket>(self.entries[slot].handle);
        socket.remote_endpoint().is_some_and(|end| input.is_from(end))
            && socket.local_endpoint().is_some_and(|end| end.port == input.port)
    }
}

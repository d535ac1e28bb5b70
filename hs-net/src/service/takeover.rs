//! What a restored stack needs on its new machine: its connections go on, or, where they cannot, end.

use hs_core::platform::Instant;
use smoltcp::time::Duration;
use smoltcp::wire::HardwareAddress;

use super::Service;
use super::demux::Received;
use super::entry::Phase;
use super::output::is_udp;
use super::probe;
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
        self.for_each_occupied(|service, slot| {
            let entry = &mut service.entries[usize::from(slot)];
            if matches!(entry.phase, Phase::Open | Phase::Gone | Phase::Closing { .. }) {
                // Due at once when it is set.
                entry.socket_mut().set_keep_alive(Some(keep_alive));
            }
        });
        self.touch_all();
        let Uncovered { frames, may_lack } = ear.uncovered(&self.recent);
        if unseen == Unseen::Refused {
            resumed.reset += self.reset_suspects(&frames, may_lack, ahead_us);
        }
        let refused = |frame: &[u8]| match Received::parse(frame) {
            Received::Tcp(segment) => segment.carries,
            Received::Udp => true,
            Received::Arp { .. } | Received::Other => false,
        };
        for frame in frames {
            if unseen == Unseen::TakenIn || !refused(frame) {
                resumed.taken_in += 1;
                self.ingest(now, frame);
            }
        }
        self.refresh(now);
        resumed.connections = self.connections().count();
        resumed
    }

    /// Resets the connections on which `frames` bring bytes; all of them, if there may have been more frames. Returns how many.
    fn reset_suspects(&mut self, frames: &[&[u8]], may_lack: bool, ahead_us: i64) -> usize {
        let mut reset = 0;
        // One that is not complete is, with the same frames; and its client would send again what was refused.
        let may_read = |phase| matches!(phase, Phase::HalfOpen { .. } | Phase::Open);
        if may_lack {
            self.for_each_occupied(|service, slot| {
                if may_read(service.entries[usize::from(slot)].phase) {
                    reset += usize::from(service.reset_entry(slot, ahead_us));
                }
            });
        }
        for frame in frames {
            if let Received::Tcp(segment) = Received::parse(frame)
                && segment.carries
                && let Some(slot) = self.demux.find(self.entries, segment.key())
                && may_read(self.entries[usize::from(slot)].phase)
            {
                reset += usize::from(self.reset_entry(slot, ahead_us));
            }
        }
        reset
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
        self.output.prompt.clear();
        self.restart_udp(ahead_us);
        ahead_us
    }

    /// Resets the connections of services that opted out or not, as `chosen` says, with certainty: clients may be ahead of this
    /// stack. Returns how many of them the application knew.
    fn reset_where(&mut self, now: Instant, ahead_us: i64, chosen: impl Fn(bool) -> bool) -> usize {
        let mut known = 0;
        self.for_each_occupied(|service, slot| {
            if chosen(service.entries[usize::from(slot)].prompt) {
                known += usize::from(service.reset_entry(slot, ahead_us));
            }
        });
        self.egress(now);
        let HardwareAddress::Ethernet(mac) = self.interface.hardware_addr();
        self.for_each_occupied(|service, slot| {
            let entry = &mut service.entries[usize::from(slot)];
            if chosen(entry.prompt)
                && let Some((remote_mac, remote)) = entry.peer.take()
                && !matches!(entry.phase, Phase::Free | Phase::Listening)
                && service.output.has_room(service.config.frame_len_max)
            {
                let local = (service.config.network.address, entry.port);
                service.output.push(probe::PROBE_LEN, |into| {
                    probe::write(into, mac, local, remote_mac, remote);
                });
            }
        });
        known
    }

    /// Resets what the entry has, and returns whether the application knew it.
    fn reset_entry(&mut self, slot: u16, ahead_us: i64) -> bool {
        let entry = &mut self.entries[usize::from(slot)];
        let known = matches!(entry.phase, Phase::Open | Phase::Gone);
        match entry.phase {
            Phase::Free | Phase::Listening => return false,
            Phase::HalfOpen { .. } | Phase::Closing { .. } => {
                entry.socket_mut().abort();
                entry.leave(ahead_us);
            }
            Phase::Open | Phase::Gone => {
                entry.socket_mut().abort();
                entry.phase = Phase::Gone;
                entry.news.closed = true;
            }
        }
        self.touch(slot);
        known
    }
}

//! What a restored stack needs on its new machine.

use hs_core::platform::Instant;
use smoltcp::socket::tcp;
use smoltcp::time::Duration;
use smoltcp::wire::{EthernetAddress, HardwareAddress};

use super::entry::Phase;
use super::{Service, probe};

/// After a takeover the stack's clock is ahead by this much: past smoltcp's least retransmission timeout, so that what
/// was armed fires at once.
const TAKEOVER_AHEAD: Duration = Duration::from_millis(1500);

impl Service {
    /// Makes a restored stack this machine's, whose card has the address `mac`: the clock goes on from where the checkpoint
    /// left it, what was queued is thrown away, listeners listen. Every connection is reset, and the application finds
    /// an event for each that it knew. UDP sockets keep what waits in them. The resets lie in the queue afterwards; announce the address before they go out.
    pub fn reset_after_takeover(&mut self, now: Instant, mac: [u8; 6]) {
        let ahead = self.clock_us.saturating_add(TAKEOVER_AHEAD.total_micros() as i64);
        self.clock_offset_us = ahead.saturating_sub(now.as_micros() as i64);
        self.queue.clear();
        self.restart_udp(ahead);
        let mac = EthernetAddress(mac);
        self.interface.set_hardware_addr(HardwareAddress::Ethernet(mac));
        for entry in self.entries.iter_mut() {
            let socket = self.sockets.get_mut::<tcp::Socket>(entry.handle);
            match entry.phase {
                Phase::Free | Phase::Listening => {}
                Phase::HalfOpen { .. } | Phase::Closing { .. } => {
                    socket.abort();
                    entry.leave(ahead);
                }
                Phase::Open | Phase::Gone => {
                    socket.abort();
                    entry.phase = Phase::Gone;
                    entry.news.closed = true;
                }
            }
        }
        self.egress(now);
        for entry in self.entries.iter_mut() {
            if let Some((remote_mac, remote)) = entry.peer.take()
                && !matches!(entry.phase, Phase::Free | Phase::Listening)
                && self.queue.has_room(probe::PROBE_LEN)
            {
                let local = (self.config.network.address, entry.port);
                self.queue.push(probe::PROBE_LEN, |into| {
                    probe::write(into, mac, local, remote_mac, remote)
                });
            }
        }
        self.refresh(now);
    }
}

//! Telling the service network who has the service's address now: gratuitous ARP.
//!
//! Some receivers update their tables from a request, some from a reply, so both are sent; and several times over the first
//! seconds, because nobody acknowledges them. smoltcp has no call for it: the frames are made here, and go out around the
//! commit queue, as they say nothing of the application's state.
//!
//! The service's hardware address is the same on both machines, so no client's table changes at a takeover; what may have to is
//! a switch's, where frames come from that address ([`hs_core::role::Hearing::Forwarded`]).

use core::net::Ipv4Addr;
use core::time::Duration;

use hs_core::platform::Instant;
use hs_core::role::PairConfig;
use smoltcp::wire::{ArpOperation, EthernetAddress, EthernetFrame};

use crate::wire::{ARP_LEN, arp_frame};

/// When the announcements go out, after the takeover.
const SCHEDULE_MS: [u64; 6] = [0, 10, 50, 250, 1000, 3000];

/// The announcements of one takeover, or of a first master's start.
#[derive(Debug)]
pub struct Announcer {
    /// Where the frames come from.
    source: EthernetAddress,
    /// What they say.
    mac: EthernetAddress,
    address: Ipv4Addr,
    since: Instant,
    done: usize,
}

impl Announcer {
    /// Announces from `now` on that the service is at its hardware address, in frames that come from `source`.
    pub fn new(source: [u8; 6], pair: &PairConfig, now: Instant) -> Self {
        Self::of(source, (pair.service_mac(), pair.service.address), now)
    }

    fn of(source: [u8; 6], (mac, address): ([u8; 6], Ipv4Addr), now: Instant) -> Self {
        Self {
            source: EthernetAddress(source),
            mac: EthernetAddress(mac),
            address,
            since: now,
            done: 0,
        }
    }

    /// When the next announcement is due; `None` after the last.
    pub fn poll_at(&self) -> Option<Instant> {
        SCHEDULE_MS
            .get(self.done)
            .map(|&ms| self.since + Duration::from_millis(ms))
    }

    /// The request and the reply to send now, if an announcement is due. Missed ones are skipped.
    pub fn poll(&mut self, now: Instant) -> Option<[[u8; ARP_LEN]; 2]> {
        let due = self.poll_at().is_some_and(|at| at <= now);
        while self.poll_at().is_some_and(|at| at <= now) {
            self.done += 1;
        }
        let own = (self.mac, self.address);
        due.then(|| {
            let about = |operation, target| {
                let mut frame = arp_frame(operation, own, (target, self.address), EthernetAddress::BROADCAST);
                EthernetFrame::new_unchecked(&mut frame[..]).set_src_addr(self.source);
                frame
            };
            [
                about(ArpOperation::Request, EthernetAddress([0; 6])),
                about(ArpOperation::Reply, EthernetAddress::BROADCAST),
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use smoltcp::wire::{ArpPacket, ArpRepr, EthernetFrame};

    use super::*;

    const OWN: [u8; 6] = [2, 1, 1, 1, 1, 1];

    #[test]
    fn announces_both_ways_and_ends() {
        let (mac, address) = ([2, 0, 0, 0, 0, 7], Ipv4Addr::new(10, 77, 0, 10));
        let mut announcer = Announcer::of(OWN, (mac, address), Instant::from_micros(5));
        let mut sent = 0;
        while let Some(at) = announcer.poll_at() {
            assert_eq!(announcer.poll(Instant::from_micros(at.as_micros() - 1)), None);
            let frames = announcer.poll(at).expect("due");
            for (frame, expected) in frames.iter().zip([ArpOperation::Request, ArpOperation::Reply]) {
                let ethernet = EthernetFrame::new_checked(&frame[..]).unwrap();
                assert!(ethernet.dst_addr().is_broadcast());
                assert_eq!(ethernet.src_addr(), EthernetAddress(OWN));
                let packet = ArpPacket::new_checked(ethernet.payload()).unwrap();
                let ArpRepr::EthernetIpv4 {
                    operation,
                    source_hardware_addr,
                    source_protocol_addr,
                    target_protocol_addr,
                    ..
                } = ArpRepr::parse(&packet).unwrap()
                else {
                    unreachable!()
                };
                assert_eq!(operation, expected);
                assert_eq!(source_hardware_addr, EthernetAddress(mac));
                assert_eq!((source_protocol_addr, target_protocol_addr), (address, address));
            }
            sent += 1;
        }
        assert_eq!(sent, SCHEDULE_MS.len());
        assert_eq!(announcer.poll(Instant::from_micros(u64::MAX)), None);
    }

    #[test]
    fn a_late_announcer_does_not_repeat_itself() {
        let mut announcer = Announcer::of(OWN, ([2; 6], Ipv4Addr::LOCALHOST), Instant::from_micros(0));
        assert!(announcer.poll(Instant::from_micros(300_000)).is_some());
        assert!(announcer.poll(Instant::from_micros(300_000)).is_none());
        assert_eq!(announcer.poll_at(), Some(Instant::from_micros(1_000_000)));
    }
}

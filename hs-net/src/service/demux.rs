//! Whose a received frame is.
//!
//! smoltcp offers a segment to one socket of a set after the other. Here each connection has a set of its own, and a table
//! says which: chains of slots in buckets, threaded through the slots, in the stack's class like everything else. Clients choose
//! what they are found by, so the seed of the table's hash is secret; it lies in the table, since it must outlive the machine.

use allocator_api2::alloc::Allocator;
use smoltcp::wire::{
    ArpPacket, EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Address, Ipv4Packet,
    TcpPacket,
};

use super::probe::End;
use super::{ServiceError, leak};

/// What a frame is to the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Received {
    /// A TCP segment.
    Tcp(Segment),
    /// A datagram.
    Udp,
    /// Somebody says where it is, or asks.
    Arp {
        /// Whose address it is.
        sender: Ipv4Address,
    },
    /// For the interface alone, if for anybody: an echo request, a fragment, nonsense.
    Other,
}

/// The ends of a TCP segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    /// Where its frame comes from.
    pub(super) mac: EthernetAddress,
    pub(super) remote: End,
    pub(super) local: End,
    /// It is the first of a connection: a SYN that acknowledges nothing.
    pub(super) first: bool,
    /// It has bytes for whoever reads the connection.
    pub(super) carries: bool,
}

impl Received {
    pub(super) fn parse(frame: &[u8]) -> Self {
        Self::parse_checked(frame).unwrap_or(Received::Other)
    }

    fn parse_checked(frame: &[u8]) -> Option<Self> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        match ethernet.ethertype() {
            EthernetProtocol::Ipv4 => {}
            EthernetProtocol::Arp => {
                let arp = ArpPacket::new_checked(ethernet.payload()).ok()?;
                let sender: [u8; 4] = arp.source_protocol_addr().try_into().ok()?;
                return Some(Received::Arp {
                    sender: sender.into(),
                });
            }
            _ => return None,
        }
        let ipv4 = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
        if ipv4.more_frags() || ipv4.frag_offset() != 0 {
            return None;
        }
        match ipv4.next_header() {
            IpProtocol::Udp => Some(Received::Udp),
            IpProtocol::Tcp => {
                let tcp = TcpPacket::new_checked(ipv4.payload()).ok()?;
                Some(Received::Tcp(Segment {
                    mac: ethernet.src_addr(),
                    remote: (ipv4.src_addr(), tcp.src_port()),
                    local: (ipv4.dst_addr(), tcp.dst_port()),
                    first: tcp.syn() && !tcp.ack() && !tcp.rst() && ethernet.src_addr().is_unicast(),
                    carries: !tcp.payload().is_empty(),
                }))
            }
            _ => None,
        }
    }
}

/// What a connection is found by: its client's address and port, and the port here. The service has one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key(u64);

impl Key {
    pub(super) fn new(remote: End, local_port: u16) -> Self {
        let (address, port) = remote;
        Self(u64::from(address.to_bits()) << 32 | u64::from(port) << 16 | u64::from(local_port))
    }
}

impl Segment {
    pub(super) fn key(&self) -> Key {
        Key::new(self.remote, self.local.1)
    }
}

/// Nobody comes after this one.
const END: u16 = u16::MAX;

/// A slot's place in the table.
#[derive(Debug)]
pub(super) struct Place {
    /// What it is found by, while it is in the table.
    key: Option<Key>,
    next: u16,
}

impl Place {
    /// Not in the table.
    pub(super) const fn new() -> Self {
        Self { key: None, next: END }
    }
}

/// The connections by their keys.
#[derive(Debug)]
pub(super) struct Demux {
    /// The first slot of each bucket. Their number is a power of two.
    buckets: &'static mut [u16],
    seed: [u64; 2],
}

/// Buckets for so many slots: chains are of one or two.
pub(super) const fn buckets_len(slots: usize) -> usize {
    slots.next_power_of_two()
}

impl Demux {
    /// An empty table. `seed` has to be hard to guess.
    pub(super) fn create<A: Allocator + Clone + 'static>(
        allocator: &A,
        slots: usize,
        seed: [u64; 2],
    ) -> Result<Self, ServiceError> {
        let buckets = leak(buckets_len(slots), allocator, |_| Ok(END))?;
        Ok(Self { buckets, seed })
    }

    /// A product of twice the width, folded: each bit of the key and of the seed bears on each of the result.
    fn bucket(&self, key: Key) -> usize {
        let fold = |left: u64, right: u64| {
            let product = u128::from(left) * u128::from(right);
            product as u64 ^ (product >> 64) as u64
        };
        let hash = fold(fold(key.0 ^ self.seed[0], self.seed[1] | 1), self.seed[0] | 1);
        hash as usize & (self.buckets.len() - 1)
    }

    /// The slot that was put in last under `key`.
    pub(super) fn find<T: AsRef<Place>>(&self, slots: &[T], key: Key) -> Option<u16> {
        let mut at = self.buckets[self.bucket(key)];
        while at != END {
            let place = slots[usize::from(at)].as_ref();
            if place.key == Some(key) {
                return Some(at);
            }
            at = place.next;
        }
        None
    }

    /// Puts `slot` in under `key`, in place of what it was under.
    pub(super) fn insert<T: AsRef<Place> + AsMut<Place>>(&mut self, slots: &mut [T], slot: u16, key: Key) {
        self.remove(slots, slot);
        let bucket = self.bucket(key);
        *slots[usize::from(slot)].as_mut() = Place {
            key: Some(key),
            next: self.buckets[bucket],
        };
        self.buckets[bucket] = slot;
    }

    /// Takes `slot` out, if it is in there.
    pub(super) fn remove<T: AsRef<Place> + AsMut<Place>>(&mut self, slots: &mut [T], slot: u16) {
        let Some(key) = slots[usize::from(slot)].as_mut().key.take() else {
            return;
        };
        let next = slots[usize::from(slot)].as_ref().next;
        let bucket = self.bucket(key);
        let mut at = self.buckets[bucket];
        if at == slot {
            self.buckets[bucket] = next;
            return;
        }
        loop {
            let place = slots[usize::from(at)].as_mut();
            if place.next == slot {
                place.next = next;
                return;
            }
            at = place.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use allocator_api2::alloc::Global;
    use proptest::prelude::*;

    use super::*;

    const SLOTS: usize = 9;

    impl AsRef<Place> for Place {
        fn as_ref(&self) -> &Place {
            self
        }
    }

    impl AsMut<Place> for Place {
        fn as_mut(&mut self) -> &mut Place {
            self
        }
    }

    fn key(number: u8) -> Key {
        Key::new((Ipv4Address::new(10, 0, 0, number), 4000), 80)
    }

    proptest! {
        /// Against a list of what was put in: the newest under a key is found, whatever else there is in its bucket.
        #[test]
        fn finds_what_was_put_in(
            seed in any::<[u64; 2]>(),
            steps in prop::collection::vec((0..SLOTS as u16, prop::option::of(0u8..12)), 1..200),
        ) {
            let mut slots: Vec<Place> = (0..SLOTS).map(|_| Place::new()).collect();
            let mut demux = Demux::create(&Global, SLOTS, seed).unwrap();
            let mut model: Vec<(u16, Key)> = Vec::new();
            for (slot, put) in steps {
                model.retain(|(other, _)| *other != slot);
                match put {
                    Some(number) => {
                        demux.insert(&mut slots, slot, key(number));
                        model.push((slot, key(number)));
                    }
                    None => demux.remove(&mut slots, slot),
                }
                for number in 0..12 {
                    let newest = model.iter().rev().find(|(_, other)| *other == key(number));
                    prop_assert_eq!(demux.find(&slots, key(number)), newest.map(|(slot, _)| *slot));
                }
            }
        }
    }

    #[test]
    fn ports_of_one_client_spread_over_the_buckets() {
        let slots = 1024;
        let demux = Demux::create(&Global, slots, [0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321]).unwrap();
        let mut chains = std::vec![0; demux.buckets.len()];
        for port in 40_000..40_000 + slots as u16 {
            chains[demux.bucket(Key::new((Ipv4Address::new(10, 77, 0, 1), port), 6379))] += 1;
        }
        assert!(chains.iter().max() <= Some(&12), "{:?}", chains.iter().max());
    }

    #[test]
    fn nonsense_is_the_interfaces() {
        assert_eq!(Received::parse(&[]), Received::Other);
        let mut frame = [0u8; 60];
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        assert_eq!(Received::parse(&frame), Received::Other);
        frame[12..14].copy_from_slice(&[0x08, 0x06]);
        assert_eq!(Received::parse(&frame), Received::Other);
    }
}

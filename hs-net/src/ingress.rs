//! The spare's ear: what clients send to the service, kept for a while, so that a takeover can take up what the checkpoint does
//! not cover.
//!
//! A request that was on its way when the master died would otherwise wait for its client's retransmission timer, 200 ms and
//! more. So the spare hears the service's frames too ([`hs_core::role::Hearing`] says how), in silence, and keeps the newest in a
//! ring. At a takeover those that the checkpoint covers are told from the others by [`Fingerprint`]s: the stack notes one of
//! each such frame that it takes in, and so a checkpoint holds those of the last ([`Recent`]).
//!
//! ```text
//!  heard    o o o o o o o o o o o o o o o          oldest to newest; all but the last few are covered
//!  recent         x x x x x x x x x                in the checkpoint: the last that its stack had taken in
//!           └ older ┘               └─┴─┘ uncovered: taken in now
//! ```
//!
//! A frame that came twice counts twice. TCP would sort out repeated frames by itself, at the price of an answer to each; for
//! UDP a datagram that is executed again is a wrong answer.
//!
//! Deliberately absent: any look into connections; the stack does that.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use crate::commit::CommitQueue;

/// Bytes of the ring. Longer than what clients send in an epoch and the time to its acknowledgement: their windows bound that.
const RING_LEN: usize = 1 << 20;

/// Fingerprints in a checkpoint: as many as tell where its input ended.
const RECENT_MAX: usize = 256;

const ETHERNET_ADDRESSES_LEN: usize = 12;
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
/// Where an ARP packet for IPv4 over Ethernet names whom it asks for.
const ARP_TARGET: core::ops::Range<usize> = 38..42;

/// Whether `frame` is for the service at `mac` and `address`: sent to it, or a question for its hardware address. What else a
/// stack takes in, such as what a network says to all, neither is kept by an [`Ear`] nor may it drive the others out of [`Recent`].
pub fn is_for_service(frame: &[u8], mac: [u8; 6], address: Ipv4Addr) -> bool {
    let asks = frame.get(12..14) == Some(&ETHERTYPE_ARP) && frame.get(ARP_TARGET) == Some(&address.octets());
    asks || frame.starts_with(&mac)
}

/// Tells frames apart: by headers, and so by checksums too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint of `frame`, whatever hardware addresses it went between.
    pub fn of(frame: &[u8]) -> Self {
        /// The longest headers of IPv4 and TCP, to a multiple of eight.
        const HEADERS_LEN: usize = 2 + 60 + 60 + 6;
        /// An odd number with bits all over: 2^64 over the golden ratio.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let start = frame.len().min(ETHERNET_ADDRESSES_LEN);
        let headers = &frame[start..frame.len().min(start + HEADERS_LEN)];
        let (words, rest) = headers.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let words = words.iter().chain(core::iter::once(&last));
        let mix = |hash: u64, word: &[u8; 8]| {
            (hash.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(SPREAD)
        };
        Self(words.fold(frame.len() as u64, mix))
    }
}

/// The fingerprints of the frames [for the service](is_for_service) that a stack took in last. Lies in checkpointable memory.
#[derive(Debug)]
pub struct Recent {
    ring: [Fingerprint; RECENT_MAX],
    count: u64,
}

impl Default for Recent {
    fn default() -> Self {
        Self::new()
    }
}

impl Recent {
    /// None yet.
    pub const fn new() -> Self {
        Self {
            ring: [Fingerprint(0); RECENT_MAX],
            count: 0,
        }
    }

    /// A frame was taken in.
    pub fn note(&mut self, frame: &[u8]) {
        self.ring[(self.count % RECENT_MAX as u64) as usize] = Fingerprint::of(frame);
        self.count += 1;
    }

    fn known(&self) -> &[Fingerprint] {
        &self.ring[..RECENT_MAX.min(self.count as usize)]
    }
}

/// Keeps what it hears.
#[derive(Debug)]
pub struct Ear {
    mac: [u8; 6],
    address: Ipv4Addr,
    ring: CommitQueue,
    /// Frames that gave way to newer ones.
    forgotten: u64,
}

/// What was heard and a checkpoint does not cover.
#[derive(Debug)]
pub struct Uncovered<'a> {
    /// The frames, oldest first.
    pub frames: Vec<&'a [u8]>,
    /// Whether there may have been more, which the ring had no room for.
    pub may_lack: bool,
}

impl Ear {
    /// Listens for what is sent to the service at `mac` and `address`.
    pub fn new(mac: [u8; 6], address: Ipv4Addr) -> Self {
        Self::with_room(mac, address, RING_LEN)
    }

    /// The same, with a ring of so many bytes.
    pub(crate) fn with_room(mac: [u8; 6], address: Ipv4Addr, ring_len: usize) -> Self {
        Self {
            mac,
            address,
            ring: CommitQueue::new(Box::leak(alloc::vec![0; ring_len].into_boxed_slice())),
            forgotten: 0,
        }
    }

    /// Keeps `frame`, if it is [for the service](is_for_service).
    pub fn hear(&mut self, frame: &[u8]) {
        if !is_for_service(frame, self.mac, self.address) {
            return;
        }
        while !self.ring.has_room(frame.len()) {
            if self.ring.frames() == 0 {
                return;
            }
            self.ring.release_all();
            self.ring.pop();
            self.forgotten += 1;
        }
        self.ring.push(frame.len(), |into| into.copy_from_slice(frame));
    }

    /// What was heard after the last frame that `recent` knows of, and before it without having been taken in.
    pub fn uncovered(&self, recent: &Recent) -> Uncovered<'_> {
        let mut known: Vec<(Fingerprint, bool)> = recent
            .known()
            .iter()
            .map(|fingerprint| (*fingerprint, false))
            .collect();
        known.sort_unstable();
        let heard: Vec<&[u8]> = self.ring.iter().collect();
        let mut frames = Vec::new();
        // Up to the oldest one that is known: what was heard before that is older than all that is known.
        let mut until_oldest_known = None;
        // From the newest on: what was taken in long ago and came again does not count as the end of what is known.
        for &frame in heard.iter().rev() {
            let fingerprint = Fingerprint::of(frame);
            let from = known.partition_point(|(other, _)| *other < fingerprint);
            let twin = known[from..]
                .iter_mut()
                .take_while(|(other, _)| *other == fingerprint)
                .find(|(_, met)| !met);
            match twin {
                Some((_, met)) => {
                    *met = true;
                    until_oldest_known = Some(frames.len());
                }
                None => frames.push(frame),
            }
        }
        frames.truncate(until_oldest_known.unwrap_or(frames.len()));
        frames.reverse();
        Uncovered {
            frames,
            may_lack: until_oldest_known.is_none() && self.forgotten > 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use proptest::prelude::*;

    use super::*;

    const MAC: [u8; 6] = [2, 0x48, 10, 77, 0, 10];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);

    /// A frame for the service that says `number`, `len` bytes long.
    fn frame(number: u16, len: usize) -> Vec<u8> {
        let mut frame = vec![0; len.max(60)];
        frame[..6].copy_from_slice(&MAC);
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[40..42].copy_from_slice(&number.to_be_bytes());
        frame
    }

    #[test]
    fn keeps_what_is_for_the_service_alone() {
        let mut ear = Ear::new(MAC, ADDRESS);
        ear.hear(&frame(1, 60));
        let mut other = frame(2, 60);
        other[5] ^= 1;
        ear.hear(&other);
        let mut question = vec![0xff; 42];
        question[12..14].copy_from_slice(&ETHERTYPE_ARP);
        ear.hear(&question);
        question[ARP_TARGET].copy_from_slice(&ADDRESS.octets());
        ear.hear(&question);
        ear.hear(&[]);
        let none = Recent::new();
        assert_eq!(ear.uncovered(&none).frames, [&frame(1, 60)[..], &question[..]]);
    }

    proptest! {
        /// Of a stream with repeated frames, of which the stack has taken in a beginning: the rest, and nothing else, however
        /// much of the beginning the ring and the fingerprints have forgotten. Only what is alike to something taken in may be
        /// missing.
        #[test]
        fn finds_the_rest_of_the_stream(
            numbers in prop::collection::vec((0u16..40, 60usize..1514), 1..900),
            taken_share in 0usize..=100,
            heard_from in 0usize..300,
            ring_len in prop_oneof![Just(1usize << 14), Just(1 << 17), Just(1 << 20)],
        ) {
            // Repeats are near each other, as retransmissions are.
            let frames: Vec<Vec<u8>> = numbers
                .iter()
                .enumerate()
                .map(|(index, (number, len))| frame((index / 20 * 40) as u16 + number, *len))
                .collect();
            let taken = numbers.len() * taken_share / 100;
            let mut recent = Recent::new();
            frames[..taken].iter().for_each(|frame| recent.note(frame));
            let heard_from = heard_from.min(taken);
            let mut ear = Ear::with_room(MAC, ADDRESS, ring_len);
            frames[heard_from..].iter().for_each(|frame| ear.hear(frame));
            let found = ear.uncovered(&recent);
            let rest = &frames[taken..];
            let mut left: Vec<&[u8]> = rest.iter().map(|frame| &frame[..]).collect();
            for frame in &found.frames {
                let twin = left.iter().position(|other| other == frame);
                prop_assert!(twin.is_some(), "covered, and taken in again");
                left.remove(twin.unwrap_or(0));
            }
            let forgotten = (ear.forgotten as usize).saturating_sub(taken - heard_from);
            prop_assert!(forgotten == 0 || taken == 0 || found.may_lack || !found.frames.is_empty());
            if forgotten == 0 {
                let twinless = left.iter().find(|frame| !frames[..taken].iter().any(|other| other == *frame));
                prop_assert_eq!(twinless, None, "lost");
            }
        }
    }
}

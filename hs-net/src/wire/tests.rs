use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const A: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 9);
const AGENT: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 254);
const MAC_AGENT: [u8; 6] = [2, 0, 0, 0, 0, 0xe];
const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
const MAC_B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

fn ends() -> (Wire, Wire) {
    (Wire::new(MAC_A, A, B, true), Wire::new(MAC_B, B, A, true))
}

fn wrapped(wire: &mut Wire, datagram: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xee; HEADERS_LEN + datagram.len()];
    frame[HEADERS_LEN..].copy_from_slice(datagram);
    let len = wire.wrap(&mut frame, datagram.len());
    assert_eq!(len, frame.len());
    frame
}

proptest! {
    #[test]
    fn what_is_wrapped_arrives(datagram in prop::collection::vec(any::<u8>(), 0..1472), padding in 0usize..40) {
        let (mut a, b) = ends();
        let mut frame = wrapped(&mut a, &datagram);
        // Short frames are padded on a real wire.
        frame.extend(vec![0; padding]);
        prop_assert_eq!(b.receive(&frame), Received::Datagram(&datagram[..]));
        prop_assert_eq!(a.receive(&frame), Received::Other);
    }

    #[test]
    fn echoes_arrive(
        is_reply in any::<bool>(),
        identifier in any::<u16>(),
        sequence in any::<u16>(),
        data in prop::collection::vec(any::<u8>(), 0..80),
        at in any::<prop::sample::Index>(),
        bit in 0u32..8,
    ) {
        let (mut a, b) = ends();
        let echo = Echo { is_reply, identifier, sequence, data: &data };
        let mut frame = vec![0xee; 200];
        let len = a.wrap_echo(&mut frame, &echo);
        frame.truncate(len);
        prop_assert_eq!(b.receive(&frame), Received::Echo(echo));
        // Nobody but the peer is answered.
        prop_assert_eq!(Wire::new(MAC_B, B, CLIENT, false).receive(&frame), Received::Other);
        let at = at.index(frame.len());
        frame[at] ^= 1u8 << bit;
        if let Received::Echo(got) = b.receive(&frame) {
            prop_assert!((6..12).contains(&at), "byte {} was flipped, and {:?} came", at, got);
        }
    }

    /// One flipped bit is never a datagram, unless it is in what is not looked at.
    #[test]
    fn damage_is_noticed(
        datagram in prop::collection::vec(any::<u8>(), 1..200),
        at in any::<prop::sample::Index>(),
        bit in 0u32..8,
        is_agent in any::<bool>(),
    ) {
        let (mut a, b) = ends();
        let b = b.with_agent(Some(AGENT));
        let mut frame = if is_agent { of_agent(5000, &datagram) } else { wrapped(&mut a, &datagram) };
        let at = at.index(frame.len());
        frame[at] ^= 1u8 << bit;
        if let Received::Datagram(got) | Received::Agent(got) = b.receive(&frame) {
            prop_assert!((6..12).contains(&at), "byte {} was flipped, and {:?} came", at, got);
        }
    }

    #[test]
    fn no_frame_is_too_bad(mut frame in prop::collection::vec(any::<u8>(), 0..120), nearly in any::<bool>()) {
        let (_, b) = ends();
        if nearly && frame.len() > 34 {
            frame[..6].copy_from_slice(&MAC_B);
            frame[12..15].copy_from_slice(&[8, 0, 0x45]);
            frame[23] = 17;
            frame[30..34].copy_from_slice(&B.octets());
        }
        b.receive(&frame);
    }
}

#[test]
fn the_peer_is_learned_and_forgotten() {
    let (mut a, mut b) = ends();
    let first = wrapped(&mut a, b"hello");
    assert_eq!(first[..6], [0xff; 6], "nobody is known yet");
    b.learn_peer(&first);
    assert_eq!(wrapped(&mut b, b"hello")[..6], MAC_A);
    b.forget_peer();
    assert_eq!(wrapped(&mut b, b"hello")[..6], [0xff; 6]);
}

#[test]
fn strangers_are_refused_by_name() {
    let (_, b) = ends();
    let stranger = Ipv4Addr::new(10, 78, 0, 9);
    let mut other = Wire::new([2, 0, 0, 0, 0, 9], stranger, B, true);
    assert_eq!(
        b.receive(&wrapped(&mut other, b"x")),
        Received::Refused(Refusal::Stranger(stranger))
    );
}

/// A datagram of the agent's, from this port.
fn of_agent(port: u16, datagram: &[u8]) -> Vec<u8> {
    let mut agent = Wire::new(MAC_AGENT, AGENT, B, false);
    let mut frame = wrapped(&mut agent, datagram);
    frame[34..36].copy_from_slice(&port.to_be_bytes());
    checksum::fill_udp(AGENT, B, &mut frame[34..]);
    frame
}

#[test]
fn the_agent_is_heard_where_it_is_known_and_answered_where_it_spoke_from() {
    let (_, stranger) = ends();
    let frame = of_agent(40_001, b"dead");
    assert_eq!(
        stranger.receive(&frame),
        Received::Refused(Refusal::Stranger(AGENT))
    );
    let mut b = ends().1.with_agent(Some(AGENT));
    assert_eq!(b.receive(&frame), Received::Agent(b"dead"));
    let mut answer = vec![0; HEADERS_LEN + 5];
    answer[HEADERS_LEN..].copy_from_slice(b"noted");
    assert_eq!(b.wrap_for_agent(&mut answer, 5), None, "nobody has spoken yet");
    b.learn_agent(&frame);
    assert_eq!(b.wrap_for_agent(&mut answer, 5), Some(HEADERS_LEN + 5));
    assert_eq!(answer[..6], MAC_AGENT);
    assert_eq!(answer[30..34], AGENT.octets());
    assert_eq!(answer[36..38], 40_001u16.to_be_bytes());
    // The peer is heard as before, and its frames teach nothing of the agent.
    let of_peer = wrapped(&mut ends().0, b"hello");
    assert_eq!(b.receive(&of_peer), Received::Datagram(b"hello"));
}

#[test]
fn arp_is_answered_on_the_cluster_link_alone() {
    let (a, _) = ends();
    let query = |target| {
        arp_frame(
            ArpOperation::Request,
            (EthernetAddress(MAC_B), B),
            (EthernetAddress([0; 6]), target),
            EthernetAddress::BROADCAST,
        )
    };
    let Received::Arp(reply) = a.receive(&query(A)) else {
        panic!("no answer")
    };
    assert_eq!(reply[..6], MAC_B);
    let packet = ArpPacket::new_checked(&reply[14..]).unwrap();
    assert!(matches!(
        ArpRepr::parse(&packet),
        Ok(ArpRepr::EthernetIpv4 { operation: ArpOperation::Reply, source_hardware_addr, source_protocol_addr, .. })
            if source_hardware_addr == EthernetAddress(MAC_A) && source_protocol_addr == A
    ));
    assert_eq!(a.receive(&query(Ipv4Addr::new(10, 78, 0, 9))), Received::Other);
    assert_eq!(Wire::new(MAC_A, A, B, false).receive(&query(A)), Received::Other);
}

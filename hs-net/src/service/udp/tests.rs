//! UDP between two stacks, back to back.

use core::time::Duration;
use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

use allocator_api2::alloc::Global;
use hs_core::platform::Instant;
use hs_core::role::Network;
use proptest::prelude::*;

use super::*;

const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 10), Ipv4Addr::new(10, 77, 0, 1)];
const NOBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 99), 9);

fn at(end: usize, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(ADDRESSES[end], port)
}

/// Two stacks and the wire between them.
struct World {
    now: Instant,
    ends: [&'static mut Service; 2],
}

impl World {
    fn new() -> Self {
        let now = Instant::from_micros(5_000_000);
        let end = |index: usize| {
            let mut config = ServiceConfig::new(Network {
                address: ADDRESSES[index],
                prefix_len: 24,
            });
            (
                config.connections_max,
                config.udp_datagrams_max,
                config.udp_buffer_len,
            ) = (1, 4, 2048);
            let mac = [2, 0, 0, 0, 0, index as u8];
            Service::create(&Global, &config, mac, index as u64, now).unwrap()
        };
        Self {
            now,
            ends: [end(0), end(1)],
        }
    }

    /// Carries frames until there are none.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let mut moved = false;
            for from in 0..2 {
                self.ends[from].egress(self.now);
                let queue = self.ends[from].queue();
                queue.release(queue.tail());
                while let Some(frame) = self.ends[from].queue().front().map(<[u8]>::to_vec) {
                    self.ends[from].queue().pop();
                    self.ends[1 - from].ingest(self.now, &frame);
                    moved = true;
                }
                self.ends[from].refresh(self.now);
            }
            self.now = self.now + Duration::from_micros(50);
            if !moved {
                return;
            }
        }
        panic!("it never settles");
    }

    /// Until `until`, from timer to timer.
    fn run_until(&mut self, until: Instant) {
        loop {
            self.settle();
            let now = self.now;
            let next = self.ends.iter_mut().filter_map(|end| end.poll_at(now)).min();
            match next {
                Some(at) if at < until => self.now = self.now.max(at),
                _ => return self.now = self.now.max(until),
            }
        }
    }

    fn open(&mut self, end: usize, number: u32, port: u16) -> u16 {
        self.ends[end].udp_open(number).unwrap();
        self.ends[end].udp_bind(number, port).unwrap()
    }

    fn read(&mut self, end: usize, number: u32) -> Vec<(Vec<u8>, SocketAddrV4)> {
        let mut buffer = [0; 2048];
        let mut read = Vec::new();
        while let Some((len, from)) = self.ends[end].udp_recv(number, &mut buffer).unwrap() {
            read.push((buffer[..len].to_vec(), from));
        }
        read
    }
}

#[test]
fn datagrams_go_there_and_back() {
    let mut world = World::new();
    world.open(0, 3, 53);
    let port = world.open(1, 7, 0);
    assert_eq!(port, ANY_PORT_FIRST);
    world.ends[1].udp_send(7, Some(at(0, 53)), b"question").unwrap();
    world.settle();
    assert!(world.ends[0].has_datagrams());
    assert_eq!(world.read(0, 3), [(b"question".to_vec(), at(1, port))]);
    assert!(!world.ends[0].has_datagrams());
    world.ends[0].udp_send(3, Some(at(1, port)), b"").unwrap();
    world.ends[0].udp_send(3, Some(at(1, port)), b"answer").unwrap();
    world.settle();
    let read = world.read(1, 7);
    assert_eq!(read, [(vec![], at(0, 53)), (b"answer".to_vec(), at(0, 53))]);
    assert_eq!(world.ends[0].udp_name(3), Ok(at(0, 53)));
}

#[test]
fn a_connected_socket_hears_its_peer_only() {
    let mut world = World::new();
    world.open(0, 3, 53);
    world.open(1, 3, 1000);
    world.open(1, 4, 1001);
    world.ends[0].udp_connect(3, Some(at(1, 1000))).unwrap();
    assert_eq!(world.ends[0].udp_peer(3), Ok(Some(at(1, 1000))));
    world.ends[1].udp_send(4, Some(at(0, 53)), b"stranger").unwrap();
    world.ends[1].udp_send(3, Some(at(0, 53)), b"peer").unwrap();
    world.settle();
    assert_eq!(world.read(0, 3), [(b"peer".to_vec(), at(1, 1000))]);
    world.ends[0].udp_send(3, None, b"back").unwrap();
    world.settle();
    assert_eq!(world.read(1, 3), [(b"back".to_vec(), at(0, 53))]);
    world.ends[0].udp_connect(3, None).unwrap();
    assert_eq!(world.ends[0].udp_send(3, None, b""), Err(UdpError::NotConnected));
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let mut world = World::new();
    world.open(0, 3, 53);
    let service = &mut world.ends[0];
    service.udp_open(4).unwrap();
    assert_eq!(service.udp_name(4), Ok(UNBOUND));
    assert_eq!(service.udp_recv(4, &mut [0]), Ok(None));
    assert_eq!(service.udp_bind(4, 53), Err(UdpError::InUse(53)));
    assert_eq!(service.udp_bind(3, 54), Err(UdpError::Bound(53)));
    assert_eq!(service.udp_bind(5, 54), Err(UdpError::NotOpen));
    let (len_bytes, max_bytes) = (1473, 1472);
    assert_eq!(
        service.udp_send(3, Some(at(1, 9)), &[0; 1473]),
        Err(UdpError::TooLong { len_bytes, max_bytes })
    );
    for unreachable in [
        SocketAddrV4::new(Ipv4Addr::new(10, 78, 0, 1), 9),
        SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 255), 9),
        at(0, 9),
        at(1, 0),
        UNBOUND,
    ] {
        let error = UdpError::Unreachable(unreachable);
        assert_eq!(service.udp_send(3, Some(unreachable), b""), Err(error));
        assert_eq!(service.udp_connect(3, Some(unreachable)), Err(error));
    }
    for number in 5..3 + UDP_SOCKETS_MAX as u32 {
        service.udp_open(number).unwrap();
    }
    assert_eq!(service.udp_open(99), Err(UdpError::TooMany));
    service.udp_retain(|number| number == 4);
    assert_eq!(service.udp_name(3), Err(UdpError::NotOpen));
    service.udp_open(3).unwrap();
    service.udp_bind(3, 53).unwrap();
    // Bound by sending.
    service.udp_send(4, Some(at(1, 9)), b"").unwrap();
    assert_eq!(service.udp_name(4), Ok(at(0, ANY_PORT_FIRST)));
}

/// What nobody answers for is held for some seconds, and then does not stand in the way.
#[test]
fn a_silent_neighbour_does_not_block_a_socket_for_ever() {
    let mut world = World::new();
    world.open(0, 3, 53);
    world.open(1, 3, 1000);
    let sent = (0..).take_while(|_| world.ends[0].udp_send(3, Some(NOBODY), b"anybody?").is_ok());
    assert_eq!(sent.count(), 4, "the buffer is bounded");
    assert_eq!(
        world.ends[0].udp_send(3, Some(at(1, 1000)), b"you"),
        Err(UdpError::NoRoom)
    );
    let until = world.now + Duration::from_micros(UNSENT_US as u64 - 100_000);
    world.run_until(until);
    assert_eq!(
        world.ends[0].udp_send(3, Some(at(1, 1000)), b"you"),
        Err(UdpError::NoRoom)
    );
    world.run_until(until + Duration::from_secs(2));
    world.ends[0].udp_send(3, Some(at(1, 1000)), b"you").unwrap();
    world.run_until(until + Duration::from_secs(4));
    assert_eq!(world.read(1, 3), [(b"you".to_vec(), at(0, 53))]);
}

#[test]
fn a_restored_stack_keeps_what_waits_in_its_sockets() {
    let mut world = World::new();
    world.open(0, 3, 53);
    let port = world.open(1, 3, 0);
    world.ends[1].udp_send(3, Some(at(0, 53)), b"before").unwrap();
    world.settle();
    world.ends[0].reset_after_restore(Instant::from_micros(77));
    world.ends[1].udp_send(3, Some(at(0, 53)), b"after").unwrap();
    world.settle();
    world.ends[0].udp_send(3, Some(at(1, port)), b"here").unwrap();
    world.run_until(world.now + Duration::from_secs(2));
    assert_eq!(world.read(1, 3), [(b"here".to_vec(), at(0, 53))]);
    let kept = world.read(0, 3);
    assert_eq!(kept[0].0, b"before");
    assert_eq!(kept[1].0, b"after");
}

#[derive(Clone, Debug)]
enum Step {
    Open(usize, u32, u16),
    Connect(usize, u32, Option<u16>),
    Send(usize, u32, u16, usize),
    Read(usize, u32),
    Close(usize, u32),
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    let (end, number, port) = (0_usize..2, 3_u32..6, 100_u16..103);
    prop_oneof![
        2 => (end.clone(), number.clone(), port.clone()).prop_map(|(e, n, p)| Step::Open(e, n, p)),
        1 => (end.clone(), number.clone(), prop::option::of(port.clone()))
            .prop_map(|(e, n, p)| Step::Connect(e, n, p)),
        6 => (end.clone(), number.clone(), port, 0_usize..800).prop_map(|(e, n, p, l)| Step::Send(e, n, p, l)),
        3 => (end.clone(), number.clone()).prop_map(|(e, n)| Step::Read(e, n)),
        1 => (end, number).prop_map(|(e, n)| Step::Close(e, n)),
        3 => Just(Step::Settle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    /// Whatever is opened, sent and closed: what is read from a port was sent to it, whole, in the order of its sending
    /// and once; and without too many at once nothing is missing.
    #[test]
    fn what_is_read_was_sent(steps in prop::collection::vec(step(), 1..200)) {
        let mut world = World::new();
        let mut sent: [VecDeque<(SocketAddrV4, SocketAddrV4, Vec<u8>)>; 2] = Default::default();
        let mut serial = 0_u64;
        for step in steps {
            match step {
                Step::Open(end, number, port) => {
                    let service = &mut world.ends[end];
                    if service.udp_name(number).is_err() && service.udp_open(number).is_ok() {
                        let taken = world.ends[end].is_udp_port_used(port);
                        prop_assert_eq!(world.ends[end].udp_bind(number, port).is_err(), taken);
                        if taken {
                            world.ends[end].udp_close(number).unwrap();
                        }
                    }
                }
                Step::Connect(end, number, port) => {
                    let _ = world.ends[end].udp_connect(number, port.map(|port| at(1 - end, port)));
                }
                Step::Send(end, number, port, len) => {
                    serial += 1;
                    let mut bytes = vec![serial as u8; len];
                    bytes.extend(serial.to_le_bytes());
                    if world.ends[end].udp_send(number, Some(at(1 - end, port)), &bytes).is_ok() {
                        let from = world.ends[end].udp_name(number).unwrap();
                        sent[1 - end].push_back((from, at(1 - end, port), bytes));
                    }
                }
                Step::Read(end, number) if world.ends[end].udp_name(number).is_ok() => {
                    let to = world.ends[end].udp_name(number).unwrap();
                    let peer = world.ends[end].udp_peer(number).unwrap();
                    for (bytes, from) in world.read(end, number) {
                        prop_assert!(peer.is_none_or(|peer| peer == from));
                        // Of one sender the order is kept: what was skipped is lost.
                        let found = sent[end].iter().position(|known| *known == (from, to, bytes.clone()));
                        prop_assert!(found.is_some(), "{bytes:?} was never sent, or read before");
                        let mut index = 0;
                        sent[end].retain(|known| {
                            index += 1;
                            !(index <= found.unwrap() + 1 && known.0 == from && known.1 == to)
                        });
                    }
                }
                Step::Read(..) => {}
                Step::Close(end, number) => {
                    let _ = world.ends[end].udp_close(number);
                }
                Step::Settle => world.settle(),
            }
        }
    }
}

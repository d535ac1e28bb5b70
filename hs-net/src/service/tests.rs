//! The service stack against a client that is smoltcp too, back to back.

mod scale;
mod takeover;

use core::time::Duration;
use std::boxed::Box as StdBox;
use std::collections::VecDeque;
use std::vec;
use std::vec::Vec as StdVec;

use allocator_api2::alloc::Global;
use hs_core::role::Network;
use proptest::prelude::*;
use smoltcp::iface::SocketHandle;
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::wire::{ArpOperation, EthernetFrame, EthernetProtocol, IpAddress, Ipv4Packet, TcpPacket};

use super::demux::{Received, Segment};
use super::entry::Phase;
use super::*;
use crate::sim::Random;
use crate::wire::arp_frame;

const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const PORT: u16 = 6379;

/// The client's card.
#[derive(Default)]
struct Card {
    received: VecDeque<StdVec<u8>>,
    sent: VecDeque<StdVec<u8>>,
}

struct Token<'a>(StdVec<u8>, Option<&'a mut VecDeque<StdVec<u8>>>);

impl phy::RxToken for Token<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, with: F) -> R {
        with(&self.0)
    }
}

impl phy::TxToken for Token<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, with: F) -> R {
        let mut frame = vec![0; len];
        let result = with(&mut frame);
        self.1.expect("a token to send with").push_back(frame);
        result
    }
}

impl phy::Device for Card {
    type RxToken<'a> = Token<'a>;
    type TxToken<'a> = Token<'a>;

    fn receive(&mut self, _: StackInstant) -> Option<(Token<'_>, Token<'_>)> {
        let frame = self.received.pop_front()?;
        Some((Token(frame, None), Token(StdVec::new(), Some(&mut self.sent))))
    }

    fn transmit(&mut self, _: StackInstant) -> Option<Token<'_>> {
        Some(Token(StdVec::new(), Some(&mut self.sent)))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// A client machine and the service, with a wire between them.
struct World {
    now: Instant,
    service: &'static mut Service,
    card: Card,
    interface: Interface,
    sockets: SocketSet<'static>,
    next_port: u16,
    /// Frames of the service's that get lost, one in a thousand each.
    loss_per_mille: u64,
    random: Random,
    echoes: bool,
    events: StdVec<Event>,
    /// Whether the application looks at its events.
    accepts: bool,
}

fn config() -> ServiceConfig {
    let mut config = ServiceConfig::new(Network {
        address: SERVICE,
        prefix_len: 24,
    });
    config.connections_max = 16;
    config.receive_len = 4 << 10;
    config.send_len = 8 << 10;
    config.queue_len = 64 << 10;
    config
}

impl World {
    fn new(config: &ServiceConfig) -> Self {
        let now = Instant::from_micros(5_000_000);
        let service = Service::create(&Global, config, MAC, 42, now).unwrap();
        let mut card = Card::default();
        let mut interface_config =
            smoltcp::iface::Config::new(HardwareAddress::Ethernet(EthernetAddress(CLIENT_MAC)));
        interface_config.random_seed = 7;
        let mut interface = Interface::new(interface_config, &mut card, StackInstant::from_micros(5_000_000));
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::Ipv4(Ipv4Cidr::new(CLIENT, 24))).unwrap();
        });
        Self {
            now,
            service,
            card,
            interface,
            sockets: SocketSet::new(StdBox::leak(
                (0..1100)
                    .map(|_| SocketStorage::EMPTY)
                    .collect::<StdVec<_>>()
                    .into_boxed_slice(),
            ) as &'static mut [_]),
            next_port: 40_000,
            loss_per_mille: 0,
            random: Random(1),
            echoes: true,
            events: StdVec::new(),
            accepts: true,
        }
    }

    fn listening(config: &ServiceConfig) -> Self {
        let world = Self::new(config);
        world.service.listen(PORT, 16).unwrap();
        world
    }

    fn connect(&mut self) -> SocketHandle {
        self.next_port += 1;
        self.connect_from(self.next_port)
    }

    fn connect_from(&mut self, port: u16) -> SocketHandle {
        let buffer =
            || tcp::SocketBuffer::new(StdBox::leak(vec![0u8; 8192].into_boxed_slice()) as &'static mut [u8]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        socket
            .connect(self.interface.context(), (IpAddress::Ipv4(SERVICE), PORT), port)
            .unwrap();
        self.sockets.add(socket)
    }

    fn client(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// The application: echoes, and closes when its client has.
    fn application(&mut self) {
        while self.accepts
            && let Some(event) = self.service.next_event()
        {
            self.events.push(event);
            if self.echoes && !event.news.closed {
                self.echo(event.connection);
            }
        }
    }

    fn echo(&mut self, connection: ConnectionId) {
        let mut bytes = [0; 3000];
        loop {
            let room = self.service.send_room(connection).min(bytes.len());
            if room == 0 {
                return;
            }
            match self.service.recv(connection, &mut bytes[..room]) {
                Ok(0) => return,
                Ok(count) => assert_eq!(self.service.send(connection, &bytes[..count]), Ok(count)),
                Err(ConnectionError::Finished) => return self.service.close(connection),
                Err(ConnectionError::Gone) => return,
            }
        }
    }

    /// One exchange of frames; whether there were any.
    fn step(&mut self) -> bool {
        self.service.egress(self.now);
        self.service.release_all();
        let mut moved = false;
        while let Some(frame) = self.service.next_frame() {
            if !self.random.chance(self.loss_per_mille) {
                self.card.received.push_back(frame.to_vec());
            }
            self.service.forget_frame();
            moved = true;
        }
        let now = StackInstant::from_micros(self.now.as_micros() as i64);
        self.interface.poll(now, &mut self.card, &mut self.sockets);
        while self.service.can_ingest()
            && let Some(frame) = self.card.sent.pop_front()
        {
            if !self.random.chance(self.loss_per_mille) {
                self.service.ingest(self.now, &frame);
            }
            moved = true;
        }
        self.service.refresh(self.now);
        self.application();
        self.now = self.now + Duration::from_micros(50);
        moved
    }

    /// Until nothing more happens without the clock.
    fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..100_000 {
            quiet = if self.step() { 0 } else { quiet + 1 };
            if quiet == 3 {
                return;
            }
        }
        panic!("it never settles");
    }

    /// As [`settle`](World::settle), and then until `until`, from timer to timer.
    fn run_until(&mut self, until: Instant) {
        loop {
            self.settle();
            let client_at = self.interface.poll_at(
                StackInstant::from_micros(self.now.as_micros() as i64),
                &self.sockets,
            );
            let client_at = client_at.map(|at| Instant::from_micros(at.total_micros() as u64));
            let next = client_at.into_iter().chain(self.service.poll_at(self.now)).min();
            match next {
                Some(at) if at < until => self.now = self.now.max(at),
                _ => return self.now = self.now.max(until),
            }
        }
    }

    fn open(&self) -> usize {
        self.service.connections().count()
    }

    fn free(&self) -> usize {
        let entries = self.service.entries.iter();
        entries.filter(|entry| entry.phase == Phase::Free).count()
    }
}

#[test]
fn echoes_and_closes_in_both_directions() {
    let mut world = World::listening(&config());
    let client = world.connect();
    world.settle();
    assert!(world.events[0].news.opened);
    let id = world.events[0].connection;
    assert_eq!(world.service.peer(id), Some("10.77.0.1:40001".parse().unwrap()));
    world.client(client).send_slice(b"hello").unwrap();
    world.settle();
    let mut bytes = [0; 10];
    assert_eq!(world.client(client).recv_slice(&mut bytes), Ok(5));
    assert_eq!(&bytes[..5], b"hello");
    // The client closes its half and still gets what it is owed.
    world.client(client).send_slice(b"last").unwrap();
    world.client(client).close();
    world.settle();
    assert_eq!(world.client(client).recv_slice(&mut bytes), Ok(4));
    world.settle();
    assert_eq!(world.open(), 0);
    assert!(matches!(world.client(client).state(), tcp::State::TimeWait));
    assert_eq!(world.free(), config().slots() - 1);
    assert_eq!(world.service.recv(id, &mut bytes), Err(ConnectionError::Gone));
    assert_eq!(world.service.send(id, b"x"), Err(ConnectionError::Gone));
}

#[test]
fn a_half_closed_connection_says_finished_once_all_is_read() {
    let mut world = World::listening(&config());
    world.echoes = false;
    let client = world.connect();
    world.settle();
    let id = world.events[0].connection;
    world.client(client).send_slice(b"abc").unwrap();
    world.client(client).close();
    world.settle();
    assert!(world.events.iter().any(|event| event.news.readable));
    let mut bytes = [0; 2];
    assert_eq!(world.service.recv(id, &mut bytes), Ok(2));
    assert_eq!(world.service.recv(id, &mut bytes), Ok(1));
    assert_eq!(world.service.recv(id, &mut bytes), Err(ConnectionError::Finished));
    // Our half is still open.
    assert_eq!(world.service.send(id, b"reply"), Ok(5));
    world.settle();
    let mut reply = [0; 8];
    assert_eq!(world.client(client).recv_slice(&mut reply), Ok(5));
    world.service.close(id);
    world.settle();
    assert_eq!(world.free(), config().slots() - 1);
}

#[test]
fn aborts_are_seen_by_the_other_side() {
    let mut world = World::listening(&config());
    let (first, second) = (world.connect(), world.connect());
    world.settle();
    let ids: StdVec<_> = world.service.connections().collect();
    assert_eq!(ids.len(), 2);
    world.client(first).abort();
    world.settle();
    let closed: StdVec<_> = world.events.iter().filter(|event| event.news.closed).collect();
    assert_eq!(closed.len(), 1);
    let other = *ids.iter().find(|id| **id != closed[0].connection).unwrap();
    assert!(!world.service.is_open(closed[0].connection));
    world.service.abort(other);
    world.settle();
    assert_eq!(world.client(second).state(), tcp::State::Closed);
    assert_eq!(world.open(), 0);
    assert_eq!(world.free(), config().slots() - 1);
    assert!(
        world
            .events
            .iter()
            .filter(|event| event.connection == other)
            .all(|event| !event.news.closed)
    );
}

#[test]
fn the_backlog_holds_back_who_comes_too_fast() {
    let mut world = World::new(&config());
    world.service.listen(PORT, 2).unwrap();
    world.accepts = false;
    let clients: StdVec<_> = (0..5).map(|_| world.connect()).collect();
    world.settle();
    let established = |world: &World| {
        let is = |client: &&SocketHandle| {
            world.sockets.get::<tcp::Socket>(**client).state() == tcp::State::Established
        };
        clients.iter().filter(is).count()
    };
    assert_eq!(established(&world), 2);
    assert_eq!(world.service.counters().ignored, 3);
    world.accepts = true;
    let until = world.now + Duration::from_secs(10);
    world.run_until(until);
    assert_eq!(established(&world), 5);
}

#[test]
fn half_open_connections_do_not_stay() {
    let mut world = World::listening(&config());
    let client = world.connect();
    let now = StackInstant::from_micros(world.now.as_micros() as i64);
    // ARP, then the SYN; and then the client vanishes.
    world.step();
    world.step();
    world.interface.poll(now, &mut world.card, &mut world.sockets);
    world.sockets.remove(client);
    world.card.received.clear();
    world.service.refresh(world.now);
    let half_open = |world: &World| {
        world
            .service
            .entries
            .iter()
            .filter(|entry| matches!(entry.phase, Phase::HalfOpen { .. }))
            .count()
    };
    assert_eq!(half_open(&world), 1);
    let silent = |world: &mut World, for_: Duration| {
        let until = world.now + for_;
        while let Some(at) = world.service.poll_at(world.now).filter(|at| *at < until) {
            world.now = at + Duration::from_micros(1);
            world.service.egress(world.now);
            world.service.queue().clear();
            world.service.refresh(world.now);
        }
        world.now = until;
    };
    silent(&mut world, Duration::from_secs(4));
    assert_eq!(half_open(&world), 1);
    silent(&mut world, Duration::from_secs(2));
    assert_eq!(half_open(&world), 0);
    assert_eq!(world.free(), config().slots() - 1);
}

#[test]
fn dead_clients_are_reaped() {
    let mut world = World::listening(&config());
    let free = world.free();
    let client = world.connect();
    world.settle();
    assert_eq!(world.open(), 1);
    // A client that lives answers the keep-alives.
    let until = world.now + Duration::from_secs(300);
    world.run_until(until);
    assert_eq!(world.open(), 1);
    // One that is unplugged does not.
    world.loss_per_mille = 1000;
    let until = world.now + Duration::from_secs(120);
    world.run_until(until);
    assert_eq!(world.open(), 0);
    assert!(world.events.last().unwrap().news.closed);
    assert_eq!(world.client(client).state(), tcp::State::Established);
    // Nobody answers for its address any more; its place is free all the same.
    world.run_until(until + Duration::from_secs(5));
    assert_eq!(world.free(), free);
}

fn first_segment(frame: &[u8]) -> Option<Segment> {
    match Received::parse(frame) {
        Received::Tcp(segment) if segment.first => Some(segment),
        _ => None,
    }
}

/// A client's third SYN, from a world that has come as far as any other of the same steps.
fn third_syn(world: &mut World) -> StdVec<u8> {
    world.connect();
    loop {
        let now = StackInstant::from_micros(world.now.as_micros() as i64);
        world.interface.poll(now, &mut world.card, &mut world.sockets);
        if let Some(frame) = world.card.sent.pop_front() {
            if first_segment(&frame).is_some() {
                return frame;
            }
            world.service.ingest(world.now, &frame);
        }
        world.step();
    }
}

/// A world with a listener whose socket lies before that of the next connection: it looks at segments first.
fn listener_first() -> World {
    let mut world = World::listening(&config());
    let first = world.connect();
    world.settle();
    world.connect();
    world.settle();
    world.client(first).abort();
    world.settle();
    world
}

#[test]
fn a_repeated_syn_makes_no_second_connection() {
    let syn = third_syn(&mut listener_first());
    let mut world = listener_first();
    let client = world.connect();
    world.settle();
    assert_eq!(
        world.client(client).local_endpoint().map(|end| end.port),
        first_segment(&syn).map(|syn| syn.remote.1)
    );
    let slot = world
        .service
        .entries
        .iter()
        .rposition(|entry| entry.phase == Phase::Open)
        .unwrap();
    let listener = world
        .service
        .entries
        .iter()
        .position(|entry| entry.phase == Phase::Listening)
        .unwrap();
    assert!(listener < slot, "otherwise this tests nothing");
    for _ in 0..3 {
        world.service.ingest(world.now, &syn);
        world.service.refresh(world.now);
        world.settle();
    }
    assert_eq!(world.client(client).state(), tcp::State::Established);
    assert_eq!(world.service.counters().opened, 3);
    world.client(client).send_slice(b"still here").unwrap();
    world.settle();
    assert_eq!(world.client(client).recv_queue(), 10);
    // The listener is back.
    let other = world.connect();
    world.settle();
    assert_eq!(world.client(other).state(), tcp::State::Established);
}

#[test]
fn a_port_is_used_again_right_after_the_service_has_closed() {
    let mut world = World::listening(&config());
    let client = world.connect_from(50_000);
    world.settle();
    let id = world.events[0].connection;
    world.service.close(id);
    world.settle();
    world.client(client).close();
    world.settle();
    assert_eq!(world.client(client).state(), tcp::State::Closed);
    world.sockets.remove(client);
    let again = world.connect_from(50_000);
    world.settle();
    assert_eq!(world.client(again).state(), tcp::State::Established);
    world.client(again).send_slice(b"new").unwrap();
    world.settle();
    assert_eq!(world.client(again).recv_queue(), 3);
}

#[test]
fn a_full_queue_stops_the_stack_without_loss() {
    let mut world = World::listening(&config());
    world.echoes = false;
    let client = world.connect();
    world.settle();
    let id = world.events[0].connection;
    // Nothing is released: the queue fills up, with a reply of ARP if with nothing else.
    let query = arp_frame(
        ArpOperation::Request,
        (EthernetAddress(CLIENT_MAC), CLIENT),
        (EthernetAddress([0; 6]), SERVICE),
        EthernetAddress::BROADCAST,
    );
    while world.service.can_ingest() {
        world.service.ingest(world.now, &query);
    }
    let held = world.service.queue().frames();
    assert!(held > 100);
    assert_eq!(world.service.send(id, &[7; 5000]), Ok(5000));
    world.service.egress(world.now);
    assert_eq!(world.service.queue().frames(), held);
    assert!(
        world.service.poll_at(world.now).is_none_or(|at| at > world.now),
        "there is nothing to do at once"
    );
    world.service.ingest(world.now, &query);
    assert_eq!(world.service.counters().dropped, 1);
    world.settle();
    assert_eq!(world.client(client).recv_queue(), 5000);
}

#[test]
fn room_is_announced_once_there_is_some() {
    let mut world = World::listening(&config());
    world.echoes = false;
    let client = world.connect();
    world.settle();
    let id = world.events[0].connection;
    let sent = world.service.send(id, &[1; 50_000]).unwrap();
    assert_eq!(sent, config().send_len);
    world.events.clear();
    world.settle();
    let mut bytes = vec![0; 50_000];
    let mut received = 0;
    for _ in 0..100 {
        received += world.client(client).recv_slice(&mut bytes).unwrap();
        world.settle();
    }
    assert_eq!(received, sent);
    assert_eq!(world.events.iter().filter(|event| event.news.writable).count(), 1);
}

#[test]
fn pings_and_arp_are_answered() {
    let world = World::new(&config());
    let ping = {
        use smoltcp::phy::ChecksumCapabilities;
        use smoltcp::wire::{EthernetRepr, Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Repr};
        let mut frame = vec![0; 14 + 20 + 8 + 4];
        let checksums = ChecksumCapabilities::default();
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame[..]);
        let (src_addr, dst_addr) = (EthernetAddress(CLIENT_MAC), EthernetAddress(MAC));
        EthernetRepr {
            src_addr,
            dst_addr,
            ethertype: EthernetProtocol::Ipv4,
        }
        .emit(&mut ethernet);
        let mut ipv4 = Ipv4Packet::new_unchecked(ethernet.payload_mut());
        Ipv4Repr {
            src_addr: CLIENT,
            dst_addr: SERVICE,
            next_header: IpProtocol::Icmp,
            payload_len: 12,
            hop_limit: 64,
        }
        .emit(&mut ipv4, &checksums);
        let echo = Icmpv4Repr::EchoRequest {
            ident: 1,
            seq_no: 2,
            data: b"ping",
        };
        echo.emit(&mut Icmpv4Packet::new_unchecked(ipv4.payload_mut()), &checksums);
        frame
    };
    let query = arp_frame(
        ArpOperation::Request,
        (EthernetAddress(CLIENT_MAC), CLIENT),
        (EthernetAddress([0; 6]), SERVICE),
        EthernetAddress::BROADCAST,
    );
    world.service.ingest(world.now, &query);
    world.service.ingest(world.now, &ping);
    world.service.egress(world.now);
    let queue = world.service.queue();
    queue.release(queue.tail());
    let reply = queue.front().expect("an answer to the query").to_vec();
    assert_eq!(
        EthernetFrame::new_checked(&reply[..]).unwrap().ethertype(),
        EthernetProtocol::Arp
    );
    queue.pop();
    let reply = queue.front().expect("an answer to the ping").to_vec();
    let ethernet = EthernetFrame::new_checked(&reply[..]).unwrap();
    let ipv4 = Ipv4Packet::new_checked(ethernet.payload()).unwrap();
    assert_eq!((ipv4.src_addr(), ipv4.dst_addr()), (SERVICE, CLIENT));
    assert_eq!(ipv4.payload()[0], 0, "an echo reply");
}

#[test]
fn a_damaged_segment_is_dropped() {
    let mut world = World::listening(&config());
    let client = world.connect();
    world.settle();
    world.client(client).send_slice(b"some bytes").unwrap();
    let now = StackInstant::from_micros(world.now.as_micros() as i64);
    world.interface.poll(now, &mut world.card, &mut world.sockets);
    let frame = world.card.sent.pop_front().expect("a segment");
    for at in 34..frame.len() {
        let mut frame = frame.clone();
        frame[at] ^= 0x20;
        world.service.ingest(world.now, &frame);
    }
    assert_eq!(world.service.counters().dropped, (frame.len() - 34) as u64);
    let id = world.events[0].connection;
    assert_eq!(world.service.recv_queue(id), 0);
    world.service.ingest(world.now, &frame);
    assert_eq!(world.service.recv_queue(id), 10);
}

#[test]
fn what_cannot_be_listened_on_is_refused() {
    let world = World::new(&config());
    assert_eq!(world.service.listen(0, 1), Err(ListenError::NoPort));
    for port in 1..=LISTENERS_MAX as u16 {
        assert_eq!(world.service.listen(port, 1), Ok(()));
        assert_eq!(world.service.listen(port, 1), Err(ListenError::InUse(port)));
    }
    assert_eq!(world.service.listen(99, 1), Err(ListenError::TooMany));
}

/// The stack is restored as the checkpoint had it, on another machine with another clock, with its connections reset.
fn restore(world: &mut World, own_clock: Instant) {
    world.card.received.clear();
    world.card.sent.clear();
    // The client's clock and the new machine's differ; only differences matter to the client.
    world.now = own_clock;
    world.service.reset_after_restore(own_clock);
}

#[test]
fn a_restore_resets_clients_at_once_and_they_come_back() {
    let mut world = World::listening(&config());
    let clients: StdVec<_> = (0..10).map(|_| world.connect()).collect();
    world.settle();
    for &client in &clients {
        world.client(client).send_slice(b"data").unwrap();
    }
    world.settle();
    let known: StdVec<_> = world.service.connections().collect();
    assert_eq!(known.len(), 10);
    world.events.clear();
    let later = world.now + Duration::from_secs(1000);
    restore(&mut world, later);
    world.settle();
    for &client in &clients {
        assert_eq!(world.client(client).state(), tcp::State::Closed);
    }
    // The application hears of each, once.
    let mut closed: StdVec<_> = world
        .events
        .iter()
        .filter(|event| event.news.closed)
        .map(|event| event.connection)
        .collect();
    closed.sort();
    let mut expected = known;
    expected.sort();
    assert_eq!(closed, expected);
    let again = world.connect();
    world.settle();
    assert_eq!(world.client(again).state(), tcp::State::Established);
    world.client(again).send_slice(b"again").unwrap();
    world.settle();
    assert_eq!(world.client(again).recv_queue(), 5);
    assert_eq!(world.free(), config().slots() - 2);
}

/// A client that has seen more than the checkpoint ignores the plain reset: the probe must find it.
#[test]
fn a_client_ahead_of_the_checkpoint_is_reset_too() {
    let mut world = World::listening(&config());
    let client = world.connect();
    world.settle();
    // What the old master sent after its checkpoint: the service never made it.
    let mut ahead = StdVec::new();
    {
        let id = world.events[0].connection;
        world.service.send(id, b"seen by the client alone").unwrap();
        world.service.egress(world.now);
        let queue = world.service.queue();
        queue.release(queue.tail());
        while let Some(frame) = queue.front() {
            ahead.push(frame.to_vec());
            queue.pop();
        }
    }
    // A stack that is just as far as before that: made by the same steps.
    let mut before = World::listening(&config());
    before.connect();
    before.settle();
    world.service = before.service;
    for frame in ahead {
        world.card.received.push_back(frame);
    }
    let now = StackInstant::from_micros(world.now.as_micros() as i64);
    world.interface.poll(now, &mut world.card, &mut world.sockets);
    assert_eq!(world.client(client).recv_queue(), 24);
    // smoltcp answers strange segments once a second.
    let later = world.now + Duration::from_secs(2);
    restore(&mut world, later);
    world.settle();
    assert_eq!(world.client(client).state(), tcp::State::Closed);
}

#[test]
fn a_restore_to_a_younger_clock_goes_on_in_time() {
    let mut world = World::listening(&config());
    world.connect();
    world.settle();
    let old_clock = world.service.clock_us;
    restore(&mut world, Instant::from_micros(17));
    assert!(world.service.clock_us >= old_clock + 1_500_000);
    let at = world.service.poll_at(Instant::from_micros(17));
    assert!(
        at.is_none_or(|at| at.as_micros() < 10_000_000),
        "{at:?} is of the old machine's clock"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever gets lost, every client gets its bytes back, once and in order.
    #[test]
    fn nothing_is_lost_or_mixed_up(seed in any::<u64>(), loss_per_mille in 0u64..100, sizes in prop::collection::vec(0usize..20_000, 1..8)) {
        // No connection is given up here, however unlucky it is.
        let patient = Duration::from_secs(100_000);
        let config = ServiceConfig { timeout: patient, half_open: patient, ..config() };
        let mut world = World::listening(&config);
        world.random = Random(seed);
        world.loss_per_mille = loss_per_mille;
        let mut clients: StdVec<_> = sizes.iter().map(|size| (world.connect(), *size, 0usize, 0usize)).collect();
        let byte = |index: usize, number: usize| (index * 31 + number * 7) as u8;
        for _ in 0..100_000 {
            let mut done = true;
            for (number, (client, size, sent, received)) in clients.iter_mut().enumerate() {
                let socket = world.sockets.get_mut::<tcp::Socket>(*client);
                if socket.may_send() && sent < size {
                    let bytes: StdVec<u8> = (*sent..(*size).min(*sent + 1000)).map(|index| byte(index, number)).collect();
                    *sent += socket.send_slice(&bytes).unwrap();
                }
                let mut bytes = [0; 4000];
                while socket.can_recv() {
                    let count = socket.recv_slice(&mut bytes).unwrap();
                    for got in &bytes[..count] {
                        prop_assert_eq!(*got, byte(*received, number));
                        *received += 1;
                    }
                }
                prop_assert!(*received <= *sent);
                done &= received == size && socket.state() != tcp::State::SynSent;
            }
            if done {
                return Ok(());
            }
            if !world.step() {
                let until = world.now + Duration::from_millis(20);
                world.now = until;
            }
        }
        prop_assert!(false, "it takes for ever");
    }

    /// Any bytes at all may come from the network.
    #[test]
    fn no_frame_is_too_bad(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..50)) {
        let mut world = World::listening(&config());
        let client = world.connect();
        world.settle();
        for mut frame in frames {
            if frame.len() > 34 {
                // Make some of them look nearly right.
                frame[..6].copy_from_slice(&MAC);
                frame[12..15].copy_from_slice(&[8, 0, 0x45]);
            }
            world.service.ingest(world.now, &frame);
            world.service.refresh(world.now);
        }
        world.settle();
        world.client(client).send_slice(b"fine").unwrap();
        world.settle();
        prop_assert_eq!(world.client(client).recv_queue(), 4);
    }
}

/// What is dropped from the wire of a test must be what the test thinks.
#[test]
fn a_syn_is_known_by_its_headers() {
    let mut world = World::listening(&config());
    world.connect();
    let mut syns = 0;
    for _ in 0..6 {
        let now = StackInstant::from_micros(world.now.as_micros() as i64);
        world.interface.poll(now, &mut world.card, &mut world.sockets);
        while let Some(frame) = world.card.sent.pop_front() {
            let syn = first_segment(&frame);
            let ethernet = EthernetFrame::new_checked(&frame[..]).unwrap();
            if ethernet.ethertype() == EthernetProtocol::Ipv4 {
                let ipv4 = Ipv4Packet::new_checked(ethernet.payload()).unwrap();
                let tcp = TcpPacket::new_checked(ipv4.payload()).unwrap();
                assert_eq!(syn.is_some(), tcp.syn());
                syns += usize::from(tcp.syn());
            } else {
                assert!(syn.is_none());
            }
            world.service.ingest(world.now, &frame);
        }
        world.service.egress(world.now);
        let queue = world.service.queue();
        queue.release(queue.tail());
        while let Some(frame) = queue.front() {
            world.card.received.push_back(frame.to_vec());
            queue.pop();
        }
    }
    assert_eq!(syns, 1);
}

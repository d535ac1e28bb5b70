//! What one connection's request costs the service stack while others are open and say nothing: a segment taken in, the
//! answer put into the queue, and the questions that an idle stack is asked.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Duration;

use allocator_api2::alloc::Global;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use hs_core::platform::Instant;
use hs_core::role::Network;
use hs_net::service::{ConnectionId, Service, ServiceConfig};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
    IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const CLIENT_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 9]);
const PORT: u16 = 6379;
const FIRST_PORT: u16 = 10_000;
const REQUEST: &[u8] = b"*2\r\n$4\r\nINCR\r\n$3\r\nkey\r\n";
const REPLY: &[u8] = b":12345\r\n";
/// Connections open at once.
const OPEN: [usize; 3] = [16, 128, 1024];

/// The client's end of a connection: no more than a request and its answer needs.
#[derive(Clone, Copy)]
struct Client {
    port: u16,
    next: TcpSeqNumber,
    expected: TcpSeqNumber,
}

fn segment(client: &Client, control: TcpControl, payload: &[u8]) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    let repr = TcpRepr {
        src_port: client.port,
        dst_port: PORT,
        control,
        seq_number: client.next,
        ack_number: (control != TcpControl::Syn).then_some(client.expected),
        window_len: 60_000,
        window_scale: None,
        max_seg_size: (control == TcpControl::Syn).then_some(1460),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    };
    let mut bytes = vec![0; 14 + 20 + repr.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    let (src_addr, dst_addr, ethertype) = (CLIENT_MAC, MAC, EthernetProtocol::Ipv4);
    EthernetRepr {
        src_addr,
        dst_addr,
        ethertype,
    }
    .emit(&mut frame);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    Ipv4Repr {
        src_addr: CLIENT,
        dst_addr: SERVICE,
        next_header: IpProtocol::Tcp,
        payload_len: repr.buffer_len(),
        hop_limit: 64,
    }
    .emit(&mut packet, &checksums);
    let mut tcp = TcpPacket::new_unchecked(packet.payload_mut());
    repr.emit(
        &mut tcp,
        &IpAddress::Ipv4(CLIENT),
        &IpAddress::Ipv4(SERVICE),
        &checksums,
    );
    bytes
}

fn arp_reply() -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: CLIENT_MAC,
        source_protocol_addr: CLIENT,
        target_hardware_addr: MAC,
        target_protocol_addr: SERVICE,
    };
    let mut bytes = vec![0; 14 + repr.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    let (src_addr, dst_addr, ethertype) = (CLIENT_MAC, MAC, EthernetProtocol::Arp);
    EthernetRepr {
        src_addr,
        dst_addr,
        ethertype,
    }
    .emit(&mut frame);
    repr.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    bytes
}

/// A service with open connections.
struct World {
    service: &'static mut Service,
    now: Instant,
    clients: Vec<(Client, ConnectionId)>,
}

impl World {
    fn new(open: usize) -> Self {
        let mut config = ServiceConfig::new(Network {
            address: SERVICE,
            prefix_len: 24,
        });
        config.connections_max = open;
        let now = Instant::from_micros(5_000_000);
        let service = Service::create(&Global, &config, MAC.0, 42, now).expect("memory for a stack");
        service.listen(PORT, 64).expect("a free port");
        let mut world = Self {
            service,
            now,
            clients: Vec::new(),
        };
        for index in 0..open {
            world.connect(FIRST_PORT + index as u16);
        }
        world
    }

    /// Takes `frame` in, and passes the time.
    fn take(&mut self, frame: &[u8]) {
        self.service.ingest(self.now, frame);
        self.service.refresh(self.now);
        self.now = self.now + Duration::from_micros(1);
    }

    /// What the service sends next.
    fn sent(&mut self) -> Option<Vec<u8>> {
        self.service.egress(self.now);
        self.service.release_all();
        let frame = self.service.next_frame().map(<[u8]>::to_vec);
        self.service.forget_frame();
        frame
    }

    fn connect(&mut self, port: u16) {
        let (next, expected) = (TcpSeqNumber(1000), TcpSeqNumber(0));
        let mut client = Client { port, next, expected };
        self.take(&segment(&client, TcpControl::Syn, b""));
        client.next += 1;
        let answer = loop {
            let frame = self.sent().expect("a SYN is answered");
            let ethernet = EthernetFrame::new_checked(&frame).expect("a frame");
            if ethernet.ethertype() == EthernetProtocol::Ipv4 {
                break frame;
            }
            self.take(&arp_reply());
        };
        let tcp = TcpPacket::new_checked(&answer[34..]).expect("a segment");
        client.expected = tcp.seq_number() + 1;
        self.take(&segment(&client, TcpControl::None, b""));
        let event = self.service.next_event().expect("a connection was opened");
        assert!(event.news.opened);
        self.clients.push((client, event.connection));
    }

    /// A request, its answer, and the answer's acknowledgement, as a node's loop has them pass.
    fn request(&mut self, index: usize) {
        let (mut client, connection) = self.clients[index];
        self.take(&segment(&client, TcpControl::Psh, REQUEST));
        client.next += REQUEST.len();
        let event = self.service.next_event().expect("there is something to read");
        assert_eq!(event.connection, connection);
        let mut bytes = [0; 64];
        assert_eq!(self.service.recv(connection, &mut bytes), Ok(REQUEST.len()));
        assert_eq!(self.service.send(connection, REPLY), Ok(REPLY.len()));
        let mut frames = 0;
        while self.sent().is_some() {
            frames += 1;
        }
        assert_eq!(frames, 1);
        black_box(self.service.poll_at(self.now));
        client.expected += REPLY.len();
        self.take(&segment(&client, TcpControl::None, b""));
        self.service.egress(self.now);
        black_box(self.service.poll_at(self.now));
        self.clients[index].0 = client;
    }
}

fn connections(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a request, of open connections one active");
    for open in OPEN {
        let mut world = World::new(open);
        group.bench_function(BenchmarkId::from_parameter(open), |bencher| {
            bencher.iter(|| world.request(open / 2));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("an acknowledgement taken in, of open connections");
    for open in OPEN {
        let world = World::new(open);
        let frame = segment(&world.clients[open / 2].0, TcpControl::None, b"");
        group.bench_function(BenchmarkId::from_parameter(open), |bencher| {
            bencher.iter(|| world.service.ingest(world.now, &frame));
        });
        world.service.egress(world.now);
    }
    group.finish();

    type Step = fn(&mut Service, Instant);
    let steps: [(&str, Step); 3] = [
        ("egress", |service, now| service.egress(now)),
        ("refresh", |service, now| service.refresh(now)),
        ("poll_at", |service, now| {
            black_box(service.poll_at(now));
        }),
    ];
    for (name, step) in steps {
        let mut group = criterion.benchmark_group(format!("{name} with nothing to do, of open connections"));
        for open in OPEN {
            let world = World::new(open);
            group.bench_function(BenchmarkId::from_parameter(open), |bencher| {
                bencher.iter(|| step(world.service, world.now));
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_millis(600)).warm_up_time(Duration::from_millis(200));
    targets = connections
}
criterion_main!(benches);

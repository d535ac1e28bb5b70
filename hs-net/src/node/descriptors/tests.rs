//! The table against a model, and across checkpoints and takeovers, on a node whose cards are plugged into nothing.

mod committed;
mod model;
mod pause;
mod waiting;

use core::time::Duration;
use std::boxed::Box;
use std::path::PathBuf;
use std::string::{String, ToString};
use std::sync::atomic::{AtomicU32, Ordering};
use std::vec::Vec;

use allocator_api2::alloc::Global;
use hs_core::checkpoint::Compression;
use hs_core::host::{HostFiles, HostMachine, Session};
use hs_core::platform::{Machine, Nic, RingFull};
use hs_core::policy::Choice;
use hs_core::registry::descriptor::{DescriptorError as RegistryError, FileMode, FilePath, descriptors};
use hs_core::role::{Hearing, Network, PairConfig, Role};
use hs_core::sync::Signal;

use super::*;
use crate::node::Start;
use crate::service::{Service, ServiceConfig};

const SERVICE: [u8; 4] = [10, 77, 0, 10];
const CLIENT: SocketAddrV4 = SocketAddrV4::new(core::net::Ipv4Addr::new(10, 77, 0, 1), 5353);
const RW: FileMode = FileMode::READ.union(FileMode::WRITE);

/// A card without a wire.
struct Unplugged;

impl Nic for Unplugged {
    fn mac(&self) -> [u8; 6] {
        [2, 0, 0, 0, 0, 1]
    }

    fn frame_len_max(&self) -> usize {
        1514
    }

    fn receive(&self, _: &mut dyn FnMut(&[u8])) -> bool {
        false
    }

    fn transmit_parts(&self, _: &[&[u8]]) -> Result<(), RingFull> {
        Ok(())
    }

    fn kick(&self) {}

    fn notify(&self, _: &'static Signal) {}
}

fn network(address: [u8; 4]) -> Network {
    Network {
        address: address.into(),
        prefix_len: 24,
    }
}

/// A node that has not begun, on the session's memory.
fn node(session: &Session) -> &'static Node {
    let pair = PairConfig {
        role: Role::Master,
        service: network(SERVICE),
        machine_address: [10, 77, 0, 11].into(),
        peer_machine_address: [10, 77, 0, 12].into(),
        cluster: network([10, 78, 0, 1]),
        peer_cluster_address: [10, 78, 0, 2].into(),
        heartbeat: Duration::from_millis(20),
        deadline: Duration::from_millis(100),
        ncon: 4,
        connections_max: 16,
        checkpoint: Choice::Auto,
        shadow_pages: 0,
        compression: Compression::None,
        hearing: Hearing::Own,
        checkpoint_files: None,
        restore: None,
        detection: None,
        fault: None,
        agent_address: None,
    };
    let start = Start {
        machine: HostMachine::install(),
        memory: session.memory(),
        service_nic: &Unplugged,
        cluster_nic: &Unplugged,
        pair,
        application: 7,
        start: |_| Ok(()),
    };
    Box::leak(Box::new(Node::new(start, true)))
}

fn service() -> &'static mut Service {
    let mut config = ServiceConfig::new(network(SERVICE));
    (config.connections_max, config.queue_len) = (1, 8 << 10);
    (config.receive_len, config.send_len) = (64, 64);
    let now = HostMachine::install().now();
    Service::create(&Global, &config, Unplugged.mac(), 1, now).unwrap()
}

/// A node that serves.
fn serving(session: &Session) -> Descriptors {
    let node = node(session);
    node.mount();
    node.begin_service(service());
    node.descriptors()
}

/// The node that takes over from this one, with the same stack and records.
fn takeover(session: &Session, from: Descriptors) -> Descriptors {
    let service = from.node.front.lock().take_service();
    from.table().pending.hand_over();
    let next = node(session);
    next.mount();
    next.descriptors().restore(&descriptors(), service);
    next.begin_service(service);
    next.descriptors()
}

/// A directory that is the machine's disk as long as this lives.
struct Disk {
    directory: PathBuf,
}

impl Disk {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::SeqCst);
        let name = std::format!("hotspare-descriptors-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        let files = Box::leak(Box::new(HostFiles::new(directory.clone())));
        HostMachine::install().set_files(Some(files));
        Self { directory }
    }

    fn contents(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.directory.join(path)).unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        HostMachine::install().set_files(None);
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn path(text: &str) -> FilePath {
    FilePath::new(text).unwrap()
}

fn own(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(SERVICE.into(), port)
}

#[test]
fn all_kinds_come_back_under_their_numbers() {
    let session = Session::start(64);
    let disk = Disk::new();
    let table = serving(&session);
    let file = table.open("logs/today.txt", RW).unwrap();
    let unregistered = table.open("A", RW).unwrap();
    let socket = table.open_udp().unwrap();
    let other = table.open_udp().unwrap();
    let listener = table.listen(80, 4).unwrap();
    let forgotten = table.listen(81, 4).unwrap();
    table.node.service().listen(82, 4).unwrap();
    assert_eq!(
        [file, unregistered, socket, other, listener, forgotten],
        [3, 4, 5, 6, 7, 8]
    );
    table.bind(socket, 53).unwrap();
    table.connect(socket, Some(CLIENT)).unwrap();
    table.bind(other, 54).unwrap();
    table.register_file(file).unwrap();
    table
        .register_udp(socket, UdpFlags::GETNAME | UdpFlags::GETPEER)
        .unwrap();
    table.register_listener(listener).unwrap();
    table.write(file, b"0123456789").unwrap();
    assert_eq!(table.seek(file, Seek::Cur(-4)), Ok(6));
    drop(table.node.quiesce());

    let table = takeover(&session, table);
    assert_eq!(table.tell(file), Ok(6));
    assert_eq!(table.path(file), Ok(path("LOGS/TODAY.TXT")));
    assert_eq!(table.mode(file), Ok(RW));
    let mut bytes = [0; 10];
    assert_eq!(table.read(file, &mut bytes), Ok(4));
    assert_eq!(&bytes[..4], b"6789");
    assert_eq!(disk.contents("LOGS/TODAY.TXT"), b"0123456789");
    assert_eq!(table.name(socket), Ok(own(53)));
    assert_eq!(table.peer(socket), Ok(Some(CLIENT)));
    for gone in [unregistered, other, forgotten] {
        assert_eq!(table.tell(gone), Err(DescriptorError::NotOpen(gone)));
    }
    assert_eq!(table.node.service().listens_on(listener), Some((80, 4)));
    // What had no descriptor listens on; what had an unregistered one does not, and its port and number are free.
    assert!(table.node.service().listen(82, 4).is_err());
    assert_eq!(table.listen(81, 4), Ok(4));
    assert_eq!(table.open_udp(), Ok(6));
    assert_eq!(table.bind(6, 54), Ok(54));
    // They are registered still.
    assert_eq!(
        table.register_file(file),
        Err(DescriptorError::Registry(RegistryError::Registered(file)))
    );
}

#[test]
fn a_socket_comes_back_as_its_flags_ask() {
    let (name, peer, refresh) = (UdpFlags::GETNAME, UdpFlags::GETPEER, UdpFlags::CPTREFRESH);
    let unbound = crate::service::UNBOUND;
    // What it was when it was registered, what it is at the checkpoint, and what comes back of that.
    for (flags, expected) in [
        (UdpFlags::empty(), (unbound, None)),
        (name, (own(1), None)),
        (peer, (unbound, Some(CLIENT))),
        (name | peer, (own(1), Some(CLIENT))),
        (name | refresh, (own(2), None)),
        (name | peer | refresh, (own(2), None)),
        (refresh, (unbound, None)),
    ] {
        let session = Session::start(64);
        let table = serving(&session);
        let socket = table.open_udp().unwrap();
        table.bind(socket, 1).unwrap();
        table.connect(socket, Some(CLIENT)).unwrap();
        table.register_udp(socket, flags).unwrap();
        // Recycled: the socket of this number is another by now.
        table.node.service().udp_close(socket).unwrap();
        table.node.service().udp_open(socket).unwrap();
        table.bind(socket, 2).unwrap();
        drop(table.node.quiesce());
        let table = takeover(&session, table);
        let peer = table.peer(socket).unwrap();
        match (expected, peer) {
            // Connecting binds it to any port.
            ((local, Some(_)), Some(_)) if local == unbound => {
                assert_ne!(table.name(socket).unwrap().port(), 0);
            }
            ((local, _), _) => assert_eq!(table.name(socket), Ok(local), "{flags:?}"),
        }
        assert_eq!(peer, expected.1, "{flags:?}");
        // The flags are in the record: the next checkpoint refreshes again.
        table.connect(socket, Some(CLIENT)).unwrap();
        drop(table.node.quiesce());
        let DescriptorKind::Udp { peer, .. } = descriptors()[0].kind else {
            panic!("a UDP socket's record");
        };
        assert_eq!(peer.is_some(), flags.contains(UdpFlags::GETPEER), "{flags:?}");
    }
}

#[test]
fn a_peer_that_is_asked_for_and_is_not_there_is_no_error() {
    let session = Session::start(64);
    let table = serving(&session);
    let socket = table.open_udp().unwrap();
    table.bind(socket, 1).unwrap();
    table
        .register_udp(socket, UdpFlags::GETNAME | UdpFlags::GETPEER)
        .unwrap();
    drop(table.node.quiesce());
    let table = takeover(&session, table);
    assert_eq!((table.name(socket), table.peer(socket)), (Ok(own(1)), Ok(None)));
}

#[test]
fn deregistered_it_stays_open_and_does_not_come_back() {
    let session = Session::start(64);
    let _disk = Disk::new();
    let table = serving(&session);
    let file = table.open("A", RW).unwrap();
    let socket = table.open_udp().unwrap();
    let listener = table.listen(80, 4).unwrap();
    table.bind(socket, 53).unwrap();
    table.connect(socket, Some(CLIENT)).unwrap();
    table.register_file(file).unwrap();
    table.register_udp(socket, UdpFlags::GETPEER).unwrap();
    table.register_listener(listener).unwrap();
    for number in [file, socket, listener] {
        table.deregister(number).unwrap();
    }
    assert!(descriptors().is_empty());
    table.write(file, b"still open").unwrap();
    assert_eq!(table.name(socket), Ok(own(53)));
    assert_eq!(table.node.service().listens_on(listener), Some((80, 4)));
    // The thesis's way to other parameters.
    table.register_udp(socket, UdpFlags::GETNAME).unwrap();
    drop(table.node.quiesce());
    let table = takeover(&session, table);
    for gone in [file, listener] {
        assert_eq!(table.tell(gone), Err(DescriptorError::NotOpen(gone)));
    }
    assert_eq!((table.name(socket), table.peer(socket)), (Ok(own(53)), Ok(None)));
}

#[test]
fn ports_that_were_exchanged_are_exchanged() {
    let session = Session::start(64);
    let table = serving(&session);
    for port in [1, 2] {
        let socket = table.open_udp().unwrap();
        table.bind(socket, port).unwrap();
        table.register_udp(socket, UdpFlags::GETNAME).unwrap();
    }
    let mut service = table.node.service();
    for number in [3, 4] {
        service.udp_close(number).unwrap();
        service.udp_open(number).unwrap();
    }
    service.udp_bind(3, 2).unwrap();
    service.udp_bind(4, 1).unwrap();
    drop(service);
    let table = takeover(&session, table);
    assert_eq!((table.name(3), table.name(4)), (Ok(own(1)), Ok(own(2))));
}

#[test]
fn what_cannot_be_opened_again_is_lost_and_stops_nothing() {
    let session = Session::start(64);
    let disk = Disk::new();
    let table = serving(&session);
    let file = table.open("A", RW).unwrap();
    table.write(file, b"abc").unwrap();
    table.register_file(file).unwrap();
    table.close(file).unwrap();
    assert!(descriptors().is_empty(), "closing deregisters");
    let file = table.open("A", FileMode::READ).unwrap();
    table.register_file(file).unwrap();
    let socket = table.open_udp().unwrap();
    table.register_udp(socket, UdpFlags::empty()).unwrap();
    std::fs::remove_file(disk.directory.join("A")).unwrap();

    let table = takeover(&session, table);
    let why = ReopenError::File(FileError::NotFound(path("A")));
    let error = DescriptorError::Lost(file, why);
    assert_eq!(table.read(file, &mut [0]), Err(error));
    assert_eq!(
        error.to_string(),
        "descriptor 3 could not be opened again after the takeover (there is no file A): close it"
    );
    assert_eq!(table.bind(file, 1), Err(error));
    assert_eq!(table.register_file(file), Err(error));
    table.bind(socket, 1).unwrap();
    // The file is there again at the next takeover.
    std::fs::write(disk.directory.join("A"), b"xyz").unwrap();
    let table = takeover(&session, table);
    assert_eq!(table.read(file, &mut [0]), Ok(1));
    std::fs::remove_file(disk.directory.join("A")).unwrap();
    let table = takeover(&session, table);
    table.close(file).unwrap();
    assert_eq!(descriptors().len(), 1);
    assert_eq!(table.tell(file), Err(DescriptorError::NotOpen(file)));
}

#[test]
fn without_a_disk_there_are_no_files_and_all_else() {
    let session = Session::start(64);
    let table = serving(&session);
    assert_eq!(table.open("A", RW), Err(DescriptorError::Open(FileError::NoDisk)));
    assert_eq!(table.remove("A"), Err(DescriptorError::Open(FileError::NoDisk)));
    assert_eq!(table.open_udp(), Ok(3));
    let error = DescriptorError::WrongKind {
        number: 3,
        wanted: "a file",
    };
    assert_eq!(table.seek(3, Seek::Set(0)), Err(error));
    assert_eq!(error.to_string(), "descriptor 3 is not a file");
    assert_eq!(table.listen(80, 1), Ok(4));
    let texts: Vec<String> = [
        table.listen(80, 1).unwrap_err(),
        table.bind(4, 1).unwrap_err(),
        table
            .register_udp(3, UdpFlags::empty())
            .and_then(|()| table.register_udp(3, UdpFlags::empty()))
            .unwrap_err(),
        table.deregister(4).unwrap_err(),
        table.close(99).unwrap_err(),
    ]
    .iter()
    .map(ToString::to_string)
    .collect();
    assert_eq!(
        texts,
        [
            "port 80 is listened on already",
            "descriptor 4 is not a UDP socket",
            "descriptor 3 is registered already: update or deregister it",
            "descriptor 4 is not registered",
            "descriptor 99 is not open",
        ]
    );
    // What failed to open has given its number back.
    assert_eq!(table.listen(81, 1), Ok(5));
}

#[test]
fn the_table_is_bounded() {
    let session = Session::start(64);
    let _disk = Disk::new();
    let table = serving(&session);
    std::fs::write(_disk.directory.join("A"), b"").unwrap();
    for index in 0..hs_core::DESCRIPTORS_MAX as u32 {
        assert_eq!(table.open("A", FileMode::READ), Ok(FIRST_NUMBER + index));
        table.register_file(FIRST_NUMBER + index).unwrap();
    }
    assert_eq!(table.open("A", FileMode::READ), Err(DescriptorError::TooMany));
    table.close(9).unwrap();
    assert_eq!(table.open("A", FileMode::READ), Ok(9));
}

//! A whole pair as two processes of this program: real threads, real sockets as cards, a real kill.
//!
//! ```text
//!  this process: hub of the service network ── client (smoltcp)
//!                hub of the cluster link
//!       │ UDP on loopback, a frame a datagram
//!  child: master          child: spare
//! ```
//!
//! The children run without address randomisation, so that memory and code have the same addresses in both, as in guests of
//! one image. A directory is the disk that they share. The application counts the bytes that it has received, and answers with the count once the spare has it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use allocator_api2::boxed::Box as ClassBox;
use hs_core::checkpoint::file::CheckpointFiles;
use hs_core::checkpoint::{
    CheckpointId, CheckpointPipe, Compression, Flags, Kind, Need, PipeError, PipeWriter,
};
use hs_core::class::{Class, ClassId};
use hs_core::event::Event;
use hs_core::host::{HostMachine, HostMemory, VolatileFiles};
use hs_core::platform::{Nic, RingFull};
use hs_core::policy::Choice;
use hs_core::registry::thread::{Work, register_state};
use hs_core::restore::Source;
use hs_core::role::{Network, PairConfig, Role, Term};
use hs_core::sync::Signal;
use hs_net::detect::{Detection, Liveness, register};
use hs_net::node::{Node, Start, run, run_unthreaded};
use hs_net::service::ConnectionError;
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, Ipv4Cidr};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);
const PORT: u16 = 7;
const FRAME_LEN_MAX: usize = 1514;
/// Nothing here takes as long: a wait that does has failed.
const TOO_LONG: Duration = Duration::from_secs(30);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, mark, role, service, cluster, words @ ..] = &arguments[..]
        && mark == "node"
    {
        node(
            role,
            service.parse().expect("a port"),
            cluster.parse().expect("a port"),
            words,
        );
    }
    let tests: [(&str, fn()); 9] = [
        (
            "a_killed_master_is_followed_with_its_state",
            a_killed_master_is_followed_with_its_state,
        ),
        (
            "a_killed_spare_is_done_without_and_replaced",
            a_killed_spare_is_done_without_and_replaced,
        ),
        (
            "a_program_without_threads_has_none",
            a_program_without_threads_has_none,
        ),
        (
            "a_spare_with_nothing_ends_when_its_master_does",
            a_spare_with_nothing_ends_when_its_master_does,
        ),
        (
            "a_pair_that_lost_both_machines_goes_on_from_its_files",
            a_pair_that_lost_both_machines_goes_on_from_its_files,
        ),
        (
            "whoever_is_asked_to_restore_never_begins_empty",
            whoever_is_asked_to_restore_never_begins_empty,
        ),
        ("each_sign_causes_a_takeover", each_sign_causes_a_takeover),
        (
            "the_loss_of_the_cluster_link_is_no_death",
            the_loss_of_the_cluster_link_is_no_death,
        ),
        (
            "a_users_pipe_may_fail_without_harm",
            a_users_pipe_may_fail_without_harm,
        ),
    ];
    for (name, test) in tests {
        let begun = Instant::now();
        test();
        println!("test {name} ... ok ({} ms)", begun.elapsed().as_millis());
    }
}

// ------------------------------------------------------------------------------------------- a node's process

/// A card whose wire is a UDP socket.
struct Card {
    mac: [u8; 6],
    socket: UdpSocket,
    received: Mutex<VecDeque<Vec<u8>>>,
    signal: Mutex<Option<&'static Signal>>,
}

impl Card {
    fn plug(mac: [u8; 6], hub: u16) -> &'static Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket on loopback");
        socket
            .connect((Ipv4Addr::LOCALHOST, hub))
            .expect("the hub's address");
        socket.send(&[]).expect("the hub is there");
        let (received, signal) = (Mutex::default(), Mutex::new(None));
        let card: &'static Self = Box::leak(Box::new(Self {
            mac,
            socket,
            received,
            signal,
        }));
        thread::spawn(|| card.listen());
        card
    }

    fn listen(&self) {
        let mut frame = [0; 2048];
        while let Ok(len) = self.socket.recv(&mut frame) {
            let mut received = self.received.lock().unwrap();
            if received.len() < 1024 {
                received.push_back(frame[..len].to_vec());
            }
            drop(received);
            if let Some(signal) = *self.signal.lock().unwrap() {
                signal.raise();
            }
        }
    }
}

impl Nic for Card {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn frame_len_max(&self) -> usize {
        FRAME_LEN_MAX
    }

    fn receive(&self, with: &mut dyn FnMut(&[u8])) -> bool {
        let frame = self.received.lock().unwrap().pop_front();
        frame.is_some_and(|frame| {
            with(&frame);
            true
        })
    }

    fn transmit(&self, frame: &[u8]) -> Result<(), RingFull> {
        // A hub that is gone, as at the end of a test, loses frames.
        let _ = self.socket.send(frame);
        Ok(())
    }

    fn kick(&self) {}

    fn notify(&self, signal: &'static Signal) {
        *self.signal.lock().unwrap() = Some(signal);
    }
}

/// `words`: `disk=DIRECTORY`, `files=NAME`, `restore=NAME`, `detect=EXPRESSION`, `pipe=failing`.
fn node(role: &str, service: u16, cluster: u16, words: &[String]) -> ! {
    let machine = HostMachine::install();
    // First of all, so that it lies at the same place in both processes.
    let memory = HostMemory::new(16 << 10);
    let word = |name: &str| {
        words
            .iter()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    if let Some(directory) = word("disk") {
        machine.set_files(Some(Box::leak(Box::new(VolatileFiles::at(directory.into())))));
        std::env::set_current_dir(directory).expect("the disk's directory");
        register(is_there, 0);
    }
    PIPE.store(word("pipe").is_some(), Ordering::Relaxed);
    thread::spawn(move || {
        loop {
            for event in machine.take_events() {
                println!(
                    "{}",
                    serde_json::to_string(&event).expect("events can be written")
                );
            }
            thread::sleep(Duration::from_millis(1));
        }
    });
    let (role, own, peer, run): (_, _, _, fn(Start) -> !) = match role {
        "master" => (Role::Master, 1, 2, run),
        "spare" => (Role::Spare, 2, 1, run),
        "unthreaded-master" => (Role::Master, 1, 2, run_unthreaded),
        "unthreaded-spare" => (Role::Spare, 2, 1, run_unthreaded),
        other => panic!("role {other}"),
    };
    let pair = PairConfig {
        role,
        service: Network {
            address: SERVICE,
            prefix_len: 24,
        },
        machine_address: Ipv4Addr::new(10, 77, 0, 10 + own),
        peer_machine_address: Ipv4Addr::new(10, 77, 0, 10 + peer),
        cluster: Network {
            address: Ipv4Addr::new(10, 78, 0, own),
            prefix_len: 24,
        },
        peer_cluster_address: Ipv4Addr::new(10, 78, 0, peer),
        heartbeat: Duration::from_millis(20),
        // Longer than in a guest: this host has other tests to run.
        deadline: Duration::from_millis(300),
        ncon: 4,
        checkpoint: Choice::Auto,
        shadow_pages: 1024,
        compression: Compression::Lz4,
        checkpoint_files: word("files").map(|name| CheckpointFiles::new(name).expect("a base name")),
        restore: word("restore").map(|name| Source::parse(name).expect("a name")),
        detection: Some(Detection::parse(word("detect").unwrap_or("heartbeat")).expect("signs")),
    };
    run(Start {
        machine,
        memory,
        service_nic: Card::plug([2, 0, 0, 0, 1, own], service),
        cluster_nic: Card::plug([2, 0, 0, 0, 2, own], cluster),
        pair,
        application: 0xc0,
        start,
    })
}

/// A user's sign: a file beside the node says that the master has failed.
fn is_there(_: usize) -> Liveness {
    if std::fs::exists("USERSIGN").unwrap_or(false) {
        Liveness::Failed
    } else {
        Liveness::Alive
    }
}

/// Whether the application loads a pipe of its own.
static PIPE: AtomicBool = AtomicBool::new(false);

/// A user's pipe that takes every second checkpoint.
#[derive(Default)]
struct Moody(AtomicBool);

impl CheckpointPipe for Moody {
    fn open(&self, _: CheckpointId, _: Kind) -> Result<Box<dyn PipeWriter>, PipeError> {
        match self.0.fetch_xor(true, Ordering::Relaxed) {
            true => Err(PipeError::Refused),
            false => Ok(Box::new(MoodyWriter)),
        }
    }

    fn cancel(&self, _: CheckpointId) {}
}

struct MoodyWriter;

impl PipeWriter for MoodyWriter {
    fn write(&mut self, _: &[u8]) -> Result<(), PipeError> {
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), PipeError> {
        Ok(())
    }
}

/// What is kept.
struct Count {
    bytes: u64,
}

fn start(node: &'static Node) -> Result<(), String> {
    let class = Class::create(ClassId(1), 1 << 16).map_err(|error| error.to_string())?;
    let count = ClassBox::leak(ClassBox::new_in(Count { bytes: 0 }, class));
    register_state(count).map_err(|error| error.to_string())?;
    node.service().listen(PORT, 16).map_err(|error| error.to_string())
}

impl Work for Count {
    fn work(&'static mut self) {
        let node = hs_net::node();
        tell_threads(node);
        if PIPE.load(Ordering::Relaxed) {
            let pipe = Box::new(Moody::default());
            node.load_pipe(pipe, Need::Optional).expect("room for a pipe");
        }
        loop {
            let seen = node.signal().seen();
            let mut answers = Vec::new();
            let mut service = node.service();
            service.poll(node.machine().now());
            while let Some(event) = service.next_event() {
                let mut bytes = [0; 4096];
                loop {
                    match service.recv(event.connection, &mut bytes) {
                        Ok(0) | Err(ConnectionError::Gone) => break,
                        Ok(received) => {
                            self.bytes += received as u64;
                            answers.push((event.connection, self.bytes));
                        }
                        Err(ConnectionError::Finished) => {
                            service.close(event.connection);
                            break;
                        }
                    }
                }
            }
            let deadline = service.poll_at(node.machine().now());
            drop(service);
            if !answers.is_empty() || node.checkpoint_wanted() {
                // A lone master has nobody to tell: it answers all the same.
                let _ = node.checkpoint(Flags::INCREMENTAL);
            }
            if answers.is_empty() {
                node.signal().wait(seen, deadline);
                continue;
            }
            let mut service = node.service();
            for (connection, count) in answers {
                let _ = service.send(connection, &count.to_le_bytes());
            }
            service.flush(node.machine().now());
        }
    }
}

/// Says on which thread the worker runs, and how many threads workers have.
fn tell_threads(node: &Node) {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux tells the threads");
    let names = tasks.map(|task| {
        let name = task.expect("a thread").path().join("comm");
        // One that has ended meanwhile is no worker.
        std::fs::read_to_string(name).unwrap_or_default()
    });
    node.machine().emit(&Event::Test {
        name: thread::current().name().unwrap_or_default().into(),
        passed: true,
        detail: names.filter(|name| name.trim() == "worker").count().to_string(),
    });
}

// ------------------------------------------------------------------------------------------- the test's process

/// How a hub does.
#[derive(Default)]
struct Traffic {
    /// Nothing passes.
    cut: AtomicBool,
    /// So many frames have come.
    frames: AtomicUsize,
}

/// Hands every frame to everybody else.
fn hub() -> u16 {
    observed_hub().0
}

/// A hub that can be looked at, and cut.
fn observed_hub() -> (u16, Arc<Traffic>) {
    let traffic = Arc::new(Traffic::default());
    let watched = Arc::clone(&traffic);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket on loopback");
    let port = socket.local_addr().expect("its address").port();
    thread::spawn(move || {
        let mut plugged: Vec<SocketAddr> = Vec::new();
        let mut frame = [0; 2048];
        loop {
            // A killed child's port answers with an error, later, to nobody in particular.
            let Ok((len, from)) = socket.recv_from(&mut frame) else {
                continue;
            };
            if !plugged.contains(&from) {
                plugged.push(from);
            }
            traffic.frames.fetch_add(1, Ordering::Relaxed);
            if traffic.cut.load(Ordering::Relaxed) {
                continue;
            }
            for to in plugged.iter().filter(|to| **to != from) {
                let _ = socket.send_to(&frame[..len], to);
            }
        }
    });
    (port, watched)
}

struct Process {
    child: Child,
    events: Receiver<Event>,
    past: Vec<Event>,
}

impl Process {
    fn start(role: &str, service: u16, cluster: u16) -> Self {
        Self::start_with(role, service, cluster, &[])
    }

    fn start_with(role: &str, service: u16, cluster: u16, words: &[String]) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new("setarch")
            .args(["--addr-no-randomize", "--"])
            .arg(program)
            .args(["node", role, &service.to_string(), &cluster.to_string()])
            .args(words)
            .stdout(Stdio::piped())
            .spawn()
            .expect("setarch (of util-linux) starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let (sender, events) = channel();
        let role = role.to_string();
        thread::spawn(move || {
            let verbose = std::env::var_os("HS_VERBOSE").is_some();
            for line in lines.map_while(Result::ok) {
                if verbose {
                    println!("{role}: {line}");
                }
                if sender
                    .send(serde_json::from_str(&line).expect("an event"))
                    .is_err()
                {
                    return;
                }
            }
        });
        Self {
            child,
            events,
            past: Vec::new(),
        }
    }

    /// Waits for the next event that `is` the one.
    fn wait_for(&mut self, what: &str, is: impl Fn(&Event) -> bool) -> Event {
        let until = Instant::now() + TOO_LONG;
        loop {
            match self
                .events
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(event) => {
                    self.past.push(event.clone());
                    if is(&event) {
                        return event;
                    }
                }
                Err(error) => panic!("no {what}: {error}, after {:?}", self.past),
            }
        }
    }

    fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was started here");
    }

    fn wait_for_end(&mut self) -> ExitStatus {
        let until = Instant::now() + TOO_LONG;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("it was started here") {
                return status;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("it does not end");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client's machine on the service network.
struct Client {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    port: u16,
    begun: Instant,
}

struct Wire(UdpSocket);

struct Frame<'a>(Vec<u8>, &'a UdpSocket);

impl phy::RxToken for Frame<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, with: F) -> R {
        with(&self.0)
    }
}

impl phy::TxToken for Frame<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, with: F) -> R {
        let mut frame = vec![0; len];
        let result = with(&mut frame);
        self.1.send(&frame).expect("the hub is there");
        result
    }
}

impl phy::Device for Wire {
    type RxToken<'a> = Frame<'a>;
    type TxToken<'a> = Frame<'a>;

    fn receive(&mut self, _: StackInstant) -> Option<(Frame<'_>, Frame<'_>)> {
        let mut frame = vec![0; 2048];
        let len = self.0.recv(&mut frame).ok()?;
        frame.truncate(len);
        hear_announcement(&mut frame);
        Some((Frame(frame, &self.0), Frame(Vec::new(), &self.0)))
    }

    fn transmit(&mut self, _: StackInstant) -> Option<Frame<'_>> {
        Some(Frame(Vec::new(), &self.0))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_LEN_MAX;
        capabilities
    }
}

/// Other systems believe an announcement of an address that they know; smoltcp only what is addressed to it. So it is.
fn hear_announcement(frame: &mut [u8]) {
    const TYPE: core::ops::Range<usize> = 12..14;
    const SENDER: core::ops::Range<usize> = 28..32;
    const TARGET: core::ops::Range<usize> = 38..42;
    if frame.len() >= TARGET.end && frame[TYPE] == [8, 6] && frame[SENDER] == frame[TARGET] {
        frame[TARGET].copy_from_slice(&CLIENT.octets());
    }
}

impl Client {
    fn new(hub: u16) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket on loopback");
        socket
            .connect((Ipv4Addr::LOCALHOST, hub))
            .expect("the hub's address");
        socket
            .set_read_timeout(Some(Duration::from_millis(1)))
            .expect("a timeout");
        socket.send(&[]).expect("the hub is there");
        let mut wire = Wire(socket);
        let mac = HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 1, 9]));
        let mut interface = Interface::new(
            smoltcp::iface::Config::new(mac),
            &mut wire,
            StackInstant::from_micros(0),
        );
        interface.update_ip_addrs(|addresses| {
            addresses
                .push(IpCidr::Ipv4(Ipv4Cidr::new(CLIENT, 24)))
                .expect("one address");
        });
        let storage = Box::leak(Box::new([const { smoltcp::iface::SocketStorage::EMPTY }; 1]));
        let mut sockets = SocketSet::new(&mut storage[..]);
        let buffer = || tcp::SocketBuffer::new(&mut vec![0u8; 8192].leak()[..]);
        let handle = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Self {
            wire,
            interface,
            sockets,
            handle,
            port: 40_000,
            begun: Instant::now(),
        }
    }

    fn poll(&mut self) {
        let now = StackInstant::from_micros(self.begun.elapsed().as_micros() as i64);
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn connect(&mut self) {
        self.port += 1;
        let to = (IpAddress::Ipv4(SERVICE), PORT);
        let socket = self.sockets.get_mut::<tcp::Socket>(self.handle);
        socket
            .connect(self.interface.context(), to, self.port)
            .expect("a closed socket");
    }

    /// Sends `count` bytes and returns the service's count; connects and tries again as often as needed, and says how often
    /// that was.
    fn ask(&mut self, count: usize) -> (u64, usize) {
        let until = Instant::now() + TOO_LONG;
        let mut connections = 0;
        let mut asked = false;
        while Instant::now() < until {
            self.poll();
            let socket = self.socket();
            match socket.state() {
                tcp::State::Closed => {
                    self.connect();
                    connections += 1;
                    asked = false;
                }
                tcp::State::Established if !asked => {
                    socket.send_slice(&vec![1; count]).expect("an open connection");
                    asked = true;
                }
                _ => {}
            }
            let socket = self.socket();
            let mut answer = [0; 64];
            if asked && let Ok(len @ 8..) = socket.recv_slice(&mut answer) {
                return (
                    u64::from_le_bytes(answer[len - 8..len].try_into().expect("8 bytes")),
                    connections,
                );
            }
        }
        panic!("no answer");
    }
}

fn hubs() -> (u16, u16) {
    (hub(), hub())
}

fn ready(service: u16, cluster: u16) -> (Process, Process) {
    ready_with(service, cluster, &[])
}

fn ready_with(service: u16, cluster: u16, words: &[String]) -> (Process, Process) {
    ready_as(["master", "spare"], service, cluster, words)
}

fn ready_as(roles: [&str; 2], service: u16, cluster: u16, words: &[String]) -> (Process, Process) {
    let mut master = Process::start_with(roles[0], service, cluster, words);
    master.wait_for("service", |event| *event == Event::Serving);
    let mut spare = Process::start_with(roles[1], service, cluster, words);
    spare.wait_for("readiness", |event| *event == Event::Ready);
    master.wait_for("readiness", |event| *event == Event::Ready);
    (master, spare)
}

fn a_killed_master_is_followed_with_its_state() {
    let (service, cluster) = hubs();
    let (mut master, mut spare) = ready(service, cluster);
    let mut client = Client::new(service);
    let mut sum = 0;
    for count in 1..100 {
        sum += count as u64;
        let (answer, _) = client.ask(count);
        assert_eq!(answer, sum, "answers to one client come in order");
    }
    master.kill();
    let killed = Instant::now();
    let takeover = spare.wait_for("takeover", |event| matches!(event, Event::Takeover { .. }));
    let noticed = killed.elapsed();
    spare.wait_for("its role", |event| {
        *event
            == Event::Role {
                role: Role::Master,
                term: Term(2),
            }
    });
    let (answer, connections) = client.ask(1);
    let served = killed.elapsed();
    assert_eq!(
        answer,
        sum + 1,
        "what was answered is kept, and nothing was counted twice"
    );
    assert_eq!(connections, 1, "the client was told that its connection is gone");
    println!(
        "  {takeover:?}, seen after {} ms, a client after {} ms",
        noticed.as_millis(),
        served.as_millis()
    );

    // The next spare joins the new master, which dies in its turn.
    let mut third = Process::start("master", service, cluster);
    assert_eq!(
        third.wait_for_end().code(),
        Some(43),
        "an old master may not come back as one"
    );
    drop(third);
}

fn a_killed_spare_is_done_without_and_replaced() {
    let (service, cluster) = hubs();
    let (mut master, mut spare) = ready(service, cluster);
    let mut client = Client::new(service);
    assert_eq!(client.ask(10), (10, 1));
    spare.kill();
    master.wait_for("loss of the spare", |event| {
        matches!(event, Event::PeerLost { .. })
    });
    assert_eq!(client.ask(10), (20, 0));
    let mut next = Process::start("spare", service, cluster);
    next.wait_for("readiness", |event| *event == Event::Ready);
    master.wait_for("readiness", |event| *event == Event::Ready);
    assert_eq!(client.ask(10), (30, 0));
    master.kill();
    next.wait_for("takeover", |event| matches!(event, Event::Takeover { .. }));
    assert_eq!(client.ask(10), (40, 1));
}

/// The worker's own thread, and how many threads are workers'.
fn threads_of(process: &mut Process) -> (String, String) {
    let is_told = |event: &Event| matches!(event, Event::Test { .. });
    let told = process.past.iter().find(|event| is_told(event)).cloned();
    match told.unwrap_or_else(|| process.wait_for("worker", is_told)) {
        Event::Test { name, detail, .. } => (name, detail),
        other => panic!("{other:?} is no word of a worker"),
    }
}

fn a_program_without_threads_has_none() {
    for (roles, name, workers) in [
        (["unthreaded-master", "unthreaded-spare"], "main", "0"),
        (["master", "spare"], "worker", "1"),
    ] {
        let expected = (name.to_string(), workers.to_string());
        let (service, cluster) = hubs();
        let (mut master, mut spare) = ready_as(roles, service, cluster, &[]);
        assert_eq!(threads_of(&mut master), expected);
        let mut client = Client::new(service);
        assert_eq!(client.ask(5).0, 5);
        master.kill();
        assert_eq!(threads_of(&mut spare), expected);
        assert_eq!(client.ask(5).0, 10);
    }
}

fn a_spare_with_nothing_ends_when_its_master_does() {
    let (service, cluster) = hubs();
    let mut spare = Process::start("spare", service, cluster);
    spare.wait_for("its role", |event| {
        *event
            == Event::Role {
                role: Role::Spare,
                term: Term::FIRST,
            }
    });
    let mut master = Process::start("master", service, cluster);
    spare.wait_for("a pair", |event| *event == Event::Paired);
    master.kill();
    let held = spare.past.contains(&Event::Ready);
    // Its first checkpoint may have been faster than the kill.
    if !held && spare.wait_for_end().code() == Some(43) {
        return;
    }
    spare.wait_for("takeover", |event| matches!(event, Event::Takeover { .. }));
}

/// A directory that is a pair's disk.
struct Disk(PathBuf);

impl Disk {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hotspare-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).expect("a directory of its own");
        Self(path)
    }

    /// The words for a node with this disk.
    fn words(&self, others: &[&str]) -> Vec<String> {
        let disk = format!("disk={}", self.0.display());
        let others = others.iter().map(|word| word.to_string());
        others.chain([disk]).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn is_master_in(term: u64) -> impl Fn(&Event) -> bool {
    let (role, term) = (Role::Master, Term(term));
    move |event| *event == Event::Role { role, term }
}

fn cause(event: &Event) -> Option<&str> {
    match event {
        Event::Takeover { cause, .. } => Some(cause),
        _ => None,
    }
}

fn a_pair_that_lost_both_machines_goes_on_from_its_files() {
    let disk = Disk::new("restore");
    let (service, cluster) = hubs();
    let (mut master, mut spare) = ready_with(service, cluster, &disk.words(&["files=HSCPT"]));
    let mut client = Client::new(service);
    let mut sum = 0;
    for count in 1..60 {
        sum += count as u64;
        assert_eq!(client.ask(count).0, sum);
    }
    master.kill();
    spare.kill();
    // As if the power had failed in the middle of the next checkpoint.
    for name in ["HSCPT0.CPT", "HSCPT1.CPT"] {
        if let Ok(mut bytes) = std::fs::read(disk.path(name)) {
            bytes.extend_from_slice(b"HSCP\x02\0\x50\0and then nothing");
            std::fs::write(disk.path(name), bytes).expect("the disk");
        }
    }
    let words = disk.words(&["files=HSCPT", "restore=HSCPT"]);
    let mut master = Process::start_with("master", service, cluster, &words);
    master.wait_for("its role", is_master_in(2));
    master.wait_for("service", |event| *event == Event::Serving);
    sum += 1;
    assert_eq!(client.ask(1), (sum, 1), "what was answered is kept");
    let mut spare = Process::start_with("spare", service, cluster, &disk.words(&["files=HSCPT"]));
    spare.wait_for("readiness", |event| *event == Event::Ready);
    master.wait_for("readiness", |event| *event == Event::Ready);
    sum += 5;
    assert_eq!(client.ask(5), (sum, 0));
    master.kill();
    spare.wait_for("its role", is_master_in(3));
    sum += 2;
    assert_eq!(client.ask(2), (sum, 1));
    // And once more, from what the third master has written alone.
    spare.kill();
    let mut master = Process::start_with("master", service, cluster, &words);
    master.wait_for("its role", is_master_in(4));
    sum += 1;
    assert_eq!(client.ask(1), (sum, 1));
}

fn whoever_is_asked_to_restore_never_begins_empty() {
    let disk = Disk::new("empty");
    std::fs::write(disk.path("HSCPT0.CPT"), [7; 3000]).expect("the disk");
    let (service, cluster) = hubs();
    let words = disk.words(&["restore=HSCPT"]);
    let mut master = Process::start_with("master", service, cluster, &words);
    // (Why is in its log, and in the library's tests.)
    assert_eq!(master.wait_for_end().code(), Some(43));
    assert!(!master.events.iter().any(|event| event == Event::Serving));
}

fn each_sign_causes_a_takeover() {
    for (detect, sign, expected) in [
        ("icmp", None, "icmp"),
        ("all(heartbeat,icmp)", None, "all"),
        ("any(file:NOSUCH,heartbeat)", None, "heartbeat"),
        // With these the master's death alone means nothing.
        ("file:FAIL.NOW", Some("FAIL.NOW"), "file"),
        ("all(user)", Some("USERSIGN"), "user"),
    ] {
        let disk = Disk::new("signs");
        let (service, cluster) = hubs();
        let words = disk.words(&[&format!("detect={detect}")]);
        let (mut master, mut spare) = ready_with(service, cluster, &words);
        let mut client = Client::new(service);
        assert_eq!(client.ask(10), (10, 1));
        master.kill();
        if let Some(sign) = sign {
            std::fs::write(disk.path(sign), []).expect("the disk");
        }
        let event = spare.wait_for("takeover", |event| cause(event).is_some());
        assert_eq!(cause(&event), Some(expected), "by {detect}");
        assert_eq!(client.ask(10), (20, 1));
        assert!(
            !disk.path("FAIL.NOW").exists(),
            "the next spare would believe it too"
        );
    }
}

fn the_loss_of_the_cluster_link_is_no_death() {
    let disk = Disk::new("cluster");
    let (service, on_service) = observed_hub();
    let (cluster, on_cluster) = observed_hub();
    let words = disk.words(&["detect=any(all(heartbeat,icmp),file:FAIL.NOW)"]);
    let (mut master, mut spare) = ready_with(service, cluster, &words);
    on_cluster.cut.store(true, Ordering::Relaxed);
    // Heartbeats of both nodes, and pings with their echoes: four frames in 20 ms, so this is longer than the deadline.
    let until = on_service.frames.load(Ordering::Relaxed) + 120;
    while on_service.frames.load(Ordering::Relaxed) < until {
        thread::sleep(Duration::from_millis(1));
    }
    // A living master is replaced by nothing but this, and ends when it hears of it.
    std::fs::write(disk.path("FAIL.NOW"), []).expect("the disk");
    let event = spare.wait_for("takeover", |event| cause(event).is_some());
    assert_eq!(cause(&event), Some("file"));
    assert_eq!(master.wait_for_end().code(), Some(43));
}

fn a_users_pipe_may_fail_without_harm() {
    let (service, cluster) = hubs();
    let (mut master, mut spare) = ready_with(service, cluster, &["pipe=failing".into()]);
    let mut client = Client::new(service);
    for count in 1..30 {
        assert_eq!(client.ask(1).0, count);
    }
    master.kill();
    spare.wait_for("its role", is_master_in(2));
    assert_eq!(client.ask(1), (30, 1));
}

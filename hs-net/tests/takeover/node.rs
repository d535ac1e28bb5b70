//! One node, as a process of its own: cards whose wires are UDP sockets, and an application that counts bytes.

use super::{FRAME_LEN_MAX, PORT, SERVICE};
use allocator_api2::boxed::Box as ClassBox;
use hs_core::checkpoint::file::CheckpointFiles;
use hs_core::checkpoint::{CheckpointId, CheckpointPipe, Compression, Kind, Need, PipeError, PipeWriter};
use hs_core::class::{Class, ClassId};
use hs_core::event::Event;
use hs_core::host::{HostMachine, HostMemory, VolatileFiles};
use hs_core::platform::{Nic, RingFull};
use hs_core::policy::Choice;
use hs_core::registry::thread::{Work, register_state};
use hs_core::restore::Source;
use hs_core::role::{Hearing, Network, PairConfig, Role};
use hs_core::sync::Signal;
use hs_net::detect::{Detection, Liveness, register};
use hs_net::node::{Node, Start, run, run_unthreaded};
use hs_net::service::ConnectionError;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

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

    fn transmit_parts(&self, parts: &[&[u8]]) -> Result<(), RingFull> {
        // A hub that is gone, as at the end of a test, loses frames.
        let _ = self.socket.send(&parts.concat());
        Ok(())
    }

    fn kick(&self) {}

    fn notify(&self, signal: &'static Signal) {
        *self.signal.lock().unwrap() = Some(signal);
    }
}

/// `words`: `disk=DIRECTORY`, `files=NAME`, `restore=NAME`, `detect=EXPRESSION`, `pipe=failing`.
pub(crate) fn node(role: &str, service: u16, cluster: u16, words: &[String]) -> ! {
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
        // Longer than in a guest: this host has other tests to run. Pings are answered by the worker, which waits for its
        // checkpoints: on a busy host for half a second.
        deadline: Duration::from_millis(if word("detect").is_some() { 1500 } else { 300 }),
        ncon: 4,
        connections_max: 16,
        checkpoint: Choice::Auto,
        shadow_pages: 1024,
        compression: Compression::Lz4,
        hearing: Hearing::Own,
        checkpoint_files: word("files").map(|name| CheckpointFiles::new(name).expect("a base name")),
        restore: word("restore").map(|name| Source::parse(name).expect("a name")),
        detection: Some(Detection::parse(word("detect").unwrap_or("heartbeat")).expect("signs")),
        fault: None,
        agent_address: Some(crate::agent::ADDRESS),
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
            let seen = node.look();
            let before = self.bytes;
            let mut service = node.service();
            while let Some(event) = service.next_event() {
                let mut bytes = [0; 4096];
                loop {
                    match service.recv(event.connection, &mut bytes) {
                        Ok(0) | Err(ConnectionError::Gone) => break,
                        Ok(received) => {
                            self.bytes += received as u64;
                            // A client waits for its answer before it asks again: there is room.
                            let _ = service.send(event.connection, &self.bytes.to_le_bytes());
                        }
                        Err(ConnectionError::Finished) => {
                            service.close(event.connection);
                            break;
                        }
                    }
                }
            }
            drop(service);
            node.keep(self.bytes != before);
            node.rest(seen, None);
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

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

mod agent;
mod client;
mod node;

use self::client::Client;
use self::node::node;
use hs_core::event::Event;
use hs_core::role::{Role, Term};
use hs_net::pair::Death;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);
const PORT: u16 = 7;
/// Where the nodes that begin as this are on the cluster link.
const MASTER: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
const SPARE: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
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
    let tests: [(&str, fn()); 10] = [
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
            "a_function_that_nobody_registered_is_not_waited_for",
            a_function_that_nobody_registered_is_not_waited_for,
        ),
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

    /// The number that its peer knows it by.
    fn session(&self) -> u64 {
        let told = self.past.iter().find_map(|event| match event {
            Event::Session { session } => Some(*session),
            _ => None,
        });
        told.expect("it is the first thing that a node says")
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
    assert_eq!(connections, 0, "the client's connection has outlived the machine");
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
    // It may be master by now, for all that the master knows: nobody is answered from here on.
    master.wait_for("word that the spare is silent", |event| {
        matches!(event, Event::PeerSilent { .. })
    });
    agent::tell(cluster, MASTER, spare.session(), Death::Killed);
    master.wait_for(
        "loss of the spare",
        |event| matches!(event, Event::PeerLost { cause, .. } if cause == "killed"),
    );
    assert_eq!(client.ask(10), (20, 0));
    let mut next = Process::start("spare", service, cluster);
    next.wait_for("readiness", |event| *event == Event::Ready);
    master.wait_for("readiness", |event| *event == Event::Ready);
    assert_eq!(client.ask(10), (30, 0));
    master.kill();
    agent::tell(cluster, SPARE, master.session(), Death::Killed);
    next.wait_for("takeover", |event| cause(event) == Some("agent"));
    assert_eq!(client.ask(10), (40, 0));
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
    assert_eq!(client.ask(2), (sum, 0), "its connection has outlived the machine");
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
        if sign == Some("FAIL.NOW") {
            // An earlier pair has left it: it says nothing of this one.
            std::fs::write(disk.path("FAIL.NOW"), []).expect("the disk");
        }
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
        assert_eq!(client.ask(10), (20, 0));
        assert!(
            !disk.path("FAIL.NOW").exists(),
            "the next spare would believe it too"
        );
    }
}

fn a_function_that_nobody_registered_is_not_waited_for() {
    let (service, cluster) = hubs();
    // Without a disk this program registers none; with one it does, and the sign is a sign.
    let mut spare = Process::start_with("spare", service, cluster, &["detect=any(heartbeat,user)".into()]);
    assert_eq!(spare.wait_for_end().code(), Some(43));
}

fn the_loss_of_the_cluster_link_is_no_death() {
    let disk = Disk::new("cluster");
    let (service, on_service) = observed_hub();
    let (cluster, on_cluster) = observed_hub();
    let words = disk.words(&["detect=any(all(heartbeat,icmp),file:FAIL.NOW)"]);
    let (mut master, mut spare) = ready_with(service, cluster, &words);
    on_cluster.cut.store(true, Ordering::Relaxed);
    // Heartbeats of both nodes, and pings with their echoes: four frames in 20 ms, so this is longer than the deadline.
    let until = on_service.frames.load(Ordering::Relaxed) + 400;
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
    assert_eq!(client.ask(1), (30, 0));
}

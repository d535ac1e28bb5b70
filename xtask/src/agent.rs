//! The host's agent: it knows that a guest's process has ended, and tells the other guest.
//!
//! ```text
//!  node a's process ──end──> thread "watch-a" ── obituary(session of a, how, term) ──> node b, on the cluster link
//!     └── event channel: its session and term        <──────────── noted ────────────
//! ```
//!
//! A thread for each guest waits for nothing but the end of its process, with all at hand that it needs then: nothing is between
//! the end and the datagram but that thread's waking up. It says the same again, ever less often, until it is answered. The agent
//! has an address of its own on the cluster link, and fixed neighbours there, so that no ARP is in the way.
//!
//! Deliberately absent: ending guests. The agent tells; the nodes decide.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hs_core::event::Event;
use hs_core::platform::Exit;
use hs_core::role::Term;
use hs_net::channel::frame::{DATAGRAM_LEN_MIN, Datagram, Death, Obituary, Session};
use hs_net::wire::PORT;
use rustix::process::WaitIdStatus;

use crate::events::Line;
use crate::profile::Plan;
use crate::qemu::{Sign, exit_code};

/// When an obituary is said, counted from the end. The other node may be stopped, or its link cut: but not for ever.
const SAID_AT_MS: [u64; 10] = [0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000];

/// What a guest has told of itself.
#[derive(Default)]
struct Record {
    session: Option<u64>,
    term: Option<Term>,
    /// When its obituary was said first, and when the other node had noted it.
    said: Option<Instant>,
    noted: Option<Instant>,
}

/// The agent of one pair.
pub(crate) struct Agent {
    address: Ipv4Addr,
    nodes: [Ipv4Addr; 2],
    records: Arc<[Mutex<Record>; 2]>,
    silenced: Arc<AtomicBool>,
}

/// What there is to do when a guest's process has ended.
pub(crate) struct Watch {
    index: usize,
    /// To the other node.
    socket: UdpSocket,
    records: Arc<[Mutex<Record>; 2]>,
    silenced: Arc<AtomicBool>,
}

fn with<T>(record: &Mutex<Record>, look: impl FnOnce(&mut Record) -> T) -> T {
    look(&mut record.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Agent {
    /// An agent that speaks from the plan's address for it.
    pub(crate) fn new(plan: &Plan) -> Agent {
        Agent {
            address: plan.cluster.agent,
            nodes: [0, 1].map(|index| plan.node[index].cluster_address),
            records: Arc::default(),
            silenced: Arc::default(),
        }
    }

    /// What is to be told every line of guest `index`, as it comes.
    pub(crate) fn ear(&self, index: usize) -> impl Fn(&Sign) + Send + Sync + use<> {
        let records = Arc::clone(&self.records);
        move |sign| match sign {
            Sign::Line(Line::Event(Event::Session { session }), _) => {
                with(&records[index], |record| record.session = Some(*session));
            }
            Sign::Line(Line::Event(Event::Role { term, .. }), _) => {
                with(&records[index], |record| record.term = Some(*term));
            }
            _ => {}
        }
    }

    /// What is to be done at the end of guest `index`.
    ///
    /// # Errors
    /// The agent's address is not there, or no socket is left.
    pub(crate) fn watch(&self, index: usize) -> Result<Watch> {
        let other = SocketAddr::from((self.nodes[1 - index], PORT));
        let socket = UdpSocket::bind((self.address, 0))
            .with_context(|| format!("the agent cannot speak from {}", self.address))?;
        socket
            .connect(other)
            .with_context(|| format!("the agent cannot reach {other}"))?;
        Ok(Watch {
            index,
            socket,
            records: Arc::clone(&self.records),
            silenced: Arc::clone(&self.silenced),
        })
    }

    /// From here on nobody is told: all is to end.
    pub(crate) fn silence(&self) {
        self.silenced.store(true, Ordering::SeqCst);
    }

    /// When the other node was told of the end of guest `index`, and when it had noted that.
    pub(crate) fn told(&self, index: usize) -> (Option<Instant>, Option<Instant>) {
        with(&self.records[index], |record| (record.said, record.noted))
    }
}

impl Watch {
    /// The guest's process has ended so: tells the other node, until that has noted it or has had its chances.
    pub(crate) fn ended(self, status: &WaitIdStatus) {
        let ended = Instant::now();
        let record = &self.records[self.index];
        let (session, term) = with(record, |record| (record.session, record.term));
        // One that has never said who it is has met nobody.
        let Some(session) = session.map(Session) else {
            return;
        };
        let obituary = Obituary {
            session,
            death: death(status),
            term: term.unwrap_or(Term::FIRST),
        };
        let mut datagram = [0; DATAGRAM_LEN_MIN];
        let len = Datagram::Obituary(obituary).emit(&mut datagram);
        let mut due = SAID_AT_MS.map(|ms| ended + Duration::from_millis(ms)).into_iter();
        let mut next = due.next();
        while next.is_some() && !self.silenced.load(Ordering::SeqCst) {
            // What goes wrong here goes wrong as on any network: it is said again.
            let _ = self.socket.send(&datagram[..len]);
            with(record, |record| _ = record.said.get_or_insert_with(Instant::now));
            next = due.next();
            if let Some(until) = next
                && self.noted(session, until)
            {
                with(record, |record| record.noted = Some(Instant::now()));
                return;
            }
        }
    }

    /// Whether the other node notes the obituary before `until`.
    fn noted(&self, session: Session, until: Instant) -> bool {
        let mut datagram = [0; DATAGRAM_LEN_MIN];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.socket.set_read_timeout(Some(left)).is_err() {
                return false;
            }
            match self.socket.recv(&mut datagram) {
                Ok(len) if Datagram::parse(&datagram[..len]) == Ok(Datagram::Noted(session)) => return true,
                Ok(_) => {}
                // Nothing came, or word that it cannot come.
                Err(_) => {
                    std::thread::sleep(until.saturating_duration_since(Instant::now()));
                    return false;
                }
            }
        }
    }
}

/// How a guest ended, as the other node is told. Its own fault is what its exit status says; whatever ended QEMU from outside
/// would have been a machine's end.
fn death(status: &WaitIdStatus) -> Death {
    const FAULTS: [i32; 2] = [exit_code(Exit::Panic), exit_code(Exit::Exception)];
    match status.exit_status() {
        Some(code) if FAULTS.contains(&code) => Death::Panicked,
        Some(_) => Death::Ended,
        None => Death::Killed,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

    use super::*;

    /// The status of a shell that does this, as the watching thread sees it.
    fn status_of(script: &str) -> WaitIdStatus {
        let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(Pid::from_child(&child)), look)
            .unwrap()
            .unwrap();
        child.wait().unwrap();
        status
    }

    #[test]
    fn a_death_is_told_by_its_status() {
        for (script, expected) in [
            ("exit 35", Death::Panicked),
            ("exit 37", Death::Panicked),
            ("exit 33", Death::Ended),
            ("exit 0", Death::Ended),
            ("kill -KILL $$", Death::Killed),
            ("kill -ABRT $$", Death::Killed),
        ] {
            assert_eq!(death(&status_of(script)), expected, "{script}");
        }
    }

    /// An agent and two nodes' ports on the loopback.
    fn agent() -> (Agent, UdpSocket) {
        let node = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        node.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let agent = Agent {
            address: Ipv4Addr::LOCALHOST,
            nodes: [Ipv4Addr::LOCALHOST; 2],
            records: Arc::default(),
            silenced: Arc::default(),
        };
        (agent, node)
    }

    fn watch(agent: &Agent, node: &UdpSocket) -> Watch {
        let watch = agent.watch(0).unwrap();
        watch.socket.connect(node.local_addr().unwrap()).unwrap();
        watch
    }

    #[test]
    fn an_obituary_is_said_again_until_it_is_noted() {
        let (agent, node) = agent();
        let hear = agent.ear(0);
        let event = |event| Sign::Line(Line::Event(event), Instant::now());
        hear(&event(Event::Session { session: 5 }));
        let role = hs_core::role::Role::Master;
        hear(&event(Event::Role { role, term: Term(3) }));
        let watch = watch(&agent, &node);
        let status = status_of("kill -KILL $$");
        let ended = std::thread::spawn(move || watch.ended(&status));
        let mut datagram = [0; DATAGRAM_LEN_MIN];
        for said in 0..4 {
            let (len, from) = node.recv_from(&mut datagram).unwrap();
            let Ok(Datagram::Obituary(obituary)) = Datagram::parse(&datagram[..len]) else {
                panic!("no obituary")
            };
            assert_eq!(
                (obituary.session, obituary.death, obituary.term),
                (Session(5), Death::Killed, Term(3))
            );
            // Somebody else's is no answer.
            let answered = if said < 3 { Session(6) } else { Session(5) };
            let len = Datagram::Noted(answered).emit(&mut datagram);
            node.send_to(&datagram[..len], from).unwrap();
        }
        ended.join().unwrap();
        let (said, noted) = agent.told(0);
        assert!(said.unwrap() <= noted.unwrap());
    }

    #[test]
    fn nothing_is_said_of_the_nameless_nor_at_the_end_of_all() {
        for silenced in [false, true] {
            let (agent, node) = agent();
            if silenced {
                agent.ear(0)(&Sign::Line(
                    Line::Event(Event::Session { session: 5 }),
                    Instant::now(),
                ));
                agent.silence();
            }
            watch(&agent, &node).ended(&status_of("exit 0"));
            node.set_nonblocking(true).unwrap();
            node.recv(&mut [0; 64]).unwrap_err();
            assert_eq!(agent.told(0), (None, None));
        }
    }
}

//! The guest: joins the server with the kernel and the pair.
//!
//! All state lies in two classes, the data apart from the connections, so that what changes together lies together. One
//! worker runs the event loop; it sleeps until a frame has arrived, a checkpoint has ended or a time has come.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};
use core::cell::Cell;
use core::net::SocketAddr;
use core::time::Duration;

use allocator_api2::boxed::Box;
use hs_core::checkpoint::Flags;
use hs_core::class::{Class, ClassId};
use hs_core::event::Event;
use hs_core::platform::{Exit, Instant, Machine};
use hs_core::registry::thread::{self, Work};
use hs_net::node::{Node, ServiceGuard, Start, node};
use hs_net::service::{ConnectionError, ConnectionId};
use kernel::Guest;
use kv::command::{Pair, Surroundings};
use kv::options::Options;
use kv::server::{End, News, Server, Transport};

kernel::entry!(main);

/// The application's own number: nodes pair only with the same.
const APPLICATION: u64 = u64::from_be_bytes(*b"hs-kv\0\0\x01");

/// Keys and values.
const DATA: ClassId = ClassId(1);
/// Clients, their half-read requests and half-sent replies, and the server itself.
const CONNECTIONS: ClassId = ClassId(2);

/// What the classes begin with; they double as they need.
const DATA_BYTES: usize = 4 << 20;
const CONNECTIONS_BYTES: usize = 1 << 20;

/// Connections that may wait to be accepted.
const BACKLOG: usize = 32;

/// How old the pair's figures in `INFO` may be.
const FIGURES_AGE: Duration = Duration::from_millis(50);

fn main(guest: &'static Guest) -> ! {
    let words = guest.options().application.iter().map(String::as_str);
    if let Err(error) = Options::parse(words) {
        refuse(guest, &format!("{error}"));
    }
    let Some(pair) = guest.options().pair.clone() else {
        refuse(
            guest,
            "kv runs as a node of a pair: hs.role= and the pair's addresses are missing",
        );
    };
    let &[service_nic, cluster_nic, ..] = guest.nics() else {
        refuse(
            guest,
            &format!("kv needs two network cards, and {} are there", guest.nics().len()),
        );
    };
    hs_net::node::run(Start {
        machine: guest,
        memory: guest,
        service_nic,
        cluster_nic,
        pair,
        application: APPLICATION,
        start,
    })
}

fn refuse(guest: &Guest, why: &str) -> ! {
    log::error!("{why}");
    guest.emit(&Event::Refused {
        what: "options".to_string(),
        why: why.to_string(),
    });
    guest.exit(Exit::BadOptions)
}

/// Makes the server, on a first master.
fn start(node: &'static Node) -> Result<(), String> {
    let words = kernel::guest().options().application.iter().map(String::as_str);
    let options = Options::parse(words).map_err(|error| format!("{error}"))?;
    let data = Class::create(DATA, DATA_BYTES).map_err(|error| format!("{error}"))?;
    let connections = Class::create(CONNECTIONS, CONNECTIONS_BYTES).map_err(|error| format!("{error}"))?;
    let machine = node.machine();
    let random = [(); 4].map(|()| machine.random_u64());
    let server = Server::new(data, connections, options, random, wall_ms(machine))
        .map_err(|_| String::from("there is no memory for the server"))?;
    let kv = Box::try_new_in(Kv { server }, connections)
        .map_err(|_| String::from("there is no memory for the server"))?;
    node.service()
        .listen(options.port, BACKLOG)
        .map_err(|error| format!("{error}"))?;
    thread::register_state(Box::leak(kv)).map_err(|error| format!("{error}"))
}

fn wall_ms(machine: &dyn Machine) -> u64 {
    machine.wall_clock().as_millis() as u64
}

/// The worker. It lies in a class.
struct Kv {
    server: Server<Class, ConnectionId>,
}

impl Work for Kv {
    fn work(&'static mut self) {
        let node = node();
        let machine = node.machine();
        let figures = Figures::new(node);
        self.server.resume(&mut Wire(&mut node.service()));
        loop {
            let seen = node.signal().seen();
            let now = machine.now();
            figures.refresh(now);
            let mut service = node.service();
            service.poll(now);
            let wall_ms = wall_ms(machine);
            let round = self.server.round(&mut Wire(&mut service), &figures, wall_ms);
            service.flush(machine.now());
            let poll_at = service.poll_at(machine.now());
            drop(service);
            if round.changed || node.checkpoint_wanted() {
                // Refused for now or lost later, the node remembers, and asks for it again.
                let _ = node.checkpoint(Flags::ASYNC | Flags::INCREMENTAL);
            }
            if !round.busy {
                let due = round
                    .due_ms
                    .map(|due| now + Duration::from_millis(due.saturating_sub(wall_ms)));
                node.signal()
                    .wait(seen, [poll_at, due].into_iter().flatten().min());
            }
        }
    }
}

/// The pair's figures, which `INFO` tells: read before the service stack is locked, because the pair's lock is not taken
/// under that one.
struct Figures {
    node: &'static Node,
    read_at: Cell<Instant>,
    pair: Cell<Pair>,
}

impl Figures {
    fn new(node: &'static Node) -> Self {
        Self {
            node,
            read_at: Cell::new(node.machine().now()),
            pair: Cell::new(Self::read(node)),
        }
    }

    fn read(node: &Node) -> Pair {
        Pair {
            role: node.role(),
            term: node.term(),
            spare: node.has_spare(),
            status: node.status(),
            build_id: node.machine().build_id(),
        }
    }

    fn refresh(&self, now: Instant) {
        if now - self.read_at.get() >= FIGURES_AGE {
            self.pair.set(Self::read(self.node));
            self.read_at.set(now);
        }
    }
}

impl Surroundings for Figures {
    fn pair(&self) -> Pair {
        self.pair.get()
    }
}

/// The service stack as the server's transport.
struct Wire<'a, 'b>(&'a mut ServiceGuard<'b>);

fn end(error: ConnectionError) -> End {
    match error {
        ConnectionError::Finished => End::Finished,
        ConnectionError::Gone => End::Gone,
    }
}

impl Transport for Wire<'_, '_> {
    type Connection = ConnectionId;

    fn next_event(&mut self) -> Option<(ConnectionId, News)> {
        let event = self.0.next_event()?;
        Some((
            event.connection,
            News {
                opened: event.news.opened,
                closed: event.news.closed,
            },
        ))
    }

    fn is_open(&mut self, connection: ConnectionId) -> bool {
        self.0.is_open(connection)
    }

    fn peer(&mut self, connection: ConnectionId) -> Option<SocketAddr> {
        self.0.peer(connection)
    }

    fn receive(&mut self, connection: ConnectionId, into: &mut [u8]) -> Result<usize, End> {
        self.0.recv(connection, into).map_err(end)
    }

    fn send(&mut self, connection: ConnectionId, bytes: &[u8]) -> Result<usize, End> {
        self.0.send(connection, bytes).map_err(end)
    }

    fn close(&mut self, connection: ConnectionId) {
        self.0.close(connection);
    }

    fn abort(&mut self, connection: ConnectionId) {
        self.0.abort(connection);
    }
}

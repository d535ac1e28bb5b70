//! The guest: joins the server with the kernel and the pair.
//!
//! All state lies in two classes, the data apart from the connections, so that what changes together lies together. One
//! worker runs the event loop; it sleeps until a frame has arrived, a checkpoint has ended or a time has come.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use allocator_api2::boxed::Box;
use hs_core::class::{Class, ClassId};
use hs_core::platform::Machine;
use hs_core::registry::descriptor::UdpFlags;
use hs_core::registry::thread::{self, Work};
use hs_net::commit::Commit;
use hs_net::node::descriptors::DescriptorError;
use hs_net::node::{Node, node};
use hs_net::service::ConnectionId;
use hs_net::transport::{NodeDatagrams, NodeTransport};
use kernel::Guest;
use kv::command::{Pair, Surroundings};
use kv::options::Options;
use kv::server::{Clock, SCRATCH_BYTES, Server};

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

/// Connections that may wait to be accepted: as many as Redis has. Whoever finds no room tries again after a second.
const BACKLOG: usize = 511;

fn main(guest: &'static Guest) -> ! {
    let options = guest.options();
    if let Err(error) = Options::parse(options.application.iter().map(String::as_str)) {
        hs_net::node::refuse(guest, &format!("{error}"));
    }
    hs_net::node::serve(
        guest,
        guest.memory(),
        options.pair.as_ref(),
        guest.nics(),
        APPLICATION,
        start,
    )
}

/// Makes the server, on a first master.
fn start(node: &'static Node) -> Result<(), String> {
    let words = kernel::guest().options().application.iter().map(String::as_str);
    let options = Options::parse(words).map_err(|error| format!("{error}"))?;
    let data = Class::create(DATA, DATA_BYTES).map_err(|error| format!("{error}"))?;
    let connections = Class::create(CONNECTIONS, CONNECTIONS_BYTES).map_err(|error| format!("{error}"))?;
    let machine = node.machine();
    let random = [(); 4].map(|()| machine.random_u64());
    let clients_max = node.config().connections_max;
    let server = Server::new(data, connections, options, clients_max, random, wall_ms(machine))
        .map_err(|_| String::from("there is no memory for the server"))?;
    let datagrams = open_datagrams(node, options.port).map_err(|error| format!("{error}"))?;
    let kv = Box::try_new_in(Kv { server, datagrams }, connections)
        .map_err(|_| String::from("there is no memory for the server"))?;
    node.service()
        .listen_with(options.port, BACKLOG, options.commit)
        .map_err(|error| format!("{error}"))?;
    if options.async_port != 0 {
        node.service()
            .listen_with(options.async_port, BACKLOG, Commit::Async)
            .map_err(|error| format!("async-port: {error}"))?;
    }
    thread::register_state(Box::leak(kv)).map_err(|error| format!("{error}"))
}

/// The socket that datagrams come to, which a takeover brings back under its number.
fn open_datagrams(node: &'static Node, port: u16) -> Result<u32, DescriptorError> {
    let descriptors = node.descriptors();
    let number = descriptors.open_udp()?;
    descriptors.bind(number, port)?;
    descriptors.register_udp(number, UdpFlags::GETNAME)?;
    Ok(number)
}

fn wall_ms(machine: &dyn Machine) -> u64 {
    machine.wall_clock().as_millis() as u64
}

/// The worker. It lies in a class.
struct Kv {
    server: Server<Class, ConnectionId>,
    /// The descriptor of the socket that datagrams come to.
    datagrams: u32,
}

impl Work for Kv {
    fn work(&'static mut self) {
        let node = node();
        let machine = node.machine();
        // On the stack, and so not in a checkpoint.
        let mut scratch = [0; SCRATCH_BYTES];
        let number = self.datagrams;
        let clock = Clock::new(self.server.clock_ms(), wall_ms(machine));
        self.server
            .resume(&mut NodeTransport(node), clock.now_ms(wall_ms(machine)));
        loop {
            let seen = node.look();
            let now = machine.now();
            let now_ms = clock.now_ms(wall_ms(machine));
            let figures = Figures(node);
            let round = self
                .server
                .round(&mut NodeTransport(node), &figures, &mut scratch, now_ms);
            let mut datagrams = NodeDatagrams { node, number };
            let answered = self.server.answer(&mut datagrams, &figures, &mut scratch, now_ms);
            let round = round.and(answered);
            node.keep(round.changed);
            if !round.busy {
                let due = round
                    .due_ms
                    .map(|due| now + Duration::from_millis(due.saturating_sub(now_ms)));
                node.rest(seen, due);
            }
        }
    }
}

/// The pair's figures, which `INFO` tells.
struct Figures(&'static Node);

impl Surroundings for Figures {
    fn pair(&self) -> Pair {
        Pair {
            role: self.0.role(),
            term: self.0.term(),
            spare: self.0.has_spare(),
            status: self.0.status(),
            build_id: self.0.machine().build_id(),
        }
    }
}

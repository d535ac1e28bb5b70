//! The guest: joins the streams with the kernel and the pair.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;

use allocator_api2::boxed::Box;
use hs_core::class::{Class, ClassId};
use hs_core::registry::thread::{self, Work};
use hs_net::node::{Node, node};
use hs_net::service::ConnectionId;
use hs_net::transport::NodeTransport;
use kernel::Guest;
use streams::{PIECE_BYTES, Server};

kernel::entry!(main);

/// The application's own number: nodes pair only with the same.
const APPLICATION: u64 = u64::from_be_bytes(*b"hsstream");
const STREAMS: ClassId = ClassId(1);
/// Each stream has a piece of 4 KiB.
const STREAMS_BYTES: usize = 1 << 20;
const PORT: u16 = 5001;
const BACKLOG: usize = 32;

fn main(guest: &'static Guest) -> ! {
    let pair = guest.options().pair.as_ref();
    hs_net::node::serve(guest, guest.memory(), pair, guest.nics(), APPLICATION, start)
}

/// Makes the server, on a first master.
fn start(node: &'static Node) -> Result<(), String> {
    let class = Class::create(STREAMS, STREAMS_BYTES).map_err(|error| format!("{error}"))?;
    let no_memory = || String::from("there is no memory for the streams");
    let server = Server::new(class).map_err(|_| no_memory())?;
    let worker = Box::try_new_in(Worker { server }, class).map_err(|_| no_memory())?;
    node.service()
        .listen(PORT, BACKLOG)
        .map_err(|error| format!("{error}"))?;
    thread::register_state(Box::leak(worker)).map_err(|error| format!("{error}"))
}

/// The worker. It lies in a class.
struct Worker {
    server: Server<Class, ConnectionId>,
}

impl Work for Worker {
    fn work(&'static mut self) {
        let node = node();
        let mut transport = NodeTransport(node);
        // On the stack, and so not in a checkpoint.
        let mut scratch = [0; PIECE_BYTES];
        self.server.resume(&mut transport);
        loop {
            let seen = node.look();
            let round = self.server.round(&mut transport, &mut scratch);
            node.keep(round.changed);
            if round.busy {
                node.service().flush(node.machine().now());
            } else {
                node.rest(seen, None);
            }
        }
    }
}

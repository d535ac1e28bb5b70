//! A guest book that outlives its machine: whoever sends a line is counted, and told who came before.
#![no_std]
#![no_main]
extern crate alloc;

use alloc::{format, string::String};
use allocator_api2::{boxed::Box, vec::Vec};
use hs_core::class::{Class, ClassId};
use hs_core::registry::thread::{self, Work};
use hs_net::node::{Node, node};

kernel::entry!(main);

fn main(guest: &'static kernel::Guest) -> ! {
    let (pair, number) = (guest.options().pair.as_ref(), u64::from_be_bytes(*b"visitors"));
    hs_net::node::serve(guest, guest.memory(), pair, guest.nics(), number, start)
}

struct Book {
    visitors: u64,
    last: Vec<u8, Class>,
}

fn start(node: &'static Node) -> Result<(), String> {
    let class = Class::create(ClassId(1), 64 << 10).map_err(|error| format!("{error}"))?;
    let last = Vec::new_in(class);
    let book = Box::new_in(Book { visitors: 0, last }, class);
    node.service()
        .listen(7000, 8)
        .map_err(|error| format!("{error}"))?;
    thread::register_state(Box::leak(book)).map_err(|error| format!("{error}"))
}

impl Work for Book {
    fn work(&'static mut self) {
        let (node, mut line) = (node(), [0; 256]);
        loop {
            let seen = node.look();
            let before = self.visitors;
            for event in core::iter::from_fn(|| node.service().next_event()) {
                while let len @ 1.. = node.receive(event.connection, &mut line) {
                    self.visitors += 1;
                    let last = String::from_utf8_lossy(&self.last);
                    let reply = format!("Visitor {}; before you: {}\r\n", self.visitors, last.trim());
                    node.service().send(event.connection, reply.as_bytes()).ok();
                    self.last.clear();
                    self.last.extend_from_slice(&line[..len]);
                }
            }
            node.keep(self.visitors > before);
            node.rest(seen, None);
        }
    }
}

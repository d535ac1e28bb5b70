//! The guest: joins the table with the kernel and the pair.
//!
//! One worker runs everything. After each move a checkpoint is taken; nothing is shown before it is on its way, and a
//! program is answered only when the spare has it.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use allocator_api2::boxed::Box;
use hs_core::class::{Class, ClassId};
use hs_core::registry::thread::{self, Work};
use hs_net::node::{Node, node};
use hs_net::service::ConnectionId;
use kernel::Guest;
use tetris::options::Options;
use tetris::scores::{Day, Scores};
use tetris::table::{Ended, News, SCRATCH_BYTES, Table, Wire};

kernel::entry!(main);

/// The application's own number: nodes pair only with the same.
const APPLICATION: u64 = u64::from_be_bytes(*b"hs-tet\0\x01");

/// Everything lies here.
const GAME: ClassId = ClassId(1);

const GAME_BYTES: usize = 256 << 10;

/// Connections that may wait to be accepted.
const BACKLOG: usize = 8;

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

/// Makes the table, on a first master.
fn start(node: &'static Node) -> Result<(), String> {
    let words = kernel::guest().options().application.iter().map(String::as_str);
    let options = Options::parse(words).map_err(|error| format!("{error}"))?;
    let class = Class::create(GAME, GAME_BYTES).map_err(|error| format!("{error}"))?;
    let seed = options.seed.unwrap_or_else(|| node.machine().random_u64());
    let table = Table::new(seed, options.ticks, Scores::new());
    let tetris = Box::try_new_in(Tetris { table }, class)
        .map_err(|_| String::from("there is no memory for the game"))?;
    node.service()
        .listen(options.port, BACKLOG)
        .map_err(|error| format!("{error}"))?;
    thread::register_state(Box::leak(tetris)).map_err(|error| format!("{error}"))
}

/// The worker. It lies in a class.
struct Tetris {
    table: Table<ConnectionId>,
}

impl Work for Tetris {
    fn work(&'static mut self) {
        let node = node();
        let machine = node.machine();
        if let Some(console) = machine.console() {
            console.notify(node.signal());
        }
        self.table.resume(&mut Lines(node));
        let mut scratch = [0; SCRATCH_BYTES];
        let mut looked = machine.now();
        loop {
            let seen = node.look();
            let now = machine.now();
            let today = Day::of(machine.wall_clock().as_secs());
            let round = self
                .table
                .round(&mut Lines(node), &mut scratch, now.since(looked), today);
            looked = now;
            if round.changed && round.answer_due {
                node.keep_for_certain();
            } else {
                node.keep(round.changed);
            }
            self.table.show(&mut Lines(node));
            if round.busy {
                node.service().flush(machine.now());
            } else {
                let due = round.due_in.map(|due| now + due.max(Duration::from_micros(1)));
                node.rest(seen, due);
            }
        }
    }
}

/// The service stack and the console as the table's wire.
struct Lines(&'static Node);

impl Wire for Lines {
    type Connection = ConnectionId;

    fn next_event(&mut self) -> Option<News<ConnectionId>> {
        let event = self.0.service().next_event()?;
        Some(News {
            connection: event.connection,
            opened: event.news.opened,
            closed: event.news.closed,
        })
    }

    fn is_open(&mut self, connection: ConnectionId) -> bool {
        self.0.service().is_open(connection)
    }

    fn receive(&mut self, connection: ConnectionId, into: &mut [u8]) -> Result<usize, Ended> {
        self.0.service().recv(connection, into).map_err(|_| Ended)
    }

    fn send(&mut self, connection: ConnectionId, bytes: &[u8]) -> usize {
        // One that is gone takes nothing; the next round forgets it.
        self.0.service().send(connection, bytes).unwrap_or(0)
    }

    fn close(&mut self, connection: ConnectionId) {
        self.0.service().close(connection);
    }

    fn receive_console(&mut self, into: &mut [u8]) -> usize {
        self.0
            .machine()
            .console()
            .map_or(0, |console| console.receive(into))
    }

    fn send_console(&mut self, bytes: &[u8]) {
        if let Some(console) = self.0.machine().console() {
            console.send(bytes);
        }
    }
}

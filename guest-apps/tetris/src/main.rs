//! The guest: joins the table with the kernel and the pair.
//!
//! One worker runs everything. What viewers are sent goes out when the spare has the move that it shows: the service stack sees to
//! that. Nothing holds back what the console shows, so while somebody sits there, a move is shown there only when the spare
//! has it.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use allocator_api2::boxed::Box;
use hs_core::class::{Class, ClassId};
use hs_core::registry::descriptor::FileMode;
use hs_core::registry::thread::{self, Work};
use hs_net::node::descriptors::{DescriptorError, Descriptors, Seek};
use hs_net::node::{Node, node};
use hs_net::service::ConnectionId;
use kernel::Guest;
use tetris::options::Options;
use tetris::scores::{Day, FILE_BYTES_MAX, Scores};
use tetris::table::{Ended, News, SCRATCH_BYTES, Table, Wire};

kernel::entry!(main);

/// The application's own number: nodes pair only with the same.
const APPLICATION: u64 = u64::from_be_bytes(*b"hs-tet\0\x01");

/// Everything lies here.
const GAME: ClassId = ClassId(1);

const GAME_BYTES: usize = 256 << 10;

const SCORES_PATH: &str = "SCORES.TXT";

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
    let descriptors = node.descriptors();
    let (file, scores) = match open_scores(descriptors) {
        Ok((file, scores)) => (Some(file), scores),
        Err(error) => {
            log::warn!("scores are kept in memory only: {error}");
            (None, Scores::new())
        }
    };
    let table = Table::new(seed, options.ticks, scores);
    let tetris = Box::try_new_in(Tetris { table, file }, class)
        .map_err(|_| String::from("there is no memory for the game"))?;
    node.service()
        .listen(options.port, BACKLOG)
        .map_err(|error| format!("{error}"))?;
    thread::register_state(Box::leak(tetris)).map_err(|error| format!("{error}"))
}

/// Opens and registers the file of scores, and reads what stands there.
fn open_scores(descriptors: Descriptors) -> Result<(u32, Scores), DescriptorError> {
    let file = descriptors.open(SCORES_PATH, FileMode::READ | FileMode::WRITE)?;
    let mut text = [0; FILE_BYTES_MAX];
    let len = descriptors.read(file, &mut text)?;
    descriptors.register_file(file)?;
    Ok((file, Scores::of_file(&text[..len])))
}

/// The worker. It lies in a class.
struct Tetris {
    table: Table<ConnectionId>,
    /// The descriptor of the scores' file: the same number wherever the game goes on.
    file: Option<u32>,
}

impl Tetris {
    /// Writes the scores down, where there is a file for them.
    fn write_scores(&mut self) {
        let Some(file) = self.file else { return };
        let mut text = [0; FILE_BYTES_MAX];
        let len = self.table.scores().to_file(&mut text);
        let descriptors = node().descriptors();
        // First what is new: a machine that dies in between leaves more lines than there are, not fewer.
        let written = descriptors
            .seek(file, Seek::Set(0))
            .and_then(|_| descriptors.write(file, &text[..len]))
            .and_then(|()| descriptors.truncate(file, len as u64))
            .and_then(|()| descriptors.sync(file));
        if let Err(error) = written {
            log::warn!("scores are kept in memory only from here on: {error}");
            self.file = None;
            self.table.lose_disk();
        }
    }
}

impl Work for Tetris {
    fn work(&'static mut self) {
        let node = node();
        let machine = node.machine();
        if let Some(console) = machine.console() {
            console.notify(node.signal());
        }
        self.table.resume(&mut Lines(node));
        // Whether the game may have changed since the spare certainly had it: by the clock, or before somebody came to the console.
        let mut is_ahead = true;
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
            if round.scored {
                self.write_scores();
            }
            self.table.show(&mut Lines(node));
            is_ahead |= round.changed;
            if is_ahead && self.table.is_console_watched() {
                is_ahead = !node.keep_for_certain();
            } else {
                node.keep(round.changed);
            }
            self.table.show_console(&mut Lines(node));
            if !round.busy {
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

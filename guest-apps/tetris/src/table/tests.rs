//! The table with connections made of queues.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use super::*;
use crate::screen::BEGIN;
use crate::screen::tests::Screen;
use crate::viewer::{ENQUIRY, GREETING};

#[derive(Default)]
struct Queues {
    news: VecDeque<News<usize>>,
    /// Of each connection: what was typed, what was sent, whether it is open on either side.
    connections: Vec<Queue>,
    console: Vec<u8>,
    console_typed: VecDeque<u8>,
}

#[derive(Default)]
struct Queue {
    typed: VecDeque<u8>,
    sent: Vec<u8>,
    finished: bool,
    closed: bool,
}

impl Queues {
    fn connect(&mut self) -> usize {
        self.connections.push(Queue::default());
        let connection = self.connections.len() - 1;
        self.news.push_back(News {
            connection,
            opened: true,
            closed: false,
        });
        connection
    }

    fn type_in(&mut self, connection: usize, bytes: &[u8]) {
        self.connections[connection].typed.extend(bytes);
    }

    /// What was drawn, without the greeting and telnet's wishes before it.
    fn drawn(&mut self, connection: usize) -> Vec<u8> {
        let sent = core::mem::take(&mut self.connections[connection].sent);
        let at = sent.iter().position(|byte| *byte == 0x1b).unwrap_or(sent.len());
        sent[at..].to_vec()
    }

    fn text(&mut self, connection: usize) -> String {
        String::from_utf8_lossy(&core::mem::take(&mut self.connections[connection].sent)).into_owned()
    }
}

fn take(queue: &mut VecDeque<u8>, into: &mut [u8]) -> usize {
    let len = into.len().min(queue.len());
    for (place, byte) in into.iter_mut().zip(queue.drain(..len)) {
        *place = byte;
    }
    len
}

impl Wire for Queues {
    type Connection = usize;

    fn next_event(&mut self) -> Option<News<usize>> {
        self.news.pop_front()
    }

    fn is_open(&mut self, connection: usize) -> bool {
        !self.connections[connection].closed
    }

    fn receive(&mut self, connection: usize, into: &mut [u8]) -> Result<usize, Ended> {
        let queue = &mut self.connections[connection];
        match take(&mut queue.typed, into) {
            0 if queue.finished => Err(Ended),
            len => Ok(len),
        }
    }

    fn send(&mut self, connection: usize, bytes: &[u8]) -> usize {
        self.connections[connection].sent.extend_from_slice(bytes);
        bytes.len()
    }

    fn close(&mut self, connection: usize) {
        self.connections[connection].closed = true;
    }

    fn receive_console(&mut self, into: &mut [u8]) -> usize {
        take(&mut self.console_typed, into)
    }

    fn send_console(&mut self, bytes: &[u8]) {
        self.console.extend_from_slice(bytes);
    }
}

struct World {
    table: Table<usize>,
    wire: Queues,
}

impl World {
    fn new(ticks: Ticks) -> Self {
        Self {
            table: Table::new(11, ticks, Scores::new()),
            wire: Queues::default(),
        }
    }

    fn round(&mut self, ms: u64) -> Round {
        let passed = Duration::from_millis(ms);
        let round = self
            .table
            .round(&mut self.wire, &mut [0; SCRATCH_BYTES], passed, Day::default());
        self.table.show(&mut self.wire);
        self.table.show_console(&mut self.wire);
        round
    }
}

#[test]
fn the_game_stands_still_while_nobody_watches() {
    let mut world = World::new(Ticks::Real);
    assert_eq!(world.round(60_000), Round::default());
    let viewer = world.wire.connect();
    let round = world.round(60_000);
    assert!(!round.changed, "the time before somebody came does not count");
    assert_eq!(round.due_in, world.table.game().due_in());
    assert!(world.round(2_000).changed);
    world.wire.connections[viewer].finished = true;
    world.round(0);
    assert!(world.wire.connections[viewer].closed);
    assert_eq!(world.round(60_000), Round::default());
}

#[test]
fn everybody_sees_and_plays_the_same_game() {
    let mut world = World::new(Ticks::Manual);
    let (one, other) = (world.wire.connect(), world.wire.connect());
    world.round(0);
    assert!(world.wire.text(one).starts_with(GREETING));
    world.wire.text(other);
    world.wire.type_in(other, b" ");
    assert!(world.round(0).changed);
    let (seen_by_one, seen_by_other) = (world.wire.text(one), world.wire.text(other));
    assert!(seen_by_one.contains("[]") && seen_by_one == seen_by_other);
    world.wire.console_typed.extend(b"a");
    assert!(world.round(0).changed);
    assert!(String::from_utf8_lossy(&world.wire.console).contains("TETRIS"));
}

#[test]
fn one_viewer_too_many_is_told_so() {
    let mut world = World::new(Ticks::Manual);
    for _ in 0..VIEWERS_MAX {
        world.wire.connect();
    }
    world.round(0);
    let late = world.wire.connect();
    world.round(0);
    assert_eq!(world.wire.text(late).as_bytes(), FULL);
    assert!(world.wire.connections[late].closed);
    world.wire.news.push_back(News {
        connection: 3,
        opened: false,
        closed: true,
    });
    let next = world.wire.connect();
    world.round(0);
    assert!(world.wire.text(next).starts_with(GREETING));
}

#[test]
fn a_program_counts_the_keys_that_were_taken() {
    let mut world = World::new(Ticks::Manual);
    let program = world.wire.connect();
    world.wire.type_in(program, &[ENQUIRY]);
    world.round(0);
    world.wire.text(program);
    world.wire.type_in(program, b"a..x ");
    let round = world.round(0);
    assert!(round.changed && round.due_in.is_none());
    let text = world.wire.text(program);
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(text.contains("state keys=4 "), "{text}");
}

#[test]
fn after_a_takeover_viewers_see_what_is_new_and_the_console_everything() {
    let mut world = World::new(Ticks::Manual);
    let (gone, there) = (world.wire.connect(), world.wire.connect());
    world.wire.console_typed.extend(b"c");
    world.round(0);
    let mut screen = Screen::new();
    screen.take(&world.wire.drawn(there));
    world.wire.connections[gone].closed = true;
    world.wire.text(gone);
    world.wire.console.clear();
    world.table.resume(&mut world.wire);
    assert!(!world.table.is_console_watched());
    world.round(0);
    assert_eq!(world.wire.text(there), "", "it shows all that there is");
    world.wire.type_in(there, b" ");
    world.wire.console_typed.extend(b"c");
    world.round(0);
    assert_eq!(world.wire.text(gone), "");
    let new = world.wire.drawn(there);
    assert!(!new.windows(BEGIN.len()).any(|part| part == BEGIN));
    screen.take(&new);
    let picture = Picture::of(world.table.game(), world.table.scores());
    assert_eq!(screen.difference(&picture, true), None);
    assert!(world.wire.console.windows(BEGIN.len()).any(|part| part == BEGIN));
}

#[test]
fn a_finished_game_is_scored_once() {
    let mut world = World::new(Ticks::Manual);
    let player = world.wire.connect();
    world.round(0);
    let mut scored = 0;
    for _ in 0..30 {
        world.wire.type_in(player, b" ");
        scored += u32::from(world.round(0).scored);
    }
    assert_eq!(scored, 1);
    assert_eq!(world.table.scores().best()[0].points, world.table.game().score());
}

//! The table that everybody sits at: one game, its viewers, the best scores.
//!
//! Whoever is connected plays; while nobody is, the game stands still. A machine that takes over finds all of it as the
//! last checkpoint had it: what each terminal shows, and what of it was still to be sent. Nobody has seen more, so viewers' connections
//! go on with the next difference.

use core::time::Duration;

use crate::game::{Game, State};
use crate::options::Ticks;
use crate::scores::{Day, Score, Scores};
use crate::screen::Picture;
use crate::viewer::{Answer, Meaning, Output, Viewer};

/// Viewers at once, beside the console.
pub const VIEWERS_MAX: usize = 16;

/// Bytes that are taken from a viewer at once.
pub const SCRATCH_BYTES: usize = 256;

/// Said to one viewer too many.
const FULL: &[u8] = b"The table is full: come back later.\r\n";

/// What has happened to a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct News<C> {
    /// Which.
    pub connection: C,
    /// It is new.
    pub opened: bool,
    /// It is gone.
    pub closed: bool,
}

/// The connection has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended;

/// Carries bytes between viewers and the table.
pub trait Wire {
    /// Names a connection.
    type Connection: Copy + PartialEq;

    /// The next connection with news.
    fn next_event(&mut self) -> Option<News<Self::Connection>>;

    /// Whether a connection is still there.
    fn is_open(&mut self, connection: Self::Connection) -> bool;

    /// Takes received bytes; 0 if there are none now.
    ///
    /// # Errors
    /// There will be no more.
    fn receive(&mut self, connection: Self::Connection, into: &mut [u8]) -> Result<usize, Ended>;

    /// As [`Output::send`].
    fn send(&mut self, connection: Self::Connection, bytes: &[u8]) -> usize;

    /// Closes it once everything is sent.
    fn close(&mut self, connection: Self::Connection);

    /// Takes what was typed at the console; 0 if there is none.
    fn receive_console(&mut self, into: &mut [u8]) -> usize;

    /// Shows bytes there.
    fn send_console(&mut self, bytes: &[u8]);
}

/// What a round has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Round {
    /// The game has changed: a checkpoint is due.
    pub changed: bool,
    /// The best scores have changed.
    pub scored: bool,
    /// There is more to do at once.
    pub busy: bool,
    /// When the next round is due, if nothing happens before.
    pub due_in: Option<Duration>,
}

/// The table.
#[derive(Debug)]
pub struct Table<C> {
    game: Game,
    scores: Scores,
    /// Keys that the game has taken.
    keys: u64,
    ticks: Ticks,
    viewers: [Option<(C, Viewer)>; VIEWERS_MAX],
    /// Somebody at the console, once a key was pressed there.
    console: Option<Viewer>,
}

struct ToViewer<'a, W: Wire> {
    wire: &'a mut W,
    connection: W::Connection,
}

impl<W: Wire> Output for ToViewer<'_, W> {
    fn send(&mut self, bytes: &[u8]) -> usize {
        self.wire.send(self.connection, bytes)
    }
}

struct ToConsole<'a, W>(&'a mut W);

impl<W: Wire> Output for ToConsole<'_, W> {
    fn send(&mut self, bytes: &[u8]) -> usize {
        self.0.send_console(bytes);
        bytes.len()
    }
}

impl<C: Copy + PartialEq> Table<C> {
    /// A table with a new game.
    pub fn new(seed: u64, ticks: Ticks, scores: Scores) -> Self {
        Self {
            game: Game::new(seed),
            scores,
            keys: 0,
            ticks,
            viewers: [const { None }; VIEWERS_MAX],
            console: None,
        }
    }

    /// The game.
    pub fn game(&self) -> &Game {
        &self.game
    }

    /// The best scores.
    pub fn scores(&self) -> &Scores {
        &self.scores
    }

    /// The scores' file is there no more.
    pub fn lose_disk(&mut self) {
        self.scores.lose_disk();
    }

    /// After a takeover: forgets the viewers whose connections are no more. The others go on; whoever sits at this machine's
    /// console is drawn everything.
    pub fn resume(&mut self, wire: &mut impl Wire<Connection = C>) {
        for place in &mut self.viewers {
            if place
                .as_ref()
                .is_some_and(|(connection, _)| !wire.is_open(*connection))
            {
                *place = None;
            }
        }
        self.console = None;
    }

    /// Takes in what has happened while `passed` passed. `day` is today. Nobody is shown anything yet.
    pub fn round(
        &mut self,
        wire: &mut impl Wire<Connection = C>,
        scratch: &mut [u8; SCRATCH_BYTES],
        passed: Duration,
        day: Day,
    ) -> Round {
        let mut round = Round::default();
        let was_over = self.game.state() == State::Over;
        if self.ticks == Ticks::Real && self.is_watched() {
            round.changed |= self.game.advance(passed);
        }
        // Each connection has one event at most, until it is looked after.
        for _ in 0..2 * VIEWERS_MAX {
            let Some(news) = wire.next_event() else { break };
            self.take_news(wire, news);
        }
        for index in 0..VIEWERS_MAX {
            let Some((connection, _)) = self.viewers[index] else {
                continue;
            };
            match wire.receive(connection, scratch) {
                Ok(len) => {
                    round.busy |= len == SCRATCH_BYTES;
                    if let Some((_, viewer)) = &mut self.viewers[index] {
                        round.changed |= type_in(
                            &mut self.game,
                            &mut self.keys,
                            self.ticks,
                            viewer,
                            &scratch[..len],
                        );
                    }
                }
                Err(Ended) => {
                    if let Some((_, mut viewer)) = self.viewers[index].take() {
                        viewer.leave(&mut ToViewer { wire, connection });
                    }
                    wire.close(connection);
                }
            }
        }
        let len = wire.receive_console(scratch);
        if len > 0 {
            round.busy |= len == SCRATCH_BYTES;
            let viewer = self.console.get_or_insert_default();
            round.changed |= type_in(
                &mut self.game,
                &mut self.keys,
                self.ticks,
                viewer,
                &scratch[..len],
            );
        }
        if !was_over && self.game.state() == State::Over {
            round.scored = self.scores.add(Score {
                points: self.game.score(),
                lines: self.game.lines(),
                level: self.game.level(),
                day,
            });
        }
        if self.ticks == Ticks::Real && self.is_watched() {
            round.due_in = self.game.due_in();
        }
        round
    }

    /// Shows all viewers the game, as far as there is room.
    pub fn show(&mut self, wire: &mut impl Wire<Connection = C>) {
        let picture = Picture::of(&self.game, &self.scores);
        let answer = Answer {
            keys: self.keys,
            game: &self.game,
        };
        for (connection, viewer) in self.viewers.iter_mut().flatten() {
            let connection = *connection;
            viewer.show(&picture, &answer, &mut ToViewer { wire, connection });
        }
    }

    /// Shows it at the console, where somebody may see it at once.
    pub fn show_console(&mut self, wire: &mut impl Wire<Connection = C>) {
        if let Some(viewer) = &mut self.console {
            let picture = Picture::of(&self.game, &self.scores);
            let answer = Answer {
                keys: self.keys,
                game: &self.game,
            };
            viewer.show(&picture, &answer, &mut ToConsole(wire));
        }
    }

    /// Whether somebody sits at the console.
    pub fn is_console_watched(&self) -> bool {
        self.console.is_some()
    }

    /// Whether anybody is there: the game stands still while nobody is.
    fn is_watched(&self) -> bool {
        self.console.is_some() || self.viewers.iter().any(Option::is_some)
    }

    fn take_news(&mut self, wire: &mut impl Wire<Connection = C>, news: News<C>) {
        let News {
            connection,
            opened,
            closed,
        } = news;
        if closed {
            let of_it = |place: &&mut Option<(C, Viewer)>| {
                place.as_ref().is_some_and(|(known, _)| *known == connection)
            };
            if let Some(place) = self.viewers.iter_mut().find(of_it) {
                *place = None;
            }
        } else if opened {
            match self.viewers.iter_mut().find(|place| place.is_none()) {
                Some(place) => *place = Some((connection, Viewer::new())),
                None => {
                    // As much of it as goes: the connection has just been opened, its buffer is empty.
                    wire.send(connection, FULL);
                    wire.close(connection);
                }
            }
        }
    }
}

/// Plays what a program types, where time stands still: what a table with [`Ticks::Manual`] does. Returns how many keys the
/// game has taken.
pub fn play(game: &mut Game, typed: &[u8]) -> u64 {
    let mut keys = 0;
    type_in(game, &mut keys, Ticks::Manual, &mut Viewer::new(), typed);
    keys
}

/// A viewer has typed `bytes`. Returns whether the game has changed, the count of its keys too.
fn type_in(game: &mut Game, keys: &mut u64, ticks: Ticks, viewer: &mut Viewer, bytes: &[u8]) -> bool {
    let mut changed = false;
    for byte in bytes {
        match viewer.take(*byte) {
            Meaning::Command(command) => {
                *keys += 1;
                game.command(command);
                changed = true;
            }
            Meaning::Step => {
                *keys += 1;
                if ticks == Ticks::Manual {
                    game.step();
                }
                changed = true;
            }
            Meaning::Nothing => {}
        }
    }
    changed
}

#[cfg(test)]
mod tests;

//! The rules: a board, a piece that falls, and what a player can do.
//!
//! Ten columns and twenty rows; pieces turn as in the Super Rotation System and come in shuffled sevens; points, levels
//! and speed are those of the Tetris guideline, except that a piece that has touched down rests for [`REST`] at least, and
//! then stays.
//!
//! There is no clock here: [`Game::advance`] is told how much time has passed. So a game that another machine takes up goes
//! on where it was, and the same commands make the same game.

mod board;
mod piece;
#[cfg(test)]
mod tests;

use core::time::Duration;

pub use board::{Board, COLUMNS, ROWS, Row};
pub use piece::{Bag, Kind, Piece, Turn};

/// How long a piece that has touched down can still be moved, at least.
pub const REST: Duration = Duration::from_millis(400);

/// Most steps that one [`Game::advance`] takes: a machine that was stopped for minutes must not play them.
const STEPS_MAX: u32 = 4;

/// What a player can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// A column to the left.
    Left,
    /// A column to the right.
    Right,
    /// A quarter turn.
    Turn(Turn),
    /// A row down at once: a point.
    Down,
    /// Down as far as it goes, where it stays: two points a row.
    Drop,
    /// Stops the game, or goes on.
    Pause,
    /// A new game, if this one is over or paused.
    New,
}

/// What the game is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Pieces fall.
    Running,
    /// A player has stopped it.
    Paused,
    /// The board is full.
    Over,
}

/// A game.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Game {
    board: Board,
    bag: Bag,
    piece: Piece,
    next: Kind,
    state: State,
    score: u64,
    lines: u32,
    /// Until the piece falls, or stays.
    until_step: Duration,
}

impl Game {
    /// A new game with the pieces that `seed` says.
    pub fn new(seed: u64) -> Self {
        let mut bag = Bag::new(seed);
        let piece = Piece::new(bag.draw(), COLUMNS as i8);
        let next = bag.draw();
        let mut game = Self {
            board: Board::new(),
            bag,
            piece,
            next,
            state: State::Running,
            score: 0,
            lines: 0,
            until_step: Duration::ZERO,
        };
        game.until_step = game.interval();
        game
    }

    /// What has come to rest.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// The piece that falls; none once the game is over.
    pub fn piece(&self) -> Option<&Piece> {
        (self.state != State::Over).then_some(&self.piece)
    }

    /// The piece after it.
    pub fn next(&self) -> Kind {
        self.next
    }

    /// What the game is doing.
    pub fn state(&self) -> State {
        self.state
    }

    /// Points.
    pub fn score(&self) -> u64 {
        self.score
    }

    /// Rows that were cleared.
    pub fn lines(&self) -> u32 {
        self.lines
    }

    /// The level, from 1: it rises every ten rows.
    pub fn level(&self) -> u32 {
        1 + self.lines / 10
    }

    /// Where the piece would come to rest.
    pub fn shadow(&self) -> Option<Piece> {
        let mut shadow = *self.piece()?;
        while self.board.fits(&shadow.moved(0, 1)) {
            shadow = shadow.moved(0, 1);
        }
        Some(shadow)
    }

    /// Time between two steps at this level.
    fn interval(&self) -> Duration {
        /// Milliseconds at each level of the guideline, the last for all above.
        const MS: [u64; 16] = [
            1000, 793, 618, 473, 355, 262, 190, 135, 94, 64, 43, 28, 18, 11, 7, 4,
        ];
        let index = (self.level() as usize - 1).min(MS.len() - 1);
        Duration::from_millis(MS[index])
    }

    /// When something will happen by itself.
    pub fn due_in(&self) -> Option<Duration> {
        (self.state == State::Running).then_some(self.until_step)
    }

    /// `passed` has passed. Returns whether anything has changed.
    pub fn advance(&mut self, passed: Duration) -> bool {
        let mut left = passed;
        let mut changed = false;
        for _ in 0..STEPS_MAX {
            if self.state != State::Running {
                return changed;
            }
            if left < self.until_step {
                self.until_step -= left;
                return changed;
            }
            left -= self.until_step;
            self.step();
            changed = true;
        }
        changed
    }

    /// The piece falls by a row, or stays where it is.
    pub fn step(&mut self) {
        if self.state != State::Running {
            return;
        }
        if !self.shift(0, 1) {
            self.settle();
        }
        self.until_step = self.pace();
    }

    /// How long until the next step: a piece that lies on something rests.
    fn pace(&self) -> Duration {
        if self.board.fits(&self.piece.moved(0, 1)) {
            self.interval()
        } else {
            self.interval().max(REST)
        }
    }

    /// Does what a player wants. Returns whether anything has changed.
    pub fn command(&mut self, command: Command) -> bool {
        match (command, self.state) {
            (Command::Pause, State::Running) => {
                self.state = State::Paused;
                true
            }
            (Command::Pause, State::Paused) => {
                self.state = State::Running;
                true
            }
            (Command::New, State::Over | State::Paused) => {
                let seed = self.bag.clone().next_seed();
                *self = Self::new(seed);
                true
            }
            (_, State::Paused | State::Over) | (Command::New, State::Running) => false,
            (Command::Left, State::Running) => self.shift(-1, 0),
            (Command::Right, State::Running) => self.shift(1, 0),
            (Command::Turn(turn), State::Running) => self.turn(turn),
            (Command::Down, State::Running) => {
                let falls = self.shift(0, 1);
                if falls {
                    self.score += 1;
                    self.until_step = self.pace();
                }
                falls
            }
            (Command::Drop, State::Running) => {
                while self.shift(0, 1) {
                    self.score += 2;
                }
                self.settle();
                self.until_step = self.pace();
                true
            }
        }
    }

    fn shift(&mut self, columns: i8, rows: i8) -> bool {
        self.put(self.piece.moved(columns, rows))
    }

    fn turn(&mut self, turn: Turn) -> bool {
        let free = self.piece.turned(turn).find(|place| self.board.fits(place));
        free.is_some_and(|place| self.put(place))
    }

    fn put(&mut self, place: Piece) -> bool {
        let fits = self.board.fits(&place);
        if fits {
            let was_lying = !self.board.fits(&self.piece.moved(0, 1));
            self.piece = place;
            // One that comes to lie can be moved for a while, even at the highest speed.
            if !was_lying && !self.board.fits(&place.moved(0, 1)) {
                self.until_step = self.until_step.max(REST);
            }
        }
        fits
    }

    /// The piece stays; the next one comes.
    fn settle(&mut self) {
        let is_seen = self.board.lay(&self.piece);
        let cleared = self.board.clear();
        let points = [0, 100, 300, 500, 800][cleared as usize];
        self.score += points * u64::from(self.level());
        self.lines += cleared;
        self.piece = Piece::new(self.next, COLUMNS as i8);
        self.next = self.bag.draw();
        if !is_seen || !self.board.fits(&self.piece) {
            self.state = State::Over;
        }
    }
}

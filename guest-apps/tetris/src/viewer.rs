//! Somebody who sees the game and plays it: what they type, and what their terminal shows.
//!
//! Of what is to be drawn only the newest matters: while a terminal has not taken a row, nothing more is drawn for it. So
//! nothing queues up, and a viewer that does not read costs nothing.
//!
//! **Plain viewers** are programs. The byte [`ENQUIRY`] makes a viewer plain: it is drawn nothing more, and each key, and
//! each enquiry, is answered with a line ([`Answer`]). A program that lost its connection asks how many keys were taken, and
//! goes on with the next.

use core::fmt::Write;

use crate::game::{Command, Game, ROWS, State, Turn};
use crate::screen::{BEGIN, END, HEIGHT, Picture, ROW_BYTES_MAX, WIDTH};
use crate::terminal::{HELLO, Heard, Key, Keyboard, Telnet};

/// What everybody hears first.
pub const GREETING: &str = "Tetris on Hotspare\r\n";

/// ASCII's ENQ: makes a viewer plain, and asks for a line.
pub const ENQUIRY: u8 = 5;

/// Ctrl-L: draw everything anew.
const REDRAW: u8 = 0x0c;

/// The size of a terminal that does not say it.
const USUAL_SIZE: (u16, u16) = (80, 24);

/// Where what is drawn goes: a connection, or the console.
pub trait Output {
    /// Sends bytes, and returns how many found room. If not all, the viewer is shown the game again once there is more.
    fn send(&mut self, bytes: &[u8]) -> usize;
}

/// What a key means to the game.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// A command.
    Command(Command),
    /// One step: the only way to one where time stands still.
    Step,
    /// Nothing to the game.
    Nothing,
}

/// Somebody who sees the game.
#[derive(Clone, Debug)]
pub struct Viewer {
    telnet: Telnet,
    keyboard: Keyboard,
    columns: u16,
    rows: u16,
    colours: bool,
    greeted: bool,
    plain: bool,
    /// Lines that a plain viewer is to be told.
    owed: u32,
    /// What the terminal shows, once it has taken the tail; none if it is not known.
    shown: Option<Picture>,
    tail: Tail,
}

/// What did not find room.
#[derive(Clone, Debug)]
struct Tail {
    bytes: [u8; ROW_BYTES_MAX],
    first: usize,
    end: usize,
}

impl Tail {
    /// Sends what is left, and whether nothing is left now.
    fn flush(&mut self, output: &mut impl Output) -> bool {
        if self.first < self.end {
            self.first += output.send(&self.bytes[self.first..self.end]);
        }
        self.first >= self.end
    }

    /// Sends `bytes`, while nothing else is left; keeps what finds no room. Returns whether all of it did.
    fn send(&mut self, bytes: &[u8], output: &mut impl Output) -> bool {
        let rest = &bytes[output.send(bytes)..];
        self.bytes[..rest.len()].copy_from_slice(rest);
        (self.first, self.end) = (0, rest.len());
        rest.is_empty()
    }
}

const _: () = assert!(ANSWER_BYTES_MAX <= ROW_BYTES_MAX, "a tail holds either");

impl Viewer {
    /// Somebody who has just come.
    pub fn new() -> Self {
        let (columns, rows) = USUAL_SIZE;
        Self {
            telnet: Telnet::new(),
            keyboard: Keyboard::new(),
            columns,
            rows,
            colours: true,
            greeted: false,
            plain: false,
            owed: 0,
            shown: None,
            tail: Tail {
                bytes: [0; ROW_BYTES_MAX],
                first: 0,
                end: 0,
            },
        }
    }

    /// Takes a byte from the terminal, and says what it means to the game.
    pub fn take(&mut self, byte: u8) -> Meaning {
        let byte = match self.telnet.hear(byte) {
            Some(Heard::Byte(byte)) => byte,
            Some(Heard::Size { columns, rows }) => {
                (self.columns, self.rows) = match (columns, rows) {
                    // Unknown, by RFC 1073.
                    (0, _) | (_, 0) => USUAL_SIZE,
                    size => size,
                };
                self.shown = None;
                return Meaning::Nothing;
            }
            None => return Meaning::Nothing,
        };
        if byte == ENQUIRY {
            self.plain = true;
            self.owed = self.owed.saturating_add(1);
            return Meaning::Nothing;
        }
        match self.keyboard.take(byte) {
            None => Meaning::Nothing,
            Some(Key::Byte(b'c')) => {
                self.colours = !self.colours;
                self.shown = None;
                Meaning::Nothing
            }
            Some(Key::Byte(b'r' | REDRAW)) => {
                self.shown = None;
                Meaning::Nothing
            }
            Some(key) => {
                let meaning = meaning(key);
                if self.plain && meaning != Meaning::Nothing {
                    self.owed = self.owed.saturating_add(1);
                }
                meaning
            }
        }
    }

    /// Shows the game, as far as there is room.
    pub fn show(&mut self, picture: &Picture, answer: &Answer<'_>, output: &mut impl Output) {
        if !self.tail.flush(output) {
            return;
        }
        if !self.greeted {
            self.greeted = true;
            let mut hello = [0; GREETING.len() + HELLO.len()];
            hello[..GREETING.len()].copy_from_slice(GREETING.as_bytes());
            hello[GREETING.len()..].copy_from_slice(&HELLO);
            if !self.tail.send(&hello, output) {
                return;
            }
        }
        if self.plain {
            self.answer(answer, output);
        } else if usize::from(self.columns) < WIDTH || usize::from(self.rows) < HEIGHT {
            self.draw(&Picture::too_small(self.columns, self.rows), output);
        } else {
            self.draw(picture, output);
        }
    }

    fn draw(&mut self, picture: &Picture, output: &mut impl Output) {
        let Self { shown, tail, .. } = self;
        if shown.is_none() {
            *shown = Some(Picture::blank());
            if !tail.send(BEGIN, output) {
                return;
            }
        }
        let Some(shown) = shown else { return };
        let mut bytes = [0; ROW_BYTES_MAX];
        for row in 0..HEIGHT {
            let len = shown.draw_row(picture, row, usize::from(self.columns), self.colours, &mut bytes);
            shown.take_row(picture, row);
            if len > 0 && !tail.send(&bytes[..len], output) {
                return;
            }
        }
    }

    fn answer(&mut self, answer: &Answer<'_>, output: &mut impl Output) {
        let mut line = Line::new();
        // The longest there can be fits.
        let _ = answer.write(&mut line);
        while self.owed > 0 {
            self.owed -= 1;
            if !self.tail.send(&line.bytes[..line.len], output) {
                return;
            }
        }
    }

    /// Gives the terminal back, as far as there is room.
    pub fn leave(&mut self, output: &mut impl Output) {
        if self.shown.take().is_some() && self.tail.flush(output) {
            self.tail.send(END, output);
        }
    }
}

impl Default for Viewer {
    fn default() -> Self {
        Self::new()
    }
}

fn meaning(key: Key) -> Meaning {
    Meaning::Command(match key {
        Key::Left | Key::Byte(b'a') => Command::Left,
        Key::Right | Key::Byte(b'd') => Command::Right,
        Key::Up | Key::Byte(b'w') => Command::Turn(Turn::Right),
        Key::Byte(b'z') => Command::Turn(Turn::Left),
        Key::Down | Key::Byte(b's') => Command::Down,
        Key::Byte(b' ') => Command::Drop,
        Key::Byte(b'p') => Command::Pause,
        Key::Byte(b'n') => Command::New,
        Key::Byte(b'.') => return Meaning::Step,
        Key::Byte(_) => return Meaning::Nothing,
    })
}

/// What a program is told of the game, in a line:
///
/// ```text
/// state keys=12 score=40 lines=0 level=1 next=T over=0 board=/////…/.........T/
/// ```
///
/// The board has a `/` before each row, and letters up to the last cell that is not empty; a piece that falls is small.
#[derive(Debug)]
pub struct Answer<'a> {
    /// Keys that the game has taken.
    pub keys: u64,
    /// The game.
    pub game: &'a Game,
}

impl Answer<'_> {
    /// Writes the line.
    ///
    /// # Errors
    /// As `to` does.
    pub fn write(&self, to: &mut impl Write) -> core::fmt::Result {
        let game = self.game;
        write!(
            to,
            "state keys={} score={} lines={} level={} next={} over={} board=",
            self.keys,
            game.score(),
            game.lines(),
            game.level(),
            game.next().letter(),
            u8::from(game.state() == State::Over)
        )?;
        let falling = game
            .piece()
            .map(|piece| (piece.cells(), piece.kind.letter().to_ascii_lowercase()));
        for (row, cells) in (0i8..).zip(game.board().rows()) {
            to.write_char('/')?;
            let letter = |column: usize| {
                let lies = cells[column].map(crate::game::Kind::letter);
                let falls = falling.filter(|(cells, _)| cells.contains(&(column as i8, row)));
                lies.or(falls.map(|(_, letter)| letter))
            };
            let last = (0..cells.len()).rev().find(|column| letter(*column).is_some());
            for column in 0..last.map_or(0, |last| last + 1) {
                to.write_char(letter(column).unwrap_or('.'))?;
            }
        }
        to.write_str("\r\n")
    }
}

/// Longest line of an [`Answer`].
const ANSWER_BYTES_MAX: usize = 160 + ROWS * 11;

struct Line {
    bytes: [u8; ANSWER_BYTES_MAX],
    len: usize,
}

impl Line {
    fn new() -> Self {
        Self {
            bytes: [0; ANSWER_BYTES_MAX],
            len: 0,
        }
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let end = self.len + text.len();
        let place = self.bytes.get_mut(self.len..end).ok_or(core::fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests;

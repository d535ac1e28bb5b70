//! What a player sees: a picture of fixed size, and the control sequences from one picture to the next.
//!
//! ```text
//! <! . . . . . . . . . .!>   TETRIS
//! <! . . .[][] . . . . .!>   score      1200
//!   …
//! <!====================!>
//!   \/\/\/\/\/\/\/\/\/\/
//! ```
//!
//! Each change is drawn where it is, by absolute positions in the upper left corner of the terminal: whatever else its
//! window holds and however it was resized, a picture drawn anew is right. Everything is readable without colours.

use crate::game::{COLUMNS, Game, Kind, ROWS, State};
use crate::scores::Scores;

/// Columns of the picture.
pub const WIDTH: usize = 48;
/// Rows of the picture.
pub const HEIGHT: usize = ROWS + 2;

/// Most bytes that [`Picture::draw_row`] makes of a row: each cell with a position and a colour of its own.
pub const ROW_BYTES_MAX: usize = WIDTH * 16;

/// Clears the terminal, hides its cursor.
pub const BEGIN: &[u8] = b"\x1b[0m\x1b[2J\x1b[?25l";
/// Shows the cursor again, below the picture.
pub const END: &[u8] = b"\x1b[0m\x1b[23;1H\x1b[?25h\r\n";

/// First column of what stands beside the board.
const SIDE: usize = 27;

/// A cell of the picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cell {
    /// What stands there, an ASCII character.
    pub glyph: u8,
    /// Its colour as in `ESC [ 3 n m`; 9 is the terminal's own.
    pub colour: u8,
}

const PLAIN: u8 = 9;

const BLANK: Cell = Cell {
    glyph: b' ',
    colour: PLAIN,
};

const fn colour(kind: Kind) -> u8 {
    match kind {
        Kind::Z => 1,
        Kind::S => 2,
        Kind::O => 3,
        Kind::J => 4,
        Kind::T => 5,
        Kind::I => 6,
        Kind::L => 7,
    }
}

/// A picture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picture {
    rows: [[Cell; WIDTH]; HEIGHT],
}

impl Picture {
    /// A picture of nothing: a terminal that was cleared.
    pub const fn blank() -> Self {
        Self {
            rows: [[BLANK; WIDTH]; HEIGHT],
        }
    }

    /// The game as it stands.
    pub fn of(game: &Game, scores: &Scores) -> Self {
        let mut picture = Self::blank();
        picture.board(game);
        picture.side(game, scores);
        picture
    }

    /// What to say where the picture does not fit.
    pub fn too_small(columns: u16, rows: u16) -> Self {
        let mut picture = Self::blank();
        let mut text = Text::new();
        text.words("too small: ")
            .number(u64::from(columns))
            .words("x")
            .number(u64::from(rows));
        picture.put(0, 0, text.as_bytes(), PLAIN);
        let mut text = Text::new();
        text.words("needed: ")
            .number(WIDTH as u64)
            .words("x")
            .number(HEIGHT as u64);
        picture.put(0, 1, text.as_bytes(), PLAIN);
        picture
    }

    /// The cells of a row.
    pub fn row(&self, row: usize) -> &[Cell; WIDTH] {
        &self.rows[row]
    }

    fn put(&mut self, column: usize, row: usize, text: &[u8], colour: u8) {
        for (cell, glyph) in self.rows[row][column..].iter_mut().zip(text) {
            *cell = Cell {
                glyph: *glyph,
                colour,
            };
        }
    }

    fn block(&mut self, column: usize, row: usize, kind: Kind) {
        self.put(2 + 2 * column, row, b"[]", colour(kind));
    }

    fn board(&mut self, game: &Game) {
        for (row, cells) in game.board().rows().enumerate() {
            self.put(0, row, b"<! . . . . . . . . . .!>", PLAIN);
            for (column, kind) in cells.iter().enumerate() {
                if let Some(kind) = kind {
                    self.block(column, row, *kind);
                }
            }
        }
        self.put(0, ROWS, b"<!====================!>", PLAIN);
        self.put(2, ROWS + 1, b"\\/\\/\\/\\/\\/\\/\\/\\/\\/\\/", PLAIN);
        let on_board = |(column, row): (i8, i8)| {
            let (column, row) = (usize::try_from(column).ok()?, usize::try_from(row).ok()?);
            (column < COLUMNS && row < ROWS).then_some((column, row))
        };
        for (column, row) in game
            .shadow()
            .iter()
            .flat_map(|shadow| shadow.cells())
            .filter_map(on_board)
        {
            self.put(2 + 2 * column, row, b"::", PLAIN);
        }
        if let Some(piece) = game.piece() {
            for (column, row) in piece.cells().into_iter().filter_map(on_board) {
                self.block(column, row, piece.kind);
            }
        }
        let said: &[u8] = match game.state() {
            State::Running => return,
            State::Paused => b"  PAUSED: p goes on ",
            State::Over => b" GAME OVER: n = new ",
        };
        self.put(2, ROWS / 2, said, PLAIN);
    }

    fn side(&mut self, game: &Game, scores: &Scores) {
        self.put(SIDE, 0, b"TETRIS, outliving", PLAIN);
        self.put(SIDE, 1, b"its machine", PLAIN);
        let figures = [
            (b"score ", game.score()),
            (b"lines ", u64::from(game.lines())),
            (b"level ", u64::from(game.level())),
        ];
        for (row, (name, value)) in (3..).zip(figures) {
            self.put(SIDE, row, name, PLAIN);
            self.right(SIDE + 6, row, value, 9);
        }
        self.put(SIDE, 7, b"next", PLAIN);
        for (column, row) in crate::game::Piece::new(game.next(), 4).moved(0, 1).cells() {
            let column = SIDE + 6 + 2 * column.unsigned_abs() as usize;
            let row = 6 + row.unsigned_abs() as usize;
            self.put(column, row, b"[]", colour(game.next()));
        }
        let keys: [&[u8]; 5] = [
            b"a d or < >  move",
            b"w or ^  z   turn",
            b"s or v      down",
            b"space       drop",
            b"p pause  c colours",
        ];
        for (row, words) in (10..).zip(keys) {
            self.put(SIDE, row, words, PLAIN);
        }
        self.put(
            SIDE,
            16,
            if scores.are_on_disk() {
                b"best scores"
            } else {
                b"best (no disk)"
            },
            PLAIN,
        );
        for (row, score) in (17..HEIGHT).zip(scores.best()) {
            self.right(SIDE, row, score.points, 9);
            self.put(SIDE + 10, row, b"level", PLAIN);
            self.right(SIDE + 15, row, u64::from(score.level), 4);
        }
    }

    /// A number that ends `width` columns on.
    fn right(&mut self, column: usize, row: usize, value: u64, width: usize) {
        let mut text = Text::new();
        text.number(value);
        let digits = text.as_bytes();
        // Too long is cut off in front: rather a wrong picture than a broken one.
        let digits = &digits[digits.len().saturating_sub(width)..];
        self.put(column + width - digits.len(), row, digits, PLAIN);
    }

    /// Writes what makes row `row` of `self`, as the terminal shows it, into that of `to`. Only `columns` columns are
    /// touched. Returns how many bytes.
    pub fn draw_row(
        &self,
        to: &Picture,
        row: usize,
        columns: usize,
        colours: bool,
        into: &mut [u8; ROW_BYTES_MAX],
    ) -> usize {
        let mut text = Text { bytes: into, len: 0 };
        let mut at = None;
        let mut shown_colour = PLAIN;
        for column in 0..WIDTH.min(columns) {
            let (old, new) = (self.rows[row][column], to.rows[row][column]);
            if old == new {
                continue;
            }
            if at != Some(column) {
                text.words("\x1b[")
                    .number(row as u64 + 1)
                    .words(";")
                    .number(column as u64 + 1)
                    .words("H");
            }
            let colour = if colours { new.colour } else { PLAIN };
            if colour != shown_colour {
                text.words("\x1b[3").number(u64::from(colour)).words("m");
                shown_colour = colour;
            }
            text.push(new.glyph);
            at = Some(column + 1);
        }
        if shown_colour != PLAIN {
            text.words("\x1b[39m");
        }
        text.len
    }

    /// Takes over a row that was drawn.
    pub fn take_row(&mut self, from: &Picture, row: usize) {
        self.rows[row] = from.rows[row];
    }
}

/// Text in a buffer; what does not fit is left out.
struct Text<B> {
    bytes: B,
    len: usize,
}

impl Text<[u8; WIDTH]> {
    fn new() -> Self {
        Self {
            bytes: [0; WIDTH],
            len: 0,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl<B: AsMut<[u8]>> Text<B> {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.as_mut().get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    fn words(&mut self, words: &str) -> &mut Self {
        words.bytes().for_each(|byte| self.push(byte));
        self
    }

    fn number(&mut self, number: u64) -> &mut Self {
        if number >= 10 {
            self.number(number / 10);
        }
        self.push(b'0' + (number % 10) as u8);
        self
    }
}

#[cfg(test)]
pub(crate) mod tests;

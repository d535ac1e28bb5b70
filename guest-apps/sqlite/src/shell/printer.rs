//! Rows as text: `table` (the default), `box`, `column`, `csv` and `list`.
//!
//! The first three align columns, for which the `sqlite3` shell first collects all rows. Here the widths are those of the first
//! rows, up to [`SAMPLE_ROWS`] of them or [`SAMPLE_BYTES`] of text: what comes later and is wider sticks out. So a result of any
//! length streams. Numbers stand on the right. Lines in a cell stand below each other; control characters are shown as `^X`, for
//! a client is often a terminal.

use allocator_api2::vec::Vec;
use hs_core::class::Class;

use super::output::Output;
use crate::engine::Statement;

/// Most rows that widths are taken from.
pub const SAMPLE_ROWS: usize = 200;
/// Most bytes of text that are kept for it.
pub const SAMPLE_BYTES: usize = 32 << 10;
/// Longest line of `.tables`, in characters.
const LINE_CHARACTERS: usize = 80;

/// How rows are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Framed with `+`, `-` and `|`.
    #[default]
    Table,
    /// Framed with lines of Unicode.
    Box,
    /// In columns without a frame.
    Column,
    /// RFC 4180, as the `sqlite3` shell has it.
    Csv,
    /// Values with `|` between them.
    List,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 5] = [Mode::Table, Mode::Box, Mode::Column, Mode::Csv, Mode::List];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Table => "table",
            Mode::Box => "box",
            Mode::Column => "column",
            Mode::Csv => "csv",
            Mode::List => "list",
        }
    }

    const fn is_aligned(self) -> bool {
        matches!(self, Mode::Table | Mode::Box | Mode::Column)
    }
}

/// A line of a frame: left, between columns, right; and what it is made of.
type Frame = [&'static str; 4];

const TABLE_FRAME: Frame = ["+", "+", "+", "-"];
const BOX_FRAMES: [Frame; 3] = [["┌", "┬", "┐", "─"], ["├", "┼", "┤", "─"], ["└", "┴", "┘", "─"]];

#[derive(Clone, Copy, Debug)]
struct Cell {
    /// Where its text ends in the sample's.
    end: usize,
    is_number: bool,
}

/// Prints the rows of one statement after another.
#[derive(Debug)]
pub(crate) struct Printer {
    pub(crate) mode: Mode,
    pub(crate) headers: bool,
    /// The cells that wait for the widths, row by row, and their text.
    cells: Vec<Cell, Class>,
    text: Vec<u8, Class>,
    widths: Vec<usize, Class>,
    columns: usize,
    /// The widths are settled, and what is above the rows was printed.
    has_begun: bool,
    is_broken: bool,
}

/// There is no memory for the row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoMemory;

impl Printer {
    pub(crate) fn new(memory: Class) -> Self {
        Self {
            mode: Mode::default(),
            headers: true,
            cells: Vec::new_in(memory),
            text: Vec::new_in(memory),
            widths: Vec::new_in(memory),
            columns: 0,
            has_begun: false,
            is_broken: false,
        }
    }

    /// Forgets what was printed: another statement begins.
    pub(crate) fn begin(&mut self, columns: usize) {
        self.columns = columns;
        (self.has_begun, self.is_broken) = (false, false);
        self.clear();
        self.widths.clear();
    }

    fn clear(&mut self) {
        self.cells.clear();
        self.text.clear();
        if self.text.capacity() > 2 * SAMPLE_BYTES {
            self.text.shrink_to(SAMPLE_BYTES);
        }
    }

    /// Takes the statement's row, and prints what can be.
    pub(crate) fn row(&mut self, statement: &mut Statement, out: &mut Output) -> Result<(), NoMemory> {
        if !self.mode.is_aligned() {
            self.unaligned(statement, out);
            return Ok(());
        }
        if self.cells.is_empty() && !self.has_begun {
            self.collect_names(statement);
        }
        for column in 0..self.columns {
            let is_number = statement.is_number(column);
            let text = statement.text(column).unwrap_or(&[]);
            self.add(text, is_number);
        }
        if self.is_broken {
            return Err(NoMemory);
        }
        let rows = self.cells.len() / self.columns.max(1);
        if self.has_begun || rows > SAMPLE_ROWS || self.text.len() >= SAMPLE_BYTES {
            self.flush(out);
        }
        Ok(())
    }

    /// There are no more rows.
    pub(crate) fn end(&mut self, out: &mut Output) {
        if !self.mode.is_aligned() {
            return;
        }
        if !self.cells.is_empty() {
            self.flush(out);
        }
        if self.has_begun {
            match self.mode {
                Mode::Table => self.frame(TABLE_FRAME, out),
                Mode::Box => self.frame(BOX_FRAMES[2], out),
                _ => {}
            }
        }
        self.clear();
    }

    /// The names are the sample's first row.
    fn collect_names(&mut self, statement: &Statement) {
        for column in 0..self.columns {
            self.add(statement.name(column), false);
        }
    }

    fn add(&mut self, text: &[u8], is_number: bool) {
        // As `^X`, a character is two bytes long.
        let needs = self.text.try_reserve(2 * text.len()).is_err() || self.cells.try_reserve(1).is_err();
        if needs {
            self.is_broken = true;
            return;
        }
        for &byte in text {
            match byte {
                b'\n' => self.text.push(byte),
                0..0x20 | 0x7f => self.text.extend_from_slice(&[b'^', byte ^ 0x40]),
                _ => self.text.push(byte),
            }
        }
        self.cells.push(Cell {
            end: self.text.len(),
            is_number,
        });
    }

    fn cell(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.cells[before].end);
        &self.text[start..self.cells[index].end]
    }

    /// Prints the collected rows, the names above them if they are the first.
    fn flush(&mut self, out: &mut Output) {
        let mut first = 0;
        if !self.has_begun {
            self.has_begun = true;
            let skipped = if self.headers { 0 } else { self.columns };
            for column in 0..self.columns {
                let cells = (skipped + column..self.cells.len()).step_by(self.columns);
                let width = cells.map(|cell| width(self.cell(cell))).max().unwrap_or(0);
                if self.widths.try_reserve(1).is_ok() {
                    self.widths.push(width);
                }
            }
            match self.mode {
                Mode::Table => self.frame(TABLE_FRAME, out),
                Mode::Box => self.frame(BOX_FRAMES[0], out),
                _ => {}
            }
            if self.headers {
                self.print_row(0, true, out);
                match self.mode {
                    Mode::Table => self.frame(TABLE_FRAME, out),
                    Mode::Box => self.frame(BOX_FRAMES[1], out),
                    _ => {
                        for column in 0..self.columns {
                            out.put_str(if column == 0 { "" } else { "  " });
                            out.repeat("-", self.width_of(column));
                        }
                        out.put(b"\n");
                    }
                }
            }
            first = self.columns;
        }
        for row in (first..self.cells.len()).step_by(self.columns.max(1)) {
            self.print_row(row, false, out);
        }
        self.clear();
    }

    fn width_of(&self, column: usize) -> usize {
        self.widths.get(column).copied().unwrap_or(0)
    }

    fn frame(&self, [left, between, right, line]: Frame, out: &mut Output) {
        out.put_str(left);
        for column in 0..self.columns {
            if column > 0 {
                out.put_str(between);
            }
            out.repeat(line, self.width_of(column) + 2);
        }
        out.put_str(right);
        out.put(b"\n");
    }

    /// The row whose first cell is `first`, as many lines of it as its highest cell has.
    fn print_row(&self, first: usize, is_name: bool, out: &mut Output) {
        let [left, between, right] = match self.mode {
            Mode::Table => ["| ", " | ", " |"],
            Mode::Box => ["│ ", " │ ", " │"],
            _ => ["", "  ", ""],
        };
        let cells = first..(first + self.columns).min(self.cells.len());
        let height = cells.clone().map(|cell| lines(self.cell(cell)).count()).max();
        for line in 0..height.unwrap_or(1) {
            out.put_str(left);
            for (column, index) in cells.clone().enumerate() {
                if column > 0 {
                    out.put_str(between);
                }
                let text = lines(self.cell(index)).nth(line).unwrap_or(&[]);
                let spare = self.width_of(column).saturating_sub(characters(text));
                let before = match self.mode {
                    Mode::Table | Mode::Box if is_name => spare / 2,
                    _ if self.cells[index].is_number => spare,
                    _ => 0,
                };
                let is_last = right.is_empty() && column + 1 == self.columns;
                out.repeat(" ", before);
                out.put(text);
                out.repeat(" ", if is_last { 0 } else { spare - before });
            }
            out.put_str(right);
            out.put(b"\n");
        }
    }

    fn unaligned(&mut self, statement: &mut Statement, out: &mut Output) {
        if !self.has_begun {
            self.has_begun = true;
            if self.headers {
                for column in 0..self.columns {
                    self.separate(column, out);
                    self.value(Some(statement.name(column)), out);
                }
                self.end_line(out);
            }
        }
        for column in 0..self.columns {
            self.separate(column, out);
            self.value(statement.text(column), out);
        }
        self.end_line(out);
    }

    fn separate(&self, column: usize, out: &mut Output) {
        if column > 0 {
            out.put_str(if self.mode == Mode::Csv { "," } else { "|" });
        }
    }

    fn end_line(&self, out: &mut Output) {
        out.put_str(if self.mode == Mode::Csv { "\r\n" } else { "\n" });
    }

    fn value(&self, text: Option<&[u8]>, out: &mut Output) {
        let Some(text) = text else { return };
        let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b',');
        if self.mode != Mode::Csv || (!text.is_empty() && text.iter().all(is_plain)) {
            out.put(text);
            return;
        }
        out.put(b"\"");
        for (index, part) in text.split(|byte| *byte == b'"').enumerate() {
            if index > 0 {
                out.put(b"\"\"");
            }
            out.put(part);
        }
        out.put(b"\"");
    }

    /// Takes a name of `.tables`, and prints what can be.
    pub(crate) fn name(&mut self, statement: &mut Statement, out: &mut Output) -> Result<(), NoMemory> {
        let text = statement.text(0).unwrap_or(&[]);
        self.add(text, false);
        if self.is_broken {
            return Err(NoMemory);
        }
        if self.text.len() >= SAMPLE_BYTES {
            self.names(out);
        }
        Ok(())
    }

    /// Prints the names in columns, filled from above.
    pub(crate) fn names(&mut self, out: &mut Output) {
        let count = self.cells.len();
        let widest = (0..count).map(|cell| width(self.cell(cell))).max().unwrap_or(0);
        let columns = (LINE_CHARACTERS / (widest + 2)).max(1);
        let rows = count.div_ceil(columns);
        for row in 0..rows {
            let mut cells = (row..count).step_by(rows).peekable();
            while let Some(cell) = cells.next() {
                let text = self.cell(cell);
                out.put(text);
                if cells.peek().is_some() {
                    out.repeat(" ", widest + 2 - width(text));
                }
            }
            out.put(b"\n");
        }
        self.clear();
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

/// Characters of UTF-8: all bytes but those that continue one.
fn characters(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

/// The longest line.
fn width(text: &[u8]) -> usize {
    lines(text).map(characters).max().unwrap_or(0)
}

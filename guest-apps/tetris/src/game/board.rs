//! The board: what has come to rest.

use super::piece::{Kind, Piece};

/// Columns of the board.
pub const COLUMNS: usize = 10;
/// Rows that are seen.
pub const ROWS: usize = 20;
/// Rows above them, where pieces come in.
const HIDDEN: usize = 2;

/// A row's cells: what lies there.
pub type Row = [Option<Kind>; COLUMNS];

/// What has come to rest. Row 0 is the highest one that is seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Board {
    rows: [Row; HIDDEN + ROWS],
}

impl Board {
    /// Nothing lies anywhere.
    pub const fn new() -> Self {
        Self {
            rows: [[None; COLUMNS]; HIDDEN + ROWS],
        }
    }

    /// The rows that are seen, from the top.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &Row> {
        self.rows[HIDDEN..].iter()
    }

    fn index(column: i8, row: i8) -> Option<(usize, usize)> {
        let column = usize::try_from(column).ok().filter(|column| *column < COLUMNS)?;
        let row = usize::try_from(i16::from(row) + HIDDEN as i16).ok()?;
        (row < HIDDEN + ROWS).then_some((column, row))
    }

    /// Whether `piece` lies within the board and over nothing else.
    pub fn fits(&self, piece: &Piece) -> bool {
        piece.cells().into_iter().all(|(column, row)| {
            Self::index(column, row).is_some_and(|(column, row)| self.rows[row][column].is_none())
        })
    }

    /// Lays down a piece that fits. Returns whether any of it is seen.
    pub fn lay(&mut self, piece: &Piece) -> bool {
        for (column, row) in piece.cells() {
            if let Some((column, row)) = Self::index(column, row) {
                self.rows[row][column] = Some(piece.kind);
            }
        }
        piece.cells().iter().any(|(_, row)| *row >= 0)
    }

    /// How many cells something lies on, unseen ones too.
    #[cfg(test)]
    pub(super) fn lying(&self) -> usize {
        self.rows.iter().flatten().flatten().count()
    }

    /// Something lies there now.
    #[cfg(test)]
    pub(super) fn fill(&mut self, column: i8, row: i8) {
        if let Some((column, row)) = Self::index(column, row) {
            self.rows[row][column] = Some(Kind::O);
        }
    }

    /// Takes out the full rows, and lets down what is above. Returns how many there were.
    pub fn clear(&mut self) -> u32 {
        let mut to = self.rows.len();
        for from in (0..self.rows.len()).rev() {
            if self.rows[from].iter().any(Option::is_none) {
                to -= 1;
                self.rows[to] = self.rows[from];
            }
        }
        self.rows[..to].fill([None; COLUMNS]);
        to as u32
    }
}

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

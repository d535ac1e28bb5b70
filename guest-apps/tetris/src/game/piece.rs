//! The seven pieces, how they turn, and in which order they come.

/// Kind of a piece.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// The bar.
    I,
    /// The square.
    O,
    /// The T.
    T,
    /// The S.
    S,
    /// The Z.
    Z,
    /// The J.
    J,
    /// The L.
    L,
}

impl Kind {
    /// All there are.
    pub const ALL: [Kind; 7] = [Kind::I, Kind::O, Kind::T, Kind::S, Kind::Z, Kind::J, Kind::L];

    /// Its letter.
    pub const fn letter(self) -> char {
        match self {
            Kind::I => 'I',
            Kind::O => 'O',
            Kind::T => 'T',
            Kind::S => 'S',
            Kind::Z => 'Z',
            Kind::J => 'J',
            Kind::L => 'L',
        }
    }

    /// Side of the square in which it turns.
    const fn side(self) -> i8 {
        match self {
            Kind::I => 4,
            Kind::O => 2,
            _ => 3,
        }
    }

    /// Its cells as it comes: column and row in its square.
    const fn cells(self) -> [(i8, i8); 4] {
        match self {
            Kind::I => [(0, 1), (1, 1), (2, 1), (3, 1)],
            Kind::O => [(0, 0), (1, 0), (0, 1), (1, 1)],
            Kind::T => [(1, 0), (0, 1), (1, 1), (2, 1)],
            Kind::S => [(1, 0), (2, 0), (0, 1), (1, 1)],
            Kind::Z => [(0, 0), (1, 0), (1, 1), (2, 1)],
            Kind::J => [(0, 0), (0, 1), (1, 1), (2, 1)],
            Kind::L => [(2, 0), (0, 1), (1, 1), (2, 1)],
        }
    }
}

/// Which way to turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Clockwise.
    Right,
    /// Against the clock.
    Left,
}

/// A piece somewhere over the board.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// What it is.
    pub kind: Kind,
    /// Quarter turns to the right, 0 to 3.
    quarters: u8,
    /// Where its square's upper left corner is; it may be outside the board.
    column: i8,
    row: i8,
}

impl Piece {
    /// A piece of `kind` as it comes: above the middle of a board `columns` wide.
    pub const fn new(kind: Kind, columns: i8) -> Self {
        Self {
            kind,
            quarters: 0,
            column: (columns - kind.side()) / 2,
            row: if matches!(kind, Kind::I) { -1 } else { 0 },
        }
    }

    /// Its four cells: column and row on the board, which they may lie outside of.
    pub fn cells(&self) -> [(i8, i8); 4] {
        let last = self.kind.side() - 1;
        self.kind.cells().map(|(column, row)| {
            let (column, row) = match self.quarters {
                0 => (column, row),
                1 => (last - row, column),
                2 => (last - column, last - row),
                _ => (row, last - column),
            };
            (self.column + column, self.row + row)
        })
    }

    /// The same, `columns` to the right and `rows` down.
    #[must_use]
    pub const fn moved(self, columns: i8, rows: i8) -> Self {
        Self {
            column: self.column + columns,
            row: self.row + rows,
            ..self
        }
    }

    /// Where it may lie after a turn: the first place that is free is taken. The places are those of the Super Rotation
    /// System: turned where it is, and otherwise pushed aside.
    pub fn turned(self, turn: Turn) -> impl Iterator<Item = Piece> {
        let quarters = match turn {
            Turn::Right => (self.quarters + 1) % 4,
            Turn::Left => (self.quarters + 3) % 4,
        };
        let to = Piece { quarters, ..self };
        // A kick is the difference of two states' offsets (rows count upwards there).
        (0..OFFSETS_LEN).map(move |index| {
            let (from_x, from_y) = offset(self.kind, self.quarters, index);
            let (to_x, to_y) = offset(self.kind, quarters, index);
            to.moved(from_x - to_x, to_y - from_y)
        })
    }
}

const OFFSETS_LEN: usize = 5;

/// The offsets of the Super Rotation System, less those that only say around which cell its square turns: ours does by
/// itself.
const fn offset(kind: Kind, quarters: u8, index: usize) -> (i8, i8) {
    const BAR: [[(i8, i8); OFFSETS_LEN]; 4] = [
        [(0, 0), (-1, 0), (2, 0), (-1, 0), (2, 0)],
        [(0, 0), (1, 0), (1, 0), (1, 1), (1, -2)],
        [(0, 0), (2, 0), (-1, 0), (2, -1), (-1, -1)],
        [(0, 0), (0, 0), (0, 0), (0, -2), (0, 1)],
    ];
    const OTHER: [[(i8, i8); OFFSETS_LEN]; 4] = [
        [(0, 0); OFFSETS_LEN],
        [(0, 0), (1, 0), (1, -1), (0, 2), (1, 2)],
        [(0, 0); OFFSETS_LEN],
        [(0, 0), (-1, 0), (-1, -1), (0, 2), (-1, 2)],
    ];
    match kind {
        Kind::O => (0, 0),
        Kind::I => BAR[quarters as usize][index],
        _ => OTHER[quarters as usize][index],
    }
}

/// Draws pieces: each seven of them are all seven, shuffled. Its whole state is its own, so that a game goes on with the
/// same pieces wherever it is restored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bag {
    state: u64,
    left: [Kind; 7],
    len: u8,
}

impl Bag {
    /// A bag that draws as `seed` says.
    pub const fn new(seed: u64) -> Self {
        Self {
            state: seed,
            left: Kind::ALL,
            len: 0,
        }
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The seed of a game after this one.
    pub fn next_seed(mut self) -> u64 {
        self.random()
    }

    /// The next piece.
    pub fn draw(&mut self) -> Kind {
        if self.len == 0 {
            self.left = Kind::ALL;
            self.len = Kind::ALL.len() as u8;
        }
        let index = (self.random() % u64::from(self.len)) as usize;
        self.len -= 1;
        self.left.swap(index, usize::from(self.len));
        self.left[usize::from(self.len)]
    }
}

//! Pictures by way of a terminal: a small one that knows what we send.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::game::Command;
use crate::scores::{Day, Score};

/// A terminal of 80 columns and 24 rows that knows the few sequences that are used, and panics at others.
pub(crate) struct Screen {
    cells: Vec<Vec<Cell>>,
    at: (usize, usize),
    colour: u8,
    pending: Vec<u8>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self {
            cells: vec![
                vec![
                    Cell {
                        glyph: b'#',
                        colour: 8
                    };
                    80
                ];
                24
            ],
            at: (0, 0),
            colour: PLAIN,
            pending: Vec::new(),
        }
    }

    pub(crate) fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.pending.is_empty() && *byte != 0x1b {
                match byte {
                    b'\r' => self.at.1 = 0,
                    b'\n' => self.at.0 = (self.at.0 + 1).min(23),
                    glyph => {
                        self.cells[self.at.0][self.at.1] = Cell {
                            glyph: *glyph,
                            colour: self.colour,
                        };
                        self.at.1 = (self.at.1 + 1).min(79);
                    }
                }
                continue;
            }
            self.pending.push(*byte);
            if self.pending.len() > 2 && (0x40..0x7f).contains(byte) {
                let sequence = String::from_utf8(core::mem::take(&mut self.pending)).unwrap();
                self.act(&sequence[2..sequence.len() - 1], *byte);
            }
        }
    }

    fn act(&mut self, parameters: &str, last: u8) {
        let number = |text: &str| text.parse::<usize>().unwrap();
        match (last, parameters) {
            (b'H', at) => {
                let (row, column) = at.split_once(';').unwrap();
                self.at = (number(row) - 1, number(column) - 1);
            }
            (b'J', "2") => self.cells.iter_mut().for_each(|row| row.fill(BLANK)),
            (b'm', "0") => self.colour = PLAIN,
            (b'm', colour) => self.colour = number(colour) as u8 - 30,
            (b'l' | b'h', "?25") => {}
            other => panic!("an unknown sequence: {other:?}"),
        }
    }

    /// The first row in which it differs from `picture`, with nothing around it.
    pub(crate) fn difference(&self, picture: &Picture, colours: bool) -> Option<usize> {
        (0..24).find(|row| {
            (0..80).any(|column| {
                let expected = if *row < HEIGHT && column < WIDTH {
                    picture.row(*row)[column]
                } else {
                    BLANK
                };
                let found = self.cells[*row][column];
                found.glyph != expected.glyph || found.colour != if colours { expected.colour } else { PLAIN }
            })
        })
    }

    pub(crate) fn text(&self) -> String {
        let rows = self
            .cells
            .iter()
            .map(|row| row.iter().map(|cell| char::from(cell.glyph)).collect::<String>());
        rows.collect::<Vec<_>>().join("\n")
    }
}

fn draw(from: &Picture, to: &Picture, colours: bool, screen: &mut Screen) -> usize {
    let mut bytes = [0; ROW_BYTES_MAX];
    let mut total = 0;
    for row in 0..HEIGHT {
        let len = from.draw_row(to, row, WIDTH, colours, &mut bytes);
        assert!(len < ROW_BYTES_MAX);
        screen.take(&bytes[..len]);
        total += len;
    }
    total
}

proptest! {
    /// After each change the terminal shows the game, though only what has changed was sent.
    #[test]
    fn a_terminal_shows_the_game(seed: u64, keys in prop::collection::vec(0usize..6, 0..80), colours: bool) {
        use crate::game::Turn;
        let commands = [
            Command::Left, Command::Right, Command::Turn(Turn::Left), Command::Drop, Command::Pause, Command::New,
        ];
        let mut scores = Scores::new();
        let mut game = Game::new(seed);
        let mut screen = Screen::new();
        screen.take(BEGIN);
        let mut shown = Picture::blank();
        for key in keys {
            game.command(commands[key]);
            scores.add(Score { points: game.score(), lines: game.lines(), level: game.level(), day: Day::default() });
            let picture = Picture::of(&game, &scores);
            draw(&shown, &picture, colours, &mut screen);
            prop_assert_eq!(screen.difference(&picture, colours), None, "{}", screen.text());
            shown = picture;
        }
        prop_assert_eq!(draw(&shown, &shown, colours, &mut screen), 0);
    }
}

#[test]
fn a_move_costs_few_bytes() {
    let mut game = Game::new(1);
    let scores = Scores::new();
    let before = Picture::of(&game, &scores);
    game.command(Command::Left);
    let len = draw(&before, &Picture::of(&game, &scores), true, &mut Screen::new());
    assert!(len < 200, "{len} bytes");
}

#[test]
fn everything_that_a_player_needs_is_on_it() {
    let mut game = Game::new(1);
    for _ in 0..20 {
        game.command(Command::Drop);
    }
    let mut screen = Screen::new();
    screen.take(BEGIN);
    let mut scores = Scores::of_file(b"123456 9 1 2026-01-01");
    scores.add(Score {
        points: u64::MAX,
        lines: 1,
        level: u32::MAX,
        day: Day::default(),
    });
    draw(
        &Picture::blank(),
        &Picture::of(&game, &scores),
        false,
        &mut screen,
    );
    let text = screen.text();
    for words in [
        "score",
        "lines         0",
        "level         1",
        "next",
        "space",
        "GAME OVER",
        "best scores",
        "123456",
    ] {
        assert!(text.contains(words), "{words} in\n{text}");
    }
}

#[test]
fn a_terminal_that_is_too_small_is_told_so_within_its_width() {
    let mut screen = Screen::new();
    screen.take(BEGIN);
    let picture = Picture::too_small(20, 5);
    let mut bytes = [0; ROW_BYTES_MAX];
    for row in 0..HEIGHT {
        let len = Picture::blank().draw_row(&picture, row, 20, true, &mut bytes);
        screen.take(&bytes[..len]);
    }
    assert!(screen.text().contains("too small: 20x5"), "{}", screen.text());
    assert!(screen.text().contains("needed: 48x22"));
}

//! A viewer by way of a terminal that takes as much as it likes.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::scores::Scores;
use crate::screen::tests::Screen;

/// Takes so many bytes, until it is given more room.
struct Slow {
    room: usize,
    taken: Vec<u8>,
}

impl Output for Slow {
    fn send(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(self.room);
        self.room -= len;
        self.taken.extend_from_slice(&bytes[..len]);
        len
    }
}

fn show(viewer: &mut Viewer, game: &Game, keys: u64, output: &mut Slow) {
    let picture = Picture::of(game, &Scores::new());
    viewer.show(&picture, &Answer { keys, game }, output);
}

/// What a terminal shows after the greeting and what telnet says were taken off.
fn screen_of(taken: &[u8]) -> Screen {
    let start = GREETING.len() + HELLO.len();
    assert_eq!(&taken[..GREETING.len()], GREETING.as_bytes());
    assert_eq!(&taken[GREETING.len()..start], HELLO);
    let mut screen = Screen::new();
    screen.take(&taken[start..]);
    screen
}

proptest! {
    /// However little room there is at a time, in the end the terminal shows the newest picture.
    #[test]
    fn a_slow_terminal_shows_the_newest_picture(
        seed: u64,
        rooms in prop::collection::vec((0usize..700, 0usize..5), 1..60)
    ) {
        let commands = [Command::Left, Command::Right, Command::Drop, Command::Turn(Turn::Left), Command::Pause];
        let mut game = Game::new(seed);
        let mut viewer = Viewer::new();
        let mut output = Slow { room: 0, taken: Vec::new() };
        for (room, command) in rooms {
            output.room = room;
            game.command(commands[command]);
            show(&mut viewer, &game, 0, &mut output);
        }
        // What is left of an old row goes first, then what is newest.
        for _ in 0..2 {
            output.room = usize::MAX;
            show(&mut viewer, &game, 0, &mut output);
        }
        let screen = screen_of(&output.taken);
        prop_assert_eq!(screen.difference(&Picture::of(&game, &Scores::new()), true), None, "{}", screen.text());
    }

    /// Whatever is typed, nothing panics, and the terminal still shows the game.
    #[test]
    fn whatever_is_typed(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let game = Game::new(0);
        let mut viewer = Viewer::new();
        let mut output = Slow { room: usize::MAX, taken: Vec::new() };
        for byte in bytes {
            viewer.take(byte);
            show(&mut viewer, &game, 0, &mut output);
        }
    }
}

#[test]
fn keys_mean_what_the_picture_says() {
    let mut viewer = Viewer::new();
    let mut meanings = |keys: &[u8]| -> Vec<Meaning> { keys.iter().map(|key| viewer.take(*key)).collect() };
    assert_eq!(
        meanings(b"aDw z.x"),
        [
            Meaning::Command(Command::Left),
            Meaning::Command(Command::Right),
            Meaning::Command(Command::Turn(Turn::Right)),
            Meaning::Command(Command::Drop),
            Meaning::Command(Command::Turn(Turn::Left)),
            Meaning::Step,
            Meaning::Nothing
        ]
    );
    // These belong to whoever runs the pair.
    assert_eq!(meanings(b"kq"), [Meaning::Nothing; 2]);
}

#[test]
fn a_resized_window_is_drawn_anew_or_told_that_it_is_too_small() {
    let game = Game::new(0);
    let mut viewer = Viewer::new();
    let mut output = Slow {
        room: usize::MAX,
        taken: Vec::new(),
    };
    show(&mut viewer, &game, 0, &mut output);
    for (columns, rows, words) in [
        (47, 24, "too small: 47x24"),
        (80, 21, "too small: 80x21"),
        (100, 40, "TETRIS"),
    ] {
        for byte in [255, 250, 31, 0, columns, 0, rows, 255, 240] {
            viewer.take(byte);
        }
        output.taken.clear();
        show(&mut viewer, &game, 0, &mut output);
        let mut screen = Screen::new();
        screen.take(&output.taken);
        assert!(screen.text().contains(words), "{words}: {}", screen.text());
    }
}

#[test]
fn a_program_is_told_a_line_for_each_key() {
    let mut game = Game::new(5);
    let mut viewer = Viewer::new();
    let mut output = Slow {
        room: usize::MAX,
        taken: Vec::new(),
    };
    show(&mut viewer, &game, 0, &mut output);
    output.taken.clear();
    viewer.take(ENQUIRY);
    viewer.take(b'a');
    viewer.take(b'#');
    game.command(Command::Drop);
    show(&mut viewer, &game, 7, &mut output);
    let text = String::from_utf8(output.taken).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].starts_with("state keys=7 score=") && lines[0].contains(" over=0 board=/"),
        "{text}"
    );
    let letters = lines[0].rsplit_once('=').unwrap().1;
    assert_eq!(letters.matches('/').count(), 20);
    assert_eq!(
        letters.chars().filter(char::is_ascii_uppercase).count(),
        4,
        "{letters}"
    );
    assert_eq!(
        letters.chars().filter(char::is_ascii_lowercase).count(),
        4,
        "{letters}"
    );
}

#[test]
fn the_longest_line_fits() {
    let mut game = Game::new(5);
    for _ in 0..30 {
        game.command(Command::Drop);
    }
    let mut line = String::new();
    Answer {
        keys: u64::MAX,
        game: &game,
    }
    .write(&mut line)
    .unwrap();
    let longest = line.len() + 3 * u64::MAX.to_string().len() + ROWS * 10;
    assert!(longest < ANSWER_BYTES_MAX + ROWS * 10, "{longest}");
    let mut bounded = Line::new();
    Answer {
        keys: u64::MAX,
        game: &game,
    }
    .write(&mut bounded)
    .unwrap();
    assert_eq!(&bounded.bytes[..bounded.len], line.as_bytes());
}

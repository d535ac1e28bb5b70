//! The rules against a model that knows rows as text, and properties that hold in every game.

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

const COMMANDS: [Command; 8] = [
    Command::Left,
    Command::Right,
    Command::Turn(Turn::Right),
    Command::Turn(Turn::Left),
    Command::Down,
    Command::Drop,
    Command::Pause,
    Command::New,
];

/// Something that happens to a game.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Command(Command),
    Step,
    Time(u16),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        8 => (0..6usize).prop_map(|index| Happening::Command(COMMANDS[index])),
        1 => (6..8usize).prop_map(|index| Happening::Command(COMMANDS[index])),
        2 => Just(Happening::Step),
        2 => (0u16..2000).prop_map(Happening::Time),
    ];
    prop::collection::vec(one, 0..600)
}

fn happen(game: &mut Game, happening: Happening) {
    match happening {
        Happening::Command(command) => {
            game.command(command);
        }
        Happening::Step => game.step(),
        Happening::Time(ms) => {
            game.advance(Duration::from_millis(ms.into()));
        }
    }
}

fn lying(game: &Game) -> usize {
    game.board().lying()
}

proptest! {
    /// What falls lies over nothing; rows that are full are gone; each command does what it says.
    #[test]
    fn every_game_is_sound(seed: u64, happenings in happenings()) {
        let mut game = Game::new(seed);
        for happening in happenings {
            let before = game.clone();
            happen(&mut game, happening);
            prop_assert!(game.board().rows().all(|row| row.iter().any(Option::is_none)));
            if game.state() != State::Over {
                prop_assert!(game.piece().is_some_and(|piece| game.board().fits(piece)));
            }
            if matches!(happening, Happening::Command(Command::New)) {
                continue;
            }
            prop_assert!(game.score() >= before.score() && game.lines() >= before.lines());
            // At most so many pieces have come to rest: a time of two seconds at the first level is three steps.
            let rows = (game.lines() - before.lines()) as usize;
            let added = (lying(&game) + rows * COLUMNS) as i64 - lying(&before) as i64;
            prop_assert!(added % 4 == 0, "{added} cells were added");
            if let Happening::Command(Command::Left | Command::Right) = happening {
                prop_assert_eq!(game.board(), before.board());
            }
        }
    }

    /// The same seed and the same commands make the same game, wherever it is taken up in between.
    #[test]
    fn the_same_commands_make_the_same_game(seed: u64, happenings in happenings(), cut in 0usize..600) {
        let mut whole = Game::new(seed);
        happenings.iter().for_each(|happening| happen(&mut whole, *happening));
        let cut = cut.min(happenings.len());
        let mut first = Game::new(seed);
        happenings[..cut].iter().for_each(|happening| happen(&mut first, *happening));
        let mut second = first.clone();
        happenings[cut..].iter().for_each(|happening| happen(&mut second, *happening));
        prop_assert_eq!(whole, second);
    }

    /// Rows are cleared as text is: take out the full lines, put empty ones on top.
    #[test]
    fn rows_are_cleared_as_the_model_does(pattern in prop::collection::vec((any::<bool>(), any::<u16>()), ROWS)) {
        let mut board = Board::new();
        let mut model: Vec<Vec<bool>> = Vec::new();
        for (row, (full, holes)) in (0i8..).zip(pattern) {
            let cells: Vec<bool> = (0..COLUMNS).map(|column| full || holes >> column & 1 == 1).collect();
            for (column, cell) in (0i8..).zip(&cells) {
                if *cell {
                    board.fill(column, row);
                }
            }
            model.push(cells);
        }
        model.retain(|row| row.contains(&false));
        let cleared = ROWS - model.len();
        let mut expected = vec![vec![false; COLUMNS]; cleared];
        expected.extend(model);
        prop_assert_eq!(board.clear() as usize, cleared);
        let found: Vec<Vec<bool>> = board.rows().map(|row| row.iter().map(Option::is_some).collect()).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn each_seven_pieces_are_all_seven(seed: u64) {
        let mut bag = Bag::new(seed);
        for _ in 0..20 {
            let seven: Vec<Kind> = (0..7).map(|_| bag.draw()).collect();
            prop_assert!(Kind::ALL.iter().all(|kind| seven.contains(kind)), "{seven:?}");
        }
    }

    /// In the open four turns one way, and one there and one back, are none.
    #[test]
    fn turns_undo_each_other(index in 0usize..7, quarters in 0usize..4) {
        let first = |piece: Piece, turn| piece.turned(turn).next().unwrap();
        let mut piece = Piece::new(Kind::ALL[index], COLUMNS as i8).moved(0, 10);
        (0..quarters).for_each(|_| piece = first(piece, Turn::Right));
        let around = (0..4).fold(piece, |piece, _| first(piece, Turn::Right));
        prop_assert_eq!(around, piece);
        prop_assert_eq!(first(first(piece, Turn::Right), Turn::Left), piece);
    }
}

/// The kicks of the Super Rotation System as its tables have them: column and row (downwards).
#[test]
fn kicks_are_those_of_the_tables() {
    let kicks = |piece: Piece, turn| -> Vec<(i8, i8)> {
        let places: Vec<Piece> = piece.turned(turn).collect();
        let (column, row) = places[0].cells()[0];
        places
            .iter()
            .map(|place| (place.cells()[0].0 - column, place.cells()[0].1 - row))
            .collect()
    };
    let t = Piece::new(Kind::T, 10);
    let t_right = t.turned(Turn::Right).next().unwrap();
    let i = Piece::new(Kind::I, 10);
    let i_right = i.turned(Turn::Right).next().unwrap();
    assert_eq!(
        kicks(t, Turn::Right),
        [(0, 0), (-1, 0), (-1, -1), (0, 2), (-1, 2)]
    );
    assert_eq!(kicks(t, Turn::Left), [(0, 0), (1, 0), (1, -1), (0, 2), (1, 2)]);
    assert_eq!(
        kicks(t_right, Turn::Right),
        [(0, 0), (1, 0), (1, 1), (0, -2), (1, -2)]
    );
    assert_eq!(kicks(i, Turn::Right), [(0, 0), (-2, 0), (1, 0), (-2, 1), (1, -2)]);
    assert_eq!(kicks(i, Turn::Left), [(0, 0), (-1, 0), (2, 0), (-1, -2), (2, 1)]);
    assert_eq!(
        kicks(i_right, Turn::Right),
        [(0, 0), (-1, 0), (2, 0), (-1, -2), (2, 1)]
    );
}

#[test]
fn a_piece_that_has_touched_down_rests() {
    let mut game = Game::new(1);
    while game.shadow() != game.piece().copied() {
        assert!(game.command(Command::Down));
    }
    let lying_before = lying(&game);
    game.advance(REST - Duration::from_millis(1));
    assert_eq!(lying(&game), lying_before);
    // At the first level the rest is the level's own time.
    game.advance(Duration::from_secs(1));
    assert_eq!(lying(&game), lying_before + 4);
}

#[test]
fn a_paused_game_stands_still_and_a_full_board_ends_it() {
    let mut game = Game::new(3);
    game.command(Command::Pause);
    let paused = game.clone();
    assert!(!game.advance(Duration::from_secs(100)));
    for command in [
        Command::Left,
        Command::Drop,
        Command::Turn(Turn::Left),
        Command::Down,
    ] {
        assert!(!game.command(command));
    }
    assert_eq!(game, paused);
    assert_eq!(game.due_in(), None);
    game.command(Command::Pause);
    for _ in 0..20 {
        game.command(Command::Drop);
    }
    assert_eq!((game.state(), game.piece()), (State::Over, None));
    assert!(!game.command(Command::Pause));
    assert!(game.command(Command::New));
    assert_eq!((game.state(), game.score(), lying(&game)), (State::Running, 0, 0));
}

#[test]
fn rows_count_by_level_and_levels_by_rows() {
    let mut game = Game::new(0);
    game.lines = 9;
    for column in 0..COLUMNS as i8 {
        if !(3..=6).contains(&column) {
            game.board.fill(column, ROWS as i8 - 1);
        }
    }
    game.piece = Piece::new(Kind::I, COLUMNS as i8);
    let fell = game.shadow().unwrap().cells()[0].1 - game.piece.cells()[0].1;
    game.command(Command::Drop);
    assert_eq!((game.lines(), game.level()), (10, 2));
    assert_eq!(game.score(), 100 + 2 * fell as u64);
}

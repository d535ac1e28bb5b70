//! A game of Tetris through the death of its machine.

use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tetris::game::{Bag, Game, Kind, State};
use tetris::scores::{Day, Score, Scores};
use tetris::screen::Picture;
use tetris::table::play;
use tetris::viewer::{Answer, ENQUIRY};

use super::inside::{Ground, READY_LIMIT, take_over};
use super::watcher::Watcher;
use crate::disk;
use crate::guest_build::{self, Variant};
use crate::pair::{Happening, Ingredients, Pair};
use crate::qemu::Sign;

/// Keys of the script.
const KEYS: usize = 400;
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The variable that makes a run play the same keys and kill at the same move again.
const SEED: &str = "HS_TEST_SEED";

/// A seeded game with scripted keys, its master killed at a random move, against the same game without a machine. One connection
/// plays it, another watches.
pub(super) fn takeover(ground: &Ground) -> Result<String> {
    let seed = match std::env::var(SEED) {
        Ok(seed) => seed
            .parse()
            .with_context(|| format!("{SEED}={seed} is no number"))?,
        Err(_) => RandomState::new().hash_one(0) & 0xffff_ffff,
    };
    play_through(ground, seed).with_context(|| format!("to play this again: {SEED}={seed}"))
}

fn play_through(ground: &Ground, seed: u64) -> Result<String> {
    let script = script(seed);
    let kill_at = KEYS / 4 + (seed % (KEYS as u64 / 2)) as usize;
    let words = ["port=2323".into(), "ticks=manual".into(), format!("seed={seed}")];
    let image = guest_build::image("tetris", Variant::Usual);
    let disk = Arc::new(disk::scratch(disk::MIB_DEFAULT)?);
    let mut pair = Pair::start(&Ingredients {
        disk: Some(Arc::clone(&disk)),
        console: true,
        ..ground.ingredients(&words, [image.clone(), image])?
    })?;
    pair.wait_until_ready(READY_LIMIT)?;
    let service = SocketAddr::from((ground.plan.service.address, 2323));

    let mut watcher = Watcher::come(service, LIMIT)?;
    let mut player = Player::sit_down(service)?;
    ensure!(player.keys == 0, "a new game has taken {} keys", player.keys);
    for (count, key) in script[..kill_at].iter().enumerate() {
        if count == kill_at / 2 {
            // With somebody there, each key is waited for.
            sit_at_console(&mut pair)?;
        }
        player.press(*key)?;
        while pair.next(Instant::now()).is_some() {}
    }
    watcher.see(&picture(seed, &script[..kill_at]))?;
    // Nobody knows yet whether the last one was taken.
    player.stream.get_mut().write_all(&script[kill_at..=kill_at])?;
    let took = take_over(&mut pair)?;
    // Nor need the player know: the same connection brings its answer.
    player.listen()?;
    ensure!(
        player.keys == kill_at as u64 + 1,
        "of {} keys {} were taken",
        kill_at + 1,
        player.keys
    );
    watcher.see(&picture(seed, &script[..=kill_at]))?;
    for key in &script[kill_at + 1..] {
        player.press(*key)?;
    }
    watcher.see(&picture(seed, &script))?;
    ensure!(
        watcher.drawn() == 1,
        "what a terminal shows was forgotten: it was cleared {} times",
        watcher.drawn()
    );
    let expected = expected(seed, &script)?;
    if player.state != expected {
        return Err(pair.failure(&format!(
            "the game is another one\nexpected {expected}\nfound    {}",
            player.state
        )));
    }
    let points = player.finish()?;
    pair.end();
    let scores = String::from_utf8(disk::contents(&disk, "SCORES.TXT")?)?;
    ensure!(
        scores.starts_with(&format!("{points} ")) && scores.lines().count() == 1,
        "the game ended with {points} points, and the file of scores holds {scores:?}"
    );
    Ok(format!("seed {seed}, killed at key {kill_at} of {KEYS}; {took}"))
}

/// Presses a key that means nothing to the game, and sees it on the master's console.
fn sit_at_console(pair: &mut Pair) -> Result<()> {
    let master = pair.master().context("there is no master")?;
    pair.nodes[master].guest.type_in(b"c")?;
    let mut shown = Vec::new();
    pair.wait_for("the game on the console", LIMIT, |_, happening| {
        if let Happening::Guest(_, Sign::Console(bytes)) = happening {
            shown.extend_from_slice(bytes);
        }
        shown.windows(6).any(|window| window == b"TETRIS").then_some(())
    })
}

/// Keys as they come from `seed`: moves, turns, falls, drops, and what means nothing.
fn script(seed: u64) -> Vec<u8> {
    let mut bag = Bag::new(!seed);
    let key = |kind| match kind {
        Kind::I => b'a',
        Kind::O => b'd',
        Kind::T => b'w',
        Kind::S => b'z',
        Kind::Z => b's',
        Kind::J => b' ',
        Kind::L => b'.',
    };
    (0..KEYS).map(|_| key(bag.draw())).collect()
}

/// What a terminal shows of a game without a machine after the same keys.
fn picture(seed: u64, keys: &[u8]) -> Picture {
    let (mut game, mut scores) = (Game::new(seed), Scores::of_file(b""));
    play(&mut game, keys);
    if game.state() == State::Over {
        scores.add(Score {
            points: game.score(),
            lines: game.lines(),
            level: game.level(),
            day: Day::default(),
        });
    }
    Picture::of(&game, &scores)
}

/// What a game without a machine says after the same keys.
fn expected(seed: u64, script: &[u8]) -> Result<String> {
    let mut game = Game::new(seed);
    let keys = play(&mut game, script);
    let mut line = String::new();
    Answer { keys, game: &game }.write(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// A program at the table.
struct Player {
    stream: BufReader<TcpStream>,
    /// Keys that the game has taken, as its last answer says.
    keys: u64,
    state: String,
}

impl Player {
    fn sit_down(service: SocketAddr) -> Result<Player> {
        let stream = TcpStream::connect_timeout(&service, LIMIT).context("the game cannot be reached")?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_nodelay(true)?;
        let mut player = Player {
            stream: BufReader::new(stream),
            keys: 0,
            state: String::new(),
        };
        player.stream.get_mut().write_all(&[ENQUIRY])?;
        player.listen()?;
        Ok(player)
    }

    /// Presses a key, and waits until it is said to be taken.
    fn press(&mut self, key: u8) -> Result<()> {
        let before = self.keys;
        self.stream.get_mut().write_all(&[key])?;
        self.listen()?;
        ensure!(
            self.keys == before + 1,
            "{} keys were taken after {before} and one more",
            self.keys
        );
        Ok(())
    }

    /// Drops pieces until the game is over; returns its points.
    fn finish(&mut self) -> Result<u64> {
        for _ in 0..KEYS {
            if self.state.contains(" over=1 ") {
                let points = self
                    .state
                    .split_once("score=")
                    .and_then(|(_, rest)| rest.split_once(' '));
                return Ok(points.context("an answer without points")?.0.parse()?);
            }
            self.press(b' ')?;
        }
        bail!("no board is so high: {}", self.state)
    }

    /// Reads the next answer. What was drawn before the enquiry was read stands before the first.
    fn listen(&mut self) -> Result<()> {
        let mut bytes = Vec::new();
        let at = loop {
            bytes.clear();
            ensure!(
                self.stream.read_until(b'\n', &mut bytes)? > 0,
                "the game has ended"
            );
            let found = bytes.windows(6).position(|window| window == b"state ");
            if let Some(at) = found {
                break at;
            }
        };
        self.state = String::from_utf8(bytes.split_off(at))?.trim_end().to_owned();
        let keys = self
            .state
            .split_once("keys=")
            .and_then(|(_, rest)| rest.split_once(' '));
        self.keys = keys.context("an answer without a count of keys")?.0.parse()?;
        Ok(())
    }
}

//! A player's terminal inside the application of the pair: what is typed goes to the service, what the service draws goes to
//! the terminal.
//!
//! ```text
//! terminal ── keys ──> k, q, Ctrl-C: the pair's ── all others ──> service
//!          <── the last row: what the pair does ──┐ rows above <── service, by a thread of its own
//! ```
//!
//! The connection is the player's, and goes on at a takeover: nothing is drawn twice, and what was typed meanwhile counts. Should it
//! break (after a panic of the application, it may), it is made anew, and the service draws everything. Or the player sits at the
//! console of whichever guest is master: the same, without a network.

use std::fs::File;
use std::io::{ErrorKind, Read, Write, stdout};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::crossterm::{execute, terminal};

use crate::forward;
use crate::live::Key;
use crate::pair::Happening;

/// Time between two drawings of the last row.
const PERIOD: Duration = Duration::from_millis(100);

/// How the line begins that tells of a takeover.
pub(crate) const TAKEOVER: &str = "takeover:";

const IAC: u8 = 255;
const ESCAPE: u8 = 0x1b;

/// A terminal that plays.
pub(crate) struct Player {
    keys: Receiver<Key>,
    /// Of what a console shows.
    filter: Filter,
    /// What the last row says: of the last takeover, and the newest line.
    takeover: String,
    message: String,
    drawn: Option<Instant>,
}

impl Player {
    /// Takes the terminal over, and connects it with `service` for as long as the process lives.
    ///
    /// # Errors
    /// There is no terminal that can be taken over.
    pub(crate) fn open(service: SocketAddr) -> Result<Player> {
        let connection = Arc::new(Mutex::new(None::<TcpStream>));
        let shared = Arc::clone(&connection);
        let player = Self::take_over(move |byte| {
            let connection = shared.lock().expect("nothing panics while it is held");
            if let Some(mut stream) = connection.as_ref() {
                // What finds no connection is lost, as at any terminal whose line is cut.
                let _ = stream.write_all(&[byte]);
            }
        })?;
        thread::spawn(move || {
            loop {
                let (Ok(stream), Ok((columns, rows))) =
                    (forward::reach(service, forward::CONNECT_LIMIT), terminal::size())
                else {
                    continue;
                };
                let _ = stream.set_nodelay(true);
                follow(&stream, &connection, columns, rows);
            }
        });
        Ok(player)
    }

    /// Takes the terminal over, for the master's console: what is typed goes to `pair`, and what the console shows comes by
    /// [`show`](Self::show).
    ///
    /// # Errors
    /// There is no terminal that can be taken over.
    pub(crate) fn open_console(pair: Sender<Happening>) -> Result<Player> {
        Self::take_over(move |byte| drop(pair.send(Happening::Typed(vec![byte]))))
    }

    fn take_over(typed: impl Fn(u8) + Send + 'static) -> Result<Player> {
        let keyboard = File::open("/dev/tty").context("there is no terminal to play on")?;
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            usual(panic);
        }));
        terminal::enable_raw_mode()?;
        execute!(stdout(), EnterAlternateScreen)?;
        let (sender, keys) = channel();
        thread::spawn(move || type_in(keyboard, typed, &sender));
        Ok(Player {
            keys,
            filter: Filter::default(),
            takeover: String::new(),
            message: String::new(),
            drawn: None,
        })
    }

    /// What a console is told first: how large the terminal is.
    pub(crate) fn greeting() -> Vec<u8> {
        let (columns, rows) = terminal::size().unwrap_or((80, 24));
        window_size(columns, rows.saturating_sub(1))
    }

    /// Shows what the master's console shows.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn show(&mut self, bytes: &[u8]) -> Result<()> {
        let mut out = stdout().lock();
        out.write_all(self.filter.pass(bytes))?;
        out.flush()?;
        Ok(())
    }

    /// Shows a message in the last row.
    pub(crate) fn line(&mut self, text: &str) {
        let last = text.lines().last().unwrap_or_default();
        if last.starts_with(TAKEOVER) {
            // What follows it comes at once, and a player has no eyes for it.
            last.clone_into(&mut self.takeover);
            self.message.clear();
        } else {
            last.clone_into(&mut self.message);
        }
        self.drawn = None;
    }

    /// Draws the last row, if it is time: the service may have cleared it.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn draw(&mut self) -> Result<()> {
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < PERIOD) {
            return Ok(());
        }
        let (columns, rows) = terminal::size()?;
        let text = format!("k kill master  q quit  {}  {}", self.takeover, self.message);
        let text: String = text.chars().take(usize::from(columns)).collect();
        // Cursor and colours are the service's: saved and restored around it.
        let mut out = stdout().lock();
        write!(out, "\x1b7\x1b[{rows};1H\x1b[0;7m{text}\x1b[0m\x1b[K\x1b8")?;
        out.flush()?;
        self.drawn = Some(Instant::now());
        Ok(())
    }

    /// A key that is not the service's.
    pub(crate) fn key(&mut self) -> Option<Key> {
        self.keys.try_recv().ok()
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    let _ = terminal::disable_raw_mode();
}

/// Passes on what is typed, and sends the keys that are not the service's to `keys`.
fn type_in(mut keyboard: File, typed: impl Fn(u8), keys: &Sender<Key>) {
    let mut byte = [0];
    loop {
        let key = match keyboard.read(&mut byte) {
            // The terminal is gone.
            Ok(0) | Err(_) => Key::Quit,
            Ok(_) => match byte[0] {
                b'k' => Key::Kill,
                b'q' => Key::Quit,
                0x03 => Key::Interrupt,
                other => {
                    typed(other);
                    continue;
                }
            },
        };
        if keys.send(key).is_err() || key == Key::Quit {
            return;
        }
    }
}

/// Follows one connection to its end.
fn follow(stream: &TcpStream, shared: &Mutex<Option<TcpStream>>, columns: u16, rows: u16) {
    let publish = |stream: Option<TcpStream>| {
        *shared.lock().expect("nothing panics while it is held") = stream;
    };
    let mut writer: &TcpStream = stream;
    // One row less: the last is ours.
    if writer
        .write_all(&window_size(columns, rows.saturating_sub(1)))
        .is_err()
    {
        return;
    }
    publish(stream.try_clone().ok());
    let mut filter = Filter::default();
    let mut reader: &TcpStream = stream;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => {
                let mut out = stdout().lock();
                let shown = out
                    .write_all(filter.pass(&buffer[..len]))
                    .and_then(|()| out.flush());
                if shown.is_err() {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    publish(None);
}

/// What a telnet client says of its window (RFC 1073).
fn window_size(columns: u16, rows: u16) -> Vec<u8> {
    let mut said = vec![IAC, 251, 31, IAC, 250, 31];
    for byte in [columns.to_be_bytes(), rows.to_be_bytes()].concat() {
        said.push(byte);
        said.extend((byte == IAC).then_some(IAC));
    }
    said.extend([IAC, 240]);
    said
}

/// Takes telnet's wishes out of what a terminal is to show, and holds back a control sequence until all of it is there: ours
/// must not fall into its middle.
#[derive(Default)]
pub(crate) struct Filter {
    pending: Vec<u8>,
    passed: Vec<u8>,
}

impl Filter {
    /// What of `bytes`, and of what was held back, can be shown now.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> &[u8] {
        self.passed.clear();
        for byte in bytes {
            self.pending.push(*byte);
            let whole = match self.pending[..] {
                [ESCAPE] | [ESCAPE, b'['] | [IAC] | [IAC, 251..=254] => false,
                [ESCAPE, b'[', .., last] => (0x40..0x7f).contains(&last),
                [IAC, 251..=254, _] => {
                    self.pending.clear();
                    false
                }
                _ => true,
            };
            if whole {
                self.passed.append(&mut self.pending);
            }
        }
        &self.passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_come_whole_and_telnets_wishes_do_not() {
        let said = b"Hello\r\n\xff\xfb\x01\xff\xfd\x1f\x1b[0m\x1b[2J\x1b[?25l[]\x1b7x";
        let expected = b"Hello\r\n\x1b[0m\x1b[2J\x1b[?25l[]\x1b7x";
        for cut in 0..said.len() {
            let mut filter = Filter::default();
            let first = filter.pass(&said[..cut]).to_vec();
            let open = first
                .iter()
                .rposition(|byte| *byte == ESCAPE)
                .map(|at| &first[at..]);
            assert!(
                open.is_none_or(|open| open.len() > 1 && (open[1] != b'[' || open.len() > 2)),
                "cut at {cut}: {first:?}"
            );
            let whole = [first, filter.pass(&said[cut..]).to_vec()].concat();
            assert_eq!(whole, expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_window_of_255_columns_is_said_with_the_byte_doubled() {
        assert_eq!(
            window_size(255, 24),
            [255, 251, 31, 255, 250, 31, 0, 255, 255, 0, 24, 255, 240]
        );
    }
}

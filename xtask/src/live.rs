//! What a person sees while a pair runs: lines as they come, and with a terminal a live status below them.
//!
//! The status takes the bottom of the terminal and scrolls nothing away: what was printed stays, also
//! after the run. The terminal is restored when the [`Screen`] is dropped, by a panic's hook, and by the process outside
//! the namespace when this one ends in any other way.

use std::io::{Stdout, Write, stdout};
use std::net::SocketAddr;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::Result;
use hs_core::event::Status;
use ratatui::backend::CrosstermBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::{execute, terminal};
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Row, Table, Widget};
use ratatui::{Terminal, TerminalOptions, Viewport};

use crate::pair::{Happening, Pair};
use crate::player::Player;

/// Rows of the status.
const HEIGHT: u16 = 6;
/// Time between two drawings.
const PERIOD: Duration = Duration::from_millis(100);

/// A key that means something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Key {
    /// `k`: kill the master.
    Kill,
    /// `p`: press the master's power button.
    Power,
    /// `q`: quit.
    Quit,
    /// Ctrl-C, which in this mode of the terminal is a key.
    Interrupt,
}

/// Where a player sits.
pub(crate) enum Seat {
    /// At the other end of a connection.
    Service(SocketAddr),
    /// At the console of whichever guest is master.
    Console(Sender<Happening>),
}

/// Where the lines go.
pub(crate) enum Console {
    /// To standard output.
    Plain,
    /// To a terminal with a status at its bottom.
    Live(Box<Screen>),
    /// To the last row of a terminal that is in the application.
    Player(Player),
}

impl Console {
    /// With a status if `live` and the terminal can do it.
    pub(crate) fn open(live: bool) -> Console {
        if !live {
            return Console::Plain;
        }
        match Screen::open() {
            Ok(screen) => Console::Live(Box::new(screen)),
            Err(error) => {
                eprintln!("no live status on this terminal: {error:#}");
                Console::Plain
            }
        }
    }

    /// Puts the terminal into the application at `service`, or at the console of the pair that is told what is typed.
    pub(crate) fn play(&mut self, seat: Seat) {
        // The status leaves the terminal as it was first.
        *self = Console::Plain;
        let opened = match seat {
            Seat::Service(service) => Player::open(service),
            Seat::Console(pair) => Player::open_console(pair),
        };
        match opened {
            Ok(player) => *self = Console::Player(player),
            Err(error) => eprintln!("no game on this terminal: {error:#}"),
        }
    }

    /// Shows what the master's console shows, to a player who sits there.
    pub(crate) fn show(&mut self, bytes: &[u8]) {
        if let Console::Player(player) = self
            && player.show(bytes).is_err()
        {
            *self = Console::Plain;
        }
    }

    /// Prints a line, which may hold line breaks.
    pub(crate) fn line(&mut self, text: &str) {
        match self {
            Console::Plain => {}
            Console::Player(player) => return player.line(text),
            Console::Live(screen) => {
                if screen.line(text).is_ok() {
                    return;
                }
                *self = Console::Plain;
            }
        }
        println!("{text}");
        // To a pipe too each line goes out at once: others wait for it.
        let _ = stdout().flush();
    }

    /// Draws the status, if there is one and it is time.
    pub(crate) fn draw(&mut self, pair: &Pair, title: &str) {
        let drawn = match self {
            Console::Plain => return,
            Console::Live(screen) => screen.draw(pair, title),
            Console::Player(player) => player.draw(),
        };
        if drawn.is_err() {
            *self = Console::Plain;
        }
    }

    /// A key that was pressed.
    pub(crate) fn key(&mut self) -> Option<Key> {
        match self {
            Console::Live(_) => pressed(),
            Console::Player(player) => player.key(),
            Console::Plain => None,
        }
    }

    /// How long one may sleep before the next key or drawing is due.
    pub(crate) fn patience(&self) -> Duration {
        match self {
            Console::Live(_) | Console::Player(_) => PERIOD / 2,
            Console::Plain => Duration::from_secs(3600),
        }
    }
}

/// A terminal in raw mode with a status.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    drawn: Option<Instant>,
}

impl Screen {
    fn open() -> Result<Screen> {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            usual(panic);
        }));
        terminal::enable_raw_mode()?;
        let options = TerminalOptions {
            viewport: Viewport::Inline(HEIGHT),
        };
        match Terminal::with_options(CrosstermBackend::new(stdout()), options) {
            Ok(terminal) => Ok(Screen {
                terminal,
                drawn: None,
            }),
            Err(error) => {
                restore();
                Err(error.into())
            }
        }
    }

    fn line(&mut self, text: &str) -> Result<()> {
        let width = usize::from(self.terminal.size()?.width).max(1);
        for line in text.lines() {
            let letters: Vec<char> = line.chars().collect();
            let rows = letters.len().div_ceil(width).max(1);
            for row in 0..rows {
                let part: String = letters.iter().skip(row * width).take(width).collect();
                self.terminal
                    .insert_before(1, |buffer| Paragraph::new(part).render(buffer.area, buffer))?;
            }
        }
        self.drawn = None;
        Ok(())
    }

    fn draw(&mut self, pair: &Pair, title: &str) -> Result<()> {
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < PERIOD) {
            return Ok(());
        }
        self.terminal
            .draw(|frame| render(pair, title, frame.area(), frame.buffer_mut()))?;
        self.drawn = Some(Instant::now());
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Whatever is printed next goes below the status, which stays as it was last.
        let bottom = self.terminal.get_frame().area().bottom().saturating_sub(1);
        let _ = self.terminal.set_cursor_position((0, bottom));
        restore();
        println!();
    }
}

fn restore() {
    let _ = terminal::disable_raw_mode();
    let _ = execute!(stdout(), Show);
}

fn pressed() -> Option<Key> {
    while event::poll(Duration::ZERO).ok()? {
        if let Event::Key(key) = event::read().ok()?
            && key.kind == KeyEventKind::Press
        {
            match (key.code, key.modifiers.contains(KeyModifiers::CONTROL)) {
                (KeyCode::Char('c'), true) => return Some(Key::Interrupt),
                (KeyCode::Char('k'), false) => return Some(Key::Kill),
                (KeyCode::Char('p'), false) => return Some(Key::Power),
                (KeyCode::Char('q'), false) => return Some(Key::Quit),
                _ => {}
            }
        }
    }
    None
}

/// The cells of a node's row.
fn cells(name: &str, role: &str, state: &str, status: &Status) -> [String; 9] {
    let micros = |us: u64| {
        if us < 10_000 {
            format!("{us} µs")
        } else {
            format!("{:.1} ms", us as f64 / 1000.0)
        }
    };
    [
        name.into(),
        role.into(),
        state.into(),
        status.taken.to_string(),
        status.acked.to_string(),
        bytes(status.bytes),
        format!(
            "{} {} {}",
            status.pause_p50_us, status.pause_p99_us, status.pause_max_us
        ),
        micros(status.lag_us),
        status.retransmitted.to_string(),
    ]
}

/// A number of bytes, short.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

fn render(pair: &Pair, title: &str, area: Rect, buffer: &mut Buffer) {
    let header = Row::new([
        "node",
        "role",
        "state",
        "taken",
        "acked",
        "bytes",
        "pause µs p50 p99 max",
        "lag",
        "resent",
    ]);
    let rows = pair.nodes.iter().map(|node| {
        let role = node.role.map_or("-".into(), |role| role.to_string());
        let state = match (
            node.alive(),
            node.mute,
            node.serving || !pair.takeovers.is_empty(),
            node.ready,
        ) {
            (false, ..) => "gone",
            (true, true, ..) => "mute",
            (true, false, _, true) => "ready",
            (true, false, true, false) => "alone",
            (true, false, false, false) => "up",
        };
        let row = Row::new(cells(&node.name, &role, state, &node.status));
        if node.alive() { row } else { row.dim() }
    });
    let widths = [4, 7, 6, 8, 8, 10, 22, 9, 7].map(Constraint::Length);
    let table = Table::new(rows, widths).header(header.style(Style::new().dim()));
    let line = |text: String, row: u16| {
        (
            Line::from(text),
            Rect {
                y: area.y + row,
                height: 1,
                ..area
            },
        )
    };
    let (heading, place) = line(title.to_owned(), 0);
    heading.bold().render(place, buffer);
    Widget::render(
        table,
        Rect {
            y: area.y + 1,
            height: 3,
            ..area
        },
        buffer,
    );
    let (keys, place) = line("k kill the master   p press its power button   q quit".into(), 5);
    keys.render(place, buffer);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_units() {
        assert_eq!(
            [0, 1023, 1024, 1 << 20, 3 << 29].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.5 GiB"]
        );
        let status = Status {
            taken: 3,
            acked: 2,
            lag_us: 12_345,
            pause_p50_us: 7,
            ..Status::default()
        };
        let cells = cells("a", "master", "ready", &status);
        assert_eq!(cells[3..8], ["3", "2", "0 B", "7 0 0", "12.3 ms"]);
    }
}

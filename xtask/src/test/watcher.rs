//! Who only watches a game, over the network: a terminal that shows what it is sent, to be held against a picture.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tetris::screen::{HEIGHT, Picture, WIDTH};

use crate::player::Filter;

const ESCAPE: u8 = 0x1b;

/// The glyphs of a terminal, without colours.
struct Terminal {
    rows: [[u8; WIDTH]; HEIGHT],
    row: usize,
    column: usize,
    /// How often it was cleared.
    cleared: usize,
}

impl Terminal {
    fn new() -> Self {
        Self {
            rows: [[b'#'; WIDTH]; HEIGHT],
            row: 0,
            column: 0,
            cleared: 0,
        }
    }

    /// Shows bytes in which each control sequence is whole.
    fn show(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let [first, behind @ ..] = rest {
            rest = behind;
            match first {
                &ESCAPE => {
                    let end = behind.iter().skip(1).position(u8::is_ascii_alphabetic);
                    let Some(end) = end.map(|at| at + 1) else { return };
                    self.obey(&behind[1..end], behind[end]);
                    rest = &behind[end + 1..];
                }
                b'\r' => self.column = 0,
                b'\n' => self.row += 1,
                glyph => {
                    let cell = self
                        .rows
                        .get_mut(self.row)
                        .and_then(|row| row.get_mut(self.column));
                    cell.into_iter().for_each(|cell| *cell = *glyph);
                    self.column += 1;
                }
            }
        }
    }

    fn obey(&mut self, parameters: &[u8], last: u8) {
        let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<usize>().ok();
        match (last, parameters) {
            (b'J', b"2") => {
                self.cleared += 1;
                self.rows = [[b' '; WIDTH]; HEIGHT];
            }
            (b'H', at) => {
                let mut numbers = at.split(|byte| *byte == b';').filter_map(number);
                self.row = numbers.next().unwrap_or(1).saturating_sub(1);
                self.column = numbers.next().unwrap_or(1).saturating_sub(1);
            }
            _ => {}
        }
    }

    fn shows(&self, picture: &Picture) -> bool {
        let mut rows = self.rows.iter().enumerate();
        rows.all(|(row, glyphs)| glyphs.iter().eq(picture.row(row).iter().map(|cell| &cell.glyph)))
    }
}

/// Somebody who watches on one connection.
pub(super) struct Watcher {
    stream: TcpStream,
    filter: Filter,
    terminal: Terminal,
}

impl Watcher {
    /// Comes to the table; an answer may take so long.
    ///
    /// # Errors
    /// The service cannot be reached.
    pub(super) fn come(service: SocketAddr, limit: Duration) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&service, limit).context("the game cannot be reached")?;
        stream.set_read_timeout(Some(limit))?;
        Ok(Self {
            stream,
            filter: Filter::default(),
            terminal: Terminal::new(),
        })
    }

    /// Watches until the terminal shows `picture`.
    ///
    /// # Errors
    /// It never does, or the connection ends.
    pub(super) fn see(&mut self, picture: &Picture) -> Result<()> {
        let mut bytes = [0; 4096];
        while !self.terminal.shows(picture) {
            let len = self.stream.read(&mut bytes).with_context(|| {
                let rows = self.terminal.rows.iter();
                let rows: Vec<_> = rows.map(|row| String::from_utf8_lossy(row)).collect();
                format!("the terminal shows another picture:\n{}", rows.join("\n"))
            })?;
            ensure!(len > 0, "the game has hung up on who watches");
            self.terminal.show(self.filter.pass(&bytes[..len]));
        }
        Ok(())
    }

    /// How often everything was drawn.
    pub(super) fn drawn(&self) -> usize {
        self.terminal.cleared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_seen_once_all_of_it_is_drawn() {
        let blank = Picture::blank();
        let mut terminal = Terminal::new();
        terminal.show(b"Hello\r\n");
        assert!(!terminal.shows(&blank));
        terminal.show(b"\x1b[0m\x1b[2J\x1b[?25l");
        assert!(terminal.shows(&blank) && terminal.cleared == 1);
        terminal.show(b"\x1b[2;3H\x1b[31mx");
        assert!(terminal.rows[1][2] == b'x' && !terminal.shows(&blank));
        terminal.show(b"\x1b[2;3H ");
        assert!(terminal.shows(&blank));
    }
}

//! Whole lines out of several threads, through a port that takes a few bytes at a time.
//!
//! A line is put into the ring in one piece, under the port's lock, then sent in pieces of the UART's FIFO.
//! The lock is let go between the pieces: interrupts wait for one piece at most, not for a line, and yet no
//! line is torn. Whoever comes first sends, whosever line it is.

use core::fmt;

/// Bytes that a port's ring holds: the longest line.
pub const RING_LEN: usize = 8192;

/// Bytes waiting for the port, oldest first.
pub struct Ring {
    bytes: [u8; RING_LEN],
    start: usize,
    len: usize,
}

impl Default for Ring {
    fn default() -> Self {
        Self::new()
    }
}

impl Ring {
    /// An empty one.
    pub const fn new() -> Self {
        Self {
            bytes: [0; RING_LEN],
            start: 0,
            len: 0,
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes more it can take.
    pub fn room(&self) -> usize {
        RING_LEN - self.len
    }

    /// Appends all of `line`, or nothing: `false` if there is no room.
    #[must_use]
    pub fn push(&mut self, line: &[u8]) -> bool {
        if line.len() > self.room() {
            return false;
        }
        for &byte in line {
            self.bytes[(self.start + self.len) % RING_LEN] = byte;
            self.len += 1;
        }
        true
    }

    /// The oldest bytes, as many as lie in one piece.
    pub fn front(&self) -> &[u8] {
        &self.bytes[self.start..(self.start + self.len).min(RING_LEN)]
    }

    /// Drops the `count` oldest bytes.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn pop(&mut self, count: usize) {
        self.len = self
            .len
            .checked_sub(count)
            .expect("only what was at the front is dropped");
        self.start = (self.start + count) % RING_LEN;
    }
}

/// Longest line of the log, in bytes, with its newline.
pub const LINE_LEN_MAX: usize = 1024;

/// What a line that was too long ends in.
const CUT: &[u8] = b" [cut]\n";

/// A line being written, without the heap: a message about the heap must not need it. What does not fit is
/// cut off; line breaks inside are kept, but everything that would drive a terminal becomes `?`.
pub struct Line {
    bytes: [u8; LINE_LEN_MAX],
    len: usize,
    cut: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

impl Line {
    /// An empty one.
    pub const fn new() -> Self {
        Self {
            bytes: [0; LINE_LEN_MAX],
            len: 0,
            cut: false,
        }
    }

    /// The line with its newline.
    pub fn finish(&mut self) -> &[u8] {
        let end: &[u8] = if self.cut { CUT } else { b"\n" };
        self.bytes[self.len..self.len + end.len()].copy_from_slice(end);
        &self.bytes[..self.len + end.len()]
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.chars() {
            let part = if part.is_control() && part != '\n' {
                '?'
            } else {
                part
            };
            let room = LINE_LEN_MAX - CUT.len() - self.len;
            self.cut |= part.len_utf8() > room;
            if self.cut {
                break;
            }
            self.len += part.encode_utf8(&mut self.bytes[self.len..]).len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::fmt::Write;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the plainest model: a queue of bytes.
        #[test]
        fn the_ring_is_a_queue_of_whole_lines(
            steps in proptest::collection::vec((0usize..3000, 0usize..3000), 1..60)
        ) {
            let mut ring = Ring::new();
            let mut model = VecDeque::new();
            for (number, (push, pop)) in steps.into_iter().enumerate() {
                let line: Vec<u8> = (0..push).map(|at| (at * 7 + number) as u8).collect();
                let fits = model.len() + line.len() <= RING_LEN;
                prop_assert_eq!(ring.room(), RING_LEN - model.len());
                prop_assert_eq!(ring.push(&line), fits);
                if fits {
                    model.extend(line);
                }
                let mut left = pop.min(model.len());
                while left > 0 {
                    let piece = ring.front().len().min(left);
                    prop_assert!(piece > 0);
                    prop_assert!(ring.front()[..piece].iter().eq(model.range(..piece)));
                    ring.pop(piece);
                    model.drain(..piece);
                    left -= piece;
                }
                prop_assert_eq!(ring.is_empty(), model.is_empty());
            }
        }

        #[test]
        fn lines_are_text_and_end(parts in proptest::collection::vec("\\PC{0,400}", 0..6)) {
            let mut line = Line::new();
            for part in &parts {
                line.write_str(part).unwrap();
            }
            let whole = parts.concat();
            let text = core::str::from_utf8(line.finish()).unwrap();
            if whole.len() <= LINE_LEN_MAX - CUT.len() {
                prop_assert_eq!(text, whole + "\n");
            } else {
                prop_assert!(whole.starts_with(text.strip_suffix(" [cut]\n").unwrap()));
            }
        }
    }

    #[test]
    fn what_drives_a_terminal_is_shown_as_a_question_mark() {
        let mut line = Line::new();
        write!(line, "a\x1b[31m\rb\nc").unwrap();
        assert_eq!(line.finish(), b"a?[31m?b\nc\n");
    }
}

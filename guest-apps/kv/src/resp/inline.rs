//! Splits a line that a person typed into words, as Redis's `sdssplitargs` does.
//!
//! Words are taken apart by blanks. Inside double quotes `\n`, `\r`, `\t`, `\b`, `\a` and `\xHH` stand for
//! bytes and `\` before anything else for that; inside single quotes only `\'` does. A quote that opens in
//! the middle of a word goes on with it, but one that closes ends it.
//!
//! No word is longer than what it was written as, so the words overwrite the line.

use core::ops::Range;

/// Quotes do not match, or something other than a blank follows a closing one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unbalanced;

/// The words of a line, one after the other.
pub(super) struct Words<'a> {
    line: &'a mut [u8],
    read: usize,
    write: usize,
}

/// As C's `isspace`.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

impl<'a> Words<'a> {
    /// The words of `line`. A line ends at a zero byte, as it does for Redis.
    pub(super) fn new(line: &'a mut [u8]) -> Self {
        let len = line.iter().position(|&byte| byte == 0).unwrap_or(line.len());
        Self {
            line: &mut line[..len],
            read: 0,
            write: 0,
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.line.get(self.read + ahead).copied()
    }

    fn put(&mut self, byte: u8, used: usize) {
        self.line[self.write] = byte;
        self.write += 1;
        self.read += used;
    }

    /// Where the next word now lies in the line, or `None` behind the last.
    pub(super) fn next_word(&mut self) -> Result<Option<Range<usize>>, Unbalanced> {
        while self.peek(0).is_some_and(is_blank) {
            self.read += 1;
        }
        if self.peek(0).is_none() {
            return Ok(None);
        }
        let start = self.write;
        while let Some(byte) = self.peek(0) {
            match byte {
                b'"' => {
                    self.read += 1;
                    self.double_quoted()?;
                    break;
                }
                b'\'' => {
                    self.read += 1;
                    self.single_quoted()?;
                    break;
                }
                byte if is_blank(byte) => break,
                byte => self.put(byte, 1),
            }
        }
        Ok(Some(start..self.write))
    }

    fn closing_quote(&mut self) -> Result<(), Unbalanced> {
        self.read += 1;
        if self.peek(0).is_none_or(is_blank) {
            Ok(())
        } else {
            Err(Unbalanced)
        }
    }

    fn double_quoted(&mut self) -> Result<(), Unbalanced> {
        loop {
            match (self.peek(0).ok_or(Unbalanced)?, self.peek(1)) {
                (b'"', _) => return self.closing_quote(),
                (b'\\', Some(b'x')) if self.hex_byte().is_some() => {
                    let byte = self.hex_byte().unwrap_or_default();
                    self.put(byte, 4);
                }
                (b'\\', Some(escaped)) => {
                    let byte = match escaped {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'b' => 8,
                        b'a' => 7,
                        other => other,
                    };
                    self.put(byte, 2);
                }
                (byte, _) => self.put(byte, 1),
            }
        }
    }

    fn hex_byte(&self) -> Option<u8> {
        let digit = |ahead| char::from(self.peek(ahead)?).to_digit(16);
        Some((digit(2)? * 16 + digit(3)?) as u8)
    }

    fn single_quoted(&mut self) -> Result<(), Unbalanced> {
        loop {
            match (self.peek(0).ok_or(Unbalanced)?, self.peek(1)) {
                (b'\'', _) => return self.closing_quote(),
                (b'\\', Some(b'\'')) => self.put(b'\'', 2),
                (byte, _) => self.put(byte, 1),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, Unbalanced> {
        let mut line = line.to_vec();
        let mut words = Words::new(&mut line);
        let mut ranges = Vec::new();
        while let Some(range) = words.next_word()? {
            ranges.push(range);
        }
        Ok(ranges.into_iter().map(|range| line[range].to_vec()).collect())
    }

    /// As a client would quote a word.
    fn quote(word: &[u8]) -> Vec<u8> {
        let mut quoted = Vec::from(b"\"".as_slice());
        for &byte in word {
            match byte {
                b'"' | b'\\' => quoted.extend([b'\\', byte]),
                0x20..=0x7e => quoted.push(byte),
                _ => {
                    let digit = |value| b"0123456789abcdef"[usize::from(value)];
                    quoted.extend([b'\\', b'x', digit(byte >> 4), digit(byte & 15)]);
                }
            }
        }
        quoted.push(b'"');
        quoted
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(words: Vec<Vec<u8>>) {
            let line: Vec<u8> = words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(&b' ');
            prop_assert_eq!(split(&line), Ok(words));
        }

        #[test]
        fn no_line_panics(line: Vec<u8>) {
            let _ = split(&line);
        }

        #[test]
        fn no_quoted_line_panics(line in "[ \"'\\\\xa0]{0,20}") {
            let _ = split(line.as_bytes());
        }
    }

    #[test]
    fn quotes_follow_redis() {
        let words = |words: &[&str]| Ok(words.iter().map(|word| word.as_bytes().to_vec()).collect());
        assert_eq!(split(b"  set  k 'it\\'s' \r\n"), words(&["set", "k", "it's"]));
        assert_eq!(split(b"fo\"ob\" x"), words(&["foob", "x"]));
        assert_eq!(split(b"\"\\xzz\\q\""), words(&["xzzq"]));
        assert_eq!(split(b"\"a\"b"), Err(Unbalanced));
        assert_eq!(split(b"\"a\\\""), Err(Unbalanced));
        assert_eq!(split(b"'a"), Err(Unbalanced));
        assert_eq!(split(b"ab\0cd"), words(&["ab"]));
    }
}

//! From bytes to keys: letters, and the sequences of the arrow keys.

/// A key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// An arrow.
    Left,
    /// An arrow.
    Right,
    /// An arrow.
    Up,
    /// An arrow.
    Down,
    /// Any other, as the byte that it sends; letters are small.
    Byte(u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Plain,
    Escape,
    /// In a sequence, behind `ESC [` or `ESC O`.
    Sequence,
}

/// Takes what a keyboard sends apart, byte by byte.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keyboard {
    state: State,
}

const ESCAPE: u8 = 0x1b;

impl Keyboard {
    /// Nothing was typed.
    pub const fn new() -> Self {
        Self { state: State::Plain }
    }

    /// Takes a byte.
    pub fn take(&mut self, byte: u8) -> Option<Key> {
        let (state, key) = match (self.state, byte) {
            (_, ESCAPE) => (State::Escape, None),
            (State::Plain, _) => (State::Plain, Some(Key::Byte(byte.to_ascii_lowercase()))),
            (State::Escape, b'[' | b'O') => (State::Sequence, None),
            (State::Escape, _) => (State::Plain, None),
            (State::Sequence, b'0'..=b'?') => (State::Sequence, None),
            (State::Sequence, _) => {
                let key = match byte {
                    b'A' => Some(Key::Up),
                    b'B' => Some(Key::Down),
                    b'C' => Some(Key::Right),
                    b'D' => Some(Key::Left),
                    _ => None,
                };
                (State::Plain, key)
            }
        };
        self.state = state;
        key
    }
}

impl Default for Keyboard {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn arrows_are_one_key_and_unknown_sequences_none() {
        let mut keyboard = Keyboard::new();
        let mut keys =
            |bytes: &[u8]| -> Vec<Key> { bytes.iter().filter_map(|byte| keyboard.take(*byte)).collect() };
        assert_eq!(
            keys(b"\x1b[A\x1b[B\x1bOC\x1b[DaZ "),
            [
                Key::Up,
                Key::Down,
                Key::Right,
                Key::Left,
                Key::Byte(b'a'),
                Key::Byte(b'z'),
                Key::Byte(b' ')
            ]
        );
        // Delete, F5, Alt-x; an escape alone eats what it begins with.
        assert_eq!(
            keys(b"\x1b[3~\x1b[15;2~\x1bx\x1b\x1b[Ay"),
            [Key::Up, Key::Byte(b'y')]
        );
    }
}

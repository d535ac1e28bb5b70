//! The telnet protocol, as much of it as a game needs: keys one by one, and the window's size (RFC 854, 857, 858, 1073).
//!
//! Whoever is not telnet (`nc`) hears a few odd bytes at the start and is otherwise none the worse: plain bytes are keys.
//!
//! Deliberately absent: answers to the peer's wishes. It is asked for three things, and whatever it wants is left alone:
//! so there is no loop to fall into.

const SE: u8 = 240;
const SB: u8 = 250;
const WILL: u8 = 251;
const WONT: u8 = 252;
const DO: u8 = 253;
const DONT: u8 = 254;
const IAC: u8 = 255;

const ECHO: u8 = 1;
const SUPPRESS_GO_AHEAD: u8 = 3;
const WINDOW_SIZE: u8 = 31;

/// Said to everybody first: "I echo, I need no go-ahead (so send each key as it is typed), tell me your window's size".
pub const HELLO: [u8; 9] = [
    IAC,
    WILL,
    ECHO,
    IAC,
    WILL,
    SUPPRESS_GO_AHEAD,
    IAC,
    DO,
    WINDOW_SIZE,
];

/// What was heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// A byte that was typed.
    Byte(u8),
    /// The window's size.
    Size {
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Data,
    /// After a carriage return: a zero or line feed behind it belongs to it.
    Return,
    Command,
    /// The option of a wish.
    Wish,
    /// The option of a subnegotiation.
    About,
    /// In a subnegotiation.
    Within,
    /// After `IAC` in one.
    WithinCommand,
}

/// Takes a telnet stream apart, byte by byte.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Telnet {
    state: State,
    /// The subnegotiation is about the window's size, and these are its bytes.
    is_size: bool,
    size: [u8; 4],
    len: u8,
}

impl Telnet {
    /// Has heard nothing.
    pub const fn new() -> Self {
        Self {
            state: State::Data,
            is_size: false,
            size: [0; 4],
            len: 0,
        }
    }

    /// Hears a byte.
    pub fn hear(&mut self, byte: u8) -> Option<Heard> {
        let (state, heard) = match (self.state, byte) {
            (State::Data | State::Return, IAC) => (State::Command, None),
            (State::Return, 0 | b'\n') => (State::Data, None),
            (State::Data | State::Return, b'\r') => (State::Return, Some(Heard::Byte(b'\r'))),
            (State::Data | State::Return, _) => (State::Data, Some(Heard::Byte(byte))),
            (State::Command, IAC) => (State::Data, Some(Heard::Byte(IAC))),
            (State::Command, WILL | WONT | DO | DONT) => (State::Wish, None),
            (State::Command, SB) => (State::About, None),
            (State::Command, _) | (State::Wish, _) => (State::Data, None),
            (State::About, _) => {
                self.is_size = byte == WINDOW_SIZE;
                self.len = 0;
                (State::Within, None)
            }
            (State::Within, IAC) => (State::WithinCommand, None),
            (State::Within, _) => (State::Within, self.collect(byte)),
            (State::WithinCommand, IAC) => (State::Within, self.collect(IAC)),
            (State::WithinCommand, SE) => (State::Data, self.window_size()),
            // Not closed, and the next command begins: as if it had been.
            (State::WithinCommand, SB) => (State::About, None),
            (State::WithinCommand, _) => (State::Data, None),
        };
        self.state = state;
        heard
    }

    fn collect(&mut self, byte: u8) -> Option<Heard> {
        if let Some(place) = self.size.get_mut(usize::from(self.len)) {
            *place = byte;
        }
        self.len = self.len.saturating_add(1);
        None
    }

    fn window_size(&self) -> Option<Heard> {
        let [a, b, c, d] = self.size;
        (self.is_size && usize::from(self.len) == self.size.len()).then_some(Heard::Size {
            columns: u16::from_be_bytes([a, b]),
            rows: u16::from_be_bytes([c, d]),
        })
    }
}

impl Default for Telnet {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn hear_all(bytes: &[u8]) -> Vec<Heard> {
        let mut telnet = Telnet::new();
        bytes.iter().filter_map(|byte| telnet.hear(*byte)).collect()
    }

    fn typed(text: &[u8]) -> Vec<Heard> {
        text.iter().map(|byte| Heard::Byte(*byte)).collect()
    }

    #[test]
    fn a_telnet_client_is_understood() {
        let said = [
            &[IAC, DO, ECHO, IAC, DO, SUPPRESS_GO_AHEAD, IAC, WILL, WINDOW_SIZE][..],
            &[IAC, SB, WINDOW_SIZE, 0, 132, 0, 43, IAC, SE],
            b"ad\r\0 \r\n",
            &[IAC, IAC],
            // 255 columns: the byte is doubled.
            &[IAC, SB, WINDOW_SIZE, 0, IAC, IAC, 0, 24, IAC, SE],
        ]
        .concat();
        let mut heard = vec![Heard::Size {
            columns: 132,
            rows: 43,
        }];
        heard.extend(typed(b"ad\r \r\xff"));
        heard.push(Heard::Size {
            columns: 255,
            rows: 24,
        });
        assert_eq!(hear_all(&said), heard);
    }

    #[test]
    fn what_is_about_something_else_or_too_long_is_no_size() {
        for said in [
            &[IAC, SB, 24, 0, 80, 0, 24, IAC, SE][..],
            &[IAC, SB, WINDOW_SIZE, 0, 80, 0, IAC, SE],
            &[IAC, SB, WINDOW_SIZE, 0, 80, 0, 24, 1, IAC, SE],
        ] {
            assert_eq!(hear_all(&[said, b"x"].concat()), typed(b"x"), "{said:?}");
        }
    }

    proptest! {
        /// Plain text passes as it is, whatever negotiation stands in between.
        #[test]
        fn text_passes_between_negotiations(
            parts in prop::collection::vec(("[ -~]{0,5}", 0usize..4, any::<[u8; 4]>()), 0..20)
        ) {
            let (mut said, mut expected) = (Vec::new(), Vec::new());
            for (text, what, [a, b, c, d]) in parts {
                said.extend(text.bytes());
                expected.extend(typed(text.as_bytes()));
                match what {
                    0 => said.extend([IAC, WILL + a % 4, b]),
                    1 => said.extend([IAC, SB, 32, b % 240, c % 240, IAC, SE]),
                    2 => {
                        said.extend([IAC, SB, WINDOW_SIZE]);
                        for byte in [a, b, c, d] {
                            said.push(byte);
                            said.extend((byte == IAC).then_some(IAC));
                        }
                        said.extend([IAC, SE]);
                        expected.push(Heard::Size {
                            columns: u16::from_be_bytes([a, b]),
                            rows: u16::from_be_bytes([c, d]),
                        });
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(hear_all(&said), expected);
        }

        /// Whatever comes, nothing panics, and after the end of all that is open a key is a key.
        #[test]
        fn garbage_does_no_harm(garbage in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut telnet = Telnet::new();
            for byte in garbage {
                telnet.hear(byte);
            }
            // Ends whatever is open: a wish, a command, a subnegotiation.
            for byte in [0, IAC, SE, 0] {
                telnet.hear(byte);
            }
            prop_assert_eq!(telnet.hear(b'x'), Some(Heard::Byte(b'x')));
        }
    }
}

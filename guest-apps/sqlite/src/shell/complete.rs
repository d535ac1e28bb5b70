//! Where a statement ends: SQLite's `sqlite3_complete`, byte by byte.
//!
//! A client's lines come one at a time; looking at all of them anew with each would take a time that grows with the square of
//! their number. A semicolon ends a statement unless it is in a string, a comment, or a trigger's body.

/// What the bytes so far are the beginning of, as SQLite's machine for `sqlite3_complete` has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Statement {
    /// Nothing but spaces and comments.
    Nothing,
    /// At a statement's end.
    Ended,
    Other,
    Explain,
    Create,
    Trigger,
    TriggerSemicolon,
    TriggerEnd,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token {
    Semicolon,
    Space,
    Other,
    Explain,
    Create,
    Temp,
    Trigger,
    End,
}

impl Statement {
    fn after(self, token: Token) -> Self {
        use Statement as S;
        use Token as T;
        match (self, token) {
            (state, T::Space) => state,
            (S::Trigger | S::TriggerSemicolon, T::Semicolon) => S::TriggerSemicolon,
            (_, T::Semicolon) => S::Ended,
            (S::Trigger, _) => S::Trigger,
            (S::TriggerSemicolon, T::End) => S::TriggerEnd,
            (S::TriggerSemicolon | S::TriggerEnd, _) => S::Trigger,
            (S::Nothing | S::Ended, T::Explain) => S::Explain,
            (S::Nothing | S::Ended | S::Explain, T::Create) => S::Create,
            (S::Explain, T::Other) => S::Explain,
            (S::Create, T::Temp) => S::Create,
            (S::Create, T::Trigger) => S::Trigger,
            _ => S::Other,
        }
    }
}

/// Longest word that is looked at: `temporary`.
const WORD_MAX: usize = 9;

/// Inside of what the next byte is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Between,
    Word {
        letters: [u8; WORD_MAX],
        len: usize,
    },
    /// A slash, perhaps of a comment's beginning.
    Slash,
    Dash,
    LineComment,
    Comment,
    /// A star in a comment, perhaps of its end.
    CommentStar,
    Quoted(u8),
}

/// The bytes so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Complete {
    statement: Statement,
    place: Place,
}

fn word(letters: &[u8]) -> Token {
    let is = |keyword: &str| letters.eq_ignore_ascii_case(keyword.as_bytes());
    match letters {
        _ if is("create") => Token::Create,
        _ if is("trigger") => Token::Trigger,
        _ if is("temp") || is("temporary") => Token::Temp,
        _ if is("end") => Token::End,
        _ if is("explain") => Token::Explain,
        _ => Token::Other,
    }
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

impl Complete {
    pub(crate) const fn new() -> Self {
        Self {
            statement: Statement::Nothing,
            place: Place::Between,
        }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.feed_byte(*byte));
    }

    fn token(&mut self, token: Token) {
        self.statement = self.statement.after(token);
    }

    fn feed_byte(&mut self, byte: u8) {
        match (self.place, byte) {
            (Place::LineComment, b'\n') | (Place::CommentStar, b'/') => self.place = Place::Between,
            (Place::LineComment, _) => {}
            (Place::Comment | Place::CommentStar, b'*') => self.place = Place::CommentStar,
            (Place::Comment | Place::CommentStar, _) => self.place = Place::Comment,
            (Place::Quoted(end), _) => {
                if byte == end {
                    self.place = Place::Between;
                    self.token(Token::Other);
                }
            }
            (Place::Slash, b'*') => self.place = Place::Comment,
            (Place::Dash, b'-') => self.place = Place::LineComment,
            (Place::Word { mut letters, len }, _) if is_of_word(byte) => {
                if let Some(place) = letters.get_mut(len) {
                    *place = byte;
                }
                let len = (len + 1).min(WORD_MAX + 1);
                self.place = Place::Word { letters, len };
            }
            (Place::Between, _) => self.begin(byte),
            (Place::Slash | Place::Dash | Place::Word { .. }, _) => {
                let token = self.place.token();
                self.token(token);
                self.begin(byte);
            }
        }
    }

    /// A byte that is no part of what was before it.
    fn begin(&mut self, byte: u8) {
        self.place = match byte {
            b'/' => Place::Slash,
            b'-' => Place::Dash,
            b'[' => Place::Quoted(b']'),
            b'`' | b'"' | b'\'' => Place::Quoted(byte),
            _ if is_of_word(byte) => {
                let mut letters = [0; WORD_MAX];
                letters[0] = byte;
                Place::Word { letters, len: 1 }
            }
            _ => {
                self.token(match byte {
                    b';' => Token::Semicolon,
                    b' ' | b'\r' | b'\t' | b'\n' | b'\x0c' => Token::Space,
                    _ => Token::Other,
                });
                Place::Between
            }
        };
    }

    /// The statement, if the bytes end here; `None` inside of a string or comment.
    fn at_end(&self) -> Option<Statement> {
        match self.place {
            Place::Between => Some(self.statement),
            Place::LineComment | Place::Comment | Place::CommentStar | Place::Quoted(_) => None,
            Place::Slash | Place::Dash | Place::Word { .. } => Some(self.statement.after(self.place.token())),
        }
    }

    /// Whether the last statement has ended. What `sqlite3_complete` says.
    pub(crate) fn is_complete(&self) -> bool {
        self.at_end() == Some(Statement::Ended)
    }

    /// Whether there was nothing but spaces and whole comments.
    pub(crate) fn is_blank(&self) -> bool {
        self.at_end() == Some(Statement::Nothing)
    }
}

impl Place {
    /// The token that it is, if it ends here.
    fn token(&self) -> Token {
        match self {
            Place::Word { letters, len } => letters.get(..*len).map_or(Token::Other, word),
            _ => Token::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use proptest::prelude::*;

    fn piece() -> impl Strategy<Value = &'static str> {
        prop::sample::select(std::vec![
            ";",
            ";",
            " ",
            "\n",
            "create",
            "CREATE ",
            "temp ",
            "TEMPORARY ",
            "trigger ",
            "end",
            "END ",
            "explain ",
            "select ",
            "temporaryx ",
            "$x",
            "é",
            "'",
            "\"",
            "`",
            "[",
            "]",
            "/*",
            "*/",
            "--",
            "/",
            "-",
            "*",
            "x",
            "1",
            "\t",
            "(",
            "query plan ",
        ])
    }

    proptest! {
        #[test]
        fn it_agrees_with_sqlite(pieces in prop::collection::vec(piece(), 0..24)) {
            let text: String = pieces.concat();
            let mut complete = Complete::new();
            complete.feed(text.as_bytes());
            prop_assert_eq!(complete.is_complete(), crate::engine::is_complete(&text), "{:?}", text);
        }
    }

    #[test]
    fn spaces_and_comments_are_blank() {
        for (text, blank) in [
            ("", true),
            (" \n-- a; b\n", true),
            ("-- a", false),
            ("/* ; */ ", true),
            ("/* ", false),
            (";", false),
            ("-", false),
        ] {
            let mut complete = Complete::new();
            complete.feed(text.as_bytes());
            assert_eq!(complete.is_blank(), blank, "{text:?}");
        }
    }
}

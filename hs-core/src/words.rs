//! The words that an application is told: those behind ` -- ` on the kernel's command line, each `name=value`.
//!
//! Read strictly: a word that is no option, or a value that its option does not take, is refused by name. Of two words for
//! the same option the later one counts.
//!
//! ```
//! use hs_core::words::Words;
//!
//! const WORDS: Words = Words { application: "clock", options: &["port"] };
//! let mut port = 13_u16;
//! let told = ["port=37"].into_iter();
//! WORDS.read(told, |_, value| hs_core::words::set(&mut port, value, |port| *port != 0, "a number from 1 to 65535")).unwrap();
//! assert_eq!(port, 37);
//! ```

use core::fmt;
use core::str::FromStr;

/// An application's name and the options that it has.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// Its name.
    pub application: &'static str,
    /// The names of its options, without the `=`.
    pub options: &'static [&'static str],
}

/// What an option takes, said to somebody who gave it something else.
pub type Takes = &'static str;

/// A word that is not right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WordError<'a> {
    /// No option is called so.
    Unknown {
        /// The word.
        word: &'a str,
        /// Whose options these are.
        application: &'static str,
        /// Those that there are.
        options: &'static [&'static str],
    },
    /// The option does not take this value.
    Malformed {
        /// The option.
        option: &'static str,
        /// What it was given.
        value: &'a str,
        /// What it takes.
        takes: Takes,
    },
}

impl fmt::Display for WordError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WordError::Unknown {
                word,
                application,
                options,
            } => {
                write!(f, "`{word}` is not an option of {application}; there are")?;
                for (index, option) in options.iter().enumerate() {
                    write!(f, "{} `{option}=`", if index == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            WordError::Malformed { option, value, takes } => {
                write!(f, "`{option}={value}` is malformed: {option} takes {takes}")
            }
        }
    }
}

impl Words {
    /// Reads the words: `each` is told an option and its value, and says what it takes if not that.
    ///
    /// # Errors
    /// The first word that is not right.
    pub fn read<'a>(
        &self,
        words: impl Iterator<Item = &'a str>,
        mut each: impl FnMut(&'static str, &'a str) -> Result<(), Takes>,
    ) -> Result<(), WordError<'a>> {
        for word in words {
            let known = word.split_once('=').and_then(|(name, value)| {
                let option = self.options.iter().find(|option| **option == name)?;
                Some((*option, value))
            });
            let Some((option, value)) = known else {
                return Err(WordError::Unknown {
                    word,
                    application: self.application,
                    options: self.options,
                });
            };
            each(option, value).map_err(|takes| WordError::Malformed { option, value, takes })?;
        }
        Ok(())
    }
}

/// Sets `to` to what `value` says, if that is of its type and `fits`.
///
/// # Errors
/// `takes`, if it is not.
pub fn set<T: FromStr>(
    to: &mut T,
    value: &str,
    fits: impl FnOnce(&T) -> bool,
    takes: Takes,
) -> Result<(), Takes> {
    *to = value.parse().ok().filter(fits).ok_or(takes)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    const WORDS: Words = Words {
        application: "clock",
        options: &["port", "zone"],
    };

    fn read(line: &'static str) -> Result<u16, WordError<'static>> {
        let mut port = 13;
        WORDS.read(line.split_ascii_whitespace(), |option, value| match option {
            "port" => set(&mut port, value, |port| *port != 0, "a number from 1 to 65535"),
            _ => Ok(()),
        })?;
        Ok(port)
    }

    #[test]
    fn the_later_of_two_counts_and_what_is_wrong_is_named() {
        assert_eq!(read(""), Ok(13));
        assert_eq!(read("port=1 zone= port=2"), Ok(2));
        for (line, said) in [
            (
                "prt=1",
                "`prt=1` is not an option of clock; there are `port=`, `zone=`",
            ),
            (
                "port",
                "`port` is not an option of clock; there are `port=`, `zone=`",
            ),
            (
                "port=0",
                "`port=0` is malformed: port takes a number from 1 to 65535",
            ),
            (
                "port=-1",
                "`port=-1` is malformed: port takes a number from 1 to 65535",
            ),
        ] {
            assert_eq!(read(line).unwrap_err().to_string(), said);
        }
    }
}

//! The words behind ` -- ` on the kernel's command line.
//!
//! ```text
//! port=2323      where to listen
//! seed=N         the pieces' order; without it, another one each time
//! ticks=real     pieces fall with time; manual: only by the key `.`, for programs that play
//! ```

use core::fmt;

/// What can be set when the game starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// TCP port.
    pub port: u16,
    /// Seed of the pieces' order.
    pub seed: Option<u64>,
    /// Whether pieces fall with time.
    pub ticks: Ticks,
}

/// What makes pieces fall.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ticks {
    /// Time.
    Real,
    /// The key `.` alone.
    Manual,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 2323,
            seed: None,
            ticks: Ticks::Real,
        }
    }
}

/// A word that is no option.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OptionError<'a> {
    /// No option is called so.
    Unknown(&'a str),
    /// The option, what it was given, and what it takes.
    Malformed(&'static str, &'a str, &'static str),
}

impl fmt::Display for OptionError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionError::Unknown(word) => write!(
                f,
                "`{word}` is not an option of tetris; there are `port=`, `seed=` and `ticks=`"
            ),
            OptionError::Malformed(option, value, takes) => {
                write!(f, "`{option}={value}` is malformed: {option} takes {takes}")
            }
        }
    }
}

impl Options {
    /// Reads the words; the later of two wins.
    ///
    /// # Errors
    /// The first word that is not right.
    pub fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Result<Self, OptionError<'a>> {
        let mut options = Self::default();
        for word in words {
            let (option, value) = word.split_once('=').ok_or(OptionError::Unknown(word))?;
            match option {
                "port" => {
                    let port = value.parse().ok().filter(|&port| port != 0);
                    options.port =
                        port.ok_or(OptionError::Malformed("port", value, "a number from 1 to 65535"))?;
                }
                "seed" => {
                    let seed = value.parse().ok();
                    options.seed =
                        Some(seed.ok_or(OptionError::Malformed("seed", value, "a number below 2^64"))?);
                }
                "ticks" => {
                    options.ticks = match value {
                        "real" => Ticks::Real,
                        "manual" => Ticks::Manual,
                        _ => return Err(OptionError::Malformed("ticks", value, "real or manual")),
                    }
                }
                _ => return Err(OptionError::Unknown(word)),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn words_are_read_and_others_refused_by_name() {
        let parse = |line: &'static str| Options::parse(line.split_ascii_whitespace());
        assert_eq!(parse(""), Ok(Options::default()));
        assert_eq!(
            parse("port=1 ticks=manual seed=7"),
            Ok(Options {
                port: 1,
                seed: Some(7),
                ticks: Ticks::Manual
            })
        );
        for (line, part) in [
            ("prt=1", "`prt=1` is not"),
            ("fast", "`fast` is not"),
            ("port=0", "`port=0` is malformed"),
            ("seed=x", "`seed=x` is malformed"),
            ("ticks=none", "`ticks=none` is malformed"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.starts_with(part), "{error}");
        }
    }
}

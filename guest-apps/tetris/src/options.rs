//! The words behind ` -- ` on the kernel's command line.
//!
//! ```text
//! port=2323      where to listen
//! seed=N         the pieces' order; without it, another one each time
//! ticks=real     pieces fall with time; manual: only by the key `.`, for programs that play
//! ```

use hs_core::words::{WordError, Words, set};

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

const WORDS: Words = Words {
    application: "tetris",
    options: &["port", "seed", "ticks"],
};

impl Options {
    /// Reads the words; the later of two wins.
    ///
    /// # Errors
    /// The first word that is not right.
    pub fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Result<Self, WordError<'a>> {
        let mut options = Self::default();
        WORDS.read(words, |option, value| match option {
            "port" => set(
                &mut options.port,
                value,
                |port| *port != 0,
                "a number from 1 to 65535",
            ),
            "seed" => {
                let mut seed = 0;
                set(&mut seed, value, |_| true, "a number below 2^64")?;
                options.seed = Some(seed);
                Ok(())
            }
            _ => {
                options.ticks = match value {
                    "real" => Ticks::Real,
                    "manual" => Ticks::Manual,
                    _ => return Err("real or manual"),
                };
                Ok(())
            }
        })?;
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

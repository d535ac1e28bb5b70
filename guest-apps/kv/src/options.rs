//! The words behind ` -- ` on the kernel's command line.
//!
//! ```text
//! port=6379      where to listen
//! mem-mib=64     most memory for keys and values
//! ```

use core::fmt;

/// What can be set when the server starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// TCP port.
    pub port: u16,
    /// Most memory for keys and values, in MiB.
    pub memory_mib: u32,
}

impl Default for Options {
    /// Redis's port, and what fits a guest of 256 MiB: a checkpoint of everything may need as much again, on
    /// either machine.
    fn default() -> Self {
        Self {
            port: 6379,
            memory_mib: 64,
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
            OptionError::Unknown(word) => {
                write!(
                    f,
                    "`{word}` is not an option of kv; there are `port=` and `mem-mib=`"
                )
            }
            OptionError::Malformed(option, value, takes) => {
                write!(f, "`{option}={value}` is malformed: {option} takes {takes}")
            }
        }
    }
}

/// Most that `mem-mib=` may be.
const MEMORY_MIB_MAX: u32 = 1 << 20;

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
                    options.port = value
                        .parse()
                        .ok()
                        .filter(|&port| port != 0)
                        .ok_or(OptionError::Malformed("port", value, "a number from 1 to 65535"))?;
                }
                "mem-mib" => {
                    let fits = |mib: &u32| (1..=MEMORY_MIB_MAX).contains(mib);
                    options.memory_mib = value.parse().ok().filter(fits).ok_or(OptionError::Malformed(
                        "mem-mib",
                        value,
                        "a number from 1 to 1048576",
                    ))?;
                }
                _ => return Err(OptionError::Unknown(word)),
            }
        }
        Ok(options)
    }

    /// Most memory for keys and values, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.memory_mib as usize * 1024 * 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn words_are_read_and_others_refused_by_name() {
        let parse = |line: &'static str| Options::parse(line.split_ascii_whitespace());
        assert_eq!(parse(""), Ok(Options::default()));
        assert_eq!(
            parse("mem-mib=8 port=1"),
            Ok(Options {
                port: 1,
                memory_mib: 8
            })
        );
        for (line, part) in [
            ("prt=1", "`prt=1` is not"),
            ("verbose", "`verbose` is not"),
            ("port=0", "`port=0` is malformed"),
            ("port=65536", "`port=65536` is malformed"),
            ("mem-mib=", "`mem-mib=` is malformed"),
            ("mem-mib=-1", "`mem-mib=-1` is malformed"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.starts_with(part), "{error}");
        }
    }
}

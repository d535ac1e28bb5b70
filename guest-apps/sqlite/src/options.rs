//! The words behind ` -- ` on the kernel's command line.
//!
//! ```text
//! port=5433      where to listen
//! mem-mib=32     most memory for the database
//! commit=sync    whether answers wait until the spare has what they tell: sync or async
//! ```

use hs_core::words::{WordError, Words, set};
use hs_net::commit::Commit;

/// What can be set when the server starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// TCP port.
    pub port: u16,
    /// Longest database, in MiB.
    pub memory_mib: u32,
    /// Whether answers wait for the spare.
    pub commit: Commit,
}

impl Default for Options {
    /// What fits a guest of 256 MiB: a checkpoint of everything may need as much again, on either machine.
    fn default() -> Self {
        Self {
            port: 5433,
            memory_mib: 32,
            commit: Commit::Sync,
        }
    }
}

const WORDS: Words = Words {
    application: "sqlite",
    options: &["port", "mem-mib", "commit"],
};

/// Most that `mem-mib=` may be.
const MEMORY_MIB_MAX: u32 = 1 << 16;

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
            "commit" => set(&mut options.commit, value, |_| true, "sync or async"),
            _ => {
                let fits = |mib: &u32| (1..=MEMORY_MIB_MAX).contains(mib);
                set(&mut options.memory_mib, value, fits, "a number from 1 to 65536")
            }
        })?;
        Ok(options)
    }

    /// Longest database, in bytes.
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
            parse("mem-mib=8 port=1 commit=async"),
            Ok(Options {
                port: 1,
                memory_mib: 8,
                commit: Commit::Async
            })
        );
        for (line, part) in [
            ("prt=1", "`prt=1` is not"),
            ("verbose", "`verbose` is not"),
            ("port=0", "`port=0` is malformed"),
            ("mem-mib=65537", "`mem-mib=65537` is malformed"),
            ("commit=never", "`commit=never` is malformed"),
            ("sync=on", "`sync=on` is not"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.starts_with(part), "{error}");
        }
    }
}

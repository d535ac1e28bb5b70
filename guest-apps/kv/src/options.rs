//! The words behind ` -- ` on the kernel's command line.
//!
//! ```text
//! port=6379      where to listen
//! mem-mib=64     most memory for keys and values
//! commit=sync    whether replies wait until the spare has what they tell: sync or async
//! async-port=0   a second port, whose replies never wait: to see in one server what waiting costs; 0: there is none
//! crash=on       a command CRASH, which no list names, ends the server by a panic: for tests of a pair
//! ```

use hs_core::words::{WordError, Words, set};
use hs_net::commit::Commit;

/// What can be set when the server starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// TCP port.
    pub port: u16,
    /// Most memory for keys and values, in MiB.
    pub memory_mib: u32,
    /// Whether replies wait for the spare.
    pub commit: Commit,
    /// A second TCP port, of the same data, whose replies do not wait for the spare; 0 for none.
    pub async_port: u16,
    /// Whether there is the command `CRASH`.
    pub crash: bool,
}

impl Default for Options {
    /// Redis's port, and what fits a guest of 256 MiB: a checkpoint of everything may need as much again, on
    /// either machine.
    fn default() -> Self {
        Self {
            port: 6379,
            memory_mib: 64,
            commit: Commit::Sync,
            async_port: 0,
            crash: false,
        }
    }
}

const WORDS: Words = Words {
    application: "kv",
    options: &["port", "mem-mib", "commit", "async-port", "crash"],
};

/// Most that `mem-mib=` may be.
const MEMORY_MIB_MAX: u32 = 1 << 20;

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
            "async-port" => set(
                &mut options.async_port,
                value,
                |_| true,
                "a number from 0 to 65535",
            ),
            "crash" => {
                options.crash = match value {
                    "on" => true,
                    "off" => false,
                    _ => return Err("on or off"),
                };
                Ok(())
            }
            _ => {
                let fits = |mib: &u32| (1..=MEMORY_MIB_MAX).contains(mib);
                set(&mut options.memory_mib, value, fits, "a number from 1 to 1048576")
            }
        })?;
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
            parse("mem-mib=8 port=1 async-port=2 crash=on"),
            Ok(Options {
                port: 1,
                memory_mib: 8,
                commit: Commit::Sync,
                async_port: 2,
                crash: true,
            })
        );
        assert_eq!(
            parse("commit=async").map(|options| options.commit),
            Ok(Commit::Async)
        );
        for (line, part) in [
            ("commit=never", "`commit=never` is malformed"),
            ("prt=1", "`prt=1` is not"),
            ("verbose", "`verbose` is not"),
            ("port=0", "`port=0` is malformed"),
            ("async-port=x", "`async-port=x` is malformed"),
            ("crash=", "`crash=` is malformed"),
            ("port=65536", "`port=65536` is malformed"),
            ("mem-mib=", "`mem-mib=` is malformed"),
            ("mem-mib=-1", "`mem-mib=-1` is malformed"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.starts_with(part), "{error}");
        }
    }
}

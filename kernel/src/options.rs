//! The kernel command line, parsed into typed options.
//!
//! ```text
//! hs.role=master hs.service=10.77.0.10/24 … hs.log=info -- port=6379
//! ╰──────────────── for the node ──────────────────╯    ╰─ for the application, word by word
//! ```
//!
//! A guest that misunderstood its orders would be worse than one that does not start: whatever is unknown,
//! malformed, missing, repeated or contradictory is refused, and the error names it and says what is
//! expected. Deliberately absent: quoting. A word ends at the next blank.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv4Addr;
use core::time::Duration;

use hs_core::checkpoint::Compression;
use hs_core::checkpoint::file::CheckpointFiles;
use hs_core::detection::Detection;
use hs_core::fault::Fault;
use hs_core::platform::PAGE_LEN;
use hs_core::policy::Choice;
use hs_core::restore::Source;
use hs_core::role::{Hearing, Network, PairConfig, Role};
use log::LevelFilter;

use crate::cpt::Mode;

/// Longest command line that is accepted, in bytes: one less than the boot code keeps, so that one that was
/// cut off there is refused here.
pub const COMMAND_LINE_LEN_MAX: usize = 2047;

const HEARTBEAT_DEFAULT: Duration = Duration::from_millis(40);
const DEADLINE_DEFAULT: Duration = Duration::from_millis(450);
const NCON_DEFAULT: usize = 4;

/// Most checkpoints in flight that `hs.ncon` may ask for.
pub const NCON_MAX: usize = 16;

/// The shadow that differences are made to, unless told: little beside the memory of any guest, and as much as is modified
/// again and again by most.
const SHADOW_DEFAULT_MIB: usize = 16;
/// Longest shadow that `hs.shadow-mib` may ask for: its list lies on the kernel's heap.
const SHADOW_MAX_MIB: usize = 256;
const SHADOW_EXPECTED: &str = "MiB, from 0 (every page is sent whole) to 256";
const MIB_PAGES: usize = (1 << 20) / PAGE_LEN;

/// Connections at once, unless told. Their buffers are 48 KiB each, which a checkpoint carries only once something has been in
/// them: 48 MiB of a guest's window, most of it of zeroes.
const CONNECTIONS_DEFAULT: usize = 1024;
/// Most connections that `hs.connections` may ask for: 384 MiB of buffers.
const CONNECTIONS_MAX: u64 = 8192;
const CONNECTIONS_EXPECTED: &str = "a number from 1 to 8192";

/// Longest time that `hs.heartbeat-ms` and `hs.deadline-ms` may ask for.
const TIME_MAX_MS: u64 = 60_000;

/// What a guest was told at its start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The pair that it is part of; `None` for a guest alone.
    pub pair: Option<PairConfig>,
    /// How checkpoints freeze.
    pub cptfork: Cptfork,
    /// Whether each block of a class is accounted for, so that wrong frees are found.
    pub check_blocks: bool,
    /// Seed of [`Machine::random_u64`](hs_core::platform::Machine::random_u64), so that a run can be
    /// repeated.
    pub seed: Option<u64>,
    /// How much is logged.
    pub log: LevelFilter,
    /// The application's own words: those after ` -- `.
    pub application: Vec<String>,
}

/// Whose `cptfork` there is: `hs.cptfork=lazy|eager|faults|plain`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cptfork {
    /// The kernel's, freezing in this way.
    Kernel(Mode),
    /// The library's, without the kernel's support: everything is copied.
    Plain,
}

impl Default for Cptfork {
    fn default() -> Self {
        Cptfork::Kernel(Mode::default())
    }
}

/// An option's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name(&'static str);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

const ROLE: usize = 0;
const SERVICE: usize = 1;
const MACHINE: usize = 2;
const PEER_MACHINE: usize = 3;
const CLUSTER: usize = 4;
const PEER_CLUSTER: usize = 5;
const HEARTBEAT: usize = 6;
const DEADLINE: usize = 7;
const NCON: usize = 8;
const CHECKPOINT: usize = 9;
const SHADOW: usize = 10;
const COMPRESS: usize = 11;
const EAR: usize = 12;
const CHECKPOINT_FILE: usize = 13;
const RESTORE: usize = 14;
const CONNECTIONS: usize = 15;
const DETECT: usize = 16;
const FAULT: usize = 17;
const AGENT: usize = 18;
const CPTFORK: usize = 19;
const CHECK_BLOCKS: usize = 20;
const SEED: usize = 21;
const LOG: usize = 22;

/// The options there are, at the index of the constant of the same name. Up to [`AGENT`] they are the
/// pair's.
const NAMES: [Name; 23] = [
    Name("hs.role"),
    Name("hs.service"),
    Name("hs.machine"),
    Name("hs.peer-machine"),
    Name("hs.cluster"),
    Name("hs.peer-cluster"),
    Name("hs.heartbeat-ms"),
    Name("hs.deadline-ms"),
    Name("hs.ncon"),
    Name("hs.checkpoint"),
    Name("hs.shadow-mib"),
    Name("hs.compress"),
    Name("hs.ear"),
    Name("hs.checkpoint-file"),
    Name("hs.restore"),
    Name("hs.connections"),
    Name("hs.detect"),
    Name("hs.fault"),
    Name("hs.agent"),
    Name("hs.cptfork"),
    Name("hs.check-blocks"),
    Name("hs.seed"),
    Name("hs.log"),
];

/// Why a command line was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OptionsError {
    /// It is longer than [`COMMAND_LINE_LEN_MAX`].
    TooLong(usize),
    /// It is not UTF-8 from this byte on.
    NotText(usize),
    /// This word is no option.
    Unknown(String),
    /// The option is there twice.
    Repeated(Name),
    /// The value is not of the expected kind.
    Malformed {
        /// The option.
        name: Name,
        /// What it was given.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
    /// An option is missing that another one calls for.
    Missing {
        /// The missing one.
        name: Name,
        /// The one that is there.
        because_of: Name,
    },
    /// The value is well formed, but does not go with another option, or with itself.
    Contradiction {
        /// The option.
        name: Name,
        /// What it was given.
        value: String,
        /// What is wrong with it.
        why: &'static str,
        /// The option that it does not go with.
        other: Option<Name>,
    },
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionsError::TooLong(len) => {
                write!(
                    f,
                    "the command line has {len} bytes, more than {COMMAND_LINE_LEN_MAX}"
                )
            }
            OptionsError::NotText(at) => write!(f, "the command line is not UTF-8 text from byte {at} on"),
            OptionsError::Unknown(word) => {
                write!(f, "unknown option {word:?}; known are")?;
                for (index, name) in NAMES.iter().enumerate() {
                    write!(f, "{} {name}", if index == 0 { "" } else { "," })?;
                }
                f.write_str(", each with =value; the application's words stand after --")
            }
            OptionsError::Repeated(name) => write!(f, "{name} is given twice"),
            OptionsError::Malformed {
                name,
                value,
                expected,
            } => {
                write!(f, "{name}={value}: expected {expected}")
            }
            OptionsError::Missing { name, because_of } => {
                write!(f, "{name} is missing: {because_of} is given, so it is needed")
            }
            OptionsError::Contradiction {
                name,
                value,
                why,
                other: Some(other),
            } => {
                write!(f, "{name}={value}: {why} {other}")
            }
            OptionsError::Contradiction {
                name,
                value,
                why,
                other: None,
            } => write!(f, "{name}={value}: {why}"),
        }
    }
}

/// The raw value of each option of [`NAMES`] that is there.
struct Values<'a>([Option<&'a str>; NAMES.len()]);

impl<'a> Values<'a> {
    /// `name` as it was given, or what is missing because of `because_of`.
    fn required(&self, name: usize, because_of: usize) -> Result<&'a str, OptionsError> {
        self.0[name].ok_or(OptionsError::Missing {
            name: NAMES[name],
            because_of: NAMES[because_of],
        })
    }

    fn malformed(&self, name: usize, expected: &'static str) -> OptionsError {
        let value = self.0[name].unwrap_or_default().into();
        OptionsError::Malformed {
            name: NAMES[name],
            value,
            expected,
        }
    }

    fn contradiction(&self, name: usize, why: &'static str, other: Option<usize>) -> OptionsError {
        let value = self.0[name].unwrap_or_default().into();
        OptionsError::Contradiction {
            name: NAMES[name],
            value,
            why,
            other: other.map(|other| NAMES[other]),
        }
    }

    /// A number of digits only: `+5`, which Rust would take, is refused.
    fn number(&self, name: usize, expected: &'static str) -> Result<Option<u64>, OptionsError> {
        let Some(value) = self.0[name] else {
            return Ok(None);
        };
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        digits
            .then(|| value.parse().ok())
            .flatten()
            .map(Some)
            .ok_or_else(|| self.malformed(name, expected))
    }

    /// What `parse` makes of it.
    fn parsed<T, E>(
        &self,
        name: usize,
        parse: impl FnOnce(&str) -> Result<T, E>,
        expected: &'static str,
    ) -> Result<Option<T>, OptionsError> {
        let parsed = self.0[name].map(parse).transpose();
        parsed.map_err(|_| self.malformed(name, expected))
    }

    fn millis(&self, name: usize, default: Duration) -> Result<Duration, OptionsError> {
        const EXPECTED: &str = "milliseconds, from 1 to 60000";
        match self.number(name, EXPECTED)? {
            None => Ok(default),
            Some(millis @ 1..=TIME_MAX_MS) => Ok(Duration::from_millis(millis)),
            Some(_) => Err(self.malformed(name, EXPECTED)),
        }
    }

    fn address(&self, name: usize, because_of: usize) -> Result<Ipv4Addr, OptionsError> {
        let value = self.required(name, because_of)?;
        value
            .parse()
            .map_err(|_| self.malformed(name, "an IPv4 address such as 10.77.0.11"))
    }

    fn network(&self, name: usize, because_of: usize) -> Result<Network, OptionsError> {
        const EXPECTED: &str =
            "an IPv4 address and the length of its prefix, from 8 to 30, such as 10.77.0.10/24";
        let value = self.required(name, because_of)?;
        let parsed = value.split_once('/').and_then(|(address, len)| {
            let digits = !len.is_empty() && len.bytes().all(|byte| byte.is_ascii_digit());
            let prefix_len: u8 = if digits { len.parse().ok()? } else { return None };
            let address = address.parse().ok()?;
            (8..=30)
                .contains(&prefix_len)
                .then_some(Network { address, prefix_len })
        });
        parsed.ok_or_else(|| self.malformed(name, EXPECTED))
    }

    /// Refuses an address that no host can have, or that lies outside `network`, the one that `other` names.
    fn check_host(
        &self,
        name: usize,
        address: Ipv4Addr,
        network: Network,
        other: usize,
    ) -> Result<(), OptionsError> {
        if address.is_multicast()
            || address.is_loopback()
            || address.octets()[0] == 0
            || address.octets()[0] >= 240
        {
            return Err(self.contradiction(name, "no host can have this address", None));
        }
        let host_bits = host_bits(network.prefix_len);
        if prefix(network, address) != prefix(network, network.address) {
            return Err(self.contradiction(name, "is not in the network of", Some(other)));
        }
        if address.to_bits() & host_bits == 0 || address.to_bits() & host_bits == host_bits {
            return Err(self.contradiction(name, "is the network's own or its broadcast address", None));
        }
        Ok(())
    }

    fn pair(&self) -> Result<Option<PairConfig>, OptionsError> {
        let Some(role) = self.0[ROLE] else {
            return match (ROLE..=AGENT).find(|&name| self.0[name].is_some()) {
                Some(name) => Err(OptionsError::Missing {
                    name: NAMES[ROLE],
                    because_of: NAMES[name],
                }),
                None => Ok(None),
            };
        };
        let role = match role {
            "master" => Role::Master,
            "spare" => Role::Spare,
            _ => return Err(self.malformed(ROLE, "master or spare")),
        };
        let pair = PairConfig {
            role,
            service: self.network(SERVICE, ROLE)?,
            machine_address: self.address(MACHINE, ROLE)?,
            peer_machine_address: self.address(PEER_MACHINE, ROLE)?,
            cluster: self.network(CLUSTER, ROLE)?,
            peer_cluster_address: self.address(PEER_CLUSTER, ROLE)?,
            heartbeat: self.millis(HEARTBEAT, HEARTBEAT_DEFAULT)?,
            deadline: self.millis(DEADLINE, DEADLINE_DEFAULT)?,
            ncon: match self.number(NCON, "a number from 1 to 16")? {
                None => NCON_DEFAULT,
                Some(ncon) if (1..=NCON_MAX as u64).contains(&ncon) => ncon as usize,
                Some(_) => return Err(self.malformed(NCON, "a number from 1 to 16")),
            },
            checkpoint: match self.0[CHECKPOINT] {
                None | Some("auto") => Choice::Auto,
                Some("copy") => Choice::Copy,
                Some("incremental") => Choice::Incremental,
                Some("full") => Choice::Full,
                Some(_) => return Err(self.malformed(CHECKPOINT, "auto, copy, incremental or full")),
            },
            shadow_pages: match self.number(SHADOW, SHADOW_EXPECTED)? {
                None => SHADOW_DEFAULT_MIB * MIB_PAGES,
                Some(mib) if mib <= SHADOW_MAX_MIB as u64 => mib as usize * MIB_PAGES,
                Some(_) => return Err(self.malformed(SHADOW, SHADOW_EXPECTED)),
            },
            compression: match self.0[COMPRESS] {
                None | Some("none") => Compression::None,
                Some("lz4") => Compression::Lz4,
                Some(_) => return Err(self.malformed(COMPRESS, "none or lz4")),
            },
            hearing: match self.0[EAR] {
                None | Some("own") => Hearing::Own,
                Some("forwarded") => Hearing::Forwarded,
                Some(_) => return Err(self.malformed(EAR, "own or forwarded")),
            },
            checkpoint_files: self.parsed(
                CHECKPOINT_FILE,
                CheckpointFiles::new,
                "a base name of at most seven letters, such as HSCPT, for HSCPT0.CPT and HSCPT1.CPT",
            )?,
            restore: self.parsed(
                RESTORE,
                Source::parse,
                "a file such as HSCPT0.CPT, or the base name of two, such as HSCPT",
            )?,
            connections_max: match self.number(CONNECTIONS, CONNECTIONS_EXPECTED)? {
                None => CONNECTIONS_DEFAULT,
                Some(count @ 1..=CONNECTIONS_MAX) => count as usize,
                Some(_) => return Err(self.malformed(CONNECTIONS, CONNECTIONS_EXPECTED)),
            },
            detection: self.parsed(
                DETECT,
                Detection::parse,
                "heartbeat, icmp, user, file:PATH, or up to eight of them in any(…,…) and all(…,…)",
            )?,
            fault: self.parsed(
                FAULT,
                Fault::parse,
                "a point of the checkpoint path and a count, such as kept-heard:20",
            )?,
            agent_address: self.parsed(AGENT, str::parse, "an IPv4 address such as 10.78.0.254")?,
        };
        if role == Role::Spare && pair.restore.is_some() {
            return Err(self.contradiction(RESTORE, "is for a master, and not for the spare of", Some(ROLE)));
        }
        self.check_pair(&pair)?;
        Ok(Some(pair))
    }

    fn check_pair(&self, pair: &PairConfig) -> Result<(), OptionsError> {
        self.check_host(SERVICE, pair.service.address, pair.service, SERVICE)?;
        self.check_host(MACHINE, pair.machine_address, pair.service, SERVICE)?;
        self.check_host(PEER_MACHINE, pair.peer_machine_address, pair.service, SERVICE)?;
        self.check_host(CLUSTER, pair.cluster.address, pair.cluster, CLUSTER)?;
        self.check_host(PEER_CLUSTER, pair.peer_cluster_address, pair.cluster, CLUSTER)?;
        if let Some(agent) = pair.agent_address {
            self.check_host(AGENT, agent, pair.cluster, CLUSTER)?;
        }
        let addresses = [
            (SERVICE, pair.service.address),
            (MACHINE, pair.machine_address),
            (PEER_MACHINE, pair.peer_machine_address),
            (CLUSTER, pair.cluster.address),
            (PEER_CLUSTER, pair.peer_cluster_address),
        ];
        let agent = pair.agent_address.map(|address| (AGENT, address));
        for (index, (name, address)) in addresses.iter().chain(&agent).enumerate() {
            if let Some((other, _)) = addresses[..index].iter().find(|(_, earlier)| earlier == address) {
                return Err(self.contradiction(*name, "is the same address as", Some(*other)));
            }
        }
        let wider = if pair.service.prefix_len < pair.cluster.prefix_len {
            pair.service
        } else {
            pair.cluster
        };
        if prefix(wider, pair.service.address) == prefix(wider, pair.cluster.address) {
            return Err(self.contradiction(CLUSTER, "overlaps the network of", Some(SERVICE)));
        }
        if pair.deadline <= pair.heartbeat {
            // Of the two, name one that was given: both may be, but not neither.
            return Err(if self.0[DEADLINE].is_some() {
                self.contradiction(DEADLINE, "is not longer than", Some(HEARTBEAT))
            } else {
                self.contradiction(
                    HEARTBEAT,
                    "is not shorter than 450 ms, the default of",
                    Some(DEADLINE),
                )
            });
        }
        Ok(())
    }
}

const fn host_bits(prefix_len: u8) -> u32 {
    u32::MAX >> prefix_len
}

fn prefix(network: Network, address: Ipv4Addr) -> u32 {
    address.to_bits() & !host_bits(network.prefix_len)
}

impl Options {
    /// Parses the command line as the boot loader handed it over, without a closing zero.
    ///
    /// # Errors
    /// Whatever is not understood, or cannot be meant, is refused: see [`OptionsError`].
    pub fn parse(command_line: &[u8]) -> Result<Options, OptionsError> {
        if command_line.len() > COMMAND_LINE_LEN_MAX {
            return Err(OptionsError::TooLong(command_line.len()));
        }
        let text =
            core::str::from_utf8(command_line).map_err(|error| OptionsError::NotText(error.valid_up_to()))?;
        let mut words = text.split_ascii_whitespace();
        let mut values = Values([None; NAMES.len()]);
        for word in words.by_ref().take_while(|&word| word != "--") {
            let known = word.split_once('=').and_then(|(key, value)| {
                NAMES
                    .iter()
                    .position(|name| name.0 == key)
                    .map(|name| (name, value))
            });
            let (name, value) = known.ok_or_else(|| OptionsError::Unknown(word.into()))?;
            if values.0[name].replace(value).is_some() {
                return Err(OptionsError::Repeated(NAMES[name]));
            }
        }
        let log = match values.0[LOG] {
            None | Some("info") => LevelFilter::Info,
            Some("error") => LevelFilter::Error,
            Some("warn") => LevelFilter::Warn,
            Some("debug") => LevelFilter::Debug,
            Some("trace") => LevelFilter::Trace,
            Some(_) => return Err(values.malformed(LOG, "error, warn, info, debug or trace")),
        };
        let check_blocks = match values.0[CHECK_BLOCKS] {
            None => cfg!(debug_assertions),
            Some("on") => true,
            Some("off") => false,
            Some(_) => return Err(values.malformed(CHECK_BLOCKS, "on or off")),
        };
        let cptfork = match values.0[CPTFORK] {
            None => Cptfork::default(),
            Some("plain") => Cptfork::Plain,
            Some(word) => Mode::ALL
                .into_iter()
                .find(|mode| mode.name() == word)
                .map(Cptfork::Kernel)
                .ok_or_else(|| values.malformed(CPTFORK, "lazy, eager, faults or plain"))?,
        };
        Ok(Options {
            pair: values.pair()?,
            cptfork,
            check_blocks,
            seed: values.number(SEED, "a number below 2^64")?,
            log,
            application: words.map(String::from).collect(),
        })
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;

//! Why a command was not done, in Redis's words.

use core::fmt;

use crate::Memory;
use crate::resp::{Full, Request};
use crate::store::{AppendError, OutOfMemory};

/// Longest part of a request that a refusal quotes, in bytes.
const QUOTED_LEN_MAX: usize = 128;

/// Why a command was not done. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// There is no such command.
    UnknownCommand,
    /// This command has no such subcommand.
    UnknownSubcommand(&'static str),
    /// This command takes another number of arguments.
    WrongArity(&'static str),
    /// The arguments do not go together.
    Syntax,
    /// An argument, or the value of the key, is not an integer of 64 bits.
    NotAnInteger,
    /// An argument is not an integer of 32 bits.
    NotASmallInteger,
    /// The result would not fit into 64 bits.
    Overflow,
    /// The number to subtract has no negative.
    DecrementOverflow,
    /// This command was given a time that cannot be.
    InvalidExpiry(&'static str),
    /// The argument at this place is no option of `EXPIRE`.
    UnsupportedOption(usize),
    /// Options of `EXPIRE` that exclude each other.
    NxAndOthers,
    /// Options of `EXPIRE` that exclude each other.
    GtAndLt,
    /// The value would be longer than a value may be.
    ValueTooLong,
    /// Not a cursor of `SCAN`.
    InvalidCursor,
    /// There is one database only.
    DatabaseIndex,
    /// This version of the protocol is not spoken.
    ProtocolVersion,
    /// The version of the protocol is not a number.
    ProtocolVersionNotAnInteger,
    /// The argument at this place is no option of `HELLO`, or lacks what belongs to it.
    HelloOption(usize),
    /// There is no password to give.
    NoPassword,
    /// There is no such user.
    WrongPassword,
    /// What is called so may hold visible characters only.
    InvalidText(&'static str),
    /// What is called so is too long.
    TextTooLong(&'static str),
    /// The argument at this place is no option of `CLIENT SETINFO`.
    UnrecognizedOption(usize),
    /// The argument at this place is no setting that can be changed.
    UnknownSetting(usize),
    /// The data is as large as it may be, or the request larger than memory.
    OutOfMemory,
    /// The reply does not fit into memory now. Not an answer: the command is run again later.
    NoRoom,
    /// This command is about a connection, and came in a datagram.
    NeedsConnection(&'static str),
    /// The command came in a datagram, and its reply is longer than one.
    TooLongForDatagram,
    /// No answer at all.
    Silence,
}

impl From<Full> for Refusal {
    fn from(_: Full) -> Self {
        Refusal::NoRoom
    }
}

impl From<OutOfMemory> for Refusal {
    fn from(_: OutOfMemory) -> Self {
        Refusal::OutOfMemory
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::TooLong => Refusal::ValueTooLong,
            AppendError::OutOfMemory => Refusal::OutOfMemory,
        }
    }
}

/// Bytes of a client, as text. A refusal of ours goes through [`fmt`], which wants UTF-8: other bytes come as
/// replacement characters. Ends after `len_max` bytes.
struct Quoted<'a> {
    bytes: &'a [u8],
    len_max: usize,
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.bytes[..self.bytes.len().min(self.len_max)].utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_str("\u{fffd}")?;
            }
        }
        Ok(())
    }
}

/// A command's name as people write it.
pub(super) struct UpperCase<'a>(pub(super) &'a str);

impl fmt::Display for UpperCase<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .chars()
            .try_for_each(|letter| write!(f, "{}", letter.to_ascii_uppercase()))
    }
}

/// A refusal with the request that it quotes.
pub(crate) struct Worded<'a, A: Memory> {
    refusal: Refusal,
    request: &'a Request<A>,
}

impl Refusal {
    /// Its words, as an answer to `request`.
    pub(crate) fn with<A: Memory>(self, request: &Request<A>) -> Worded<'_, A> {
        Worded {
            refusal: self,
            request,
        }
    }
}

impl<A: Memory> Worded<'_, A> {
    fn quoted(&self, index: usize) -> Quoted<'_> {
        Quoted {
            bytes: self.request.arg(index),
            len_max: QUOTED_LEN_MAX,
        }
    }

    fn unknown_command(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ERR unknown command '{}', with args beginning with: ",
            self.quoted(0)
        )?;
        let mut written = 0;
        for arg in self.request.args_from(1) {
            if written >= QUOTED_LEN_MAX {
                break;
            }
            let len_max = QUOTED_LEN_MAX - written;
            write!(f, "'{}' ", Quoted { bytes: arg, len_max })?;
            written += arg.len().min(len_max) + "'' ".len();
        }
        Ok(())
    }
}

impl<A: Memory> fmt::Display for Worded<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.refusal {
            Refusal::UnknownCommand => return self.unknown_command(f),
            Refusal::UnknownSubcommand(command) => {
                let subcommand = self.quoted(1);
                return write!(
                    f,
                    "ERR unknown subcommand '{subcommand}'. Try {} HELP.",
                    UpperCase(command)
                );
            }
            Refusal::WrongArity(command) => {
                return write!(f, "ERR wrong number of arguments for '{command}' command");
            }
            Refusal::Syntax => "ERR syntax error",
            Refusal::NotAnInteger => "ERR value is not an integer or out of range",
            Refusal::NotASmallInteger => {
                "ERR value is out of range, value must between -2147483648 and 2147483647"
            }
            Refusal::Overflow => "ERR increment or decrement would overflow",
            Refusal::DecrementOverflow => "ERR decrement would overflow",
            Refusal::InvalidExpiry(command) => {
                return write!(f, "ERR invalid expire time in '{command}' command");
            }
            Refusal::UnsupportedOption(index) => {
                return write!(f, "ERR Unsupported option {}", self.quoted(index));
            }
            Refusal::NxAndOthers => "ERR NX and XX, GT or LT options at the same time are not compatible",
            Refusal::GtAndLt => "ERR GT and LT options at the same time are not compatible",
            Refusal::ValueTooLong => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
            Refusal::InvalidCursor => "ERR invalid cursor",
            Refusal::DatabaseIndex => "ERR DB index is out of range",
            Refusal::ProtocolVersion => "NOPROTO unsupported protocol version",
            Refusal::ProtocolVersionNotAnInteger => "ERR Protocol version is not an integer or out of range",
            Refusal::HelloOption(index) => {
                return write!(f, "ERR Syntax error in HELLO option '{}'", self.quoted(index));
            }
            Refusal::NoPassword => {
                "ERR AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?"
            }
            Refusal::WrongPassword => "WRONGPASS invalid username-password pair or user is disabled.",
            Refusal::InvalidText(what) => {
                return write!(
                    f,
                    "ERR {what} cannot contain spaces, newlines or special characters."
                );
            }
            Refusal::TextTooLong(what) => return write!(f, "ERR {what} cannot be so long."),
            Refusal::UnrecognizedOption(index) => {
                return write!(f, "ERR Unrecognized option '{}'", self.quoted(index));
            }
            Refusal::UnknownSetting(index) => {
                let setting = self.quoted(index);
                return write!(
                    f,
                    "ERR Unknown option or number of arguments for CONFIG SET - '{setting}'"
                );
            }
            Refusal::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.",
            Refusal::NoRoom => "OOM the reply does not fit into the memory for replies.",
            Refusal::NeedsConnection(command) => {
                return write!(f, "ERR '{command}' needs a connection: a datagram has none");
            }
            Refusal::TooLongForDatagram => "ERR the reply is longer than a datagram: ask over a connection",
            Refusal::Silence => "",
        })
    }
}

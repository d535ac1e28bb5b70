//! The pair's datagrams: bytes on one side, validated values on the other.
//!
//! All numbers are little-endian. Every datagram begins with
//!
//! ```text
//!  0      2       3      4          12
//! +------+-------+------+----------+
//! | "HS" |version| kind | number   |   number: the sender's session (hello, heartbeat), the connection
//! +------+-------+------+----------+           (data, ack, probe, heard) or a dead node's session (obituary, noted)
//! ```
//!
//! and goes on by kind:
//!
//! ```text
//! 1 hello      role u8 | flags u8 (1: paired) | datagram_len_max u16 | term u64 | to u64 | challenge u64
//!              | answer u64 | application u64 | build 20 bytes
//! 2 heartbeat  role u8 | term u64 | counter u64
//! 3 data       next u64 | limit u64 | echo_us u32, as of an ack | sequence u64 | sent_us u32 | message
//! 4 ack        next u64 | limit u64 | echo_us u32 | words u8 | words * u64
//! 5 probe      nothing
//! 6 obituary   death u8 (1: killed, 2: panicked, 3: ended) | term u64      from the host's agent
//! 7 noted      nothing                                                     to it
//! 8 heard      offset u16 | total u16 | bytes of a client's frame from there on, to the end of the datagram
//!
//! message:
//! 1 chunk      flags u8 (1: first, 2: last, 4: arms) | checkpoint 16 | bytes of the stream, to the end of the datagram
//! 2 abandon    checkpoint 16
//! 3 kept       checkpoint 16
//! 4 refused    checkpoint 16 | why, UTF-8, to the end
//! checkpoint:  generation u64 | increment u64
//! ```
//!
//! An ack's bit *i* (bit *i* mod 64 of word *i* / 64) says that the datagram `next + 1 + i` has arrived: `next` itself
//! has not, by definition. `limit` is the first sequence number that the receiver has no room for. Data acknowledge too, so
//! that an answer needs no ack beside it; what has arrived out of order they cannot show.
//!
//! Deliberately absent: integrity beyond UDP's checksum. A checkpoint has a CRC of its own over all of it.

mod heard;
mod message;
mod obituary;

use core::fmt;

use hs_core::checkpoint::CheckpointId;
use hs_core::role::{Role, Term};

pub use self::heard::{HEARD_HEADER_LEN, HeardPart};
pub use self::message::{CHUNK_HEADER_LEN, ChunkFlags, Message, chunk_header};
pub use self::obituary::{Death, Obituary};

/// The version of everything in this module.
pub const VERSION: u8 = 2;

/// Most words of an ack's bitmap: more is refused.
pub const ACK_WORDS_MAX: usize = 16;

/// Bytes of a data datagram before its message.
pub const DATA_HEADER_LEN: usize = HEADER_LEN + 20 + 12;

/// The shortest payload that a link must carry: an ack with all its words fits.
pub const DATAGRAM_LEN_MIN: usize = 256;

const MAGIC: [u8; 2] = *b"HS";
const HEADER_LEN: usize = 12;

const HELLO: u8 = 1;
const HEARTBEAT: u8 = 2;
const DATA: u8 = 3;
const ACK: u8 = 4;
const PROBE: u8 = 5;
const OBITUARY: u8 = 6;
const NOTED: u8 = 7;
const HEARD: u8 = 8;

const HELLO_PAIRED: u8 = 1;

/// One boot of a node, at random: a restarted peer has another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Session(pub u64);

impl Session {
    /// No boot has this.
    pub const NOBODY: Session = Session(0);
}

/// One pairing of two sessions. What belongs to an earlier one is stale.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connection(pub u64);

/// A validated datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Datagram<'a> {
    /// Who the sender is, until both know.
    Hello(Hello),
    /// The sender is alive.
    Heartbeat(Heartbeat),
    /// One message of the reliable stream.
    Data(Data<'a>),
    /// What has arrived, and how much more may come.
    Ack(Ack),
    /// The sender wants an ack.
    Probe(Connection),
    /// The host's agent says that a node is dead.
    Obituary(Obituary),
    /// The obituary of this boot was read.
    Noted(Session),
    /// The master has received a frame of a client's.
    Heard(HeardPart<'a>),
}

/// Who a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The sender's boot.
    pub session: Session,
    /// What the sender does.
    pub role: Role,
    /// The newest term that the sender knows.
    pub term: Term,
    /// Whether the sender has adopted the receiver already and needs no answer.
    pub paired: bool,
    /// Longest datagram that the sender can take, in bytes.
    pub datagram_len_max: u16,
    /// The boot that it is meant for, if it answers one.
    pub to: Option<Session>,
    /// A random number that the receiver must answer with, to show that its own hello is not an old one.
    pub challenge: u64,
    /// The receiver's newest challenge, or 0.
    pub answer: u64,
    /// The application.
    pub application: u64,
    /// The sender's build.
    pub build: [u8; 20],
}

/// A sign of life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// The sender's boot.
    pub session: Session,
    /// What the sender does.
    pub role: Role,
    /// The newest term that the sender knows.
    pub term: Term,
    /// Counts the sender's heartbeats.
    pub counter: u64,
}

/// What has arrived in order, and how much more may come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cumulative {
    /// All messages before this one have arrived.
    pub next: u64,
    /// The first message that there is no room for.
    pub limit: u64,
    /// `sent_us` of the newest data datagram that arrived.
    pub echo_us: u32,
}

impl Cumulative {
    /// As an ack that shows nothing beyond.
    pub fn alone(self, connection: Connection) -> Ack {
        Ack {
            connection,
            next: self.next,
            limit: self.limit,
            echo_us: self.echo_us,
            bitmap: [0; ACK_WORDS_MAX],
        }
    }
}

/// One message, numbered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Data<'a> {
    /// The pairing.
    pub connection: Connection,
    /// What the sender has of the other direction.
    pub received: Cumulative,
    /// Position in the stream of messages.
    pub sequence: u64,
    /// The sender's clock, low bits of its microseconds: the ack brings it back.
    pub sent_us: u32,
    /// The message, validated, and in the bytes that it came in.
    pub message: &'a [u8],
}

/// What has arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack {
    /// The pairing.
    pub connection: Connection,
    /// All messages before this one have arrived.
    pub next: u64,
    /// The first message that there is no room for.
    pub limit: u64,
    /// `sent_us` of the newest data datagram that arrived.
    pub echo_us: u32,
    /// Which messages after `next` have arrived.
    pub bitmap: [u64; ACK_WORDS_MAX],
}

/// Why a datagram was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParseError {
    /// It ends before its last field.
    Truncated,
    /// Bytes after its last field.
    TrailingBytes,
    /// It does not begin with the magic bytes.
    Magic,
    /// Another version of the protocol: this one.
    Version(u8),
    /// No such kind of datagram or message.
    Kind(u8),
    /// A role, flag, length or text that has no meaning.
    Field(&'static str),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::Truncated => f.write_str("truncated datagram"),
            ParseError::TrailingBytes => f.write_str("bytes after the end of the datagram"),
            ParseError::Magic => f.write_str("not a datagram of a pair"),
            ParseError::Version(version) => write!(f, "protocol version {version}, ours is {VERSION}"),
            ParseError::Kind(kind) => write!(f, "unknown kind {kind}"),
            ParseError::Field(field) => write!(f, "meaningless {field}"),
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], ParseError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(ParseError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, ParseError> {
        Ok(self.take::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, ParseError> {
        Ok(u16::from_le_bytes(self.take()?))
    }

    fn u32(&mut self) -> Result<u32, ParseError> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, ParseError> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn role(&mut self) -> Result<Role, ParseError> {
        match self.u8()? {
            1 => Ok(Role::Master),
            2 => Ok(Role::Spare),
            _ => Err(ParseError::Field("role")),
        }
    }

    fn checkpoint(&mut self) -> Result<CheckpointId, ParseError> {
        Ok(CheckpointId {
            generation: self.u64()?,
            increment: self.u64()?,
        })
    }

    fn end<T>(self, value: T) -> Result<T, ParseError> {
        if self.rest.is_empty() {
            Ok(value)
        } else {
            Err(ParseError::TrailingBytes)
        }
    }
}

struct Writer<'a> {
    into: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    fn new(into: &'a mut [u8], kind: u8, number: u64) -> Self {
        let mut writer = Self { into, len: 0 };
        writer.put(&MAGIC);
        writer.put(&[VERSION, kind]);
        writer.put(&number.to_le_bytes());
        writer
    }

    /// The callers' buffers hold at least [`DATAGRAM_LEN_MIN`] bytes, and data what was measured before.
    fn put(&mut self, bytes: &[u8]) {
        self.into[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn role(&mut self, role: Role) {
        self.put(&[match role {
            Role::Master => 1,
            Role::Spare => 2,
        }]);
    }
}

impl<'a> Datagram<'a> {
    /// Reads a datagram.
    ///
    /// # Errors
    /// It is malformed in any way: see [`ParseError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader { rest: bytes };
        if reader.take::<2>()? != MAGIC {
            return Err(ParseError::Magic);
        }
        let version = reader.u8()?;
        if version != VERSION {
            return Err(ParseError::Version(version));
        }
        let kind = reader.u8()?;
        let number = reader.u64()?;
        match kind {
            HELLO => {
                let role = reader.role()?;
                let flags = reader.u8()?;
                if flags & !HELLO_PAIRED != 0 {
                    return Err(ParseError::Field("hello flags"));
                }
                let datagram_len_max = reader.u16()?;
                if usize::from(datagram_len_max) < DATAGRAM_LEN_MIN {
                    return Err(ParseError::Field("datagram length"));
                }
                let hello = Hello {
                    session: Session(number),
                    role,
                    paired: flags & HELLO_PAIRED != 0,
                    datagram_len_max,
                    term: Term(reader.u64()?),
                    to: Some(Session(reader.u64()?)).filter(|to| *to != Session::NOBODY),
                    challenge: reader.u64()?,
                    answer: reader.u64()?,
                    application: reader.u64()?,
                    build: reader.take()?,
                };
                reader.end(Datagram::Hello(hello))
            }
            HEARTBEAT => {
                let heartbeat = Heartbeat {
                    session: Session(number),
                    role: reader.role()?,
                    term: Term(reader.u64()?),
                    counter: reader.u64()?,
                };
                reader.end(Datagram::Heartbeat(heartbeat))
            }
            DATA => {
                let (next, limit, echo_us) = (reader.u64()?, reader.u64()?, reader.u32()?);
                let sequence = reader.u64()?;
                let sent_us = reader.u32()?;
                Message::parse(reader.rest)?;
                Ok(Datagram::Data(Data {
                    connection: Connection(number),
                    received: Cumulative { next, limit, echo_us },
                    sequence,
                    sent_us,
                    message: reader.rest,
                }))
            }
            ACK => {
                let (next, limit, echo_us) = (reader.u64()?, reader.u64()?, reader.u32()?);
                let words = usize::from(reader.u8()?);
                if words > ACK_WORDS_MAX {
                    return Err(ParseError::Field("ack bitmap"));
                }
                let mut bitmap = [0; ACK_WORDS_MAX];
                for word in &mut bitmap[..words] {
                    *word = reader.u64()?;
                }
                reader.end(Datagram::Ack(Ack {
                    connection: Connection(number),
                    next,
                    limit,
                    echo_us,
                    bitmap,
                }))
            }
            PROBE => reader.end(Datagram::Probe(Connection(number))),
            OBITUARY => Obituary::parse(number, reader).map(Datagram::Obituary),
            NOTED => reader.end(Datagram::Noted(Session(number))),
            HEARD => HeardPart::parse(number, reader).map(Datagram::Heard),
            other => Err(ParseError::Kind(other)),
        }
    }

    /// Writes the datagram and returns its length in bytes.
    ///
    /// # Panics
    /// If `into` is shorter than [`DATAGRAM_LEN_MIN`], or than a data datagram's header and message.
    pub fn emit(&self, into: &mut [u8]) -> usize {
        match self {
            Datagram::Hello(hello) => {
                let mut writer = Writer::new(into, HELLO, hello.session.0);
                writer.role(hello.role);
                writer.put(&[if hello.paired { HELLO_PAIRED } else { 0 }]);
                writer.put(&hello.datagram_len_max.to_le_bytes());
                let to = hello.to.unwrap_or(Session::NOBODY).0;
                for number in [hello.term.0, to, hello.challenge, hello.answer, hello.application] {
                    writer.put(&number.to_le_bytes());
                }
                writer.put(&hello.build);
                writer.len
            }
            Datagram::Heartbeat(heartbeat) => {
                let mut writer = Writer::new(into, HEARTBEAT, heartbeat.session.0);
                writer.role(heartbeat.role);
                writer.put(&heartbeat.term.0.to_le_bytes());
                writer.put(&heartbeat.counter.to_le_bytes());
                writer.len
            }
            Datagram::Data(data) => {
                let mut writer = Writer::new(into, DATA, data.connection.0);
                writer.put(&data.received.next.to_le_bytes());
                writer.put(&data.received.limit.to_le_bytes());
                writer.put(&data.received.echo_us.to_le_bytes());
                writer.put(&data.sequence.to_le_bytes());
                writer.put(&data.sent_us.to_le_bytes());
                writer.put(data.message);
                writer.len
            }
            Datagram::Ack(ack) => {
                let mut writer = Writer::new(into, ACK, ack.connection.0);
                writer.put(&ack.next.to_le_bytes());
                writer.put(&ack.limit.to_le_bytes());
                writer.put(&ack.echo_us.to_le_bytes());
                let words = ack
                    .bitmap
                    .iter()
                    .rposition(|&word| word != 0)
                    .map_or(0, |last| last + 1);
                writer.put(&[words as u8]);
                for word in &ack.bitmap[..words] {
                    writer.put(&word.to_le_bytes());
                }
                writer.len
            }
            Datagram::Probe(connection) => Writer::new(into, PROBE, connection.0).len,
            Datagram::Obituary(obituary) => {
                let mut writer = Writer::new(into, OBITUARY, obituary.session.0);
                obituary.put(&mut writer);
                writer.len
            }
            Datagram::Noted(session) => Writer::new(into, NOTED, session.0).len,
            Datagram::Heard(part) => {
                let mut writer = Writer::new(into, HEARD, part.connection.0);
                part.put(&mut writer);
                writer.len
            }
        }
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;

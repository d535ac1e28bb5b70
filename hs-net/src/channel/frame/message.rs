//! Messages of the reliable stream: pieces of checkpoints one way, what became of them the other.

use hs_core::checkpoint::CheckpointId;

use super::{ParseError, Reader};

/// Bytes of a chunk before the stream's.
pub const CHUNK_HEADER_LEN: usize = 18;

const CHUNK: u8 = 1;
const ABANDON: u8 = 2;
const KEPT: u8 = 3;
const REFUSED: u8 = 4;

const CHUNK_FIRST: u8 = 1;
const CHUNK_LAST: u8 = 2;
const CHUNK_ARMS: u8 = 4;

/// A message of the reliable stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message<'a> {
    /// A piece of an encoded checkpoint.
    Chunk {
        /// Which checkpoint.
        checkpoint: CheckpointId,
        /// Whether it is the stream's first piece.
        first: bool,
        /// Whether it is the last.
        last: bool,
        /// Whether output waited for this checkpoint: who has it may take over.
        arms: bool,
        /// The next bytes of the stream.
        bytes: &'a [u8],
    },
    /// The rest of this checkpoint will not come.
    Abandon {
        /// Which checkpoint.
        checkpoint: CheckpointId,
    },
    /// The spare has all of this checkpoint, verified and applied.
    Kept {
        /// Which checkpoint.
        checkpoint: CheckpointId,
    },
    /// The spare could not take this checkpoint.
    Refused {
        /// Which checkpoint.
        checkpoint: CheckpointId,
        /// Why, for a person.
        why: &'a str,
    },
}

impl<'a> Message<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// It is malformed in any way: see [`ParseError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader { rest: bytes };
        match reader.u8()? {
            CHUNK => {
                let flags = reader.u8()?;
                if flags & !(CHUNK_FIRST | CHUNK_LAST | CHUNK_ARMS) != 0 {
                    return Err(ParseError::Field("chunk flags"));
                }
                let checkpoint = reader.checkpoint()?;
                Ok(Message::Chunk {
                    checkpoint,
                    first: flags & CHUNK_FIRST != 0,
                    last: flags & CHUNK_LAST != 0,
                    arms: flags & CHUNK_ARMS != 0,
                    bytes: reader.rest,
                })
            }
            ABANDON => {
                let checkpoint = reader.checkpoint()?;
                reader.end(Message::Abandon { checkpoint })
            }
            KEPT => {
                let checkpoint = reader.checkpoint()?;
                reader.end(Message::Kept { checkpoint })
            }
            REFUSED => {
                let checkpoint = reader.checkpoint()?;
                let why = core::str::from_utf8(reader.rest).map_err(|_| ParseError::Field("reason"))?;
                Ok(Message::Refused { checkpoint, why })
            }
            other => Err(ParseError::Kind(other)),
        }
    }

    /// Writes the message and returns its length in bytes; what of a reason does not fit is left off.
    ///
    /// # Panics
    /// If `into` is too short for it.
    pub fn emit(&self, into: &mut [u8]) -> usize {
        let put = |into: &mut [u8], kind: u8, checkpoint: &CheckpointId| {
            into[0] = kind;
            into[1..9].copy_from_slice(&checkpoint.generation.to_le_bytes());
            into[9..17].copy_from_slice(&checkpoint.increment.to_le_bytes());
            17
        };
        match self {
            Message::Chunk {
                checkpoint,
                first,
                last,
                arms,
                bytes,
            } => {
                into[CHUNK_HEADER_LEN..CHUNK_HEADER_LEN + bytes.len()].copy_from_slice(bytes);
                let flags = ChunkFlags {
                    first: *first,
                    last: *last,
                    arms: *arms,
                };
                chunk_header(into, checkpoint, flags);
                CHUNK_HEADER_LEN + bytes.len()
            }
            Message::Abandon { checkpoint } => put(into, ABANDON, checkpoint),
            Message::Kept { checkpoint } => put(into, KEPT, checkpoint),
            Message::Refused { checkpoint, why } => {
                let start = put(into, REFUSED, checkpoint);
                let why = &why[..why.floor_char_boundary(into.len() - start)];
                into[start..start + why.len()].copy_from_slice(why.as_bytes());
                start + why.len()
            }
        }
    }
}

/// What is said of a chunk beside its bytes: see [`Message::Chunk`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChunkFlags {
    /// The stream's first piece.
    pub first: bool,
    /// Its last.
    pub last: bool,
    /// Who has the checkpoint may take over.
    pub arms: bool,
}

/// Writes the header of a chunk whose bytes already lie behind it.
///
/// # Panics
/// If `into` is shorter than [`CHUNK_HEADER_LEN`].
pub fn chunk_header(into: &mut [u8], checkpoint: &CheckpointId, flags: ChunkFlags) {
    into[0] = CHUNK;
    let bit = |set, bit| if set { bit } else { 0 };
    into[1] = bit(flags.first, CHUNK_FIRST) | bit(flags.last, CHUNK_LAST) | bit(flags.arms, CHUNK_ARMS);
    into[2..10].copy_from_slice(&checkpoint.generation.to_le_bytes());
    into[10..18].copy_from_slice(&checkpoint.increment.to_le_bytes());
}

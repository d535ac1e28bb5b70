//! What clients send, forwarded to a spare that cannot hear it by itself.

use super::{Connection, HEADER_LEN, ParseError, Reader, Writer};

/// Bytes of a heard datagram before the frame's.
pub const HEARD_HEADER_LEN: usize = HEADER_LEN + 4;

/// A part of a frame that the master has received from a client: a whole one may be longer than a datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeardPart<'a> {
    /// The pairing.
    pub connection: Connection,
    /// Where in the frame it lies.
    pub offset: u16,
    /// Length of the frame, in bytes.
    pub total: u16,
    /// The part.
    pub bytes: &'a [u8],
}

impl<'a> HeardPart<'a> {
    pub(super) fn parse(number: u64, mut reader: Reader<'a>) -> Result<Self, ParseError> {
        let (offset, total) = (reader.u16()?, reader.u16()?);
        let bytes = reader.rest;
        if bytes.is_empty() || usize::from(offset) + bytes.len() > usize::from(total) {
            return Err(ParseError::Field("place in a frame"));
        }
        Ok(Self {
            connection: Connection(number),
            offset,
            total,
            bytes,
        })
    }

    /// Writes all but the header, which holds the connection.
    pub(super) fn put(&self, writer: &mut Writer<'_>) {
        writer.put(&self.offset.to_le_bytes());
        writer.put(&self.total.to_le_bytes());
        writer.put(self.bytes);
    }
}

//! The host's word that a node's process has ended, and the node's answer.
//!
//! The pair's protocols know of silence only, which may be a slow machine or a broken cable. The host's agent knows of
//! death. It repeats an obituary until the other node has noted it.

use hs_core::role::Term;

use super::{ParseError, Reader, Session, Writer};

/// How a node's process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Death {
    /// From outside: killed, its power cut, its emulator lost.
    Killed,
    /// By its own fault, a panic or a processor exception: who goes on with the same input may come to the same end.
    Panicked,
    /// By itself, in any other way.
    Ended,
}

impl Death {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Death::Killed => "killed",
            Death::Panicked => "panicked",
            Death::Ended => "ended",
        }
    }
}

/// A node's process has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Obituary {
    /// The dead boot.
    pub session: Session,
    /// How it ended.
    pub death: Death,
    /// The newest term that it had told the host of.
    pub term: Term,
}

impl Obituary {
    pub(super) fn parse(number: u64, mut reader: Reader<'_>) -> Result<Self, ParseError> {
        let death = match reader.u8()? {
            1 => Death::Killed,
            2 => Death::Panicked,
            3 => Death::Ended,
            _ => return Err(ParseError::Field("death")),
        };
        let term = Term(reader.u64()?);
        reader.end(Self {
            session: Session(number),
            death,
            term,
        })
    }

    /// Writes all but the header, which holds the session.
    pub(super) fn put(&self, writer: &mut Writer<'_>) {
        writer.put(&[match self.death {
            Death::Killed => 1,
            Death::Panicked => 2,
            Death::Ended => 3,
        }]);
        writer.put(&self.term.0.to_le_bytes());
    }
}

//! A checkpoint's header.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::DecodeError;
use super::section::u16_at;
use crate::platform::PageRange;
use crate::role::Term;

/// Version of the format; a decoder takes no other.
pub const FORMAT_VERSION: u16 = 3;

pub(super) const MAGIC: [u8; 4] = *b"HSCP";
pub(super) const PREAMBLE_LEN: usize = 8;
/// More than postcard ever makes of a [`Header`].
pub(super) const HEADER_LEN_MAX: usize = 160;

/// The length of the header behind this preamble.
pub(super) fn header_len(preamble: &[u8]) -> Result<usize, DecodeError> {
    if preamble[..4] != MAGIC {
        return Err(DecodeError::BadMagic);
    }
    let (version, len) = (u16_at(preamble, 4), u16_at(preamble, 6));
    if version != FORMAT_VERSION {
        return Err(DecodeError::WrongVersion { found: version });
    }
    if len == 0 || usize::from(len) > HEADER_LEN_MAX {
        return Err(DecodeError::HeaderLength(len));
    }
    Ok(usize::from(len))
}

/// Names a checkpoint of one master. Ordered as they were taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct CheckpointId {
    /// Counts the full checkpoints, from 1.
    pub generation: u64,
    /// Counts the incremental ones since then: 0 is the full one itself.
    pub increment: u64,
}

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.increment)
    }
}

/// What a checkpoint needs to be applied to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// Nothing: it holds every page.
    Full,
    /// Increment `base` of its generation, or any later one: it holds every page modified since then.
    Incremental {
        /// Below its own increment; one below, unless checkpoints in between were lost.
        base: u64,
    },
}

/// A checkpoint's header. The thesis's `struct hs_cpthdr`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// The build that took it: function addresses are of this build.
    pub build_id: [u8; 20],
    /// The application's own number: the thesis's `app_id`.
    pub application: u64,
    /// The master's term.
    pub term: Term,
    /// Which checkpoint it is.
    pub id: CheckpointId,
    /// What it needs.
    pub kind: Kind,
    /// Address of the checkpoint window.
    pub window_start: u64,
    /// Pages of the checkpoint window.
    pub window_pages: u64,
    /// Registered workers that follow.
    pub threads: u32,
    /// Registered descriptors that follow.
    pub descriptors: u32,
    /// Registered signals that follow.
    pub signals: u32,
    /// Memory areas that follow.
    pub areas: u32,
    /// Pages that follow, zero pages among them.
    pub pages: u64,
}

impl Header {
    /// The header of the checkpoint that begins with `bytes`: for whoever has to know its window to decode it. It contradicts
    /// itself nowhere; whether it is of the checkpoint as it was sent shows only at its end.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn peek(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (preamble, rest) = bytes
            .split_at_checked(PREAMBLE_LEN)
            .ok_or(DecodeError::Truncated)?;
        let len = header_len(preamble)?;
        Self::of_bytes(rest.get(..len).ok_or(DecodeError::Truncated)?)
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let header = match postcard::take_from_bytes::<Self>(bytes) {
            Ok((header, [])) => header,
            _ => return Err(DecodeError::BadHeader),
        };
        match header.contradiction() {
            Some(what) => Err(DecodeError::Contradiction(what)),
            None => Ok(header),
        }
    }

    /// The window, if it is one that this machine could have.
    pub fn window(&self) -> Option<PageRange> {
        PageRange::new(
            usize::try_from(self.window_start).ok()?,
            usize::try_from(self.window_pages).ok()?,
        )
    }

    /// What contradicts itself in it.
    fn contradiction(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Full if self.id.increment != 0 => Some("a full checkpoint has increment 0"),
            Kind::Incremental { base } if base >= self.id.increment => {
                Some("an increment needs an earlier one")
            }
            _ => None,
        }
    }
}

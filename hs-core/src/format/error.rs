//! What can be wrong with a checkpoint.

use core::fmt;

use super::header::FORMAT_VERSION;

/// What was wrong with a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// It does not begin as one.
    BadMagic,
    /// Its format is of another version.
    WrongVersion {
        /// Which.
        found: u16,
    },
    /// The length of the header cannot be.
    HeaderLength(u16),
    /// The header cannot be read.
    BadHeader,
    /// The header contradicts itself.
    Contradiction(&'static str),
    /// It is of another checkpoint window.
    WrongWindow,
    /// There is more of something than this node takes.
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: u64,
        /// How many it takes.
        limit: u64,
    },
    /// A section that must be understood is of a kind that is not known.
    UnknownSection(u8),
    /// A section comes twice, too early or too late.
    SectionOrder(u8),
    /// A section's length cannot be.
    SectionLength {
        /// Its kind.
        kind: u8,
        /// Its length.
        len_bytes: u32,
    },
    /// Bits that mean nothing are set.
    Reserved,
    /// A worker's address is none.
    BadThread,
    /// A descriptor's record is none, or its number is an earlier one's. Its index.
    BadDescriptor(u32),
    /// A signal's record is none, or the signal is an earlier one's. Its index.
    BadSignal(u32),
    /// A memory area is empty, outside the window, or overlaps or precedes the one before it. Its index.
    BadArea(u32),
    /// A full checkpoint does not have as many pages as its areas.
    NotFull {
        /// Pages of the areas.
        areas: u64,
        /// Pages of the checkpoint.
        pages: u64,
    },
    /// A run of pages is empty or of unknown content. Its first page's number.
    BadRun(u32),
    /// The difference to this page is none: out of order, out of the page, or cut off. Its number.
    BadDifference(u64),
    /// The LZ4 block of this page is none, or not of one page. Its number.
    BadBlock(u64),
    /// A page comes again, or after a later one. Its number.
    PageOrder(u64),
    /// A page is in no area of the checkpoint, or outside the window. Its number.
    PageUnlisted(u64),
    /// There are more or fewer pages than the header said.
    PageCount {
        /// What it said.
        stated: u64,
        /// How many there are, as far as was read.
        found: u64,
    },
    /// It is longer than any that this node takes.
    TooLong {
        /// What it takes.
        limit: u64,
    },
    /// It is not as long as its end says.
    TotalLength {
        /// What that says.
        stated: u64,
        /// How long it is.
        found: u64,
    },
    /// The checksum does not match: it was damaged.
    Checksum {
        /// As sent.
        stated: u32,
        /// As computed.
        found: u32,
    },
    /// Bytes follow its end.
    TrailingBytes,
    /// It ends too early.
    Truncated,
    /// It was refused before, and more of it came.
    Refused,
    /// No memory is left to decode it.
    OutOfMemory,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::BadMagic => f.write_str("it does not begin like a checkpoint"),
            DecodeError::WrongVersion { found } => {
                write!(
                    f,
                    "its format has version {found}, this build knows {FORMAT_VERSION}"
                )
            }
            DecodeError::HeaderLength(len) => write!(f, "a header of {len} bytes cannot be"),
            DecodeError::BadHeader => f.write_str("the header cannot be read"),
            DecodeError::Contradiction(what) => write!(f, "the header contradicts itself: {what}"),
            DecodeError::WrongWindow => f.write_str("it is of another checkpoint window"),
            DecodeError::TooMany { what, count, limit } => {
                write!(f, "it has {count} {what}, this node takes {limit}")
            }
            DecodeError::UnknownSection(kind) => write!(f, "a required section has the unknown kind {kind}"),
            DecodeError::SectionOrder(kind) => write!(f, "a section of kind {kind} is out of place"),
            DecodeError::SectionLength { kind, len_bytes } => {
                write!(f, "a section of kind {kind} cannot have {len_bytes} bytes")
            }
            DecodeError::Reserved => f.write_str("bits are set that mean nothing"),
            DecodeError::BadThread => f.write_str("a worker's address is none"),
            DecodeError::BadDescriptor(index) => write!(f, "descriptor {index} is none, or there twice"),
            DecodeError::BadSignal(index) => write!(f, "signal {index} is none, or there twice"),
            DecodeError::BadArea(index) => write!(f, "memory area {index} is out of place"),
            DecodeError::NotFull { areas, pages } => {
                write!(
                    f,
                    "it is full, but has {pages} pages where its areas have {areas}"
                )
            }
            DecodeError::BadRun(page) => write!(f, "the run at page {page} is empty or of unknown content"),
            DecodeError::BadDifference(page) => write!(f, "the difference to page {page} is none"),
            DecodeError::BadBlock(page) => write!(f, "the LZ4 block of page {page} is none of one page"),
            DecodeError::PageOrder(page) => write!(f, "page {page} is out of order"),
            DecodeError::PageUnlisted(page) => write!(f, "page {page} is in no area of it"),
            DecodeError::PageCount { stated, found } => {
                write!(f, "the header promised {stated} pages, there are {found}")
            }
            DecodeError::TooLong { limit } => write!(f, "it is longer than {limit} bytes"),
            DecodeError::TotalLength { stated, found } => {
                write!(f, "its end says {stated} bytes, it has {found}")
            }
            DecodeError::Checksum { stated, found } => {
                write!(
                    f,
                    "it is damaged: checksum {found:#010x} instead of {stated:#010x}"
                )
            }
            DecodeError::TrailingBytes => f.write_str("bytes follow its end"),
            DecodeError::Truncated => f.write_str("it ends too early"),
            DecodeError::Refused => f.write_str("it was refused before"),
            DecodeError::OutOfMemory => f.write_str("no memory is left to take it in"),
        }
    }
}

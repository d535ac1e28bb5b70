//! What comes out of a decoder.

use alloc::vec::Vec;

use super::difference::Difference;
use super::header::Header;
use super::section::Content;
use crate::platform::PageRange;
use crate::registry::descriptor::Descriptor;
use crate::registry::signal::SignalAction;
use crate::registry::thread::Worker;

/// What a decoder found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item<'a> {
    /// The header, checked against itself and the limits; build, application and term are the caller's to judge.
    Header(Header),
    /// The registered workers.
    Threads(Vec<Worker>),
    /// The registered descriptors, each of another number.
    Descriptors(Vec<Descriptor>),
    /// The registered signals, each once.
    Signals(Vec<SignalAction>),
    /// The memory areas, ascending.
    Areas(Vec<PageRange>),
    /// A section whose kind is not known, and need not be.
    Skipped {
        /// Its kind.
        kind: u8,
        /// Its length.
        len_bytes: u32,
    },
    /// These pages come next, in this form. If they are zero, that is all that comes of them.
    Run(PageRange, Content),
    /// What is different in a page.
    Difference {
        /// The page's address.
        page: usize,
        /// The difference.
        difference: Difference<'a>,
    },
    /// Part of a page that is raw, which comes in order; or all of one that was an LZ4 block.
    Bytes {
        /// The page's address.
        page: usize,
        /// Where in it these bytes belong.
        offset: usize,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// It is whole and undamaged.
    End {
        /// Its length.
        total_bytes: u64,
    },
}

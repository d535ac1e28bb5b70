//! An account of every block, to find wrong frees: for development.
//!
//! Blocks have no headers, so that a class itself cannot tell a block's address from another: a block that is freed twice, or
//! to the wrong class, is given out twice some time later. The ledger knows where each block begins and how long it is, and
//! names the culprit at once.
//!
//! It lies outside checkpointable memory, where a stray write into a class does not reach it. After a restore it knows only
//! what was given out since; an older block is held against the free lists.
//!
//! Kept if [`check_blocks`] says so when the library starts: by default in builds with debug assertions.

use alloc::collections::BTreeMap;
use core::alloc::Layout;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use super::buckets::Bucket;
use super::{ClassHeader, ClassId};
use crate::platform::PageRange;
use crate::raw::Words;

static CHECKED: AtomicBool = AtomicBool::new(cfg!(debug_assertions));

/// Whether blocks are accounted for from the next [`start`](crate::start) or [`adopt`](crate::adopt) on, so that wrong frees
/// end the program with a report. It costs a lookup and an allocation for each block.
pub fn check_blocks(on: bool) {
    CHECKED.store(on, Ordering::Relaxed);
}

/// The ledger of a library that was just started, if one is to be kept.
pub(crate) fn of_fresh() -> Option<Ledger> {
    CHECKED.load(Ordering::Relaxed).then(|| Ledger::new(true))
}

/// The ledger of a restored library, if one is to be kept.
pub(crate) fn of_restored() -> Option<Ledger> {
    CHECKED.load(Ordering::Relaxed).then(|| Ledger::new(false))
}

/// What is wrong with a free (or a resize).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// No block begins there any more, or ever did.
    NotInUse,
    /// The address is not the class's.
    Foreign { owner: Option<ClassId> },
    /// It lies inside a block.
    Interior { block: usize, len_bytes: usize },
    /// The block was given out for another layout.
    WrongLayout { len_bytes: usize },
}

/// A [`Fault`] with what was asked.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) class: ClassId,
    pub(super) block: usize,
    pub(super) layout: Layout,
    pub(super) fault: Fault,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (class, block, bytes) = (self.class, self.block, self.layout.size());
        write!(f, "{class}: {block:#x} ({bytes} bytes) cannot be freed: ")?;
        match self.fault {
            Fault::NotInUse => f.write_str("it was freed twice, or was never given out"),
            Fault::Foreign { owner: Some(owner) } => write!(f, "it is a foreign pointer, of {owner}"),
            Fault::Foreign { owner: None } => f.write_str("it is a foreign pointer, of no class"),
            Fault::Interior { block, len_bytes } => {
                write!(f, "it lies inside the block of {len_bytes} bytes at {block:#x}")
            }
            Fault::WrongLayout { len_bytes } => write!(
                f,
                "wrong layout: the block is {len_bytes} bytes long, aligned as such blocks are"
            ),
        }
    }
}

/// What is given out.
#[derive(Debug)]
pub(crate) struct Ledger {
    blocks: BTreeMap<usize, Bucket>,
    /// Everything was given out since it was begun.
    complete: bool,
}

impl Ledger {
    fn new(complete: bool) -> Self {
        Self {
            blocks: BTreeMap::new(),
            complete,
        }
    }

    /// A block was given out, or has changed its length.
    pub(super) fn enter(&mut self, block: usize, bucket: Bucket) {
        self.blocks.insert(block, bucket);
    }

    /// A block was freed.
    pub(super) fn remove(&mut self, block: usize) {
        self.blocks.remove(&block);
    }

    /// Pages were given back, with whatever lay in them.
    pub(super) fn forget(&mut self, range: PageRange) {
        let mut behind = self.blocks.split_off(&range.start());
        self.blocks.append(&mut behind.split_off(&range.end()));
    }

    /// Whether a block of `bucket`, in an area of the class of `header`, may be freed.
    pub(super) fn check(
        &self,
        header: &ClassHeader,
        words: &Words<'_>,
        block: usize,
        bucket: Bucket,
    ) -> Result<(), Fault> {
        match self.blocks.range(..=block).next_back() {
            Some((start, found)) if *start == block && *found == bucket => return Ok(()),
            Some((start, found)) if *start == block => {
                return Err(Fault::WrongLayout {
                    len_bytes: found.block_bytes(),
                });
            }
            Some((start, found)) if block < start + found.block_bytes() => {
                return Err(Fault::Interior {
                    block: *start,
                    len_bytes: found.block_bytes(),
                });
            }
            _ => {}
        }
        let end = block + bucket.block_bytes();
        let is_older = !self.complete
            && block.is_multiple_of(bucket.align())
            && self.blocks.range(block..end).next().is_none()
            && !header.buckets.is_free(words, header.total_bytes, block, end);
        if is_older { Ok(()) } else { Err(Fault::NotInUse) }
    }
}

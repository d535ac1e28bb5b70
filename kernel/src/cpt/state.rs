//! The installed ranges, the spans and the live children, under one lock; and what is counted of them.

use hs_core::ranges::Ranges;
use kernel_core::PageSet;
use kernel_core::copy::Copy;
use kernel_core::scan::Scan;

use super::child::Seat;
use super::snapshot::Snapshot;
use super::span::{Epoch, SpanIndex, Spans};
use super::{CHILDREN_MAX, Mode};
use crate::sync::IrqMutex;

/// All that checkpoints are made of. What `cptfork` touches comes first, so that it lies on one page with what else
/// it touches (`link.ld`); the table of ranges, which is long, last.
#[repr(C)]
pub(super) struct State {
    pub(super) mode: Mode,
    pub(super) scan: Scan,
    pub(super) copy: Copy,
    /// Of the newest `cptfork`.
    pub(super) epoch: Epoch,
    /// Pages of all installed ranges.
    pub(super) installed_pages: usize,
    /// Dirty pages that the newest child to end had.
    pub(super) dirty_lately: usize,
    pub(super) counters: Counters,
    pub(super) spans: Spans,
    /// The pool.
    pub(super) seats: [Option<Seat>; CHILDREN_MAX],
    /// Who is at work in it.
    pub(super) children: [Option<Snapshot>; CHILDREN_MAX],
    /// Pages whose translations the pause is to drop.
    pub(super) stale: Stale,
    pub(super) ranges: Ranges,
}

/// Pages that were modified, by which the processor may still hold translations that allow to write without a word.
pub(super) struct Stale {
    addresses: [usize; Stale::FEW],
    /// More than there is room for: all translations are to be dropped.
    count: usize,
}

impl Stale {
    /// So many pages are dropped one by one. An emulator, which looks all code up anew after it has dropped everything, takes
    /// 80 µs longer after that; a page takes it 0.2 µs. A processor takes about as long for so many pages as for all.
    const FEW: usize = 24;

    pub(super) const fn new() -> Self {
        Self {
            addresses: [0; Stale::FEW],
            count: 0,
        }
    }

    /// Adds `pages` of the span.
    pub(super) fn add(&mut self, index: SpanIndex, pages: PageSet) {
        for page in pages.iter() {
            if let Some(place) = self.addresses.get_mut(self.count) {
                *place = index.page(page);
            } else {
                self.count = usize::MAX;
                return;
            }
            self.count += 1;
        }
    }

    /// The pages, which are forgotten; `None` if they were too many.
    pub(super) fn take(&mut self) -> Option<&[usize]> {
        let count = core::mem::take(&mut self.count);
        self.addresses.get(..count)
    }
}

#[unsafe(link_section = ".hot.2.state")]
pub(super) static STATE: IrqMutex<State> = IrqMutex::new(State {
    mode: Mode::Lazy,
    scan: Scan::SCALAR,
    copy: Copy::Moves,
    epoch: Epoch(0),
    stale: Stale::new(),
    ranges: Ranges::new(),
    installed_pages: 0,
    spans: Spans::new(),
    seats: [None; CHILDREN_MAX],
    children: [const { None }; CHILDREN_MAX],
    dirty_lately: 0,
    counters: Counters::ZERO,
});

/// Figures of the checkpoint machinery since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Write faults of the parent, of whatever kind.
    pub parent_faults: u64,
    /// First writes into a span that no child had settled yet (`lazy`).
    pub span_faults: u64,
    /// Write faults on protected pages.
    pub write_faults: u64,
    /// Of these, the ones that copied a page.
    pub copies: u64,
    /// Write faults on pages that had become writable meanwhile: the processor's translation was out of date.
    pub stale_faults: u64,
    /// Pages copied before they could fault, because they do so in every epoch.
    pub hot_copies: u64,
    /// Pages that children looked at by fault.
    pub child_faults: u64,
    /// Checkpoints cancelled because frames ran dry.
    pub cancelled: u64,
}

impl Counters {
    const ZERO: Counters = Counters {
        parent_faults: 0,
        span_faults: 0,
        write_faults: 0,
        copies: 0,
        stale_faults: 0,
        hot_copies: 0,
        child_faults: 0,
        cancelled: 0,
    };

    /// What was counted since `earlier`.
    pub fn since(self, earlier: Counters) -> Counters {
        Counters {
            parent_faults: self.parent_faults - earlier.parent_faults,
            span_faults: self.span_faults - earlier.span_faults,
            write_faults: self.write_faults - earlier.write_faults,
            copies: self.copies - earlier.copies,
            stale_faults: self.stale_faults - earlier.stale_faults,
            hot_copies: self.hot_copies - earlier.hot_copies,
            child_faults: self.child_faults - earlier.child_faults,
            cancelled: self.cancelled - earlier.cancelled,
        }
    }
}

/// Figures since boot.
pub fn counters() -> Counters {
    STATE.lock().counters
}

/// Spans that a walk over all of them comes by.
pub fn known_spans() -> usize {
    STATE.lock().spans.known().len()
}

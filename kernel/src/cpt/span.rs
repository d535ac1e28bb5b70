//! What is known of each span of the window beside its page table: one page of notes, at a place that its number gives.
//!
//! ```text
//! window   │ span 0, 2 MiB │ span 1 │ span 2 │ …                 the application's pages
//! SPANS    │ notes 0, 4 KiB│        │ notes 2│ …                 mapped when the first page of the span is
//! ```
//!
//! All that a checkpoint needs is set aside when memory is mapped, a five-hundredth of it: neither `cptfork` nor a fault
//! allocates, and a set of pages is eight words. The notes' page stays when the span's pages go, as its page table does.

use alloc::vec::Vec;
use core::ops::Range;

use hs_core::platform::PageRange;
use kernel_core::{PageSet, SPAN_PAGES};
use x86_64::PhysAddr;

use super::CHILDREN_MAX;
use crate::mem::frames;
use crate::mem::kernel_root;
use crate::mem::layout::{PAGE_LEN, SPAN_LEN, SPANS, WINDOW};
use crate::mem::paging::DATA;

/// Counts the calls of `cptfork`; the first is 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Epoch(pub(super) u64);

/// A span of the window, by its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct SpanIndex(u32);

impl SpanIndex {
    /// The span in which `address`, inside the window, lies.
    pub(super) fn of(address: usize) -> SpanIndex {
        SpanIndex(((address - WINDOW.start) / SPAN_LEN) as u32)
    }

    /// The one after it.
    pub(super) fn next(self) -> SpanIndex {
        SpanIndex(self.0 + 1)
    }

    /// Address of its first byte.
    pub(super) fn start(self) -> usize {
        WINDOW.start + self.0 as usize * SPAN_LEN
    }

    /// Address of its page `page`.
    pub(super) fn page(self, page: usize) -> usize {
        self.start() + page * PAGE_LEN
    }
}

/// The number of the page at `address` within its span.
pub(super) fn page_of(address: usize) -> usize {
    address / PAGE_LEN % SPAN_PAGES
}

/// `range`, span by span: each with the numbers of its pages.
pub(super) fn pieces(range: PageRange) -> impl Iterator<Item = (SpanIndex, Range<usize>)> {
    let mut address = range.start();
    core::iter::from_fn(move || {
        (address < range.end()).then(|| {
            let (span, first) = (SpanIndex::of(address), page_of(address));
            let end = range.end().min(span.start() + SPAN_LEN);
            let count = (end - address) / PAGE_LEN;
            address = end;
            (span, first..first + count)
        })
    })
}

/// What one child has of a span.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpanView {
    /// Modified before its `cptfork`: its dirty list.
    pub(super) dirty: PageSet,
    /// What it may look at.
    pub(super) seen: PageSet,
    /// Of what it may look at, what it has no frame of its own for yet: a write must leave it one.
    pub(super) wanted: PageSet,
}

impl SpanView {
    pub(super) const EMPTY: SpanView = SpanView {
        dirty: PageSet::EMPTY,
        seen: PageSet::EMPTY,
        wanted: PageSet::EMPTY,
    };
}

/// The notes on a span. All bits zero is a span of which nothing is known.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Span {
    /// Everything that was modified before this epoch's `cptfork` is on some child's list.
    pub(super) settled: Epoch,
    /// When pages were last added to installed ranges, or taken out of them: the newest `cptfork` by then.
    pub(super) changed: Epoch,
    /// Children that have a view here: bit by slot.
    pub(super) viewers: u16,
    /// Mapped pages.
    pub(super) mapped: PageSet,
    /// Pages of installed ranges.
    pub(super) installed: PageSet,
    /// Dirty without the hardware's saying so: new, of a checkpoint that was lost, or recorded by a fault.
    pub(super) soft_dirty: PageSet,
    /// Copied by a write fault since the span was settled.
    pub(super) faulted: PageSet,
    /// Modified in every epoch lately, and copied by a fault in one of them.
    pub(super) hot: PageSet,
    pub(super) views: [SpanView; CHILDREN_MAX],
}

const _: () = assert!(size_of::<Span>() <= PAGE_LEN && CHILDREN_MAX <= 16);

impl Span {
    /// The slots of the children that have a view here, ascending.
    pub(super) fn viewers(&self) -> impl Iterator<Item = usize> + use<> {
        let mut left = self.viewers;
        core::iter::from_fn(move || {
            let slot = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            (slot < CHILDREN_MAX).then_some(slot)
        })
    }

    /// Whether any child still wants `page`.
    pub(super) fn is_wanted(&self, page: usize) -> bool {
        self.viewers().any(|slot| self.views[slot].wanted.contains(page))
    }

    /// What any child still wants.
    pub(super) fn wanted(&self) -> PageSet {
        self.viewers()
            .fold(PageSet::EMPTY, |all, slot| all | self.views[slot].wanted)
    }

    /// The child of `slot` has nothing here any more.
    pub(super) fn forget(&mut self, slot: usize) -> SpanView {
        self.viewers &= !(1 << slot);
        core::mem::replace(&mut self.views[slot], SpanView::EMPTY)
    }
}

/// The spans in which something is mapped, or a child still looks at what was.
pub(super) struct Spans {
    /// Ascending.
    known: Vec<SpanIndex>,
}

impl Spans {
    pub(super) const fn new() -> Self {
        Spans { known: Vec::new() }
    }

    /// All spans with notes, ascending.
    pub(super) fn known(&self) -> &[SpanIndex] {
        &self.known
    }

    /// The first span with notes from `from` on.
    pub(super) fn next(&self, from: SpanIndex) -> Option<SpanIndex> {
        let at = self.known.partition_point(|span| *span < from);
        self.known.get(at).copied()
    }

    /// The notes on `index`, if there are any.
    pub(super) fn get(&mut self, index: SpanIndex) -> Option<&mut Span> {
        self.known.binary_search(&index).ok()?;
        Some(self.known_mut(index))
    }

    /// The notes on `index`, which is known.
    pub(super) fn known_mut(&mut self, index: SpanIndex) -> &mut Span {
        debug_assert!(self.known.binary_search(&index).is_ok());
        // SAFETY: mapped and zeroed by `create` before it became known; this borrow of `self`, of which there is one, is
        // the only way to them.
        unsafe { &mut *((SPANS + index.0 as usize * PAGE_LEN) as *mut Span) }
    }

    /// Strikes a span off the list in which nothing is mapped and nobody looks at anything: who walks over all spans need not
    /// come by it.
    pub(super) fn forget_if_empty(&mut self, index: SpanIndex) {
        let span = self.known_mut(index);
        if !span.mapped.is_empty() || span.viewers != 0 {
            return;
        }
        (span.soft_dirty, span.hot, span.faulted) = (PageSet::EMPTY, PageSet::EMPTY, PageSet::EMPTY);
        self.known.retain(|known| *known != index);
    }

    /// The notes on `index`, new if there are none: settled as of `epoch`. `None` if memory is used up.
    pub(super) fn create(&mut self, index: SpanIndex, epoch: Epoch) -> Option<&mut Span> {
        if let Err(at) = self.known.binary_search(&index) {
            self.known.try_reserve(1).ok()?;
            let place = SPANS + index.0 as usize * PAGE_LEN;
            // SAFETY: the entries there belong to this list, which we have.
            let entry = unsafe { kernel_root().entry_or_create(place, &mut frames::allocate) }.ok()?;
            // A span that was forgotten has left its notes, in which nothing is noted.
            if entry.is_unused() {
                let frame = frames::allocate_zeroed()?;
                entry.set_addr(PhysAddr::new(frame.address()), DATA);
            }
            self.known.insert(at, index);
            self.known_mut(index).settled = epoch;
        }
        Some(self.known_mut(index))
    }
}

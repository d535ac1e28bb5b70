//! Settling a span: what was modified in it goes on the list of the child that it belongs to, and its pages are frozen for
//! the children that may look at them. Once for each span and `cptfork`, by whoever comes first: the child as it walks, or
//! the parent's first write fault.
//!
//! A span that is not settled has had no write since the oldest `cptfork` that it is not settled for: the first write
//! would have settled it. So what its entries say is what they said then, and all of it is that oldest child's; for younger
//! ones nothing in it is dirty. For the same reason whatever changes a span's notes settles it first.
//!
//! ```text
//!                           dirty, cold        dirty, hot           clean
//!   parent's entry          r-- not dirty      rw- not dirty        rw-  (never cost a fault)
//!   the child's             wants it           has a copy           not in view (whole view: r--, wants it)
//! ```
//!
//! **Accessed bits.** A span whose directory entry was not used since it was last settled holds nothing modified. That may
//! be trusted because whoever clears the bit in the parent's address space drops the processor's copies of upper entries
//! afterwards ([`paging::flush`] does; so does the reload of CR3 between child and parent): the next write must walk through the
//! entry and set it.
//!
//! **Dirty bits.** From `cptfork` until the span is settled no translation of it is writable, so clearing them needs no
//! flush; making an entry writable again needs none either, at worst a fault finds that nothing was to be done.

use hs_core::platform::View;
use kernel_core::{PageSet, copy, scan};
use x86_64::structures::paging::PageTableFlags as Flags;

use super::snapshot::Snapshot;
use super::span::{Epoch, Span, SpanIndex, SpanView};
use super::state::State;
use super::{CHILDREN_MAX, Mode, Other, lazy};
use crate::mem::frames::{self, PhysFrame};
use crate::mem::kernel_root;
use crate::mem::paging;

const PRESENT: u64 = Flags::PRESENT.bits();
const WRITABLE: u64 = Flags::WRITABLE.bits();
/// The part of an entry that is the frame's address.
pub(super) const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// A hot page is put to the test every so many epochs, each page in its turn: one that was copied ahead cannot show that it
/// would not have faulted.
const HOT_EPOCHS: usize = 32;

/// Most pages that are copied while the application waits for its write.
pub(super) const FAULT_COPIES_MAX: usize = 8;

/// Who settles a span: how much it may cost, and whether the processor's copies of the entries are dropped anyway.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Settler {
    /// The parent's write fault: the application waits for it.
    Fault,
    /// The child on its walk, or the kernel on its way to something else.
    Walk,
    /// `cptfork` itself, which copies so many dirty pages so that they need not be frozen.
    Copying(usize),
}

impl Settler {
    /// Most pages copied ahead.
    const fn copies_max(self) -> usize {
        match self {
            // The page that is written to may have to be copied too.
            Settler::Fault => FAULT_COPIES_MAX - 1,
            Settler::Walk => 64,
            Settler::Copying(most) => most,
        }
    }
}

impl State {
    /// Settles the span for every child that it is not settled for. Afterwards it can be written to again. Returns how many
    /// pages were copied ahead.
    pub(super) fn settle(&mut self, index: SpanIndex, settler: Settler) -> usize {
        let epoch = self.epoch;
        let span = self.spans.known_mut(index);
        if span.settled == epoch {
            return 0;
        }
        let since = span.settled;
        span.settled = epoch;
        let dirty = self.take_dirty(index, settler);
        // What older children want is frozen already.
        let given = self.give_views(index, since, dirty);
        let copied = self.keep_hot(index, dirty, settler);
        let wanted = self.spans.known_mut(index).wanted();
        freeze(index, dirty, given & wanted);
        if self.mode == Mode::Lazy {
            lazy::open(kernel_root(), &self.spans, index.start());
        }
        if settler == Settler::Walk && paging::current() == kernel_root() {
            paging::flush(index.start());
        }
        copied
    }

    /// What was modified since the span was last settled; from here on it counts as clean, but for the entries.
    fn take_dirty(&mut self, index: SpanIndex, settler: Settler) -> PageSet {
        let (mode, way) = (self.mode, self.scan);
        let span = self.spans.known_mut(index);
        let mut dirty = core::mem::take(&mut span.soft_dirty);
        // SAFETY: the state's lock is held.
        let directory_entry = unsafe { kernel_root().upper_entry(index.start(), 1) };
        if let Some(entry) = directory_entry
            && mode == Mode::Lazy
            && entry.flags().contains(Flags::ACCESSED)
        {
            entry.set_flags(entry.flags() - Flags::ACCESSED);
            // SAFETY: as above.
            if let Some(entries) = unsafe { kernel_root().entries(index.start()) } {
                // Interrupts are off: nobody's vector registers are lost.
                let modified = way.dirty(entries);
                if matches!(settler, Settler::Copying(_)) {
                    // Those that are not installed too: with no translation left that knows a page for modified, the next
                    // write to any page of the span walks through the entry above.
                    self.stale.add(index, modified);
                }
                dirty |= modified & span.installed;
            }
        }
        dirty
    }

    /// Gives the children for whom the span was not settled their views of it: the oldest has what is dirty. Returns all
    /// that they may look at.
    fn give_views(&mut self, index: SpanIndex, since: Epoch, dirty: PageSet) -> PageSet {
        let mut given = PageSet::EMPTY;
        let span = self.spans.known_mut(index);
        let pending = |child: &Snapshot| child.epoch > since;
        let oldest = self
            .children
            .iter()
            .flatten()
            .filter(|child| pending(child))
            .map(|child| child.epoch)
            .min();
        for slot in 0..CHILDREN_MAX {
            if let Some(child) = self.children[slot].as_mut()
                && pending(child)
            {
                let own = if Some(child.epoch) == oldest {
                    dirty
                } else {
                    PageSet::EMPTY
                };
                given |= give_view(span, slot, child, own);
            }
        }
        given
    }

    /// Copies hot pages for those who want them, so that they need not be frozen.
    fn keep_hot(&mut self, index: SpanIndex, dirty: PageSet, settler: Settler) -> usize {
        let tested = PageSet::every(HOT_EPOCHS, self.epoch.0 as usize % HOT_EPOCHS);
        let span = self.spans.known_mut(index);
        span.hot = ((span.hot - tested) | core::mem::take(&mut span.faulted)) & dirty;
        let candidates = match settler {
            Settler::Copying(_) => dirty,
            Settler::Fault | Settler::Walk => span.hot,
        };
        if candidates.is_empty() {
            return 0;
        }
        let ahead = (candidates & span.wanted()).first(settler.copies_max());
        let copied = self.copy_for_children(index, ahead);
        self.counters.hot_copies += copied as u64;
        copied
    }

    /// Leaves a copy of each of `pages` to every child that wants it. Returns how many were copied, the lowest first: fewer
    /// than there are when frames run out.
    pub(super) fn copy_for_children(&mut self, index: SpanIndex, pages: PageSet) -> usize {
        let viewers = self.spans.known_mut(index).viewers;
        if pages.is_empty() {
            0
        } else if viewers.is_power_of_two() {
            self.copy_for_child(index, viewers.trailing_zeros() as usize, pages)
        } else {
            pages
                .iter()
                .take_while(|page| self.copy_for_several(index, *page))
                .count()
        }
    }

    /// As [`copy_for_children`](State::copy_for_children), where one child alone has a view of the span: nearly always.
    fn copy_for_child(&mut self, index: SpanIndex, slot: usize, pages: PageSet) -> usize {
        let view = &mut self.spans.known_mut(index).views[slot];
        let pages = pages & view.wanted;
        if pages.is_empty() {
            return 0;
        }
        // SAFETY: the state's lock is held.
        let parents = unsafe { kernel_root().entries(index.start()) };
        let (Some(parents), Some(child)) = (parents, self.children[slot].as_mut()) else {
            return 0;
        };
        let Ok(own) = child.table(index.start()) else {
            self.cancel(slot);
            return 0;
        };
        let mut copied = 0;
        for page in pages.iter().filter(|page| parents[*page] & PRESENT != 0) {
            let Some(frame) = child.take_frame() else {
                break;
            };
            // SAFETY: the new frame is ours alone; nobody writes to the parent's while the lock is held.
            unsafe { copy::page(self.copy, frame_of(parents[page]).bytes(), frame.bytes()) };
            own[page] = Snapshot::entry_for(frame);
            view.wanted.remove(page);
            copied += 1;
        }
        copied
    }

    /// Leaves one copy of the page to all children that want it; `false` if there is no frame for it.
    fn copy_for_several(&mut self, index: SpanIndex, page: usize) -> bool {
        let span = self.spans.known_mut(index);
        let mut wanting = span
            .viewers()
            .filter(|slot| span.views[*slot].wanted.contains(page))
            .peekable();
        if wanting.peek().is_none() {
            return true;
        }
        let Some(parents) = parents_frame(index, page) else {
            return false;
        };
        // Whoever has a frame set aside pays for all.
        let Some(own) = wanting.find_map(|slot| self.children[slot].as_mut()?.take_frame()) else {
            return false;
        };
        // SAFETY: as in `copy_for_child`.
        unsafe { copy::page(self.copy, parents.bytes(), own.bytes()) };
        self.leave_to_children(index, page, own);
        true
    }

    /// Hands `frame`, of which the caller has the only hold, to every child that wants the page.
    pub(super) fn leave_to_children(&mut self, index: SpanIndex, page: usize, frame: PhysFrame) {
        let span = self.spans.known_mut(index);
        let mut given = false;
        let mut failed = 0_u16;
        for slot in span.viewers() {
            let view = &mut span.views[slot];
            if !view.wanted.contains(page) {
                continue;
            }
            view.wanted.remove(page);
            match self.children[slot]
                .as_mut()
                .map(|child| child.give(index.page(page), frame))
            {
                Some(Ok(())) => {
                    // The first takes the caller's hold over.
                    if given {
                        frames::hold(frame);
                    }
                    given = true;
                }
                _ => failed |= 1 << slot,
            }
        }
        if !given {
            frames::release(frame);
        }
        for slot in (0..CHILDREN_MAX).filter(|slot| failed >> slot & 1 != 0) {
            self.cancel(slot);
        }
    }

    /// Ends the view of one child that wants the page, the youngest; whether there was one.
    pub(super) fn cancel_wanting(&mut self, index: SpanIndex, page: usize) -> bool {
        let span = self.spans.known_mut(index);
        let slot = span
            .viewers()
            .filter(|slot| span.views[*slot].wanted.contains(page))
            .max_by_key(|slot| self.children[*slot].as_ref().map(|child| child.epoch));
        slot.inspect(|slot| self.cancel(*slot)).is_some()
    }

    /// Ends the child's view. Its thread learns of it at its next look; its pages become dirty again when it ends. Walks over
    /// all that it has, in the fault of a write that found no frame.
    pub(super) fn cancel(&mut self, slot: usize) {
        match &mut self.children[slot] {
            Some(child) if !child.cancelled => child.cancelled = true,
            _ => return,
        }
        for at in 0..self.spans.known().len() {
            let index = self.spans.known()[at];
            let span = self.spans.known_mut(index);
            if span.viewers >> slot & 1 != 0 {
                let wanted = core::mem::take(&mut span.views[slot].wanted);
                if let Some(child) = &mut self.children[slot] {
                    child.release_span(index.start());
                }
                self.unfreeze(index, wanted);
            }
        }
        if let Some(child) = &mut self.children[slot] {
            child.release();
            if paging::current() == child.root {
                // SAFETY: it is loaded already; this drops the CPU's copies of what was just freed.
                unsafe { child.root.load() };
            }
        }
        self.counters.cancelled += 1;
    }

    /// As [`unfreeze`](State::unfreeze), for one page.
    pub(super) fn unfreeze_page(&mut self, index: SpanIndex, page: usize) {
        if self.mode == Mode::Lazy
            && !self.spans.known_mut(index).is_wanted(page)
            // SAFETY: the state's lock is held.
            && let Some(entries) = unsafe { kernel_root().entries(index.start()) }
            && entries[page] & PRESENT != 0
        {
            entries[page] |= WRITABLE;
        }
    }

    /// Makes those of `pages` writable again that nobody wants any more.
    pub(super) fn unfreeze(&mut self, index: SpanIndex, pages: PageSet) {
        // The thesis's cptfork does not, and where faults record what is modified they have to happen.
        if self.mode != Mode::Lazy || pages.is_empty() {
            return;
        }
        let still = self.spans.known_mut(index).wanted();
        // SAFETY: the state's lock is held.
        if let Some(entries) = unsafe { kernel_root().entries(index.start()) } {
            (pages - still).for_each(|page| {
                if entries[page] & PRESENT != 0 {
                    entries[page] |= WRITABLE;
                }
            });
        }
    }
}

/// Gives a child its view of a span in which `dirty` is its own. Returns what it may look at.
pub(super) fn give_view(span: &mut Span, slot: usize, child: &mut Snapshot, dirty: PageSet) -> PageSet {
    let mut seen = match child.view {
        View::Incremental | View::Copied => dirty,
        View::Whole => span.installed,
    };
    if child.other == Other::Cow {
        seen |= span.mapped - span.installed;
    }
    // A whole view's dirty pages are installed ones, too.
    if !seen.is_empty() {
        span.viewers |= 1 << slot;
        span.views[slot] = SpanView {
            dirty,
            seen,
            wanted: if child.cancelled { PageSet::EMPTY } else { seen },
        };
        child.dirty_pages += dirty.len() as u32;
    }
    seen
}

/// Clears the dirty bits of `dirty` and the right to write to `wanted`.
pub(super) fn freeze(index: SpanIndex, dirty: PageSet, wanted: PageSet) {
    if (dirty | wanted).is_empty() {
        return;
    }
    // SAFETY: the state's lock is held.
    if let Some(entries) = unsafe { kernel_root().entries(index.start()) } {
        (dirty & wanted).for_each(|page| entries[page] &= !(scan::DIRTY | WRITABLE));
        (dirty - wanted).for_each(|page| entries[page] &= !scan::DIRTY);
        (wanted - dirty).for_each(|page| entries[page] &= !WRITABLE);
    }
}

/// The parent's frame of the page, if it is mapped.
pub(super) fn parents_frame(index: SpanIndex, page: usize) -> Option<PhysFrame> {
    // SAFETY: the state's lock is held.
    let entry = unsafe { kernel_root().entries(index.start()) }?[page];
    (entry & PRESENT != 0).then(|| frame_of(entry))
}

fn frame_of(entry: u64) -> PhysFrame {
    PhysFrame::at(entry & FRAME)
}

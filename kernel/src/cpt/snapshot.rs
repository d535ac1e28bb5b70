//! One live child's frozen memory: which pages are in its view, and which it holds frames for already.

use alloc::vec::Vec;

use hs_core::platform::PageRange;
use x86_64::PhysAddr;
use x86_64::structures::paging::PageTableFlags as Flags;

use crate::mem::frames::{self, PhysFrame};
use crate::mem::layout::{PAGE_LEN, SPAN_LEN};
use crate::mem::paging::Root;

/// No frame was left for one of the child's tables.
pub(super) struct NoTable;

/// The frozen memory of a child.
pub(super) struct Snapshot {
    /// The child's address space: what it holds is mapped here, read-only.
    pub(super) root: Root,
    /// What it may see, ascending.
    view: Vec<PageRange>,
    /// What was modified before its cptfork, ascending and coalesced.
    pub(super) dirty: Vec<PageRange>,
    /// Frames set aside for it that are not used yet.
    reserved: usize,
    /// Memory ran dry: it holds nothing any more.
    pub(super) cancelled: bool,
}

/// What freezing a view may cost, in frames.
pub(super) struct Cost {
    /// The child's tables, its root among them.
    pub(super) tables: usize,
    /// A copy of every page.
    pub(super) copies: usize,
}

/// Most frames that freezing `view` may cost.
pub(super) fn cost_of(view: &[PageRange]) -> Cost {
    // How many units of `len` bytes the view touches. It ascends: only the last one can be touched again.
    let touched = |len: usize| {
        let (mut next, mut count) = (0, 0);
        for range in view {
            let first = (range.start() / len).max(next);
            next = (range.end() - 1) / len + 1;
            count += next - first;
        }
        count
    };
    Cost {
        // The two lower levels; then one table of the third, and the root.
        tables: touched(SPAN_LEN) + touched(SPAN_LEN * 512) + 2,
        copies: view.iter().map(|range| range.pages()).sum(),
    }
}

impl Snapshot {
    /// A snapshot in `root` that holds nothing yet. `reserved` frames were set aside for it.
    pub(super) fn new(root: Root, view: Vec<PageRange>, dirty: Vec<PageRange>, reserved: usize) -> Self {
        Snapshot {
            root,
            view,
            dirty,
            reserved,
            cancelled: false,
        }
    }

    /// Whether the page at `address` is in the view.
    pub(super) fn sees(&self, address: usize) -> bool {
        let after = self.view.partition_point(|range| range.start() <= address);
        after
            .checked_sub(1)
            .is_some_and(|index| self.view[index].contains(address))
    }

    /// The frame that the child holds for the page at `address`.
    pub(super) fn held(&self, address: usize) -> Option<PhysFrame> {
        // SAFETY: the state's lock is held by whoever can reach a snapshot.
        let entry = unsafe { self.root.entry(address) }?;
        entry
            .flags()
            .contains(Flags::PRESENT)
            .then(|| PhysFrame::at(entry.addr().as_u64()))
    }

    /// Whether the page is in the view and its frame is still to be given to the child.
    pub(super) fn needs(&self, address: usize) -> bool {
        !self.cancelled && self.sees(address) && self.held(address).is_none()
    }

    /// A frame out of what was set aside for this child.
    pub(super) fn take_reserved(&mut self) -> Option<PhysFrame> {
        if self.reserved == 0 {
            return None;
        }
        let frame = frames::allocate_reserved()?;
        self.reserved -= 1;
        Some(frame)
    }

    /// Gives the child a hold on `frame` as its page at `address`.
    pub(super) fn give(&mut self, address: usize, frame: PhysFrame) -> Result<(), NoTable> {
        let root = self.root;
        let mut source = || self.take_reserved().or_else(frames::allocate);
        // SAFETY: as in `held`.
        let entry = unsafe { root.entry_or_create(address, &mut source) }.map_err(|_| NoTable)?;
        debug_assert!(entry.is_unused());
        frames::hold(frame);
        entry.set_addr(PhysAddr::new(frame.address()), Flags::PRESENT | Flags::NO_EXECUTE);
        Ok(())
    }

    /// Lets go of every frame and table but the root, and of what is set aside.
    pub(super) fn release(&mut self) {
        // SAFETY: as in `held`; no CPU walks these tables while the lock is held, and the child's next
        // access faults because its TLB is dropped when it is switched to, or by the caller.
        unsafe {
            self.root.each_window_table(|_, table| {
                for entry in table
                    .iter_mut()
                    .filter(|entry| entry.flags().contains(Flags::PRESENT))
                {
                    frames::release(PhysFrame::at(entry.addr().as_u64()));
                    entry.set_unused();
                }
            });
            self.root.free_window_tables();
        }
        frames::unreserve(core::mem::take(&mut self.reserved));
    }
}

/// Adds the page at `address`, which is above all in `ranges`, to the last of them or as a new one.
/// `false` if there is no memory for another.
pub(super) fn append_page(ranges: &mut Vec<PageRange>, address: usize) -> bool {
    if let Some(last) = ranges.last_mut()
        && last.end() == address
    {
        *last =
            PageRange::new(last.start(), last.pages() + 1).expect("a page range in the window does not wrap");
        return true;
    }
    if ranges.try_reserve(1).is_err() {
        return false;
    }
    debug_assert!(address.is_multiple_of(PAGE_LEN));
    ranges.push(PageRange::new(address, 1).expect("a page's address is aligned"));
    true
}

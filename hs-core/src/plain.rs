//! Checkpoints without the kernel's support: every page is copied within the pause.
//!
//! The thesis's library works on a system without `cptfork`, too: then checkpoints are full ones, whatever their flags
//! (`hs_cpt(3)`). [`PlainMemory`] is that case. Of the memory below it needs only the window, where the program's variables are in it, and pages mapped, unmapped, staged
//! and placed; it keeps the list of ranges itself, and its `cptfork` copies each of their pages into a staged one before it
//! returns. What was modified it does not know: all pages are dirty each time.
//!
//! It is what the kernel's ways are compared with (`hs.cptfork=plain`), and shows that the library needs nothing of them.
//!
//! Deliberately absent: pages in reserve. If there is no room for a copy of everything, there is no checkpoint; what was
//! copied until then is given back.

mod mapped;
mod snapshot;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

use self::mapped::Mapped;
pub(crate) use self::snapshot::Snapshot;
use crate::platform::{
    CheckpointMemory, ChildBody, Cptctl, CptctlError, CptforkError, EndedHook, MapError, PAGE_LEN, PageRange,
    Priority, SpawnError, StagedPage, Statics, View,
};
use crate::ranges::Ranges;
use crate::raw;
use crate::sync::{Mutex, machine};

/// [`CheckpointMemory`] by plain copies.
pub struct PlainMemory {
    below: &'static dyn CheckpointMemory,
    /// Most children at once.
    ncon: usize,
    children: Arc<AtomicUsize>,
    pages: Mutex<Pages>,
}

/// What is known of the pages.
struct Pages {
    mapped: Mapped,
    installed: Ranges,
}

impl fmt::Debug for PlainMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlainMemory")
            .field("window", &self.below.window())
            .field("ncon", &self.ncon)
            .finish_non_exhaustive()
    }
}

impl PlainMemory {
    /// Plain copies of the pages of `below`, of which nothing is mapped yet, and which nobody must use beside it; at most `ncon`
    /// children at once.
    pub fn new(below: &'static dyn CheckpointMemory, ncon: usize) -> Self {
        Self {
            below,
            ncon,
            children: Arc::new(AtomicUsize::new(0)),
            pages: Mutex::new(Pages {
                mapped: Mapped::default(),
                installed: Ranges::new(),
            }),
        }
    }

    /// The ranges, and a copy of each of their pages; `None` if memory runs out.
    fn copy_all(&self) -> Option<Snapshot<StagedPage>> {
        let known = self.pages.lock();
        let ranges = &known.installed;
        let count = ranges.iter().map(PageRange::pages).sum();
        let mut pages = Vec::new();
        pages.try_reserve_exact(count).ok()?;
        let mut dirty: Vec<PageRange> = Vec::new();
        dirty.try_reserve_exact(ranges.count()).ok()?;
        for range in ranges.iter() {
            for address in range.iter_pages() {
                let mut copy = self.below.stage()?;
                raw::copy_page(address, &mut copy);
                pages.push((address, Some(copy)));
            }
            match dirty.last_mut() {
                Some(last) if last.end() == range.start() => *last = mapped::joined(*last, Some(range)),
                _ => dirty.push(range),
            }
        }
        Some(Snapshot::new(dirty, pages, false))
    }
}

/// One of the `ncon` children, as long as it lives.
struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(children: &Arc<AtomicUsize>, ncon: usize) -> Option<Self> {
        let one_more = |count: usize| (count < ncon).then_some(count + 1);
        children
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more)
            .ok()?;
        Some(Self(Arc::clone(children)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl CheckpointMemory for PlainMemory {
    fn window(&self) -> PageRange {
        self.below.window()
    }

    fn statics(&self) -> Option<Statics> {
        self.below.statics()
    }

    fn map(&self, range: PageRange) -> Result<(), MapError> {
        let mut known = self.pages.lock();
        if !known.mapped.reserve() {
            return Err(MapError::OutOfFrames);
        }
        self.below.map(range)?;
        known.mapped.add(range);
        Ok(())
    }

    fn unmap(&self, range: PageRange) -> Result<(), MapError> {
        let mut known = self.pages.lock();
        if let Some(installed) = known.installed.iter().find(|other| other.overlaps(range)) {
            return Err(MapError::Installed(installed));
        }
        if !known.mapped.reserve() {
            return Err(MapError::OutOfFrames);
        }
        self.below.unmap(range)?;
        known.mapped.remove(range);
        Ok(())
    }

    fn cptctl(&self, request: Cptctl<'_>) -> Result<usize, CptctlError> {
        let mut known = self.pages.lock();
        if let Cptctl::Install(new) = &request
            && let Some(range) = new.iter().find(|range| !known.mapped.encloses(**range))
        {
            return Err(CptctlError::NotMapped(*range));
        }
        known.installed.cptctl(request)
    }

    fn cptfork_then(&self, _: View, child: ChildBody, ended: EndedHook) -> Result<(), CptforkError> {
        let seat = Seat::take(&self.children, self.ncon).ok_or(CptforkError::TooManyChildren)?;
        let snapshot = self.copy_all().ok_or(CptforkError::OutOfFrames)?;
        let body = move || {
            let outcome = child(&snapshot);
            drop((snapshot, seat));
            ended(outcome);
        };
        let spawned = machine().spawn("checkpoint", Priority::Normal, Box::new(body));
        spawned.map_err(|error| match error {
            SpawnError::TooManyThreads => CptforkError::TooManyChildren,
            SpawnError::OutOfMemory => CptforkError::OutOfFrames,
        })
    }

    fn knows_modified(&self) -> bool {
        false
    }

    fn stage(&self) -> Option<StagedPage> {
        self.below.stage()
    }

    fn place(&self, address: usize, page: StagedPage) -> Result<(), MapError> {
        self.below.place(address, page)
    }

    fn patch(&self, address: usize, change: &mut dyn FnMut(&mut [u8; PAGE_LEN])) -> Result<(), MapError> {
        self.below.patch(address, change)
    }

    fn unstage(&self, bytes: &'static mut [u8; PAGE_LEN]) {
        self.below.unstage(bytes);
    }
}

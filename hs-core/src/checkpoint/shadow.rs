//! What the spare has of pages that are modified again and again, so that only what is different in them is sent.
//!
//! ```text
//! a page is sent in an increment        its contents enter the shadow, with the increment's number
//! it is sent again                      as a difference to them, and they are brought up to date
//! ```
//!
//! Several children encode at once, each at its own pace, and a checkpoint may be lost. A difference is right only if it is to
//! the page as the checkpoint before left it, for that is what the spare applies it to. Rules that see to it:
//!
//! - *Epochs.* One begins with each full checkpoint, whenever a checkpoint or the spare is lost, and when the memory areas
//!   change (the spare maps them anew). A child belongs to the epoch that it was made in. What was entered in another epoch is
//!   void, and a child of an older one neither uses the shadow nor enters anything. Within an epoch each increment's base
//!   is the one before it: all were kept or are in flight, and if one is lost, those after it are doomed.
//! - *Order.* An entry is used by later increments alone, and only by one that each increment in between has passed on its
//!   way up the addresses. Entries of later increments are left alone.
//! - *New entries* are made by the newest increment alone. Hence no later one has passed a page that is entered, and whoever
//!   passes it afterwards finds the entry and brings it up to date. An entry may be dropped at any time.
//!
//! The shadow is a cache of a fixed number of places, eight for each page to choose from. What was sent lately is not replaced: a
//! sweep over more memory than fits would otherwise throw out each page just before it comes again.
//!
//! Deliberately absent: entries of full checkpoints. Those send every page, and most are never modified again.

#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::{CheckpointId, Kind};
use crate::format::bring_up_to_date;
use crate::platform::{CheckpointMemory, PAGE_LEN, PageRange, StagedPage};
use crate::sync::Mutex;

/// Places that a page has to choose from.
const WAYS: usize = 8;
/// An entry that so many increments have not sent may be replaced.
const STALE: u64 = 8;

/// How far a child is, for those after it; and whether it is doomed, for itself.
#[derive(Debug, Default)]
pub(super) struct Progress {
    doomed: AtomicBool,
    /// All pages below this address are encoded.
    passed: AtomicUsize,
}

impl Progress {
    pub(super) fn is_doomed(&self) -> bool {
        self.doomed.load(Ordering::Acquire)
    }

    pub(super) fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
    }

    /// As if it had never been doomed.
    #[cfg(test)]
    pub(super) fn pardon(&self) {
        self.doomed.store(false, Ordering::Release);
    }

    /// Everything below `address` is encoded.
    pub(super) fn pass(&self, address: usize) {
        self.passed.store(address, Ordering::Release);
    }

    /// Everything is.
    pub(super) fn pass_all(&self) {
        self.pass(usize::MAX);
    }

    fn has_passed(&self, page: usize) -> bool {
        page < self.passed.load(Ordering::Acquire)
    }
}

/// A child's place among the others, from when it was made.
#[derive(Debug, Default)]
pub(super) struct Place {
    epoch: u64,
    increment: u64,
    /// Those of its generation in flight before it.
    pub(super) ahead: Vec<(CheckpointId, Arc<Progress>)>,
}

impl Place {
    /// One that is to be given to one of `ncon` children.
    pub(super) fn among(ncon: usize) -> Self {
        Self {
            ahead: Vec::with_capacity(ncon),
            ..Self::default()
        }
    }
}

struct Entry {
    page: usize,
    epoch: u64,
    /// The increment that last sent it.
    increment: u64,
    contents: Option<StagedPage>,
}

/// The shadow.
pub(super) struct Shadow {
    memory: &'static dyn CheckpointMemory,
    /// The epoch that children are made in now.
    epoch: AtomicU64,
    /// The newest increment.
    newest: AtomicU64,
    /// Whole sets of [`WAYS`]; none if the shadow is off.
    entries: Mutex<Vec<Entry>>,
}

impl Shadow {
    /// A shadow of up to `pages` pages, none of which it has taken yet.
    pub(super) fn new(memory: &'static dyn CheckpointMemory, pages: usize) -> Self {
        let places = pages / WAYS * WAYS;
        let mut entries = Vec::new();
        // Without room for its list there is no shadow.
        if entries.try_reserve_exact(places).is_ok() {
            entries.resize_with(places, || Entry {
                page: 0,
                epoch: 0,
                increment: 0,
                contents: None,
            });
        }
        Self {
            memory,
            epoch: AtomicU64::new(1),
            newest: AtomicU64::new(0),
            entries: Mutex::new(entries),
        }
    }

    /// A child is made for this checkpoint. `same_areas`: the memory areas are those of the checkpoint before. To be called in
    /// the order of the numbers.
    pub(super) fn begin(&self, id: CheckpointId, kind: Kind, same_areas: bool, place: &mut Place) {
        if kind == Kind::Full || !same_areas {
            self.void();
        }
        self.newest.store(id.increment, Ordering::Release);
        place.epoch = self.epoch.load(Ordering::Acquire);
        place.increment = id.increment;
    }

    /// What was entered up to now is void. Costs the same, however much that is.
    pub(super) fn void(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Gives all frames back.
    pub(super) fn give_back(&self) {
        self.void();
        for entry in self.entries.lock().iter_mut() {
            entry.contents = None;
        }
    }

    /// The page at `page` is sent with `contents`, in the increment of `place`. If the spare will have it and the difference to
    /// that is shorter, the difference is in `into`: its length.
    pub(super) fn send(
        &self,
        place: &Place,
        page: usize,
        contents: &[u8; PAGE_LEN],
        into: &mut [u8],
    ) -> Option<usize> {
        let mut entries = self.entries.lock();
        if entries.is_empty() || self.epoch.load(Ordering::Acquire) != place.epoch {
            return None;
        }
        let set = set_of(&mut entries, page);
        let found = set
            .iter_mut()
            .find(|entry| entry.page == page && entry.epoch == place.epoch);
        if let Some((entry, old)) = found.and_then(with_contents) {
            if *entry >= place.increment {
                return None;
            }
            let settled = place
                .ahead
                .iter()
                .all(|(id, progress)| id.increment <= *entry || progress.has_passed(page));
            *entry = place.increment;
            if settled {
                return bring_up_to_date(old, contents, into);
            }
            old.copy_from_slice(contents);
            return None;
        }
        if self.newest.load(Ordering::Acquire) == place.increment {
            self.enter(set, place, page, contents);
        }
        None
    }

    /// Enters a page that is not in `set`, if there is room.
    fn enter(&self, set: &mut [Entry], place: &Place, page: usize, contents: &[u8; PAGE_LEN]) {
        let stale = |entry: &Entry| entry.increment + STALE < place.increment;
        let void = |entry: &Entry| entry.epoch != place.epoch;
        // Frames that are here already first.
        let having = set
            .iter()
            .position(|entry| entry.contents.is_some() && void(entry));
        let index = having.or_else(|| {
            let empty = set.iter().position(|entry| entry.contents.is_none());
            let staged = empty.and_then(|index| Some((index, self.memory.stage()?)));
            match staged {
                Some((index, staged)) => {
                    set[index].contents = Some(staged);
                    Some(index)
                }
                None => set
                    .iter()
                    .position(|entry| entry.contents.is_some() && stale(entry)),
            }
        });
        let Some(entry) = index.map(|index| &mut set[index]) else {
            return;
        };
        entry.page = page;
        entry.epoch = place.epoch;
        entry.increment = place.increment;
        if let Some(old) = &mut entry.contents {
            old.copy_from_slice(contents);
        }
    }
}

/// An entry's increment and contents.
fn with_contents(entry: &mut Entry) -> Option<(&mut u64, &mut StagedPage)> {
    let contents = entry.contents.as_mut()?;
    Some((&mut entry.increment, contents))
}

/// The places that `page` may be in.
fn set_of(entries: &mut [Entry], page: usize) -> &mut [Entry] {
    // Fibonacci hashing: neighbours, and pages a power of two apart, are spread evenly.
    let hash = ((page / PAGE_LEN) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let sets = (entries.len() / WAYS) as u128;
    let set = ((u128::from(hash) * sets) >> 64) as usize;
    &mut entries[set * WAYS..(set + 1) * WAYS]
}

/// Whether `areas` are the same as `last`, which are these from now on.
pub(super) fn note_areas(last: &mut Vec<PageRange>, areas: &[PageRange]) -> bool {
    if last == areas {
        return true;
    }
    last.clear();
    last.extend_from_slice(areas);
    false
}

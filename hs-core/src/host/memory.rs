//! Checkpointable memory by plain copy: a page is dirty if it differs from its copy at the last `cptfork`.
//!
//! The window's addresses are those of the memory itself, so that classes work on it; or another memory's
//! ([`HostMemory::twin`]), so that a master's and a spare's can live in one process.

use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::vec;
use std::vec::Vec;

use crate::plain::Snapshot;
use crate::platform::{
    CheckpointMemory, ChildBody, Cptctl, CptctlError, CptforkError, EndedHook, MapError, Outcome, PAGE_LEN,
    PageRange, StagedPage, Statics, View,
};
use crate::ranges::Ranges;
use crate::raw::host::Backing;

type Page = [u8; PAGE_LEN];

/// A [`CheckpointMemory`] on an ordinary operating system. It lives as long as the process.
#[derive(Debug)]
pub struct HostMemory {
    window: PageRange,
    backing: Backing,
    state: Mutex<State>,
    myself: OnceLock<&'static HostMemory>,
    statics: OnceLock<Statics>,
}

#[derive(Debug)]
struct State {
    /// Frames that are left, staged pages among those that are not.
    frames: usize,
    /// Children that may be alive at once.
    ncon: usize,
    children: usize,
    /// Children started from now on are told that they are cancelled.
    cancel: bool,
    mapped: Vec<bool>,
    installed: Ranges,
    /// Installed pages as they were at the last `cptfork`.
    copies: BTreeMap<usize, Arc<Page>>,
    /// Dirty whatever their contents: lost with a checkpoint.
    lost: BTreeSet<usize>,
    staging: Vec<&'static mut Page>,
}

impl State {
    /// What lies at `address` now is not the application's work.
    fn note_clean(&mut self, address: usize, page: &Page) {
        if self.installed.iter().any(|installed| installed.contains(address)) {
            self.copies.insert(address, Arc::new(*page));
            self.lost.remove(&address);
        }
    }
}

impl HostMemory {
    /// Memory with a window of so many pages and as many frames.
    pub fn new(window_pages: usize) -> &'static Self {
        let backing = Backing::new(window_pages);
        let window = PageRange::new(backing.start(), window_pages).expect("an aligned, non-empty window");
        Self::with(window, backing)
    }

    /// Memory whose window has the addresses of this one's, but not its contents: a spare's. Nothing can be restored to
    /// run in it.
    pub fn twin(&self) -> &'static Self {
        Self::with(self.window, Backing::new(self.window.pages()))
    }

    fn with(window: PageRange, backing: Backing) -> &'static Self {
        let state = State {
            // Twice: as much can be staged as is mapped.
            frames: 2 * window.pages(),
            ncon: 4,
            children: 0,
            cancel: false,
            mapped: vec![false; window.pages()],
            installed: Ranges::new(),
            copies: BTreeMap::new(),
            lost: BTreeSet::new(),
            staging: Vec::new(),
        };
        let memory: &'static Self = Box::leak(Box::new(Self {
            window,
            backing,
            state: Mutex::new(state),
            myself: OnceLock::new(),
            statics: OnceLock::new(),
        }));
        memory.myself.set(memory).expect("made just now");
        memory
    }

    /// Makes the last pages of the window those of the program's checkpointed variables.
    ///
    /// # Panics
    /// If that was said before, or the window is shorter.
    pub fn set_statics(&self, pages: usize, initial: &'static [u8]) {
        let range = PageRange::new(self.window.end() - pages * PAGE_LEN, pages);
        let range = range.filter(|range| self.window.encloses(*range));
        let range = range.expect("the window has that many pages");
        let statics = Statics { range, initial };
        self.statics.set(statics).expect("it is said once");
    }

    /// Leaves so many frames to map and stage.
    pub fn set_frames(&self, frames: usize) {
        self.state().frames = frames;
    }

    /// Frames that are left to map and stage.
    pub fn frames(&self) -> usize {
        self.state().frames
    }

    /// Allows so many children at once; 4 unless told.
    pub fn set_ncon(&self, ncon: usize) {
        self.state().ncon = ncon;
    }

    /// Whether children made from now on find that their checkpoint was cancelled, as if memory had run dry.
    pub fn set_cancel(&self, cancel: bool) {
        self.state().cancel = cancel;
    }

    /// As after a boot: nothing is installed or mapped, and what was is overwritten.
    pub fn reset(&self) {
        let mut state = self.state();
        state.installed.purge_all();
        state.copies.clear();
        state.lost.clear();
        for index in 0..state.mapped.len() {
            if state.mapped[index] {
                state.mapped[index] = false;
                state.frames += 1;
                self.backing.write(index, &[0xa5; PAGE_LEN]);
            }
        }
    }

    /// The mapped pages, ascending, with their contents.
    pub fn pages(&self) -> Vec<(usize, Box<Page>)> {
        let state = self.state();
        let mapped = (0..self.window.pages()).filter(|index| state.mapped[*index]);
        mapped
            .map(|index| {
                let mut page = Box::new([0; PAGE_LEN]);
                self.backing.read(index, &mut page);
                (self.window.start() + index * PAGE_LEN, page)
            })
            .collect()
    }

    /// Writes `bytes` at `address`, as an application would that has no class there.
    ///
    /// # Panics
    /// If that is not within one mapped page.
    pub fn write(&self, address: usize, bytes: &[u8]) {
        let index = (address - self.window.start()) / PAGE_LEN;
        assert!(self.state().mapped[index], "{address:#x} is not mapped");
        let mut page = [0; PAGE_LEN];
        self.backing.read(index, &mut page);
        page[address % PAGE_LEN..][..bytes.len()].copy_from_slice(bytes);
        self.backing.write(index, &page);
    }

    /// The `len_bytes` bytes at `address`.
    ///
    /// # Panics
    /// If those are not all mapped.
    pub fn read(&self, address: usize, len_bytes: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len_bytes + PAGE_LEN);
        let mut page = [0; PAGE_LEN];
        let skip = address % PAGE_LEN;
        for index in self.index(address)..=self.index(address + len_bytes.max(1) - 1) {
            assert!(self.state().mapped[index], "{address:#x} is not mapped");
            self.backing.read(index, &mut page);
            bytes.extend_from_slice(&page);
        }
        bytes.drain(..skip);
        bytes.truncate(len_bytes);
        bytes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self, address: usize) -> usize {
        (address - self.window.start()) / PAGE_LEN
    }

    fn indices(&self, range: PageRange) -> Result<core::ops::Range<usize>, MapError> {
        if !self.window.encloses(range) {
            return Err(MapError::OutsideWindow(range));
        }
        let first = self.index(range.start());
        Ok(first..first + range.pages())
    }

    /// Copies what changed since the last time. Returns the dirty pages.
    fn copy_dirty(&self, state: &mut State) -> Vec<usize> {
        let mut dirty = Vec::new();
        let mut page = Box::new([0; PAGE_LEN]);
        for address in state.installed.iter().flat_map(PageRange::iter_pages) {
            self.backing.read(self.index(address), &mut page);
            if state.copies.get(&address).is_some_and(|copy| **copy == *page) {
                if state.lost.remove(&address) {
                    dirty.push(address);
                }
                continue;
            }
            state.lost.remove(&address);
            state.copies.insert(address, Arc::new(*page));
            dirty.push(address);
        }
        dirty
    }
}

/// Joins adjacent pages.
fn coalesce(pages: &[usize]) -> Vec<PageRange> {
    let runs = pages.chunk_by(|before, after| before + PAGE_LEN == *after);
    runs.map(|run| PageRange::new(run[0], run.len()).expect("at least one page"))
        .collect()
}

impl CheckpointMemory for HostMemory {
    fn window(&self) -> PageRange {
        self.window
    }

    fn statics(&self) -> Option<Statics> {
        self.statics.get().copied()
    }

    fn map(&self, range: PageRange) -> Result<(), MapError> {
        let indices = self.indices(range)?;
        let mut state = self.state();
        if state.mapped[indices.clone()].contains(&true) {
            return Err(MapError::Conflict(range));
        }
        state.frames = state
            .frames
            .checked_sub(range.pages())
            .ok_or(MapError::OutOfFrames)?;
        state.mapped[indices.clone()].fill(true);
        let mut page = [0; PAGE_LEN];
        for index in indices {
            // Left alone if zero already: fresh memory of the host is not touched.
            self.backing.read(index, &mut page);
            if page != [0; PAGE_LEN] {
                self.backing.write(index, &[0; PAGE_LEN]);
            }
        }
        Ok(())
    }

    fn unmap(&self, range: PageRange) -> Result<(), MapError> {
        let indices = self.indices(range)?;
        let mut state = self.state();
        if state.mapped[indices.clone()].contains(&false) {
            return Err(MapError::Conflict(range));
        }
        if let Some(installed) = state.installed.iter().find(|installed| installed.overlaps(range)) {
            return Err(MapError::Installed(installed));
        }
        state.mapped[indices].fill(false);
        state.frames += range.pages();
        Ok(())
    }

    fn cptctl(&self, request: Cptctl<'_>) -> Result<usize, CptctlError> {
        let mut state = self.state();
        if let Cptctl::Install(new) = &request {
            let is_mapped = |range: &PageRange| {
                self.indices(*range)
                    .is_ok_and(|indices| state.mapped[indices].iter().all(|bit| *bit))
            };
            if let Some(range) = new.iter().find(|range| !is_mapped(range)) {
                return Err(CptctlError::NotMapped(*range));
            }
        }
        let forgets = matches!(request, Cptctl::Purge(_) | Cptctl::PurgeAll);
        let done = state.installed.cptctl(request)?;
        if forgets {
            let State {
                installed,
                copies,
                lost,
                ..
            } = &mut *state;
            let is_left = |address: &usize| installed.iter().any(|range| range.contains(*address));
            copies.retain(|address, _| is_left(address));
            lost.retain(is_left);
        }
        Ok(done)
    }

    fn cptfork_then(&self, view: View, child: ChildBody, ended: EndedHook) -> Result<(), CptforkError> {
        let myself = *self.myself.get().expect("set when it was made");
        let mut state = self.state();
        if state.children == state.ncon {
            return Err(CptforkError::TooManyChildren);
        }
        state.children += 1;
        let dirty = self.copy_dirty(&mut state);
        let kept = |address: &usize| (*address, Some(Arc::clone(&state.copies[address])));
        let pages = match view {
            View::Whole => state.copies.keys().map(kept).collect(),
            // Copies are all there is here.
            View::Incremental | View::Copied => dirty.iter().map(kept).collect(),
        };
        let snapshot = Snapshot::new(coalesce(&dirty), pages, state.cancel);
        drop(state);
        thread::spawn(move || {
            let outcome = child(&snapshot);
            let mut state = myself.state();
            if outcome == Outcome::Lost {
                // Those of ranges that were purged meanwhile are nobody's.
                let still = dirty
                    .into_iter()
                    .filter(|address| state.copies.contains_key(address));
                let still: Vec<usize> = still.collect();
                state.lost.extend(still);
            }
            state.children -= 1;
            drop(state);
            ended(outcome);
        });
        Ok(())
    }

    fn stage(&self) -> Option<StagedPage> {
        let mut state = self.state();
        state.frames = state.frames.checked_sub(1)?;
        let page = state.staging.pop();
        drop(state);
        let bytes = page.unwrap_or_else(|| Box::leak(Box::new([0x5a; PAGE_LEN])));
        Some(StagedPage::new(
            bytes,
            *self.myself.get().expect("set when it was made"),
        ))
    }

    fn place(&self, address: usize, page: StagedPage) -> Result<(), MapError> {
        let range = PageRange::new(address, 1).expect("a page's address");
        let index = self.indices(range)?.start;
        let mut state = self.state();
        if !state.mapped[index] {
            // Dropped after the lock: it comes back through `unstage`.
            drop(state);
            drop(page);
            return Err(MapError::Conflict(range));
        }
        self.backing.write(index, &page);
        state.note_clean(address, &page);
        // The page's frame is mapped now, and the one that was is free.
        state.frames += 1;
        let bytes = page.into_bytes();
        state.staging.push(bytes);
        Ok(())
    }

    fn patch(&self, address: usize, change: &mut dyn FnMut(&mut Page)) -> Result<(), MapError> {
        let range = PageRange::new(address, 1).expect("a page's address");
        let index = self.indices(range)?.start;
        let mut state = self.state();
        if !state.mapped[index] {
            return Err(MapError::Conflict(range));
        }
        let mut page = Box::new([0; PAGE_LEN]);
        self.backing.read(index, &mut page);
        change(&mut page);
        self.backing.write(index, &page);
        state.note_clean(address, &page);
        Ok(())
    }

    fn unstage(&self, bytes: &'static mut Page) {
        let mut state = self.state();
        state.frames += 1;
        state.staging.push(bytes);
    }
}

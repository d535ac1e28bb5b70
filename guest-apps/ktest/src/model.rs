//! `cptfork` against a model: random writes, random checkpoints with several children alive, random lifetimes. Every
//! child's view and every dirty list is compared byte for byte with what the model says.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use hs_core::platform::{
    CheckpointMemory, Cptctl, Frozen, FrozenError, Machine, Outcome, PAGE_LEN, PageRange, View,
};
use hs_core::sync::Mutex;
use kernel::cpt::Mode;

use crate::memory::window_pages;
use crate::random::Random;
use crate::{Context, Verdict, check};

const STEPS: usize = 10_000;
const CHILDREN_MAX: usize = 8;
/// Two ranges side by side, one across the border of two spans, and one beyond what an entry of the third level maps.
const RANGES: [(usize, usize); 4] = [(0, 24), (24, 8), (505, 16), (512 * 512 - 4, 12)];

type Page = Box<[u8; PAGE_LEN]>;

/// What a child should find.
struct Expected {
    dirty: Vec<PageRange>,
    /// Every installed page: its address, its contents, and whether it is in the view.
    pages: Vec<(usize, Page, bool)>,
    outcome: Outcome,
}

/// A child that waits for its order to look and end.
struct Child {
    order: AtomicU32,
    looked: AtomicU32,
    ended: AtomicU32,
    found: Mutex<Option<Result<(), String>>>,
}

/// What a child does with its view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Look {
    /// Copies every page.
    Copy,
    /// Reads every page through its own address space.
    Read,
    /// Takes about half of the pages for good, and copies the others.
    Take,
    /// Copies a few pages, and asks for nothing else.
    Glance,
}

impl Look {
    fn random(random: &mut Random) -> Look {
        [Look::Copy, Look::Read, Look::Take, Look::Glance][random.below(4)]
    }
}

/// A child at work.
struct Looker {
    expected: Arc<Expected>,
    random: Random,
    /// By the index among the expected pages.
    taken: BTreeSet<usize>,
}

impl Looker {
    /// What the child does once it is told to.
    fn look(&mut self, frozen: &dyn Frozen, how: Look) -> Result<(), String> {
        let expected = Arc::clone(&self.expected);
        if how != Look::Glance {
            check_dirty(frozen, &expected.dirty)?;
        }
        let mut page = Box::new([0; PAGE_LEN]);
        for (index, (address, contents, visible)) in expected.pages.iter().enumerate() {
            if how == Look::Glance && !self.random.once_in(8) {
                continue;
            }
            if !*visible || self.taken.contains(&index) {
                let copied = frozen.copy_page(*address, &mut page);
                check!(
                    copied == Err(FrozenError::OutsideView(*address)),
                    "page {address:#x} outside the view: {copied:?}"
                );
                continue;
            }
            let copied = match how {
                Look::Read => {
                    // SAFETY: a page of the view: a fault fetches it.
                    page.copy_from_slice(unsafe { &*bytes(*address).cast::<[u8; PAGE_LEN]>() });
                    Ok(())
                }
                Look::Take if self.random.once_in(2) => {
                    self.taken.insert(index);
                    frozen.take_page(*address, &mut page)
                }
                Look::Take | Look::Copy | Look::Glance => frozen.copy_page(*address, &mut page),
            };
            check!(copied == Ok(()), "page {address:#x} of the view: {copied:?}");
            check!(
                page == *contents,
                "page {address:#x} is not what it was at cptfork ({how:?})"
            );
        }
        Ok(())
    }
}

fn check_dirty(frozen: &dyn Frozen, expected: &[PageRange]) -> Result<(), String> {
    let mut dirty = alloc::vec![window_pages(0, 1); expected.len()];
    if let Some(short) = dirty.len().checked_sub(1) {
        check!(
            frozen.dirty(&mut dirty[..short]) == expected.len(),
            "a short query does not tell the length"
        );
        check!(
            dirty[0] == window_pages(0, 1),
            "a buffer too short was written to"
        );
    }
    let count = frozen.dirty(&mut dirty);
    check!(
        count == expected.len(),
        "{count} dirty ranges instead of {}",
        expected.len()
    );
    check!(
        dirty == expected,
        "dirty ranges {dirty:x?} instead of {expected:x?}"
    );
    Ok(())
}

struct Run<'a> {
    context: &'a Context,
    random: Random,
    addresses: Vec<usize>,
    /// The model: contents of every page, and which are dirty.
    contents: Vec<Page>,
    dirty: BTreeSet<usize>,
    children: Vec<(Arc<Child>, Arc<Expected>)>,
    forks: usize,
    bug: Option<Bug>,
}

/// What is done behind the model's back, to show that it would be found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bug {
    /// Memory changes.
    UnseenWrite,
    /// A page counts as clean although it was written to.
    CleanPage,
}

/// Waits until `word` is set, at most ten seconds.
fn wait_for(machine: &dyn Machine, word: &AtomicU32, failure: &str) -> Result<(), String> {
    let end = machine.now() + Duration::from_secs(10);
    while word.load(Ordering::SeqCst) == 0 {
        check!(machine.now() < end, "{failure}");
        machine.wait(word, 0, Some(end));
    }
    Ok(())
}

/// The window's bytes at `address`.
fn bytes(address: usize) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut(address)
}

impl Run<'_> {
    fn write(&mut self) {
        let index = self.random.below(self.addresses.len());
        let offset = self.random.below(PAGE_LEN);
        let value = self.random.next() as u8;
        // SAFETY: a mapped page of the window, used by this test alone. Volatile, because the page's frame
        // may change under the write.
        unsafe { bytes(self.addresses[index] + offset).write_volatile(value) };
        match self.bug {
            Some(Bug::UnseenWrite) if self.random.once_in(50) => {}
            Some(Bug::CleanPage) if self.random.once_in(50) => self.contents[index][offset] = value,
            _ => {
                self.contents[index][offset] = value;
                self.dirty.insert(index);
            }
        }
    }

    fn dirty_ranges(&self) -> Vec<PageRange> {
        let mut ranges: Vec<PageRange> = Vec::new();
        for &index in &self.dirty {
            let address = self.addresses[index];
            match ranges.last_mut() {
                Some(last) if last.end() == address => {
                    *last = PageRange::new(last.start(), last.pages() + 1).expect("aligned");
                }
                _ => ranges.push(PageRange::new(address, 1).expect("aligned")),
            }
        }
        ranges
    }

    fn fork(&mut self) -> Result<(), String> {
        let view = [View::Incremental, View::Copied, View::Whole][self.random.below(3)];
        let outcome = if self.random.once_in(4) {
            Outcome::Lost
        } else {
            Outcome::Kept
        };
        let pages =
            self.addresses
                .iter()
                .zip(&self.contents)
                .enumerate()
                .map(|(index, (address, contents))| {
                    (
                        *address,
                        contents.clone(),
                        view == View::Whole || self.dirty.contains(&index),
                    )
                });
        let expected = Arc::new(Expected {
            dirty: self.dirty_ranges(),
            pages: pages.collect(),
            outcome,
        });
        let child = Arc::new(Child {
            order: AtomicU32::new(0),
            looked: AtomicU32::new(0),
            ended: AtomicU32::new(0),
            found: Mutex::new(None),
        });
        let own = Arc::clone(&child);
        let guest = self.context.guest;
        // Some look at once too, so that the parent then writes to pages that a child holds already.
        let early = self.random.once_in(2).then(|| Look::random(&mut self.random));
        let late = Look::random(&mut self.random);
        let mut looker = Looker {
            expected: Arc::clone(&expected),
            random: Random::new(self.random.next()),
            taken: BTreeSet::new(),
        };
        let body = move |frozen: &dyn Frozen| {
            frozen.enter();
            let first = early.map_or(Ok(()), |how| looker.look(frozen, how));
            own.looked.store(1, Ordering::SeqCst);
            guest.wake(&own.looked, usize::MAX);
            while own.order.load(Ordering::SeqCst) == 0 {
                guest.wait(&own.order, 0, None);
            }
            *own.found.lock() = Some(first.and_then(|()| looker.look(frozen, late)));
            looker.expected.outcome
        };
        let told = Arc::clone(&child);
        let ended = move |_| {
            told.ended.store(1, Ordering::SeqCst);
            guest.wake(&told.ended, usize::MAX);
        };
        guest
            .cptfork_then(view, Box::new(body), Box::new(ended))
            .map_err(|error| format!("cptfork: {error}"))?;
        if early.is_some() {
            wait_for(guest, &child.looked, "a child did not come to look")?;
        }
        self.dirty.clear();
        self.children.push((child, expected));
        self.forks += 1;
        Ok(())
    }

    fn end_child(&mut self, index: usize) -> Result<(), String> {
        let (child, expected) = self.children.swap_remove(index);
        let guest = self.context.guest;
        child.order.store(1, Ordering::SeqCst);
        guest.wake(&child.order, usize::MAX);
        wait_for(guest, &child.ended, "a child did not come to its end")?;
        child
            .found
            .lock()
            .take()
            .unwrap_or_else(|| Err("the child was stopped".into()))?;
        if expected.outcome == Outcome::Lost {
            for range in &expected.dirty {
                for page in range.iter_pages() {
                    let index = self.addresses.iter().position(|address| *address == page);
                    self.dirty.insert(index.expect("dirty pages are installed ones"));
                }
            }
        }
        Ok(())
    }

    /// Purges a range, unmaps and maps it anew or not, and installs it again, whoever holds pages of it.
    fn replace_range(&mut self) -> Result<(), String> {
        let guest = self.context.guest;
        let (first, pages) = RANGES[self.random.below(RANGES.len())];
        let range = window_pages(first, pages);
        guest
            .cptctl(Cptctl::Purge(&[range]))
            .map_err(|error| format!("purge: {error}"))?;
        let anew = self.random.once_in(2);
        if anew {
            guest.unmap(range).map_err(|error| format!("unmap: {error}"))?;
            guest.map(range).map_err(|error| format!("map: {error}"))?;
        }
        guest
            .cptctl(Cptctl::Install(&[range]))
            .map_err(|error| format!("install: {error}"))?;
        for (index, address) in self.addresses.iter().enumerate() {
            if range.contains(*address) {
                self.dirty.insert(index);
                if anew {
                    self.contents[index].fill(0);
                }
            }
        }
        Ok(())
    }

    fn check_parent(&self) -> Result<(), String> {
        for (address, contents) in self.addresses.iter().zip(&self.contents) {
            // SAFETY: a mapped page of the window.
            let page = unsafe { &*bytes(*address).cast::<[u8; PAGE_LEN]>() };
            check!(
                page == &**contents,
                "the parent's page {address:#x} is not what it wrote"
            );
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), String> {
        for step in 0..STEPS {
            let result = match self.random.below(20) {
                _ if step % 97 == 96 => self.replace_range(),
                0 | 1 if self.children.len() < CHILDREN_MAX => self.fork(),
                2 if !self.children.is_empty() => {
                    let index = self.random.below(self.children.len());
                    self.end_child(index)
                }
                3 if step.is_multiple_of(7) => self.check_parent(),
                _ => {
                    self.write();
                    Ok(())
                }
            };
            result.map_err(|error| format!("step {step}: {error}"))?;
        }
        while !self.children.is_empty() {
            self.end_child(0)?;
        }
        self.check_parent()
    }
}

/// The test, for each way of freezing. Its seed repeats it.
pub(crate) fn cptfork_against_model(context: &Context) -> Verdict {
    let mut verdict = String::new();
    for mode in Mode::ALL {
        let figures = run_once(context, mode, None).map_err(|error| format!("{mode}: {error}"))?;
        verdict += &format!("{mode}: {figures}; ");
    }
    Ok(verdict)
}

/// The checker can fail: a write, or a dirty page, that the model does not know of is found.
pub(crate) fn planted_bugs_are_found(context: &Context) -> Verdict {
    for mode in Mode::ALL {
        for bug in [Bug::UnseenWrite, Bug::CleanPage] {
            let found = run_once(context, mode, Some(bug));
            check!(found.is_err(), "{mode}: {bug:?} was not found");
        }
    }
    Ok("".into())
}

fn run_once(context: &Context, mode: Mode, bug: Option<Bug>) -> Verdict {
    let memory: &dyn CheckpointMemory = context.guest;
    let ranges: Vec<PageRange> = RANGES
        .iter()
        .map(|(first, pages)| window_pages(*first, *pages))
        .collect();
    let map = |range: &PageRange| memory.map(*range).map_err(|error| format!("map: {error}"));
    let unmap = |range: &PageRange| memory.unmap(*range).map_err(|error| format!("unmap: {error}"));
    // Once for the tables and the notes, which stay.
    ranges.iter().try_for_each(map)?;
    ranges.iter().try_for_each(unmap)?;
    let frames_before = kernel::mem::frames::available();
    kernel::cpt::set_mode(mode).map_err(|error| format!("{error}"))?;
    ranges.iter().try_for_each(map)?;
    memory
        .cptctl(Cptctl::Install(&ranges))
        .map_err(|error| format!("install: {error}"))?;
    let counters_before = kernel::cpt::counters();
    let addresses: Vec<usize> = ranges.iter().flat_map(|range| range.iter_pages()).collect();
    let mut run = Run {
        context,
        random: Random::new(context.seed),
        contents: addresses.iter().map(|_| Box::new([0; PAGE_LEN])).collect(),
        dirty: (0..addresses.len()).collect(),
        addresses,
        children: Vec::new(),
        forks: 0,
        bug,
    };
    let result = run.run();
    // A run that failed may have left children behind.
    while !run.children.is_empty() {
        let _ = run.end_child(0);
    }
    let forks = run.forks;
    memory
        .cptctl(Cptctl::PurgeAll)
        .map_err(|error| format!("purge: {error}"))?;
    ranges.iter().try_for_each(unmap)?;
    kernel::cpt::set_mode(Mode::default()).map_err(|error| format!("{error}"))?;
    result?;
    let frames_after = kernel::mem::frames::available();
    check!(
        frames_after == frames_before,
        "{frames_before} frames were free, now {frames_after}"
    );
    let counters = kernel::cpt::counters();
    Ok(format!(
        "{STEPS} steps, {forks} checkpoints, {} pages copied on write and {} ahead",
        counters.copies - counters_before.copies,
        counters.hot_copies - counters_before.hot_copies
    ))
}

//! Children that do what a measurement needs: they wait, take their pages to nowhere, and say when.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

use hs_core::platform::{ChildBody, EndedHook, Frozen, FrozenError, Outcome, PAGE_LEN, PageRange, View};
use hs_core::sync::{Mutex, machine};
use kernel::cpt::{Other, cptfork};
use kernel::time::stopwatch_ns;

use crate::failure::Failure;

/// Longest that a child may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A word that one side sets and the other waits for.
#[derive(Clone)]
pub(super) struct Flag(Arc<AtomicU32>);

impl Flag {
    pub(super) fn new() -> Self {
        Flag(Arc::new(AtomicU32::new(0)))
    }

    pub(super) fn set(&self) {
        self.0.store(1, Ordering::SeqCst);
        machine().wake(&self.0, usize::MAX);
    }

    /// Waits until it is set.
    ///
    /// # Errors
    /// It was not within a minute.
    pub(super) fn wait(&self) -> Result<(), Failure> {
        let end = machine().now() + LIMIT;
        while self.0.load(Ordering::SeqCst) == 0 {
            if machine().now() >= end {
                return Err(Failure::ChildStuck);
            }
            machine().wait(&self.0, 0, Some(end));
        }
        Ok(())
    }
}

/// What a child takes of its view.
#[derive(Clone)]
pub(crate) enum Take {
    /// Nothing.
    Nothing,
    /// What is on its dirty list.
    Dirty,
    /// All of these ranges.
    All(Arc<[PageRange]>),
}

/// When it does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Once it is released.
    Released,
    /// At once; then it stays alive until it is released.
    AtOnce,
}

/// What a child needs room for, handed from one to the next.
struct Workspace {
    ranges: Vec<PageRange>,
    /// How many of them the newest dirty list has.
    listed: usize,
    page: Box<[u8; PAGE_LEN]>,
}

impl Workspace {
    fn new() -> Self {
        Workspace {
            ranges: Vec::new(),
            listed: 0,
            page: Box::new([0; PAGE_LEN]),
        }
    }

    /// Takes the pages to nowhere, as a checkpoint's child takes them to the spare.
    fn take(&mut self, frozen: &dyn Frozen, take: &Take) -> Result<(), FrozenError> {
        let ranges: &[PageRange] = match take {
            Take::Nothing => return Ok(()),
            Take::All(ranges) => ranges,
            Take::Dirty => {
                let count = frozen.dirty(&mut self.ranges);
                if count > self.ranges.len() {
                    let placeholder = PageRange::new(0, 1).expect("a valid range");
                    self.ranges.resize(count, placeholder);
                    frozen.dirty(&mut self.ranges);
                }
                self.listed = count;
                &self.ranges[..count]
            }
        };
        ranges
            .iter()
            .flat_map(|range| range.iter_pages())
            .try_for_each(|address| frozen.take_page(address, &mut self.page))
    }
}

/// What the children of a measurement have in common.
#[derive(Clone)]
pub(crate) struct Nursery {
    spare: Arc<Mutex<Option<Workspace>>>,
}

impl Nursery {
    pub(crate) fn new() -> Self {
        Nursery {
            spare: Arc::new(Mutex::new(None)),
        }
    }

    /// A child that is all ready but for its `cptfork`, so that nothing else is in the pause.
    pub(crate) fn expect(&self, take: Take, when: When) -> Expected {
        let child = Child {
            begun: Flag::new(),
            release: Flag::new(),
            taken: Flag::new(),
            ended: Flag::new(),
            ended_ns: Arc::new(AtomicU64::new(0)),
        };
        let (own, told, spare) = (child.clone(), child.clone(), Arc::clone(&self.spare));
        let body = move |frozen: &dyn Frozen| {
            own.begun.set();
            if when == When::Released && own.release.wait().is_err() {
                return Outcome::Lost;
            }
            let workspace = spare.lock().take();
            let mut workspace = workspace.unwrap_or_else(Workspace::new);
            let taken = workspace.take(frozen, &take);
            *spare.lock() = Some(workspace);
            own.taken.set();
            let released = when == When::Released || own.release.wait().is_ok();
            if taken.is_ok() && released {
                Outcome::Kept
            } else {
                Outcome::Lost
            }
        };
        let ended = move |_| {
            told.ended_ns.store(stopwatch_ns(), Ordering::SeqCst);
            told.ended.set();
        };
        Expected {
            body: Box::new(body),
            ended: Box::new(ended),
            child,
        }
    }

    /// Whether the list of the child that ended last has exactly the pages of these addresses, ascending.
    ///
    /// # Errors
    /// It has others.
    pub(crate) fn check_listed(&self, addresses: impl Iterator<Item = usize> + Clone) -> Result<(), Failure> {
        let spare = self.spare.lock();
        let ranges = spare
            .as_ref()
            .map_or(&[][..], |workspace| &workspace.ranges[..workspace.listed]);
        let pages = || ranges.iter().flat_map(|range| range.iter_pages());
        if pages().eq(addresses.clone()) {
            return Ok(());
        }
        Err(Failure::OtherPages {
            written: addresses.count(),
            listed: pages().count(),
        })
    }

    /// A first child, after which nothing counts as modified any more.
    ///
    /// # Errors
    /// It cannot be made, or does not end.
    pub(crate) fn settle(&self) -> Result<(), Failure> {
        let (child, _) = self
            .expect(Take::Nothing, When::Released)
            .fork(View::Incremental, Other::Share)?;
        child.end().map(drop)
    }
}

/// A child to be.
pub(crate) struct Expected {
    body: ChildBody,
    ended: EndedHook,
    child: Child,
}

impl Expected {
    /// `cptfork`: the child, and the pause in nanoseconds from its entry to its return.
    ///
    /// # Errors
    /// It was refused.
    pub(crate) fn fork(self, view: View, other: Other) -> Result<(Child, u64), Failure> {
        let begun = stopwatch_ns();
        let result = cptfork(view, other, self.body, self.ended);
        let pause_ns = stopwatch_ns() - begun;
        result?;
        Ok((self.child, pause_ns))
    }
}

/// A child that lives until it is released.
#[derive(Clone)]
pub(crate) struct Child {
    begun: Flag,
    release: Flag,
    taken: Flag,
    ended: Flag,
    ended_ns: Arc<AtomicU64>,
}

impl Child {
    /// Waits until it has begun: one that is held back is at rest then.
    ///
    /// # Errors
    /// It does not begin.
    pub(crate) fn settle(&self) -> Result<(), Failure> {
        self.begun.wait()
    }

    /// Waits until it has taken its pages.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn wait_taken(&self) -> Result<(), Failure> {
        self.taken.wait()
    }

    /// Releases it and waits for its end: the time from one to the other, in nanoseconds.
    ///
    /// # Errors
    /// It does not end.
    pub(crate) fn end(self) -> Result<u64, Failure> {
        let begun = stopwatch_ns();
        self.release.set();
        self.ended.wait()?;
        Ok(self.ended_ns.load(Ordering::SeqCst).saturating_sub(begun))
    }
}

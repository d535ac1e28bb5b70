//! `cptfork` as a subject of measured rounds.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hs_core::platform::View;
use kernel::cpt::Other;

use super::child::{Child, Expected, Nursery, Take, When};
use super::memory::{DirtySet, Memory};
use crate::failure::Failure;
use crate::rounds::{self, Measured, Repeats, Subject};

/// Measures checkpoints of `memory`, of which `dirty` is modified before each. `older` snapshots are alive all the time.
///
/// # Errors
/// A checkpoint could not be taken, or was cancelled.
pub(super) fn measure(
    repeats: Repeats,
    memory: &mut Memory,
    dirty: &DirtySet,
    view: View,
    older: usize,
) -> Result<Measured, Failure> {
    let nursery = Nursery::new();
    nursery.settle()?;
    let take = match view {
        View::Whole => Take::All(Arc::from(memory.ranges())),
        View::Incremental | View::Copied => Take::Dirty,
    };
    let mut fork = Fork {
        memory,
        dirty,
        view,
        take,
        nursery,
        older,
        expected: None,
        children: Vec::new(),
    };
    rounds::measure(repeats, &mut fork)
}

struct Fork<'a> {
    memory: &'a mut Memory,
    dirty: &'a DirtySet,
    view: View,
    take: Take,
    nursery: Nursery,
    /// Snapshots beside the one that is measured.
    older: usize,
    expected: Option<Expected>,
    /// Alive, the oldest first.
    children: Vec<Child>,
}

impl Drop for Fork<'_> {
    /// After a failure some may be alive, and with them the memory could not be unmapped.
    fn drop(&mut self) {
        for child in self.children.drain(..) {
            if let Err(failure) = child.end() {
                log::error!("{failure}");
            }
        }
    }
}

impl Fork<'_> {
    fn expected(&self) -> Expected {
        self.nursery.expect(self.take.clone(), When::Released)
    }
}

impl Subject for Fork<'_> {
    fn write(&mut self, value: u8) {
        self.memory.write(self.dirty, value);
    }

    fn surround(&mut self) -> Result<(), Failure> {
        for _ in 0..self.older {
            self.memory.write(self.dirty, 0);
            let (child, _) = self.expected().fork(self.view, Other::Share)?;
            child.settle()?;
            self.children.push(child);
        }
        Ok(())
    }

    fn expect(&mut self) {
        self.expected = Some(self.expected());
    }

    fn checkpoint(&mut self) -> Result<u64, Failure> {
        let expected = self.expected.take().unwrap_or_else(|| self.expected());
        let (child, pause_ns) = expected.fork(self.view, Other::Share)?;
        self.children.push(child);
        Ok(pause_ns)
    }

    fn settle(&mut self) -> Result<(), Failure> {
        self.children.last().map_or(Ok(()), Child::settle)
    }

    /// The measured one ends first: how long it takes does not depend on those beside it.
    fn end(&mut self) -> Result<u64, Failure> {
        let mut first_ns = None;
        while let Some(child) = self.children.pop() {
            first_ns.get_or_insert(child.end()?);
            if matches!(self.take, Take::Dirty) {
                self.nursery.check_listed(self.memory.addresses(self.dirty))?;
            }
        }
        Ok(first_ns.unwrap_or(0))
    }
}

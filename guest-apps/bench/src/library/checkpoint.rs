//! The pause of the library's `checkpoint()` beside that of `cptfork`, in the same state: the same classes, the same pages of
//! them modified, one after the other.
//!
//! What the library adds: it takes down what is registered and where its areas are, asks its policy, makes the child's task,
//! and keeps the allocation lock meanwhile. After the `cptfork` it lets go of its locks, without any translations.
//!
//! And the same call without the kernel's support, where everything is copied in the pause: the library on plain copies.

use alloc::format;
use alloc::vec::Vec;

use bench_plan::experiment::Experiment;
use bench_plan::words::Freeze;
use hs_core::checkpoint::Flags;
use hs_core::figure::Figure;
use hs_core::platform::{CheckpointMemory, PAGE_LEN, View};
use hs_core::policy::Choice;
use kernel::cpt::{Mode, Other};

use super::pages::Pages;
use super::sink::Nowhere;
use super::taker::{Checkpoints, Taker, Wire};
use super::{clear, start};
use crate::failure::Failure;
use crate::raw::child::{Child, Expected, Nursery, Take, When};
use crate::raw::memory::check_room;
use crate::rounds::{Measured, Point, Repeats, Subject, measure};
use crate::{Context, MIB_PAGES, refuse};

const SIZES_MIB: [usize; 3] = [4, 64, 256];

/// Beyond that the plain copies take longer than they teach.
const PLAIN_MIB_MAX: usize = 64;

/// 10 % modified, frozen lazily, sent nowhere; and the same on plain copies. A size that fails is refused, and the next one goes on.
pub(crate) fn run(context: Context) {
    for mib in SIZES_MIB {
        let point = Point {
            experiment: Experiment::Checkpoint.name(),
            x: mib as f64,
            unit: "MiB",
        };
        if let Err(failure) = size(context, &point, mib * MIB_PAGES) {
            refuse(context.guest, &format!("{point} ({})", Mode::Lazy), &failure);
        }
        if mib <= PLAIN_MIB_MAX
            && let Err(failure) = plain(context, &point, mib * MIB_PAGES)
        {
            refuse(
                context.guest,
                &format!("{point} ({})", Freeze::Plain.name()),
                &failure,
            );
        }
    }
}

fn size(context: Context, point: &Point, count: usize) -> Result<(), Failure> {
    // A first checkpoint of everything may need as much again.
    check_room(2 * count)?;
    let memory = start(context, Some(Freeze::Lazy))?;
    let result = both(context, memory, point, count);
    clear(memory)?;
    result
}

fn plain(context: Context, point: &Point, count: usize) -> Result<(), Failure> {
    check_room(2 * count)?;
    let memory = start(context, Some(Freeze::Plain))?;
    let result = copied(context, memory, point, count);
    clear(memory)?;
    result
}

/// On plain copies: everything is sent each time, whatever was modified.
fn copied(
    context: Context,
    memory: &'static dyn CheckpointMemory,
    point: &Point,
    count: usize,
) -> Result<(), Failure> {
    let mut pages = Pages::new();
    pages.grow(count, 4)?;
    let dirty = pages.dirty_set(10, 4);
    let (measured, _) = checkpoints(Repeats::of(context, dirty.len()), memory, &pages, &dirty)?;
    context.tell(Figure {
        lost_throughput: Some(measured.lost.median()),
        ..measured.figure(point, "checkpoint-plain", (count * PAGE_LEN) as u64)
    });
    Ok(())
}

fn both(
    context: Context,
    memory: &'static dyn CheckpointMemory,
    point: &Point,
    count: usize,
) -> Result<(), Failure> {
    let mut pages = Pages::new();
    pages.grow(count, 4)?;
    let dirty: Vec<usize> = pages.dirty_set(10, 4);
    let bytes = (dirty.len() * PAGE_LEN) as u64;
    let (measured, header_bytes) = checkpoints(Repeats::of(context, dirty.len()), memory, &pages, &dirty)?;
    context.tell(Figure {
        header_bytes: Some(header_bytes),
        lost_throughput: Some(measured.lost.median()),
        ..measured.figure(point, "checkpoint-lazy", bytes)
    });
    context.tell(measured.flush_figure(point));
    let mut forks = Forks {
        pages: &pages,
        dirty: &dirty,
        nursery: Nursery::new(),
        expected: None,
        child: None,
    };
    let measured = measure(Repeats::of(context, dirty.len()), &mut forks)?;
    context.tell(Figure {
        lost_throughput: Some(measured.lost.median()),
        ..measured.figure(point, "cptfork-lazy", bytes)
    });
    Ok(())
}

/// The library's, of what is modified; and each one's bytes of headers.
pub(super) fn checkpoints(
    repeats: Repeats,
    memory: &'static dyn CheckpointMemory,
    pages: &Pages,
    dirty: &[usize],
) -> Result<(Measured, u64), Failure> {
    let taker = Taker::alone(memory, &Nowhere, Choice::Incremental, Wire::default());
    taker.catch_up()?;
    let flags = Flags::ASYNC | Flags::INCREMENTAL;
    let mut checkpoints = Checkpoints::new(&taker, pages, dirty, flags)?;
    let before = taker.status();
    let measured = measure(repeats, &mut checkpoints)?;
    let after = taker.status();
    let sent_bytes = (after.bytes - before.bytes) / (after.taken - before.taken).max(1);
    Ok((measured, sent_bytes - (dirty.len() * PAGE_LEN) as u64))
}

/// `cptfork` of the library's memory, without the library.
struct Forks<'a> {
    pages: &'a Pages,
    dirty: &'a [usize],
    nursery: Nursery,
    expected: Option<Expected>,
    child: Option<Child>,
}

impl Forks<'_> {
    fn expected(&self) -> Expected {
        self.nursery.expect(Take::Dirty, When::Released)
    }
}

impl Subject for Forks<'_> {
    fn write(&mut self, value: u8) {
        self.pages.write(self.dirty, value);
    }

    fn expect(&mut self) {
        self.expected = Some(self.expected());
    }

    fn checkpoint(&mut self) -> Result<u64, Failure> {
        let expected = self.expected.take().unwrap_or_else(|| self.expected());
        let (child, pause_ns) = expected.fork(View::Incremental, Other::Share)?;
        self.child = Some(child);
        Ok(pause_ns)
    }

    fn settle(&mut self) -> Result<(), Failure> {
        self.child.as_ref().map_or(Ok(()), Child::settle)
    }

    fn end(&mut self) -> Result<u64, Failure> {
        let child_ns = self.child.take().map_or(Ok(0), Child::end)?;
        self.nursery.check_listed(self.pages.addresses(self.dirty))?;
        Ok(child_ns)
    }
}

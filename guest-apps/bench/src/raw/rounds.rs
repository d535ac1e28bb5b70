//! Rounds: what one checkpoint takes from the writer, against the same writes without one.
//!
//! ```text
//! flush       write │ CR3 reload │ write again                                   ╮
//! checkpoint  write │  cptfork   │ write again │ child released … ended           ├ in turn
//! plain       write │            │ write again                                   ╯
//!                    ╰─ pause ──╯ ╰ rewrite ─╯
//! ```
//!
//! `write` is one byte to each page of the dirty set. The *pause* is from the entry of `cptfork` to its return. The *stall* is
//! the pause and by how much the rewrite took longer than that of the flush round beside it: the processor's translations have
//! to be found again after either, and that is not counted here. What it costs is the stall of the series `tlb-flush`: the
//! reload, and by how much the rewrite after it took longer than a plain one. So the stall against plain writes, with the
//! translations warm, is the sum: a checkpoint's stall and what `tlb-flush` has beyond its pause.
//!
//! The reload is measured in rounds of its own because it leaves no translations for a `cptfork` behind it to drop; under an
//! emulator that is most of what either costs. So that both find the same, `write` is really several, with a reload
//! behind each but the last: QEMU makes its table of translations larger or smaller when it drops them, by how much of it was
//! in use lately, and whoever comes first after a child's end would pay for that (600 µs at 1 GiB).

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bench_plan::experiment::Experiment;
use bench_plan::statistics::{self, Samples};
use hs_core::figure::Figure;
use hs_core::platform::View;
use kernel::cpt::{self, Counters, Other};
use kernel::time::stopwatch_ns;

use super::child::{Nursery, Take, When};
use super::memory::{DirtySet, Memory};
use crate::Context;
use crate::failure::Failure;

/// Page writes that a run is worth, in as many rounds as they are enough for: long enough to be sure, not to bore.
const WRITES: usize = 40_000;
const WRITES_QUICK: usize = 4_000;
/// Rounds of a run, whatever their size.
const ROUNDS_MIN: usize = 3;
const ROUNDS_MAX: usize = 40;
const ROUNDS_MAX_QUICK: usize = 15;

/// Reloads before each measured one.
const SETTLING: usize = 4;

/// How often something is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repeats {
    pub(super) runs: usize,
    pub(super) rounds: usize,
}

impl Repeats {
    /// For rounds that write to so many pages each.
    pub(super) fn of(context: Context, dirty_pages: usize) -> Self {
        let (writes, most) = if context.quick {
            (WRITES_QUICK, ROUNDS_MAX_QUICK)
        } else {
            (WRITES, ROUNDS_MAX)
        };
        Repeats {
            runs: context.runs(),
            rounds: (writes / dirty_pages.max(1)).clamp(ROUNDS_MIN, most),
        }
    }
}

/// What was measured, in microseconds.
#[derive(Default)]
pub(super) struct Measured {
    pub(super) pause: Samples,
    pub(super) stall: Samples,
    pub(super) child: Samples,
    pub(super) faults: Samples,
    pub(super) flush: Samples,
    pub(super) flush_stall: Samples,
    /// How much longer than the reload beside it `cptfork` took.
    pub(super) above_flush: Samples,
}

pub(super) fn us(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

/// What the kernel counted since `before`.
pub(super) fn since(before: Counters) -> Counters {
    let now = cpt::counters();
    Counters {
        span_faults: now.span_faults - before.span_faults,
        write_faults: now.write_faults - before.write_faults,
        copies: now.copies - before.copies,
        stale_faults: now.stale_faults - before.stale_faults,
        hot_copies: now.hot_copies - before.hot_copies,
        child_faults: now.child_faults - before.child_faults,
        cancelled: now.cancelled - before.cancelled,
    }
}

/// Rounds over `memory`, of which `dirty` is modified in each. `older` snapshots are alive all the time.
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
    let take = match view {
        View::Whole => Take::All(Arc::from(memory.ranges())),
        View::Incremental | View::Copied => Take::Dirty,
    };
    let mut measured = Measured::default();
    let mut rounds = Rounds {
        memory,
        dirty,
        view,
        older,
        nursery,
        take,
        value: 0,
    };
    rounds.nursery.settle()?;
    // One round for what is slow at first only: the frames, the children's room.
    rounds.round(&mut Measured::default())?;
    let before = cpt::counters();
    for _ in 0..repeats.runs {
        measured.begin_run();
        for _ in 0..repeats.rounds {
            rounds.round(&mut measured)?;
        }
    }
    match since(before).cancelled {
        0 => Ok(measured),
        count => Err(Failure::Cancelled(count)),
    }
}

struct Rounds<'a> {
    memory: &'a mut Memory,
    dirty: &'a DirtySet,
    view: View,
    older: usize,
    nursery: Nursery,
    take: Take,
    /// What was written last.
    value: u8,
}

impl Rounds<'_> {
    /// Writes to every page of the dirty set; how long it took, in nanoseconds.
    fn write(&mut self) -> u64 {
        self.value = self.value.wrapping_add(1);
        let begun = stopwatch_ns();
        self.memory.write(self.dirty, self.value);
        stopwatch_ns() - begun
    }

    /// The dirty set is written, and the processor's translations are those of it.
    fn prepare(&mut self) {
        for _ in 0..SETTLING {
            self.write();
            cpt::flush_all();
        }
        self.write();
    }

    /// One round of each kind.
    fn round(&mut self, into: &mut Measured) -> Result<(), Failure> {
        self.prepare();
        let begun = stopwatch_ns();
        cpt::flush_all();
        let flush_ns = stopwatch_ns() - begun;
        let refilled_ns = self.write();

        let mut older = Vec::new();
        for _ in 0..self.older {
            self.write();
            let child = self.nursery.expect(self.take.clone(), When::Released);
            older.push(child.fork(self.view, Other::Share)?.0);
        }
        self.prepare();
        let expected = self.nursery.expect(self.take.clone(), When::Released);
        let before = cpt::counters();
        let (child, pause_ns) = expected.fork(self.view, Other::Share)?;
        let rewrite_ns = self.write();
        let counted = since(before);
        let child_ns = child.end()?;
        for child in older {
            child.end()?;
        }

        self.write();
        let plain_ns = self.write();

        into.pause.add(us(pause_ns));
        into.stall.add(us(pause_ns) + us(rewrite_ns) - us(refilled_ns));
        into.child.add(us(child_ns));
        into.faults.add(counted.parent_faults() as f64);
        into.flush.add(us(flush_ns));
        into.flush_stall
            .add(us(flush_ns) + us(refilled_ns) - us(plain_ns));
        into.above_flush.add(us(pause_ns) - us(flush_ns));
        Ok(())
    }
}

impl Measured {
    fn begin_run(&mut self) {
        for samples in [
            &mut self.pause,
            &mut self.stall,
            &mut self.child,
            &mut self.faults,
            &mut self.flush,
            &mut self.flush_stall,
            &mut self.above_flush,
        ] {
            samples.begin_run();
        }
    }

    /// The checkpoints' figure, each of so many bytes.
    pub(super) fn figure(&self, point: &Point, series: &str, bytes: u64) -> Figure {
        Figure {
            bytes,
            faults: Some(statistics::mean(&self.faults.all())),
            child_us: Some(self.child.median()),
            ..point.figure(series, &self.pause, &self.stall)
        }
    }

    /// The reload's.
    pub(super) fn flush_figure(&self, point: &Point) -> Figure {
        point.figure("tlb-flush", &self.flush, &self.flush_stall)
    }

    /// That of the pauses less the reload beside each.
    pub(super) fn above_flush_figure(&self, point: &Point) -> Figure {
        point.figure("lazy-above-flush", &self.above_flush, &self.above_flush)
    }
}

/// Where in a plot.
pub(super) struct Point {
    pub(super) experiment: Experiment,
    pub(super) x: f64,
    pub(super) unit: &'static str,
}

impl Point {
    /// A figure of these pauses and stalls.
    pub(super) fn figure(&self, series: &str, pause: &Samples, stall: &Samples) -> Figure {
        Figure {
            experiment: self.experiment.name().to_string(),
            series: series.to_string(),
            x: self.x,
            x_unit: self.unit.to_string(),
            pause_us: statistics::pause(&pause.all()),
            stall_us: stall.median(),
            stall_spread_us: stall.spread(),
            pause_spread_us: pause.spread(),
            runs: pause.runs(),
            ..Figure::default()
        }
    }
}

//! The thesis's tables 3-1 to 3-3: four hundred forks in a row, and what becomes of the memory outside of the checkpoint
//! ranges.
//!
//! There is no user mode here, hence no system time that a kernel could keep account of. What stands for it: the program's own
//! time (`user_s`) is what its writes take without any fork, the system's is the rest of the time that the processor was
//! busy. Children that sleep cost nothing; their beginning and end are in the system's time, as a process's are.
//!
//! As on Linux (`benches/peers`), the baseline of the stall is writes with the translations in place, just before the run, and
//! a child comes to rest before the parent writes; a row's `bytes` are all that a child holds as it was.

use bench_plan::experiment::Experiment;
use bench_plan::pattern;
use bench_plan::statistics::{self, Samples};
use hs_core::figure::Figure;
use hs_core::platform::{PAGE_LEN, View};
use kernel::cpt::{self, Mode, Other};
use kernel::thread;
use kernel::time::stopwatch_ns;

use super::child::{Nursery, Take, When};
use super::memory::{DirtySet, Memory, check_room};
use crate::failure::Failure;
use crate::rounds::{Point, check_cancelled, since, us};
use crate::{Context, MIB_PAGES};

const FORKS: usize = 400;
const MIB: usize = 16;
const ENTRIES: usize = 20_000;

/// What the memory outside of the checkpoint ranges is to a child.
const OTHERS: [(&str, Other); 3] = [
    ("cow", Other::Cow),
    ("share", Other::Share),
    ("drop", Other::Drop),
];

/// Table 3-1: checkpoint ranges of 16 MiB, with nothing written between the forks.
pub(super) fn forks(context: Context) -> Result<(), Failure> {
    let pages = MIB * MIB_PAGES;
    check_room(3 * pages)?;
    let point = Point {
        experiment: Experiment::Table31.name(),
        x: MIB as f64,
        unit: "MiB",
    };
    for mode in Mode::ALL {
        let mut memory = Memory::install(mode, pages, 1)?;
        let nothing = memory.dirty_set(0, 1);
        let table = Table::measure(context, &mut memory, &nothing, Other::Share)?;
        context.tell(table.figure(&point, mode.name(), pages));
    }
    Ok(())
}

/// Table 3-2: 16 MiB outside of the checkpoint ranges; after each fork every tenth page is written to.
pub(super) fn writes(context: Context) -> Result<(), Failure> {
    let pages = MIB * MIB_PAGES;
    check_room(3 * pages)?;
    let point = Point {
        experiment: Experiment::Table32.name(),
        x: MIB as f64,
        unit: "MiB",
    };
    let mut memory = Memory::map(Mode::Lazy, pages, 1)?;
    let tenth = memory.dirty_set(pattern::share(pages, 10), 1);
    for (series, other) in OTHERS {
        let table = Table::measure(context, &mut memory, &tenth, other)?;
        context.tell(table.figure(&point, series, held(other, pages)));
    }
    Ok(())
}

/// Table 3-3: 20000 pages outside of the checkpoint ranges, each mapped by itself and with a hole behind it.
pub(super) fn entries(context: Context) -> Result<(), Failure> {
    check_room(2 * ENTRIES)?;
    let point = Point {
        experiment: Experiment::Table33.name(),
        x: ENTRIES as f64,
        unit: "map entries",
    };
    let mut memory = Memory::map_apart(Mode::Lazy, core::iter::repeat_n(1, ENTRIES), 1)?;
    let nothing = memory.dirty_set(0, 1);
    for (series, other) in OTHERS {
        let table = Table::measure(context, &mut memory, &nothing, other)?;
        context.tell(table.figure(&point, series, held(other, ENTRIES)));
    }
    Ok(())
}

/// How many of `pages` pages outside of the checkpoint ranges a child holds as they were.
fn held(other: Other, pages: usize) -> usize {
    match other {
        Other::Cow => pages,
        Other::Share | Other::Drop => 0,
    }
}

/// What the runs of four hundred forks took.
#[derive(Default)]
struct Table {
    pause: Samples,
    stall: Samples,
    child: Samples,
    user_s: Samples,
    system_s: Samples,
    wall_s: Samples,
    faults: Samples,
}

impl Table {
    fn measure(
        context: Context,
        memory: &mut Memory,
        written: &DirtySet,
        other: Other,
    ) -> Result<Table, Failure> {
        let nursery = Nursery::new();
        nursery.settle()?;
        let mut table = Table::default();
        for _ in 0..context.runs() {
            for samples in [&mut table.pause, &mut table.stall, &mut table.child] {
                samples.begin_run();
            }
            table.run(&nursery, memory, written, other)?;
        }
        Ok(table)
    }

    /// Four hundred forks; before them, the same writes without.
    fn run(
        &mut self,
        nursery: &Nursery,
        memory: &mut Memory,
        written: &DirtySet,
        other: Other,
    ) -> Result<(), Failure> {
        let mut plain = Samples::default();
        memory.write(written, 1);
        for _ in 0..FORKS / 10 {
            plain.add(timed_write(memory, written));
        }
        let before = cpt::counters();
        let (begun, idle_us) = (stopwatch_ns(), thread::idle_us());
        for _ in 0..FORKS {
            let expected = nursery.expect(Take::Nothing, When::Released);
            let (child, pause_ns) = expected.fork(View::Incremental, other)?;
            child.settle()?;
            let write_us = timed_write(memory, written);
            let child_ns = child.end()?;
            self.pause.add(us(pause_ns));
            self.stall.add(us(pause_ns) + write_us - plain.median());
            self.child.add(us(child_ns));
        }
        let wall_us = us(stopwatch_ns() - begun);
        let busy_us = wall_us - (thread::idle_us() - idle_us) as f64;
        let user_us = plain.median() * FORKS as f64;
        self.user_s.add(user_us / 1e6);
        self.system_s.add((busy_us - user_us).max(0.0) / 1e6);
        self.wall_s.add(wall_us / 1e6);
        self.faults.add(since(before).parent_faults as f64);
        check_cancelled(before)
    }

    /// Each child holds `frozen_pages`.
    fn figure(&self, point: &Point, series: &str, frozen_pages: usize) -> Figure {
        let median = |samples: &Samples| Some(statistics::median(&samples.all()));
        Figure {
            bytes: (frozen_pages * PAGE_LEN) as u64,
            child_us: Some(self.child.median()),
            user_s: median(&self.user_s),
            system_s: median(&self.system_s),
            wall_s: median(&self.wall_s),
            wall_spread_s: Some(statistics::spread(&self.wall_s.all())),
            faults: median(&self.faults),
            ..point.figure(series, &self.pause, &self.stall)
        }
    }
}

/// How long the writes take, in microseconds.
fn timed_write(memory: &mut Memory, written: &DirtySet) -> f64 {
    let begun = stopwatch_ns();
    memory.write(written, 1);
    us(stopwatch_ns() - begun)
}

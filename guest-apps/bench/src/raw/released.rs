//! What a write costs while a snapshot is alive, to a page that was sent already and to a page that was clean: nothing, as the
//! fault counters are to show.
//!
//! Faults that only found the processor's translation out of date are counted apart, in series of their own.

use bench_plan::experiment::Experiment;
use bench_plan::pattern;
use bench_plan::statistics::{self, Samples};
use hs_core::figure::Figure;
use hs_core::platform::View;
use kernel::cpt::{self, Counters, Mode, Other};
use kernel::time::stopwatch_ns;

use super::child::{Nursery, Take, When};
use super::memory::{DirtySet, Memory, check_room};
use crate::failure::Failure;
use crate::rounds::{Point, Repeats, check_cancelled, since, us};
use crate::{Context, MIB_PAGES};

const MIB: usize = 64;

/// What was counted and timed of the writes that should cost nothing.
#[derive(Default)]
struct Free {
    pause: Samples,
    stall: Samples,
    faults: Samples,
    stale: Samples,
    copies: Samples,
}

/// 64 MiB, 10 % modified.
pub(super) fn run(context: Context) -> Result<(), Failure> {
    let pages = MIB * MIB_PAGES;
    let dirty_pages = pattern::share(pages, 10);
    check_room(pages + 3 * dirty_pages)?;
    let mut memory = Memory::install(Mode::Lazy, pages, 4)?;
    let dirty = memory.dirty_set(dirty_pages, 4);
    let clean = memory.clean_set(&dirty);
    let point = Point {
        experiment: Experiment::Released.name(),
        x: MIB as f64,
        unit: "MiB",
    };
    let nursery = Nursery::new();
    nursery.settle()?;
    let repeats = Repeats::of(context, dirty_pages);
    let before = cpt::counters();

    let mut sent = Free::default();
    for _ in 0..repeats.runs {
        sent.begin_run();
        for _ in 0..repeats.rounds {
            let plain_ns = plain(&mut memory, &dirty);
            memory.write(&dirty, 1);
            let expected = nursery.expect(Take::Dirty, When::AtOnce);
            let (child, pause_ns) = expected.fork(View::Incremental, Other::Share)?;
            child.wait_taken()?;
            sent.watch(&mut memory, &dirty, pause_ns, plain_ns);
            child.end()?;
            nursery.check_listed(memory.addresses(&dirty))?;
        }
    }
    sent.tell(
        context,
        &point,
        dirty.bytes(),
        ["released", "released-stale", "released-copies"],
    );

    let mut untouched = Free::default();
    for _ in 0..repeats.runs {
        untouched.begin_run();
        for _ in 0..repeats.rounds {
            // What the last round wrote is sent first, so that the clean pages are clean.
            nursery.settle()?;
            let plain_ns = plain(&mut memory, &clean);
            nursery.settle()?;
            memory.write(&dirty, 1);
            let expected = nursery.expect(Take::Dirty, When::Released);
            let (child, pause_ns) = expected.fork(View::Incremental, Other::Share)?;
            child.settle()?;
            // Every span is touched, and so settled, by writes that do cost.
            memory.write(&dirty, 2);
            untouched.watch(&mut memory, &clean, pause_ns, plain_ns);
            child.end()?;
            nursery.check_listed(memory.addresses(&dirty))?;
        }
    }
    let names = ["clean-writes", "clean-writes-stale", "clean-writes-copies"];
    untouched.tell(context, &point, dirty.bytes(), names);
    check_cancelled(before)
}

/// How long the writes take with the translations in place and no snapshot alive, as in [`rounds`](crate::rounds); in
/// nanoseconds.
fn plain(memory: &mut Memory, set: &DirtySet) -> u64 {
    memory.write(set, 1);
    let begun = stopwatch_ns();
    memory.write(set, 2);
    stopwatch_ns() - begun
}

impl Free {
    fn begin_run(&mut self) {
        for samples in [
            &mut self.pause,
            &mut self.stall,
            &mut self.faults,
            &mut self.stale,
            &mut self.copies,
        ] {
            samples.begin_run();
        }
    }

    /// Writes to every page of `set`, and takes down what that cost.
    fn watch(&mut self, memory: &mut Memory, set: &DirtySet, pause_ns: u64, plain_ns: u64) {
        let before = cpt::counters();
        let begun = stopwatch_ns();
        memory.write(set, 3);
        let rewrite_ns = stopwatch_ns() - begun;
        let Counters {
            span_faults,
            write_faults,
            stale_faults,
            copies,
            ..
        } = since(before);
        self.pause.add(us(pause_ns));
        self.stall.add(us(pause_ns) + us(rewrite_ns) - us(plain_ns));
        self.faults.add((span_faults + write_faults) as f64);
        self.stale.add(stale_faults as f64);
        self.copies.add(copies as f64);
    }

    /// Three figures: the faults, those that only found a translation out of date, and the copies.
    fn tell(&self, context: Context, point: &Point, bytes: u64, names: [&str; 3]) {
        for (series, counted) in names.into_iter().zip([&self.faults, &self.stale, &self.copies]) {
            context.tell(Figure {
                bytes,
                faults: Some(statistics::mean(&counted.all())),
                ..point.figure(series, &self.pause, &self.stall)
            });
        }
    }
}

//! Rounds: what one checkpoint takes from the writer, against the same writes without one.
//!
//! ```text
//! plain       write │ write again                                                  ╮
//! flush       write │ CR3 reload │ write again                                     ├ in turn
//! checkpoint  write │  cptfork   │ settle │ write again │ child released … ended   ╯
//!                   ╰── pause ───╯        ╰── rewrite ──╯
//! ```
//!
//! `write` is one byte to each page of the dirty set. The *pause* is from the entry of `cptfork` to its return. The *stall* is
//! the pause and by how much the rewrite took longer than a plain one: the same writes with nothing protected and the
//! processor's translations of the dirty set in place, just before in the same round. So the stall has in it whatever comes of
//! the checkpoint: faults, copies, and translations that the processor has to find again.
//!
//! This is what the peers on Linux measure (`benches/peers`): their baseline, too, is taken after writes of the same pages,
//! with the translations in place, just before the run. Theirs is the median of nine writes for all rounds of a run, ours
//! one write for each round, so that a drift of the machine is in both sides of the difference; for medians of many rounds
//! that is the same. *Settle*, as theirs: a child that is held back gets the time to come to rest, uncounted, and the
//! rewrite finds the translations as the switch back from it left them.
//!
//! The series `tlb-flush` is the part of pause and stall that no `cptfork` can do without: the reload, and by how much the
//! rewrite after it took longer than a plain one. The reload is measured in rounds of its own because it leaves no
//! translations for a `cptfork` behind it to drop; under an emulator that is most of what either costs. So that all find
//! the same, `write` before each is really several, with a reload behind each but the last: QEMU makes its table of
//! translations larger or smaller when it drops them, by how much of it was in use lately, and whoever comes first after a
//! child's end would pay for that (600 µs at 1 GiB). Linux, which drops them at each switch, has this behind it as well.
//!
//! Each round ends with a look at what the checkpoint held: a subject whose list of modified pages is not that of the
//! writes is no measurement.

use alloc::string::ToString;
use core::fmt;

use bench_plan::statistics::{self, Samples};
use hs_core::figure::Figure;
use kernel::cpt::{self, Counters};
use kernel::time::stopwatch_ns;

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
pub(crate) struct Repeats {
    pub(crate) runs: usize,
    pub(crate) rounds: usize,
}

impl Repeats {
    /// As many as it takes until a processor's emulator has forgotten a larger memory that was in use before: QEMU makes its table of
    /// translations smaller a tenth of a second after that at the earliest, and until then takes 12 µs more to empty it.
    pub(crate) const SETTLING: Repeats = Repeats { runs: 1, rounds: 250 };

    /// For rounds that write to so many pages each.
    pub(crate) fn of(context: Context, dirty_pages: usize) -> Self {
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
pub(crate) struct Measured {
    pub(crate) pause: Samples,
    pub(crate) stall: Samples,
    pub(crate) child: Samples,
    pub(crate) faults: Samples,
    pub(crate) flush: Samples,
    pub(crate) flush_stall: Samples,
    /// How much longer than the reload beside it `cptfork` took.
    pub(crate) above_flush: Samples,
    /// Share of a writer's throughput that a checkpoint takes at each write of the dirty set, from 0 to 1.
    pub(crate) lost: Samples,
}

/// Nanoseconds as microseconds.
pub(crate) fn us(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

/// What the kernel counted since `before`.
pub(crate) fn since(before: Counters) -> Counters {
    cpt::counters().since(before)
}

/// Whether every checkpoint since `before` was kept.
///
/// # Errors
/// The kernel cancelled some.
pub(crate) fn check_cancelled(before: Counters) -> Result<(), Failure> {
    match since(before).cancelled {
        0 => Ok(()),
        count => Err(Failure::Cancelled(count)),
    }
}

/// What takes checkpoints of something that it writes to. All times are nanoseconds.
pub(crate) trait Subject {
    /// Writes `value` to every page of the dirty set.
    fn write(&mut self, value: u8);

    /// Whatever else is alive while a checkpoint is measured begins.
    ///
    /// # Errors
    /// It does not.
    fn surround(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// What a checkpoint needs that is not part of its pause.
    fn expect(&mut self) {}

    /// Takes a checkpoint: its pause.
    ///
    /// # Errors
    /// It was refused.
    fn checkpoint(&mut self) -> Result<u64, Failure>;

    /// Lets the child come to rest, if it is held back.
    ///
    /// # Errors
    /// It does not.
    fn settle(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// Brings the checkpoint to its end, and what surrounds it: how long its child took.
    ///
    /// # Errors
    /// It did not end, was lost, or held something else than what was written.
    fn end(&mut self) -> Result<u64, Failure>;
}

/// Rounds over `subject`, which has nothing modified but its dirty set.
///
/// # Errors
/// A checkpoint could not be taken, or was cancelled.
pub(crate) fn measure(repeats: Repeats, subject: &mut dyn Subject) -> Result<Measured, Failure> {
    let mut measured = Measured::default();
    let mut rounds = Rounds { subject, value: 0 };
    // One round for what is slow at first only: the frames, the children's room.
    rounds.round(&mut Measured::default())?;
    let before = cpt::counters();
    for _ in 0..repeats.runs {
        measured.begin_run();
        for _ in 0..repeats.rounds {
            rounds.round(&mut measured)?;
        }
    }
    check_cancelled(before)?;
    Ok(measured)
}

struct Rounds<'a> {
    subject: &'a mut dyn Subject,
    /// What was written last.
    value: u8,
}

impl Rounds<'_> {
    /// Writes to every page of the dirty set; how long it took, in nanoseconds.
    fn write(&mut self) -> u64 {
        self.value = self.value.wrapping_add(1);
        let begun = stopwatch_ns();
        self.subject.write(self.value);
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
        let plain_ns = self.write();

        self.prepare();
        let begun = stopwatch_ns();
        cpt::flush_all();
        let flush_ns = stopwatch_ns() - begun;
        let refilled_ns = self.write();

        self.subject.surround()?;
        self.prepare();
        self.subject.expect();
        let before = cpt::counters();
        let pause_ns = self.subject.checkpoint()?;
        self.subject.settle()?;
        let rewrite_ns = self.write();
        let counted = since(before);
        let child_ns = self.subject.end()?;

        into.pause.add(us(pause_ns));
        into.stall.add(us(pause_ns) + us(rewrite_ns) - us(plain_ns));
        into.child.add(us(child_ns));
        into.faults.add(counted.parent_faults as f64);
        into.flush.add(us(flush_ns));
        into.flush_stall
            .add(us(flush_ns) + us(refilled_ns) - us(plain_ns));
        into.above_flush.add(us(pause_ns) - us(flush_ns));
        into.lost.add(statistics::lost_throughput(
            us(plain_ns),
            us(pause_ns) + us(rewrite_ns),
        ));
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
            &mut self.lost,
        ] {
            samples.begin_run();
        }
    }

    /// The checkpoints' figure, each of so many bytes.
    pub(crate) fn figure(&self, point: &Point, series: &str, bytes: u64) -> Figure {
        Figure {
            bytes,
            faults: Some(statistics::mean(&self.faults.all())),
            child_us: Some(self.child.median()),
            ..point.figure(series, &self.pause, &self.stall)
        }
    }

    /// The reload's.
    pub(crate) fn flush_figure(&self, point: &Point) -> Figure {
        point.figure("tlb-flush", &self.flush, &self.flush_stall)
    }

    /// That of the pauses less the reload beside each.
    pub(crate) fn above_flush_figure(&self, point: &Point) -> Figure {
        point.figure("lazy-above-flush", &self.above_flush, &self.above_flush)
    }
}

/// Where in a plot.
pub(crate) struct Point {
    pub(crate) experiment: &'static str,
    pub(crate) x: f64,
    pub(crate) unit: &'static str,
}

impl fmt::Display for Point {
    /// As in a refusal: `size-1pct at 4 MiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} {}", self.experiment, self.x, self.unit)
    }
}

impl Point {
    /// A figure of these pauses and stalls.
    pub(crate) fn figure(&self, series: &str, pause: &Samples, stall: &Samples) -> Figure {
        Figure {
            experiment: self.experiment.to_string(),
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

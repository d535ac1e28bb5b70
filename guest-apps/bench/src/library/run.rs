//! The thesis's test program: between checkpoints it modifies some pages and sleeps. All its knobs are words.
//!
//! First its own loop, which gives pauses, faults, bytes and the processor's share; then measured rounds, which give the stall
//! and the child's time. How much of its throughput the writer lost is the time that it was at work in the loop against the
//! same loop without checkpoints.
//!
//! `bytes` is contents of the measured pages, the mean of full and incremental checkpoints as they were taken. `header_bytes` is
//! all else: per checkpoint some 110, 16 for each region and one for the library, 96 for each descriptor, 16 for each thread
//! and signal, 8 for each run of pages and for each 16 pages; in full ones also the library's own pages. In a pair there is
//! also what the service stack modified. Where pages are sent as differences or compressed, `bytes` stays what they hold, and
//! the log says what was sent.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use bench_plan::pattern::share;
use bench_plan::statistics::{self, Samples};
use bench_plan::words::{Freeze, Knobs, Sink};
use hs_core::checkpoint::{CheckpointPipe, Flags};
use hs_core::figure::Figure;
use hs_core::platform::PAGE_LEN;
use hs_core::policy::Choice;
use hs_core::sync::sleep;
use kernel::cpt;
use kernel::options::Cptfork;
use kernel::thread;
use kernel::time::stopwatch_ns;

use super::pages::Pages;
use super::sink::{Local, Nowhere};
use super::taker::{Checkpoints, Taker, Wire};
use super::{clear, registered, start};
use crate::failure::Failure;
use crate::raw::memory::check_room;
use crate::rounds::{Point, Repeats, measure, since, us};
use crate::{Context, MIB_PAGES};

/// Rounds for the stall, at most: the loop has shown the rest.
const ROUNDS_MAX: usize = 20;

/// In a guest alone.
///
/// # Errors
/// See [`Failure`].
pub(crate) fn alone(context: Context, knobs: &Knobs) -> Result<(), Failure> {
    let pipe: &'static dyn CheckpointPipe = match knobs.sink {
        Sink::Pipe => Box::leak(Box::new(Local::start(context)?)),
        Sink::Null | Sink::Link => &Nowhere,
    };
    let figure = into(context, pipe, knobs, 1, &point(knobs), series(knobs))?;
    context.tell(figure);
    Ok(())
}

/// With a `taker` of whatever kind, on a library that was started.
///
/// # Errors
/// See [`Failure`].
pub(crate) fn with(context: Context, knobs: &Knobs, taker: &Taker) -> Result<(), Failure> {
    let figure = run(knobs, taker, 1, &point(knobs), series(knobs))?;
    context.tell(figure);
    Ok(())
}

/// `runs` of the program in a guest alone, whose checkpoints go into `pipe`: the figure of `series` at `point`.
///
/// # Errors
/// See [`Failure`].
pub(super) fn into(
    context: Context,
    pipe: &'static dyn CheckpointPipe,
    knobs: &Knobs,
    runs: usize,
    point: &Point,
    series: &str,
) -> Result<Figure, Failure> {
    let wire = Wire {
        shadow_pages: knobs.shadow_mib * MIB_PAGES,
        compression: knobs.compression,
    };
    let memory = start(context, knobs.freeze)?;
    let result = run(
        knobs,
        &Taker::alone(memory, pipe, knobs.way, wire),
        runs,
        point,
        series,
    );
    clear(memory)?;
    result
}

/// Where a run by itself stands.
fn point(knobs: &Knobs) -> Point {
    Point {
        experiment: "run",
        x: knobs.memory_kib as f64,
        unit: "KiB",
    }
}

/// And as what.
fn series(knobs: &Knobs) -> &'static str {
    match knobs.sink {
        Sink::Pipe | Sink::Link => knobs.sink.name(),
        Sink::Null => match knobs.way {
            Choice::Copy => "copy",
            Choice::Full => "full",
            Choice::Auto | Choice::Incremental => knobs.freeze.map_or(as_told(), Freeze::name),
        },
    }
}

/// The word for the way that the kernel was told.
fn as_told() -> &'static str {
    match kernel::guest().options().cptfork {
        Cptfork::Kernel(mode) => mode.name(),
        Cptfork::Plain => Freeze::Plain.name(),
    }
}

fn run(knobs: &Knobs, taker: &Taker, runs: usize, point: &Point, series: &str) -> Result<Figure, Failure> {
    check_room(knobs.pages() + 2 * share(knobs.pages(), knobs.dirty_percent))?;
    let mut pages = Pages::new();
    pages.grow(knobs.pages(), knobs.regions)?;
    registered::descriptors(0..knobs.descriptors)?;
    registered::threads(0..knobs.threads)?;
    registered::signals(knobs.signals)?;
    taker.catch_up()?;
    let dirty = pages.dirty_set(knobs.dirty_percent, knobs.contiguity);
    let flags = match knobs.sink {
        Sink::Pipe => Flags::INCREMENTAL,
        Sink::Null | Sink::Link => Flags::INCREMENTAL | Flags::ASYNC,
    };

    let work = Work {
        turns: knobs.checkpoints,
        pages: &pages,
        dirty: &dirty,
    };
    let mut looped = Looped::default();
    let status = taker.status();
    for _ in 0..runs {
        looped.run(&work, knobs.interval_ms, taker, flags)?;
    }
    let after = taker.status();
    let taken = (after.taken - status.taken).max(1);
    let full = after.full - status.full;
    let lost = statistics::median(&looped.lost);
    log::info!(
        "{} bytes were sent for each checkpoint",
        (after.bytes - status.bytes) / taken
    );
    log::info!(
        "the writer lost {:.1} % of its throughput; {full} of {taken} checkpoints were full, {} copied",
        lost * 100.0,
        after.copied - status.copied,
    );

    let contents_pages = full * pages.len() as u64 + (taken - full) * dirty.len() as u64;
    let contents_bytes = contents_pages * PAGE_LEN as u64 / taken;
    let sent_bytes = (after.bytes - status.bytes) / taken;
    let rounds = knobs.checkpoints.min(ROUNDS_MAX);
    let mut checkpoints = Checkpoints::new(taker, &pages, &dirty, flags)?;
    let measured = measure(Repeats { runs, rounds }, &mut checkpoints)?;
    let measured = measured.figure(point, series, contents_bytes);
    Ok(Figure {
        pause_us: statistics::pause(&looped.pause.all()),
        pause_spread_us: looped.pause.spread(),
        faults: Some(looped.faults as f64 / taken as f64),
        header_bytes: Some(sent_bytes.saturating_sub(contents_bytes)),
        cpu_share: Some(statistics::median(&looped.cpu_share)),
        rate_per_s: Some(statistics::median(&looped.rate_per_s)),
        rate_spread_per_s: Some(statistics::spread(&looped.rate_per_s)),
        lost_throughput: Some(lost),
        // Whoever waits for the checkpoint has the child's time in the pause.
        child_us: measured.child_us.filter(|_| knobs.sink != Sink::Pipe),
        ..measured
    })
}

/// What the runs of the loop showed.
#[derive(Default)]
struct Looped {
    pause: Samples,
    /// Of all runs.
    faults: u64,
    /// These of each run.
    lost: Vec<f64>,
    cpu_share: Vec<f64>,
    rate_per_s: Vec<f64>,
}

impl Looped {
    /// One run; before it, the same work without checkpoints.
    fn run(&mut self, work: &Work, interval_ms: u64, taker: &Taker, flags: Flags) -> Result<(), Failure> {
        // What the last checkpoint has left to the first writes is no part of the work.
        work.pages.write(work.dirty, 0);
        let plain_us = work.turns(0, &mut || Ok(()))?;
        let (counted, status) = (cpt::counters(), taker.status());
        let (begun, idle_us) = (stopwatch_ns(), thread::idle_us());
        self.pause.begin_run();
        let taken_us = work.turns(interval_ms, &mut || {
            self.pause.add(us(taker.checkpoint(flags)?));
            Ok(())
        })?;
        taker.settle(status)?;
        let wall_us = us(stopwatch_ns() - begun);
        let busy_us = wall_us - (thread::idle_us() - idle_us) as f64;
        self.faults += since(counted).parent_faults;
        self.lost.push(statistics::lost_throughput(plain_us, taken_us));
        self.cpu_share.push(busy_us / wall_us);
        self.rate_per_s.push(work.turns as f64 / wall_us * 1e6);
        Ok(())
    }
}

/// The program's loop.
struct Work<'a> {
    turns: usize,
    pages: &'a Pages,
    dirty: &'a [usize],
}

impl Work<'_> {
    /// Runs it, with `between` where it takes a checkpoint, and no more than `interval_ms` from one to the next if that can
    /// be. How long it did not sleep, in microseconds.
    fn turns(
        &self,
        interval_ms: u64,
        between: &mut dyn FnMut() -> Result<(), Failure>,
    ) -> Result<f64, Failure> {
        let (interval_ns, mut worked_ns) = (interval_ms * 1_000_000, 0);
        for turn in 0..self.turns {
            let begun = stopwatch_ns();
            self.pages.write(self.dirty, turn as u8);
            between()?;
            let turn_ns = stopwatch_ns() - begun;
            worked_ns += turn_ns;
            if turn_ns < interval_ns {
                sleep(Duration::from_nanos(interval_ns - turn_ns));
            }
        }
        Ok(us(worked_ns))
    }
}

//! The thesis's test program: between checkpoints it modifies some pages and sleeps. All its knobs are words.
//!
//! First its own loop, which gives pauses, faults, bytes and the processor's share; then measured rounds, which give the stall
//! and the child's time. How much of its throughput the writer lost is the time that it was at work in the loop against the
//! same loop without checkpoints, and goes to the log.
//!
//! `bytes` is contents of the measured pages, the mean of full and incremental checkpoints as they were taken. `header_bytes` is
//! all else: per checkpoint some 110, 16 for each region and one for the library, 96 for each descriptor, 16 for each thread
//! and signal, 8 for each run of pages and for each 16 pages; in full ones also the library's own pages. In a pair there is
//! also what the service stack modified.

use alloc::boxed::Box;
use core::time::Duration;

use bench_plan::pattern::share;
use bench_plan::statistics::{self, Samples};
use bench_plan::words::{Knobs, Sink};
use hs_core::checkpoint::{CheckpointPipe, Flags};
use hs_core::figure::Figure;
use hs_core::platform::PAGE_LEN;
use hs_core::policy::Choice;
use hs_core::sync::sleep;
use kernel::cpt;
use kernel::thread;
use kernel::time::stopwatch_ns;

use super::pages::Pages;
use super::sink::{Local, Nowhere};
use super::taker::{Checkpoints, Taker};
use super::{clear, mode_of, registered, start};
use crate::Context;
use crate::failure::Failure;
use crate::raw::memory::check_room;
use crate::rounds::{Point, Repeats, measure, since, us};

/// Rounds for the stall, at most: the loop has shown the rest.
const ROUNDS_MAX: usize = 20;

/// In a guest alone.
///
/// # Errors
/// See [`Failure`].
pub(crate) fn alone(context: Context, knobs: &Knobs) -> Result<(), Failure> {
    start(context, knobs.freeze.map(mode_of))?;
    let sink: &'static dyn CheckpointPipe = match knobs.sink {
        Sink::Pipe => Box::leak(Box::new(Local::start(context)?)),
        Sink::Null | Sink::Link => &Nowhere,
    };
    let taker = Taker::alone(context, sink, knobs.way);
    run(context, knobs, &taker)?;
    clear(context)
}

/// With a `taker` of whatever kind, on a library that was started.
///
/// # Errors
/// See [`Failure`].
pub(crate) fn run(context: Context, knobs: &Knobs, taker: &Taker) -> Result<(), Failure> {
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
    let plain_us = work.turns(0, &mut || Ok(()))?;
    let mut pause = Samples::default();
    let (before, status) = (cpt::counters(), taker.status());
    let (begun, idle_us) = (stopwatch_ns(), thread::idle_us());
    let taken_us = work.turns(knobs.interval_ms, &mut || {
        pause.add(us(taker.checkpoint(flags)?));
        Ok(())
    })?;
    taker.settle(status)?;
    let wall_us = us(stopwatch_ns() - begun);
    let busy_us = wall_us - (thread::idle_us() - idle_us) as f64;
    let (counted, after) = (since(before), taker.status());
    let taken = (after.taken - status.taken).max(1);
    let full = after.full - status.full;
    log::info!(
        "the writer lost {:.1} % of its throughput; {full} of {taken} checkpoints were full, {} copied",
        (taken_us - plain_us) / taken_us * 100.0,
        after.copied - status.copied,
    );

    let contents_pages = full * pages.len() as u64 + (taken - full) * dirty.len() as u64;
    let contents_bytes = contents_pages * PAGE_LEN as u64 / taken;
    let rounds = knobs.checkpoints.min(ROUNDS_MAX);
    let mut checkpoints = Checkpoints::new(taker, &pages, &dirty, flags)?;
    let measured = measure(Repeats { runs: 1, rounds }, &mut checkpoints)?;
    let point = Point {
        experiment: "run",
        x: knobs.memory_kib as f64,
        unit: "KiB",
    };
    let sent_bytes = (after.bytes - status.bytes) / taken;
    let series = match knobs.sink {
        Sink::Pipe | Sink::Link => knobs.sink.name(),
        Sink::Null => match knobs.way {
            Choice::Copy => "copy",
            Choice::Full => "full",
            Choice::Auto | Choice::Incremental => cpt::mode().name(),
        },
    };
    let measured = measured.figure(&point, series, contents_bytes);
    context.tell(Figure {
        pause_us: statistics::pause(&pause.all()),
        pause_spread_us: pause.spread(),
        faults: Some(counted.parent_faults as f64 / taken as f64),
        header_bytes: Some(sent_bytes.saturating_sub(contents_bytes)),
        cpu_share: Some(busy_us / wall_us),
        rate_per_s: Some(taken as f64 / wall_us * 1e6),
        // Whoever waits for the checkpoint has the child's time in the pause.
        child_us: measured.child_us.filter(|_| knobs.sink != Sink::Pipe),
        ..measured
    });
    Ok(())
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

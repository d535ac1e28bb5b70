//! The thesis's test program: between checkpoints it modifies some pages and sleeps. All its knobs are words.
//!
//! First its own loop, which gives pauses, faults, bytes and the processor's share; then measured rounds, which give the stall
//! and the child's time. How much of its throughput the writer lost is the loop's time against the same loop without
//! checkpoints, and goes to the log.

use alloc::boxed::Box;
use core::time::Duration;

use bench_plan::statistics::{self, Samples};
use bench_plan::words::{Knobs, Sink};
use hs_core::checkpoint::{CheckpointPipe, Flags};
use hs_core::figure::Figure;
use hs_core::platform::PAGE_LEN;
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

    let plain_us = turns(knobs, &pages, &dirty, &mut || Ok(()))?;
    let mut pause = Samples::default();
    let (before, status) = (cpt::counters(), taker.status());
    let (begun, idle_us) = (stopwatch_ns(), thread::idle_us());
    let taken_us = turns(knobs, &pages, &dirty, &mut || {
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

    let rounds = knobs.checkpoints.min(ROUNDS_MAX);
    let contents = if full > taken / 2 {
        pages.len()
    } else {
        dirty.len()
    } * PAGE_LEN;
    let mut checkpoints = Checkpoints::new(taker, &pages, &dirty, flags)?;
    let measured = measure(Repeats { runs: 1, rounds }, &mut checkpoints)?;
    let point = Point {
        experiment: "run",
        x: knobs.memory_kib as f64,
        unit: "KiB",
    };
    let sent_bytes = (after.bytes - status.bytes) / taken;
    let series = match knobs.sink {
        Sink::Null => cpt::mode().name(),
        Sink::Pipe | Sink::Link => knobs.sink.name(),
    };
    context.tell(Figure {
        pause_us: statistics::pause(&pause.all()),
        pause_spread_us: pause.spread(),
        faults: Some(counted.parent_faults() as f64 / taken as f64),
        header_bytes: Some(sent_bytes.saturating_sub(contents as u64)),
        cpu_share: Some(busy_us / wall_us),
        rate_per_s: Some(taken as f64 / wall_us * 1e6),
        ..measured.figure(&point, series, contents as u64)
    });
    Ok(())
}

/// The program's loop, with `between` where it takes a checkpoint; its time in microseconds.
fn turns(
    knobs: &Knobs,
    pages: &Pages,
    dirty: &[usize],
    between: &mut dyn FnMut() -> Result<(), Failure>,
) -> Result<f64, Failure> {
    let begun = stopwatch_ns();
    for turn in 0..knobs.checkpoints {
        pages.write(dirty, turn as u8);
        between()?;
        if knobs.interval_ms > 0 {
            sleep(Duration::from_millis(knobs.interval_ms));
        }
    }
    Ok(us(stopwatch_ns() - begun))
}

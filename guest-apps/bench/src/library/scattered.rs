//! Scattered updates: one word of eight bytes in each of many pages, in every checkpoint the same pages.
//!
//! 16 MiB in four regions, 10 % modified, no two of them neighbours; sent nowhere. `whole`: each page as it is. `difference`: what
//! is different in it. `lz4`: each page as a block; pages that are all but the same throughout are the best that can happen to
//! it, so that its bytes say little, and its time is the least that it takes.

use bench_plan::experiment::Experiment;
use bench_plan::words::Freeze;
use hs_core::checkpoint::{Compression, Flags};
use hs_core::figure::Figure;
use hs_core::platform::CheckpointMemory;
use hs_core::policy::Choice;

use super::pages::Pages;
use super::sink::Nowhere;
use super::taker::{Checkpoints, Taker, Wire};
use super::{clear, start};
use crate::failure::Failure;
use crate::raw::memory::check_room;
use crate::rounds::{Point, Repeats, measure};
use crate::{Context, MIB_PAGES};

const MIB: usize = 16;

/// The series, and how it sends its pages.
const WIRES: [(&str, Wire); 3] = [
    (
        "whole",
        Wire {
            shadow_pages: 0,
            compression: Compression::None,
        },
    ),
    (
        "difference",
        Wire {
            shadow_pages: MIB * MIB_PAGES,
            compression: Compression::None,
        },
    ),
    (
        "lz4",
        Wire {
            shadow_pages: 0,
            compression: Compression::Lz4,
        },
    ),
];

/// Each way of sending.
pub(crate) fn run(context: Context) -> Result<(), Failure> {
    // The shadow has as much again.
    check_room(3 * MIB * MIB_PAGES)?;
    for (series, wire) in WIRES {
        let memory = start(context, Some(Freeze::Lazy))?;
        let result = send(context, memory, series, wire);
        clear(memory)?;
        result?;
    }
    Ok(())
}

fn send(
    context: Context,
    memory: &'static dyn CheckpointMemory,
    series: &str,
    wire: Wire,
) -> Result<(), Failure> {
    let mut pages = Pages::new();
    pages.grow(MIB * MIB_PAGES, 4)?;
    let dirty = pages.dirty_set(10, 1);
    let taker = Taker::alone(memory, &Nowhere, Choice::Incremental, wire);
    taker.catch_up()?;
    // Each page once: what it was before is not known until then.
    pages.write(&dirty, 0);
    taker.catch_up()?;
    let flags = Flags::ASYNC | Flags::INCREMENTAL;
    let mut checkpoints = Checkpoints::new(&taker, &pages, &dirty, flags)?;
    let before = taker.status();
    let measured = measure(Repeats::of(context, dirty.len()), &mut checkpoints)?;
    let after = taker.status();
    let point = Point {
        experiment: Experiment::Scattered.name(),
        x: dirty.len() as f64,
        unit: "dirty pages",
    };
    let sent_bytes = (after.bytes - before.bytes) / (after.taken - before.taken).max(1);
    context.tell(Figure {
        lost_throughput: Some(measured.lost.median()),
        ..measured.figure(&point, series, sent_bytes)
    });
    Ok(())
}

//! What is registered makes a checkpoint longer, and hardly its pause: the thesis's knobs for descriptors and threads.
//!
//! 1 MiB with 10 % modified. The library's tables hold 128 of each; there are 5 signals, which weigh what threads weigh.

use bench_plan::experiment::Experiment;
use bench_plan::words::Freeze;
use hs_core::figure::Figure;
use hs_core::platform::{CheckpointMemory, PAGE_LEN};
use hs_core::{DESCRIPTORS_MAX, THREADS_MAX};

use super::checkpoint::checkpoints;
use super::pages::Pages;
use super::{clear, registered, start};
use crate::failure::Failure;
use crate::raw::memory::check_room;
use crate::rounds::{Point, Repeats};
use crate::{Context, MIB_PAGES};

/// Registers so many.
type Register = fn(usize) -> Result<(), Failure>;

/// The series, and what is registered in it.
const KINDS: [(&str, Register, &[usize]); 3] = [
    (
        "descriptors",
        |count| registered::descriptors(0..count),
        &[0, 10, 50, 100, DESCRIPTORS_MAX],
    ),
    (
        "threads",
        |count| registered::threads(0..count),
        &[0, 10, 50, 100, THREADS_MAX],
    ),
    (
        "both",
        |count| registered::descriptors(0..count).and_then(|()| registered::threads(0..count)),
        &[0, 100],
    ),
];

/// So many of each kind, frozen lazily, sent nowhere.
pub(crate) fn run(context: Context) -> Result<(), Failure> {
    check_room(2 * MIB_PAGES)?;
    let memory = start(context, Some(Freeze::Lazy))?;
    let settled = settle(memory);
    clear(memory)?;
    settled?;
    for (series, register, counts) in KINDS {
        for count in counts.iter().copied() {
            let memory = start(context, Some(Freeze::Lazy))?;
            let result = register(count).and_then(|()| at(context, memory, series, count));
            clear(memory)?;
            result?;
        }
    }
    Ok(())
}

/// Takes checkpoints that nobody measures.
fn settle(memory: &'static dyn CheckpointMemory) -> Result<(), Failure> {
    let mut pages = Pages::new();
    pages.grow(MIB_PAGES, 4)?;
    let dirty = pages.dirty_set(10, 4);
    checkpoints(Repeats::SETTLING, memory, &pages, &dirty).map(drop)
}

fn at(
    context: Context,
    memory: &'static dyn CheckpointMemory,
    series: &str,
    count: usize,
) -> Result<(), Failure> {
    let mut pages = Pages::new();
    pages.grow(MIB_PAGES, 4)?;
    let dirty = pages.dirty_set(10, 4);
    let (measured, header_bytes) = checkpoints(Repeats::of(context, dirty.len()), memory, &pages, &dirty)?;
    let point = Point {
        experiment: Experiment::Metadata.name(),
        x: count as f64,
        unit: "registered",
    };
    context.tell(Figure {
        header_bytes: Some(header_bytes),
        ..measured.figure(&point, series, (dirty.len() * PAGE_LEN) as u64)
    });
    Ok(())
}

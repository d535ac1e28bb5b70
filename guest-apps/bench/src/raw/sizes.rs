//! Pause and stall against the size of the memory and the share of it that is modified: the thesis's figures 6-1 and 6-2, and
//! ours up to 1 GiB.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use bench_plan::experiment::Experiment;
use bench_plan::pattern;
use hs_core::platform::{PAGE_LEN, View};
use kernel::cpt::Mode;

use super::memory::{Memory, check_room};
use super::pipe;
use super::subject::measure;
use crate::failure::Failure;
use crate::rounds::{Point, Repeats};
use crate::{Context, MIB_PAGES, refuse};

/// As the thesis's test has it.
const REGIONS: usize = 4;
/// Pages that are modified side by side, but where 95 % are.
const CONTIGUITY: usize = 4;
const CONTIGUITY_OF_95: usize = 25;

const FIG61_KIB: [usize; 7] = [256, 512, 1024, 2048, 4096, 6144, 9216];
const FIG62_PERCENT: [usize; 8] = [1, 5, 10, 25, 50, 75, 95, 100];
const FIG62_MIB: usize = 4;
const LARGE_MIB: [usize; 6] = [1, 4, 16, 64, 256, 1024];

/// Figure 6-1.
pub(super) fn small(context: Context) {
    for kib in FIG61_KIB {
        let pages = kib * 1024 / PAGE_LEN;
        let point = Point {
            experiment: Experiment::Fig61.name(),
            x: kib as f64,
            unit: "KiB",
        };
        all_ways(context, &point, pages, pattern::share(pages, 10), CONTIGUITY);
    }
}

/// Figure 6-2.
pub(super) fn shares(context: Context) {
    for percent in FIG62_PERCENT {
        let pages = FIG62_MIB * MIB_PAGES;
        let point = Point {
            experiment: Experiment::Fig62.name(),
            x: percent as f64,
            unit: "% dirty",
        };
        let contiguity = if percent == 95 {
            CONTIGUITY_OF_95
        } else {
            CONTIGUITY
        };
        all_ways(context, &point, pages, pattern::share(pages, percent), contiguity);
    }
}

/// Each way of freezing, a full checkpoint, a copy within the pause, and the synchronous pipe. One that fails is refused, and the
/// others go on.
fn all_ways(context: Context, point: &Point, pages: usize, dirty_pages: usize, contiguity: usize) {
    if let Err(failure) = check_room(3 * pages) {
        refuse(context.guest, &point.to_string(), &failure);
        return;
    }
    for mode in Mode::ALL {
        let result = frozen(context, point, mode, pages, dirty_pages, contiguity);
        refuse_failed(context, point, mode.name(), result);
    }
    let result = pipe::measure(context, point, pages, dirty_pages, contiguity);
    refuse_failed(context, point, "pipe", result);
}

/// Frozen in the way of `mode`; what is no question of it, with the first.
fn frozen(
    context: Context,
    point: &Point,
    mode: Mode,
    pages: usize,
    dirty_pages: usize,
    contiguity: usize,
) -> Result<(), Failure> {
    let repeats = Repeats::of(context, dirty_pages);
    let mut memory = Memory::install(mode, pages, REGIONS)?;
    let dirty = memory.dirty_set(dirty_pages, contiguity);
    let measured = measure(repeats, &mut memory, &dirty, View::Incremental, 0)?;
    context.tell(measured.figure(point, mode.name(), dirty.bytes()));
    if mode == Mode::Lazy {
        context.tell(measured.flush_figure(point));
        let full = measure(repeats, &mut memory, &dirty, View::Whole, 0)?;
        context.tell(full.figure(point, "full", (pages * PAGE_LEN) as u64));
        let copy = measure(repeats, &mut memory, &dirty, View::Copied, 0)?;
        context.tell(copy.figure(point, "copy", dirty.bytes()));
    }
    Ok(())
}

/// Says that a point is not measured in the way of `series`, if it failed.
fn refuse_failed(context: Context, point: &Point, series: &str, result: Result<(), Failure>) {
    if let Err(failure) = result {
        refuse(context.guest, &format!("{point} ({series})"), &failure);
    }
}

/// What a quick run leaves out: half of 1 GiB but for `lazy`, and what `faults` takes beyond `eager`, which it resembles.
fn takes_long(mode: Mode, dirty_pages: usize) -> bool {
    let most = match mode {
        Mode::Lazy => usize::MAX,
        Mode::Eager => 50_000,
        Mode::Faults => 10_000,
    };
    dirty_pages > most
}

/// From 1 MiB to 1 GiB, for each of `experiments` with its share of it modified. Together, because to map so much takes longer
/// than to measure it. A point that fails is refused, and the next one goes on.
pub(super) fn large(context: Context, experiments: &[Experiment]) {
    for mib in LARGE_MIB {
        let pages = mib * MIB_PAGES;
        let mut fitting: Vec<(Point, usize)> = Vec::new();
        for experiment in experiments {
            let Some(percent) = experiment.dirty_percent() else {
                continue;
            };
            let dirty_pages = pattern::share(pages, percent);
            let point = Point {
                experiment: experiment.name(),
                x: mib as f64,
                unit: "MiB",
            };
            match check_room(pages + 2 * dirty_pages) {
                Ok(()) => fitting.push((point, dirty_pages)),
                Err(failure) => refuse(context.guest, &point.to_string(), &failure),
            }
        }
        if fitting.is_empty() {
            continue;
        }
        for mode in Mode::ALL {
            log::info!("{mode} over {mib} MiB");
            let mut memory = Memory::install(mode, pages, REGIONS);
            for (point, dirty_pages) in &fitting {
                if context.quick && takes_long(mode, *dirty_pages) {
                    continue;
                }
                let result = match &mut memory {
                    Ok(memory) => large_at(context, point, mode, memory, *dirty_pages),
                    Err(failure) => Err(*failure),
                };
                refuse_failed(context, point, mode.name(), result);
            }
        }
    }
}

fn large_at(
    context: Context,
    point: &Point,
    mode: Mode,
    memory: &mut Memory,
    dirty_pages: usize,
) -> Result<(), Failure> {
    let dirty = memory.dirty_set(dirty_pages, CONTIGUITY);
    let repeats = Repeats::of(context, dirty_pages);
    let measured = measure(repeats, memory, &dirty, View::Incremental, 0)?;
    context.tell(measured.figure(point, mode.name(), dirty.bytes()));
    if mode == Mode::Lazy {
        context.tell(measured.flush_figure(point));
        context.tell(measured.above_flush_figure(point));
    }
    Ok(())
}

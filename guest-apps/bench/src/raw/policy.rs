//! The ways to take a checkpoint against each other: the evidence for the policy's two limits.

use bench_plan::experiment::Experiment;
use bench_plan::pattern;
use hs_core::platform::{PAGE_LEN, View};
use kernel::cpt::Mode;

use super::memory::{Memory, check_room};
use super::subject::measure;
use crate::failure::Failure;
use crate::rounds::{Point, Repeats};
use crate::{Context, MIB_PAGES};

const MIB: usize = 4;
/// Modified pages at which a copy within the pause may be better than a child.
const FEW: [usize; 10] = [1, 2, 4, 8, 12, 16, 24, 32, 64, 128];
/// Shares of modified pages, in percent, at which a full checkpoint may be no worse.
const SHARES: [usize; 8] = [50, 60, 70, 80, 90, 95, 98, 100];

/// 4 MiB in one region.
pub(super) fn run(context: Context) -> Result<(), Failure> {
    let pages = MIB * MIB_PAGES;
    check_room(3 * pages)?;
    let mut memory = Memory::install(Mode::Lazy, pages, 1)?;
    for dirty_pages in FEW {
        let ways = [("copy", View::Copied), ("lazy", View::Incremental)];
        compare(context, &mut memory, dirty_pages, &ways)?;
    }
    for percent in SHARES {
        let ways = [("full", View::Whole), ("lazy", View::Incremental)];
        compare(context, &mut memory, pattern::share(pages, percent), &ways)?;
    }
    Ok(())
}

fn compare(
    context: Context,
    memory: &mut Memory,
    dirty_pages: usize,
    ways: &[(&str, View)],
) -> Result<(), Failure> {
    let point = Point {
        experiment: Experiment::Policy.name(),
        x: dirty_pages as f64,
        unit: "dirty pages",
    };
    let dirty = memory.dirty_set(dirty_pages, 4);
    for (series, view) in ways {
        let measured = measure(Repeats::of(context, dirty_pages), memory, &dirty, *view, 0)?;
        let bytes = match view {
            View::Whole => (memory.pages() * PAGE_LEN) as u64,
            View::Incremental | View::Copied => dirty.bytes(),
        };
        context.tell(measured.figure(&point, series, bytes));
    }
    Ok(())
}

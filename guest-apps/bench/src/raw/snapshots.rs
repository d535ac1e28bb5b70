//! Several snapshots alive at once: what the newest costs while older ones still hold their pages.

use bench_plan::experiment::Experiment;
use bench_plan::pattern;
use hs_core::platform::View;
use kernel::cpt::Mode;

use super::memory::{Memory, check_room};
use super::subject::measure;
use crate::failure::Failure;
use crate::rounds::{Point, Repeats};
use crate::{Context, MIB_PAGES};

const ALIVE: [usize; 4] = [1, 2, 4, 8];
const MIB: usize = 16;

/// 16 MiB, 10 % modified before each snapshot.
pub(super) fn run(context: Context) -> Result<(), Failure> {
    let pages = MIB * MIB_PAGES;
    let dirty_pages = pattern::share(pages, 10);
    check_room(pages + 10 * dirty_pages)?;
    for mode in Mode::ALL {
        let mut memory = Memory::install(mode, pages, 4)?;
        let dirty = memory.dirty_set(dirty_pages, 4);
        for alive in ALIVE {
            let point = Point {
                experiment: Experiment::Snapshots.name(),
                x: alive as f64,
                unit: "snapshots alive",
            };
            let repeats = Repeats::of(context, dirty_pages * alive);
            let measured = measure(repeats, &mut memory, &dirty, View::Incremental, alive - 1)?;
            context.tell(measured.figure(&point, mode.name(), dirty.bytes()));
            if mode == Mode::Lazy {
                context.tell(measured.flush_figure(&point));
            }
        }
    }
    Ok(())
}

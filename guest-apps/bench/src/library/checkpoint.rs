//! The pause of the library's `checkpoint()`, to stand beside that of `cptfork`: the same sizes and the same share modified.

use alloc::vec::Vec;

use bench_plan::experiment::Experiment;
use hs_core::checkpoint::Flags;
use hs_core::platform::PAGE_LEN;
use hs_core::policy::Choice;
use kernel::cpt::Mode;
use kernel::mem::frames;

use super::pages::Pages;
use super::sink::Nowhere;
use super::taker::{Checkpoints, Taker};
use super::{clear, start};
use crate::failure::Failure;
use crate::rounds::{Point, Repeats, measure};
use crate::{Context, MIB_PAGES};

const SIZES_MIB: [usize; 3] = [4, 64, 256];

/// 10 % modified, frozen lazily, sent nowhere.
pub(crate) fn run(context: Context) -> Result<(), Failure> {
    for mib in SIZES_MIB {
        let pages = mib * MIB_PAGES;
        // A first checkpoint of everything may need as much again.
        if frames::available() < 2 * pages {
            return Err(Failure::TooLittleMemory {
                needed_mib: 2 * mib,
                free_mib: frames::available() / MIB_PAGES,
            });
        }
        start(context, Some(Mode::Lazy))?;
        let result = at(context, mib, pages);
        clear(context)?;
        result?;
    }
    Ok(())
}

fn at(context: Context, mib: usize, count: usize) -> Result<(), Failure> {
    let mut pages = Pages::new();
    pages.grow(count, 4)?;
    let taker = Taker::alone(context, &Nowhere, Choice::Incremental);
    taker.catch_up()?;
    let dirty: Vec<usize> = pages.dirty_set(10, 4);
    let (repeats, bytes) = (Repeats::of(context, dirty.len()), (dirty.len() * PAGE_LEN) as u64);
    let flags = Flags::ASYNC | Flags::INCREMENTAL;
    let mut checkpoints = Checkpoints::new(&taker, &pages, &dirty, flags)?;
    let measured = measure(repeats, &mut checkpoints)?;
    let point = Point {
        experiment: Experiment::Checkpoint.name(),
        x: mib as f64,
        unit: "MiB",
    };
    context.tell(measured.figure(&point, "checkpoint-lazy", bytes));
    context.tell(measured.flush_figure(&point));
    Ok(())
}

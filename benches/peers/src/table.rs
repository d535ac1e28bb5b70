//! The thesis's tables 3-1 to 3-3: many forks in a row, and what all of them used.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bench_plan::pattern;
use hs_core::figure::Spread;

use crate::experiment::{FORKS, Table};
use crate::measure::{Round, Run, median, spread};
use crate::memory::Memory;
use crate::peer::Series;
use crate::rounds::{baseline_us, timed_us};
use crate::sys::map::{Advice, PAGE_LEN, Sharing};
use crate::sys::process::{Child, Pipes, Usage};

/// What the forks of one run used, told for [`FORKS`] of them.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct TableRun {
    /// Each fork.
    pub(crate) run: Run,
    /// Time of the program and its children.
    pub(crate) user_s: f64,
    /// Time of the system on their behalf.
    pub(crate) system_s: f64,
    /// Time that went by.
    pub(crate) wall_s: f64,
    /// Faults without reading, parent and children.
    pub(crate) faults: f64,
}

/// Bytes that a child holds.
pub(crate) fn bytes(table: &Table, series: Series) -> u64 {
    match series {
        Series::Share | Series::Drop => 0,
        _ => table.len_bytes as u64,
    }
}

/// One run of `forks` forks, as a row's `series` wants the memory. There must be no other memory to speak of.
///
/// # Errors
/// The memory or a child cannot be had.
pub(crate) fn run(table: &Table, series: Series, forks: u32) -> Result<TableRun> {
    let sharing = match series {
        Series::Share => Sharing::Shared,
        _ => Sharing::Private,
    };
    let dirty = if table.writes {
        pattern::dirty_set(table.len_bytes / PAGE_LEN, 10, 1)
    } else {
        Vec::new()
    };
    let memory = Memory::small_pages(table.len_bytes, table.entries, sharing, dirty)?;
    let mapping = memory.mapping();
    match series {
        Series::Fork | Series::Cow | Series::Share => {}
        Series::ForkWired => mapping
            .wire()
            .context("memory cannot be wired (mlock; see ulimit -l)")?,
        Series::Drop => mapping
            .advise(0..mapping.len_bytes(), Advice::DropInChild)
            .context("MADV_DONTFORK")?,
        _ => bail!("no table has the series {}", series.name()),
    }
    let baseline_us = baseline_us(&memory);
    fork_once(&memory, 0)?;
    let (before, start) = (Usage::with_children(), Instant::now());
    let rounds = (1..=forks.into())
        .map(|nth| fork_once(&memory, nth))
        .collect::<Result<Vec<_>>>()?;
    let (wall, used) = (start.elapsed(), Usage::with_children().since(before));
    let scale = f64::from(FORKS) / f64::from(forks);
    let seconds = |time: Duration| time.as_secs_f64() * scale;
    Ok(TableRun {
        run: Run { baseline_us, rounds },
        user_s: seconds(used.user),
        system_s: seconds(used.system),
        wall_s: seconds(wall),
        faults: used.minor_faults as f64 * scale,
    })
}

/// A child is forked and blocks; the parent writes; the child ends.
fn fork_once(memory: &Memory, nth: u64) -> Result<Round> {
    let pipes = Pipes::new().context("pipe")?;
    let before = Usage::of_self().minor_faults;
    let start = Instant::now();
    let mut child = Child::fork(pipes).context("fork")?;
    let pause_us = start.elapsed().as_nanos() as f64 / 1e3;
    child.settle().context("the child did not begin")?;
    let writes_us = timed_us(|| memory.touch(nth));
    let faults = Usage::of_self().minor_faults - before;
    child.end().context("the child did not end well")?;
    Ok(Round {
        pause_us,
        writes_us,
        faults: faults as f64,
    })
}

/// The median of `of` over `runs`.
pub(crate) fn middle(runs: &[TableRun], of: impl Fn(&TableRun) -> f64) -> f64 {
    median(&runs.iter().map(of).collect::<Vec<_>>())
}

/// How far the runs' times that went by lie apart.
pub(crate) fn wall_spread_s(runs: &[TableRun]) -> Spread {
    spread(&runs.iter().map(|run| run.wall_s).collect::<Vec<_>>())
}

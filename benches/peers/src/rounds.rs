//! One run of one peer: rounds of checkpoint and writes, timed.
//!
//! ```text
//! prepare ─ write ─ checkpoint ─ settle ─ write ─ let go the oldest ─┐ again
//!                   ╰─ pause ─╯           ╰─ timed ╯                 │
//!    └───────────────────────────────────────────────────────────────┘
//! ```
//! The writer is settled before the second write: what a child needs to come to rest is its own time, not the writer's.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::measure::{Round, median};
use crate::memory::Memory;
use crate::peer::Peer;
use crate::sys::process::Usage;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Runs at each point, each with a peer of its own.
    pub(crate) runs: u32,
    /// Fewest rounds of a run.
    rounds_min: usize,
    /// Most rounds of a run.
    rounds_max: usize,
    /// After this time there are no more rounds than the fewest.
    budget: Duration,
}

impl Effort {
    /// For a look.
    pub(crate) const QUICK: Self = Self {
        runs: 3,
        rounds_min: 2,
        rounds_max: 20,
        budget: Duration::from_millis(15),
    };
    /// For figures to keep.
    pub(crate) const FULL: Self = Self {
        runs: 5,
        rounds_min: 2,
        rounds_max: 60,
        budget: Duration::from_millis(60),
    };
}

/// What writing the dirty set takes when nothing is protected.
pub(crate) fn baseline_us(memory: &Memory) -> f64 {
    const WARM_UPS: usize = 2;
    const SAMPLES: usize = 9;
    let mut samples = [0.0; WARM_UPS + SAMPLES];
    for sample in &mut samples {
        *sample = timed_us(|| memory.touch(0));
    }
    median(&samples[WARM_UPS..])
}

/// Runs rounds with `peer` on `memory` while `alive` snapshots live, the newest counted in.
///
/// # Errors
/// The peer's: the rest of the run would mean nothing.
pub(crate) fn rounds(
    peer: &mut dyn Peer,
    memory: &Memory,
    alive: usize,
    effort: Effort,
) -> Result<Vec<Round>> {
    let mut rounds = Vec::with_capacity(effort.rounds_max);
    let mut held = 0;
    let mut begun = Instant::now();
    for nth in 0.. {
        peer.prepare()?;
        memory.touch(2 * nth as u64);
        let before = faults(peer)?;
        let mut outcome = Ok(());
        let pause_us = timed_us(|| outcome = peer.checkpoint());
        outcome?;
        let in_pause = faults(peer)? - before;
        held += 1;
        peer.settle()?;
        let before = faults(peer)?;
        let writes_us = timed_us(|| memory.touch(2 * nth as u64 + 1));
        let in_writes = faults(peer)? - before;
        if held == alive {
            peer.let_go()?;
            held -= 1;
        }
        // Up to here buffers and tables were met for the first time, and fewer snapshots were alive.
        if nth < alive {
            begun = Instant::now();
            continue;
        }
        rounds.push(Round {
            pause_us,
            writes_us,
            faults: (in_pause + in_writes) as f64,
        });
        let is_enough = rounds.len() >= effort.rounds_min && begun.elapsed() >= effort.budget;
        if is_enough || rounds.len() == effort.rounds_max {
            break;
        }
    }
    Ok(rounds)
}

/// Faults so far, those that came as signals too.
fn faults(peer: &dyn Peer) -> Result<u64> {
    Ok(Usage::of_self().minor_faults + peer.signals()?)
}

/// How long `work` takes.
pub(crate) fn timed_us(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / 1e3
}

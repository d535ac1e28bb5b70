//! Checkpoints in a second over the cluster link: the thesis's figures 6-3 and 6-4, measured, and our throughput.
//!
//! Lock-step: the next checkpoint is taken when the spare has acknowledged the one before. The pause is what the caller felt of
//! it; the rate is that of the acknowledgements. How fast the link is, is the host's choice.
//!
//! Classes do not give memory back, so the sizes come in ascending order.

use alloc::format;
use alloc::vec::Vec;

use bench_plan::experiment::Experiment;
use bench_plan::statistics::{self, Samples};
use hs_core::checkpoint::Flags;
use hs_core::figure::Figure;
use hs_core::platform::PAGE_LEN;
use kernel::time::stopwatch_ns;

use super::link::ROUND_TRIPS;
use super::registered;
use crate::failure::Failure;
use crate::library::pages::Pages;
use crate::library::taker::Taker;
use crate::rounds::{Point, us};
use crate::{Context, MIB_PAGES, refuse};

const FIG63_MIB: [usize; 6] = [1, 2, 5, 10, 20, 50];
const FIG64_MIB: usize = 10;
const FIG64_PERCENT: [usize; 6] = [1, 5, 10, 25, 50, 100];
/// Sizes of the checkpoints whose throughput is measured, and of the bare transfers beside them.
pub(super) const REPLICATION_MIB: [usize; 4] = [1, 4, 16, 64];

/// Memory that small checkpoints are taken of, and how many of its pages are modified.
const LATENCY_MIB: usize = 1;
const LATENCY_PAGES: [usize; 2] = [1, 8];

/// As of the same experiment of a guest alone.
const METADATA_MIB: usize = 1;

/// A run takes at least so long, and one checkpoint.
const RUN_MS: u64 = 500;
const RUN_MS_QUICK: u64 = 200;

/// Runs those of `chosen` that are of this kind.
pub(super) fn run(context: Context, taker: &Taker, chosen: &[Experiment]) {
    let mut link = Link {
        context,
        taker,
        pages: Pages::new(),
    };
    let mut sizes: Vec<(usize, Experiment)> = Vec::new();
    for experiment in chosen {
        match experiment {
            Experiment::Fig63 => sizes.extend(FIG63_MIB.map(|mib| (mib, *experiment))),
            Experiment::Fig64 => sizes.push((FIG64_MIB, *experiment)),
            Experiment::MetadataNode => sizes.push((METADATA_MIB, *experiment)),
            Experiment::Latency => sizes.push((LATENCY_MIB, *experiment)),
            Experiment::Replication => sizes.extend(REPLICATION_MIB.map(|mib| (mib, *experiment))),
            _ => {}
        }
    }
    sizes.sort_unstable();
    for (mib, experiment) in sizes {
        if let Err(failure) = link.measure(experiment, mib) {
            refuse(context.guest, &format!("{experiment} at {mib} MiB"), &failure);
        }
    }
}

struct Link<'a> {
    context: Context,
    taker: &'a Taker,
    pages: Pages,
}

impl Link<'_> {
    fn measure(&mut self, experiment: Experiment, mib: usize) -> Result<(), Failure> {
        let missing = (mib * MIB_PAGES).saturating_sub(self.pages.len());
        if missing > 0 {
            self.pages.grow(missing, 4)?;
            self.taker.catch_up()?;
        }
        let at = |x: usize, unit| Point {
            experiment: experiment.name(),
            x: x as f64,
            unit,
        };
        match experiment {
            Experiment::Fig63 => self.both(&at(mib, "MiB"), 10),
            Experiment::Fig64 => FIG64_PERCENT
                .into_iter()
                .try_for_each(|percent| self.both(&at(percent, "% dirty"), percent)),
            Experiment::MetadataNode => {
                let dirty = self.pages.dirty_set(10, 4);
                registered::run(self.context, self.taker, &self.pages, &dirty, experiment.name())
            }
            Experiment::Latency => LATENCY_PAGES.into_iter().try_for_each(|count| {
                let dirty: Vec<usize> = (0..count).collect();
                self.latency(&at(count, "dirty pages"), &dirty)
            }),
            _ => {
                let dirty = self.pages.dirty_set(100, 4);
                self.rate(&at(mib, "MiB"), "lazy", &dirty, Flags::INCREMENTAL)
            }
        }
    }

    /// Incremental and full ones.
    fn both(&mut self, point: &Point, percent: usize) -> Result<(), Failure> {
        let dirty = self.pages.dirty_set(percent, 4);
        self.rate(point, "measured-incremental", &dirty, Flags::INCREMENTAL)?;
        self.rate(point, "measured-full", &dirty, Flags::empty())
    }

    /// How soon a caller knows that the spare has a checkpoint of `dirty`, one after the other.
    fn latency(&mut self, point: &Point, dirty: &[usize]) -> Result<(), Failure> {
        let (mut pause, mut latency, mut rate) = (Samples::default(), Samples::default(), Samples::default());
        let first = self.taker.status();
        let mut value = 0_u8;
        for _ in 0..self.context.runs() {
            pause.begin_run();
            latency.begin_run();
            let run_begun = stopwatch_ns();
            for _ in 0..ROUND_TRIPS {
                value = value.wrapping_add(2);
                self.pages.write(dirty, value);
                let before = self.taker.status();
                let begun = stopwatch_ns();
                pause.add(us(self.taker.checkpoint(Flags::INCREMENTAL | Flags::ASYNC)?));
                self.taker.settle(before)?;
                latency.add(us(stopwatch_ns() - begun));
            }
            rate.add(ROUND_TRIPS as f64 / us(stopwatch_ns() - run_begun) * 1e6);
        }
        let last = self.taker.status();
        let sent_bytes = (last.bytes - first.bytes) / (last.taken - first.taken).max(1);
        let contents = (dirty.len() * PAGE_LEN) as u64;
        self.context.tell(Figure {
            bytes: contents,
            header_bytes: Some(sent_bytes.saturating_sub(contents)),
            latency_us: Some(statistics::pause(&latency.all())),
            latency_spread_us: Some(latency.spread()),
            rate_per_s: Some(statistics::median(&rate.all())),
            rate_spread_per_s: Some(statistics::spread(&rate.all())),
            ..point.figure("acknowledged", &pause, &Samples::default())
        });
        Ok(())
    }

    fn rate(&mut self, point: &Point, series: &str, dirty: &[usize], flags: Flags) -> Result<(), Failure> {
        let run_ms = if self.context.quick { RUN_MS_QUICK } else { RUN_MS };
        let (mut pause, mut rate, mut child) = (Samples::default(), Samples::default(), Samples::default());
        let first = self.taker.status();
        let mut value = 0_u8;
        for _ in 0..self.context.runs() {
            pause.begin_run();
            child.begin_run();
            let (begun, mut count) = (stopwatch_ns(), 0_u32);
            while count == 0 || stopwatch_ns() - begun < run_ms * 1_000_000 {
                value = value.wrapping_add(2);
                self.pages.write(dirty, value);
                let before = self.taker.status();
                pause.add(us(self.taker.checkpoint(flags | Flags::ASYNC)?));
                let returned = stopwatch_ns();
                self.taker.settle(before)?;
                child.add(us(stopwatch_ns() - returned));
                count += 1;
            }
            rate.add(f64::from(count) / us(stopwatch_ns() - begun) * 1e6);
        }
        let last = self.taker.status();
        let sent_bytes = (last.bytes - first.bytes) / (last.taken - first.taken).max(1);
        let pages = if flags.contains(Flags::INCREMENTAL) {
            dirty.len()
        } else {
            self.pages.len()
        };
        let contents = (pages * PAGE_LEN) as u64;
        self.context.tell(Figure {
            bytes: contents,
            // And what the library and the service stack have in the window themselves.
            header_bytes: Some(sent_bytes.saturating_sub(contents)),
            child_us: Some(child.median()),
            rate_per_s: Some(statistics::median(&rate.all())),
            rate_spread_per_s: Some(statistics::spread(&rate.all())),
            ..point.figure(series, &pause, &Samples::default())
        });
        Ok(())
    }
}

//! All experiments, one after the other, each told as soon as it is measured.
//!
//! At a point the peers take turns, run by run, so that what disturbs the machine for a while disturbs all of them. What
//! cannot be measured is told once, and the rest goes on.

use std::collections::HashSet;

use anyhow::{Context, Result};
use bench_plan::pattern;
use hs_core::event::Event;
use hs_core::figure::Figure;

use crate::channel::Channel;
use crate::experiment::{EXPERIMENTS, Experiment, Plan, Point, Table};
use crate::measure::{Run, Summary, summary};
use crate::memory::Memory;
use crate::peer::{self, Contents, Series};
use crate::rounds::{Effort, baseline_us, rounds};
use crate::sys::map::{PAGE_LEN, Sharing};
use crate::table::{self, TableRun};
use crate::words::Words;

/// Measures what `words` ask for.
///
/// # Errors
/// Nobody can hear the figures.
pub(crate) fn run(channel: &mut Channel, words: &Words) -> Result<()> {
    let mut bench = Bench {
        channel,
        words,
        effort: if words.quick { Effort::QUICK } else { Effort::FULL },
        refused: HashSet::new(),
    };
    for experiment in EXPERIMENTS.iter().filter(|experiment| words.wants(experiment)) {
        match &experiment.plan {
            Plan::Table(table) => bench.table(experiment, table)?,
            Plan::Rounds { points, contents } => {
                for point in points(words.quick) {
                    bench.point(experiment, &point, *contents)?;
                }
            }
        }
    }
    Ok(())
}

struct Bench<'a> {
    channel: &'a mut Channel,
    words: &'a Words,
    effort: Effort,
    /// What was told: series and reason.
    refused: HashSet<(Series, String)>,
}

/// The runs of a series at a point, as long as it goes well.
struct Turns<R> {
    series: Series,
    runs: Vec<R>,
    bytes: u64,
    has_failed: bool,
}

impl<R> Turns<R> {
    fn of(series: Series) -> Self {
        Self {
            series,
            runs: Vec::new(),
            bytes: 0,
            has_failed: false,
        }
    }
}

impl Bench<'_> {
    fn table(&mut self, experiment: &Experiment, table: &Table) -> Result<()> {
        let forks = if self.words.quick {
            table.forks_quick
        } else {
            table.forks
        };
        self.log(experiment, table.x, &format!("{forks} forks a run"));
        let mut turns = self.turns(experiment, |_| true);
        for _ in 0..self.effort.runs {
            for turn in turns.iter_mut().filter(|turn| !turn.has_failed) {
                match self
                    .room_for(table.len_bytes * 2)
                    .and_then(|()| table::run(table, turn.series, forks))
                {
                    Ok(run) => turn.runs.push(run),
                    Err(error) => self.refuse(experiment, table.x, turn, &error)?,
                }
            }
        }
        for turn in turns.iter().filter(|turn| !turn.has_failed) {
            let runs: Vec<Run> = turn.runs.iter().map(|run| run.run.clone()).collect();
            let middle = |of: fn(&TableRun) -> f64| Some(table::middle(&turn.runs, of));
            let figure = Figure {
                bytes: table::bytes(table, turn.series),
                user_s: middle(|run| run.user_s),
                system_s: middle(|run| run.system_s),
                wall_s: middle(|run| run.wall_s),
                wall_spread_s: Some(table::wall_spread_s(&turn.runs)),
                faults: middle(|run| run.faults),
                ..figure(experiment, table.x, turn.series, &summary(&runs), runs.len())
            };
            self.channel.say(&Event::Figure(Box::new(figure)))?;
        }
        Ok(())
    }

    fn point(&mut self, experiment: &Experiment, point: &Point, contents: Contents) -> Result<()> {
        self.log(
            experiment,
            point.x,
            &format!("{} KiB, {} % dirty", point.len_bytes / 1024, point.percent),
        );
        // Pages of either size, one after the other: there is not room for both, and a fork would copy both.
        for is_huge in [false, true] {
            let mut turns = self.turns(experiment, |series| (series == Series::ForkThp) == is_huge);
            if turns.is_empty() {
                continue;
            }
            let pages = point.len_bytes / PAGE_LEN;
            let dirty = pattern::dirty_set(pages, point.percent as usize, point.contiguity);
            let copied_bytes = dirty.len() * PAGE_LEN * point.alive;
            let memory = self
                .room_for(point.len_bytes + copied_bytes)
                .and_then(|()| match is_huge {
                    false => Memory::small_pages(point.len_bytes, point.regions, Sharing::Private, dirty),
                    true => Memory::huge_pages(point.len_bytes, dirty),
                });
            match memory {
                Ok(memory) => self.take_turns(experiment, point, contents, &memory, &mut turns)?,
                Err(error) => {
                    for turn in &mut turns {
                        self.refuse(experiment, point.x, turn, &error)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Lets the peers run on `memory` in turn, and tells how each did.
    fn take_turns(
        &mut self,
        experiment: &Experiment,
        point: &Point,
        contents: Contents,
        memory: &Memory,
        turns: &mut [Turns<Run>],
    ) -> Result<()> {
        for _ in 0..self.effort.runs {
            for turn in turns.iter_mut().filter(|turn| !turn.has_failed) {
                match run_of(turn.series, memory, point.alive, contents, self.effort) {
                    Ok((run, bytes)) => {
                        turn.runs.push(run);
                        turn.bytes = bytes;
                    }
                    Err(error) => self.refuse(experiment, point.x, turn, &error)?,
                }
            }
        }
        for turn in turns.iter().filter(|turn| !turn.has_failed) {
            let summary = summary(&turn.runs);
            let figure = Figure {
                bytes: turn.bytes,
                faults: Some(summary.faults),
                ..figure(experiment, point.x, turn.series, &summary, turn.runs.len())
            };
            self.channel.say(&Event::Figure(Box::new(figure)))?;
        }
        Ok(())
    }

    fn turns<R>(&self, experiment: &Experiment, is_of: impl Fn(Series) -> bool) -> Vec<Turns<R>> {
        let series = experiment.series.iter().copied();
        series
            .filter(|series| self.words.wants_series(*series) && is_of(*series))
            .map(Turns::of)
            .collect()
    }

    /// Whether `bytes` may be used.
    ///
    /// # Errors
    /// They are more than asked for or than there are.
    fn room_for(&self, bytes: usize) -> Result<()> {
        /// Page tables, buffers, the kernel's own growth.
        const SPARE_BYTES: usize = 48 << 20;
        let mib = bytes.div_ceil(1 << 20);
        if let Some(max) = self.words.mem_max_mib
            && mib > max as usize
        {
            anyhow::bail!("{mib} MiB are more than mem-max-mib={max}");
        }
        let meminfo = std::fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
        let available_bytes = available_bytes(&meminfo).context("/proc/meminfo has no MemAvailable")?;
        if bytes + bytes / 256 + SPARE_BYTES > available_bytes {
            anyhow::bail!(
                "{mib} MiB are too many for the {} MiB that are free",
                available_bytes >> 20
            );
        }
        Ok(())
    }

    fn refuse<R>(
        &mut self,
        experiment: &Experiment,
        x: f64,
        turn: &mut Turns<R>,
        error: &anyhow::Error,
    ) -> Result<()> {
        turn.has_failed = true;
        let reason = format!("{error:#}");
        if !self.refused.insert((turn.series, reason.clone())) {
            return Ok(());
        }
        self.channel.say(&Event::Refused {
            what: format!("series {}", turn.series.name()),
            why: format!("{} at {x} {}: {reason}", experiment.name, experiment.x_unit),
        })
    }

    fn log(&mut self, experiment: &Experiment, x: f64, words: &str) {
        self.channel.log(&format!(
            "{} at {x} {}: {words}",
            experiment.name, experiment.x_unit
        ));
    }
}

/// One run of a series on `memory`, and the bytes that one checkpoint holds.
fn run_of(
    series: Series,
    memory: &Memory,
    alive: usize,
    contents: Contents,
    effort: Effort,
) -> Result<(Run, u64)> {
    if series == Series::ForkThp {
        // The last run has split them; the baseline is to be measured over whole ones.
        memory.collapse()?;
    }
    let baseline_us = baseline_us(memory);
    let mut peer = peer::start(series, memory, alive, contents)?;
    let rounds = rounds(&mut *peer, memory, alive, effort)?;
    Ok((Run { baseline_us, rounds }, peer.bytes()))
}

fn figure(experiment: &Experiment, x: f64, series: Series, summary: &Summary, runs: usize) -> Figure {
    Figure {
        experiment: experiment.name.into(),
        series: series.name().into(),
        x,
        x_unit: experiment.x_unit.into(),
        pause_us: summary.pause_us,
        stall_us: summary.stall_us,
        stall_spread_us: summary.stall_spread_us,
        pause_spread_us: summary.pause_spread_us,
        runs: runs as u32,
        ..Figure::default()
    }
}

/// `MemAvailable` in bytes.
fn available_bytes(meminfo: &str) -> Option<usize> {
    let value = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: usize = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_is_read() {
        let meminfo = "MemTotal:  9 kB\nMemFree: 8 kB\nMemAvailable:   2048 kB\n";
        assert_eq!(available_bytes(meminfo), Some(2 << 20));
        assert_eq!(available_bytes("MemTotal: 9 kB\n"), None);
    }
}

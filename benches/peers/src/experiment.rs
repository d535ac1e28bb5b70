//! What is measured: the thesis's tables and figures as far as they concern Linux, and sizes beyond them.

use crate::peer::{Contents, Series};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// One table or plot.
#[derive(Debug)]
pub(crate) struct Experiment {
    /// As in the rows.
    pub(crate) name: &'static str,
    /// What the points' `x` counts.
    pub(crate) x_unit: &'static str,
    /// What is compared.
    pub(crate) series: &'static [Series],
    /// How.
    pub(crate) plan: Plan,
}

/// How an experiment goes.
#[derive(Debug)]
pub(crate) enum Plan {
    /// A table of the thesis: many forks in a row.
    Table(Table),
    /// Rounds of checkpoint and writes, at each point.
    Rounds {
        /// Where on the x axis.
        points: fn(bool) -> Vec<Point>,
        /// What a checkpoint holds, for peers that can choose.
        contents: Contents,
    },
}

/// A table of the thesis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    /// The memory.
    pub(crate) len_bytes: usize,
    /// Map entries that it consists of.
    pub(crate) entries: usize,
    /// Where on the x axis.
    pub(crate) x: f64,
    /// Whether the parent writes to every tenth page while the child sleeps.
    pub(crate) writes: bool,
    /// Forks of one run; what they used is told as if they were [`FORKS`]. Quick.
    pub(crate) forks_quick: u32,
    /// The same, otherwise.
    pub(crate) forks: u32,
}

/// Forks that the thesis's tables are of.
pub(crate) const FORKS: u32 = 400;

/// One point.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Point {
    /// Where on the x axis.
    pub(crate) x: f64,
    /// The memory.
    pub(crate) len_bytes: usize,
    /// Map entries that it consists of.
    pub(crate) regions: usize,
    /// Share of pages that are modified.
    pub(crate) percent: u32,
    /// In runs of so many.
    pub(crate) contiguity: usize,
    /// Snapshots that live at once, the newest counted in.
    pub(crate) alive: usize,
}

/// Every peer.
const PEERS: &[Series] = &[
    Series::Fork,
    Series::ForkWired,
    Series::SoftDirty,
    Series::PagemapScan,
    Series::Segv,
    Series::UffdWp,
    Series::Pipe,
    Series::ForkThp,
];

/// Those that can hold several snapshots. The handlers of the others save a page once, for one.
const HOLDING_SEVERAL: &[Series] = &[
    Series::Fork,
    Series::ForkWired,
    Series::SoftDirty,
    Series::PagemapScan,
    Series::ForkThp,
];

/// All of them, in the order in which they are run.
pub(crate) const EXPERIMENTS: &[Experiment] = &[
    Experiment {
        name: "table3-1",
        x_unit: "MiB",
        series: &[Series::Fork, Series::ForkWired],
        plan: Plan::Table(Table {
            len_bytes: 16 * MIB,
            entries: 1,
            x: 16.0,
            writes: false,
            forks_quick: 100,
            forks: FORKS,
        }),
    },
    Experiment {
        name: "table3-2",
        x_unit: "MiB",
        series: &[Series::Cow, Series::Share, Series::Drop],
        plan: Plan::Table(Table {
            len_bytes: 16 * MIB,
            entries: 1,
            x: 16.0,
            writes: true,
            forks_quick: 100,
            forks: FORKS,
        }),
    },
    Experiment {
        name: "table3-3",
        x_unit: "map entries",
        series: &[Series::Cow, Series::Share, Series::Drop],
        plan: Plan::Table(Table {
            len_bytes: 20_000 * 4 * KIB,
            entries: 20_000,
            x: 20_000.0,
            writes: false,
            // A fork with so many entries takes a tenth of a second under emulation.
            forks_quick: 4,
            forks: 20,
        }),
    },
    Experiment {
        name: "fig6-1",
        x_unit: "KiB",
        series: PEERS,
        plan: Plan::Rounds {
            points: |_| {
                let sizes_kib = [256, 512, 1024, 2048, 4096, 6144, 9216];
                let point = |kib: u32| Point::new(kib, kib as usize * KIB, 10).in_regions(4);
                sizes_kib.map(point).to_vec()
            },
            contents: Contents::Everything,
        },
    },
    Experiment {
        name: "fig6-2",
        x_unit: "% dirty",
        series: PEERS,
        plan: Plan::Rounds {
            points: |_| {
                let shares = [1, 5, 10, 25, 50, 75, 95, 100];
                let point = |percent| Point {
                    contiguity: if percent == 95 { 25 } else { 4 },
                    ..Point::new(percent, 4 * MIB, percent).in_regions(4)
                };
                shares.map(point).to_vec()
            },
            contents: Contents::Modified,
        },
    },
    by_size("size-1pct", |quick| sizes(1, if quick { 256 } else { 1024 })),
    by_size("size-10pct", |quick| sizes(10, if quick { 256 } else { 1024 })),
    by_size("size-50pct", |quick| sizes(50, if quick { 16 } else { 1024 })),
    Experiment {
        name: "snapshots",
        x_unit: "snapshots alive",
        series: HOLDING_SEVERAL,
        plan: Plan::Rounds {
            points: |_| {
                let alive = |alive: u32| Point {
                    alive: alive as usize,
                    ..Point::new(alive, 16 * MIB, 10)
                };
                [1, 2, 4, 8].map(alive).to_vec()
            },
            contents: Contents::Modified,
        },
    },
];

const fn by_size(name: &'static str, points: fn(bool) -> Vec<Point>) -> Experiment {
    Experiment {
        name,
        x_unit: "MiB",
        series: PEERS,
        plan: Plan::Rounds {
            points,
            contents: Contents::Modified,
        },
    }
}

fn sizes(percent: u32, mib_max: u32) -> Vec<Point> {
    let sizes = [1, 4, 16, 64, 256, 1024]
        .into_iter()
        .filter(|mib| *mib <= mib_max);
    sizes
        .map(|mib| Point::new(mib, mib as usize * MIB, percent))
        .collect()
}

impl Point {
    fn new(x: u32, len_bytes: usize, percent: u32) -> Self {
        Self {
            x: x.into(),
            len_bytes,
            regions: 1,
            percent,
            contiguity: 4,
            alive: 1,
        }
    }

    fn in_regions(self, regions: usize) -> Self {
        Self { regions, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use figures::experiment::Ground;

    fn sorted<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn the_lists_agree() {
        let known = figures::experiment::EXPERIMENTS
            .iter()
            .filter(|experiment| experiment.grounds.contains(&Ground::Linux));
        assert_eq!(
            sorted(EXPERIMENTS.iter().map(|experiment| experiment.name)),
            sorted(known.map(|experiment| experiment.name))
        );
        for experiment in EXPERIMENTS.iter().filter(|other| other.name.starts_with("size-")) {
            assert_eq!(
                sorted(experiment.series.iter().map(|series| series.name())),
                sorted(figures::ratio::PEERS.into_iter()),
                "{}: the best peer is sought among these",
                experiment.name
            );
        }
    }
}

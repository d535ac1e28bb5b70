//! The ratios that a run is judged by, each with its goal: reached, missed, or missing an input.
//!
//! Only rows of the guests count, all measured in one run on one accelerator: absolute times of an emulated processor say
//! little, ratios between two guests in the same emulation do. A row that cannot be used (absent, or a stall that noise has
//! put at or below nothing) makes a ratio missing; it is never guessed, and never taken for a peer that is easy to beat. The
//! best peer is the best of all [`PEERS`]: a goal reached against fewer of them is not reached.

mod commit;

use crate::quantity::{Quantity, rounded};
use crate::row::Rows;
use crate::series::{ABOVE_FLUSH, Side, side};

/// Most that the pause may exceed a bare reload of CR3, in microseconds.
pub const PAUSE_OVER_FLUSH_MAX_US: f64 = 3.0;
/// How many times Linux's fork must pause longer.
pub const FORK_OVER_PAUSE_MIN: f64 = 300.0;
/// Most that the stall may be, as a share of the best peer's.
pub const STALL_SHARE_MAX: f64 = 0.5;

/// Most bytes that differences may take of scattered updates, as a share of the whole pages'.
pub const SCATTERED_SHARE_MAX: f64 = 0.1;

/// Most that what is registered may add to the pause, in microseconds.
pub const REGISTERED_MAX_US: f64 = 5.0;

/// Most that a transaction may take with checkpoints, as a multiple of the same without.
pub const TRANSACTION_MAX: f64 = 1.3;

/// Fewest acknowledged checkpoints of one dirty page in a second, one after the other.
pub const ACKNOWLEDGED_MIN_PER_S: f64 = 3000.0;
/// Longest that such a checkpoint may take, as a multiple of the link's round trip.
pub const LATENCY_MAX: f64 = 1.5;
/// Least throughput of large checkpoints, as a share of the bare link's.
pub const REPLICATION_MIN: f64 = 0.8;

/// Every way of Linux that its guest measures at each size: what a kernel of 6.12 or newer has. The test `the_lists_agree` of
/// the peers ties it to their own list.
pub const PEERS: [&str; 8] = [
    "linux-fork",
    "linux-fork-wired",
    "linux-fork-thp",
    "linux-soft-dirty",
    "linux-pagemap-scan",
    "linux-segv",
    "linux-uffd-wp",
    "linux-pipe",
];

/// The experiment that counts what should cost nothing, and its size in MiB.
const RELEASED: &str = "released";
const RELEASED_MIB: f64 = 64.0;

/// The experiment that counts the bytes of scattered updates.
const SCATTERED: &str = "scattered";

/// The experiments of what is registered, by whose registration it is, and its series; so many of each are registered.
const REGISTERED: [(&str, &str); 2] = [
    ("metadata", "100 descriptors and 100 threads on record"),
    ("metadata-node", "as many of a node, of which 64 files were moved"),
];
const REGISTERED_SERIES: &str = "both";
const REGISTERED_COUNT: f64 = 100.0;

/// The experiment of a transaction of SQLite's.
const TRANSACTION: &str = "sqlite-bulk";

/// The experiment of small checkpoints, its series, and that of the round trip, which has no pages.
const LATENCY: &str = "latency";
const ACKNOWLEDGED: &str = "acknowledged";
const ECHO: &str = "udp-echo";

/// The experiment of large checkpoints, and its sizes in MiB that are judged.
const REPLICATION: &str = "replication";
const REPLICATION_MIB: [f64; 2] = [16.0, 64.0];

/// What a ratio should be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Goal {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Goal {
    /// Whether `value` reaches it.
    pub fn is_reached_by(self, value: f64) -> bool {
        match self {
            Goal::AtMost(most) => value <= most,
            Goal::AtLeast(least) => value >= least,
        }
    }
}

/// What a ratio is.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// Both inputs were measured.
    Measured {
        /// The ratio, or the difference.
        value: f64,
        /// Of what it was made.
        from: String,
    },
    /// Measured, but against fewer peers than there should be: with all of them it could only be farther from the goal.
    Partial {
        /// The ratio against the best of the others.
        value: f64,
        /// Of what it was made.
        from: String,
        /// The peers that nobody measured.
        without: Vec<&'static str>,
    },
    /// An input is missing, and which.
    Missing(String),
}

/// A ratio against its goal.
#[derive(Clone, PartialEq, Debug)]
pub struct Ratio {
    /// What is compared with what, and where.
    pub what: String,
    /// What it should be.
    pub goal: Goal,
    /// What its numbers count; empty for a bare ratio.
    pub unit: &'static str,
    /// What it is.
    pub outcome: Outcome,
}

impl Ratio {
    /// `reached`, `missed` or `missing`.
    pub fn verdict(&self) -> &'static str {
        match &self.outcome {
            Outcome::Measured { value, .. } if self.goal.is_reached_by(*value) => "reached",
            Outcome::Partial { value, .. } if self.goal.is_reached_by(*value) => "missing",
            Outcome::Measured { .. } | Outcome::Partial { .. } => "missed",
            Outcome::Missing(_) => "missing",
        }
    }

    /// The verdict, with the peers that it had to do without.
    pub fn verdict_words(&self) -> String {
        match &self.outcome {
            Outcome::Partial { without, .. } => {
                format!("{} (without {})", self.verdict(), without.join(", "))
            }
            Outcome::Measured { .. } | Outcome::Missing(_) => self.verdict().into(),
        }
    }

    /// The goal as text.
    pub fn goal_words(&self) -> String {
        let (sign, value) = match self.goal {
            Goal::AtMost(most) => ("≤", most),
            Goal::AtLeast(least) => ("≥", least),
        };
        format!("{sign} {}{}", rounded(value), self.unit)
    }

    /// The value as text; a dash if it is missing.
    pub fn value_words(&self) -> String {
        match &self.outcome {
            Outcome::Measured { value, .. } | Outcome::Partial { value, .. } => {
                format!("{}{}", rounded(*value), self.unit)
            }
            Outcome::Missing(_) => "–".into(),
        }
    }

    /// Of what it was made, or what is missing.
    pub fn basis(&self) -> &str {
        match &self.outcome {
            Outcome::Measured { from, .. } | Outcome::Partial { from, .. } => from,
            Outcome::Missing(what) => what,
        }
    }
}

/// All ratios whose experiments are `asked` for.
pub fn ratios(rows: &Rows, asked: impl Fn(&str) -> bool) -> Vec<Ratio> {
    const PAUSES: &str = "size-10pct";
    let mut all = Vec::new();
    if asked(PAUSES) {
        all.extend([4.0, 16.0, 64.0, 256.0, 1024.0].map(|mib| over_flush(rows, PAUSES, mib)));
        all.push(fork_over_pause(rows, PAUSES, 256.0));
    }
    for (experiment, share) in [("size-1pct", 1), ("size-10pct", 10)] {
        if asked(experiment) {
            all.extend([4.0, 64.0, 256.0].map(|mib| stall_share(rows, experiment, share, mib)));
        }
    }
    if asked(RELEASED) {
        all.push(copies(
            rows,
            "released-copies",
            "dirty pages that were sent already",
        ));
        all.push(copies(
            rows,
            "clean-writes-copies",
            "clean pages in touched spans",
        ));
    }
    if asked(SCATTERED) {
        all.push(scattered_share(rows));
    }
    for (experiment, what) in REGISTERED {
        if asked(experiment) {
            all.push(registered(rows, experiment, what));
        }
    }
    if asked(TRANSACTION) {
        all.push(transaction(rows));
    }
    if asked(LATENCY) {
        all.extend([acknowledged(rows), latency(rows)]);
    }
    if asked(commit::EXPERIMENT) {
        all.extend([commit::latency(rows), commit::throughput(rows)]);
    }
    if asked(REPLICATION) {
        all.extend(REPLICATION_MIB.map(|mib| replication(rows, mib)));
    }
    all
}

/// A quantity of a series of small checkpoints, at so many dirty pages.
fn small(rows: &Rows, series: &str, pages: f64, quantity: Quantity) -> Result<f64, String> {
    rows.at(LATENCY, series, pages)
        .and_then(|figure| Some(quantity.of(figure)?.middle))
        .filter(|value| *value > 0.0)
        .ok_or_else(|| format!("no {series} at {pages} in {LATENCY}"))
}

/// Acknowledged checkpoints of one page in a second.
fn acknowledged(rows: &Rows) -> Ratio {
    Ratio {
        what: "acknowledged checkpoints of one dirty page, one after the other".into(),
        goal: Goal::AtLeast(ACKNOWLEDGED_MIN_PER_S),
        unit: " a second",
        outcome: match small(rows, ACKNOWLEDGED, 1.0, Quantity::Rate) {
            Ok(value) => Outcome::Measured {
                value,
                from: "median of the runs".into(),
            },
            Err(what) => Outcome::Missing(what),
        },
    }
}

/// How long such a checkpoint takes, over the link's round trip.
fn latency(rows: &Rows) -> Ratio {
    let outcome = small(rows, ACKNOWLEDGED, 1.0, Quantity::Latency)
        .and_then(|taken_us| Ok((taken_us, small(rows, ECHO, 0.0, Quantity::Latency)?)));
    Ratio {
        what: "a checkpoint of one dirty page / a UDP echo on the cluster link".into(),
        goal: Goal::AtMost(LATENCY_MAX),
        unit: "",
        outcome: match outcome {
            Ok((taken_us, echo_us)) => Outcome::Measured {
                value: taken_us / echo_us,
                from: format!("{} / {} µs", rounded(taken_us), rounded(echo_us)),
            },
            Err(what) => Outcome::Missing(what),
        },
    }
}

/// Throughput of checkpoints over that of the bare link.
fn replication(rows: &Rows, mib: f64) -> Ratio {
    let of = |series| point(rows, REPLICATION, series, mib, Quantity::Throughput);
    let outcome = of("lazy").and_then(|lazy| Ok((lazy, of("raw-link")?)));
    Ratio {
        what: format!("throughput of checkpoints / of the bare link, {mib} MiB"),
        goal: Goal::AtLeast(REPLICATION_MIN),
        unit: "",
        outcome: match outcome {
            Ok((lazy, bare)) => Outcome::Measured {
                value: lazy / bare,
                from: format!("{} / {} MB/s", rounded(lazy), rounded(bare)),
            },
            Err(what) => Outcome::Missing(what),
        },
    }
}

/// A point that must be there, as a number above nothing.
fn point(rows: &Rows, experiment: &str, series: &str, mib: f64, quantity: Quantity) -> Result<f64, String> {
    let missing = || format!("no {series} at {mib} MiB in {experiment}");
    let figure = rows.at(experiment, series, mib).ok_or_else(missing)?;
    let value = quantity.of(figure).ok_or_else(missing)?.middle;
    if value > 0.0 {
        Ok(value)
    } else {
        Err(format!(
            "{series} at {mib} MiB in {experiment} is {}: lost in noise",
            rounded(value)
        ))
    }
}

/// The median of the differences round by round where the guest has told it, else the difference of the medians.
fn over_flush(rows: &Rows, experiment: &str, mib: f64) -> Ratio {
    let pause = |series| point(rows, experiment, series, mib, Quantity::Pause);
    let medians = pause("lazy").and_then(|lazy| Ok((lazy, pause("tlb-flush")?)));
    let paired = rows
        .at(experiment, ABOVE_FLUSH, mib)
        .and_then(|figure| Quantity::Pause.of(figure));
    let outcome = medians.map(|(lazy, flush)| {
        let from = format!("{} − {} µs", rounded(lazy), rounded(flush));
        match paired {
            Some(paired) => Outcome::Measured {
                value: paired.middle,
                from: format!("{from}, the median of the differences"),
            },
            None => Outcome::Measured {
                value: lazy - flush,
                from,
            },
        }
    });
    Ratio {
        what: format!("pause of lazy less a bare TLB flush, {mib} MiB, 10 % dirty"),
        goal: Goal::AtMost(PAUSE_OVER_FLUSH_MAX_US),
        unit: " µs",
        outcome: outcome.unwrap_or_else(Outcome::Missing),
    }
}

/// Copied pages of one checkpoint that should be none.
fn copies(rows: &Rows, series: &str, of: &str) -> Ratio {
    let figure = rows.at(RELEASED, series, RELEASED_MIB);
    let counted = figure.and_then(|figure| Quantity::Faults.of(figure));
    Ratio {
        what: format!("pages copied by writes to {of}, with a snapshot alive"),
        goal: Goal::AtMost(0.0),
        unit: "",
        outcome: match counted {
            Some(counted) => Outcome::Measured {
                value: counted.middle,
                from: format!("mean of a checkpoint, {RELEASED_MIB} MiB, 10 % dirty"),
            },
            None => Outcome::Missing(format!("no {series} in {RELEASED}")),
        },
    }
}

/// Bytes of differences over bytes of whole pages, at the same number of pages.
fn scattered_share(rows: &Rows) -> Ratio {
    let of = |series: &str| {
        let found = rows.of(SCATTERED, false);
        let figure = found.into_iter().find(|figure| figure.series == series);
        figure
            .and_then(|figure| Some((figure.x, Quantity::Contents.of(figure)?.middle)))
            .ok_or_else(|| format!("no {series} in {SCATTERED}"))
    };
    let outcome = of("difference").and_then(|(pages, kib)| match of("whole")? {
        (same, whole_kib) if same == pages => Ok(Outcome::Measured {
            value: kib / whole_kib,
            from: format!("{} / {} KiB, {pages} pages", rounded(kib), rounded(whole_kib)),
        }),
        _ => Err(format!("whole and difference of {SCATTERED} are of other pages")),
    });
    Ratio {
        what: "bytes of scattered 8-byte updates as differences / as whole pages".into(),
        goal: Goal::AtMost(SCATTERED_SHARE_MAX),
        unit: "",
        outcome: outcome.unwrap_or_else(Outcome::Missing),
    }
}

/// The pause with so many registered less the pause with none.
fn registered(rows: &Rows, experiment: &str, what: &str) -> Ratio {
    let pause = |count: f64| {
        let figure = rows.at(experiment, REGISTERED_SERIES, count);
        figure
            .and_then(|figure| Some(Quantity::Pause.of(figure)?.middle))
            .ok_or_else(|| format!("no {REGISTERED_SERIES} at {count} in {experiment}"))
    };
    let outcome = pause(REGISTERED_COUNT).and_then(|with| Ok((with, pause(0.0)?)));
    Ratio {
        what: format!("pause that is added by {what}"),
        goal: Goal::AtMost(REGISTERED_MAX_US),
        unit: " µs",
        outcome: match outcome {
            Ok((with, without)) => Outcome::Measured {
                value: with - without,
                from: format!("{} − {} µs", rounded(with), rounded(without)),
            },
            Err(what) => Outcome::Missing(what),
        },
    }
}

/// A transaction's time with checkpoints over that without.
fn transaction(rows: &Rows) -> Ratio {
    let of = |series: &str| {
        let found = rows.of(TRANSACTION, false);
        let figure = found.into_iter().find(|figure| figure.series == series);
        figure
            .and_then(|figure| Some(Quantity::Wall.of(figure)?.middle))
            .filter(|wall_s| *wall_s > 0.0)
            .ok_or_else(|| format!("no {series} in {TRANSACTION}"))
    };
    let outcome = of("with-spare").and_then(|with_s| Ok((with_s, of("alone")?)));
    Ratio {
        what: "SQLite's insert of 10,000 rows with checkpoints / without".into(),
        goal: Goal::AtMost(TRANSACTION_MAX),
        unit: "",
        outcome: match outcome {
            Ok((with_s, alone_s)) => Outcome::Measured {
                value: with_s / alone_s,
                from: format!("{} / {} s", rounded(with_s), rounded(alone_s)),
            },
            Err(what) => Outcome::Missing(what),
        },
    }
}

fn fork_over_pause(rows: &Rows, experiment: &str, mib: f64) -> Ratio {
    let pause = |series| point(rows, experiment, series, mib, Quantity::Pause);
    let outcome = pause("linux-fork").and_then(|fork| Ok((fork, pause("lazy")?)));
    Ratio {
        what: format!("pause of Linux's fork() / pause of lazy, {mib} MiB, 10 % dirty"),
        goal: Goal::AtLeast(FORK_OVER_PAUSE_MIN),
        unit: "",
        outcome: match outcome {
            Ok((fork, lazy)) => Outcome::Measured {
                value: fork / lazy,
                from: format!("{} / {} µs", rounded(fork), rounded(lazy)),
            },
            Err(what) => Outcome::Missing(what),
        },
    }
}

/// The best Linux peer at some size.
#[derive(Clone, PartialEq, Debug)]
pub struct Best<'a> {
    /// Its series.
    pub series: &'a str,
    /// Its stall, in microseconds.
    pub stall_us: f64,
    /// Those of [`PEERS`] that were not measured there: one of them might be better.
    pub without: Vec<&'static str>,
}

/// The Linux series of the smallest stall at this size.
///
/// # Errors
/// There is none, or one is lost in noise (it might be the best): which.
pub fn best_peer<'a>(rows: &'a Rows, experiment: &str, mib: f64) -> Result<Best<'a>, String> {
    let mut without = PEERS.to_vec();
    let peers = rows
        .of(experiment, false)
        .into_iter()
        .filter(|figure| figure.x == mib && side(&figure.series) == Side::Linux);
    let mut best: Option<(&str, f64)> = None;
    for peer in peers {
        let Some(stall) = Quantity::Stall.of(peer) else {
            continue;
        };
        without.retain(|series| *series != peer.series);
        let stall_us = stall.middle;
        if stall_us <= 0.0 {
            return Err(format!(
                "the stall of {} at {mib} MiB is {}: lost in noise",
                peer.series,
                rounded(stall_us)
            ));
        }
        if best.is_none_or(|(_, least)| stall_us < least) {
            best = Some((&peer.series, stall_us));
        }
    }
    let (series, stall_us) = best.ok_or_else(|| format!("no Linux series at {mib} MiB in {experiment}"))?;
    Ok(Best {
        series,
        stall_us,
        without,
    })
}

fn stall_share(rows: &Rows, experiment: &str, share: u32, mib: f64) -> Ratio {
    let outcome = point(rows, experiment, "lazy", mib, Quantity::Stall)
        .and_then(|lazy| Ok((lazy, best_peer(rows, experiment, mib)?)));
    Ratio {
        what: format!("stall of lazy / stall of the best Linux peer, {mib} MiB, {share} % dirty"),
        goal: Goal::AtMost(STALL_SHARE_MAX),
        unit: "",
        outcome: match outcome {
            Ok((lazy, best)) => {
                let value = lazy / best.stall_us;
                let from = format!(
                    "{} / {} µs ({})",
                    rounded(lazy),
                    rounded(best.stall_us),
                    best.series
                );
                if best.without.is_empty() {
                    Outcome::Measured { value, from }
                } else {
                    Outcome::Partial {
                        value,
                        from,
                        without: best.without,
                    }
                }
            }
            Err(what) => Outcome::Missing(what),
        },
    }
}

#[cfg(test)]
mod tests;

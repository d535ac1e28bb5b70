//! The ratios that a run is judged by, each with its goal: reached, missed, or missing an input.
//!
//! Only rows of the guests count, all measured in one run on one accelerator: absolute times of an emulated processor say
//! little, ratios between two guests in the same emulation do. A row that cannot be used (absent, or a stall that noise has
//! put at or below nothing) makes a ratio missing; it is never guessed, and never taken for a peer that is easy to beat.

use crate::quantity::{Quantity, rounded};
use crate::row::Rows;
use crate::series::{ABOVE_FLUSH, Side, side};

/// Most that the pause may exceed a bare reload of CR3, in microseconds.
pub const PAUSE_OVER_FLUSH_MAX_US: f64 = 3.0;
/// How many times Linux's fork must pause longer.
pub const FORK_OVER_PAUSE_MIN: f64 = 300.0;
/// Most that the stall may be, as a share of the best peer's.
pub const STALL_SHARE_MAX: f64 = 0.5;

/// The experiment that counts what should cost nothing, and its size in MiB.
const RELEASED: &str = "released";
const RELEASED_MIB: f64 = 64.0;

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
            Outcome::Measured { .. } => "missed",
            Outcome::Missing(_) => "missing",
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
            Outcome::Measured { value, .. } => format!("{}{}", rounded(*value), self.unit),
            Outcome::Missing(_) => "–".into(),
        }
    }

    /// Of what it was made, or what is missing.
    pub fn basis(&self) -> &str {
        match &self.outcome {
            Outcome::Measured { from, .. } => from,
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
    all
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

/// The Linux series of the smallest stall at this size, and that stall in microseconds.
///
/// # Errors
/// There is none, or one is lost in noise (it might be the best): which.
pub fn best_peer<'a>(rows: &'a Rows, experiment: &str, mib: f64) -> Result<(&'a str, f64), String> {
    let peers = rows
        .of(experiment, false)
        .into_iter()
        .filter(|figure| figure.x == mib && side(&figure.series) == Side::Linux);
    let mut best: Option<(&str, f64)> = None;
    for peer in peers {
        let Some(stall) = Quantity::Stall.of(peer) else {
            continue;
        };
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
    best.ok_or_else(|| format!("no Linux series at {mib} MiB in {experiment}"))
}

fn stall_share(rows: &Rows, experiment: &str, share: u32, mib: f64) -> Ratio {
    let outcome = point(rows, experiment, "lazy", mib, Quantity::Stall)
        .and_then(|lazy| Ok((lazy, best_peer(rows, experiment, mib)?)));
    Ratio {
        what: format!("stall of lazy / stall of the best Linux peer, {mib} MiB, {share} % dirty"),
        goal: Goal::AtMost(STALL_SHARE_MAX),
        unit: "",
        outcome: match outcome {
            Ok((lazy, (peer, best))) => Outcome::Measured {
                value: lazy / best,
                from: format!("{} / {} µs ({peer})", rounded(lazy), rounded(best)),
            },
            Err(what) => Outcome::Missing(what),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::tests::{figure, rows};
    use crate::row::{Accel, Row};
    use hs_core::figure::Figure;
    use proptest::prelude::*;

    fn whole() -> Rows {
        let mut figures = ["released-copies", "clean-writes-copies"]
            .map(|series| Figure {
                faults: Some(0.0),
                ..figure("released", series, 64.0, 5.0, 5.0)
            })
            .to_vec();
        for mib in [4.0, 16.0, 64.0, 256.0, 1024.0] {
            for experiment in ["size-1pct", "size-10pct"] {
                figures.push(figure(experiment, "lazy", mib, 5.0, 20.0));
                figures.push(figure(experiment, "tlb-flush", mib, 4.0, 4.0));
                figures.push(figure(experiment, "linux-fork", mib, 2000.0, 400.0));
                figures.push(figure(experiment, "linux-pagemap-scan", mib, 90.0, 100.0));
            }
        }
        rows(figures)
    }

    #[test]
    fn a_good_run_reaches_every_goal() {
        let all = ratios(&whole(), |_| true);
        assert_eq!(all.len(), 5 + 1 + 6 + 2);
        for ratio in &all {
            assert_eq!(ratio.verdict(), "reached", "{ratio:?}");
        }
        assert_eq!(all[0].value_words(), "1 µs");
        assert_eq!(all[5].value_words(), "400");
        assert!(
            all[6].basis().contains("linux-pagemap-scan"),
            "{}",
            all[6].basis()
        );
    }

    #[test]
    fn missing_inputs_are_said_and_never_guessed() {
        let without = |series: &str| {
            let kept = whole();
            let kept = kept.iter().filter(|row| row.figure.series != series);
            ratios(
                &rows(kept.map(|row| row.figure.clone()).collect::<Vec<_>>()),
                |_| true,
            )
        };
        assert!(
            without("lazy")[..12]
                .iter()
                .all(|ratio| ratio.verdict() == "missing")
        );
        let no_flush = without("tlb-flush");
        assert!(
            no_flush[..5]
                .iter()
                .all(|ratio| ratio.basis().contains("tlb-flush"))
        );
        assert!(no_flush[5..].iter().all(|ratio| ratio.verdict() == "reached"));
        assert!(
            ratios(&Rows::default(), |_| true)
                .iter()
                .all(|ratio| ratio.value_words() == "–")
        );
    }

    #[test]
    fn differences_round_by_round_count_before_those_of_medians() {
        let mut all = whole();
        all.push(Row {
            figure: figure("size-10pct", ABOVE_FLUSH, 4.0, -0.5, -0.5),
            accel: Accel::Tcg,
        });
        let ratios = ratios(&all, |_| true);
        assert_eq!(ratios[0].value_words(), "-0.5 µs");
        assert_eq!(ratios[1].value_words(), "1 µs");
    }

    #[test]
    fn one_copy_misses_the_goal() {
        let copied = Figure {
            faults: Some(0.01),
            ..figure("released", "released-copies", 64.0, 5.0, 5.0)
        };
        assert_eq!(
            copies(&rows([copied]), "released-copies", "x").verdict(),
            "missed"
        );
    }

    #[test]
    fn only_what_was_asked_for_is_judged() {
        assert!(ratios(&whole(), |name| name == "fig6-1").is_empty());
        assert_eq!(ratios(&whole(), |name| name == "size-1pct").len(), 3);
    }

    #[test]
    fn the_host_itself_is_no_peer() {
        let mut all = rows([figure("size-1pct", "lazy", 4.0, 5.0, 20.0)]);
        all.push(Row {
            figure: figure("size-1pct", "linux-fork", 4.0, 1.0, 1.0),
            accel: Accel::Native,
        });
        assert!(best_peer(&all, "size-1pct", 4.0).is_err());
    }

    #[test]
    fn a_peer_lost_in_noise_makes_the_ratio_missing() {
        let all = rows([
            figure("size-1pct", "lazy", 4.0, 5.0, 20.0),
            figure("size-1pct", "linux-fork", 4.0, 100.0, 100.0),
            figure("size-1pct", "linux-uffd-wp", 4.0, 1.0, -3.0),
        ]);
        let ratio = stall_share(&all, "size-1pct", 1, 4.0);
        assert_eq!(ratio.verdict(), "missing");
        assert!(ratio.basis().contains("linux-uffd-wp"));
    }

    proptest! {
        #[test]
        fn the_best_peer_is_the_least_and_a_linux_one(
            stalls in prop::collection::vec((0..6usize, 0.01..1e6f64), 1..12), ours in 0.001..1e6f64,
        ) {
            let names = ["linux-a", "linux-b", "linux-c", "linux-d", "eager", "tlb-flush"];
            let mut all = vec![figure("size-10pct", "lazy", 64.0, 1.0, ours)];
            all.extend(stalls.iter().map(|(name, stall)| figure("size-10pct", names[*name], 64.0, 1.0, *stall)));
            // Others that must not count: of another size, of another experiment.
            all.push(figure("size-10pct", "linux-a", 4.0, 1.0, 1e-6));
            all.push(figure("size-1pct", "linux-a", 64.0, 1.0, 1e-6));
            let all = rows(all);
            let linux: Vec<f64> = all.of("size-10pct", false).iter()
                .filter(|f| f.series.starts_with("linux-") && f.x == 64.0).map(|f| f.stall_us).collect();
            match best_peer(&all, "size-10pct", 64.0) {
                Ok((name, stall)) => {
                    prop_assert!(name.starts_with("linux-"));
                    prop_assert!(linux.iter().all(|other| stall <= *other) && linux.contains(&stall));
                    let ratio = stall_share(&all, "size-10pct", 10, 64.0);
                    prop_assert_eq!(ratio.verdict() == "reached", ours / stall <= 0.5);
                }
                Err(_) => prop_assert!(linux.is_empty()),
            }
        }
    }
}

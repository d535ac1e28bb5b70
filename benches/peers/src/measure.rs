//! From single measurements to a figure: medians, percentiles, spreads. Pure.

use hs_core::figure::{Pause, Spread};

/// One round.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Round {
    /// The call that takes the checkpoint.
    pub(crate) pause_us: f64,
    /// Writing the dirty set afterwards.
    pub(crate) writes_us: f64,
    /// Faults in both.
    pub(crate) faults: f64,
}

/// Rounds on the same memory with the same peer, and what the writes take without a checkpoint.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Run {
    /// Writing the dirty set when nothing was protected or copied: measured just before.
    pub(crate) baseline_us: f64,
    /// At least one.
    pub(crate) rounds: Vec<Round>,
}

impl Run {
    fn pauses_us(&self) -> Vec<f64> {
        self.rounds.iter().map(|round| round.pause_us).collect()
    }

    /// What a checkpoint took from the writer: the pause, and what the same writes took longer.
    fn stall_us(&self) -> f64 {
        let stalls = self
            .rounds
            .iter()
            .map(|round| round.pause_us + round.writes_us - self.baseline_us);
        median(&stalls.collect::<Vec<_>>())
    }
}

/// What the rows of a series say of its runs.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Summary {
    /// Over all rounds of all runs.
    pub(crate) pause_us: Pause,
    /// Of the runs' medians.
    pub(crate) pause_spread_us: Spread,
    /// Median of the runs' medians.
    pub(crate) stall_us: f64,
    /// Of the runs' medians.
    pub(crate) stall_spread_us: Spread,
    /// Median over all rounds of all runs.
    pub(crate) faults: f64,
}

/// Summarises `runs`.
///
/// # Panics
/// If there are none, or one is empty.
pub(crate) fn summary(runs: &[Run]) -> Summary {
    let pauses_us: Vec<f64> = runs.iter().flat_map(Run::pauses_us).collect();
    let pause_medians_us: Vec<f64> = runs.iter().map(|run| median(&run.pauses_us())).collect();
    let stalls_us: Vec<f64> = runs.iter().map(Run::stall_us).collect();
    let faults: Vec<f64> = runs
        .iter()
        .flat_map(|run| run.rounds.iter().map(|round| round.faults))
        .collect();
    Summary {
        pause_us: Pause {
            p50: median(&pauses_us),
            p99: percentile(&pauses_us, 99.0),
            max: percentile(&pauses_us, 100.0),
        },
        pause_spread_us: spread(&pause_medians_us),
        stall_us: median(&stalls_us),
        stall_spread_us: spread(&stalls_us),
        faults: median(&faults),
    }
}

/// The value in the middle, or the mean of the two there.
///
/// # Panics
/// If there are no values.
pub(crate) fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

/// The smallest value that is not exceeded by `percent` of them.
fn percentile(values: &[f64], percent: f64) -> f64 {
    let sorted = sorted(values);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// Smallest and largest.
///
/// # Panics
/// If there are no values.
pub(crate) fn spread(values: &[f64]) -> Spread {
    let sorted = sorted(values);
    Spread {
        min: sorted[0],
        max: sorted[sorted.len() - 1],
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn medians_and_percentiles() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&hundred, 99.0), 99.0);
        assert_eq!(percentile(&hundred, 100.0), 100.0);
        assert_eq!(percentile(&[7.0], 99.0), 7.0);
    }

    #[test]
    fn a_stall_is_the_pause_and_what_writes_took_longer() {
        let run = |baseline_us, pause_us, writes_us| Run {
            baseline_us,
            rounds: vec![Round {
                pause_us,
                writes_us,
                faults: 2.0,
            }],
        };
        let summary = summary(&[run(10.0, 5.0, 30.0), run(10.0, 6.0, 40.0), run(20.0, 7.0, 30.0)]);
        assert_eq!(summary.stall_us, 25.0);
        assert_eq!(summary.stall_spread_us, Spread { min: 17.0, max: 36.0 });
        assert_eq!(summary.pause_spread_us, Spread { min: 5.0, max: 7.0 });
        assert_eq!(summary.pause_us.p50, 6.0);
        assert_eq!(summary.faults, 2.0);
    }

    proptest! {
        #[test]
        fn a_median_has_as_many_on_either_side(values in proptest::collection::vec(-1e6..1e6_f64, 1..40)) {
            let middle = median(&values);
            let below = values.iter().filter(|value| **value < middle).count();
            let above = values.iter().filter(|value| **value > middle).count();
            prop_assert!(below <= values.len() / 2 && above <= values.len() / 2);
            let spread = spread(&values);
            prop_assert!(spread.min <= middle && middle <= spread.max);
        }
    }
}

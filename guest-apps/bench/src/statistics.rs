//! Figures out of samples: the median and its spread, because what disturbs a measurement only ever lengthens it.
//!
//! A *run* is several rounds one after the other. Pauses are told over all rounds of all runs; everything else as the median
//! of the runs' medians, so that what disturbs one run shows as spread and not in the figure.

use alloc::vec::Vec;

use hs_core::figure::{Pause, Spread};

/// The middle value, or the mean of the two in the middle; 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The mean; 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.iter().sum::<f64>() / values.len() as f64
}

/// The least value that `percent` of all do not exceed; 0 of nothing.
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    let sorted = sorted(values);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0.0)
}

/// Smallest and largest; 0 of nothing.
pub fn spread(values: &[f64]) -> Spread {
    let sorted = sorted(values);
    Spread {
        min: sorted.first().copied().unwrap_or(0.0),
        max: sorted.last().copied().unwrap_or(0.0),
    }
}

/// What is told of pauses.
pub fn pause(values: &[f64]) -> Pause {
    Pause {
        p50: median(values),
        p99: percentile(values, 99),
        max: spread(values).max,
    }
}

/// By how much a writer's throughput is lower if its work takes `with_us` instead of `without_us`, from 0 to 1.
pub fn lost_throughput(without_us: f64, with_us: f64) -> f64 {
    if with_us <= without_us {
        return 0.0;
    }
    1.0 - without_us / with_us
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// One quantity, sampled in every round of every run.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Samples {
    runs: Vec<Vec<f64>>,
}

impl Samples {
    /// The samples that follow are of another run.
    pub fn begin_run(&mut self) {
        self.runs.push(Vec::new());
    }

    /// Adds a sample to the newest run, or to a first one.
    pub fn add(&mut self, value: f64) {
        if self.runs.is_empty() {
            self.begin_run();
        }
        if let Some(run) = self.runs.last_mut() {
            run.push(value);
        }
    }

    /// The median of each run.
    pub fn medians(&self) -> Vec<f64> {
        self.runs.iter().map(|run| median(run)).collect()
    }

    /// All samples of all runs.
    pub fn all(&self) -> Vec<f64> {
        self.runs.iter().flatten().copied().collect()
    }

    /// The median of the runs' medians.
    pub fn median(&self) -> f64 {
        median(&self.medians())
    }

    /// How far the runs' medians lie apart.
    pub fn spread(&self) -> Spread {
        spread(&self.medians())
    }

    /// How many runs there were.
    pub fn runs(&self) -> u32 {
        self.runs.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_ends() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
        assert_eq!(mean(&[1.0, 2.0, 6.0]), 3.0);
        assert_eq!(mean(&[]), 0.0);
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&hundred, 99), 99.0);
        assert_eq!(percentile(&hundred, 100), 100.0);
        assert_eq!(percentile(&[], 99), 0.0);
        assert_eq!(
            pause(&hundred),
            Pause {
                p50: 50.5,
                p99: 99.0,
                max: 100.0
            }
        );
    }

    #[test]
    fn throughput_is_lost_to_what_takes_longer() {
        assert_eq!(lost_throughput(30.0, 40.0), 0.25);
        assert_eq!(lost_throughput(0.0, 40.0), 1.0);
        assert_eq!(lost_throughput(40.0, 40.0), 0.0);
        // What is no longer is noise.
        assert_eq!(lost_throughput(40.0, 30.0), 0.0);
        assert_eq!(lost_throughput(0.0, 0.0), 0.0);
    }

    #[test]
    fn one_disturbed_run_shows_as_spread_alone() {
        let mut samples = Samples::default();
        for run in [[1.0, 2.0, 3.0], [2.0, 2.0, 90.0], [70.0, 80.0, 90.0]] {
            samples.begin_run();
            run.into_iter().for_each(|value| samples.add(value));
        }
        assert_eq!(samples.medians(), [2.0, 2.0, 80.0]);
        assert_eq!(samples.median(), 2.0);
        assert_eq!(samples.spread(), Spread { min: 2.0, max: 80.0 });
        assert_eq!((samples.runs(), samples.all().len()), (3, 9));
    }

    #[test]
    fn a_first_run_needs_no_announcement() {
        let mut samples = Samples::default();
        samples.add(5.0);
        assert_eq!((samples.runs(), samples.median()), (1, 5.0));
    }
}

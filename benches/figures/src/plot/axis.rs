//! An axis: where a value stands on it, and which values are written beside it.
//!
//! A logarithmic axis is a linear one of logarithms, which leaves the plotting library one case instead of four.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::quantity::rounded;

/// Most ticks of a linear axis.
const TICKS_MAX: f64 = 8.0;

/// An axis.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Axis {
    log: bool,
    /// Where it begins and ends, as [`place`](Axis::place) counts.
    range: (f64, f64),
    /// Where values are written, as [`place`](Axis::place) counts.
    ticks: Vec<f64>,
}

/// As the plotting library sees it: by places.
impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, limit: (i32, i32)) -> i32 {
        let share = (place - self.range.0) / (self.range.1 - self.range.0);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // No light lines between the ticks.
        if hint.weight().allow_light_points() {
            Vec::new()
        } else {
            self.ticks.clone()
        }
    }

    fn range(&self) -> Range<f64> {
        self.range.0..self.range.1
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, place: &f64) -> String {
        self.label(*place)
    }
}

impl Axis {
    /// A linear axis from nothing to beyond the largest of `values`.
    pub(super) fn linear(values: &[f64]) -> Axis {
        let most = values.iter().copied().fold(0.0, f64::max);
        let most = if most > 0.0 { most } else { 1.0 };
        let step = nice_step(most / TICKS_MAX);
        let count = (most / step * 1.0001).ceil() as usize;
        Axis {
            log: false,
            range: (0.0, (most * 1.03).max(step)),
            ticks: (0..=count)
                .map(|index| index as f64 * step)
                .filter(|tick| *tick <= most * 1.03)
                .collect(),
        }
    }

    /// A logarithmic axis around `values`, all above nothing, with round ticks.
    pub(super) fn log(values: &[f64]) -> Axis {
        let (range, decades) = log_range(values);
        let steps: &[f64] = if decades < 2.2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let mut ticks = Vec::new();
        for decade in range.0.floor() as i32..=range.1.ceil() as i32 {
            ticks.extend(steps.iter().map(|step| f64::from(decade) + step.log10()));
        }
        ticks.retain(|tick| (range.0..=range.1).contains(tick));
        Axis {
            log: true,
            range,
            ticks,
        }
    }

    /// As [`log`](Axis::log), for bars: it begins at a power of ten well below the least, so that no bar vanishes.
    pub(super) fn log_for_bars(values: &[f64]) -> Axis {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let decade = 10f64.powf((least * 0.8).log10().floor());
        let values: Vec<f64> = values.iter().copied().chain([decade]).collect();
        let mut axis = Axis::log(&values);
        axis.range.0 = decade.log10();
        axis.ticks.retain(|tick| *tick >= axis.range.0);
        axis
    }

    /// A logarithmic axis with its ticks at `values`, all above nothing.
    pub(super) fn log_at(values: &[f64]) -> Axis {
        let (range, _) = log_range(values);
        let mut ticks: Vec<f64> = values.iter().map(|value| value.log10()).collect();
        // Two that would be written over each other are written once.
        let least = (range.1 - range.0) / 18.0;
        ticks.dedup_by(|later, earlier| *later - *earlier < least);
        Axis {
            log: true,
            range,
            ticks,
        }
    }

    /// Where `value` stands, kept within the axis.
    pub(super) fn place(&self, value: f64) -> f64 {
        let at = match self.log {
            true if value <= 0.0 => self.range.0,
            true => value.log10(),
            false => value,
        };
        at.clamp(self.range.0, self.range.1)
    }

    /// Whether `value` has a place on it.
    pub(super) fn shows(&self, value: f64) -> bool {
        value.is_finite() && (!self.log || value > 0.0)
    }

    /// What is written at `place`.
    fn label(&self, place: f64) -> String {
        let value = if self.log { 10f64.powf(place) } else { place };
        // What a logarithm has lost by rounding is not shown.
        let value = (value * 1e9).round() / 1e9;
        let nearest = value.round();
        if value.abs() >= 1.0 && (value - nearest).abs() < value.abs() * 1e-6 {
            grouped(nearest as i64)
        } else {
            let text = format!("{value:.6}");
            let text = text.trim_end_matches('0').trim_end_matches('.');
            if text.len() > 6 {
                rounded(value)
            } else {
                text.into()
            }
        }
    }
}

/// Range and width in decades, with some room on both sides.
fn log_range(values: &[f64]) -> ((f64, f64), f64) {
    let logs = || values.iter().map(|value| value.log10());
    let (low, high) = (
        logs().fold(f64::INFINITY, f64::min),
        logs().fold(f64::NEG_INFINITY, f64::max),
    );
    let room = ((high - low) * 0.04).max(if high - low < 0.3 { 0.3 } else { 0.05 });
    ((low - room, high + room), high - low)
}

/// The least of 1, 2 and 5 times a power of ten that is not below `least`.
fn nice_step(least: f64) -> f64 {
    let decade = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|step| step * decade)
        .into_iter()
        .find(|step| *step >= least * 0.9999)
        .unwrap_or(decade * 10.0)
}

/// A whole number with its thousands apart.
fn grouped(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0 { format!("−{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks.iter().map(|tick| axis.label(*tick)).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            labels(&Axis::linear(&[256.0, 9216.0])),
            ["0", "2,000", "4,000", "6,000", "8,000"]
        );
        assert_eq!(
            labels(&Axis::linear(&[100.0])),
            ["0", "20", "40", "60", "80", "100"]
        );
        assert_eq!(
            labels(&Axis::log(&[0.5, 20_000.0])),
            ["1", "10", "100", "1,000", "10,000"]
        );
        assert_eq!(labels(&Axis::log(&[2.0, 30.0])), ["2", "5", "10", "20"]);
        assert_eq!(
            labels(&Axis::log_at(&[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0])),
            ["1", "4", "16", "64", "256", "1,024"]
        );
    }

    #[test]
    fn bars_begin_at_a_power_of_ten_below_the_least() {
        assert_eq!(labels(&Axis::log_for_bars(&[0.56, 73.0])), ["0.1", "1", "10"]);
        assert_eq!(labels(&Axis::log_for_bars(&[0.11, 73.0]))[0], "0.01");
        assert_eq!(Axis::log_for_bars(&[1.3]).range.0, 0.0);
    }

    #[test]
    fn one_value_has_an_axis_too() {
        for axis in [
            Axis::linear(&[0.0]),
            Axis::linear(&[5.0]),
            Axis::log(&[5.0]),
            Axis::log_at(&[5.0]),
        ] {
            assert!(axis.range.0 < axis.range.1 && !axis.ticks.is_empty(), "{axis:?}");
        }
    }

    proptest! {
        #[test]
        fn every_value_and_tick_lies_within(values in prop::collection::vec(1e-3..1e7f64, 1..20)) {
            let mut ascending = values.clone();
            ascending.sort_by(f64::total_cmp);
            for axis in [
                Axis::linear(&values), Axis::log(&values), Axis::log_at(&ascending), Axis::log_for_bars(&values),
            ] {
                let within = |place: &f64| (axis.range.0..=axis.range.1).contains(place);
                prop_assert!(axis.ticks.iter().all(within), "{:?}", axis);
                prop_assert!(axis.ticks.len() <= 20);
                for value in &values {
                    let place = if axis.log { value.log10() } else { *value };
                    prop_assert_eq!(axis.place(*value), place);
                }
                prop_assert!(!axis.log || !axis.shows(0.0));
                prop_assert!(within(&axis.place(-1.0)) && !axis.shows(f64::NAN));
            }
        }
    }
}

//! Many values of one quantity, such as the pauses of all kills: percentiles, and bars of how many lie where.
//!
//! Bars are as wide as a ratio, not as a difference: pauses lie between a millisecond and seconds.

/// Bars in a factor of ten.
const BARS_PER_DECADE: i32 = 6;

/// One bar.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bar {
    /// Where it begins.
    pub from: f64,
    /// Where it ends; a value that lies there is in the next one.
    pub to: f64,
    /// Values in it.
    pub count: usize,
}

/// Values, all above nothing.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Distribution {
    sorted: Vec<f64>,
}

impl Distribution {
    /// Of `values`; what is no number above nothing is left out.
    pub fn new(values: impl IntoIterator<Item = f64>) -> Distribution {
        let mut sorted: Vec<f64> = values
            .into_iter()
            .filter(|value| value.is_finite() && *value > 0.0)
            .collect();
        sorted.sort_by(f64::total_cmp);
        Distribution { sorted }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// The least value that `percent` of all do not exceed; `None` if there are none.
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        let rank = (self.sorted.len() as f64 * percent / 100.0).ceil() as usize;
        self.sorted.get(rank.max(1) - 1).copied()
    }

    /// The greatest value; `None` if there are none.
    pub fn max(&self) -> Option<f64> {
        self.sorted.last().copied()
    }

    /// From the bar of the least value to that of the greatest, without a hole.
    pub fn bars(&self) -> Vec<Bar> {
        let place = |value: f64| (value.log10() * f64::from(BARS_PER_DECADE)).floor() as i32;
        let (Some(least), Some(most)) = (self.sorted.first(), self.sorted.last()) else {
            return Vec::new();
        };
        let edge = |place: i32| 10f64.powf(f64::from(place) / f64::from(BARS_PER_DECADE));
        let mut bars: Vec<Bar> = (place(*least)..=place(*most))
            .map(|place| Bar {
                from: edge(place),
                to: edge(place + 1),
                count: 0,
            })
            .collect();
        for value in &self.sorted {
            bars[(place(*value) - place(*least)) as usize].count += 1;
        }
        bars
    }

    /// The bars as lines of text, the longest `width` signs long.
    pub fn lines(&self, width: usize) -> Vec<String> {
        let bars = self.bars();
        let most = bars.iter().map(|bar| bar.count).max().unwrap_or(1);
        let line = |bar: &Bar| {
            let len = (bar.count * width).div_ceil(most);
            format!(
                "{:>8.1} … {:>8.1}  {:<width$} {}",
                bar.from,
                bar.to,
                "█".repeat(len),
                bar.count
            )
            .trim_end()
            .to_owned()
        };
        bars.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_there_were() {
        let values = Distribution::new((1..=100).rev().map(f64::from));
        let found = [0.0, 1.0, 50.0, 99.0, 99.1, 100.0].map(|percent| values.percentile(percent).unwrap());
        assert_eq!(found, [1.0, 1.0, 50.0, 99.0, 100.0, 100.0]);
        assert_eq!((values.max(), values.len()), (Some(100.0), 100));
        let nothing = Distribution::new([f64::NAN, 0.0, -1.0]);
        assert_eq!((nothing.percentile(50.0), nothing.max()), (None, None));
        assert!(nothing.is_empty() && nothing.bars().is_empty() && nothing.lines(10).is_empty());
    }

    #[test]
    fn each_value_is_in_the_one_bar_around_it() {
        let values = [3.0, 3.1, 9.9, 10.0, 10.1, 250.0, 999.9];
        let bars = Distribution::new(values).bars();
        assert_eq!(bars.iter().map(|bar| bar.count).sum::<usize>(), values.len());
        for bar in &bars {
            let inside = values.iter().filter(|value| (bar.from..bar.to).contains(*value));
            assert_eq!(inside.count(), bar.count, "{bar:?}");
        }
        for pair in bars.windows(2) {
            assert_eq!(pair[0].to, pair[1].from);
        }
    }

    #[test]
    fn the_longest_line_is_as_long_as_it_may_be_and_the_least_is_seen() {
        let lines = Distribution::new([1.0].into_iter().chain(std::iter::repeat_n(2.0, 1000))).lines(20);
        let marks: Vec<usize> = lines.iter().map(|line| line.matches('█').count()).collect();
        assert_eq!((marks[0], marks.last()), (1, Some(&20)));
    }
}

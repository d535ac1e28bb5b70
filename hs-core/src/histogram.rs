//! Durations counted in log-linear buckets: percentiles of a pause without keeping each.
//!
//! ```text
//! value     0 … 31 │ 32 … 63 │ 64 … 127 │ …       32 buckets each: exact below 64, then within 1/32
//! ```

const SUB_SHIFT: u32 = 5;
const SUB: usize = 1 << SUB_SHIFT;
/// Values of 2^32 and more (microseconds: over an hour) count as the largest below.
const BUCKETS: usize = SUB * (32 - SUB_SHIFT as usize + 1);

/// Counts values, most often microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: [u32; BUCKETS],
    total: u64,
    max: u64,
}

impl Histogram {
    pub(crate) const fn new() -> Self {
        Self {
            counts: [0; BUCKETS],
            total: 0,
            max: 0,
        }
    }

    pub(crate) fn record(&mut self, value: u64) {
        let count = &mut self.counts[bucket_of(value)];
        *count = count.saturating_add(1);
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// The longest, exactly.
    pub(crate) const fn max(&self) -> u64 {
        self.max
    }

    /// The least value that `percent` of all values do not exceed, as the upper end of its bucket; 0 without values.
    pub(crate) fn percentile(&self, percent: u64) -> u64 {
        let rank = (self.total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                return last_of(bucket).min(self.max);
            }
        }
        self.max
    }
}

fn bucket_of(value: u64) -> usize {
    let value = value.min(u64::from(u32::MAX));
    let shift = value.checked_ilog2().unwrap_or(0).saturating_sub(SUB_SHIFT);
    // From the second row on, the leading bit is in the row's number.
    shift as usize * SUB + (value >> shift) as usize
}

fn last_of(bucket: usize) -> u64 {
    let shift = (bucket / SUB).saturating_sub(1);
    let within = (bucket - shift * SUB) as u64;
    ((within + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn percentiles_are_those_of_the_sorted_values_within_a_bucket(
            mut values in prop::collection::vec(0_u64..1 << 34, 1..200),
            percent in 1_u64..=100,
        ) {
            let mut histogram = Histogram::new();
            values.iter().for_each(|value| histogram.record(*value));
            prop_assert_eq!(histogram.max(), *values.iter().max().unwrap());
            values.sort_unstable();
            let values: Vec<u64> = values.into_iter().map(|value| value.min(u64::from(u32::MAX))).collect();
            let exact = values[(values.len() * percent as usize).div_ceil(100) - 1];
            let found = histogram.percentile(percent);
            prop_assert!(exact <= found, "{} below {}", found, exact);
            prop_assert!(found <= exact + exact / 32, "{} far above {}", found, exact);
        }
    }

    #[test]
    fn nothing_recorded_is_zero() {
        assert_eq!(Histogram::new().percentile(99), 0);
    }
}

//! What can be read from a row: a number, its spread and its unit, or nothing.
//!
//! A row has a field for everything that any experiment measures; what one did not measure is absent or zero there. Here
//! that becomes `None`, and so does what is no number: tables show a dash for it, plots leave the point out.

use hs_core::figure::{Figure, Spread};

/// A column of a table, or the y axis of a plot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quantity {
    /// Median pause, with the spread of the runs' medians.
    Pause,
    /// 99th percentile of the pauses.
    PauseP99,
    /// Longest pause.
    PauseMax,
    /// What one checkpoint took from the writer in all, with the spread of the runs.
    Stall,
    /// By how much checkpoints lowered the writer's throughput, or output commit a service's.
    LostThroughput,
    /// Checkpoints, datagrams or requests in a second, with the spread of the runs.
    Rate,
    /// Contents carried in a second: `bytes` at `rate_per_s`, with the spread of the runs.
    Throughput,
    /// From the call for a checkpoint to the knowledge that the spare has it, or from a request to its reply, with the spread of
    /// the runs.
    Latency,
    /// 99th percentile of the latencies.
    LatencyP99,
    /// Faults of one checkpoint.
    Faults,
    /// Contents of one checkpoint.
    Contents,
    /// Headers of one checkpoint.
    Headers,
    /// Life of the child.
    Child,
    /// Busy share of the processor.
    Processor,
    /// A whole run of the thesis's tables, or a transaction, with the spread of the runs.
    Wall,
}

/// A measured number.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Value {
    /// The median.
    pub middle: f64,
    /// How far the runs lay apart, where that is known.
    pub spread: Option<Spread>,
}

impl Value {
    /// The least and the greatest run; the median twice where the spread is not known.
    pub fn ends(self) -> [f64; 2] {
        self.spread
            .map_or([self.middle; 2], |spread| [spread.min, spread.max])
    }
}

impl Quantity {
    /// Its name with its unit, as an axis and a heading have it.
    pub const fn label(self) -> &'static str {
        match self {
            Quantity::Pause => "pause, median (µs)",
            Quantity::PauseP99 => "pause, 99th percentile (µs)",
            Quantity::PauseMax => "pause, longest (µs)",
            Quantity::Stall => "stall of one checkpoint (µs)",
            Quantity::LostThroughput => "throughput lost (%)",
            Quantity::Rate => "rate (1/s)",
            Quantity::Throughput => "throughput (MB/s)",
            Quantity::Latency => "latency, median (µs)",
            Quantity::LatencyP99 => "latency, 99th percentile (µs)",
            Quantity::Faults => "faults of one checkpoint",
            Quantity::Contents => "contents of one checkpoint (KiB)",
            Quantity::Headers => "headers of one checkpoint (bytes)",
            Quantity::Child => "life of the child (µs)",
            Quantity::Processor => "busy share of the processor (%)",
            Quantity::Wall => "wall time (s)",
        }
    }

    /// This quantity of `figure`, if it was measured.
    pub fn of(self, figure: &Figure) -> Option<Value> {
        // A pause of exactly nothing is one that was not measured, and without a pause there is no stall.
        let paused = figure.pause_us.p50 != 0.0;
        let (middle, spread) = match self {
            Quantity::Pause => (
                paused.then_some(figure.pause_us.p50),
                Some(figure.pause_spread_us),
            ),
            Quantity::PauseP99 => (paused.then_some(figure.pause_us.p99), None),
            Quantity::PauseMax => (paused.then_some(figure.pause_us.max), None),
            Quantity::Stall => {
                let measured =
                    paused && (figure.stall_us != 0.0 || figure.stall_spread_us != Spread::default());
                (measured.then_some(figure.stall_us), Some(figure.stall_spread_us))
            }
            Quantity::LostThroughput => (figure.lost_throughput.map(|share| share * 100.0), None),
            Quantity::Rate => (figure.rate_per_s, figure.rate_spread_per_s),
            Quantity::Throughput => {
                let carried = |rate: f64| rate * figure.bytes as f64 / 1e6;
                let spread = figure.rate_spread_per_s.map(|spread| Spread {
                    min: carried(spread.min),
                    max: carried(spread.max),
                });
                (
                    figure.rate_per_s.filter(|_| figure.bytes > 0).map(carried),
                    spread,
                )
            }
            Quantity::Latency => (
                figure.latency_us.map(|latency| latency.p50),
                figure.latency_spread_us,
            ),
            Quantity::LatencyP99 => (figure.latency_us.map(|latency| latency.p99), None),
            Quantity::Faults => (figure.faults, None),
            Quantity::Contents => ((figure.bytes > 0).then_some(figure.bytes as f64 / 1024.0), None),
            Quantity::Headers => (figure.header_bytes.map(|bytes| bytes as f64), None),
            Quantity::Child => (figure.child_us, None),
            Quantity::Processor => (figure.cpu_share.map(|share| share * 100.0), None),
            Quantity::Wall => (figure.wall_s, figure.wall_spread_s),
        };
        let middle = middle.filter(|value| value.is_finite())?;
        let real = |spread: &Spread| {
            spread.min.is_finite()
                && spread.max.is_finite()
                && spread.min <= spread.max
                && *spread != Spread::default()
        };
        Some(Value {
            middle,
            spread: spread.filter(real),
        })
    }
}

/// `value` with three significant digits, in full where it is larger, without an exponent.
pub fn rounded(value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    let size = value.abs();
    let digits = match size {
        _ if size >= 99.95 || size == 0.0 => 0,
        _ if size >= 9.995 => 1,
        _ if size >= 0.9995 => 2,
        // Not beyond a millionth: nothing is measured so finely.
        _ => (2.0 - size.log10().floor()).min(6.0) as usize,
    };
    let text = format!("{value:.digits$}");
    // A whole number needs no ".00" behind it, a fraction no last noughts.
    if text.contains('.') && (size < 1.0 || size.fract() == 0.0) {
        text.trim_end_matches('0').trim_end_matches('.').into()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::tests::figure;

    #[test]
    fn what_was_not_measured_is_absent() {
        let blank = Figure::default();
        for quantity in [
            Quantity::Pause,
            Quantity::Stall,
            Quantity::LostThroughput,
            Quantity::Rate,
            Quantity::Throughput,
            Quantity::Faults,
            Quantity::Contents,
            Quantity::Headers,
            Quantity::Processor,
            Quantity::Wall,
        ] {
            assert_eq!(quantity.of(&blank), None, "{quantity:?}");
        }
        let mut odd = figure("e", "s", 1.0, f64::NAN, f64::INFINITY);
        odd.rate_per_s = Some(f64::NAN);
        for quantity in [
            Quantity::Pause,
            Quantity::Stall,
            Quantity::Rate,
            Quantity::Throughput,
        ] {
            assert_eq!(quantity.of(&odd), None, "{quantity:?}");
        }
    }

    #[test]
    fn a_stall_can_be_below_zero_by_noise_and_is_still_one() {
        let value = Quantity::Stall.of(&figure("e", "s", 1.0, 2.0, -1.0)).unwrap();
        assert_eq!(value.middle, -1.0);
        assert_eq!(
            value.spread, None,
            "the spread's ends are the wrong way round here"
        );
    }

    #[test]
    fn throughput_is_contents_times_rate() {
        let mut carried = figure("e", "s", 1.0, 0.0, 0.0);
        carried.rate_per_s = Some(10.0);
        assert_eq!(Quantity::Throughput.of(&carried).unwrap().middle, 10.485_76);
    }

    #[test]
    fn rates_and_wall_times_have_their_own_spreads() {
        let spread = |min, max| Spread { min, max };
        let mut measured = figure("e", "s", 1.0, 0.0, 0.0);
        (measured.rate_per_s, measured.wall_s) = (Some(10.0), Some(2.0));
        for quantity in [Quantity::Rate, Quantity::Throughput, Quantity::Wall] {
            assert_eq!(quantity.of(&measured).unwrap().spread, None, "{quantity:?}");
        }
        measured.rate_spread_per_s = Some(spread(9.0, 12.0));
        measured.wall_spread_s = Some(spread(1.5, 2.5));
        let of = |quantity: Quantity| quantity.of(&measured).unwrap().spread;
        assert_eq!(of(Quantity::Rate), Some(spread(9.0, 12.0)));
        assert_eq!(of(Quantity::Wall), Some(spread(1.5, 2.5)));
        assert_eq!(of(Quantity::Throughput), Some(spread(9.437_184, 12.582_912)));
    }

    #[test]
    fn shares_are_told_in_percent() {
        let mut measured = figure("e", "s", 1.0, 0.0, 0.0);
        (measured.lost_throughput, measured.cpu_share) = (Some(0.25), Some(0.5));
        assert_eq!(Quantity::LostThroughput.of(&measured).unwrap().middle, 25.0);
        assert_eq!(Quantity::Processor.of(&measured).unwrap().middle, 50.0);
    }

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.0421, "0.0421"),
            (0.5, "0.5"),
            (0.05, "0.05"),
            (0.000_000_1, "0"),
            (0.9999, "1"),
            (1.0, "1"),
            (100.0, "100"),
            (5.504, "5.50"),
            (20.0, "20"),
            (20.04, "20.0"),
            (99.97, "100"),
            (8217.4, "8217"),
            (-1.5, "-1.50"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(rounded(value), text);
        }
    }
}

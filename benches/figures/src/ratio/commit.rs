//! What output commit costs a service's clients: the ratios of `output-commit`, one of them against the round trip that the
//! experiment `latency` has measured in the same run.

use super::{ECHO, Goal, Outcome, Ratio, small};
use crate::quantity::{Quantity, rounded};
use crate::row::Rows;

/// Most that output commit may add to a request, as a multiple of the link's round trip.
const LATENCY_MAX: f64 = 1.5;
/// Least throughput of a service whose replies wait, as a share of that of one whose replies do not.
const THROUGHPUT_MIN: f64 = 0.8;

/// The experiment of output commit, its series, and the connections at which latency and throughput are judged.
pub(super) const EXPERIMENT: &str = "output-commit";
const COMMITTED: &str = "committed";
const UNCOMMITTED: &str = "uncommitted";
const DIFFERENCE: &str = "difference";
const ONE_CLIENT: f64 = 1.0;
const MANY_CLIENTS: f64 = 50.0;

/// A quantity of requests to a service, from so many connections.
fn of_requests(rows: &Rows, series: &str, connections: f64, quantity: Quantity) -> Result<f64, String> {
    rows.at(EXPERIMENT, series, connections)
        .and_then(|figure| Some(quantity.of(figure)?.middle))
        .ok_or_else(|| format!("no {series} at {connections} in {EXPERIMENT}"))
}

/// By how much output commit makes a request longer, over the link's round trip. The difference may well be nothing or less.
pub(super) fn latency(rows: &Rows) -> Ratio {
    let of = |series| of_requests(rows, series, ONE_CLIENT, Quantity::Latency);
    let outcome = of(DIFFERENCE).and_then(|difference_us| {
        let [committed_us, uncommitted_us] = [of(COMMITTED)?, of(UNCOMMITTED)?];
        let echo_us = small(rows, ECHO, 0.0, Quantity::Latency)?;
        Ok((difference_us, [committed_us, uncommitted_us, echo_us]))
    });
    Ratio {
        what: "what output commit adds to a request / a UDP echo on the cluster link".into(),
        goal: Goal::AtMost(LATENCY_MAX),
        unit: "",
        outcome: match outcome {
            Ok((difference_us, [committed_us, uncommitted_us, echo_us])) => Outcome::Measured {
                value: difference_us / echo_us,
                from: format!(
                    "({} − {}) / {} µs, the median of the differences",
                    rounded(committed_us),
                    rounded(uncommitted_us),
                    rounded(echo_us)
                ),
            },
            Err(what) => Outcome::Missing(what),
        },
    }
}

/// Throughput with output commit over that without: the median over the turns, in which both came one after the other.
pub(super) fn throughput(rows: &Rows) -> Ratio {
    let rate = |series| of_requests(rows, series, MANY_CLIENTS, Quantity::Rate);
    let lost = of_requests(rows, COMMITTED, MANY_CLIENTS, Quantity::LostThroughput);
    let outcome = lost.and_then(|lost_pct| Ok((lost_pct, rate(COMMITTED)?, rate(UNCOMMITTED)?)));
    Ratio {
        what: "requests in a second with output commit / without, 50 connections, 16 on their way in each"
            .into(),
        goal: Goal::AtLeast(THROUGHPUT_MIN),
        unit: "",
        outcome: match outcome {
            Ok((lost_pct, committed, uncommitted)) => Outcome::Measured {
                value: 1.0 - lost_pct / 100.0,
                from: format!(
                    "{} / {} a second, the median of the ratios",
                    rounded(committed),
                    rounded(uncommitted)
                ),
            },
            Err(what) => Outcome::Missing(what),
        },
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ratio::tests::small_of;
    use crate::row::tests::{figure, rows};
    use hs_core::figure::{Figure, Pause};

    /// A service with output commit and without: by how much a request lasts longer, and the share of throughput that is lost.
    pub(in crate::ratio) fn served(difference_us: f64, lost: f64) -> Vec<Figure> {
        let latency = |series, p50| Figure {
            latency_us: Some(Pause {
                p50,
                p99: p50,
                max: p50,
            }),
            ..figure(EXPERIMENT, series, ONE_CLIENT, 0.0, 0.0)
        };
        let rate = |series, rate_per_s, lost_throughput| Figure {
            rate_per_s: Some(rate_per_s),
            lost_throughput,
            ..figure(EXPERIMENT, series, MANY_CLIENTS, 0.0, 0.0)
        };
        vec![
            latency(COMMITTED, 600.0),
            latency(UNCOMMITTED, 500.0),
            latency(DIFFERENCE, difference_us),
            rate(COMMITTED, 9_000.0, Some(lost)),
            rate(UNCOMMITTED, 10_000.0, None),
        ]
    }

    #[test]
    fn output_commit_is_held_against_the_round_trip_and_against_going_without() {
        let with = |difference_us, lost| {
            let mut figures = served(difference_us, lost);
            figures.extend(small_of(3000.0, 150.0, 100.0));
            let rows = rows(figures);
            [latency(&rows).verdict(), throughput(&rows).verdict()]
        };
        assert_eq!(with(150.0, 0.2), ["reached", "reached"]);
        assert_eq!(with(151.0, 0.21), ["missed", "missed"]);
        // Noise may put it below nothing, which is less than allowed and no input that is missing.
        assert_eq!(with(-3.0, -0.01), ["reached", "reached"]);
        let alone = rows(served(150.0, 0.2));
        assert_eq!(latency(&alone).basis(), "no udp-echo at 0 in latency");
        let without = rows(served(150.0, 0.2).into_iter().skip(1).collect::<Vec<_>>());
        assert_eq!(latency(&without).basis(), "no committed at 1 in output-commit");
    }
}

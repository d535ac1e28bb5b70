//! SQLite's bulk insert: a pair of the application `sqlite`, timed from the host as the test `pair-sqlite-bulk` does.
//!
//! The guest cannot tell its own time here: what counts is when a client has its answer.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use bench_plan::statistics::{median, spread};
use figures::row::{Accel, Row};
use hs_core::figure::Figure;

use crate::pair::{Ingredients, Pair};
use crate::sqlite::{self, BULK_ROWS};

/// As in the list of experiments.
const EXPERIMENT: &str = "sqlite-bulk";
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How often the transaction is timed with a spare, and as often without.
const RUNS: usize = 5;
const RUNS_QUICK: usize = 3;

/// Starts a pair, times transactions on its `service`, and returns the rows.
///
/// # Errors
/// The pair does not start, or the service fails.
pub(super) fn measure(
    ingredients: &Ingredients<'_>,
    service: SocketAddr,
    quick: bool,
    accel: Accel,
) -> Result<Vec<Row>> {
    let runs = if quick { RUNS_QUICK } else { RUNS };
    let mut pair = Pair::start(ingredients)?;
    let outcome = pair
        .wait_until_ready(READY_LIMIT)
        .and_then(|()| sqlite::bulk(&mut pair, service, runs, |_, _| {}))
        .map_err(|error| pair.failure(&format!("{error:#}")));
    pair.end();
    let times = outcome?;
    let series = [("with-spare", times.with_spare_s), ("alone", times.alone_s)];
    Ok(series
        .map(|(series, times_s)| row(series, &times_s, accel))
        .into())
}

fn row(series: &str, times_s: &[f64], accel: Accel) -> Row {
    Row {
        figure: Figure {
            experiment: EXPERIMENT.into(),
            series: series.into(),
            x: BULK_ROWS as f64,
            x_unit: "rows".into(),
            runs: times_s.len() as u32,
            wall_s: Some(median(times_s)),
            wall_spread_s: Some(spread(times_s)),
            ..Figure::default()
        },
        accel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use figures::experiment::{App, Ground, find};

    #[test]
    fn the_experiment_is_known_and_its_row_is_the_median() {
        assert_eq!(find(EXPERIMENT).unwrap().grounds, [Ground::AppPair(App::Sqlite)]);
        let figure = row("alone", &[3.0, 1.0, 2.5], Accel::Tcg).figure;
        assert_eq!((figure.wall_s, figure.runs), (Some(2.5), 3));
        assert_eq!(figure.wall_spread_s.map(|spread| spread.max), Some(3.0));
    }
}

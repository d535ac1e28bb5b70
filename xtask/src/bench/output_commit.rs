//! What output commit costs the clients of a pair: `kv` with two ports, one whose replies wait until the spare has what they tell
//! and one whose replies do not.
//!
//! Both belong to one server and are asked by turns, each first in every other turn: what disturbs the host meets both, and a
//! drift favours neither. A difference and a ratio are taken within a turn, and their median over all turns is what counts.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use bench_plan::statistics::{median, pause, spread};
use figures::row::{Accel, Row};
use hs_core::figure::Figure;

use super::requests::{Client, Counter, Crowd};
use crate::pair::{Ingredients, Pair};

/// As in the list of experiments.
const EXPERIMENT: &str = "output-commit";
const READY_LIMIT: Duration = Duration::from_secs(60);

/// The port whose replies do not wait.
const ASYNC_PORT: u16 = 6380;
/// What `kv` is told beside its own words.
pub(super) const ASYNC_WORD: &str = "async-port=6380";

/// Requests of one block, one at a time.
const BLOCK: usize = 200;
/// Blocks of each port, and as many turns.
const BLOCKS: usize = 20;
const BLOCKS_QUICK: usize = 8;

/// The connections that ask all the time, the requests on their way in each, and how long each turn of a port lasts.
const CONNECTIONS: usize = 50;
const DEPTH: usize = 16;
const LOAD_TIME: Duration = Duration::from_secs(1);
/// Turns under load.
const LOADS: usize = 5;
const LOADS_QUICK: usize = 3;

/// What is measured of both ports, a value a turn.
#[derive(Clone, PartialEq, Debug, Default)]
struct Turns<T> {
    committed: Vec<T>,
    uncommitted: Vec<T>,
}

impl<T> Turns<T> {
    /// Measures `count` turns; `measure` is told whether it is the committed port's.
    fn take(count: usize, mut measure: impl FnMut(bool) -> Result<T>) -> Result<Self> {
        let mut turns = Self {
            committed: Vec::with_capacity(count),
            uncommitted: Vec::with_capacity(count),
        };
        for turn in 0..count {
            for half in 0..2 {
                let committed = (turn + half) % 2 == 0;
                let value = measure(committed)?;
                match committed {
                    true => turns.committed.push(value),
                    false => turns.uncommitted.push(value),
                }
            }
        }
        Ok(turns)
    }

    /// `of` both values of each turn, the committed one first.
    fn paired(&self, of: impl Fn(&T, &T) -> f64) -> Vec<f64> {
        let pairs = self.committed.iter().zip(&self.uncommitted);
        pairs
            .map(|(committed, uncommitted)| of(committed, uncommitted))
            .collect()
    }
}

/// Starts a pair, measures its `service` and the port beside it, and returns the rows.
///
/// # Errors
/// The pair does not start, or the service fails or answers wrong.
pub(super) fn measure(
    ingredients: &Ingredients<'_>,
    service: SocketAddr,
    quick: bool,
    accel: Accel,
) -> Result<Vec<Row>> {
    let mut pair = Pair::start(ingredients)?;
    let outcome = pair
        .wait_until_ready(READY_LIMIT)
        .and_then(|()| figures(service, quick))
        .map_err(|error| pair.failure(&format!("{error:#}")));
    pair.end();
    Ok(outcome?.into_iter().map(|figure| Row { figure, accel }).collect())
}

fn figures(service: SocketAddr, quick: bool) -> Result<Vec<Figure>> {
    let beside = SocketAddr::from((service.ip(), ASYNC_PORT));
    let (blocks, loads) = match quick {
        true => (BLOCKS_QUICK, LOADS_QUICK),
        false => (BLOCKS, LOADS),
    };
    let mut figures = latencies(service, beside, blocks)?;
    figures.extend(throughputs(service, beside, loads)?);
    Ok(figures)
}

/// One connection to each port, of which only one asks, one request at a time.
fn latencies(service: SocketAddr, beside: SocketAddr, blocks: usize) -> Result<Vec<Figure>> {
    let (mut committed, mut uncommitted) = (Client::connect(service)?, Client::connect(beside)?);
    let mut counter = Counter::new("one");
    let mut kept_us = Vec::with_capacity(blocks + 1);
    let mut block = |waits: bool| -> Result<Vec<f64>> {
        let client = if waits { &mut committed } else { &mut uncommitted };
        let times = (0..BLOCK).map(|_| Ok(client.count(&mut counter)?.as_secs_f64() * 1e6));
        let times = times.collect::<Result<_>>()?;
        if waits {
            kept_us.push(uncommitted.figure("checkpoint_lag_us")? as f64);
        }
        Ok(times)
    };
    // The first of each is not counted: connections and caches are new to it.
    Turns::take(1, &mut block)?;
    let turns = Turns::take(blocks, block)?;
    Ok(figures_of_latency(&turns, &kept_us[1..]))
}

fn figures_of_latency(turns: &Turns<Vec<f64>>, kept_us: &[f64]) -> Vec<Figure> {
    let row = |series: &str, all_us: &[f64], runs_us: &[f64]| Figure {
        latency_us: Some(pause(all_us)),
        latency_spread_us: Some(spread(runs_us)),
        ..figure(series, 1, runs_us.len())
    };
    let port = |series, blocks: &[Vec<f64>]| {
        let medians: Vec<f64> = blocks.iter().map(|block| median(block)).collect();
        row(series, &blocks.concat(), &medians)
    };
    let differences = turns.paired(|committed, uncommitted| median(committed) - median(uncommitted));
    vec![
        port("committed", &turns.committed),
        port("uncommitted", &turns.uncommitted),
        row("difference", &differences, &differences),
        row("until-kept", kept_us, kept_us),
    ]
}

/// Many connections to each port, of which one port's ask all the time.
fn throughputs(service: SocketAddr, beside: SocketAddr, loads: usize) -> Result<Vec<Figure>> {
    let mut committed = Crowd::connect(service, CONNECTIONS, DEPTH)?;
    let mut uncommitted = Crowd::connect(beside, CONNECTIONS, DEPTH)?;
    let mut counters: Vec<Counter> = (0..CONNECTIONS)
        .map(|index| Counter::new(&format!("load:{index}")))
        .collect();
    let mut load = |waits: bool| {
        let crowd = if waits { &mut committed } else { &mut uncommitted };
        crowd.load(&mut counters, LOAD_TIME)
    };
    Turns::take(1, &mut load)?;
    Ok(figures_of_load(&Turns::take(loads, load)?))
}

fn figures_of_load(turns: &Turns<f64>) -> Vec<Figure> {
    let port = |series, rates: &[f64]| Figure {
        rate_per_s: Some(median(rates)),
        rate_spread_per_s: Some(spread(rates)),
        ..figure(series, CONNECTIONS, rates.len())
    };
    let shares = turns.paired(|committed, uncommitted| committed / uncommitted);
    vec![
        Figure {
            lost_throughput: Some(1.0 - median(&shares)),
            ..port("committed", &turns.committed)
        },
        port("uncommitted", &turns.uncommitted),
    ]
}

fn figure(series: &str, connections: usize, runs: usize) -> Figure {
    Figure {
        experiment: EXPERIMENT.into(),
        series: series.into(),
        x: connections as f64,
        x_unit: "connections".into(),
        runs: runs as u32,
        ..Figure::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use figures::experiment::{App, Ground, find};

    #[test]
    fn the_experiment_is_known_and_the_word_names_the_port() {
        assert_eq!(find(EXPERIMENT).unwrap().grounds, [Ground::AppPair(App::Kv)]);
        assert_eq!(ASYNC_WORD, format!("async-port={ASYNC_PORT}"));
    }

    #[test]
    fn each_port_is_first_in_every_other_turn() {
        let mut order = Vec::new();
        let turns = Turns::take(3, |committed| {
            order.push(committed);
            Ok(order.len())
        });
        assert_eq!(order, [true, false, false, true, true, false]);
        let turns = turns.unwrap();
        assert_eq!(
            (turns.committed, turns.uncommitted),
            (vec![1, 4, 5], vec![2, 3, 6])
        );
    }

    #[test]
    fn the_difference_and_the_share_are_those_of_the_turns() {
        // The host slows down from turn to turn: between the medians over all turns there would be 5 and not 3.
        let turns = Turns {
            committed: vec![vec![10.0, 13.0, 99.0], vec![33.0], vec![55.0]],
            uncommitted: vec![vec![10.0], vec![28.0], vec![52.0]],
        };
        let figures = figures_of_latency(&turns, &[4.0, 6.0, 5.0]);
        let median_of = |at: usize| figures[at].latency_us.unwrap().p50;
        assert_eq!([0, 1, 2, 3].map(median_of), [33.0, 28.0, 3.0, 5.0]);
        assert_eq!(figures[0].latency_us.unwrap().max, 99.0);
        assert_eq!(figures[0].latency_spread_us.unwrap().min, 13.0);
        assert!(figures.iter().all(|figure| figure.runs == 3 && figure.x == 1.0));

        let loads = Turns {
            committed: vec![900.0, 400.0, 100.0],
            uncommitted: vec![1000.0, 500.0, 100.0],
        };
        let figures = figures_of_load(&loads);
        assert_eq!(figures[0].rate_per_s, Some(400.0));
        assert!((figures[0].lost_throughput.unwrap() - 0.1).abs() < 1e-9);
        assert_eq!((figures[1].lost_throughput, figures[1].x), (None, 50.0));
    }
}

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
    figures.extend(
        [("whole", 1_700_000), ("difference", 11_000)].map(|(series, bytes)| Figure {
            bytes,
            ..figure("scattered", series, 409.0, 5.0, 5.0)
        }),
    );
    for (experiment, _) in REGISTERED {
        figures.push(figure(experiment, "both", 0.0, 18.0, 60.0));
        figures.push(figure(experiment, "both", 100.0, 20.5, 60.0));
    }
    figures.extend([("with-spare", 1.2), ("alone", 1.0)].map(transaction_of));
    figures.extend(small_of(3000.0, 150.0, 100.0));
    figures.extend(commit::tests::served(150.0, 0.2));
    for mib in REPLICATION_MIB {
        figures.extend(
            [("lazy", 80.0), ("raw-link", 100.0)].map(|(series, rate)| Figure {
                bytes: 1_000_000,
                rate_per_s: Some(rate),
                ..figure(REPLICATION, series, mib, 0.0, 0.0)
            }),
        );
    }
    for mib in [4.0, 16.0, 64.0, 256.0, 1024.0] {
        for experiment in ["size-1pct", "size-10pct"] {
            figures.push(figure(experiment, "lazy", mib, 5.0, 20.0));
            figures.push(figure(experiment, "tlb-flush", mib, 4.0, 4.0));
            figures.extend(PEERS.map(|series| match series {
                "linux-pagemap-scan" => figure(experiment, series, mib, 90.0, 100.0),
                _ => figure(experiment, series, mib, 2000.0, 400.0),
            }));
        }
    }
    rows(figures)
}

/// Small checkpoints, and the round trip beside them.
pub(super) fn small_of(rate_per_s: f64, taken_us: f64, echo_us: f64) -> [Figure; 2] {
    let of = |series, pages, p50| Figure {
        latency_us: Some(hs_core::figure::Pause {
            p50,
            p99: p50,
            max: p50,
        }),
        ..figure(LATENCY, series, pages, 0.0, 0.0)
    };
    [
        Figure {
            rate_per_s: Some(rate_per_s),
            ..of(ACKNOWLEDGED, 1.0, taken_us)
        },
        of(ECHO, 0.0, echo_us),
    ]
}

#[test]
fn a_small_checkpoint_is_held_against_the_round_trip() {
    let with = |rate, taken_us, echo_us| {
        let rows = rows(small_of(rate, taken_us, echo_us));
        [acknowledged(&rows).verdict(), latency(&rows).verdict()]
    };
    assert_eq!(with(3000.0, 150.0, 100.0), ["reached", "reached"]);
    assert_eq!(with(2999.0, 151.0, 100.0), ["missed", "missed"]);
    assert_eq!(with(3000.0, 150.0, 0.0), ["reached", "missing"]);
}

fn transaction_of((series, wall_s): (&str, f64)) -> Figure {
    Figure {
        wall_s: Some(wall_s),
        ..figure("sqlite-bulk", series, 10_000.0, 0.0, 0.0)
    }
}

#[test]
fn a_good_run_reaches_every_goal() {
    let all = ratios(&whole(), |_| true);
    assert_eq!(all.len(), 5 + 1 + 6 + 2 + 1 + 2 + 1 + 2 + 2 + 2);
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
fn differences_are_held_against_whole_pages() {
    let with = |bytes: u64, x: f64| {
        let of = |series, bytes, x| Figure {
            bytes,
            ..figure("scattered", series, x, 5.0, 5.0)
        };
        scattered_share(&rows([of("whole", 1_000_000, 409.0), of("difference", bytes, x)]))
    };
    assert_eq!(with(100_000, 409.0).verdict(), "reached");
    assert_eq!(with(100_001, 409.0).verdict(), "missed");
    assert_eq!(with(50_000, 400.0).verdict(), "missing");
    assert_eq!(
        scattered_share(&Rows::default()).basis(),
        "no difference in scattered"
    );
}

#[test]
fn what_is_registered_counts_by_what_it_adds() {
    let with = |pause: f64| {
        let all = rows([0.0, 100.0].map(|count| {
            let pause = if count > 0.0 { pause } else { 18.0 };
            figure("metadata", "both", count, pause, 60.0)
        }));
        registered(&all, "metadata", "x")
    };
    assert_eq!(with(23.0).verdict(), "reached");
    assert_eq!(with(23.1).verdict(), "missed");
    assert_eq!(with(23.0).value_words(), "5 µs");
    assert_eq!(
        registered(&Rows::default(), "metadata", "x").basis(),
        "no both at 100 in metadata"
    );
}

#[test]
fn a_transaction_is_held_against_the_same_without_checkpoints() {
    let with = |wall_s: f64| {
        let figures = [("with-spare", wall_s), ("alone", 2.0)].map(transaction_of);
        transaction(&rows(figures))
    };
    assert_eq!(with(2.6).verdict(), "reached");
    assert_eq!(with(2.61).verdict(), "missed");
    let alone = transaction(&rows([transaction_of(("alone", 2.0))]));
    assert_eq!(alone.basis(), "no with-spare in sqlite-bulk");
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

#[test]
fn a_goal_reached_against_fewer_peers_is_not_reached() {
    let without = |absent: &[&str], stall_us: f64| {
        let mut all = vec![figure("size-10pct", "lazy", 64.0, 5.0, stall_us)];
        let measured = PEERS.iter().filter(|series| !absent.contains(series));
        all.extend(measured.map(|series| figure("size-10pct", series, 64.0, 100.0, 100.0)));
        stall_share(&rows(all), "size-10pct", 10, 64.0)
    };
    let whole = without(&[], 40.0);
    assert_eq!(
        (whole.verdict(), whole.verdict_words().as_str()),
        ("reached", "reached")
    );
    let partial = without(&["linux-uffd-wp", "linux-fork-thp"], 40.0);
    assert_eq!(partial.verdict(), "missing");
    assert_eq!(
        partial.verdict_words(),
        "missing (without linux-fork-thp, linux-uffd-wp)"
    );
    assert_eq!(partial.value_words(), "0.4");
    let missed = without(&["linux-pipe"], 60.0);
    assert_eq!(missed.verdict_words(), "missed (without linux-pipe)");
    assert_eq!(without(&PEERS, 40.0).verdict_words(), "missing");
}

#[test]
fn a_peer_without_a_stall_counts_as_absent() {
    let mut all = vec![figure("size-1pct", "lazy", 4.0, 5.0, 20.0)];
    all.extend(PEERS.map(|series| match series {
        "linux-segv" => figure("size-1pct", series, 4.0, 100.0, f64::NAN),
        _ => figure("size-1pct", series, 4.0, 100.0, 100.0),
    }));
    let all = rows(all);
    assert_eq!(best_peer(&all, "size-1pct", 4.0).unwrap().without, ["linux-segv"]);
}

proptest! {
    #[test]
    fn the_best_peer_is_the_least_and_a_linux_one(
        stalls in prop::collection::vec((0..6usize, 0.01..1e6f64), 1..12), ours in 0.001..1e6f64,
    ) {
        let names = ["linux-fork", "linux-segv", "linux-pipe", "linux-d", "eager", "tlb-flush"];
        let mut all = vec![figure("size-10pct", "lazy", 64.0, 1.0, ours)];
        all.extend(stalls.iter().map(|(name, stall)| figure("size-10pct", names[*name], 64.0, 1.0, *stall)));
        // Others that must not count: of another size, of another experiment.
        all.push(figure("size-10pct", "linux-fork", 4.0, 1.0, 1e-6));
        all.push(figure("size-1pct", "linux-fork", 64.0, 1.0, 1e-6));
        let all = rows(all);
        let linux: Vec<f64> = all.of("size-10pct", false).iter()
            .filter(|f| f.series.starts_with("linux-") && f.x == 64.0).map(|f| f.stall_us).collect();
        match best_peer(&all, "size-10pct", 64.0) {
            Ok(Best { series, stall_us, .. }) => {
                prop_assert!(series.starts_with("linux-"));
                prop_assert!(linux.iter().all(|other| stall_us <= *other) && linux.contains(&stall_us));
                // Most peers are absent here.
                let ratio = stall_share(&all, "size-10pct", 10, 64.0);
                prop_assert_eq!(ratio.verdict(), if ours / stall_us <= 0.5 { "missing" } else { "missed" });
            }
            Err(_) => prop_assert!(linux.is_empty()),
        }
    }
}

use alloc::string::ToString;

use hs_core::checkpoint::Compression;
use hs_core::policy::Choice;

use super::*;

fn parse(line: &'static str) -> Result<Orders, WordError> {
    Orders::parse(line.split_ascii_whitespace())
}

fn refusal(line: &'static str) -> String {
    parse(line).expect_err(line).to_string()
}

#[test]
fn without_words_everything_runs_that_can() {
    let Ok(Orders::Experiments { chosen, quick, pair }) = parse("") else {
        panic!("experiments")
    };
    assert!(!quick && !pair);
    assert!(chosen.contains(&Experiment::Table31) && !chosen.contains(&Experiment::Fig63));
    let Ok(Orders::Experiments { chosen, quick, pair }) = parse("quick pair") else {
        panic!("experiments")
    };
    assert!(quick && pair);
    assert_eq!(
        chosen,
        [
            Experiment::Latency,
            Experiment::Fig63,
            Experiment::Fig64,
            Experiment::Replication,
            Experiment::MetadataNode
        ]
    );
}

#[test]
fn experiments_are_chosen_by_name() {
    assert_eq!(
        parse("only=size-10pct,table3-1 quick only=policy"),
        Ok(Orders::Experiments {
            chosen: [Experiment::Policy, Experiment::Table31, Experiment::Size10].into(),
            quick: true,
            pair: false,
        })
    );
    assert!(refusal("only=fig6-9").contains("fig6-9"));
    assert!(refusal("only=fig6-3").contains("fig6-3 takes a pair"));
    assert!(refusal("pair only=fig6-1").contains("fig6-1 runs in a guest alone"));
}

#[test]
fn each_way_of_freezing_has_its_word() {
    for freeze in Freeze::ALL {
        let line = std::format!("run mode={}", freeze.name());
        let Ok(Orders::Run { knobs, .. }) = Orders::parse(line.split_ascii_whitespace()) else {
            panic!("{line}")
        };
        assert_eq!(knobs.freeze, Some(freeze));
    }
}

#[test]
fn a_run_has_all_the_knobs() {
    assert_eq!(
        parse("run"),
        Ok(Orders::Run {
            knobs: Knobs::default(),
            pair: false
        })
    );
    let line = "run mem-kib=9216 regions=3 descriptors=64 threads=5 signals=2 dirty-pct=95 contiguity=25 interval-ms=10 \
                checkpoints=7 sink=pipe mode=eager way=copy shadow-mib=4 compress=lz4";
    assert_eq!(
        parse(line),
        Ok(Orders::Run {
            knobs: Knobs {
                memory_kib: 9216,
                regions: 3,
                descriptors: 64,
                threads: 5,
                signals: 2,
                dirty_percent: 95,
                contiguity: 25,
                interval_ms: 10,
                checkpoints: 7,
                sink: Sink::Pipe,
                freeze: Some(Freeze::Eager),
                way: Choice::Copy,
                shadow_mib: 4,
                compression: Compression::Lz4,
            },
            pair: false
        })
    );
    assert!(parse("pair run sink=link").is_ok_and(|orders| orders.pair()));
}

#[test]
fn what_is_not_right_is_refused_by_name() {
    for (line, part) in [
        ("fast", "\"fast\" is no word"),
        ("run speed=3", "\"speed=3\" is no word"),
        ("quick quick", "quick is given twice"),
        ("run threads=1 threads=1", "threads is given twice"),
        ("threads=1", "threads= is a knob of run"),
        ("run quick", "quick is for the experiments"),
        ("run only=fig6-1", "only is for the experiments"),
        ("run mem-kib=6", "mem-kib=6: mem-kib takes"),
        ("run mem-kib=+8", "mem-kib=+8: mem-kib takes"),
        ("run mem-kib=", "mem-kib=: mem-kib takes"),
        ("run dirty-pct=101", "dirty-pct=101"),
        ("run contiguity=0", "contiguity=0"),
        ("run regions=3 mem-kib=8", "regions=3: more than the 2 pages"),
        ("run sink=disk", "sink=disk: sink takes null, pipe or link"),
        ("run mode=slow", "mode=slow"),
        ("run shadow-mib=257", "shadow-mib=257: shadow-mib takes MiB"),
        ("run compress=zip", "compress=zip: compress takes none or lz4"),
        (
            "pair run sink=link compress=lz4",
            "compress=: a pair's node is told this by hs.compress=",
        ),
        ("run way=none", "way=none"),
        ("run sink=link", "sink=link takes a pair"),
        ("pair run sink=null", "sink=null: a pair's checkpoints"),
        (
            "pair run sink=link mode=lazy",
            "mode=: a pair's node is told this by hs.cptfork=",
        ),
        (
            "pair run sink=link way=copy",
            "way=: a pair's node is told this by hs.checkpoint=",
        ),
        (
            "run descriptors=129",
            "descriptors=129: descriptors takes a number from 0 to 128",
        ),
        ("run signals=6", "signals=6: signals takes a number from 0 to 5"),
        (
            "run threads=128",
            "threads=128: threads takes a number from 0 to 127",
        ),
        (
            "run regions=61",
            "regions=61: regions takes a number from 1 to 60",
        ),
        ("run regions=0", "regions=0: regions takes a number from 1 to 60"),
        ("run signals=1 signals=1", "signals is given twice"),
        ("run interval-ms=60001", "interval-ms=60001"),
        (
            "run interval-ms=99999999999999999999",
            "interval-ms takes milliseconds",
        ),
        ("run checkpoints=0", "checkpoints=0"),
        ("run run", "run is given twice"),
        ("run threads", "\"threads\" is no word"),
        ("run =3", "\"=3\" is no word"),
    ] {
        let said = refusal(line);
        assert!(said.contains(part), "{line}: {said}");
    }
}

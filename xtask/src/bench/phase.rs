//! The phases of a run: who measures, in which order, which experiments, and how long that may take at most.
//!
//! One after the other, never two at once: on a small host one would take the processor from the other. A limit is for a guest
//! that hangs; one that works stays well below it.

use std::time::Duration;

use figures::experiment::{App, EXPERIMENTS, Ground};

use super::output_commit;

/// Who measures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Who {
    /// The peers on the host itself.
    Native,
    /// Our guest.
    Guest,
    /// The peers in a Linux guest.
    Linux,
    /// Two of our guests on a limited cluster link.
    LimitedPair,
    /// Two of our guests.
    Pair,
    /// A client of two guests of an application.
    AppPair(App),
}

impl Who {
    /// Whether it measures us, and not what we are compared with.
    pub(super) const fn is_ours(self) -> bool {
        matches!(self, Who::Guest | Who::LimitedPair | Who::Pair | Who::AppPair(_))
    }
}

/// One phase.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Phase {
    pub(super) who: Who,
    pub(super) name: &'static str,
    pub(super) shows: &'static str,
    /// What the measuring program is told.
    pub(super) words: Vec<String>,
    /// Further options of the kernel, in a pair.
    pub(super) options: Vec<String>,
    pub(super) limit: Duration,
}

/// Who, name, what it shows, what of the experiments it runs, and the limits in seconds: quick, full. On an idle host of two
/// processors, all phases together took 3 and 18 minutes.
type Known = (Who, &'static str, &'static str, Ground, u64, u64);
const KNOWN: [Known; 7] = [
    (
        Who::Native,
        "native",
        "the peers on this host, for reference",
        Ground::Linux,
        60,
        500,
    ),
    (Who::Guest, "guest", "our guest alone", Ground::Guest, 180, 1200),
    (
        Who::Linux,
        "linux",
        "the peers in a Linux guest",
        Ground::Linux,
        150,
        1200,
    ),
    (
        Who::LimitedPair,
        "limited-pair",
        "a pair on a link of 100 Mbit/s",
        Ground::LimitedPair,
        150,
        480,
    ),
    (
        Who::Pair,
        "pair",
        "a pair on a link without limit",
        Ground::Pair,
        90,
        240,
    ),
    (
        Who::AppPair(App::Kv),
        "kv",
        "requests to kv, with output commit and without",
        Ground::AppPair(App::Kv),
        60,
        90,
    ),
    (
        Who::AppPair(App::Sqlite),
        "sqlite",
        "a transaction of SQLite, with a spare and without",
        Ground::AppPair(App::Sqlite),
        90,
        150,
    ),
];

/// The phases that a run consists of: of the experiments in `only` (all if it is empty), without the Linux guest if there is none.
pub(super) fn chosen(only: &[String], quick: bool, linux: bool) -> Vec<Phase> {
    let mut phases = Vec::new();
    for (who, name, shows, ground, quick_s, full_s) in KNOWN {
        let names: Vec<&str> = EXPERIMENTS
            .iter()
            .filter(|experiment| experiment.grounds.contains(&ground) && is_asked(only, experiment.name))
            .map(|experiment| experiment.name)
            .collect();
        if names.is_empty() || (who == Who::Linux && !linux) {
            continue;
        }
        phases.push(Phase {
            who,
            name,
            shows,
            words: words(who, &names, only.is_empty(), quick),
            // What is carried is compared with what was modified: whole pages.
            options: match who {
                Who::LimitedPair | Who::Pair => vec![shadow_option("0")],
                Who::Native | Who::Guest | Who::Linux | Who::AppPair(_) => Vec::new(),
            },
            limit: Duration::from_secs(if quick { quick_s } else { full_s }),
        });
    }
    phases
}

/// A person chose how long the test program takes, and can end it. A guest that hangs is not left for ever.
const PROGRAM_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// The one phase of `--run` with these `knobs`: a guest alone, or a pair where the checkpoints go to the link.
pub(super) fn program(knobs: &str) -> Phase {
    let pair = knobs.split_whitespace().any(|word| word == "sink=link");
    let (mut words, mut options) = (Vec::new(), Vec::new());
    // As in a guest alone: all pages are sent whole, unless it is asked for.
    let mut shadow_mib = "0";
    if pair {
        words.push("pair".to_owned());
    }
    words.push("run".into());
    for word in knobs.split_whitespace() {
        match word.split_once('=') {
            // A pair's node is told these by its kernel's options.
            Some(("mode", mode)) if pair => options.push(format!("hs.cptfork={mode}")),
            Some(("way", way)) if pair => options.push(format!("hs.checkpoint={way}")),
            Some(("shadow-mib", mib)) if pair => shadow_mib = mib,
            Some(("compress", how)) if pair => options.push(format!("hs.compress={how}")),
            _ => words.push(word.into()),
        }
    }
    if pair {
        options.push(shadow_option(shadow_mib));
    }
    Phase {
        who: if pair { Who::Pair } else { Who::Guest },
        name: "run",
        shows: "the thesis's test program",
        words,
        options,
        limit: PROGRAM_LIMIT,
    }
}

fn shadow_option(mib: &str) -> String {
    format!("hs.shadow-mib={mib}")
}

/// Whether the experiment `name` is part of a run with this `--only`.
pub(super) fn is_asked(only: &[String], name: &str) -> bool {
    only.is_empty() || only.iter().any(|other| other == name)
}

/// What the program of `who` is told to run the experiments `names`, which are `all` it has, or some.
fn words(who: Who, names: &[&str], all: bool, quick: bool) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    match who {
        // Beside the application's own words.
        Who::AppPair(App::Kv) => return vec![output_commit::ASYNC_WORD.into()],
        Who::AppPair(App::Sqlite) => return words,
        Who::LimitedPair | Who::Pair => words.extend(["pair".into(), format!("only={}", names.join(","))]),
        Who::Native | Who::Guest | Who::Linux if all => {}
        Who::Native | Who::Guest | Who::Linux => {
            words.extend(names.iter().map(|name| format!("only={name}")))
        }
    }
    if quick {
        words.push("quick".into());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(only: &[&str], linux: bool) -> Vec<&'static str> {
        let only: Vec<String> = only.iter().map(|name| (*name).into()).collect();
        chosen(&only, true, linux)
            .iter()
            .map(|phase| phase.name)
            .collect()
    }

    #[test]
    fn a_phase_runs_only_if_it_has_something_to_measure() {
        assert_eq!(
            names(&[], true),
            ["native", "guest", "linux", "limited-pair", "pair", "kv", "sqlite"]
        );
        assert_eq!(
            names(&[], false),
            ["native", "guest", "limited-pair", "pair", "kv", "sqlite"]
        );
        assert_eq!(names(&["sqlite-bulk"], true), ["sqlite"]);
        assert_eq!(names(&["latency", "output-commit"], true), ["pair", "kv"]);
        assert_eq!(names(&["policy"], true), ["guest"]);
        assert_eq!(names(&["fig6-4"], true), ["limited-pair"]);
        assert_eq!(
            names(&["replication", "size-1pct"], true),
            ["native", "guest", "linux", "pair"]
        );
    }

    #[test]
    fn programs_are_told_what_was_asked_for() {
        let words = |only: &[&str], quick| -> Vec<String> {
            let only: Vec<String> = only.iter().map(|name| (*name).into()).collect();
            chosen(&only, quick, true)
                .iter()
                .map(|phase| phase.words.join(" "))
                .collect()
        };
        assert_eq!(
            words(&[], false),
            [
                "",
                "",
                "",
                "pair only=fig6-3,fig6-4",
                "pair only=metadata-node,replication,latency",
                "async-port=6380",
                ""
            ]
        );
        assert_eq!(
            words(&["fig6-1", "policy"], true)[1],
            "only=fig6-1 only=policy quick"
        );
        assert_eq!(words(&["fig6-1", "policy"], true)[2], "only=fig6-1 quick");
    }

    #[test]
    fn the_test_program_is_told_its_knobs() {
        let alone = program(" mem-kib=4096  sink=pipe mode=eager ");
        assert_eq!(
            (alone.who, alone.words.join(" ").as_str()),
            (Who::Guest, "run mem-kib=4096 sink=pipe mode=eager")
        );
        assert!(alone.options.is_empty());
        let pair = program("sink=link regions=2 mode=eager way=copy compress=lz4");
        assert_eq!(
            (pair.who, pair.words.join(" ").as_str()),
            (Who::Pair, "pair run sink=link regions=2")
        );
        assert_eq!(
            pair.options,
            [
                "hs.cptfork=eager",
                "hs.checkpoint=copy",
                "hs.compress=lz4",
                "hs.shadow-mib=0"
            ]
        );
        assert_eq!(program("sink=link shadow-mib=8").options, ["hs.shadow-mib=8"]);
        assert_eq!(program("").words, ["run"]);
    }

    #[test]
    fn only_our_own_phases_make_a_run_fail() {
        let phases = chosen(&[], true, true);
        let ours: Vec<&str> = phases
            .iter()
            .filter(|phase| phase.who.is_ours())
            .map(|phase| phase.name)
            .collect();
        assert_eq!(ours, ["guest", "limited-pair", "pair", "kv", "sqlite"]);
    }

    #[test]
    fn even_a_run_that_always_hangs_ends() {
        let total = |quick| {
            chosen(&[], quick, true)
                .iter()
                .map(|phase| phase.limit)
                .sum::<Duration>()
        };
        assert!(total(true) <= Duration::from_secs(13 * 60));
        assert!(total(false) <= Duration::from_secs(65 * 60));
    }
}

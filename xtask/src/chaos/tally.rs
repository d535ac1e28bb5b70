//! All rounds together: counts, pauses, the report.

use std::fmt::Write;

use figures::distribution::Distribution;
use serde::Serialize;

use super::Orders;
use super::round::Outcome;
use crate::load::Findings;
use crate::report::Takeover;

/// Signs of the longest bar.
const BAR_WIDTH: usize = 50;

/// The report, as JSON: times in milliseconds.
#[derive(Serialize, Clone, Debug, Default)]
pub(super) struct Tally {
    app: String,
    /// Further words for the application.
    words: Vec<String>,
    /// Whether there was an agent.
    agent: bool,
    accel: String,
    seed: u64,
    /// Deaths that came to their end, of masters and of spares.
    kills: u64,
    /// Rounds in which the pair did not do what it is for.
    failed: u64,
    broken: u64,
    lost: u64,
    duplicated: u64,
    reordered: u64,
    wrong: u64,
    hung: u64,
    /// Numbered replies that were checked.
    replies: u64,
    /// From a master's death to the next reply, on a connection with one request at a time.
    pause_ms: Option<Figures>,
    /// The same of the connection that waited longest in each round.
    worst_pause_ms: Option<Figures>,
    /// From a spare's death.
    spare_pause_ms: Option<Figures>,
    rounds: Vec<Round>,
}

#[derive(Serialize, Clone, Copy, PartialEq, Debug)]
struct Figures {
    count: usize,
    median: f64,
    p99: f64,
    max: f64,
}

impl Figures {
    fn of(values: &Distribution) -> Option<Figures> {
        Some(Figures {
            count: values.len(),
            median: values.percentile(50.0)?,
            p99: values.percentile(99.0)?,
            max: values.max()?,
        })
    }
}

#[derive(Serialize, Clone, Debug)]
struct Round {
    /// `--kills 1 --seed` with it repeats the round, with the other options as they were.
    seed: u64,
    death: String,
    of_master: bool,
    pause_ms: Option<f64>,
    worst_pause_ms: Option<f64>,
    takeover: Option<Takeover>,
    /// What was not as it should be.
    violations: Vec<String>,
}

impl Tally {
    pub(super) fn new(orders: &Orders, accel: &str) -> Tally {
        Tally {
            app: orders.app.clone(),
            words: orders.words.clone(),
            agent: orders.agent,
            accel: accel.into(),
            seed: orders.seed,
            ..Tally::default()
        }
    }

    /// Counts a round.
    pub(super) fn add(&mut self, seed: u64, outcome: &Outcome) {
        let Findings {
            broken,
            lost,
            duplicated,
            reordered,
            wrong,
            hung,
            replies,
            ..
        } = outcome.findings;
        self.kills += 1;
        self.broken += broken;
        self.lost += lost;
        self.duplicated += duplicated;
        self.reordered += reordered;
        self.wrong += wrong;
        self.hung += hung;
        self.replies += replies;
        self.rounds.push(Round {
            seed,
            death: outcome.death.clone(),
            of_master: outcome.of_master,
            pause_ms: outcome.pause_ms,
            worst_pause_ms: outcome.worst_pause_ms,
            takeover: outcome.takeover.clone(),
            violations: outcome.findings.violations.clone(),
        });
        self.pause_ms = Figures::of(&self.pauses());
        self.worst_pause_ms = Figures::of(&self.times(true, |round| round.worst_pause_ms));
        self.spare_pause_ms = Figures::of(&self.times(false, |round| round.pause_ms));
    }

    /// Counts a round that went wrong before its end.
    pub(super) fn add_failure(&mut self, seed: u64, death: String, why: &str) {
        self.failed += 1;
        self.rounds.push(Round {
            seed,
            death,
            of_master: false,
            pause_ms: None,
            worst_pause_ms: None,
            takeover: None,
            violations: vec![why.lines().next().unwrap_or_default().to_owned()],
        });
    }

    fn times(&self, of_master: bool, time: impl Fn(&Round) -> Option<f64>) -> Distribution {
        let rounds = self.rounds.iter().filter(|round| round.of_master == of_master);
        Distribution::new(rounds.filter_map(time))
    }

    /// The pauses that count: after the deaths of masters.
    pub(super) fn pauses(&self) -> Distribution {
        self.times(true, |round| round.pause_ms)
    }

    /// Whether every client had all that it was owed, in every round.
    pub(super) fn is_clean(&self) -> bool {
        self.failed + self.broken + self.lost + self.duplicated + self.reordered + self.wrong + self.hung == 0
    }

    /// In one line.
    pub(super) fn line(&self) -> String {
        let pause = self.pause_ms.map_or(String::new(), |pause| {
            format!("; pause median {:.1}, p99 {:.1} ms", pause.median, pause.p99)
        });
        format!(
            "{} kills, {} failed, {} broken, {} lost, {} duplicated, {} reordered, {} wrong, {} hung{pause}",
            self.kills,
            self.failed,
            self.broken,
            self.lost,
            self.duplicated,
            self.reordered,
            self.wrong,
            self.hung
        )
    }

    /// For a person, at the end.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let bars = self.pauses().lines(BAR_WIDTH);
        if !bars.is_empty() {
            let _ = writeln!(text, "pause after a master's death, ms, one request at a time");
        }
        for bar in bars {
            let _ = writeln!(text, "  {bar}");
        }
        for (name, figures) in [
            ("pause", self.pause_ms),
            ("pause of the slowest connection", self.worst_pause_ms),
            ("pause after a spare's death", self.spare_pause_ms),
        ] {
            if let Some(figures) = figures {
                let _ = writeln!(
                    text,
                    "{name}: median {:.1} ms, p99 {:.1} ms, max {:.1} ms, of {}",
                    figures.median, figures.p99, figures.max, figures.count
                );
            }
        }
        let _ = writeln!(
            text,
            "{} kills, {} numbered replies; {} rounds failed; {} connections broken, {} hung; replies: {} lost, {} \
             duplicated, {} reordered, {} wrong",
            self.kills,
            self.replies,
            self.failed,
            self.broken,
            self.hung,
            self.lost,
            self.duplicated,
            self.reordered,
            self.wrong
        );
        for round in self.rounds.iter().filter(|round| !round.violations.is_empty()) {
            let _ = writeln!(
                text,
                "seed {}, {}: {}",
                round.seed,
                round.death,
                round.violations.join("; ")
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accel::Choice;

    fn fresh() -> Tally {
        let orders = Orders {
            kills: 1,
            seed: 1,
            app: "kv".into(),
            words: Vec::new(),
            agent: true,
            image: "kv".into(),
            accel: Choice::Tcg,
        };
        Tally::new(&orders, "tcg")
    }

    fn outcome(pause_ms: f64, of_master: bool) -> Outcome {
        Outcome {
            death: "master killed after 5 ms".into(),
            of_master,
            pause_ms: Some(pause_ms),
            worst_pause_ms: Some(2.0 * pause_ms),
            findings: Findings {
                replies: 100,
                ..Findings::default()
            },
            ..Outcome::default()
        }
    }

    #[test]
    fn pauses_of_masters_and_spares_are_told_apart() {
        let mut tally = fresh();
        for pause in 1..=100 {
            tally.add(pause, &outcome(pause as f64, true));
        }
        tally.add(101, &outcome(5000.0, false));
        let text = tally.text();
        assert!(
            text.contains("pause: median 50.0 ms, p99 99.0 ms, max 100.0 ms, of 100\n"),
            "{text}"
        );
        assert!(text.contains("slowest connection: median 100.0 ms"), "{text}");
        assert!(text.contains("spare's death: median 5000.0 ms"), "{text}");
        assert!(
            text.contains("101 kills, 10100 numbered replies; 0 rounds failed"),
            "{text}"
        );
        assert!(tally.is_clean());
        let json = serde_json::to_value(&tally).unwrap();
        assert_eq!(json["pause_ms"]["p99"], 99.0);
        assert_eq!(json["rounds"].as_array().unwrap().len(), 101);
    }

    #[test]
    fn any_violation_is_told_with_the_seed_that_repeats_it() {
        for spoil in [
            |findings: &mut Findings| findings.broken = 1,
            |findings: &mut Findings| findings.lost = 1,
            |findings: &mut Findings| findings.duplicated = 1,
            |findings: &mut Findings| findings.reordered = 1,
            |findings: &mut Findings| findings.wrong = 1,
            |findings: &mut Findings| findings.hung = 1,
        ] {
            let mut tally = fresh();
            let mut spoilt = outcome(5.0, true);
            spoil(&mut spoilt.findings);
            spoilt.findings.violations.push("lost: 3 came after 1".into());
            tally.add(77, &spoilt);
            assert!(!tally.is_clean());
            assert!(
                tally
                    .text()
                    .contains("seed 77, master killed after 5 ms: lost: 3 came after 1")
            );
        }
        let mut tally = fresh();
        tally.add_failure(8, "master killed".into(), "the takeover did not come\nlogs");
        assert!(!tally.is_clean());
        assert!(
            tally
                .text()
                .contains("seed 8, master killed: the takeover did not come\n")
        );
    }
}

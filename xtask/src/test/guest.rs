//! The kernel's own tests, in a guest that is alone.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hs_core::event::Event;
use hs_core::platform::Exit;

use super::inside::Ground;
use crate::events::Line;
use crate::guest_build::{self, Variant};
use crate::qemu::{Guest, Recipe, Sign, exit_code, in_words};

/// How long all of them may take together.
const LIMIT: Duration = Duration::from_secs(200);

/// Boots `ktest`. It passes if every test passed *and* the guest says that these were all *and* it exits with success.
pub(super) fn ktest(ground: &Ground) -> Result<String> {
    let recipe = Recipe {
        name: "ktest".into(),
        image: guest_build::image("ktest", Variant::Usual),
        command_line: "hs.seed=1 hs.log=info".into(),
        memory_mib: ground.machine.memory_mib,
        accelerator: ground.accelerator,
        cards: Vec::new(),
        print_log: false,
    };
    let (sender, signs) = mpsc::channel();
    let guest = Guest::start(&ground.machine, &recipe, sender, |sign| sign)?;
    let begun = Instant::now();
    let mut verdict = Verdict::default();
    loop {
        let left = LIMIT.saturating_sub(begun.elapsed());
        match signs.recv_timeout(left) {
            Ok(Sign::Line(Line::Event(event), _)) => verdict.hear(&event),
            Ok(Sign::Line(Line::Garbled(line), _)) => bail!("the guest said what is no event: {line:?}"),
            Ok(Sign::Ended(status)) => {
                return verdict.judge(status.code()).map_err(|why| {
                    why.context(format!("the guest {}\n{}", in_words(status), guest.tail.text()))
                });
            }
            Err(_) => bail!(
                "the tests took longer than {} s\n{}",
                LIMIT.as_secs(),
                guest.tail.text()
            ),
        }
    }
}

/// What was heard of the tests so far.
#[derive(Default)]
struct Verdict {
    passed: usize,
    failed: Vec<String>,
    /// How many the guest says that it ran.
    announced: Option<String>,
}

impl Verdict {
    fn hear(&mut self, event: &Event) {
        match event {
            Event::Test { name, passed, detail } => {
                println!(
                    "{} {name}{}{detail}",
                    if *passed { "ok" } else { "FAILED" },
                    if detail.is_empty() { "" } else { ": " }
                );
                if *passed {
                    self.passed += 1;
                } else {
                    self.failed.push(format!("{name}: {detail}"));
                }
            }
            Event::Exit { why } => self.announced = Some(why.clone()),
            _ => {}
        }
    }

    fn judge(&self, code: Option<i32>) -> Result<String> {
        if !self.failed.is_empty() {
            bail!(
                "{} of its tests failed: {}",
                self.failed.len(),
                self.failed.join("; ")
            );
        }
        if self.passed == 0 {
            bail!("it ran no test");
        }
        if self.announced.is_none() {
            bail!("it never said that all tests had run");
        }
        if code != Some(exit_code(Exit::Success)) {
            bail!("its tests passed, but not its exit");
        }
        Ok(format!("{} guest tests", self.passed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(events: &[(&str, bool)], ended: bool, code: i32) -> Result<String> {
        let mut verdict = Verdict::default();
        for (name, passed) in events {
            verdict.hear(&Event::Test {
                name: (*name).into(),
                passed: *passed,
                detail: String::new(),
            });
        }
        if ended {
            verdict.hear(&Event::Exit {
                why: "all tests ran".into(),
            });
        }
        verdict.judge(Some(code))
    }

    #[test]
    fn a_guest_passes_only_by_all_signs_together() {
        assert_eq!(
            judged(&[("a", true), ("b", true)], true, 33).unwrap(),
            "2 guest tests"
        );
        assert!(
            judged(&[("a", true), ("b", false)], true, 33)
                .unwrap_err()
                .to_string()
                .contains('b')
        );
        assert!(judged(&[], true, 33).is_err());
        assert!(judged(&[("a", true)], false, 33).is_err());
        assert!(judged(&[("a", true)], true, 41).is_err());
    }
}

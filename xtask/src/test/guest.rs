//! Guests that are alone: the kernel's own tests, and the reports of guests that die.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitStatus;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hs_core::event::Event;
use hs_core::platform::Exit;

use super::inside::Ground;
use super::typist::{Deed, Typist};
use crate::disk;
use crate::events::Line;
use crate::guest_build::{self, Variant};
use crate::qemu::{Boot, Card, Guest, Plug, Recipe, Sign, clock_s, exit_code, in_words};

/// How long all tests of a guest may take together.
const TESTS_LIMIT: Duration = Duration::from_secs(200);
/// How long a guest may take that only boots and dies.
const BOOT_LIMIT: Duration = Duration::from_secs(20);

/// Two cards, each at one end of a cable. (QEMU's hub would do, but its firmware qboot halts with one.)
fn cards(ground: &Ground) -> Vec<Card> {
    // The loopback of this namespace has nobody else.
    let ends = [4001, 4002].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let slots = &ground.machine.slots;
    let card = |link, slot, last, plug| Card {
        link,
        slot,
        mac: format!("52:54:00:00:00:{last:02x}"),
        mtu: None,
        plug,
    };
    vec![
        card("service", slots.service, 1, Plug::Wire(ends[0], ends[1])),
        card("cluster", slots.cluster, 2, Plug::Wire(ends[1], ends[0])),
    ]
}

/// Boots `ktest` with this command line and a typist at its console, hands each event to `hear`, and returns how it ended and what it logged last.
fn boot(
    ground: &Ground,
    command_line: &str,
    disk: Option<File>,
    limit: Duration,
    mut hear: impl FnMut(Event),
) -> Result<(ExitStatus, String)> {
    let recipe = Recipe {
        name: "ktest".into(),
        image: guest_build::image("ktest", Variant::Usual),
        boot: Boot::Hotspare,
        cpu: None,
        command_line: command_line.into(),
        memory_mib: ground.machine.memory_mib,
        accelerator: ground.accelerator,
        cards: cards(ground),
        disk: disk.map(Arc::new),
        clock_s: clock_s(),
        console: true,
        print_log: false,
    };
    let (sender, signs) = mpsc::channel();
    let mut typist = Typist::default();
    let mut guest = Guest::start(&ground.machine, &recipe, sender, |sign| sign)?;
    let begun = Instant::now();
    loop {
        match signs.recv_timeout(limit.saturating_sub(begun.elapsed())) {
            Ok(Sign::Line(Line::Event(event), _)) => hear(event),
            Ok(Sign::Line(Line::Garbled(line), _)) => bail!("the guest said what is no event: {line:?}"),
            Ok(Sign::Console(shown)) => {
                for deed in typist.read(&shown)? {
                    match deed {
                        Deed::Type(bytes) => guest.type_in(&bytes)?,
                        Deed::PressPower => guest.press_power()?,
                    }
                }
            }
            Ok(Sign::Ended(status)) => return Ok((status, guest.tail.text())),
            Err(_) => bail!(
                "the guest took longer than {} s\n{}",
                limit.as_secs(),
                guest.tail.text()
            ),
        }
    }
}

/// It passes if every test passed *and* the guest says that these were all *and* it exits with success.
pub(super) fn ktest(ground: &Ground) -> Result<String> {
    let mut verdict = Verdict::default();
    let disk = disk::scratch(disk::MIB_DEFAULT)?;
    let (status, log) = boot(
        ground,
        "hs.seed=1 hs.log=info -- seed=1",
        Some(disk),
        TESTS_LIMIT,
        |event| verdict.hear(&event),
    )?;
    let passed = verdict
        .judge(status.code())
        .with_context(|| format!("the guest {}\n{log}", in_words(status)))?;
    without_disk(ground)?;
    Ok(passed)
}

/// A machine without a disk says so to whoever asks for a file.
fn without_disk(ground: &Ground) -> Result<()> {
    let mut said = String::new();
    let hear = |event| {
        if let Event::Test { detail, .. } = event {
            said = detail;
        }
    };
    let (status, log) = boot(ground, "hs.log=info -- only=files", None, BOOT_LIMIT, hear)?;
    ensure!(
        status.code() == Some(exit_code(Exit::TestFailed)) && said.contains("has no disk"),
        "a guest without a disk {}, and said of it: {said}\n{log}",
        in_words(status)
    );
    Ok(())
}

/// A guest that dies says of what, with the names of the functions that led there, and exits with its own status. One that is
/// ended by a signal says by which.
pub(super) fn reports(ground: &Ground) -> Result<String> {
    for (how, exit, of) in [
        ("panic", Exit::Panic, "a deliberate panic"),
        ("null", Exit::Exception, "null pointer"),
        ("stack", Exit::Exception, "stack"),
        ("variable", Exit::Exception, "before the library was started"),
        ("undefined", Exit::Exception, "invalid opcode"),
        ("double-free", Exit::Panic, "class 12"),
        ("foreign-free", Exit::Panic, "a foreign pointer, of no class"),
    ] {
        let mut last_words = String::new();
        let hear = |event| {
            if let Event::Exit { why } = event {
                last_words = why;
            }
        };
        let (status, log) = boot(
            ground,
            &format!("hs.log=info hs.check-blocks=on -- crash={how}"),
            None,
            BOOT_LIMIT,
            hear,
        )?;
        println!("crash={how}: {}\n{log}", in_words(status));
        ensure!(
            status.code() == Some(exit_code(exit)),
            "crash={how} ended with {status}"
        );
        ensure!(
            last_words.contains(of),
            "crash={how}: its last words do not speak of {of}: {last_words}"
        );
        ensure!(
            log.contains("ktest::"),
            "crash={how}: the backtrace does not name the culprit:\n{log}"
        );
    }
    for (what, signal) in [
        ("power", "SIGTERM"),
        ("interrupt", "SIGINT"),
        ("raise", "SIGUSR1"),
        ("alarm", "SIGALRM"),
    ] {
        let mut last_words = String::new();
        let hear = |event| {
            if let Event::Exit { why } = event {
                last_words = why;
            }
        };
        let (status, log) = boot(
            ground,
            &format!("hs.log=info -- ends-by={what}"),
            None,
            BOOT_LIMIT,
            hear,
        )?;
        println!("ends-by={what}: {}: {last_words}\n{log}", in_words(status));
        ensure!(
            status.code() == Some(exit_code(Exit::Success)) && last_words == signal,
            "ends-by={what} ended with {status}, and said {last_words:?}"
        );
    }
    let mut refused = String::new();
    let hear = |event| {
        if let Event::Refused { what, why } = event
            && what == "options"
        {
            refused = why;
        }
    };
    let (status, _) = boot(ground, "hs.log=info hs.colour=red", None, BOOT_LIMIT, hear)?;
    ensure!(
        status.code() == Some(exit_code(Exit::BadOptions)),
        "an unknown option ended with {status}"
    );
    ensure!(
        refused.contains("hs.colour"),
        "the refusal does not name the option: {refused}"
    );
    Ok("7 deaths, 4 ends in order, 1 refusal".into())
}

/// What was heard of the tests so far.
#[derive(Default)]
struct Verdict {
    passed: usize,
    failed: Vec<String>,
    /// The guest's own summary, its last words.
    summary: Option<String>,
}

impl Verdict {
    fn hear(&mut self, event: &Event) {
        match event {
            Event::Test { name, passed, detail } => {
                let word = if *passed { "ok" } else { "FAILED" };
                println!(
                    "{word} {name}{}{detail}",
                    if detail.is_empty() { "" } else { ": " }
                );
                if *passed {
                    self.passed += 1;
                } else {
                    self.failed.push(format!("{name}: {detail}"));
                }
            }
            Event::Exit { why } => self.summary = Some(why.clone()),
            _ => {}
        }
    }

    fn judge(&self, code: Option<i32>) -> Result<String> {
        ensure!(
            self.failed.is_empty(),
            "{} of its tests failed: {}",
            self.failed.len(),
            self.failed.join("; ")
        );
        ensure!(self.passed > 0, "it ran no test");
        let all = format!("{} tests, 0 failed", self.passed);
        ensure!(
            self.summary.as_ref() == Some(&all),
            "{} tests passed, but its summary is {:?}",
            self.passed,
            self.summary
        );
        ensure!(
            code == Some(exit_code(Exit::Success)),
            "its tests passed, but not its exit"
        );
        Ok(format!("{} guest tests", self.passed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(events: &[(&str, bool)], summary: &str, code: i32) -> Result<String> {
        let mut verdict = Verdict::default();
        for (name, passed) in events {
            verdict.hear(&Event::Test {
                name: (*name).into(),
                passed: *passed,
                detail: String::new(),
            });
        }
        verdict.hear(&Event::Exit { why: summary.into() });
        verdict.judge(Some(code))
    }

    #[test]
    fn a_guest_passes_only_by_all_signs_together() {
        assert_eq!(
            judged(&[("a", true), ("b", true)], "2 tests, 0 failed", 33).unwrap(),
            "2 guest tests"
        );
        assert!(
            judged(&[("a", true), ("b", false)], "2 tests, 1 failed", 33)
                .unwrap_err()
                .to_string()
                .contains('b')
        );
        assert!(judged(&[], "0 tests, 0 failed", 33).is_err());
        assert!(judged(&[("a", true)], "2 tests, 0 failed", 33).is_err());
        assert!(judged(&[("a", true)], "panicked", 33).is_err());
        assert!(judged(&[("a", true)], "1 tests, 0 failed", 41).is_err());
    }
}

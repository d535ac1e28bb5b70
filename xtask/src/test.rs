//! `cargo xtask test`: every test there is, one step after the other.
//!
//! A step passes or fails as a whole; one that fails does not keep the others from running. The tests that need guests
//! run in namespaces of their own ([`mod@inside`]), through the machinery that `run-pair` uses.

mod agent;
#[cfg(test)]
mod api;
mod bench;
mod chaos;
mod crowd;
mod descriptors;
mod gate;
mod guest;
mod inside;
mod pairs;
mod run;
mod runner;
mod signals;
mod sql;
mod survives;
mod tetris;
mod typist;
mod visitors;
mod watcher;

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::accel::Choice;
use crate::command::{OURSELVES, cargo};
use crate::guest_build::{self, GUESTS, Variant};
use crate::host::{self, Purpose};
use crate::netns::{self, Task};
use crate::tidy;
use runner::Runner;

pub(crate) use inside::inside;

/// Options of `test`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Runs only the steps whose names begin with this; may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Lists the steps and runs none.
    #[arg(long)]
    list: bool,
    /// What runs the guests.
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    accel: Choice,
}

/// Options of the hidden command that runs one test inside.
#[derive(clap::Args)]
pub(crate) struct InsideOptions {
    name: String,
    #[arg(long, value_enum)]
    accel: Choice,
}

/// What the inside is told.
#[derive(Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) name: String,
    pub(crate) accel: Choice,
}

/// A step: its name, what it shows, and how long it may take.
struct Step {
    name: &'static str,
    shows: &'static str,
    body: Body,
}

enum Body {
    /// Runs here.
    Here(fn(&mut Runner) -> Result<()>),
    /// Runs inside a namespace of its own; at most so many seconds.
    Inside(u64),
}

const QUARTER: Duration = Duration::from_secs(15 * 60);

const STEPS: &[Step] = &[
    Step {
        name: "format",
        shows: "the sources are formatted",
        body: Body::Here(format),
    },
    Step {
        name: "tidy",
        shows: "the style rules hold",
        body: Body::Here(|_| tidy::check()),
    },
    Step {
        name: "dependencies",
        shows: "no guest needs libc or getrandom",
        body: Body::Here(dependencies),
    },
    Step {
        name: "build",
        shows: "the guests build",
        body: Body::Here(build),
    },
    Step {
        name: "clippy",
        shows: "no warnings, host and guests",
        body: Body::Here(clippy),
    },
    Step {
        name: "unit",
        shows: "unit and property tests on the host",
        body: Body::Here(unit),
    },
    Step {
        name: "doc-tests",
        shows: "the examples in the documentation",
        body: Body::Here(doc_tests),
    },
    Step {
        name: "rustdoc",
        shows: "the documentation builds without warnings",
        body: Body::Here(rustdoc),
    },
    Step {
        name: "accel",
        shows: "which accelerator runs the guests",
        body: Body::Here(settle_accelerator),
    },
    Step {
        name: "ktest",
        shows: "the kernel's tests in a guest",
        body: Body::Inside(240),
    },
    Step {
        name: "ktest-reports",
        shows: "a dying guest says of what, by name",
        body: Body::Inside(120),
    },
    Step {
        name: "pair-takeover",
        shows: "200 keys outlive the master",
        body: Body::Inside(180),
    },
    Step {
        name: "pair-plain",
        shows: "so they do without the kernel's cptfork",
        body: Body::Inside(180),
    },
    Step {
        name: "pair-spare-killed",
        shows: "the master goes on without its spare",
        body: Body::Inside(180),
    },
    Step {
        name: "pair-agent",
        shows: "the agent tells the spare of its master's end within milliseconds",
        body: Body::Inside(240),
    },
    Step {
        name: "pair-mute",
        shows: "a master whose spare is silent waits for it; without the agent it stays mute",
        body: Body::Inside(240),
    },
    Step {
        name: "pair-damage",
        shows: "a damaged checkpoint is refused, a sound one follows",
        body: Body::Inside(180),
    },
    Step {
        name: "pair-differing",
        shows: "differing builds refuse to pair",
        body: Body::Inside(180),
    },
    Step {
        name: "pair-restore",
        shows: "a pair that lost both machines goes on from its disk",
        body: Body::Inside(240),
    },
    Step {
        name: "pair-expiry",
        shows: "keys expire on time across a takeover",
        body: Body::Inside(180),
    },
    Step {
        name: "pair-conformance",
        shows: "kv does what Redis does, word for word, for 64 clients at once",
        body: Body::Inside(240),
    },
    Step {
        name: "pair-benchmark",
        shows: "redis-benchmark completes without errors",
        body: Body::Inside(240),
    },
    Step {
        name: "pair-thousand",
        shows: "a thousand connections outlive their master, each with its own answers",
        body: Body::Inside(240),
    },
    Step {
        name: "pair-datagrams",
        shows: "kv answers one command a datagram, and so does the follower",
        body: Body::Inside(180),
    },
    Step {
        name: "pair-idle",
        shows: "an idle pair leaves the host idle",
        body: Body::Inside(180),
    },
    Step {
        name: "pair-descriptors",
        shows: "files, UDP sockets and listeners come back under their numbers",
        body: Body::Inside(180),
    },
    Step {
        name: "pair-files",
        shows: "each line that is appended around a takeover is on the disk once",
        body: Body::Inside(180),
    },
    Step {
        name: "pair-tetris",
        shows: "a game whose master dies goes on as one whose master lives, on the players' connections",
        body: Body::Inside(180),
    },
    Step {
        name: "pair-visitors",
        shows: "the application of docs/your-first-app.md counts on after its machine's death, on the same connection",
        body: Body::Inside(180),
    },
    Step {
        name: "pair-signals",
        shows: "a handler outlives the master that set it; without one SIGTERM ends a node in order",
        body: Body::Inside(180),
    },
    Step {
        name: "pair-gate",
        shows: "four workers' structures are whole after kills at random moments",
        body: Body::Inside(240),
    },
    Step {
        name: "pair-survives-incr",
        shows: "each numbered reply comes once and in order through a kill",
        body: Body::Inside(120),
    },
    Step {
        name: "pair-survives-benchmark",
        shows: "redis-benchmark does not notice a kill: no error, no reconnect",
        body: Body::Inside(240),
    },
    Step {
        name: "pair-survives-bulk",
        shows: "streams both ways hold every byte through a kill",
        body: Body::Inside(120),
    },
    Step {
        name: "pair-survives-edges",
        shows: "so do half-closed ones, closed windows, and connections that begin or end",
        body: Body::Inside(120),
    },
    Step {
        name: "pair-survives-udp",
        shows: "a datagram is answered once at most, and one after the kill is answered",
        body: Body::Inside(120),
    },
    Step {
        name: "pair-survives-crash",
        shows: "the connection that crashes the server is reset, the others live on",
        body: Body::Inside(120),
    },
    Step {
        name: "pair-sqlite",
        shows: "SQLite says in a guest, word for word, what it says on the host",
        body: Body::Inside(240),
    },
    Step {
        name: "pair-sqlite-killed",
        shows: "clients commit through a kill on their connections, once each; open transactions and results go on",
        body: Body::Inside(240),
    },
    Step {
        name: "pair-sqlite-bulk",
        shows: "a transaction of 10,000 rows, with a spare and without",
        body: Body::Inside(240),
    },
    Step {
        name: "run-pair",
        shows: "the command as in the README, through the forwarded port",
        body: Body::Here(run::as_documented),
    },
    Step {
        name: "run-survives",
        shows: "a client on the forwarded port does not notice a kill",
        body: Body::Here(run::survives),
    },
    Step {
        name: "run-nothing-left",
        shows: "a killed run leaves no process, no namespace and no lock",
        body: Body::Here(run::leaves_nothing),
    },
    Step {
        name: "run-refusals",
        shows: "what is in use, unknown or no disk is refused by name",
        body: Body::Here(run::refusals),
    },
    Step {
        name: "chaos",
        shows: "no reply is lost, whoever dies at whatever point; what loses some is found out",
        body: Body::Here(chaos::chaos_finds),
    },
    Step {
        name: "bench",
        shows: "the benchmark runs to its end and writes its files; what should cost nothing does",
        body: Body::Here(bench::quick),
    },
];

/// Runs the steps.
///
/// # Errors
/// The host lacks something, or no step is named so.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let chosen: Vec<&Step> = STEPS
        .iter()
        .filter(|step| {
            options.only.is_empty()
                || options
                    .only
                    .iter()
                    .any(|name| step.name.starts_with(name.as_str()))
        })
        .collect();
    if chosen.is_empty() {
        let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        bail!("no step is named so; there are: {}", names.join(", "));
    }
    if options.list {
        for step in chosen {
            println!("{:<18} {}", step.name, step.shows);
        }
        return Ok(ExitCode::SUCCESS);
    }
    host::check(Purpose::Test)?;
    let mut runner = Runner::new(options.accel)?;
    let begun = Instant::now();
    let mut failed = Vec::new();
    for (index, step) in chosen.iter().enumerate() {
        runner.begin(index + 1, chosen.len(), step.name, step.shows);
        let outcome = match step.body {
            Body::Here(body) => body(&mut runner),
            Body::Inside(limit_secs) => in_namespace(&mut runner, step.name, Duration::from_secs(limit_secs)),
        };
        if !runner.end(step.name, &outcome) {
            failed.push(step.name);
        }
    }
    println!("\n{:.0} s in all", begun.elapsed().as_secs_f64());
    if !failed.is_empty() {
        println!("failed: {}", failed.join(", "));
    }
    println!("{} passed, {} failed", chosen.len() - failed.len(), failed.len());
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// One test in a namespace of its own.
///
/// # Errors
/// See [`netns::run`].
pub(crate) fn run_inside(options: &InsideOptions) -> Result<ExitCode> {
    netns::run(
        &Task::Test(Orders {
            name: options.name.clone(),
            accel: options.accel,
        }),
        &[],
    )
}

fn in_namespace(runner: &mut Runner, name: &str, limit: Duration) -> Result<()> {
    for (app, variant) in inside::images(name)? {
        if !guest_build::image(app, *variant).exists() {
            build(runner)?;
        }
    }
    let said = runner.run(inside_command(name, runner.accel()), limit)?;
    if let Some(figures) = said
        .lines()
        .filter_map(|line| line.strip_prefix("result: "))
        .next_back()
    {
        runner.note(figures);
    }
    Ok(())
}

fn inside_command(name: &str, accel: Choice) -> Command {
    let accel = match accel {
        Choice::Auto => "auto",
        Choice::Tcg => "tcg",
        Choice::Kvm => "kvm",
    };
    let mut command = Command::new(OURSELVES);
    command.args(["test-inside", name, "--accel", accel]);
    command
}

/// Settles the accelerator once for all steps that follow.
fn settle_accelerator(runner: &mut Runner) -> Result<()> {
    let said = runner.run(inside_command("accel", runner.accel()), Duration::from_secs(60))?;
    let name = said
        .lines()
        .filter_map(|line| line.strip_prefix("result: "))
        .next_back()
        .context("it named none")?;
    runner.set_accel(if name == "kvm" { Choice::Kvm } else { Choice::Tcg });
    runner.note(name);
    Ok(())
}

fn format(runner: &mut Runner) -> Result<()> {
    let mut command = cargo();
    command.args(["fmt", "--all", "--check", "--", "--color", "never"]);
    runner.run(command, QUARTER).map(drop)
}

fn clippy(runner: &mut Runner) -> Result<()> {
    let mut command = cargo();
    command.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    runner.run(command, QUARTER)?;
    for app in GUESTS {
        let mut command = guest_build::guest_cargo("clippy");
        command.args(["-p", app, "--features", "guest", "--", "-D", "warnings"]);
        runner.run(command, QUARTER)?;
    }
    Ok(())
}

fn unit(runner: &mut Runner) -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--lib", "--bins", "--tests"]);
    let said = runner.run(command, QUARTER)?;
    runner.note(&format!("{} tests", passed_tests(&said)));
    Ok(())
}

fn doc_tests(runner: &mut Runner) -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--doc"]);
    runner.run(command, QUARTER).map(drop)
}

/// The sum over the summaries of test programs.
fn passed_tests(said: &str) -> u64 {
    let counts = said.lines().filter_map(|line| {
        line.strip_prefix("test result: ok. ")?
            .split(' ')
            .next()?
            .parse::<u64>()
            .ok()
    });
    counts.sum()
}

fn rustdoc(runner: &mut Runner) -> Result<()> {
    let mut command = cargo();
    command
        .args(["doc", "--workspace", "--no-deps"])
        .env("RUSTDOCFLAGS", "-D warnings");
    runner.run(command, QUARTER).map(drop)
}

fn dependencies(_: &mut Runner) -> Result<()> {
    GUESTS
        .iter()
        .try_for_each(|app| guest_build::check_dependencies(app))
}

fn build(runner: &mut Runner) -> Result<()> {
    // The other variant first: what lies in its place afterwards is the usual one.
    runner.run(guest_build::build_command("kv", Variant::Other), QUARTER)?;
    guest_build::keep_other("kv")?;
    for app in GUESTS {
        runner.run(guest_build::build_command(app, Variant::Usual), QUARTER)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_inside_is_known_inside_and_names_are_unique() {
        for (index, step) in STEPS.iter().enumerate() {
            assert!(
                STEPS[..index].iter().all(|other| other.name != step.name),
                "{}",
                step.name
            );
            if let Body::Inside(_) = step.body {
                inside::images(step.name).unwrap();
            }
        }
    }

    #[test]
    fn passed_tests_are_summed_over_programs() {
        let said = "test result: ok. 12 passed; 0 failed\nnoise\ntest result: ok. 3 passed; 0 failed\n";
        assert_eq!(passed_tests(said), 15);
    }
}

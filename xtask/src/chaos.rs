//! `cargo xtask chaos`: many pairs, each of which loses a machine under load, and what its clients saw of that.
//!
//! ```text
//!  outside   builds the guest, opens the report's files -> namespace ─────────────────────────.
//!  inside    for each seed: a plan is drawn; a pair, its clients, a death, their findings -> tally -> report, figure
//! ```
//! A round is a fresh pair, which is ready in less than a second, so that no round suffers from the one before it. Clients are the
//! program that the tests use ([`crate::load`]): the kernel's TCP, each reply checked. What is drawn stands in [`plan`].
//! Deliberately absent: deaths of both machines. A pair does not outlive these, and what its disk keeps is another test's.

mod plan;
mod round;
mod tally;

use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use figures::plot::{self, Words};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::plan::Plan;
use self::round::Ground;
use self::tally::Tally;
use crate::accel::{self, Choice};
use crate::command::{root, show_no_more};
use crate::host::{self, Purpose};
use crate::netns::{self, Task};
use crate::qemu::clock_s;
use crate::{guest_build, profile};

/// The exit status after Ctrl-C and its like, as shells have it.
const INTERRUPTED: u8 = 130;

/// Options of `chaos`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many machines die.
    #[arg(long, value_name = "N", default_value_t = 20)]
    kills: u64,
    /// Decides all that is chance: round number I has the seed S + I, and `--kills 1 --seed` with that repeats it [default: the
    /// time].
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// The application that the pairs run.
    #[arg(long, value_name = "NAME", default_value = "kv", value_parser = ["kv", plan::STREAMS])]
    app: String,
    /// Tells the application this beside what qemu/pair.toml has for it; may be repeated. The later of two words wins.
    #[arg(long = "word", value_name = "NAME=VALUE")]
    words: Vec<String>,
    /// Does without the host's agent, as `run-pair --no-agent`: only silence is left. No spare dies then: its master would keep
    /// silent, for want of a word that it is alone.
    #[arg(long)]
    no_agent: bool,
    /// Writes what it came to into this file, as JSON, and the histogram beside it as SVG.
    #[arg(long, value_name = "FILE", default_value_os_t = root().join("target/chaos/report.json"))]
    report: PathBuf,
    /// What runs the guests.
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    accel: Choice,
}

/// What the inside is told.
#[derive(Serialize, Deserialize)]
pub(crate) struct Orders {
    kills: u64,
    seed: u64,
    app: String,
    words: Vec<String>,
    agent: bool,
    image: PathBuf,
    accel: Choice,
}

/// Outside the namespace: checks, builds, opens the report's files, and enters.
///
/// # Errors
/// Something that the run needs is missing; the message says how to get it.
pub(crate) fn run(options: Options) -> Result<ExitCode> {
    if let Some(directory) = options.report.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let create =
        |path: PathBuf| File::create(&path).with_context(|| format!("cannot write {}", path.display()));
    let drawing = options.report.with_extension("svg");
    let (report, svg) = (create(options.report.clone())?, create(drawing.clone())?);
    host::check(Purpose::Run)?;
    let image = guest_build::build(&options.app)?;
    let seed = options.seed.unwrap_or_else(clock_s);
    let orders = Orders {
        kills: options.kills,
        seed,
        app: options.app,
        words: options.words,
        agent: !options.no_agent,
        image,
        accel: options.accel,
    };
    let code = netns::run(&Task::Chaos(orders), &[report.as_fd(), svg.as_fd()])?;
    println!("{}, {}", options.report.display(), drawing.display());
    Ok(code)
}

/// Inside the namespace: the rounds. `files` are the report and its drawing.
///
/// # Errors
/// The host refuses what every round needs. A round that fails is counted, and does not keep the others from running.
pub(crate) fn inside(orders: &Orders, files: Vec<OwnedFd>, channel: OwnedFd) -> Result<ExitCode> {
    let mut files = files.into_iter().map(File::from);
    let mut report = files.next().context("the report was not handed over")?;
    let mut svg = files.next().context("the drawing was not handed over")?;
    let stopped = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stopped))?;
    }
    let stop = Arc::clone(&stopped);
    netns::on_stop(channel, move || stop.store(true, Ordering::SeqCst));

    let pair_plan = profile::Plan::load()?;
    let machine = pair_plan.machine()?;
    netns::make_network(&pair_plan)?;
    let accelerator = accel::settle(orders.accel, &machine, &orders.image)?;
    let ground = Ground {
        plan: &pair_plan,
        machine: &machine,
        accelerator,
        orders,
        stopped: &stopped,
    };
    let mut tally = Tally::new(orders, accelerator.name());
    println!("{} on {}, seed {}", orders.app, accelerator.name(), orders.seed);
    let progress = Progress::new(orders.kills);
    for index in 0..orders.kills {
        if stopped.load(Ordering::SeqCst) {
            break;
        }
        let plan = Plan::draw(orders.seed.wrapping_add(index), &orders.app, orders.agent);
        progress.round(index, &plan, &tally);
        let outcome = round::run(&ground, &plan);
        // The commands of all others are like the first one's.
        show_no_more();
        match outcome {
            Ok(outcome) => {
                if !outcome.findings.is_clean() {
                    let why = outcome.findings.violations.join("\n  ");
                    progress.print(&format!(
                        "seed {}, {}:\n  {why}\n{}",
                        plan.seed, outcome.death, outcome.account
                    ));
                }
                tally.add(plan.seed, &outcome);
            }
            // It was broken off.
            Err(_) if stopped.load(Ordering::SeqCst) => break,
            Err(error) => {
                let why = format!("{error:#}");
                progress.print(&format!("seed {}, {}: {why}", plan.seed, plan.death));
                tally.add_failure(plan.seed, plan.death.to_string(), &why);
            }
        }
    }
    progress.end();

    serde_json::to_writer(&report, &tally)?;
    writeln!(report).context("cannot write the report")?;
    let subtitle = format!(
        "{}, seed {}, guests on {}",
        tally.line(),
        orders.seed,
        accelerator.name()
    );
    let words = Words {
        title: "From a master's death to the client's next reply",
        subtitle: &subtitle,
        label: "pause, one request at a time (ms)",
    };
    if let Some(drawing) = plot::histogram(&tally.pauses(), words)? {
        svg.write_all(drawing.svg.as_bytes())
            .context("cannot write the drawing")?;
    }
    print!("{}", tally.text());
    Ok(if stopped.load(Ordering::SeqCst) {
        ExitCode::from(INTERRUPTED)
    } else if tally.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Shows a person how far it has come.
struct Progress {
    bar: Option<ProgressBar>,
    kills: u64,
}

impl Progress {
    /// Without a terminal, a word after so many rounds.
    const WORD_EVERY: u64 = 10;

    fn new(kills: u64) -> Progress {
        let bar = std::io::stdout().is_terminal().then(|| {
            let style =
                ProgressStyle::with_template("{bar:30} {pos}/{len} [{elapsed}, {eta} left] {wide_msg:.dim}")
                    .expect("it is a template");
            ProgressBar::new(kills).with_style(style)
        });
        Progress { bar, kills }
    }

    fn round(&self, index: u64, plan: &Plan, tally: &Tally) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(index);
                bar.set_message(format!("seed {}, {}; {}", plan.seed, plan.death, tally.line()));
            }
            None if index > 0 && index.is_multiple_of(Self::WORD_EVERY) => {
                println!("{index}/{}: {}", self.kills, tally.line());
            }
            None => {}
        }
    }

    fn print(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| println!("{text}")),
            None => println!("{text}"),
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

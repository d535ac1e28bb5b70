//! `cargo xtask bench`: the thesis's tables and figures and more, beside what Linux offers, measured in one run.
//!
//! ```text
//!  outside   host, builds, kernel package -> the peers natively -> namespace ------.     -> results.json, plots, report.md
//!  inside                                     our guest, the Linux guest, pairs: rows through a pipe
//! ```
//! All of a run's ratios come from this one run, on one accelerator. What fails leaves a note in the report; the rest runs and
//! is written all the same, and only what we should have measured of ourselves and did not makes the command fail: a peer that
//! is missing makes ratios missing, which the report says. What there is to measure stands in [`figures::experiment`].
//! With `--run` one guest or pair is the thesis's test program and nothing else runs ([`program`]).

mod debian;
mod ear;
mod initramfs;
mod inside;
mod link;
mod output;
mod output_commit;
mod peers;
mod phase;
mod program;
mod requests;
mod sources;
mod told;
mod transaction;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use anyhow::{Result, anyhow, bail};
use figures::report::Circumstances;
use figures::{calculation, experiment};

use crate::accel::{Accelerator, Choice};
use crate::command::{command, read, root};
use crate::guest_build;
use crate::host::{self, Purpose};
use crate::netns::{self, Task};
use crate::profile::Plan;
use crate::qemu::{clock_s, date_time};
use crate::steps::Steps;
use debian::Kernel;
use phase::Who;
use told::{Heard, Word};

pub(crate) use inside::{Orders, inside};

/// How the report begins to say that there was no Linux guest.
pub(crate) const LINUX_MISSING: &str = "the series of Linux in a guest are missing";

/// The guest that measures.
const APP: &str = "bench";

/// Options of `bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Fewer and shorter runs: under four minutes, without the builds.
    #[arg(long)]
    quick: bool,
    /// Where the results go [default: target/bench; with --run target/bench/run].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Measures only this experiment; may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Runs the thesis's test program once, with these knobs in place of the experiments
    ///
    /// It modifies pages, takes a checkpoint and sleeps for what is left of the interval, again and again. KNOBS is one argument,
    /// words with blanks between them; each may be left out, and an empty argument is the thesis's figure 6-2 at 10 %:
    ///
    ///   mem-kib=4096     memory of all regions together, in KiB
    ///   regions=4        regions (classes) that it is divided among
    ///   descriptors=0    registered descriptors, 0 to 128
    ///   threads=0        registered threads, 0 to 127
    ///   signals=0        registered signals, 0 to 5
    ///   dirty-pct=10     share of the pages that is modified between two checkpoints
    ///   contiguity=4     pages of a run of modified pages
    ///   interval-ms=0    from one checkpoint to the next; 0: no sleep
    ///   checkpoints=100  checkpoints taken
    ///   sink=null        null: encoded and counted; pipe: written to another thread while the program waits (the thesis's
    ///                    synchronous case); link: to a spare, in a second guest
    ///   mode=lazy        how checkpoints freeze: lazy, eager, faults or plain (a copy of everything)
    ///   way=auto         what checkpoint() chooses from: auto, copy, incremental or full
    ///
    /// For example: cargo xtask bench --run "mem-kib=9216 dirty-pct=25 interval-ms=5 checkpoints=200 sink=pipe"
    #[arg(long, value_name = "KNOBS", conflicts_with_all = ["only", "quick"], verbatim_doc_comment)]
    run: Option<String>,
    /// What runs the guests.
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    accel: Choice,
}

/// Runs the benchmark.
///
/// # Errors
/// An experiment is unknown, the results cannot be written, or something is missing without which nothing can be measured.
pub(crate) fn run(options: Options) -> Result<ExitCode> {
    if let Some(knobs) = &options.run {
        return program::run(&options, knobs);
    }
    check_names(&options.only)?;
    let out = options.out.clone().unwrap_or_else(|| root().join("target/bench"));
    output::prepare(&out)?;
    host::check(Purpose::Bench)?;
    let image = guest_build::build(APP)?;
    let phases = phase::chosen(&options.only, options.quick, true);
    let wants = |who| phases.iter().any(|phase| phase.who == who);
    let apps = phases.iter().filter_map(|phase| match phase.who {
        Who::AppPair(app) => Some(app.name()),
        _ => None,
    });
    let apps = apps
        .map(|app| Ok((app.to_owned(), guest_build::build(app)?)))
        .collect::<Result<_>>()?;
    let mut heard = Heard::default();
    let linux = if wants(Who::Linux) {
        Linux::had(&root().join("target/bench/cache"), &mut heard.problems)
    } else {
        Linux::default()
    };
    if let Some(program) = &linux.program {
        measure_natively(program, &options, linux.guest.is_some(), &mut heard);
    }
    let orders = Orders {
        only: options.only.clone(),
        quick: options.quick,
        run: None,
        accel: options.accel,
        image,
        apps,
        linux: linux
            .guest
            .as_ref()
            .map(|(kernel, initrd)| (kernel.image.clone(), initrd.clone())),
    };
    let (mut heard, outcome) = measure_in_guests(orders, heard)?;
    if let Some(accelerator) = heard.accelerator {
        let asked = |name: &str| phase::is_asked(&options.only, name);
        calculation::add(&mut heard.rows, asked, accelerator.accel());
    }
    let circumstances = circumstances(&options, linux.guest.as_ref().map(|(kernel, _)| kernel), &heard)?;
    output::write(&out, &heard.rows, &options.only, circumstances)?;
    outcome
}

/// What the peers are measured with, as far as it can be had.
#[derive(Default)]
struct Linux {
    /// Their program.
    program: Option<PathBuf>,
    /// Kernel and initial file system of their guest.
    guest: Option<(Kernel, PathBuf)>,
}

impl Linux {
    /// Builds and fetches it; what cannot be had becomes a problem.
    fn had(cache: &Path, problems: &mut Vec<String>) -> Linux {
        match peers::build() {
            Ok(program) => {
                let kernel = debian::kernel(cache);
                let guest = kernel.and_then(|kernel| Ok((kernel, peers::initramfs(&program, cache)?)));
                Linux {
                    program: Some(program),
                    guest: or_missing(guest, problems),
                }
            }
            Err(error) => {
                or_missing(
                    Err(error.context("the peers could not be built, so they are missing natively too")),
                    problems,
                );
                Linux::default()
            }
        }
    }
}

/// The Linux guest; without one a problem says that its series are missing, and why.
fn or_missing(guest: Result<(Kernel, PathBuf)>, problems: &mut Vec<String>) -> Option<(Kernel, PathBuf)> {
    match guest {
        Ok((kernel, initrd)) => {
            problems.extend(kernel.excuse.clone());
            Some((kernel, initrd))
        }
        Err(error) => {
            let problem = format!("{LINUX_MISSING}: {error:#}");
            eprintln!("warning: {problem}");
            problems.push(problem);
            None
        }
    }
}

/// Refuses a name that no experiment has.
fn check_names(only: &[String]) -> Result<()> {
    for name in only {
        if experiment::find(name).is_none() {
            bail!(
                "there is no experiment {name}; there are: {}",
                experiment::names()
            );
        }
    }
    Ok(())
}

/// The first phase, if it is one.
fn measure_natively(program: &Path, options: &Options, linux: bool, heard: &mut Heard) {
    let phases = phase::chosen(&options.only, options.quick, linux);
    let Some(index) = phases.iter().position(|phase| phase.who == Who::Native) else {
        return;
    };
    let phase = &phases[index];
    let mut steps = Steps::new();
    steps.begin(index + 1, phases.len(), phase.name, phase.shows);
    let mut tell = |word| {
        heard.hear(word);
        Ok(())
    };
    let outcome = peers::run_natively(program, phase, &mut steps, &mut tell);
    let seconds = steps.end(phase.name, &outcome).as_secs_f64();
    let name = phase.name.to_owned();
    if let Err(error) = &outcome {
        heard.hear(Word::Problem(format!("{name}: {error:#}")));
    }
    heard.hear(Word::Phase { name, seconds });
}

/// The other phases; what was heard, and how the inside ended.
fn measure_in_guests(orders: Orders, heard: Heard) -> Result<(Heard, Result<ExitCode>)> {
    let (output, input) = std::io::pipe()?;
    let listener = thread::spawn(move || heard.listen(File::from(OwnedFd::from(output))));
    let outcome = netns::run(&Task::Bench(orders), &[input.as_fd()]);
    // Our own end: only now can the listener see that nobody speaks any more.
    drop(input);
    let mut heard = listener.join().map_err(|_| anyhow!("the listener was lost"))?;
    if let Err(error) = &outcome {
        heard.problems.push(format!("{error:#}"));
    }
    Ok((heard, outcome))
}

fn circumstances(options: &Options, kernel: Option<&Kernel>, heard: &Heard) -> Result<Circumstances> {
    let machine = Plan::load()?.machine()?;
    let version = read(command(&machine.program).arg("--version")).unwrap_or_default();
    let version = version
        .lines()
        .next()
        .unwrap_or("QEMU of unknown version")
        .to_owned();
    let accelerator = heard.accelerator.map_or("no accelerator", Accelerator::name);
    let words: Vec<String> = std::env::args().skip(1).collect();
    Ok(Circumstances {
        date: format!("{} UTC", date_time(clock_s()).replace('T', " ")),
        command: format!("cargo xtask {}", words.join(" ")),
        quick: options.quick,
        host: host_words(|path| std::fs::read_to_string(path).unwrap_or_default()),
        emulator: format!("{version}, {accelerator}, {}", machine.machine),
        linux: kernel.map(|kernel| format!("Linux {}", kernel.version)),
        phases: heard.phases.clone(),
        problems: heard.problems.clone(),
    })
}

/// The host's processor and kernel. `read` gives a file's contents.
fn host_words(read: impl Fn(&str) -> String) -> String {
    let processors = read("/proc/cpuinfo");
    let models: Vec<&str> = processors
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map(|(_, model)| model.trim())
        .collect();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{} × {}, Linux {}",
        models.len(),
        models.first().unwrap_or(&"unknown processor"),
        kernel.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn the_documented_command_line_is_understood() {
        let words = "x --quick --out DIR --only fig6-1 --only policy --accel tcg";
        let options = Line::try_parse_from(words.split(' ')).unwrap().options;
        assert!(options.quick && options.out == Some("DIR".into()) && options.accel == Choice::Tcg);
        assert_eq!(options.only, ["fig6-1", "policy"]);
        check_names(&options.only).unwrap();
    }

    #[test]
    fn the_test_program_is_not_run_beside_experiments() {
        let parse = |words: &[&str]| Line::try_parse_from(["x"].iter().chain(words));
        let options = parse(&["--run", "mem-kib=4096 sink=pipe", "--out", "DIR"])
            .unwrap()
            .options;
        assert_eq!(options.run.as_deref(), Some("mem-kib=4096 sink=pipe"));
        assert!(parse(&["--run", ""]).is_ok());
        for words in [&["--run", "", "--quick"][..], &["--run", "", "--only", "policy"]] {
            let Err(error) = parse(words) else {
                panic!("{words:?} were taken")
            };
            assert!(error.to_string().contains("--run"), "{error}");
        }
    }

    #[test]
    fn a_kernel_that_cannot_be_had_is_told_in_the_report() {
        let mut problems = Vec::new();
        let guest = or_missing(
            Err(anyhow!("no network").context("no Linux kernel")),
            &mut problems,
        );
        assert_eq!(guest, None);
        let circumstances = Circumstances {
            problems,
            ..Circumstances::default()
        };
        let rows = figures::row::Rows::default();
        let text = figures::report::markdown(&rows, &[], |_| true, &[], &circumstances);
        assert!(
            text.contains(&format!("- {LINUX_MISSING}: no Linux kernel: no network\n")),
            "{text}"
        );
    }

    #[test]
    fn a_kernel_that_is_not_the_one_wanted_is_excused_in_the_report() {
        let kernel = Kernel {
            image: "vmlinuz".into(),
            version: "6.1".into(),
            excuse: Some("an older one".into()),
        };
        let mut problems = Vec::new();
        assert!(or_missing(Ok((kernel, "peers.cpio".into())), &mut problems).is_some());
        assert_eq!(problems, ["an older one"]);
    }

    #[test]
    fn an_unknown_experiment_is_refused_with_the_list() {
        let error = check_names(&["fig6-9".into()]).unwrap_err().to_string();
        assert!(
            error.contains("fig6-9") && error.contains("fig6-1, fig6-2"),
            "{error}"
        );
    }

    #[test]
    fn the_host_is_told_by_processor_and_kernel_and_not_by_name() {
        let read = |path: &str| match path {
            "/proc/cpuinfo" => {
                "model name\t: A Processor\nflags\t: x\nmodel name\t: A Processor\n".to_owned()
            }
            "/proc/sys/kernel/osrelease" => "6.1.0\n".to_owned(),
            _ => String::new(),
        };
        assert_eq!(host_words(read), "2 × A Processor, Linux 6.1.0");
        assert!(host_words(|_| String::new()).contains("unknown"));
    }
}

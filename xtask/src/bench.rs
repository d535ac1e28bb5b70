//! `cargo xtask bench`: the thesis's tables and figures and more, beside what Linux offers, measured in one run.
//!
//! ```text
//!  outside   host, builds, kernel package -> the peers natively -> namespace ------.     -> results.json, plots, report.md
//!  inside                                     our guest, the Linux guest, pairs: rows through a pipe
//! ```
//! All of a run's ratios come from this one run, on one accelerator. What fails leaves a note in the report; what was measured
//! until then is written all the same. What there is to measure stands in [`figures::experiment`].

mod debian;
mod ear;
mod initramfs;
mod inside;
mod link;
mod output;
mod peers;
mod phase;
mod sources;
mod told;

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

/// The guest that measures.
const APP: &str = "bench";

/// Options of `bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Fewer and shorter runs: under four minutes, without the builds.
    #[arg(long)]
    quick: bool,
    /// Where the results go [default: target/bench].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Measures only this experiment; may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// What runs the guests.
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    accel: Choice,
}

/// Runs the benchmark.
///
/// # Errors
/// An experiment is unknown, the results cannot be written, or something is missing without which nothing can be measured.
pub(crate) fn run(options: Options) -> Result<ExitCode> {
    check_names(&options.only)?;
    let out = options.out.clone().unwrap_or_else(|| root().join("target/bench"));
    output::prepare(&out)?;
    host::check(Purpose::Bench)?;
    let image = guest_build::build(APP)?;
    let cache = root().join("target/bench/cache");
    let wants_linux = phase::chosen(&options.only, options.quick, true)
        .iter()
        .any(|phase| phase.who == Who::Linux);
    let mut heard = Heard::default();
    let (mut program, mut kernel) = (None, None);
    if wants_linux {
        let built = peers::build()?;
        match debian::kernel(&cache) {
            Ok(found) => {
                heard.problems.extend(found.excuse.clone());
                kernel = Some((found, peers::initramfs(&built, &cache)?));
            }
            Err(error) => {
                eprintln!("warning: the Linux series will be missing: {error:#}");
                heard
                    .problems
                    .push(format!("the series of Linux in a guest are missing: {error:#}"));
            }
        }
        program = Some(built);
    }
    let native = match &program {
        Some(program) => measure_natively(program, &options, kernel.is_some(), &mut heard)?,
        None => true,
    };
    let (mut heard, outcome) = measure_in_guests(&options, image, kernel.as_ref(), heard)?;
    if let Some(accelerator) = heard.accelerator {
        let asked = |name: &str| phase::is_asked(&options.only, name);
        calculation::add(&mut heard.rows, asked, accelerator.accel());
    }
    let circumstances = circumstances(&options, kernel.as_ref().map(|(kernel, _)| kernel), &heard)?;
    output::write(&out, &heard.rows, &options.only, &circumstances)?;
    Ok(if native { outcome? } else { ExitCode::FAILURE })
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

/// The first phase, if it is one; whether it went well.
fn measure_natively(program: &Path, options: &Options, linux: bool, heard: &mut Heard) -> Result<bool> {
    let phases = phase::chosen(&options.only, options.quick, linux);
    let Some(index) = phases.iter().position(|phase| phase.who == Who::Native) else {
        return Ok(true);
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
    Ok(outcome.is_ok())
}

/// The other phases; what was heard, and how the inside ended.
fn measure_in_guests(
    options: &Options,
    image: PathBuf,
    kernel: Option<&(Kernel, PathBuf)>,
    heard: Heard,
) -> Result<(Heard, Result<ExitCode>)> {
    let orders = Orders {
        only: options.only.clone(),
        quick: options.quick,
        accel: options.accel,
        image,
        linux: kernel.map(|(kernel, initrd)| (kernel.image.clone(), initrd.clone())),
    };
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

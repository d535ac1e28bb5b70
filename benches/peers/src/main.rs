//! What Linux offers in place of `cptfork`, measured: forks, dirty tracking, page protection, pipes.
//!
//! One static program. It runs as the init of a Linux guest beside ours, in the same QEMU, and on the host for reference.
//! `README.md` tells how the guest is made; the experiments and their names are those of `cargo xtask bench`.
//!
//! ```text
//! peers [quick] [only=EXPERIMENT]... [series=NAME]... [mem-max-mib=N] [list]
//! ```
//! Figures go out as events, one JSON object a line: on standard output, or on the guest's second serial line.
#![deny(unsafe_code)]

mod bench;
mod channel;
mod experiment;
mod init;
mod measure;
mod memory;
mod peer;
mod rounds;
#[expect(unsafe_code, reason = "the system's calls, behind safe functions")]
mod sys;
mod table;
mod words;

use std::process::ExitCode;

use anyhow::Result;
use hs_core::event::Event;

use crate::channel::Channel;
use crate::experiment::EXPERIMENTS;
use crate::words::Words;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if std::process::id() == 1 {
        init::run(words, run);
    }
    let words = match Words::parse(words) {
        Ok(words) => words,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let outcome = Channel::standard().and_then(|mut channel| {
        run(&mut channel, &words)?;
        channel.say(&Event::Exit { why: "done".into() })
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(channel: &mut Channel, words: &Words) -> Result<()> {
    if words.list {
        for experiment in EXPERIMENTS {
            let series: Vec<_> = experiment.series.iter().map(|series| series.name()).collect();
            channel.log(&format!("{}: {}", experiment.name, series.join(" ")));
        }
        return Ok(());
    }
    for (what, file) in [
        ("Linux", "/proc/sys/kernel/osrelease"),
        (
            "clock",
            "/sys/devices/system/clocksource/clocksource0/current_clocksource",
        ),
        ("huge pages", "/sys/kernel/mm/transparent_hugepage/enabled"),
    ] {
        let value = std::fs::read_to_string(file).unwrap_or_else(|error| error.to_string());
        channel.log(&format!("{what}: {}", value.trim()));
    }
    bench::run(channel, words)
}

//! `bench` itself, as a person starts it: a small part of it, to the end.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use figures::row::{Accel, Rows};

use super::run::accel;
use super::runner::Runner;
use crate::bench::LINUX_MISSING;
use crate::command::{OURSELVES, root};

/// How long it may take, with the peers' build and a kernel to fetch.
const LIMIT: Duration = Duration::from_secs(300);

/// A directory that is removed again.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Two experiments: one of our guest alone, and one beside Linux, whose kernel may be out of reach. The goals that are facts and not
/// speeds hold; the files are there. So with the test program. What is unknown is refused by name.
pub(super) fn quick(runner: &mut Runner) -> Result<()> {
    let out = Scratch(
        root()
            .join("target")
            .join(format!("bench-{}", std::process::id())),
    );
    let mut command = Command::new(OURSELVES);
    command
        .args(["bench", "--quick", "--only", "released", "--only", "table3-2"])
        .args(["--accel", accel(runner), "--out"])
        .arg(&out.0);
    runner.run(command, LIMIT)?;
    let text = std::fs::read_to_string(out.0.join("results.json")).context("no results were written")?;
    let rows = Rows::from_json(&text)?;
    let found = |experiment: &str, series: &str| {
        rows.of(experiment, false)
            .into_iter()
            .find(|figure| figure.series == series)
            .with_context(|| format!("no row of {experiment} has the series {series}:\n{text}"))
    };
    for series in ["released", "clean-writes"] {
        let faults = found("released", series)?.faults;
        ensure!(faults == Some(0.0), "{series} cost {faults:?} faults, not none");
    }
    for series in ["cow", "share", "drop"] {
        let figure = found("table3-2", series)?;
        ensure!(
            figure.user_s.is_some() && figure.system_s.is_some() && figure.wall_s > Some(0.0),
            "the row of table3-2 is not whole: {figure:?}"
        );
    }
    let report = std::fs::read_to_string(out.0.join("report.md")).context("no report was written")?;
    ensure!(
        report
            .lines()
            .any(|line| line.starts_with("| Hotspare | share | ")),
        "the report has no row of table 3-2:\n{report}"
    );
    let linux = rows
        .iter()
        .any(|row| row.figure.series == "linux-share" && row.accel != Accel::Native);
    if !linux {
        ensure!(
            report.contains(LINUX_MISSING),
            "the report does not say that the series of Linux are missing:\n{report}"
        );
    }
    let mut command = Command::new(OURSELVES);
    command
        .args([
            "bench",
            "--run",
            "mem-kib=1024 regions=2 checkpoints=20 interval-ms=1",
        ])
        .args(["--accel", accel(runner), "--out"])
        .arg(&out.0);
    runner.run(command, LIMIT)?;
    let text = std::fs::read_to_string(out.0.join("results.json")).context("--run wrote no results")?;
    let rows = Rows::from_json(&text)?;
    let run = rows.of("run", false);
    ensure!(
        run.len() == 1 && run[0].pause_us.p50 > 0.0 && run[0].cpu_share.is_some(),
        "--run did not leave the one row of its own:\n{text}"
    );
    let place = out.0.display().to_string();
    refuses(
        &["bench", "--run", "mem-kib=6", "--out", &place],
        "mem-kib=6: mem-kib takes",
    )?;
    refuses(&["bench", "--only", "fig6-9"], "fig6-1")?;
    refuses(
        &["bench", "--only", "released", "--out", "/proc/bench"],
        "/proc/bench",
    )?;
    runner.note(if linux {
        "beside Linux"
    } else {
        "without Linux: its kernel could not be had"
    });
    Ok(())
}

/// The command ends with an error that names `word`.
fn refuses(arguments: &[&str], word: &str) -> Result<()> {
    let output = Command::new(OURSELVES).args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() || !said.contains(word) {
        bail!("{arguments:?} ended with {}, saying: {said}", output.status);
    }
    Ok(())
}

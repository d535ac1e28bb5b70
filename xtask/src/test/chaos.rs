//! `chaos` itself, as a person starts it: a few kills of every kind.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::run::accel;
use super::runner::Runner;
use crate::command::{OURSELVES, root};

/// A round takes two seconds, and its clients may wait for twenty.
const LIMIT: Duration = Duration::from_secs(180);
/// Kills of masters and of a spare, some at points of the checkpoint path.
const KILLS: u64 = 8;
const SEED: u64 = 3;

/// A directory that is removed again.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn chaos(runner: &Runner, out: &Scratch, arguments: &[&str]) -> Command {
    let mut command = Command::new(OURSELVES);
    command
        .args(["chaos", "--accel", accel(runner)])
        .args(arguments)
        .arg("--report")
        .arg(out.0.join("report.json"));
    command
}

fn report(out: &Scratch) -> Result<Value> {
    let text = std::fs::read_to_string(out.0.join("report.json")).context("no report was written")?;
    Ok(serde_json::from_str(&text)?)
}

/// Nobody loses anything; the report and the drawing are there. Replies that do not wait for the spare are found out.
pub(super) fn chaos_finds(runner: &mut Runner) -> Result<()> {
    let out = Scratch(
        root()
            .join("target")
            .join(format!("chaos-{}", std::process::id())),
    );
    let (kills, seed) = (KILLS.to_string(), SEED.to_string());
    let command = chaos(runner, &out, &["--kills", &kills, "--seed", &seed]);
    runner.run(command, LIMIT)?;
    let told = report(&out)?;
    ensure!(
        told["kills"] == KILLS && told["replies"].as_u64() > Some(0) && told["pause_ms"]["max"].is_f64(),
        "the report does not tell of this run: {told}"
    );
    let deaths: Vec<&str> = (told["rounds"].as_array().into_iter().flatten())
        .filter_map(|round| round["death"].as_str())
        .collect();
    ensure!(
        deaths.iter().any(|death| death.starts_with("master killed"))
            && deaths.iter().any(|death| death.starts_with("master at"))
            && deaths.iter().any(|death| death.starts_with("spare")),
        "seed {SEED} no longer has a death of each kind: {deaths:?}"
    );
    let drawing = std::fs::read_to_string(out.0.join("report.svg")).context("no drawing was written")?;
    ensure!(drawing.contains("median"), "the drawing has no median");
    runner.note(&format!(
        "pause median {} ms, max {} ms",
        told["pause_ms"]["median"], told["pause_ms"]["max"]
    ));

    let command = chaos(
        runner,
        &out,
        &["--kills", "2", "--seed", &seed, "--word", "commit=async"],
    );
    ensure!(
        runner.run(command, LIMIT).is_err(),
        "chaos found nothing wrong with replies that do not wait for the spare"
    );
    let told = report(&out)?;
    ensure!(
        told["broken"].as_u64() > Some(0) && told["failed"] == 0,
        "chaos failed for another reason than its clients': {told}"
    );
    Ok(())
}

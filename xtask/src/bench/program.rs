//! `--run`: the thesis's test program once, with the knobs of its table 6-1, and what it measured for a person to read.
//!
//! The guest alone knows the knobs and refuses what is wrong with them; here they are only handed on. Deliberately absent:
//! peers, drawings and a report. One figure needs none, and those of an earlier `bench` stay as they are.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use figures::table;

use super::told::Heard;
use super::{APP, Options, Orders, measure_in_guests, output};
use crate::command::root;
use crate::guest_build;
use crate::host::{self, Purpose};

/// Runs it with `knobs`, words as a person gave them.
///
/// # Errors
/// The guest cannot be built or started, or the results cannot be written.
pub(super) fn run(options: &Options, knobs: &str) -> Result<ExitCode> {
    let out = options
        .out
        .clone()
        .unwrap_or_else(|| root().join("target/bench/run"));
    output::prepare(&out)?;
    host::check(Purpose::Bench)?;
    let orders = Orders {
        only: Vec::new(),
        quick: false,
        run: Some(knobs.into()),
        accel: options.accel,
        image: guest_build::build(APP)?,
        apps: BTreeMap::new(),
        linux: None,
    };
    let (heard, outcome) = measure_in_guests(orders, Heard::default())?;
    show(&out, &heard)?;
    outcome
}

/// Writes `results.json` and prints the figure.
fn show(out: &Path, heard: &Heard) -> Result<()> {
    output::put(&out.join("results.json"), heard.rows.to_json().as_bytes())?;
    for row in heard.rows.iter() {
        println!("\n{}", table::of_figure(&row.figure).aligned());
    }
    for problem in &heard.problems {
        // The log behind it was shown with the step.
        eprintln!("{}", problem.lines().next().unwrap_or_default());
    }
    println!("{}: results.json", out.display());
    Ok(())
}

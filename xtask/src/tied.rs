//! Programs that die with the process that started them, even if that is killed.
//!
//! The kernel ends a process whose parent is gone if the process has asked for it (PR_SET_PDEATHSIG). It must ask itself, and a
//! program of others does not: so a copy of this one asks and becomes it.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::command::OURSELVES;

/// The hidden command.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The process to die with.
    parent: u32,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<OsString>,
}

/// A command for `program` that dies with the thread that starts it.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(OURSELVES);
    command
        .args(["tied", &std::process::id().to_string()])
        .arg(program);
    command
}

/// Ties the life of this process to `parent`.
///
/// # Errors
/// The parent is gone already, or the kernel refuses.
pub(crate) fn tie_to(parent: u32) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if parent_id() != parent {
        bail!("started by hand, or the starting process is gone");
    }
    Ok(())
}

/// Ties this process and becomes the program.
///
/// # Errors
/// See [`tie_to`]; or the program cannot be started.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    tie_to(options.parent)?;
    let (program, arguments) = options.program.split_first().context("no program is named")?;
    Err(Command::new(program).args(arguments).exec())
        .with_context(|| format!("cannot start {}", program.to_string_lossy()))
}

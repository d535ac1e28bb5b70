//! Every command that a person types: `cargo xtask run-pair`, `client`, `test`, `bench`, `chaos` and `inspect`.
//!
//! This file is the list of commands; what each does stands in its module. Each external command is
//! printed before it runs. Deliberately absent: `unsafe`, and anything that needs root.
#![forbid(unsafe_code)]

mod accel;
mod agent;
mod arguments;
mod bench;
mod chaos;
mod client;
mod command;
mod disk;
mod events;
mod forward;
mod guest_build;
mod handover;
mod host;
mod inspect;
mod live;
mod load;
mod netns;
mod pair;
mod player;
mod profile;
mod qemu;
mod report;
mod run_pair;
mod sqlite;
mod steps;
mod test;
mod tidy;
mod tied;
mod watch;
mod wire;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Hotspare: network servers that outlive their machine.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds and starts a pair of guests, and forwards a port of this host to their service.
    RunPair(Box<run_pair::Options>),
    /// Runs a command inside the network of the running pair, where the service is 10.77.0.10.
    Client(client::Options),
    /// Runs every test: formatting, lints, host tests, guests in QEMU, pairs in QEMU.
    Test(test::Options),
    /// Measures checkpoints beside what Linux offers, and draws the thesis's tables and figures.
    Bench(bench::Options),
    /// Kills machines of pairs under load, and checks what their clients saw of it.
    Chaos(chaos::Options),
    /// Shows what is in a file of checkpoints.
    Inspect(inspect::Options),
    /// Becomes a program that dies with the process that started it.
    #[command(hide = true)]
    Tied(tied::Options),
    /// Between `run-pair` and the namespace: dies with the process that started it.
    #[command(hide = true)]
    Enter {
        /// The process to die with.
        parent: u32,
    },
    /// Inside the namespace, as its first process.
    #[command(hide = true)]
    Inside,
    /// One test inside a namespace of its own, as `test` runs it.
    #[command(hide = true)]
    TestInside(test::InsideOptions),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::RunPair(options) => run_pair::run(*options),
        Command::Client(options) => client::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Bench(options) => bench::run(options),
        Command::Chaos(options) => chaos::run(options),
        Command::Inspect(options) => inspect::run(&options),
        Command::Tied(options) => tied::run(&options),
        Command::Enter { parent } => netns::enter(parent),
        Command::Inside => netns::inside(),
        Command::TestInside(options) => test::run_inside(&options),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! The peers: one static program of Linux's own ways, run on this host and as init of a Linux guest.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use figures::row::Accel;

use super::ear::Ear;
use super::initramfs;
use super::phase::Phase;
use super::told::Word;
use crate::command::{cargo, command, root, run, words};
use crate::events::{self, Tail};
use crate::steps::Steps;
use crate::tied;

/// An explicit target, so that the flags do not reach build scripts.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the program and returns where it lies.
///
/// # Errors
/// The build fails.
pub(super) fn build() -> Result<PathBuf> {
    let directory = root().join("target/peers");
    let mut command = cargo();
    command
        .args([
            "build",
            "-p",
            "peers",
            "--release",
            "--target",
            TARGET,
            "--target-dir",
        ])
        .arg(&directory)
        // The initial file system holds it alone, and no libraries; the guest unpacks it at each boot.
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    run(&mut command)?;
    let program = directory.join(TARGET).join("release/peers");
    std::fs::canonicalize(&program).with_context(|| format!("the build left no {}", program.display()))
}

/// Writes the initial file system with `program` as init below `cache`, and returns where.
///
/// # Errors
/// A file cannot be read or written.
pub(super) fn initramfs(program: &Path, cache: &Path) -> Result<PathBuf> {
    let bytes = std::fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    std::fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let place = cache.join("peers.cpio");
    std::fs::write(&place, initramfs::archive(&bytes))
        .with_context(|| format!("cannot write {}", place.display()))?;
    Ok(place)
}

/// Runs the program on this host.
///
/// # Errors
/// It fails, or takes too long; the message holds the end of its log.
pub(super) fn run_natively(
    program: &Path,
    phase: &Phase,
    steps: &mut Steps,
    tell: &mut dyn FnMut(Word) -> Result<()>,
) -> Result<()> {
    let mut shown = command(&program.to_string_lossy());
    shown.args(&phase.words);
    steps.print(&format!("$ {}", words(&shown)));
    let mut child = tied::command(program)
        .args(&phase.words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the peers")?;
    let (tail, follower) = Tail::follow(child.stderr.take().expect("it is piped"), |_| {});
    let output = child.stdout.take().expect("it is piped");
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || events::lines(output, |line| drop(sender.send(events::parse(line)))));
    let mut ear = Ear::new("peers on this host", Accel::Native, steps, tell);
    let deadline = Instant::now() + phase.limit;
    loop {
        match lines.recv_timeout(Duration::from_millis(200)) {
            Ok(line) => ear.hear(line)?,
            Err(RecvTimeoutError::Timeout) => ear.tick(),
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            bail!(
                "the peers took longer than {} s\n{}",
                phase.limit.as_secs(),
                tail.text()
            );
        }
    }
    let status = child.wait()?;
    let _ = follower.join();
    ear.note();
    if !status.success() {
        bail!("the peers failed: {status}\n{}", tail.text());
    }
    Ok(())
}

//! Many clients of one pair at once, and clients without connections.

use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};

use super::inside::{Ground, READY_LIMIT, run_beside, take_over};
use crate::command::root;
use crate::guest_build::{self, Variant};
use crate::host::PYTHON;
use crate::pair::Pair;

/// What a client may count on: what was answered so long before the master's death is not lost.
const PROMISE: Duration = Duration::from_millis(100);

fn crowd(ground: &Ground, arguments: &str) -> Result<Command> {
    let service = ground.service()?;
    let mut python = Command::new(PYTHON);
    python
        .arg(root().join("xtask/tests/crowd_client.py"))
        .arg(service.ip().to_string())
        .arg(service.port().to_string());
    python.args(arguments.split_whitespace());
    Ok(python)
}

fn ready_pair(ground: &Ground) -> Result<Pair> {
    let image = guest_build::image("kv", Variant::Usual);
    let mut pair = ground.pair([image.clone(), image], None)?;
    pair.wait_until_ready(READY_LIMIT)?;
    Ok(pair)
}

/// A thousand connections open at once, each of which gets its own numbers.
pub(super) fn thousand(ground: &Ground) -> Result<String> {
    let ground = ground.patient()?;
    let mut pair = ready_pair(&ground)?;
    let said = run_beside(&mut pair, crowd(&ground, "tcp 1000 5")?, |_| {})?;
    if !pair.takeovers.is_empty() {
        bail!("somebody took over from a living master");
    }
    let status = pair.nodes[0].status;
    Ok(format!(
        "{}; {} checkpoints, pause p50 {} p99 {} max {} µs",
        said.trim(),
        status.taken,
        status.pause_p50_us,
        status.pause_p99_us,
        status.pause_max_us
    ))
}

/// Datagrams are answered one by one, by the master and by its follower.
pub(super) fn datagrams(ground: &Ground) -> Result<String> {
    let mut pair = ready_pair(ground)?;
    let said = run_beside(&mut pair, crowd(ground, "udp 1 200")?, |_| {})?;
    // Not a wait for something to settle: this time is what is promised.
    thread::sleep(PROMISE);
    let took = take_over(&mut pair)?;
    run_beside(&mut pair, crowd(ground, "udp 201 100")?, |_| {})?;
    Ok(format!("{}; {took}", said.trim()))
}

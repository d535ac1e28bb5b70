//! Many clients of one pair at once, and clients without connections.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::inside::{Ground, run_beside, take_over};
use crate::command::{root, show};
use crate::host::PYTHON;
use crate::load::beside;
use crate::pair::{Happening, Pair, in_a_line};

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

/// A thousand connections open at once, each of which gets its own numbers, from whichever machine serves.
pub(super) fn thousand(ground: &Ground) -> Result<String> {
    /// Longest that opening them may take, and longest that the client may take in all.
    const LIMIT: Duration = Duration::from_secs(60);
    let mut pair = ground.ready_pair()?;
    let mut client = crowd(ground, "tcp 1000 6")?;
    show(&client);
    client.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = client.spawn()?;
    let (sender, lines) = mpsc::channel();
    let source = client.stdout.take().context("the client has a standard output")?;
    let reader = thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            // Whoever waited may have given up.
            let _ = sender.send(line);
        }
    });
    let print = |pair: &Pair, happening: &Happening| {
        if let Some(line) = in_a_line(pair, happening) {
            println!("{line}");
        }
    };
    let opened = beside(&mut pair, "a thousand open connections", LIMIT, print, |_| {
        Ok(match lines.try_recv() {
            Ok(line) => Some(line == "open"),
            Err(TryRecvError::Disconnected) => Some(false),
            Err(TryRecvError::Empty) => None,
        })
    })?;
    let took = match opened {
        true => take_over(&mut pair)?,
        false => String::new(),
    };
    let status = beside(&mut pair, "the client's end", LIMIT, print, |_| {
        Ok(client.try_wait()?)
    })?;
    if !status.success() {
        let mut errors = String::new();
        if let Some(mut source) = client.stderr.take() {
            source.read_to_string(&mut errors)?;
        }
        return Err(pair.failure(&format!("the thousand clients failed: {errors}")));
    }
    drop(reader.join());
    Ok(format!("{}; {took}", lines.iter().collect::<Vec<_>>().join("; ")))
}

/// Datagrams are answered one by one, by the master and by its follower, which knows of the last that was answered.
pub(super) fn datagrams(ground: &Ground) -> Result<String> {
    let mut pair = ground.ready_pair()?;
    let said = run_beside(&mut pair, crowd(ground, "udp 1 200")?, |_| {})?;
    let took = take_over(&mut pair)?;
    run_beside(&mut pair, crowd(ground, "udp 201 100")?, |_| {})?;
    Ok(format!("{}; {took}", said.trim()))
}

//! SQLite as a pair: the long script, and what was committed outlives the master.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bench_plan::statistics::median;
use hs_core::event::Event;

use super::inside::{Ground, READY_LIMIT, wait_for_event};
use crate::command::root;
use crate::guest_build::{self, Variant};
use crate::pair::{Pair, in_a_line};
use crate::sqlite::{self, APP, Shell};

/// How long the whole script may take.
const SCRIPT_LIMIT: Duration = Duration::from_secs(100);

/// After so many answered statements of the workload the master is killed: somewhere in the middle of the next ones.
const KILLED_AFTER: u64 = 150;
/// Rows of a transaction of the workload.
const ROWS: u64 = 3;

fn ready_pair(ground: &Ground) -> Result<Pair> {
    let image = guest_build::image(APP, Variant::Usual);
    let mut pair = ground.pair_of([image.clone(), image], &ground.plan.app(APP)?.words, None)?;
    pair.wait_until_ready(READY_LIMIT)?;
    Ok(pair)
}

/// The whole script at once, as `nc` would send it; all that is said must be what the same SQLite said on the host.
pub(super) fn script(ground: &Ground) -> Result<String> {
    let mut pair = ready_pair(ground)?;
    let tests = root().join("guest-apps/sqlite/tests");
    let sql = std::fs::read(tests.join("script.sql"))?;
    let expected = std::fs::read_to_string(tests.join("script.out"))?;
    let mut stream = TcpStream::connect(ground.service_of(APP)?)?;
    stream.set_read_timeout(Some(SCRIPT_LIMIT))?;
    let mut writer = stream.try_clone()?;
    let begun = Instant::now();
    let sender = thread::spawn(move || writer.write_all(&sql));
    let mut said = Vec::new();
    stream
        .read_to_end(&mut said)
        .context("the script did not come to its end")?;
    let took = begun.elapsed();
    drop(sender);
    let said = String::from_utf8_lossy(&said);
    let difference = said
        .lines()
        .zip(expected.lines())
        .enumerate()
        .find(|(_, (said, expected))| said != expected);
    if let Some((line, (said, expected))) = difference {
        return Err(pair.failure(&format!(
            "line {}: the guest said\n{said}\nand the host\n{expected}",
            line + 1
        )));
    }
    ensure!(
        said.len() == expected.len(),
        "the guest said {} bytes, the host {}",
        said.len(),
        expected.len()
    );
    // Nothing may have gone wrong beside it.
    while let Some(happening) = pair.next(Instant::now()) {
        if let Some(line) = in_a_line(&pair, &happening) {
            println!("{line}");
        }
    }
    ensure!(pair.is_ready(), "the pair did not outlive the script");
    Ok(format!(
        "{} lines equal, in {:.1} s",
        expected.lines().count(),
        took.as_secs_f64()
    ))
}

/// Transactions one after another until the connection breaks; counts those that were answered.
fn work(service: SocketAddr, answered: &AtomicU64) -> Result<()> {
    let mut shell = Shell::connect(service)?;
    for number in 1.. {
        let rows: Vec<String> = (0..ROWS)
            .map(|row| format!("({number}, {row}, '{}')", "x".repeat(1 + number as usize % 200)))
            .collect();
        let statement = match number % 3 {
            0 => format!("INSERT INTO kept VALUES {};", rows.join(", ")),
            _ => format!(
                "BEGIN; {} COMMIT;",
                rows.iter()
                    .map(|row| format!("INSERT INTO kept VALUES {row};"))
                    .collect::<Vec<_>>()
                    .join(" ")
            ),
        };
        let said = shell.ask(&statement)?;
        ensure!(said.is_empty(), "transaction {number} was refused: {said}");
        answered.store(number, Ordering::SeqCst);
    }
    Ok(())
}

/// The master killed while a client commits: the database is whole, each answered commit is there, and no half of another.
pub(super) fn killed(ground: &Ground) -> Result<String> {
    let mut pair = ready_pair(ground)?;
    let service = ground.service_of(APP)?;
    let mut shell = Shell::connect(service)?;
    shell.expect("CREATE TABLE kept (number, row, text, UNIQUE (number, row));", "")?;
    // Left open by a client that the takeover cuts off.
    shell.expect("BEGIN; CREATE TABLE open (x);", "")?;
    drop(shell);
    let mut idle = Shell::connect(service)?;
    idle.expect("BEGIN; SELECT count(*) FROM kept;", "0")?;
    idle.expect("COMMIT;", "")?;

    let answered = Arc::new(AtomicU64::new(0));
    let worker = {
        let answered = Arc::clone(&answered);
        thread::spawn(move || work(service, &answered))
    };
    let deadline = Instant::now() + SCRIPT_LIMIT;
    while answered.load(Ordering::SeqCst) < KILLED_AFTER {
        ensure!(!worker.is_finished(), "the workload has ended before the kill");
        ensure!(Instant::now() < deadline, "the workload is too slow");
        pair.next(Instant::now() + Duration::from_millis(1));
    }
    let Some(master) = pair.master() else {
        bail!("there is no master to kill")
    };
    pair.kill(master);
    wait_for_event(&mut pair, "the takeover", Duration::from_secs(10), |_, event| {
        matches!(event, Event::Takeover { .. })
    })?;
    let broken = worker
        .join()
        .map_err(|_| anyhow::anyhow!("the workload panicked"))?;
    ensure!(broken.is_err(), "the workload did not notice the kill");
    let answered = answered.load(Ordering::SeqCst);

    let mut shell = Shell::connect(service)?;
    shell.expect("PRAGMA integrity_check;", "ok")?;
    let lost = format!("SELECT {answered} * {ROWS} - count(*) FROM kept WHERE number <= {answered};");
    shell.expect(&lost, "0")?;
    shell.expect(
        &format!("SELECT count(*) FROM (SELECT 1 FROM kept GROUP BY number HAVING count(*) <> {ROWS});"),
        "0",
    )?;
    shell.expect(".tables", "kept")?;
    // The new master is one in full: it takes writes.
    shell.expect(
        "BEGIN; INSERT INTO kept VALUES (0, 0, 'new'); COMMIT; SELECT text FROM kept WHERE number = 0;",
        "new",
    )?;
    let kept = shell.ask("SELECT count(*) / 3 FROM kept;")?;
    Ok(format!("{answered} commits answered, {} kept", kept.trim()))
}

/// How often the bulk insert is timed.
const BULK_RUNS: usize = 3;

/// 10,000 rows in one transaction, with a spare and then without one: what its checkpoint adds is told, not judged, for the host
/// may be busy. The benchmark judges it.
pub(super) fn bulk(ground: &Ground) -> Result<String> {
    let mut pair = ready_pair(ground)?;
    let service = ground.service_of(APP)?;
    let times = sqlite::bulk(&mut pair, service, BULK_RUNS, |pair, happening| {
        if let Some(line) = in_a_line(pair, happening) {
            println!("{line}");
        }
    })?;
    let (with_spare_s, alone_s) = (median(&times.with_spare_s), median(&times.alone_s));
    Ok(format!(
        "{with_spare_s:.2} s with a spare, {alone_s:.2} s without: {:.2} times",
        with_spare_s / alone_s
    ))
}

//! SQLite as a pair: the long script, and what was committed outlives the master.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hs_core::event::Event;

use super::inside::{Ground, READY_LIMIT, wait_for_event};
use crate::command::root;
use crate::guest_build::{self, Variant};
use crate::pair::{Pair, in_a_line};

const APP: &str = "sqlite";
const PROMPT: &str = "sqlite> ";
/// How long one answer, and how long the whole script, may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
const SCRIPT_LIMIT: Duration = Duration::from_secs(100);

/// After so many answered statements of the workload the master is killed: somewhere in the middle of the next ones.
const KILLED_AFTER: u64 = 150;
/// Rows of a transaction of the workload.
const ROWS: u64 = 3;

/// A client at the prompt.
struct Shell {
    stream: TcpStream,
}

impl Shell {
    /// Connects, trying again for a while: a takeover may be under way.
    fn connect(service: SocketAddr) -> Result<Self> {
        let deadline = Instant::now() + ANSWER_LIMIT;
        loop {
            let shell = TcpStream::connect_timeout(&service, Duration::from_secs(1))
                .map_err(anyhow::Error::from)
                .and_then(|stream| {
                    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
                    stream.set_nodelay(true)?;
                    let mut shell = Self { stream };
                    shell.answer()?;
                    shell.ask(".mode list")?;
                    shell.ask(".headers off")?;
                    Ok(shell)
                });
            match shell {
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(20)),
                Ok(shell) => return Ok(shell),
            }
        }
    }

    /// What comes up to the next prompt.
    fn answer(&mut self) -> Result<String> {
        let mut said = Vec::new();
        let mut piece = [0; 4096];
        while !said.ends_with(PROMPT.as_bytes()) {
            let count = self.stream.read(&mut piece)?;
            ensure!(count > 0, "the service has hung up");
            said.extend_from_slice(&piece[..count]);
        }
        said.truncate(said.len() - PROMPT.len());
        Ok(String::from_utf8(said)?)
    }

    /// One line, and what the shell says to it.
    fn ask(&mut self, line: &str) -> Result<String> {
        self.stream.write_all(format!("{line}\n").as_bytes())?;
        self.answer()
    }

    /// Asks, and wants to be told exactly this.
    fn expect(&mut self, line: &str, expected: &str) -> Result<()> {
        let said = self.ask(line)?;
        ensure!(
            said.trim_end() == expected,
            "{line}\nwas answered with\n{said}and not with\n{expected}"
        );
        Ok(())
    }
}

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

/// Rows of the bulk insert, and how often it is timed.
const BULK_ROWS: usize = 10_000;
const BULK_RUNS: usize = 3;

/// Inserts [`BULK_ROWS`] rows in one transaction, a statement each, sent as fast as they are taken; returns the time.
fn bulk_insert(shell: &mut Shell) -> Result<Duration> {
    shell.expect(
        "DROP TABLE IF EXISTS bulk; CREATE TABLE bulk (id INTEGER PRIMARY KEY, text, number);",
        "",
    )?;
    let mut sql = String::from("BEGIN;\n");
    for row in 0..BULK_ROWS {
        sql += &format!("INSERT INTO bulk VALUES ({row}, 'the text of row {row}', {row}.5);\n");
    }
    sql += "COMMIT;\n";
    let mut writer = shell.stream.try_clone()?;
    let begun = Instant::now();
    let sender = thread::spawn(move || writer.write_all(sql.as_bytes()));
    // Prompts and nothing else, one for each line.
    let mut said = vec![0; (BULK_ROWS + 2) * PROMPT.len()];
    shell.stream.read_exact(&mut said)?;
    let took = begun.elapsed();
    ensure!(
        said.chunks(PROMPT.len())
            .all(|prompt| prompt == PROMPT.as_bytes()),
        "a row was refused"
    );
    sender
        .join()
        .map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    shell.expect("SELECT count(*) FROM bulk;", &BULK_ROWS.to_string())?;
    Ok(took)
}

fn median_of_bulk_inserts(shell: &mut Shell) -> Result<Duration> {
    let mut times = (0..BULK_RUNS)
        .map(|_| bulk_insert(shell))
        .collect::<Result<Vec<_>>>()?;
    times.sort_unstable();
    Ok(times[BULK_RUNS / 2])
}

/// 10,000 rows in one transaction, with a spare and then without one: what its checkpoint adds is told, not judged, for the host
/// may be busy.
pub(super) fn bulk(ground: &Ground) -> Result<String> {
    let mut pair = ready_pair(ground)?;
    let mut shell = Shell::connect(ground.service_of(APP)?)?;
    let with_spare = median_of_bulk_inserts(&mut shell)?;
    let Some(spare) = pair.spare() else {
        bail!("there is no spare to kill")
    };
    pair.kill(spare);
    wait_for_event(
        &mut pair,
        "the master's word that the spare is gone",
        ANSWER_LIMIT,
        |index, event| index != spare && matches!(event, Event::PeerLost { .. }),
    )?;
    let alone = median_of_bulk_inserts(&mut shell)?;
    Ok(format!(
        "{:.2} s with a spare, {:.2} s without: {:.2} times",
        with_spare.as_secs_f64(),
        alone.as_secs_f64(),
        with_spare.as_secs_f64() / alone.as_secs_f64()
    ))
}

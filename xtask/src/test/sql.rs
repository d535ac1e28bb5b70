//! SQLite as a pair: the long script, and what was committed outlives the master.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use bench_plan::statistics::median;

use super::inside::{Ground, READY_LIMIT, take_over};
use crate::command::root;
use crate::guest_build::{self, Variant};
use crate::pair::{Pair, in_a_line};
use crate::sqlite::{self, APP, Shell};

/// How long the whole script may take.
const SCRIPT_LIMIT: Duration = Duration::from_secs(100);

/// After so many answered commits of the workload the master is killed, somewhere in the middle of the next ones, and after as many
/// more it is enough.
const KILLED_AFTER: u64 = 150;
/// Rows of a transaction of the workload.
const ROWS: u64 = 3;
/// Rows of the result that is read by halves: more than all buffers on its way hold.
const STREAMED: u64 = 300_000;

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

/// What a workload is told, and tells.
#[derive(Default)]
struct Progress {
    /// Commits that were answered.
    answered: AtomicU64,
    /// It is to end after the next.
    enough: AtomicBool,
}

/// Transactions one after another on one connection, until there are enough: those of a statement, of a line, and of as many lines
/// as statements.
fn work(service: SocketAddr, progress: &Progress) -> Result<()> {
    let mut shell = Shell::connect(service)?;
    for number in 1.. {
        let rows: Vec<String> = (0..ROWS)
            .map(|row| format!("({number}, {row}, '{}')", "x".repeat(1 + number as usize % 200)))
            .collect();
        let inserts = rows.iter().map(|row| format!("INSERT INTO kept VALUES {row};"));
        let lines = match number % 3 {
            0 => vec![format!("INSERT INTO kept VALUES {};", rows.join(", "))],
            1 => vec![format!(
                "BEGIN; {} COMMIT;",
                inserts.collect::<Vec<_>>().join(" ")
            )],
            _ => ["BEGIN;".to_owned()]
                .into_iter()
                .chain(inserts)
                .chain(["COMMIT;".to_owned()])
                .collect(),
        };
        for line in lines {
            let said = shell.ask(&line)?;
            ensure!(
                said.is_empty(),
                "transaction {number}, {line} was refused: {said}"
            );
        }
        progress.answered.store(number, Ordering::SeqCst);
        if progress.enough.load(Ordering::SeqCst) {
            break;
        }
    }
    Ok(())
}

/// A workload in a thread of its own.
struct Workload {
    thread: thread::JoinHandle<Result<()>>,
    progress: Arc<Progress>,
}

impl Workload {
    fn begin(service: SocketAddr) -> Self {
        let progress = Arc::new(Progress::default());
        let its = Arc::clone(&progress);
        Self {
            thread: thread::spawn(move || work(service, &its)),
            progress,
        }
    }

    /// Waits, with the `pair` going on, until so many commits were answered.
    fn wait_for(&self, pair: &mut Pair, answered: u64) -> Result<()> {
        let deadline = Instant::now() + SCRIPT_LIMIT;
        while self.progress.answered.load(Ordering::SeqCst) < answered && !self.thread.is_finished() {
            ensure!(Instant::now() < deadline, "the workload is too slow");
            pair.next(Instant::now() + Duration::from_millis(1));
        }
        Ok(())
    }

    /// Has it end, and returns how many commits were answered.
    fn end(self) -> Result<u64> {
        self.progress.enough.store(true, Ordering::SeqCst);
        self.thread
            .join()
            .map_err(|_| anyhow!("the workload panicked"))?
            .context("the workload has noticed the kill")?;
        Ok(self.progress.answered.load(Ordering::SeqCst))
    }
}

/// The master killed while a client commits and others are in the middle of something: nobody notices but by the wait.
pub(super) fn killed(ground: &Ground) -> Result<String> {
    let commits = killed_in_workload(ground)?;
    let took = killed_in_transaction(ground)?;
    Ok(format!("{commits}; with open transactions {took}"))
}

/// A workload goes on through the kill on its connection, and all its commits are there once.
fn killed_in_workload(ground: &Ground) -> Result<String> {
    let mut pair = ready_pair(ground)?;
    let service = ground.service_of(APP)?;
    let mut shell = Shell::connect(service)?;
    shell.expect("CREATE TABLE kept (number, row, text, UNIQUE (number, row));", "")?;
    let workload = Workload::begin(service);
    workload.wait_for(&mut pair, KILLED_AFTER)?;
    let took = take_over(&mut pair)?;
    let before = workload.progress.answered.load(Ordering::SeqCst);
    workload.wait_for(&mut pair, before + KILLED_AFTER)?;
    let answered = workload.end()?;

    // On the connection from before the kill, too.
    shell.expect("PRAGMA integrity_check;", "ok")?;
    shell.expect(
        "SELECT count(*), count(DISTINCT number), min(number), max(number) FROM kept;",
        &format!("{}|{answered}|1|{answered}", answered * ROWS),
    )?;
    shell.expect(
        &format!("SELECT count(*) FROM (SELECT 1 FROM kept GROUP BY number HAVING count(*) <> {ROWS});"),
        "0",
    )?;
    pair.end();
    Ok(format!("{answered} commits on one connection, {took}"))
}

/// An idle client's open transaction and another's half-read result go on on the next machine; what a client had open that leaves
/// is rolled back there.
fn killed_in_transaction(ground: &Ground) -> Result<String> {
    let mut pair = ready_pair(ground)?;
    let service = ground.service_of(APP)?;
    let mut idle = Shell::connect(service)?;
    idle.expect("CREATE TABLE kept (text); INSERT INTO kept VALUES ('first');", "")?;
    let mut reader = Shell::connect(service)?;
    reader.begin(&format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {STREAMED}) SELECT i FROM n;"
    ))?;
    reader.expect_numbers(1..=STREAMED / 100)?;
    idle.expect("BEGIN; INSERT INTO kept VALUES ('open');", "")?;
    let took = take_over(&mut pair)?;

    let mut other = Shell::connect(service)?;
    other.expect("SELECT text FROM kept;", "first")?;
    other.expect(
        "INSERT INTO kept VALUES ('other');",
        "Runtime error: database is locked (5)",
    )?;
    idle.expect("SELECT count(*) FROM kept; COMMIT;", "2")?;
    other.expect(
        "INSERT INTO kept VALUES ('other'); SELECT group_concat(text) FROM kept;",
        "first,open,other",
    )?;
    reader.expect_numbers(STREAMED / 100 + 1..=STREAMED)?;
    reader.expect_prompt()?;
    reader.expect("BEGIN; DELETE FROM kept; SELECT count(*) FROM kept;", "0")?;
    drop(reader);
    // It is rolled back when the service hears of the end, which may come after the question.
    let deadline = Instant::now() + Duration::from_secs(10);
    while other
        .ask("DELETE FROM kept WHERE text = 'other';")?
        .contains("locked")
    {
        ensure!(Instant::now() < deadline, "a client that left holds the lock");
    }
    other.expect("SELECT group_concat(text) FROM kept;", "first,open")?;
    other.expect("PRAGMA integrity_check;", "ok")?;
    pair.end();
    Ok(took)
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

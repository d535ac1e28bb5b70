//! A client of the `sqlite` guest: its shell's prompt, and a transaction that is timed.
//!
//! For the tests and for the benchmark alike.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use hs_core::event::Event;

use crate::events::Line;
use crate::pair::{Happening, Pair};
use crate::qemu::Sign;

/// The guest.
pub(crate) const APP: &str = "sqlite";
/// How long one answer may take.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(20);
const PROMPT: &str = "sqlite> ";

/// A client at the prompt.
pub(crate) struct Shell {
    stream: TcpStream,
}

impl Shell {
    /// Connects, trying again for a while: a takeover may be under way.
    ///
    /// # Errors
    /// Nobody answers for [`ANSWER_LIMIT`].
    pub(crate) fn connect(service: SocketAddr) -> Result<Self> {
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

    /// Sends one line, and reads nothing yet.
    ///
    /// # Errors
    /// The connection breaks.
    pub(crate) fn begin(&mut self, line: &str) -> Result<()> {
        Ok(self.stream.write_all(format!("{line}\n").as_bytes())?)
    }

    /// Reads these numbers, each in a row of its own, and no more.
    ///
    /// # Errors
    /// Something else comes, or nothing does.
    pub(crate) fn expect_numbers(&mut self, numbers: RangeInclusive<u64>) -> Result<()> {
        let expected: String = numbers.map(|number| format!("{number}\n")).collect();
        self.expect_bytes(expected.as_bytes())
    }

    /// Reads the prompt.
    ///
    /// # Errors
    /// Something else comes, or nothing does.
    pub(crate) fn expect_prompt(&mut self) -> Result<()> {
        self.expect_bytes(PROMPT.as_bytes())
    }

    fn expect_bytes(&mut self, expected: &[u8]) -> Result<()> {
        let mut said = vec![0; expected.len()];
        self.stream.read_exact(&mut said)?;
        let differs = said
            .iter()
            .zip(expected)
            .position(|(said, expected)| said != expected);
        ensure!(
            differs.is_none(),
            "of {} bytes expected the one at {} is another",
            expected.len(),
            differs.unwrap_or_default()
        );
        Ok(())
    }

    /// One line, and what the shell says to it.
    ///
    /// # Errors
    /// The connection breaks, or no answer comes.
    pub(crate) fn ask(&mut self, line: &str) -> Result<String> {
        self.begin(line)?;
        self.answer()
    }

    /// Asks, and wants to be told exactly this.
    ///
    /// # Errors
    /// As [`ask`](Self::ask); or something else is said.
    pub(crate) fn expect(&mut self, line: &str, expected: &str) -> Result<()> {
        let said = self.ask(line)?;
        ensure!(
            said.trim_end() == expected,
            "{line}\nwas answered with\n{said}and not with\n{expected}"
        );
        Ok(())
    }
}

/// Rows of the transaction that is timed, as the claim of its speed has it.
pub(crate) const BULK_ROWS: usize = 10_000;

/// How long transactions of [`BULK_ROWS`] rows took, one after the other, in seconds.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Bulk {
    /// While each commit was answered when the spare had it.
    pub(crate) with_spare_s: Vec<f64>,
    /// By the same master after the spare's death: without checkpoints.
    pub(crate) alone_s: Vec<f64>,
}

/// Times `runs` transactions on the ready `pair`, kills the spare, and times as many again. The first of each is not counted: the
/// memory grows in it. `tell` hears whatever happens meanwhile.
///
/// # Errors
/// The service fails, or there is no spare to kill.
pub(crate) fn bulk(
    pair: &mut Pair,
    service: SocketAddr,
    runs: usize,
    mut tell: impl FnMut(&Pair, &Happening),
) -> Result<Bulk> {
    let mut shell = Shell::connect(service)?;
    let with_spare_s = bulk_inserts(&mut shell, runs)?;
    let Some(spare) = pair.spare() else {
        bail!("there is no spare to kill")
    };
    pair.kill(spare);
    let what = "the master's word that the spare is gone";
    pair.wait_for(what, ANSWER_LIMIT, |pair, happening| {
        tell(pair, happening);
        match happening {
            Happening::Guest(index, Sign::Line(Line::Event(Event::PeerLost { .. }), _))
                if *index != spare =>
            {
                Some(())
            }
            _ => None,
        }
    })?;
    let alone_s = bulk_inserts(&mut shell, runs)?;
    Ok(Bulk {
        with_spare_s,
        alone_s,
    })
}

fn bulk_inserts(shell: &mut Shell, runs: usize) -> Result<Vec<f64>> {
    bulk_insert(shell)?;
    let times = (0..runs).map(|_| Ok(bulk_insert(shell)?.as_secs_f64()));
    times.collect()
}

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
    sender.join().map_err(|_| anyhow!("the sender panicked"))??;
    shell.expect("SELECT count(*) FROM bulk;", &BULK_ROWS.to_string())?;
    Ok(took)
}

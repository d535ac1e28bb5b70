//! Clients at work while a pair's machine dies: the program `xtask/tests/failover_client.py`, held in hand.
//!
//! It says when it is at work, is told when the master was killed and when it is enough, and says at its end what it met: see its
//! own first lines.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;

use crate::command::{bare_words, root, show};
use crate::events::Tail;
use crate::host::PYTHON;
use crate::pair::{Happening, Pair};
use crate::qemu::Sign;

/// What clients met.
#[derive(Deserialize, Clone, PartialEq, Debug, Default)]
pub(crate) struct Findings {
    /// Connections that broke.
    pub(crate) broken: u64,
    /// Replies that never came, though later ones did.
    pub(crate) lost: u64,
    /// Replies that came twice, or were to a request that had been run before.
    pub(crate) duplicated: u64,
    /// Replies that came after later ones.
    pub(crate) reordered: u64,
    /// Replies and contents that are not what they should be.
    pub(crate) wrong: u64,
    /// Connections that did not end in time.
    pub(crate) hung: u64,
    /// Some of all that, in words.
    pub(crate) violations: Vec<String>,
    /// Numbered replies that were checked.
    #[serde(default)]
    pub(crate) replies: u64,
    /// For each connection with numbered replies the time from the kill to the reply that ended its longest silence, if it was told
    /// of a kill.
    #[serde(default)]
    pub(crate) pauses_ms: Vec<Option<f64>>,
}

impl Findings {
    /// Whether all was as it should be.
    pub(crate) fn is_clean(&self) -> bool {
        self.broken + self.lost + self.duplicated + self.reordered + self.wrong + self.hung == 0
    }
}

/// Clients at work. Dropping them ends them.
pub(crate) struct Load {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    newest: String,
    errors: Tail,
    said: String,
    ready: bool,
}

impl Load {
    /// Starts clients of `service`, told `arguments`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(crate) fn start(service: SocketAddr, arguments: &str) -> Result<Load> {
        let mut command = Command::new(PYTHON);
        command
            .arg(root().join("xtask/tests/failover_client.py"))
            .arg(service.ip().to_string())
            .arg(service.port().to_string())
            .args(arguments.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        show(&command);
        let said = bare_words(&command);
        let mut child = command.spawn().with_context(|| format!("cannot start {said}"))?;
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let (errors, _) = Tail::follow(child.stderr.take().expect("it is piped"), |_| {});
        Ok(Load {
            input: child.stdin.take(),
            child,
            lines,
            newest: String::new(),
            errors,
            said,
            ready: false,
        })
    }

    /// Whether all its connections are at work.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn is_ready(&mut self) -> Result<bool> {
        self.read();
        if !self.ready
            && let Some(status) = self.child.try_wait()?
        {
            bail!(
                "{} ended before it was at work: {status}\n{}",
                self.said,
                self.errors.text()
            );
        }
        Ok(self.ready)
    }

    fn read(&mut self) -> bool {
        loop {
            match self.lines.try_recv() {
                Ok(line) if line == "ready" => self.ready = true,
                Ok(line) => self.newest = line,
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Tells it that the master was killed at `at`.
    pub(crate) fn tell_killed(&mut self, at: Instant) {
        let now = clock_gettime(ClockId::Monotonic);
        let now = Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0));
        let at = now.saturating_sub(at.elapsed());
        self.tell(&format!("killed {:.6}\n", at.as_secs_f64()));
    }

    /// Tells it that it is enough.
    pub(crate) fn stop(&mut self) {
        self.tell("stop\n");
    }

    fn tell(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            // If it has ended, its findings say why.
            let _ = input.write_all(line.as_bytes()).and_then(|()| input.flush());
        }
    }

    /// What it met, once it has ended.
    ///
    /// # Errors
    /// It ended without a word on that.
    pub(crate) fn ended(&mut self) -> Result<Option<Findings>> {
        let more = self.read();
        if more {
            return Ok(None);
        }
        let status = self.child.wait()?;
        let findings = serde_json::from_str(&self.newest);
        findings.map(Some).with_context(|| {
            format!(
                "{} ended with {status} and no findings\n{}",
                self.said,
                self.errors.text()
            )
        })
    }
}

/// Takes what happens to `pair` until `done` finds what it looks for, which it is also asked when nothing happens.
///
/// # Errors
/// `limit` passes, a node ends that was not to, a signal says stop, or `done` fails.
pub(crate) fn beside<T>(
    pair: &mut Pair,
    what: &str,
    limit: Duration,
    mut each: impl FnMut(&Pair, &Happening),
    mut done: impl FnMut(&mut Pair) -> Result<Option<T>>,
) -> Result<T> {
    const STEP: Duration = Duration::from_millis(5);
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = done(pair)? {
            return Ok(found);
        }
        if let Some(happening) = pair.next(Instant::now() + STEP) {
            each(pair, &happening);
            match happening {
                Happening::Guest(index, Sign::Ended(_)) if !pair.nodes[index].may_end => {
                    let why = format!("{what} did not come: {}", pair.nodes[index].obituary());
                    return Err(pair.failure(&why));
                }
                Happening::Stop => bail!("stopped by a signal"),
                _ => {}
            }
        }
        if Instant::now() >= deadline {
            return Err(pair.failure(&format!("{what} did not come within {} s", limit.as_secs())));
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    /// A server of one connection that answers each line as `reply` does, until that has no more to say; then it closes.
    fn server(mut reply: impl FnMut(&str) -> Option<String> + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            for line in BufReader::new(stream.try_clone().unwrap())
                .lines()
                .map_while(Result::ok)
            {
                let Some(reply) = reply(&line) else { return };
                (&stream).write_all(reply.as_bytes()).unwrap();
            }
        });
        address
    }

    fn end(mut load: Load) -> Findings {
        loop {
            if let Some(findings) = load.ended().unwrap() {
                return findings;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn findings(replies: &'static [&'static str]) -> Findings {
        let mut replies = replies.iter();
        let next = move |_: &str| replies.next().map(|reply| format!("{reply}\r\n"));
        end(Load::start(server(next), "incr").unwrap())
    }

    /// What clients find that are at work and then told to stop.
    fn findings_at_the_end(server: SocketAddr, arguments: &str) -> Findings {
        let mut load = Load::start(server, arguments).unwrap();
        while !load.is_ready().unwrap() {
            thread::sleep(Duration::from_millis(5));
        }
        load.stop();
        end(load)
    }

    /// The checker can fail, and calls things by their names.
    #[test]
    fn clients_tell_lost_replies_from_doubled_and_from_those_out_of_order() {
        let lost = findings(&[":1", ":2", ":4", ":5"]);
        assert_eq!(
            (lost.lost, lost.duplicated, lost.reordered),
            (1, 0, 0),
            "{lost:?}"
        );
        let doubled = findings(&[":1", ":2", ":2", ":3"]);
        assert_eq!((doubled.lost, doubled.duplicated), (0, 1), "{doubled:?}");
        let reordered = findings(&[":1", ":3", ":2", ":4"]);
        assert_eq!((reordered.lost, reordered.reordered), (0, 1), "{reordered:?}");
        let wrong = findings(&[":1", "-ERR no"]);
        assert_eq!(wrong.wrong, 1, "{wrong:?}");
        // Each of these servers closed in the middle.
        for findings in [lost, doubled, reordered, wrong] {
            assert_eq!(findings.broken, 1);
            assert!(
                !findings.is_clean() && findings.violations.len() >= 2,
                "{findings:?}"
            );
        }
    }

    /// Counts INCRs, and says `more` after the answer to what is asked last.
    fn counting(more: &'static str) -> SocketAddr {
        let mut count = 0;
        server(move |line| {
            if line.starts_with("INCR") {
                count += 1;
                return Some(format!(":{count}\r\n"));
            }
            let count = count.to_string();
            Some(format!("${}\r\n{count}\r\n{more}", count.len()))
        })
    }

    #[test]
    fn clients_hear_what_comes_after_the_last_reply() {
        let clean = findings_at_the_end(counting(""), "incr");
        assert!(clean.is_clean() && clean.replies > 0, "{clean:?}");
        let doubled = findings_at_the_end(counting(":1\r\n"), "incr");
        assert_eq!((doubled.wrong, doubled.broken), (1, 0), "{doubled:?}");
    }

    #[test]
    fn clients_tell_a_datagram_that_is_answered_twice() {
        for times in [1, 2] {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = socket.local_addr().unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            thread::spawn(move || {
                let mut bytes = [0; 100];
                while let Ok((len, from)) = socket.recv_from(&mut bytes) {
                    let tag = String::from_utf8_lossy(&bytes["ECHO ".len()..len]);
                    let reply = format!("$5\r\n{tag}");
                    for _ in 0..times {
                        let _ = socket.send_to(reply.as_bytes(), from);
                    }
                }
            });
            let findings = findings_at_the_end(address, "udp");
            assert_eq!(findings.is_clean(), times == 1, "{findings:?}");
            assert_eq!(findings.duplicated > 0, times == 2, "{findings:?}");
        }
    }
}

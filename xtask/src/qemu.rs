//! One guest: a QEMU process, its log and events on pipes, its QMP on a socket. What it is made of is a [`recipe`], what its end means
//! stands in [`ending`].
//!
//! ```text
//!  stdin   QMP: one end of a socket pair      COM1 -> stderr: the guest's log, and QEMU's own words
//!  COM2 -> stdout: the event channel          isa-debug-exit -> exit status
//!  COM3 <-> a socket pair: the console, if it has one
//! ```
//! Pipes that are inherited and not files or sockets by name: nothing can stay behind.

mod ending;
mod recipe;

use std::io::{BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use qapi::{ExecuteError, Qmp, Stream, qmp};
use rustix::process::{Pid, PidfdFlags, Signal, WaitIdStatus};

pub(crate) use self::ending::{exit_code, in_words};
use self::recipe::command_for;
pub(crate) use self::recipe::{Boot, Card, Plug, Recipe, clock_s, date_time};
use crate::command::show;
use crate::events::{self, Line, Tail};
use crate::profile::Machine;
use crate::watch::watch;

/// What a guest lets the host know.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Sign {
    /// A line on its event channel, read at this moment.
    Line(Line, Instant),
    /// It shows these bytes on its console, as they came.
    Console(Vec<u8>),
    /// Its process has ended, and all that it wrote has been read.
    Ended(ExitStatus),
}

/// A running guest.
pub(crate) struct Guest {
    process: OwnedFd,
    pid: u32,
    qmp: Qmp<Stream<BufReader<UnixStream>, UnixStream>>,
    console: Option<UnixStream>,
    /// The newest lines of its log.
    pub(crate) tail: Tail,
}

impl Guest {
    /// How long QEMU may take to answer.
    const QMP_LIMIT: Duration = Duration::from_secs(10);

    /// Starts a guest. Whatever it says goes to `signs`, wrapped by `wrap`.
    ///
    /// # Errors
    /// QEMU does not start, or does not answer on QMP; the message holds what it wrote.
    pub(crate) fn start<T: Send + 'static>(
        machine: &Machine,
        recipe: &Recipe,
        signs: Sender<T>,
        wrap: impl Fn(Sign) -> T + Send + Sync + 'static,
    ) -> Result<Guest> {
        Guest::start_watched(machine, recipe, signs, wrap, |_| {})
    }

    /// As [`start`](Guest::start); calls `at_end` as soon as the process has ended, on a thread that waits for nothing else.
    ///
    /// # Errors
    /// As `start`.
    pub(crate) fn start_watched<T: Send + 'static>(
        machine: &Machine,
        recipe: &Recipe,
        signs: Sender<T>,
        wrap: impl Fn(Sign) -> T + Send + Sync + 'static,
        at_end: impl FnOnce(&WaitIdStatus) + Send + 'static,
    ) -> Result<Guest> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(Self::QMP_LIMIT))?;
        ours.set_write_timeout(Some(Self::QMP_LIMIT))?;
        // Inherited by its number, which another child that is started meanwhile may see too.
        let disk = recipe.disk.as_ref().map(rustix::io::dup).transpose()?;
        let console = recipe.console.then(console_pair).transpose()?;
        let mut qemu = command_for(machine, recipe, disk.as_ref().map(AsRawFd::as_raw_fd));
        if let Some((_, theirs)) = &console {
            attach_console(&mut qemu, theirs);
        }
        show(&qemu);
        // A group of its own: Ctrl-C on the terminal is for us to act on.
        qemu.stdin(OwnedFd::from(theirs))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = qemu
            .spawn()
            .with_context(|| format!("cannot start {}", machine.program))?;
        drop(disk);
        // Its ends of the sockets: only then does the death of the guest end the conversations.
        drop(qemu);
        let console = console.map(|(ours, _)| ours);
        let pid = child.id();
        let process = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        let seen = watch(&recipe.name, process.try_clone()?, at_end)?;

        let (name, print_log) = (recipe.name.clone(), recipe.print_log);
        let (tail, log_follower) = Tail::follow(child.stderr.take().expect("it is piped"), move |line| {
            if print_log {
                eprintln!("{name}| {line}");
            }
        });
        let events = child.stdout.take().expect("it is piped");
        let wrap = Arc::new(wrap);
        let screen = match &console {
            None => None,
            Some(console) => {
                let (console, signs, wrap) = (console.try_clone()?, signs.clone(), Arc::clone(&wrap));
                Some(thread::spawn(move || {
                    pieces(console, |bytes| drop(signs.send(wrap(Sign::Console(bytes)))));
                }))
            }
        };
        thread::spawn(move || {
            // Nobody listens any more once the run is over: then there is nothing to do but to drain.
            events::lines(events, |line| {
                drop(signs.send(wrap(Sign::Line(events::parse(line), Instant::now()))))
            });
            let _ = log_follower.join();
            let _ = screen.map(thread::JoinHandle::join);
            // Who waits takes the status away: the watch has looked at it first.
            let _ = seen.recv();
            let status = child.wait().expect("a child can be waited for");
            let _ = signs.send(wrap(Sign::Ended(status)));
        });

        let mut guest = Guest {
            process,
            pid,
            qmp: Qmp::new(Stream::new(BufReader::new(ours.try_clone()?), ours)),
            console,
            tail,
        };
        guest.greet().with_context(|| {
            format!(
                "guest {}: QEMU does not answer\n{}",
                recipe.name,
                guest.tail.text()
            )
        })?;
        Ok(guest)
    }

    fn greet(&mut self) -> Result<()> {
        // The crate panics on a connection that ends before the greeting: look first.
        if std::io::BufRead::fill_buf(self.qmp.inner_mut())?.is_empty() {
            bail!("it ended at once");
        }
        self.qmp.handshake()?;
        let status = self.qmp.execute(&qmp::query_status {})?;
        if !status.running {
            bail!("the machine does not run: {:?}", status.status);
        }
        Ok(())
    }

    /// Kills the process at once, as a power cut would.
    pub(crate) fn kill(&self) {
        // An error means that it has ended already.
        let _ = rustix::process::pidfd_send_signal(&self.process, Signal::KILL);
    }

    /// Stops the process, or lets it go on: what a machine looks like that is busy with something else.
    pub(crate) fn stop(&self, stopped: bool) {
        let signal = if stopped { Signal::STOP } else { Signal::CONT };
        // An error means that it has ended already.
        let _ = rustix::process::pidfd_send_signal(&self.process, signal);
    }

    /// Asks QEMU to end; it may be gone already.
    pub(crate) fn quit(&mut self) {
        let _ = self.qmp.execute(&qmp::quit {});
    }

    /// Types `bytes` on its console. What it shows arrives as [`Sign::Console`].
    ///
    /// # Errors
    /// It has no console, or has ended.
    pub(crate) fn type_in(&self, bytes: &[u8]) -> Result<()> {
        let mut console = self
            .console
            .as_ref()
            .context("the guest was started without a console")?;
        console
            .write_all(bytes)
            .context("the guest's console takes nothing")
    }

    /// Presses its power button. What comes of that is the guest's business: SIGTERM, if it listens.
    ///
    /// # Errors
    /// QEMU refuses. That it does not answer is none: the guest may have ended by then, as [`Sign::Ended`] tells.
    pub(crate) fn press_power(&mut self) -> Result<()> {
        match self.qmp.execute(&qmp::system_powerdown {}) {
            Ok(_) | Err(ExecuteError::Io(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Processor time that the guest has used so far, user and system.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // The name, in parentheses, may hold anything: count from its end.
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = |index: usize| {
            fields
                .get(index)
                .and_then(|field| field.parse::<u64>().ok())
                .context("unexpected /proc/PID/stat")
        };
        Ok(Duration::from_millis(
            (ticks(11)? + ticks(12)?) * 1000 / rustix::param::clock_ticks_per_second(),
        ))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Both ends of a console; QEMU inherits the second. (So does whatever else is started before it is dropped here, for which
/// it is one more open file.)
fn console_pair() -> Result<(UnixStream, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty())?;
    Ok((ours, theirs))
}

/// Gives the machine a third serial port, which is `console`. Not on the interrupt line that is usual for it: that is the log's
/// too.
fn attach_console(qemu: &mut Command, console: &UnixStream) {
    qemu.args([
        "-chardev",
        &format!("socket,id=console,fd={}", console.as_raw_fd()),
        "-device",
        "isa-serial,chardev=console,index=2,irq=5",
    ]);
}

/// Calls `each` with what `source` gives, as it comes, until it ends.
fn pieces(mut source: impl Read, mut each: impl FnMut(Vec<u8>)) {
    let mut piece = [0; 4096];
    while let Ok(len @ 1..) = source.read(&mut piece) {
        each(piece[..len].to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::words;

    #[test]
    fn a_console_has_a_port_and_an_interrupt_line_of_its_own() {
        let (_ours, theirs) = console_pair().unwrap();
        let mut qemu = Command::new("qemu");
        attach_console(&mut qemu, &theirs);
        let words = words(&qemu);
        assert!(
            words.contains("isa-serial,chardev=console,index=2,irq=5"),
            "{words}"
        );
        assert!(words.contains(&format!("fd={}", theirs.as_raw_fd())), "{words}");
        let flags = rustix::io::fcntl_getfd(&theirs).unwrap();
        assert!(!flags.contains(rustix::io::FdFlags::CLOEXEC), "QEMU inherits it");
    }
}

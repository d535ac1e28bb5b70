//! One guest: a QEMU process, its log and events on pipes, its QMP on a socket, its end in words.
//!
//! ```text
//!  stdin   QMP: one end of a socket pair      COM1 -> stderr: the guest's log, and QEMU's own words
//!  COM2 -> stdout: the event channel          isa-debug-exit -> exit status
//!  COM3 <-> a socket pair: the console, if it has one
//! ```
//! Pipes that are inherited and not files or sockets by name: nothing can stay behind.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use hs_core::platform::Exit;
use qapi::{ExecuteError, Qmp, Stream, qmp};
use rustix::process::{Pid, PidfdFlags, Signal, WaitIdStatus};

use crate::accel::Accelerator;
use crate::command::{command, show};
use crate::events::{self, Line, Tail};
use crate::profile::Machine;
use crate::watch::watch;

/// Where a card is plugged in.
#[derive(Clone)]
pub(crate) enum Plug {
    /// A tap of this name.
    Tap(String),
    /// Frames as datagrams, from the first address to the second: a wire that a test holds in its hands.
    Wire(SocketAddr, SocketAddr),
}

/// One network card.
#[derive(Clone)]
pub(crate) struct Card {
    pub(crate) link: &'static str,
    pub(crate) slot: u8,
    pub(crate) mac: String,
    /// What its link carries at most, if that is not Ethernet's 1500: see `mtu` in `qemu/pair.toml`.
    pub(crate) mtu: Option<u16>,
    pub(crate) plug: Plug,
}

/// What the image is, and so how the machine starts it.
#[derive(Clone)]
pub(crate) enum Boot {
    /// One of our guests.
    Hotspare,
    /// A Linux kernel, with this initial file system. It is started by QEMU's usual firmware: its loader lies in an option
    /// ROM, which qboot does not run.
    Linux { initrd: PathBuf },
}

/// What to start.
#[derive(Clone)]
pub(crate) struct Recipe {
    pub(crate) name: String,
    pub(crate) image: PathBuf,
    pub(crate) boot: Boot,
    /// Another processor than the machine's.
    pub(crate) cpu: Option<&'static str>,
    pub(crate) command_line: String,
    pub(crate) memory_mib: u32,
    pub(crate) accelerator: Accelerator,
    pub(crate) cards: Vec<Card>,
    /// Its disk, if it has one: an open file, see [`crate::disk`].
    pub(crate) disk: Option<Arc<File>>,
    /// What its real-time clock shows at its start, in seconds since 1970. A guest reads it once, and in whole
    /// seconds: the nodes of a pair begin from the same one, so that their clocks agree better than that.
    pub(crate) clock_s: u64,
    /// Whether it has a console: a terminal that we hold.
    pub(crate) console: bool,
    /// Whether to print the guest's log while it runs.
    pub(crate) print_log: bool,
}

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

/// QEMU's command line for `recipe`, without its console; its disk is the open file `disk`.
fn command_for(machine: &Machine, recipe: &Recipe, disk: Option<RawFd>) -> Command {
    let mut qemu = command(&machine.program);
    qemu.args([
        "-name",
        &recipe.name,
        "-machine",
        &machine.machine,
        "-accel",
        recipe.accelerator.name(),
    ]);
    qemu.args([
        "-cpu",
        recipe.cpu.unwrap_or(&machine.cpu),
        "-m",
        &format!("{}M", recipe.memory_mib),
    ]);
    qemu.args(&machine.arguments);
    qemu.args([
        "-chardev",
        "file,id=log,path=/dev/stderr",
        "-serial",
        "chardev:log",
    ]);
    qemu.args([
        "-chardev",
        "file,id=events,path=/dev/stdout",
        "-serial",
        "chardev:events",
    ]);
    qemu.args([
        "-chardev",
        "socket,id=qmp,fd=0",
        "-mon",
        "chardev=qmp,mode=control",
    ]);
    qemu.args(["-device", &machine.exit_device]);
    qemu.args(["-rtc", &format!("base={},clock=vm", date_time(recipe.clock_s))]);
    for Card {
        link,
        slot,
        mac,
        mtu,
        plug,
    } in &recipe.cards
    {
        let mtu = mtu.map(|mtu| format!(",host_mtu={mtu}")).unwrap_or_default();
        let plug = match plug {
            Plug::Tap(name) => format!("tap,id={link},ifname={name},script=no,downscript=no"),
            Plug::Wire(from, to) => format!(
                "dgram,id={link},local.type=inet,local.host={},local.port={},remote.type=inet,remote.host={},remote.port={}",
                from.ip(),
                from.port(),
                to.ip(),
                to.port()
            ),
        };
        qemu.args([
            "-netdev",
            &plug,
            "-device",
            &format!(
                "{},netdev={link},mac={mac}{mtu},bus=pcie.0,addr={slot:#x}",
                machine.nic
            ),
        ]);
    }
    if let Some(disk) = disk {
        qemu.args([
            "-drive",
            &format!("id=disk,file=/proc/self/fd/{disk},{}", machine.drive),
            "-device",
            &format!(
                "{},drive=disk,bus=pcie.0,addr={:#x}",
                machine.disk, machine.slots.disk
            ),
        ]);
    }
    let initrd = match &recipe.boot {
        Boot::Hotspare => {
            qemu.args(["-bios", &machine.bios]);
            // The image again as a module: its symbols, which name what a backtrace lists, are not part of what is loaded.
            &recipe.image
        }
        Boot::Linux { initrd } => initrd,
    };
    qemu.arg("-kernel")
        .arg(&recipe.image)
        .arg("-initrd")
        .arg(initrd)
        .args(["-append", &recipe.command_line]);
    qemu
}

/// The time of this moment, in seconds since 1970.
pub(crate) fn clock_s() -> u64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_secs())
}

/// Seconds since 1970 as QEMU takes them: date and time, UTC.
pub(crate) fn date_time(clock_s: u64) -> String {
    let (day, second) = (clock_s / 86_400, clock_s % 86_400);
    // Days are counted from 1 March 0000, where a year ends with its leap day (H. Hinnant, days_from_civil).
    let shifted = day + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}")
}

/// The status that QEMU exits with when the guest ends with `exit`.
pub(crate) const fn exit_code(exit: Exit) -> i32 {
    ((exit as i32) << 1) | 1
}

/// How a guest ended, in words.
pub(crate) fn in_words(status: ExitStatus) -> String {
    const MEANINGS: [(Exit, &str); 7] = [
        (Exit::Success, "ended: all done"),
        (Exit::Panic, "panicked"),
        (Exit::Exception, "died of a processor exception"),
        (Exit::BadOptions, "refused its command line"),
        (Exit::TestFailed, "ended: a test failed"),
        (
            Exit::Refused,
            "ended itself: it may not go on beside the other node",
        ),
        (Exit::Fault, "lost its power at the point that it was told"),
    ];
    if let Some(signal) = status.signal() {
        return match Signal::from_named_raw(signal) {
            Some(Signal::KILL) => "was killed by SIGKILL".into(),
            Some(Signal::TERM) => "was ended by SIGTERM".into(),
            Some(Signal::ABORT) => "was lost: QEMU aborted".into(),
            Some(Signal::SEGV) => "was lost: QEMU crashed".into(),
            _ => format!("was ended by signal {signal}"),
        };
    }
    let code = status.code().unwrap_or(-1);
    match MEANINGS.iter().find(|(exit, _)| exit_code(*exit) == code) {
        Some((_, words)) => format!("{words} (status {code})"),
        None if code == 0 => "was shut down or reset itself (status 0)".into(),
        None => format!("was ended by QEMU (status {code})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::words;
    use crate::profile::Plan;

    #[test]
    fn every_exit_of_a_guest_has_words_and_its_documented_status() {
        for (exit, code, word) in [
            (Exit::Success, 33, "all done"),
            (Exit::Panic, 35, "panicked"),
            (Exit::Exception, 37, "exception"),
            (Exit::BadOptions, 39, "command line"),
            (Exit::TestFailed, 41, "test failed"),
            (Exit::Refused, 43, "may not go on"),
            (Exit::Fault, 45, "lost its power"),
        ] {
            assert_eq!(exit_code(exit), code);
            assert!(in_words(ExitStatus::from_raw(code << 8)).contains(word));
        }
        assert_eq!(in_words(ExitStatus::from_raw(9)), "was killed by SIGKILL");
        assert!(in_words(ExitStatus::from_raw(1 << 8)).contains("QEMU"));
    }

    #[test]
    fn a_guests_clock_is_set_as_dates_are_counted() {
        for (clock_s, date) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_709_251_199, "2024-02-29T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(date_time(clock_s), date);
        }
    }

    #[test]
    fn the_service_card_comes_first_on_the_bus() {
        let machine = Plan::load().unwrap().machine().unwrap();
        let card = |link, slot, plug| Card {
            link,
            slot,
            mac: "52:54:00:00:00:01".into(),
            mtu: (link == "cluster").then_some(9000),
            plug,
        };
        let recipe = Recipe {
            name: "a".into(),
            image: "image".into(),
            boot: Boot::Hotspare,
            cpu: None,
            command_line: "hs.role=master".into(),
            memory_mib: 256,
            accelerator: Accelerator::Tcg,
            cards: vec![
                card("service", machine.slots.service, Plug::Tap("a-service".into())),
                card(
                    "cluster",
                    machine.slots.cluster,
                    Plug::Wire(([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into()),
                ),
            ],
            disk: None,
            clock_s: 0,
            console: false,
            print_log: false,
        };
        let words = words(&command_for(&machine, &recipe, Some(7)));
        for part in [
            "tap,id=service,ifname=a-service",
            "netdev=service,mac=52:54:00:00:00:01,bus=pcie.0,addr=0x2",
            "netdev=cluster,mac=52:54:00:00:00:01,bus=pcie.0,addr=0x3",
            "event_idx=off",
            "file=/proc/self/fd/7,if=none,format=raw,cache=writeback,file.locking=off",
            "share-rw=on,drive=disk,bus=pcie.0,addr=0x4",
            "-append hs.role=master",
            "-cpu max -m 256M",
            "-bios qboot.rom -kernel image -initrd image",
        ] {
            assert!(words.contains(part), "{part} in {words}");
        }
    }

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

    #[test]
    fn linux_has_the_usual_firmware_and_its_own_file_system() {
        let machine = Plan::load().unwrap().machine().unwrap();
        let recipe = Recipe {
            name: "linux".into(),
            image: "vmlinuz".into(),
            boot: Boot::Linux {
                initrd: "init.cpio".into(),
            },
            cpu: Some("max,-erms"),
            command_line: "console=ttyS0 -- quick".into(),
            memory_mib: 2800,
            accelerator: Accelerator::Tcg,
            cards: Vec::new(),
            disk: None,
            clock_s: 0,
            console: false,
            print_log: false,
        };
        let words = words(&command_for(&machine, &recipe, None));
        assert!(words.contains("-cpu max,-erms -m 2800M"), "{words}");
        assert!(
            words.contains("-kernel vmlinuz -initrd init.cpio -append 'console=ttyS0 -- quick'"),
            "{words}"
        );
        assert!(!words.contains("-bios"), "{words}");
    }
}

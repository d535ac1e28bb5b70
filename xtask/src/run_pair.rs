//! `cargo xtask run-pair`: the life of a pair, from the check of the host to the report.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use hs_core::checkpoint::file::CheckpointFiles;
use hs_core::detection::Detection;
use hs_core::fault::Fault;
use hs_core::platform::Exit;
use hs_core::restore::Source;
use rustix::net::listen;
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::accel::{self, Choice};
use crate::arguments::{checked, seconds};
use crate::host::{self, Purpose};
use crate::live::{Console, Key, Seat};
use crate::netns::{self, Task, on_stop};
use crate::pair::{Happening, Ingredients, Pair, in_a_line};
use crate::player::{Player, TAKEOVER};
use crate::profile::{AppPlan, FAULT, Plan, RESTORE};
use crate::qemu::{Sign, exit_code, in_words};
use crate::report::Report;
use crate::{client, disk, forward, guest_build};

/// How long the pair may take to be ready, and how long a takeover.
const READY_LIMIT: Duration = Duration::from_secs(60);
const TAKEOVER_LIMIT: Duration = Duration::from_secs(10);
/// The exit status after Ctrl-C and its like, as shells have it.
const INTERRUPTED: u8 = 130;

/// Options of `run-pair`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The application that the pair runs.
    #[arg(long, value_name = "NAME", default_value = "kv")]
    app: String,
    /// The port of 127.0.0.1 that leads to the service; 0 picks a free one.
    #[arg(long, value_name = "PORT", default_value_t = 6379)]
    forward: u16,
    /// Prints lines only: no live status, no keys.
    #[arg(long)]
    headless: bool,
    /// Gives each guest a console, and plays there rather than over the network.
    #[arg(long)]
    console: bool,
    /// Kills the master so long after the pair was ready.
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    kill_master_after: Option<Duration>,
    /// Ends the run so long after the pair was ready.
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    exit_after: Option<Duration>,
    /// The disk that the two guests share, a file: made if it is not there, kept when the pair ends [default:
    /// target/pair/disk.img]
    #[arg(long, value_name = "FILE")]
    disk: Option<PathBuf>,
    /// Length of the disk, if it is made.
    #[arg(long, value_name = "MIB", default_value_t = disk::MIB_DEFAULT, value_parser = clap::value_parser!(u32).range(disk::MIB_MIN..=disk::MIB_MAX))]
    disk_mib: u32,
    /// Writes what the run came to into this file, as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// What runs the guests.
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    accel: Choice,
    /// Memory of each guest.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(32..=65536))]
    mem: Option<u32>,
    /// Seeds the guests' random numbers, so that a run can be repeated.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How checkpoints freeze memory: lazy in constant time, eager as in the thesis, faults without dirty bits, plain with a
    /// copy of everything.
    #[arg(long, value_name = "WAY", value_parser = ["lazy", "eager", "faults", "plain"])]
    cptfork: Option<String>,
    /// How checkpoints are taken: as the last ones speak for, or always by this way.
    #[arg(long, value_name = "WAY", value_parser = ["auto", "copy", "incremental", "full"])]
    checkpoint: Option<String>,
    /// How pages that are sent whole are compressed.
    #[arg(long, value_name = "HOW", value_parser = ["none", "lz4"])]
    compress: Option<String>,
    /// Memory of the master for copies of pages, so that only what is different in them is sent; 0 sends them whole.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(0..=256))]
    shadow: Option<u32>,
    /// How the spare hears clients: by itself, or of what the master forwards, for switches that hand frames to known addresses only.
    #[arg(long, value_name = "HOW", value_parser = ["own", "forwarded"])]
    ear: Option<String>,
    /// Connections of clients at once [default: 1024].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8192))]
    connections: Option<u32>,
    /// Keeps checkpoints on the disk too, in two files of this base name: HSCPT for HSCPT0.CPT and HSCPT1.CPT.
    #[arg(long, value_name = "NAME", value_parser = checked(CheckpointFiles::new))]
    checkpoint_file: Option<String>,
    /// Begins from the newest checkpoint in this file of the disk, or in the two of this base name.
    #[arg(long, value_name = "NAME", value_parser = checked(Source::parse))]
    restore: Option<String>,
    /// What says that the master has failed: heartbeat, icmp, file:NAME, or several as in all(heartbeat,icmp).
    #[arg(long, value_name = "SIGNS", value_parser = checked(Detection::parse))]
    detect: Option<String>,
    /// Tells the application this beside what qemu/pair.toml has for it; may be repeated. The later of two words wins.
    #[arg(long = "word", value_name = "NAME=VALUE")]
    words: Vec<String>,
    /// Has a node end at this point of the checkpoint path, as by a power cut, when it passes there for the COUNT-th time: see
    /// docs/failover.md.
    #[arg(long, value_name = "POINT:COUNT", value_parser = checked(Fault::parse))]
    fault: Option<String>,
    /// Does without the host's agent, which tells each node that the other one's process has ended: what is left is silence, or what
    /// --detect says. A master whose spare has died is mute then.
    #[arg(long)]
    no_agent: bool,
    /// Prints the guests' logs from this level on (error, warn, info, debug, trace); implies --headless.
    #[arg(long, value_name = "LEVEL", value_parser = ["error", "warn", "info", "debug", "trace"])]
    log: Option<String>,
}

impl Options {
    /// What goes to the guests' kernels as it is.
    fn for_the_kernel(&self) -> Vec<String> {
        let shadow_mib = self.shadow.map(|mib| mib.to_string());
        let connections = self.connections.map(|count| count.to_string());
        let named = [
            ("hs.cptfork", &self.cptfork),
            ("hs.checkpoint", &self.checkpoint),
            ("hs.compress", &self.compress),
            ("hs.ear", &self.ear),
            ("hs.shadow-mib", &shadow_mib),
            ("hs.connections", &connections),
            ("hs.checkpoint-file", &self.checkpoint_file),
            (RESTORE, &self.restore),
            ("hs.detect", &self.detect),
            (FAULT, &self.fault),
        ];
        named
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", value.as_deref()?)))
            .collect()
    }
}

/// What the inside is told.
#[derive(Serialize, Deserialize)]
pub(crate) struct Orders {
    /// By which `client` calls this pair.
    number: u32,
    app: String,
    image: PathBuf,
    port: u16,
    live: bool,
    console: bool,
    kill_master_after: Option<Duration>,
    exit_after: Option<Duration>,
    accel: Choice,
    memory_mib: Option<u32>,
    seed: u64,
    kernel_options: Vec<String>,
    words: Vec<String>,
    agent: bool,
    log: Option<String>,
}

/// Outside the namespace: checks, builds, opens what belongs to the host, and enters.
///
/// # Errors
/// Something that the run needs is missing; the message says how to get it.
pub(crate) fn run(options: Options) -> Result<ExitCode> {
    let plan = Plan::load()?;
    plan.app(&options.app)?;
    let (listener, port) = open_port(options.forward)?;
    let report = options.report.as_ref().map(|path| {
        File::create(path).with_context(|| format!("cannot write the report to {}", path.display()))
    });
    let report = report.transpose()?;
    let place = options.disk.clone().unwrap_or_else(disk::usual_place);
    let disk = disk::open(&place, options.disk_mib)?;
    host::check(Purpose::Run)?;
    let image = guest_build::build(&options.app)?;
    let number = std::process::id();
    let findable = client::findable_socket(number)?;
    let interactive = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let kernel_options = options.for_the_kernel();
    let orders = Orders {
        number,
        app: options.app,
        image,
        port,
        console: options.console,
        live: interactive && !options.headless && options.log.is_none(),
        kill_master_after: options.kill_master_after,
        exit_after: options.exit_after,
        accel: options.accel,
        memory_mib: options.mem,
        seed: options
            .seed
            .unwrap_or_else(|| RandomState::new().hash_one(number) & 0xffff_ffff),
        kernel_options,
        words: options.words,
        agent: !options.no_agent,
        log: options.log,
    };
    let mut files: Vec<BorrowedFd<'_>> = vec![listener.as_fd(), findable.as_fd(), disk.as_fd()];
    files.extend(report.as_ref().map(AsFd::as_fd));
    netns::run(&Task::RunPair(orders), &files)
}

/// The port of the host that leads to the service.
fn open_port(port: u16) -> Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => anyhow!(
            "port {port} of 127.0.0.1 is in use by another program; --forward takes another port, --forward 0 a free one"
        ),
        _ => anyhow!("cannot forward port {port} of 127.0.0.1: {error}"),
    })?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// Inside the namespace: the run itself. `files` are the forwarded port, the socket by which `client` finds
/// us, the disk and, if one is wanted, the report.
///
/// # Errors
/// The pair never became ready, or did not do what was asked of it.
pub(crate) fn inside(orders: Orders, files: Vec<OwnedFd>, channel: OwnedFd) -> Result<ExitCode> {
    let mut files = files.into_iter();
    let listener = TcpListener::from(files.next().context("the forwarded port was not handed over")?);
    let findable = files.next().context("the findable socket was not handed over")?;
    let disk = File::from(files.next().context("the disk was not handed over")?);
    let report = files.next().map(File::from);
    listen(&findable, 64)?;
    // Nobody needs an answer: the kernel has told them all when they connected.
    thread::spawn(move || while rustix::net::accept(&findable).is_ok() {});

    let plan = Plan::load()?;
    let machine = plan.machine()?;
    let app = plan.app(&orders.app)?;
    netns::make_network(&plan)?;
    let accelerator = accel::settle(orders.accel, &machine, &orders.image)?;
    let words = [&app.words[..], &orders.words].concat();
    let mut pair = Pair::start(&Ingredients {
        plan: &plan,
        machine: &machine,
        options: &orders.kernel_options,
        words: &words,
        images: [orders.image.clone(), orders.image.clone()],
        accelerator,
        cpu: None,
        memory_mib: orders.memory_mib.unwrap_or(machine.memory_mib),
        seed: orders.seed,
        log: orders.log.as_deref().unwrap_or("info"),
        console: orders.console,
        print_log: orders.log.is_some(),
        cluster: None,
        disk: Some(Arc::new(disk)),
        agent: orders.agent,
    })?;
    let sender = pair.sender();
    on_stop(channel, move || drop(sender.send(Happening::Stop)));
    stop_on_signals(pair.sender())?;

    let service = SocketAddr::from((plan.service.address, app.port));
    let accel = accelerator.name();
    let title = format!(
        "hotspare {} on {accel}, service 127.0.0.1:{}, pair {}",
        orders.app, orders.port, orders.number
    );
    let console = Console::open(orders.live);
    let mut run = Run {
        pair: &mut pair,
        orders: &orders,
        app,
        service,
        console,
        title,
        takeover_due: None,
        announced: 0,
    };
    run.console.line(&format!(
        "starting {} on {accel}, pair {}, seed {}",
        orders.app, orders.number, orders.seed
    ));
    let outcome = run.live(listener);
    drop(run);
    pair.end();
    if let Some(file) = report {
        let served = pair.nodes.iter().find_map(|node| node.served).unwrap_or_default();
        let silence_max_us = pair.silence_max_us();
        Report::new(&orders.app, accel, served, silence_max_us, &pair.takeovers).write(&file)?;
    }
    match outcome? {
        End::Asked => Ok(ExitCode::SUCCESS),
        End::Interrupted => Ok(ExitCode::from(INTERRUPTED)),
    }
}

fn stop_on_signals(sender: Sender<Happening>) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::spawn(move || {
        for _ in signals.forever() {
            let _ = sender.send(Happening::Stop);
        }
    });
    Ok(())
}

/// How a run ended that did all that was asked of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// By the clock, or by `q`.
    Asked,
    /// By a signal.
    Interrupted,
}

struct Run<'a> {
    pair: &'a mut Pair,
    orders: &'a Orders,
    app: &'a AppPlan,
    service: SocketAddr,
    console: Console,
    title: String,
    /// Until when a takeover must come, once the master is dead.
    takeover_due: Option<Instant>,
    /// How many takeovers were announced.
    announced: usize,
}

impl Run<'_> {
    fn live(&mut self, listener: TcpListener) -> Result<End> {
        let started = Instant::now();
        let (mut listener, mut asked) = (Some(listener), false);
        let mut ready_at: Option<Instant> = None;
        let (mut kill_due, mut exit_due) = (None, None);
        let mut failed: Option<String> = None;
        loop {
            self.console.draw(self.pair, &self.title);
            let now = Instant::now();
            if ready_at.is_none() && now >= started + READY_LIMIT {
                return Err(self.pair.failure(&format!(
                    "the pair was not ready within {} s",
                    READY_LIMIT.as_secs()
                )));
            }
            if self.takeover_due.is_some_and(|due| now >= due) {
                return Err(self.pair.failure(&format!(
                    "no takeover within {} s of the master's death",
                    TAKEOVER_LIMIT.as_secs()
                )));
            }
            if kill_due.is_some_and(|due| now >= due) {
                kill_due = None;
                if !self.kill_master() {
                    return Err(self
                        .pair
                        .failure("the master was to be killed, but there is no pair any more"));
                }
            }
            if exit_due.is_some_and(|due| now >= due) && self.takeover_due.is_none() {
                return failed.map_or(Ok(End::Asked), |why| Err(anyhow!(why)));
            }

            let limits = [
                Some(now + self.console.patience()),
                ready_at.is_none().then_some(started + READY_LIMIT),
                self.takeover_due,
                kill_due,
                exit_due.filter(|due| *due > now),
            ];
            let deadline = limits.into_iter().flatten().min().expect("patience is one");
            let happening = self.pair.next(deadline);
            match self.console.key() {
                Some(Key::Quit) => return failed.map_or(Ok(End::Asked), |why| Err(anyhow!(why))),
                Some(Key::Interrupt) => return Ok(End::Interrupted),
                Some(Key::Kill) if !self.kill_master() => self
                    .console
                    .line("no spare holds a checkpoint: the master is left alone"),
                Some(Key::Power) => self.press_power(),
                Some(Key::Kill) | None => {}
            }
            let Some(happening) = happening else { continue };
            if let Some(line) = in_a_line(self.pair, &happening) {
                self.console.line(&line);
            }
            match &happening {
                Happening::Stop => return Ok(End::Interrupted),
                Happening::Typed(bytes) => self.type_in(bytes),
                Happening::Guest(index, Sign::Console(bytes)) if self.pair.master() == Some(*index) => {
                    self.console.show(bytes);
                }
                Happening::Answers => {
                    let listener = listener.take().expect("the service is asked once");
                    forward::start(listener, self.service);
                    self.console
                        .line(&format!("ready: service 127.0.0.1:{}", self.orders.port));
                    if self.app.terminal && self.orders.live {
                        self.console.play(match self.orders.console {
                            true => Seat::Console(self.pair.sender()),
                            false => Seat::Service(self.service),
                        });
                        self.greet_console();
                    }
                    let now = Instant::now();
                    ready_at = Some(now);
                    kill_due = self.orders.kill_master_after.map(|after| now + after);
                    exit_due = self.orders.exit_after.map(|after| now + after);
                }
                Happening::Guest(index, Sign::Ended(status))
                    if self.pair.nodes[*index].killed.is_none()
                        || status.code() == Some(exit_code(Exit::Fault)) =>
                {
                    if ready_at.is_none() {
                        return Err(self.pair.failure("the pair never became ready"));
                    }
                    if self.pair.master().is_none() && self.pair.spare().is_none() {
                        return Err(self.pair.failure("nobody serves any more"));
                    }
                    let tail = self.pair.nodes[*index].guest.tail.text();
                    self.console.line(&format!("the end of its log:\n{tail}"));
                    if self.pair.master().is_none() {
                        self.takeover_due.get_or_insert(Instant::now() + TAKEOVER_LIMIT);
                    }
                    // Somebody's SIGKILL is an experiment; anything else that nobody asked for is a fault that the run must not hide.
                    if status.code().is_some() && !self.pair.nodes[*index].may_end {
                        failed.get_or_insert_with(|| {
                            format!("{} {}", self.pair.nodes[*index].name, in_words(*status))
                        });
                    }
                }
                Happening::Guest(..) => {}
            }
            self.announce_takeovers();
            if !asked && self.pair.is_ready() {
                asked = true;
                ask(self.service, self.app.clone(), self.pair.sender());
            }
        }
    }

    /// Says what takeovers there were since the last call.
    fn announce_takeovers(&mut self) {
        for takeover in &self.pair.takeovers[self.announced..] {
            self.console.line(&format!(
                "{TAKEOVER} spare is master after {:.0} ms",
                takeover.total_ms
            ));
            self.takeover_due = None;
        }
        if self.announced < self.pair.takeovers.len() {
            self.greet_console();
        }
        self.announced = self.pair.takeovers.len();
    }

    /// Sits down at the master's console, if a player is to sit there: says how large the terminal is, which calls for a picture.
    fn greet_console(&mut self) {
        if self.orders.console && self.app.terminal && self.orders.live {
            self.type_in(&Player::greeting());
        }
    }

    /// Types at the master's console.
    fn type_in(&mut self, bytes: &[u8]) {
        if let Some(master) = self.pair.master() {
            // One that has just died takes nothing.
            let _ = self.pair.nodes[master].guest.type_in(bytes);
        }
    }

    /// Presses the master's power button: an application that does not handle SIGTERM ends in order.
    fn press_power(&mut self) {
        let Some(master) = self.pair.master() else {
            return;
        };
        let node = &mut self.pair.nodes[master];
        node.may_end = true;
        match node.guest.press_power() {
            Ok(()) => self
                .console
                .line(&format!("pressed the power button of {}, the master", node.name)),
            Err(error) => self.console.line(&format!(
                "cannot press the power button of {}: {error:#}",
                node.name
            )),
        }
    }

    /// Kills the master, if a spare can take over.
    fn kill_master(&mut self) -> bool {
        let Some(master) = self.pair.master().filter(|_| self.pair.is_ready()) else {
            return false;
        };
        self.pair.kill(master);
        self.takeover_due = Some(Instant::now() + TAKEOVER_LIMIT);
        self.console
            .line(&format!("killed {}, the master", self.pair.nodes[master].name));
        true
    }
}

/// Asks the service its question until it answers, in a thread of its own.
fn ask(service: SocketAddr, app: AppPlan, sender: Sender<Happening>) {
    thread::spawn(move || {
        while answers(service, &app).is_err() {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = sender.send(Happening::Answers);
    });
}

/// Asks the service its question once.
///
/// # Errors
/// It cannot be reached, or does not answer as it should.
pub(crate) fn answers(service: SocketAddr, app: &AppPlan) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&service, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(app.question.as_bytes())?;
    let mut answer = vec![0; app.answer.len()];
    stream.read_exact(&mut answer)?;
    if answer != app.answer.as_bytes() {
        bail!("it answered {:?}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}

#[cfg(test)]
#[path = "run_pair_tests.rs"]
mod tests;

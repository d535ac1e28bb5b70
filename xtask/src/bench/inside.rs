//! The phases that need guests, inside a namespace of their own: it takes every process with it when it ends.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use figures::experiment::App;
use figures::row::Row;
use hs_core::platform::Exit;
use serde::{Deserialize, Serialize};

use super::ear::Ear;
use super::link;
use super::output_commit;
use super::phase::{Phase, Who, chosen, program};
use super::told::{Teller, Word};
use super::transaction;
use crate::accel::{self, Accelerator, Choice};
use crate::disk;
use crate::events;
use crate::netns;
use crate::pair::{Happening, Ingredients, Pair};
use crate::profile::{Machine, Plan};
use crate::qemu::{Boot, Guest, Recipe, Sign, clock_s, exit_code, in_words};
use crate::steps::Steps;

/// The exit status after Ctrl-C and its like, as shells have it.
const INTERRUPTED: i32 = 130;
/// Memory of a guest that is alone. Ours has no use for RAM above 4 GiB, where q35 puts what is beyond this.
const MEMORY_MIB: u32 = 2800;
/// Memory of a guest of a pair: room for the contents, their copies on write and what the spare stages.
const PAIR_MEMORY_MIB: u32 = 1024;

/// What the inside is told.
#[derive(Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(super) only: Vec<String>,
    pub(super) quick: bool,
    /// In place of experiments: the test program with these knobs.
    pub(super) run: Option<String>,
    pub(super) accel: Choice,
    /// Our guest.
    pub(super) image: PathBuf,
    /// The applications that clients measure, by name.
    pub(super) apps: BTreeMap<String, PathBuf>,
    /// The Linux guest: kernel and initial file system.
    pub(super) linux: Option<(PathBuf, PathBuf)>,
}

impl Orders {
    fn phases(&self) -> Vec<Phase> {
        match &self.run {
            Some(knobs) => vec![program(knobs)],
            None => chosen(&self.only, self.quick, self.linux.is_some()),
        }
    }
}

/// The processor of all guests under `accelerator`, if it is not the machine's.
///
/// Where a processor has fast string moves, Linux copies pages with them, and TCG emulates these byte by byte: a copy on write
/// would take 20 µs instead of 8, which would flatter ours. A real processor keeps what it has.
const fn processor(accelerator: Accelerator) -> Option<&'static str> {
    match accelerator {
        Accelerator::Tcg => Some("max,-erms,-fsrm"),
        Accelerator::Kvm => None,
    }
}

/// Linux's command line, up to the words for its init. `benches/peers/README.md` says of each word why it is there: without
/// them Linux would be slower than a user who cares for speed has it.
const LINUX_COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 tsc=reliable mitigations=off init_on_alloc=0 \
    randomize_kstack_offset=off hardened_usercopy=off cgroup_disable=memory audit=0 nowatchdog preempt=none \
    transparent_hugepage=madvise nokaslr no5lvl --";

/// What the phases stand on.
struct Ground {
    plan: Plan,
    machine: Machine,
    accelerator: Accelerator,
    orders: Orders,
    teller: Teller,
    steps: Steps,
    /// The limit of the cluster link could not be lifted.
    still_limited: bool,
}

/// Runs the phases. `files` holds the pipe to the outside.
///
/// # Errors
/// The host refuses something that every phase needs. A phase that fails does not keep the others from running; one of ours
/// makes the exit status that of a failure.
pub(crate) fn inside(orders: Orders, files: Vec<OwnedFd>, channel: OwnedFd) -> Result<ExitCode> {
    let pipe = File::from(files.into_iter().next().context("the pipe was not handed over")?);
    let mut last = Teller::new(pipe.try_clone()?);
    netns::on_stop(channel, move || {
        // Short enough to be written whole, whatever the other teller is at.
        let _ = last.tell(&Word::Problem(
            "stopped by a signal: the rest was not measured".into(),
        ));
        std::process::exit(INTERRUPTED);
    });
    let plan = Plan::load()?.patient();
    let machine = plan.machine()?;
    let accelerator = accel::settle(orders.accel, &machine, &orders.image)?;
    let mut ground = Ground {
        plan,
        machine,
        accelerator,
        orders,
        teller: Teller::new(pipe),
        steps: Steps::new(),
        still_limited: false,
    };
    ground.teller.tell(&Word::Accelerator(accelerator))?;
    netns::make_network(&ground.plan)?;
    let phases = ground.orders.phases();
    let mut failed = false;
    for (index, phase) in phases
        .iter()
        .enumerate()
        .filter(|(_, phase)| phase.who != Who::Native)
    {
        ground
            .steps
            .begin(index + 1, phases.len(), phase.name, phase.shows);
        let outcome = ground.run(phase);
        let seconds = ground.steps.end(phase.name, &outcome).as_secs_f64();
        let name = phase.name.to_owned();
        if let Err(error) = outcome {
            failed |= phase.who.is_ours();
            ground.teller.tell(&Word::Problem(format!("{name}: {error:#}")))?;
        }
        ground.teller.tell(&Word::Phase { name, seconds })?;
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

impl Ground {
    fn run(&mut self, phase: &Phase) -> Result<()> {
        match phase.who {
            Who::Native => Ok(()),
            Who::Guest => {
                let command_line = format!("hs.log=info -- {}", phase.words.join(" "));
                let image = self.orders.image.clone();
                self.alone(phase, image, Boot::Hotspare, command_line)
            }
            Who::Linux => {
                let (kernel, initrd) = self.orders.linux.clone().context("there is no Linux kernel")?;
                let command_line = format!("{LINUX_COMMAND_LINE} {}", phase.words.join(" "));
                self.alone(phase, kernel, Boot::Linux { initrd }, command_line)
            }
            Who::LimitedPair => {
                let limit = link::limit(&self.plan)?;
                self.steps.note(limit);
                let outcome = self.pair(phase);
                if let Err(error) = link::lift(&self.plan) {
                    self.still_limited = true;
                    let problem = format!("the limit of the cluster link could not be lifted: {error:#}");
                    self.teller.tell(&Word::Problem(problem))?;
                }
                outcome
            }
            Who::Pair if self.still_limited => bail!("the cluster link is still limited"),
            Who::Pair => self.pair(phase),
            Who::AppPair(_) if self.still_limited => bail!("the cluster link is still limited"),
            Who::AppPair(app) => {
                let rows = self.steps.aside(|| self.served(phase, app))?;
                for row in &rows {
                    self.steps.print(&events::in_words(&row.figure));
                    self.teller.tell(&Word::Row(row.clone()))?;
                }
                self.steps.note(&format!("{} figures", rows.len()));
                Ok(())
            }
        }
    }

    /// Two guests of `app`, which a client on the host measures.
    fn served(&self, phase: &Phase, app: App) -> Result<Vec<Row>> {
        let name = app.name();
        let image = self.orders.apps.get(name);
        let image = image.with_context(|| format!("the image of {name} was not built"))?;
        let plan = self.plan.app(name)?;
        let words = [&plan.words[..], &phase.words].concat();
        let ingredients = ingredients(
            (&self.plan, &self.machine, self.accelerator),
            &phase.options,
            &words,
            image,
        )?;
        let service = SocketAddr::from((self.plan.service.address, plan.port));
        let accel = self.accelerator.accel();
        match app {
            App::Kv => output_commit::measure(&ingredients, service, self.orders.quick, accel),
            App::Sqlite => transaction::measure(&ingredients, service, self.orders.quick, accel),
        }
    }

    /// One guest without a network.
    fn alone(&mut self, phase: &Phase, image: PathBuf, boot: Boot, command_line: String) -> Result<()> {
        let recipe = Recipe {
            name: phase.name.into(),
            image,
            boot,
            cpu: processor(self.accelerator),
            command_line,
            memory_mib: MEMORY_MIB,
            accelerator: self.accelerator,
            cards: Vec::new(),
            disk: None,
            clock_s: clock_s(),
            console: false,
            print_log: false,
        };
        let accel = self.accelerator.accel();
        let (teller, machine) = (&mut self.teller, &self.machine);
        let mut tell = |word| teller.tell(&word);
        let mut ear = Ear::new(phase.name, accel, &mut self.steps, &mut tell);
        let (sender, signs) = mpsc::channel();
        let guest = ear
            .steps()
            .aside(|| Guest::start(machine, &recipe, sender, |sign| sign))?;
        let deadline = Instant::now() + phase.limit;
        let status = loop {
            match signs.recv_timeout(Duration::from_millis(200)) {
                Ok(Sign::Line(line, _)) => ear.hear(line)?,
                Ok(Sign::Console(_)) => {}
                Ok(Sign::Ended(status)) => break status,
                Err(RecvTimeoutError::Timeout) => ear.tick(),
                Err(RecvTimeoutError::Disconnected) => bail!("the guest was lost\n{}", guest.tail.text()),
            }
            if Instant::now() >= deadline {
                bail!(
                    "it took longer than {} s\n{}",
                    phase.limit.as_secs(),
                    guest.tail.text()
                );
            }
        };
        ear.note();
        if status.code() != Some(exit_code(Exit::Success)) {
            bail!(
                "it {}: {}\n{}",
                in_words(status),
                ear.last_words(),
                guest.tail.text()
            );
        }
        if ear.figures() == 0 {
            bail!("it measured nothing: {}\n{}", ear.last_words(), guest.tail.text());
        }
        Ok(())
    }

    /// Two guests, of which the master measures.
    fn pair(&mut self, phase: &Phase) -> Result<()> {
        let accel = self.accelerator.accel();
        let ingredients = ingredients(
            (&self.plan, &self.machine, self.accelerator),
            &phase.options,
            &phase.words,
            &self.orders.image,
        )?;
        let teller = &mut self.teller;
        let mut tell = |word| teller.tell(&word);
        let mut ear = Ear::new(phase.name, accel, &mut self.steps, &mut tell);
        let mut pair = ear.steps().aside(|| Pair::start(&ingredients))?;
        let outcome = measured_by_master(&mut pair, phase, &mut ear);
        ear.note();
        pair.end();
        outcome
    }
}

/// What a pair of `image` is made of.
fn ingredients<'a>(
    (plan, machine, accelerator): (&'a Plan, &'a Machine, Accelerator),
    options: &'a [String],
    words: &'a [String],
    image: &Path,
) -> Result<Ingredients<'a>> {
    Ok(Ingredients {
        plan,
        machine,
        options,
        words,
        images: [image.to_owned(), image.to_owned()],
        accelerator,
        cpu: processor(accelerator),
        memory_mib: PAIR_MEMORY_MIB,
        seed: 1,
        log: "info",
        console: false,
        print_log: false,
        cluster: None,
        disk: Some(Arc::new(disk::scratch(disk::MIB_DEFAULT)?)),
        agent: true,
    })
}

/// Listens until the master has measured everything and ended.
fn measured_by_master(pair: &mut Pair, phase: &Phase, ear: &mut Ear<'_>) -> Result<()> {
    const MASTER: usize = 0;
    let deadline = Instant::now() + phase.limit;
    loop {
        let now = Instant::now();
        if now >= deadline {
            return Err(pair.failure(&format!("it took longer than {} s", phase.limit.as_secs())));
        }
        match pair.next(deadline.min(now + Duration::from_millis(200))) {
            None => ear.tick(),
            Some(Happening::Guest(MASTER, Sign::Ended(status))) => {
                if status.code() != Some(exit_code(Exit::Success)) {
                    return Err(pair.failure("the master did not come to its end"));
                }
                if ear.figures() == 0 {
                    return Err(pair.failure("it measured nothing"));
                }
                return Ok(());
            }
            Some(Happening::Guest(_, Sign::Ended(_))) => {
                return Err(pair.failure("the spare ended before the master had measured everything"));
            }
            Some(Happening::Guest(_, Sign::Line(line, _))) => ear.hear(line)?,
            Some(
                Happening::Answers
                | Happening::Typed(_)
                | Happening::Stop
                | Happening::Guest(_, Sign::Console(_)),
            ) => {}
        }
    }
}

//! The inside of a test: the first process of its namespace.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hs_core::event::Event;

use super::{
    Orders, agent, crowd, descriptors, gate, guest, pairs, signals, sql, survives, tetris, visitors,
};
use crate::accel::{self, Accelerator};
use crate::command::{bare_words, root, show};
use crate::disk;
use crate::events::Line;
use crate::guest_build::{self, Variant};
use crate::host::PYTHON;
use crate::netns;
use crate::pair::{Happening, Ingredients, Pair, in_a_line};
use crate::profile::{Machine, Plan};
use crate::qemu::{Plug, Sign};

/// What a test returns: figures worth seeing.
type Outcome = Result<String>;

/// A test: its name, the images that it needs, what it does.
type Test = (
    &'static str,
    &'static [(&'static str, Variant)],
    fn(&Ground) -> Outcome,
);

const TESTS: &[Test] = &[
    ("accel", &[("kv", Variant::Usual)], |ground| {
        Ok(ground.accelerator.name().into())
    }),
    ("ktest", &[("ktest", Variant::Usual)], guest::ktest),
    ("ktest-reports", &[("ktest", Variant::Usual)], guest::reports),
    ("pair-takeover", &[("kv", Variant::Usual)], pairs::takeover),
    (
        "pair-plain",
        &[("kv", Variant::Usual)],
        pairs::takeover_without_kernel,
    ),
    (
        "pair-spare-killed",
        &[("kv", Variant::Usual)],
        pairs::spare_killed,
    ),
    ("pair-agent", &[("kv", Variant::Usual)], agent::takeover),
    ("pair-mute", &[("kv", Variant::Usual)], agent::mute),
    ("pair-damage", &[("kv", Variant::Usual)], pairs::damage),
    (
        "pair-differing",
        &[("kv", Variant::Usual), ("kv", Variant::Other)],
        pairs::differing,
    ),
    ("pair-restore", &[("kv", Variant::Usual)], pairs::restore),
    ("pair-expiry", &[("kv", Variant::Usual)], pairs::expiry),
    ("pair-conformance", &[("kv", Variant::Usual)], pairs::conformance),
    ("pair-benchmark", &[("kv", Variant::Usual)], pairs::benchmark),
    ("pair-thousand", &[("kv", Variant::Usual)], crowd::thousand),
    ("pair-datagrams", &[("kv", Variant::Usual)], crowd::datagrams),
    ("pair-idle", &[("kv", Variant::Usual)], pairs::idle),
    (
        "pair-descriptors",
        &[("descriptors", Variant::Usual)],
        descriptors::takeover,
    ),
    (
        "pair-files",
        &[("descriptors", Variant::Usual)],
        descriptors::files,
    ),
    ("pair-tetris", &[("tetris", Variant::Usual)], tetris::takeover),
    (
        "pair-visitors",
        &[("visitors", Variant::Usual)],
        visitors::takeover,
    ),
    (
        "pair-signals",
        &[("ktest", Variant::Usual), ("kv", Variant::Usual)],
        signals::signals,
    ),
    ("pair-gate", &[("gated", Variant::Usual)], gate::kills),
    ("pair-survives-incr", &[("kv", Variant::Usual)], survives::incr),
    (
        "pair-survives-benchmark",
        &[("kv", Variant::Usual)],
        survives::benchmark,
    ),
    (
        "pair-survives-bulk",
        &[("streams", Variant::Usual)],
        survives::bulk,
    ),
    (
        "pair-survives-edges",
        &[("streams", Variant::Usual)],
        survives::edges,
    ),
    ("pair-survives-udp", &[("kv", Variant::Usual)], survives::udp),
    ("pair-survives-crash", &[("kv", Variant::Usual)], survives::crash),
    ("pair-sqlite", &[("sqlite", Variant::Usual)], sql::script),
    ("pair-sqlite-killed", &[("sqlite", Variant::Usual)], sql::killed),
    ("pair-sqlite-bulk", &[("sqlite", Variant::Usual)], sql::bulk),
];

fn find(name: &str) -> Result<&'static Test> {
    TESTS
        .iter()
        .find(|test| test.0 == name)
        .with_context(|| format!("no test inside is named {name}"))
}

/// The images that test `name` needs.
///
/// # Errors
/// There is no such test.
pub(super) fn images(name: &str) -> Result<&'static [(&'static str, Variant)]> {
    Ok(find(name)?.1)
}

/// Runs the test that the orders name.
///
/// # Errors
/// It fails; the message says at what.
pub(crate) fn inside(orders: &Orders, channel: OwnedFd) -> Result<ExitCode> {
    netns::on_stop(channel, || std::process::exit(1));
    let (_, images, body) = find(&orders.name)?;
    let plan = Plan::load()?;
    let machine = plan.machine()?;
    if orders.name.starts_with("pair-") {
        netns::make_network(&plan)?;
    } else {
        netns::raise_loopback()?;
    }
    let (app, variant) = images[0];
    let accelerator = accel::settle(orders.accel, &machine, &guest_build::image(app, variant))?;
    let result = body(&Ground {
        plan,
        machine,
        accelerator,
    })?;
    println!("result: {result}");
    Ok(ExitCode::SUCCESS)
}

/// What a test stands on.
pub(super) struct Ground {
    pub(super) plan: Plan,
    pub(super) machine: Machine,
    pub(super) accelerator: Accelerator,
}

/// How long a pair may take to be ready.
pub(super) const READY_LIMIT: Duration = Duration::from_secs(60);

impl Ground {
    /// A pair of the usual images that is ready.
    pub(super) fn ready_pair(&self) -> Result<Pair> {
        let image = guest_build::image("kv", Variant::Usual);
        let mut pair = self.pair([image.clone(), image], None)?;
        pair.wait_until_ready(READY_LIMIT)?;
        Ok(pair)
    }

    /// The same ground for pairs that are slow to think each other dead.
    pub(super) fn patient(&self) -> Result<Ground> {
        let plan = Plan::load()?.patient();
        let machine = plan.machine()?;
        Ok(Ground {
            plan,
            machine,
            accelerator: self.accelerator,
        })
    }

    /// A pair that has just been started.
    pub(super) fn pair(&self, images: [PathBuf; 2], cluster: Option<[Plug; 2]>) -> Result<Pair> {
        self.pair_of(images, &self.plan.app("kv")?.words, cluster)
    }

    /// The same of an application that is told `words`.
    pub(super) fn pair_of(
        &self,
        images: [PathBuf; 2],
        words: &[String],
        cluster: Option<[Plug; 2]>,
    ) -> Result<Pair> {
        let ingredients = self.ingredients(words, images)?;
        Pair::start(&Ingredients {
            cluster,
            ..ingredients
        })
    }

    /// What an ordinary pair is made of.
    pub(super) fn ingredients<'a>(
        &'a self,
        words: &'a [String],
        images: [PathBuf; 2],
    ) -> Result<Ingredients<'a>> {
        Ok(Ingredients {
            plan: &self.plan,
            machine: &self.machine,
            options: &[],
            words,
            images,
            accelerator: self.accelerator,
            cpu: None,
            memory_mib: self.machine.memory_mib,
            seed: 1,
            log: "info",
            console: false,
            print_log: false,
            cluster: None,
            disk: Some(Arc::new(disk::scratch(disk::MIB_DEFAULT)?)),
            agent: true,
        })
    }

    /// Where clients find the service.
    pub(super) fn service(&self) -> Result<SocketAddr> {
        self.service_of("kv")
    }

    /// As [`service`](Self::service), of another application.
    pub(super) fn service_of(&self, app: &str) -> Result<SocketAddr> {
        Ok(SocketAddr::from((
            self.plan.service.address,
            self.plan.app(app)?.port,
        )))
    }

    /// The client program with `arguments`.
    pub(super) fn client(&self, arguments: &str) -> Result<Command> {
        let service = self.service()?;
        let mut python = Command::new(PYTHON);
        python
            .arg(root().join("xtask/tests/kv_client.py"))
            .arg(service.ip().to_string())
            .arg(service.port().to_string());
        python.args(arguments.split_whitespace());
        Ok(python)
    }

    /// The application's own client, which holds a running server to what Redis does.
    pub(super) fn conformance(&self) -> Result<Command> {
        let service = self.service()?;
        let mut python = Command::new(PYTHON);
        python.arg(root().join("guest-apps/kv/tests/pair_client.py"));
        python.args(["--host", &service.ip().to_string()]);
        python.args(["--port", &service.port().to_string(), "conformance"]);
        Ok(python)
    }
}

/// Runs `client` to its end while the pair goes on, prints what happens, and returns what the client wrote.
///
/// # Errors
/// The client fails or takes longer than a minute, or a guest ends that nobody killed.
pub(super) fn run_beside(
    pair: &mut Pair,
    mut client: Command,
    mut each: impl FnMut(&Happening),
) -> Result<String> {
    const LIMIT: Duration = Duration::from_secs(60);
    show(&client);
    let said = bare_words(&client);
    let mut child = client
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut readers = [
        child.stdout.take().map(read_all),
        child.stderr.take().map(read_all),
    ];
    let deadline = Instant::now() + LIMIT;
    let status = loop {
        if let Some(happening) = pair.next(Instant::now() + Duration::from_millis(20)) {
            if let Some(line) = in_a_line(pair, &happening) {
                println!("{line}");
            }
            each(&happening);
            if let Happening::Guest(index, Sign::Ended(_)) = happening
                && !pair.nodes[index].may_end
            {
                return Err(pair.failure(&format!("during {said}: {}", pair.nodes[index].obituary())));
            }
        }
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill()?;
            return Err(pair.failure(&format!("{said} took longer than {} s", LIMIT.as_secs())));
        }
    };
    let mut texts = readers.iter_mut().map(|reader| {
        reader
            .take()
            .map(|reader| reader.join().unwrap_or_default())
            .unwrap_or_default()
    });
    let (output, errors) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
    print!("{output}");
    if !status.success() {
        return Err(pair.failure(&format!("{said} failed: {status}\n{output}{errors}")));
    }
    Ok(output)
}

fn read_all(mut source: impl std::io::Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = source.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits until guest `index` (or any, if `None`) says an event that `wanted` accepts, printing what happens.
///
/// # Errors
/// See [`Pair::wait_for`].
pub(super) fn wait_for_event(
    pair: &mut Pair,
    what: &str,
    limit: Duration,
    mut wanted: impl FnMut(usize, &Event) -> bool,
) -> Result<()> {
    pair.wait_for(what, limit, |pair, happening| {
        if let Some(line) = in_a_line(pair, happening) {
            println!("{line}");
        }
        let Happening::Guest(index, Sign::Line(Line::Event(event), _)) = happening else {
            return None;
        };
        wanted(*index, event).then_some(())
    })
}

/// Kills the master and waits until the spare is master; returns how long that took, in words.
///
/// # Errors
/// There is no master, or no takeover within 10 s.
pub(super) fn take_over(pair: &mut Pair) -> Result<String> {
    let Some(master) = pair.master() else {
        bail!("there is no master to kill")
    };
    pair.kill(master);
    wait_for_event(pair, "the takeover", Duration::from_secs(10), |_, event| {
        matches!(event, Event::Takeover { .. })
    })?;
    let takeover = pair
        .takeovers
        .last()
        .context("the takeover was not accounted for")?;
    Ok(format!("takeover after {:.0} ms", takeover.total_ms))
}

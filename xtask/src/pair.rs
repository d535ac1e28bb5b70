//! Two guests and what is known of them.
//!
//! All that happens to a pair arrives on one channel as a [`Happening`]; [`Pair::next`] takes the next
//! one, brings the [`Node`]s up to date and hands it on. `run-pair` and the pair tests stand on this alike.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow};
use hs_core::event::{Event, Status};
use hs_core::platform::Exit;
use hs_core::role::Role;
use rustix::process::WaitIdStatus;

use crate::accel::Accelerator;
use crate::agent::Agent;
use crate::events::{self, Line};
use crate::netns::tap;
use crate::profile::{Machine, Plan};
use crate::qemu::{Boot, Card, Guest, Plug, Recipe, Sign, clock_s, exit_code, in_words};
use crate::report::Takeover;

/// Something happened.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Happening {
    /// A guest, by its number, let something be known.
    Guest(usize, Sign),
    /// The service has answered its question.
    Answers,
    /// A person has typed this for the master's console.
    Typed(Vec<u8>),
    /// It is time to stop; whether by a signal.
    Stop,
}

/// What to start.
pub(crate) struct Ingredients<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) machine: &'a Machine,
    /// Further options of the kernel, each `hs.name=value`.
    pub(crate) options: &'a [String],
    /// What the application is told.
    pub(crate) words: &'a [String],
    /// The image of each node: the same, but in a test of differing builds.
    pub(crate) images: [PathBuf; 2],
    pub(crate) accelerator: Accelerator,
    /// Another processor than the machine's.
    pub(crate) cpu: Option<&'static str>,
    pub(crate) memory_mib: u32,
    pub(crate) seed: u64,
    /// How much the guests log.
    pub(crate) log: &'a str,
    /// Whether each has a console.
    pub(crate) console: bool,
    /// Whether to print it while they run.
    pub(crate) print_log: bool,
    /// What the cluster cards are plugged in, if not the taps.
    pub(crate) cluster: Option<[Plug; 2]>,
    /// The disk that they share, if they have one.
    pub(crate) disk: Option<Arc<File>>,
    /// Whether the host's agent tells each that the other's process has ended.
    pub(crate) agent: bool,
}

/// One guest and what it has said of itself.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) guest: Guest,
    pub(crate) role: Option<Role>,
    /// Its newest counters.
    pub(crate) status: Status,
    /// Its latest counters while it was master with a spare: a pair's own.
    pub(crate) served: Option<Status>,
    pub(crate) build_id: Option<String>,
    pub(crate) serving: bool,
    pub(crate) ready: bool,
    /// A master whose spare is silent, and may be master by now: nobody is answered.
    pub(crate) mute: bool,
    /// Why it exits, in its own words.
    pub(crate) last_words: Option<String>,
    /// Whether its end is part of what is being done, and no failure.
    pub(crate) may_end: bool,
    /// When its process was killed by us, or ended at the point that it was told.
    pub(crate) killed: Option<Instant>,
    pub(crate) ended: Option<ExitStatus>,
}

impl Node {
    /// Whether its process runs, and nobody has set out to end it.
    pub(crate) fn alive(&self) -> bool {
        self.ended.is_none() && self.killed.is_none()
    }

    /// How it ended, with its own last words.
    pub(crate) fn obituary(&self) -> String {
        match (self.ended, &self.last_words) {
            (None, _) => format!("{} runs", self.name),
            (Some(status), None) => format!("{} {}", self.name, in_words(status)),
            (Some(status), Some(words)) => format!("{} {}: {words}", self.name, in_words(status)),
        }
    }
}

/// Two guests.
pub(crate) struct Pair {
    pub(crate) nodes: Vec<Node>,
    /// All takeovers so far.
    pub(crate) takeovers: Vec<Takeover>,
    pub(crate) agent: Option<Agent>,
    sender: Sender<Happening>,
    happenings: Receiver<Happening>,
}

impl Pair {
    /// Starts both guests, the master first.
    ///
    /// # Errors
    /// QEMU does not start.
    pub(crate) fn start(ingredients: &Ingredients<'_>) -> Result<Pair> {
        let (sender, happenings) = mpsc::channel();
        let clock_s = clock_s();
        let agent = ingredients.agent.then(|| Agent::new(ingredients.plan));
        let mut nodes = Vec::new();
        for index in 0..ingredients.plan.node.len() {
            let recipe = recipe(ingredients, index, clock_s);
            let ear = agent.as_ref().map(|agent| agent.ear(index));
            let watch = agent.as_ref().map(|agent| agent.watch(index)).transpose()?;
            let wrap = move |sign| {
                if let Some(ear) = &ear {
                    ear(&sign);
                }
                Happening::Guest(index, sign)
            };
            let at_end = move |status: &WaitIdStatus| {
                if let Some(watch) = watch {
                    watch.ended(status);
                }
            };
            let guest = Guest::start_watched(ingredients.machine, &recipe, sender.clone(), wrap, at_end)?;
            nodes.push(Node {
                name: recipe.name,
                guest,
                role: None,
                status: Status::default(),
                served: None,
                build_id: None,
                serving: false,
                ready: false,
                mute: false,
                last_words: None,
                may_end: false,
                killed: None,
                ended: None,
            });
        }
        Ok(Pair {
            nodes,
            takeovers: Vec::new(),
            agent,
            sender,
            happenings,
        })
    }

    /// Where others may report what happens.
    pub(crate) fn sender(&self) -> Sender<Happening> {
        self.sender.clone()
    }

    /// The next thing that happens before `deadline`, already accounted for.
    pub(crate) fn next(&mut self, deadline: Instant) -> Option<Happening> {
        let left = deadline.saturating_duration_since(Instant::now());
        let happening = self.happenings.recv_timeout(left).ok()?;
        match &happening {
            Happening::Guest(index, Sign::Line(Line::Event(event), at)) => self.account(*index, event, *at),
            Happening::Guest(index, Sign::Ended(status)) => {
                let node = &mut self.nodes[*index];
                node.ended = Some(*status);
                if status.code() == Some(exit_code(Exit::Fault)) {
                    // A power cut, as ordered.
                    node.may_end = true;
                    node.killed.get_or_insert(Instant::now());
                }
            }
            _ => {}
        }
        Some(happening)
    }

    fn account(&mut self, index: usize, event: &Event, at: Instant) {
        let (peer_alive, peer_killed) = (self.nodes[1 - index].alive(), self.nodes[1 - index].killed);
        let node = &mut self.nodes[index];
        match event {
            Event::Booted { build_id, .. } => node.build_id = Some(build_id.clone()),
            Event::Role { role, .. } => node.role = Some(*role),
            Event::Serving => node.serving = true,
            Event::Ready => node.ready = true,
            Event::Status(status) => {
                node.status = *status;
                if node.role == Some(Role::Master) && peer_alive {
                    node.served = Some(*status);
                }
            }
            Event::PeerLost { .. } => (node.ready, node.mute) = (false, false),
            Event::PeerSilent { .. } => node.mute = true,
            Event::PeerHeard { .. } => node.mute = false,
            Event::Takeover {
                cause,
                detect_us,
                restore_us,
                announce_us,
            } => {
                node.role = Some(Role::Master);
                // What it held is what it is now.
                node.ready = false;
                let told = Duration::from_micros(detect_us + restore_us + announce_us);
                let total = peer_killed.map_or(told, |killed| at.saturating_duration_since(killed));
                self.takeovers
                    .push(Takeover::new(cause, *detect_us, *restore_us, *announce_us, total));
            }
            Event::Exit { why } => node.last_words = Some(why.clone()),
            // After a silence it is another boot.
            Event::Paired => node.mute = false,
            Event::Session { .. } | Event::Refused { .. } | Event::Test { .. } | Event::Figure(_) => {}
        }
    }

    /// The living node that is master.
    pub(crate) fn master(&self) -> Option<usize> {
        self.nodes
            .iter()
            .position(|node| node.alive() && node.role == Some(Role::Master))
    }

    /// The living node that is spare.
    pub(crate) fn spare(&self) -> Option<usize> {
        self.nodes
            .iter()
            .position(|node| node.alive() && node.role == Some(Role::Spare))
    }

    /// Kills the process of node `index`, as a power cut would.
    pub(crate) fn kill(&mut self, index: usize) {
        self.nodes[index].killed = Some(Instant::now());
        self.nodes[index].may_end = true;
        self.nodes[index].guest.kill();
    }

    /// Takes what happens until `done` finds what it looks for.
    ///
    /// # Errors
    /// `limit` passes, a node ends that nobody killed, or a signal says stop. The message says that `what` did not happen, and
    /// holds the tails of both logs.
    pub(crate) fn wait_for<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&Pair, &Happening) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            let Some(happening) = self.next(deadline) else {
                return Err(self.failure(&format!(
                    "{what} did not come within {:.1} s",
                    limit.as_secs_f64()
                )));
            };
            if let Some(found) = done(self, &happening) {
                return Ok(found);
            }
            match happening {
                Happening::Guest(index, Sign::Ended(_)) if !self.nodes[index].may_end => {
                    return Err(
                        self.failure(&format!("{what} did not come: {}", self.nodes[index].obituary()))
                    );
                }
                Happening::Stop => return Err(anyhow!("stopped by a signal")),
                _ => {}
            }
        }
    }

    /// Waits until the spare holds a full checkpoint.
    ///
    /// # Errors
    /// See [`wait_for`](Pair::wait_for).
    pub(crate) fn wait_until_ready(&mut self, limit: Duration) -> Result<()> {
        self.wait_for("the spare's first full checkpoint", limit, |pair, _| {
            pair.is_ready().then_some(())
        })
    }

    /// Whether the master serves and the spare holds a full checkpoint.
    pub(crate) fn is_ready(&self) -> bool {
        let master_serves = self.master().is_some_and(|master| self.nodes[master].serving);
        master_serves && self.spare().is_some() && self.nodes.iter().any(|node| node.alive() && node.ready)
    }

    /// The longest silence that either node has listened to and that ended.
    pub(crate) fn silence_max_us(&self) -> u64 {
        let silences = self.nodes.iter().map(|node| node.status.silence_max_us);
        silences.max().unwrap_or_default()
    }

    /// An error that says `why`, how each node is and what it logged last.
    pub(crate) fn failure(&self, why: &str) -> Error {
        let mut text = why.to_owned();
        for node in &self.nodes {
            text.push_str(&format!(
                "\n  {}; the end of its log:\n{}",
                node.obituary(),
                node.guest.tail.text()
            ));
        }
        anyhow!(text)
    }

    /// Ends both guests: in order where they let themselves be ended so, by force where not.
    pub(crate) fn end(&mut self) {
        const LIMIT: Duration = Duration::from_secs(3);
        if let Some(agent) = &self.agent {
            agent.silence();
        }
        for node in self.nodes.iter_mut().filter(|node| node.alive()) {
            node.killed = Some(Instant::now());
            node.may_end = true;
            node.guest.quit();
        }
        let deadline = Instant::now() + LIMIT;
        while self.nodes.iter().any(|node| node.ended.is_none()) && self.next(deadline).is_some() {}
        for node in &self.nodes {
            node.guest.kill();
        }
    }
}

fn recipe(ingredients: &Ingredients<'_>, index: usize, clock_s: u64) -> Recipe {
    let Ingredients {
        plan, machine, words, ..
    } = ingredients;
    let node = &plan.node[index];
    let cluster = match &ingredients.cluster {
        Some(plugs) => plugs[index].clone(),
        None => Plug::Tap(tap(&node.name, "cluster")),
    };
    let agent = ingredients.agent.then(|| plan.agent_option());
    let options: Vec<String> = ingredients.options.iter().cloned().chain(agent).collect();
    Recipe {
        name: node.name.clone(),
        image: ingredients.images[index].clone(),
        boot: Boot::Hotspare,
        cpu: ingredients.cpu,
        command_line: plan.command_line(index, &options, words, ingredients.seed, ingredients.log),
        memory_mib: ingredients.memory_mib,
        accelerator: ingredients.accelerator,
        cards: vec![
            Card {
                link: "service",
                slot: machine.slots.service,
                mac: node.service_mac.clone(),
                mtu: None,
                plug: Plug::Tap(tap(&node.name, "service")),
            },
            Card {
                link: "cluster",
                slot: machine.slots.cluster,
                mac: node.cluster_mac.clone(),
                mtu: Some(ingredients.plan.cluster.mtu),
                plug: cluster,
            },
        ],
        disk: ingredients.disk.clone(),
        clock_s,
        console: ingredients.console,
        print_log: ingredients.print_log,
    }
}

fn ms(us: u64) -> String {
    format!("{:.1} ms", us as f64 / 1000.0)
}

/// What happened, for a person; `None` if it is not worth a line.
pub(crate) fn in_a_line(pair: &Pair, happening: &Happening) -> Option<String> {
    let Happening::Guest(index, sign) = happening else {
        return None;
    };
    let node = &pair.nodes[*index];
    let said = match sign {
        Sign::Console(_) => return None,
        Sign::Ended(_) => return (node.killed.is_none()).then(|| node.obituary()),
        Sign::Line(Line::Garbled(line), _) => format!("said what is no event: {}", line.escape_debug()),
        Sign::Line(Line::Event(event), _) => match event {
            Event::Booted {
                build_id,
                memory_mib,
                boot_us,
            } => {
                let id: String = build_id.chars().take(12).collect();
                format!("booted in {}, {memory_mib} MiB, build {id}", ms(*boot_us))
            }
            Event::Role { role, term } => format!("is {role} in term {term}"),
            Event::Serving => "serves".into(),
            Event::Paired => "sees the other node".into(),
            Event::Ready => "the spare holds a full checkpoint".into(),
            Event::PeerLost { silent_us, cause } if cause == "silence" => {
                format!("misses the other node, silent for {}", ms(*silent_us))
            }
            Event::PeerLost { cause, .. } => {
                format!("goes on alone: the other node is dead ({cause}), the agent says")
            }
            Event::PeerSilent { silent_us } => format!(
                "is mute: the spare has been silent for {}, and may be master by now",
                ms(*silent_us)
            ),
            Event::PeerHeard { silent_us } => {
                format!("hears the spare again, after {}", ms(*silent_us))
            }
            Event::Refused { what, why } => format!("refused a {what}: {why}"),
            Event::Test { name, passed, detail } => {
                format!(
                    "test {name} {}{}{detail}",
                    if *passed { "passed" } else { "FAILED" },
                    if detail.is_empty() { "" } else { ": " }
                )
            }
            Event::Figure(figure) => format!("measured {}", events::in_words(figure)),
            Event::Exit { why } => format!("ends: {why}"),
            Event::Takeover {
                cause,
                detect_us,
                restore_us,
                announce_us,
            } => format!(
                "takes over ({cause}): {} after the last sign of the master, {} to restore, {} to announce it",
                ms(*detect_us),
                ms(*restore_us),
                ms(*announce_us)
            ),
            Event::Session { .. } | Event::Status(_) => return None,
        },
    };
    Some(format!("{}: {said}", node.name))
}

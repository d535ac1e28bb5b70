//! Which of QEMU's accelerators runs the guests.
//!
//! `/dev/kvm` may exist and be of no use: a host without hardware virtualisation may offer a software
//! backend that cannot run a kernel. So `auto` boots a real guest on it and sees whether it comes up.

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;
use figures::row::Accel;
use hs_core::event::Event;
use serde::{Deserialize, Serialize};

use crate::events::Line;
use crate::profile::Machine;
use crate::qemu::{Boot, Guest, Recipe, Sign, clock_s, in_words};

/// What a person asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Choice {
    /// KVM if a guest boots on it, else TCG.
    Auto,
    /// Software emulation.
    Tcg,
    /// Hardware virtualisation.
    Kvm,
}

/// What the guests run on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Accelerator {
    /// Software emulation.
    Tcg,
    /// Hardware virtualisation.
    Kvm,
}

impl Accelerator {
    /// As QEMU and the report call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Accelerator::Tcg => "tcg",
            Accelerator::Kvm => "kvm",
        }
    }

    /// As the benchmark's rows call it.
    pub(crate) const fn accel(self) -> Accel {
        match self {
            Accelerator::Tcg => Accel::Tcg,
            Accelerator::Kvm => Accel::Kvm,
        }
    }
}

/// How long a guest may take to come up on hardware; it takes less than 0.1 s where it works.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// Settles `choice` by a look at the host and, if need be, by booting `image` alone.
///
/// # Errors
/// KVM was asked for and does not work.
pub(crate) fn settle(choice: Choice, machine: &Machine, image: &Path) -> Result<Accelerator> {
    if choice == Choice::Tcg {
        return Ok(Accelerator::Tcg);
    }
    match (choice, probe(machine, image)) {
        (_, Ok(())) => Ok(Accelerator::Kvm),
        (Choice::Kvm, Err(error)) => {
            Err(error.context("--accel kvm does not work on this host; --accel tcg does"))
        }
        (_, Err(error)) => {
            let why = format!("{error:#}");
            let why: Vec<&str> = why.lines().map(str::trim).take(2).collect();
            eprintln!(
                "accel: tcg, because kvm does not work on this host: {}",
                why.join(": ")
            );
            Ok(Accelerator::Tcg)
        }
    }
}

/// Boots a guest on KVM.
fn probe(machine: &Machine, image: &Path) -> Result<()> {
    if let Err(error) = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
    {
        bail!("cannot open /dev/kvm: {error}");
    }
    let recipe = Recipe {
        name: "probe".into(),
        image: image.into(),
        boot: Boot::Hotspare,
        cpu: None,
        command_line: "hs.log=error".into(),
        memory_mib: machine.memory_mib,
        accelerator: Accelerator::Kvm,
        cards: Vec::new(),
        disk: None,
        clock_s: clock_s(),
        console: false,
        print_log: false,
    };
    let (sender, signs) = mpsc::channel();
    let begun = Instant::now();
    let guest = Guest::start(machine, &recipe, sender, |sign| sign)?;
    while let Some(left) = PROBE_LIMIT.checked_sub(begun.elapsed()) {
        match signs.recv_timeout(left) {
            Ok(Sign::Line(Line::Event(Event::Booted { .. }), _)) => return Ok(()),
            Ok(Sign::Line(..) | Sign::Console(_)) => {}
            Ok(Sign::Ended(status)) => bail!("a guest on it {}\n{}", in_words(status), guest.tail.text()),
            Err(_) => break,
        }
    }
    bail!("a guest on it did not come up within {} s", PROBE_LIMIT.as_secs())
}

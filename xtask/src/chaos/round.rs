//! One pair, its clients, and a death.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hs_core::role::Role;

use super::Orders;
use super::plan::{Death, Plan};
use crate::accel::Accelerator;
use crate::disk;
use crate::load::{Findings, Load, beside};
use crate::pair::{Happening, Ingredients, Pair, in_a_line};
use crate::profile::{self, FAULT, Machine};
use crate::report::Takeover;

/// How long a pair may take to be ready, its clients to be at work, a takeover to come.
const SOON: Duration = Duration::from_secs(20);
/// How long clients may take to end: longer than they wait for what they are owed.
const END_LIMIT: Duration = Duration::from_secs(40);
/// A point that is not passed often enough within this time is not waited for: the process is killed.
const FAULT_LIMIT: Duration = Duration::from_secs(3);

/// What every round stands on.
pub(super) struct Ground<'a> {
    pub(super) plan: &'a profile::Plan,
    pub(super) machine: &'a Machine,
    pub(super) accelerator: Accelerator,
    pub(super) orders: &'a Orders,
    /// A signal said that it is enough.
    pub(super) stopped: &'a AtomicBool,
}

/// What came of a round.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// How the machine died.
    pub(super) death: String,
    /// It was the master.
    pub(super) of_master: bool,
    /// From the kill, by the host's clock, which is the clients' too; of the connection with one request at a time.
    pub(super) pause_ms: Option<f64>,
    /// Of the connection that waited longest.
    pub(super) worst_pause_ms: Option<f64>,
    pub(super) takeover: Option<Takeover>,
    pub(super) findings: Findings,
    /// What the pair told, and the ends of its logs; kept for rounds that went wrong.
    pub(super) account: String,
}

/// Runs `plan`.
///
/// # Errors
/// The pair did not do what it is for: it did not become ready, or nobody took over. Or a signal said stop.
pub(super) fn run(ground: &Ground<'_>, plan: &Plan) -> Result<Outcome> {
    let app = ground.plan.app(&ground.orders.app)?;
    let mut options = Vec::new();
    if let Death::Fault(fault) = plan.death {
        options.push(format!("{FAULT}={fault}"));
    }
    let mut words = app.words.clone();
    words.extend(ground.orders.words.iter().cloned());
    let mut pair = Pair::start(&Ingredients {
        plan: ground.plan,
        machine: ground.machine,
        options: &options,
        words: &words,
        images: [ground.orders.image.clone(), ground.orders.image.clone()],
        accelerator: ground.accelerator,
        cpu: None,
        memory_mib: ground.machine.memory_mib,
        seed: plan.seed,
        log: "info",
        console: false,
        print_log: false,
        cluster: None,
        agent: ground.orders.agent,
        disk: Some(Arc::new(disk::scratch(disk::MIB_DEFAULT)?)),
    })?;
    let outcome = live(ground, plan, &mut pair);
    pair.end();
    outcome
}

/// As [`beside`], and only until a signal says stop.
fn wait_for<T>(
    ground: &Ground<'_>,
    pair: &mut Pair,
    what: &str,
    limit: Duration,
    each: impl FnMut(&Pair, &Happening),
    mut done: impl FnMut(&mut Pair) -> Result<Option<T>>,
) -> Result<T> {
    beside(pair, what, limit, each, |pair| {
        ensure!(!ground.stopped.load(Ordering::SeqCst), "stopped by a signal");
        done(pair)
    })
}

fn live(ground: &Ground<'_>, plan: &Plan, pair: &mut Pair) -> Result<Outcome> {
    let told = std::cell::RefCell::new(Vec::new());
    let begun = Instant::now();
    let note = |pair: &Pair, happening: &Happening| {
        if let Some(line) = in_a_line(pair, happening) {
            told.borrow_mut().push(format!(
                "{:>8.1} ms  {line}",
                begun.elapsed().as_secs_f64() * 1000.0
            ));
        }
    };
    wait_for(ground, pair, "a pair that is ready", SOON, note, |pair| {
        Ok(pair.is_ready().then_some(()))
    })?;
    let (Some(master), Some(spare)) = (pair.master(), pair.spare()) else {
        bail!("a pair that is ready has a master and a spare");
    };
    let of_master = plan.death.role() == Role::Master;
    let victim = if of_master { master } else { spare };

    let service = (
        ground.plan.service.address,
        ground.plan.app(&ground.orders.app)?.port,
    );
    let mut load = Load::start(service.into(), &plan.load)?;
    wait_for(ground, pair, "the clients at work", SOON, note, |_| {
        Ok(load.is_ready()?.then_some(()))
    })?;
    let wait = match plan.death {
        Death::Kill(_, after) => after,
        Death::Fault(_) => FAULT_LIMIT,
    };
    let due = Instant::now() + wait;
    let mut death = plan.death.to_string();
    wait_for(ground, pair, "the death", SOON, note, |pair| {
        if pair.nodes[victim].ended.is_none() && Instant::now() < due {
            return Ok(None);
        }
        if pair.nodes[victim].ended.is_none() {
            if let Death::Fault(_) = plan.death {
                death.push_str(", not passed so often: killed");
            }
            pair.kill(victim);
        }
        Ok(Some(()))
    })?;
    let died = pair.nodes[victim]
        .killed
        .context("a node that was killed has a time of death")?;
    load.tell_killed(died);
    told.borrow_mut().push(format!(
        "{:>8.1} ms  {} dies",
        died.saturating_duration_since(begun).as_secs_f64() * 1000.0,
        pair.nodes[victim].name
    ));
    if of_master {
        wait_for(ground, pair, "the takeover", SOON, note, |pair| {
            Ok((!pair.takeovers.is_empty()).then_some(()))
        })?;
    }
    let until = Instant::now() + plan.go_on;
    wait_for(ground, pair, "the time after", SOON, note, |_| {
        Ok((Instant::now() >= until).then_some(()))
    })?;
    load.stop();
    let findings = wait_for(ground, pair, "the end of the clients", END_LIMIT, note, |_| {
        load.ended()
    })?;
    let account = if findings.is_clean() {
        String::new()
    } else {
        let told = told.borrow().join("\n");
        format!("{:#}", pair.failure(&told))
    };
    Ok(Outcome {
        death,
        of_master,
        pause_ms: findings.pauses_ms.first().copied().flatten(),
        worst_pause_ms: findings.pauses_ms.iter().copied().flatten().reduce(f64::max),
        takeover: pair.takeovers.first().cloned(),
        findings,
        account,
    })
}

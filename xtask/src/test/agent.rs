//! The agent's word, and what a master does without it.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hs_core::event::Event;

use super::inside::{Ground, READY_LIMIT, run_beside, take_over, wait_for_event};
use super::pairs::{SOON, settle};
use crate::guest_build::{self, Variant};
use crate::pair::{Ingredients, Pair};

/// Kills whose times are measured.
const KILLS: usize = 5;
/// The other node is told so soon after a kill, in the middle of the measured ones. The end of the process comes first, 2 to 3 ms
/// later on a host at rest, as its memory is given back, and up to 15 ms on a loaded one.
const TOLD_WITHIN: Duration = Duration::from_millis(30);
/// Longer than a master has patience with a silent spare: four deadlines.
const LONG: Duration = Duration::from_millis(2500);

/// Masters killed: the spare is told, and takes over by that word.
pub(super) fn takeover(ground: &Ground) -> Result<String> {
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for _ in 0..KILLS {
        let mut pair = ground.ready_pair()?;
        run_beside(&mut pair, ground.client("write 1 5")?, |_| {})?;
        take_over(&mut pair)?;
        let takeover = pair
            .takeovers
            .last()
            .context("the takeover was not accounted for")?;
        ensure!(takeover.cause == "agent", "the agent came too late: {takeover:?}");
        let decided_ms = takeover.total_ms - takeover.restore_ms - takeover.announce_ms;
        let killed = pair.nodes[0].killed.context("it was not killed")?;
        let told = pair.agent.as_ref().map(|agent| agent.told(0));
        let (Some(said), noted) = told.context("there is no agent")? else {
            bail!("the agent said nothing")
        };
        let mut note = |what, time| times.entry(what).or_default().push(time);
        note("told", said.saturating_duration_since(killed));
        if let Some(noted) = noted {
            note("noted", noted.saturating_duration_since(killed));
        }
        note("decided", Duration::from_secs_f64(decided_ms.max(0.0) / 1000.0));
        note("master", Duration::from_secs_f64(takeover.total_ms / 1000.0));
        run_beside(&mut pair, ground.client("write 2 5")?, |_| {})?;
        // The next pair is not to hear of it.
        pair.end();
    }
    let mut words = Vec::new();
    for (what, times) in &mut times {
        times.sort();
        let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
        if *what == "told" {
            ensure!(
                median <= TOLD_WITHIN,
                "told {median:?} after the kill, in the middle of {KILLS}"
            );
        }
        words.push(format!("{what} {median:.1?} (longest {longest:.1?})"));
    }
    Ok(format!("after the kill: {}", words.join(", ")))
}

/// A spare that stops for seconds and comes back, and one that is killed where no agent tells of it: the master is mute until it
/// knows more.
pub(super) fn mute(ground: &Ground) -> Result<String> {
    let mut pair = ground.ready_pair()?;
    run_beside(&mut pair, ground.client("write 1 50")?, |_| {})?;
    pair.nodes[1].guest.stop(true);
    is_mute(&mut pair)?;
    // Not a wait for something to happen: nothing may.
    thread::sleep(LONG);
    pair.nodes[1].guest.stop(false);
    let mut silent = Duration::ZERO;
    wait_for_event(&mut pair, "the spare's return", SOON, |index, event| {
        if let Event::PeerHeard { silent_us } = event {
            silent = Duration::from_micros(*silent_us);
        }
        index == 0 && !silent.is_zero()
    })?;
    ensure!(
        silent > LONG,
        "it was silent for longer than the {silent:?} that were told"
    );
    run_beside(&mut pair, ground.client("write 2 50")?, |_| {})?;
    settle(&mut pair)?;
    ensure!(
        pair.takeovers.is_empty(),
        "a spare that was stopped took over from a living master"
    );
    take_over(&mut pair)?;
    for seed in [1, 2] {
        run_beside(&mut pair, ground.client(&format!("verify {seed} 50"))?, |_| {})?;
    }
    pair.end();

    let image = guest_build::image("kv", Variant::Usual);
    let words = &ground.plan.app("kv")?.words;
    let mut pair = Pair::start(&Ingredients {
        agent: false,
        ..ground.ingredients(words, [image.clone(), image])?
    })?;
    pair.wait_until_ready(READY_LIMIT)?;
    pair.kill(1);
    is_mute(&mut pair)?;
    let until = Instant::now() + LONG;
    while let Some(happening) = pair.next(until) {
        if let Some(line) = crate::pair::in_a_line(&pair, &happening) {
            println!("{line}");
        }
    }
    ensure!(
        pair.nodes[0].alive() && pair.nodes[0].mute,
        "it did not stay mute"
    );
    Ok(format!("mute for {silent:.1?}, then on"))
}

fn is_mute(pair: &mut Pair) -> Result<()> {
    wait_for_event(pair, "the master's word that it is mute", SOON, |index, event| {
        index == 0 && matches!(event, Event::PeerSilent { .. })
    })
}

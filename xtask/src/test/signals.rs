//! Signals of a pair: from the power button, and across a takeover.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hs_core::event::Event;
use hs_core::platform::Exit;

use super::inside::{Ground, READY_LIMIT, take_over, wait_for_event};
use crate::guest_build::{self, Variant};
use crate::pair::{Happening, Pair};
use crate::qemu::{Sign, exit_code};

/// A limit for what takes milliseconds.
const SOON: Duration = Duration::from_secs(20);

/// A handler that the master had set runs on the spare that took over; and a master without one ends in order, which its
/// spare takes for the death that it is.
pub(super) fn signals(ground: &Ground) -> Result<String> {
    handled_after_takeover(ground)?;
    ended_in_order(ground)
}

fn handled_after_takeover(ground: &Ground) -> Result<()> {
    let image = guest_build::image("ktest", Variant::Usual);
    let mut pair = ground.pair_of([image.clone(), image], &["pair=signals".into()], None)?;
    pair.wait_until_ready(READY_LIMIT)?;
    take_over(&mut pair)?;
    wait_for_tests(&mut pair, &["signals-restored", "signals-waited"])?;
    press_power(&mut pair)?;
    wait_for_tests(&mut pair, &["signals-handled"])?;
    wait_for_end(&mut pair, 1, "SIGTERM was handled")
}

fn ended_in_order(ground: &Ground) -> Result<String> {
    let mut pair = ground.ready_pair()?;
    press_power(&mut pair)?;
    wait_for_event(&mut pair, "the takeover", SOON, |index, event| {
        index == 1 && matches!(event, Event::Takeover { .. })
    })?;
    wait_for_end(&mut pair, 0, "SIGTERM")?;
    let takeover = pair
        .takeovers
        .last()
        .context("the takeover was not accounted for")?;
    Ok(format!(
        "ended in order, then taken over within {:.0} ms",
        takeover.total_ms
    ))
}

/// Presses the master's power button.
fn press_power(pair: &mut Pair) -> Result<()> {
    let master = pair.master().context("there is no master")?;
    pair.nodes[master].may_end = true;
    pair.nodes[master].guest.press_power()
}

/// Waits until each of these tests has passed in a guest, in this order, and no other.
fn wait_for_tests(pair: &mut Pair, names: &[&str]) -> Result<()> {
    for expected in names {
        let mut failure = None;
        wait_for_event(pair, expected, SOON, |_, event| {
            let Event::Test { name, passed, detail } = event else {
                return false;
            };
            if !passed || name != expected {
                failure = Some(format!("test {name} in place of {expected}: {detail}"));
            }
            true
        })?;
        if let Some(failure) = failure {
            return Err(pair.failure(&failure));
        }
    }
    Ok(())
}

/// Waits until guest `index` has ended in order, saying this.
fn wait_for_end(pair: &mut Pair, index: usize, last_words: &str) -> Result<()> {
    if pair.nodes[index].ended.is_none() {
        pair.wait_for("the guest's end", SOON, |_, happening| {
            matches!(happening, Happening::Guest(of, Sign::Ended(_)) if *of == index).then_some(())
        })?;
    }
    let node = &pair.nodes[index];
    let code = node.ended.and_then(|status| status.code());
    ensure!(
        code == Some(exit_code(Exit::Success)) && node.last_words.as_deref() == Some(last_words),
        "not ended in order: {}",
        node.obituary()
    );
    Ok(())
}

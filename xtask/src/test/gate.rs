//! Pairs of `gated`, killed at random moments: the checkpoint gate in earnest.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use hs_core::event::Event;

use super::inside::{Ground, READY_LIMIT, take_over, wait_for_event};
use crate::guest_build::{self, Variant};
use crate::pair::{Ingredients, Pair};

/// Repeats a run: its kills come at the same times after the pair is ready, and the guests draw the same lots.
const SEED_VARIABLE: &str = "HS_SEED";

const KILLS: usize = 6;
/// With the planted bug, kills until it is found.
const PLANTED_KILLS_MAX: usize = 6;
/// A kill comes so long after the pair is ready, at most.
const KILL_WITHIN_MS: u64 = 400;

/// A limit for what takes milliseconds.
const SOON: Duration = Duration::from_secs(20);

/// Four workers change linked structures under the gate while checkpoints are taken: whatever the moment of the master's
/// death, the spare finds them whole and their locks free, and the workers go on. Without the gate it finds them torn.
pub(super) fn kills(ground: &Ground) -> Result<String> {
    let ground = ground.patient()?;
    let seed = seed()?;
    println!("seed {seed}: {SEED_VARIABLE}={seed} repeats it");
    let mut lots = seed;
    let mut changes = Vec::new();
    for _ in 0..KILLS {
        let (passed, detail) = kill_one(&ground, &[], &mut lots, true)?;
        if !passed {
            bail!("after a takeover: {detail} (seed {seed})");
        }
        changes.push(detail.split(' ').next().unwrap_or_default().to_owned());
    }
    let planted = ["plant=1".to_owned()];
    for kill in 1..=PLANTED_KILLS_MAX {
        let (passed, detail) = kill_one(&ground, &planted, &mut lots, false)?;
        if !passed {
            return Ok(format!(
                "whole after {KILLS} kills ({} changes); without the gate found at kill {kill}: {detail}",
                changes.join(", ")
            ));
        }
    }
    bail!("changes outside the gate were not found in {PLANTED_KILLS_MAX} kills (seed {seed})")
}

fn seed() -> Result<u64> {
    match std::env::var(SEED_VARIABLE) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{SEED_VARIABLE}={text} is no number")),
        Err(_) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            Ok(u64::from(now.subsec_nanos()))
        }
    }
}

/// The next lot (xorshift), and a new seed with it.
fn draw(lots: &mut u64) -> u64 {
    *lots = (*lots).max(1);
    *lots ^= *lots << 13;
    *lots ^= *lots >> 7;
    *lots ^= *lots << 17;
    *lots
}

/// A pair whose master is killed while it works; what the spare found then, and whether that is whole. If it is to go on, waits
/// until the workers do.
fn kill_one(ground: &Ground, words: &[String], lots: &mut u64, goes_on: bool) -> Result<(bool, String)> {
    let image = guest_build::image("gated", Variant::Usual);
    let mut pair = Pair::start(&Ingredients {
        seed: draw(lots),
        ..ground.ingredients(words, [image.clone(), image])?
    })?;
    pair.wait_until_ready(READY_LIMIT)?;
    // The workers have been at work since the master began.
    let kill_at = Instant::now() + Duration::from_millis(draw(lots) % KILL_WITHIN_MS);
    // The moment is what is random: nothing is waited for.
    while pair.next(kill_at).is_some() {}
    take_over(&mut pair)?;
    let found = told(&mut pair, "whole")?;
    if found.0 && goes_on {
        told(&mut pair, "working")?;
    }
    Ok(found)
}

/// Waits for a guest's word on `wanted`: whether it is so, and what else it says.
fn told(pair: &mut Pair, wanted: &str) -> Result<(bool, String)> {
    let mut found = None;
    wait_for_event(pair, &format!("a word on {wanted:?}"), SOON, |_, event| {
        if let Event::Test { name, passed, detail } = event
            && name == wanted
        {
            found = Some((*passed, detail.clone()));
        }
        found.is_some()
    })?;
    found.context("the word was said and lost")
}

//! Pairs in QEMU, with a real client.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hs_core::event::Event;
use hs_core::role::Term;

use super::inside::{Ground, READY_LIMIT, run_beside, take_over, wait_for_event};
use crate::command::command;
use crate::disk;
use crate::events::Line;
use crate::guest_build::{self, Variant};
use crate::pair::{Happening, Ingredients, Pair};
use crate::qemu::Sign;
use crate::run_pair::answers;
use crate::wire::Wire;

/// A limit for what takes milliseconds.
pub(super) const SOON: Duration = Duration::from_secs(20);

/// 200 keys of mixed sizes, the master killed, all keys there.
pub(super) fn takeover(ground: &Ground) -> Result<String> {
    let mut pair = ground.ready_pair()?;
    run_beside(&mut pair, ground.client("write 1 200")?, |_| {})?;
    let took = take_over(&mut pair)?;
    run_beside(&mut pair, ground.client("verify 1 200")?, |_| {})?;
    // The new master is one in full: it takes writes.
    run_beside(&mut pair, ground.client("write 2 20")?, |_| {})?;
    run_beside(&mut pair, ground.client("verify 2 20")?, |_| {})?;
    Ok(took)
}

/// The same on plain copies, and in the thesis's asynchronous mode: a checkpoint of everything takes its time, and clients would
/// wait for each. Nothing is promised but what was acknowledged.
pub(super) fn takeover_without_kernel(ground: &Ground) -> Result<String> {
    let image = guest_build::image("kv", Variant::Usual);
    let options = ["hs.cptfork=plain".to_owned()];
    let words = [&ground.plan.app("kv")?.words[..], &["commit=async".to_owned()]].concat();
    let mut pair = Pair::start(&Ingredients {
        options: &options,
        ..ground.ingredients(&words, [image.clone(), image])?
    })?;
    pair.wait_until_ready(READY_LIMIT)?;
    run_beside(&mut pair, ground.client("write 1 200")?, |_| {})?;
    settle(&mut pair)?;
    let status = pair.nodes[0].status;
    if status.incremental > 0 || status.full != status.taken {
        bail!("a checkpoint by plain copy was not a full one: {status:?}");
    }
    let took = take_over(&mut pair)?;
    run_beside(&mut pair, ground.client("verify 1 200")?, |_| {})?;
    run_beside(&mut pair, ground.client("write 2 20")?, |_| {})?;
    run_beside(&mut pair, ground.client("verify 2 20")?, |_| {})?;
    Ok(format!(
        "{took}; {} full checkpoints, pause p50 {} max {} µs",
        status.taken, status.pause_p50_us, status.pause_max_us
    ))
}

/// The spare killed, the master goes on.
pub(super) fn spare_killed(ground: &Ground) -> Result<String> {
    let mut pair = ground.ready_pair()?;
    run_beside(&mut pair, ground.client("write 1 100")?, |_| {})?;
    let Some(spare) = pair.spare() else {
        bail!("there is no spare to kill")
    };
    pair.kill(spare);
    wait_for_event(
        &mut pair,
        "the master's word that the spare is gone",
        SOON,
        |index, event| index != spare && matches!(event, Event::PeerLost { .. }),
    )?;
    // By the agent's word: silence alone would have kept it mute.
    run_beside(&mut pair, ground.client("verify 1 100")?, |_| {})?;
    run_beside(&mut pair, ground.client("write 2 100")?, |_| {})?;
    run_beside(&mut pair, ground.client("verify 2 100")?, |_| {})?;
    if !pair.takeovers.is_empty() {
        bail!("somebody took over from a living master");
    }
    Ok("200 keys".into())
}

/// A checkpoint damaged on its way: the spare refuses it and says so, a sound one follows, and nothing is lost.
pub(super) fn damage(ground: &Ground) -> Result<String> {
    let (wire, plugs) = Wire::lay()?;
    let image = guest_build::image("kv", Variant::Usual);
    let mut pair = ground.pair([image.clone(), image], Some(plugs))?;
    pair.wait_until_ready(READY_LIMIT)?;
    run_beside(&mut pair, ground.client("write 1 50")?, |_| {})?;
    wire.damage(1);
    let mut refusal = None;
    let Some(spare) = pair.spare() else {
        bail!("there is no spare")
    };
    let mut look = |happening: &Happening| {
        if let Happening::Guest(index, Sign::Line(Line::Event(Event::Refused { what, why }), _)) = happening
            && *index == spare
            && what == "checkpoint"
        {
            refusal = Some(why.clone());
        }
    };
    run_beside(&mut pair, ground.client("write 2 50")?, &mut look)?;
    if wire.damage_left() > 0 {
        bail!("no frame of a checkpoint passed that could be damaged");
    }
    let deadline = Instant::now() + SOON;
    while refusal.is_none() {
        let Some(happening) = pair.next(deadline) else {
            return Err(pair.failure("the spare did not refuse the damaged checkpoint"));
        };
        if let Happening::Guest(index, Sign::Line(Line::Event(Event::Refused { what, why }), _)) = happening
            && index == spare
            && what == "checkpoint"
        {
            refusal = Some(why);
        }
    }
    // From here on the wire is sound: what is written now must reach the spare, on top of all that was refused.
    run_beside(&mut pair, ground.client("write 3 50")?, |_| {})?;
    settle(&mut pair)?;
    take_over(&mut pair)?;
    for seed in 1..=3 {
        run_beside(&mut pair, ground.client(&format!("verify {seed} 50"))?, |_| {})?;
    }
    Ok(format!("refused: {}", refusal.unwrap_or_default()))
}

/// Waits until the nodes have nothing more to tell, and every checkpoint that the master has taken is acknowledged.
pub(super) fn settle(pair: &mut Pair) -> Result<()> {
    /// Counters are told while they change, several times in this span.
    const QUIET: Duration = Duration::from_secs(1);
    let deadline = Instant::now() + SOON;
    while pair.next(Instant::now() + QUIET).is_some() {
        if Instant::now() >= deadline {
            return Err(pair.failure("the pair does not come to rest"));
        }
    }
    let rests = pair.is_ready()
        && pair
            .master()
            .is_some_and(|master| pair.nodes[master].status.in_flight == 0);
    if rests {
        Ok(())
    } else {
        Err(pair.failure("the pair came to rest without an acknowledgement of every checkpoint"))
    }
}

/// Two builds: both nodes say so, naming both, and the master serves alone.
pub(super) fn differing(ground: &Ground) -> Result<String> {
    let images = [
        guest_build::image("kv", Variant::Usual),
        guest_build::image("kv", Variant::Other),
    ];
    let mut pair = ground.pair(images, None)?;
    // A spare that can never be one ends itself.
    pair.nodes[1].may_end = true;
    let mut refusals: [Option<String>; 2] = [None, None];
    wait_for_event(
        &mut pair,
        "a refusal by both nodes",
        READY_LIMIT,
        |index, event| {
            if let Event::Refused { what, why } = event
                && what == "peer"
            {
                refusals[index] = Some(why.clone());
            }
            refusals.iter().all(Option::is_some)
        },
    )?;
    let ids: Vec<String> = pair
        .nodes
        .iter()
        .filter_map(|node| node.build_id.clone())
        .collect();
    if ids.len() != 2 || ids[0] == ids[1] {
        bail!("the images are not two builds: {ids:?}");
    }
    for why in refusals.iter().flatten() {
        // A person compares beginnings; twelve digits are enough to find the build.
        if !ids.iter().all(|id| why.contains(&id[..12.min(id.len())])) {
            bail!("a refusal does not name both builds ({}): {why}", ids.join(", "));
        }
    }
    if !pair.nodes[0].serving {
        pair.wait_for("the master's service", SOON, |pair, _| {
            pair.nodes[0].serving.then_some(())
        })?;
    }
    answers(ground.service()?, ground.plan.app("kv")?)?;
    run_beside(&mut pair, ground.client("write 1 20")?, |_| {})?;
    run_beside(&mut pair, ground.client("verify 1 20")?, |_| {})?;
    if pair.is_ready() || !pair.takeovers.is_empty() {
        bail!("they became a pair after all");
    }
    Ok(refusals.into_iter().flatten().next().unwrap_or_default())
}

/// Both machines killed, the second in the middle of its checkpoints: a pair that begins from the disk has all keys, and
/// outlives its master in its turn.
pub(super) fn restore(ground: &Ground) -> Result<String> {
    let disk = Arc::new(disk::scratch(disk::MIB_DEFAULT)?);
    let image = guest_build::image("kv", Variant::Usual);
    let images = || [image.clone(), image.clone()];
    let keep = String::from("hs.checkpoint-file=HSCPT");
    let words = &ground.plan.app("kv")?.words;
    let mut pair = Pair::start(&Ingredients {
        options: std::slice::from_ref(&keep),
        disk: Some(Arc::clone(&disk)),
        ..ground.ingredients(words, images())?
    })?;
    pair.wait_until_ready(READY_LIMIT)?;
    run_beside(&mut pair, ground.client("write 1 60")?, |_| {})?;
    // All checkpoints are acknowledged: the file has them too, or they would not be.
    settle(&mut pair)?;
    let mut writer = ground
        .client("write 2 2000")?
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // Some checkpoints further: one of them is being written now.
    let before = pair.nodes[0].status.taken;
    let went_on = pair.wait_for("further checkpoints", SOON, |pair, _| {
        (pair.nodes[0].status.taken > before + 20).then_some(())
    });
    for node in 0..2 {
        pair.kill(node);
    }
    writer.kill()?;
    writer.wait()?;
    went_on?;
    pair.end();
    drop(pair);

    let begun = Instant::now();
    let options = [keep, String::from("hs.restore=HSCPT")];
    let mut pair = Pair::start(&Ingredients {
        options: &options,
        disk: Some(disk),
        ..ground.ingredients(words, images())?
    })?;
    let mut told = None;
    pair.wait_for("the restored master", SOON, |_, happening| {
        if let Happening::Guest(0, Sign::Line(Line::Event(Event::Role { term, .. }), _)) = happening {
            told = Some(*term);
        }
        told
    })?;
    let took = begun.elapsed();
    if told != Some(Term::FIRST.next()) {
        bail!("the restored master is in term {told:?}, and not in the one after the first");
    }
    pair.wait_until_ready(READY_LIMIT)?;
    run_beside(&mut pair, ground.client("verify 1 60")?, |_| {})?;
    run_beside(&mut pair, ground.client("write 3 20")?, |_| {})?;
    settle(&mut pair)?;
    take_over(&mut pair)?;
    for words in ["verify 1 60", "verify 3 20"] {
        run_beside(&mut pair, ground.client(words)?, |_| {})?;
    }
    Ok(format!("60 keys, master {} ms after its start", took.as_millis()))
}

/// Keys with a time to live keep it across a takeover.
pub(super) fn expiry(ground: &Ground) -> Result<String> {
    let mut pair = ground.ready_pair()?;
    let deadlines = run_beside(&mut pair, ground.client("expire")?, |_| {})?;
    let took = take_over(&mut pair)?;
    run_beside(
        &mut pair,
        ground.client(&format!("verify-expire {}", deadlines.trim()))?,
        |_| {},
    )?;
    Ok(took)
}

/// Every command over the wire as a real Redis answered it, and what only many connections can show.
pub(super) fn conformance(ground: &Ground) -> Result<String> {
    let ground = ground.patient()?;
    let mut pair = ground.ready_pair()?;
    let said = run_beside(&mut pair, ground.conformance()?, |_| {})?;
    Ok(format!("{} parts", said.lines().count()))
}

/// The benchmark that ships with Redis.
pub(super) fn benchmark(ground: &Ground) -> Result<String> {
    let mut pair = ground.ready_pair()?;
    let service = ground.service()?;
    let mut benchmark: Command = command("redis-benchmark");
    benchmark.args(["-h", &service.ip().to_string(), "-p", &service.port().to_string()]);
    benchmark.args("-t set,get,incr -n 20000 -c 20 -P 4 -q --precision 2".split(' '));
    let said = run_beside(&mut pair, benchmark, |_| {})?;
    if said.to_lowercase().contains("error") {
        bail!("redis-benchmark met errors");
    }
    let figures: Vec<&str> = said
        .split(['\n', '\r'])
        .filter(|line| line.contains("requests per second"))
        .collect();
    if figures.len() < 3 {
        bail!("redis-benchmark did not end all three tests");
    }
    settle(&mut pair)?;
    let status = pair.nodes[0].status;
    Ok(format!(
        "{}; {} checkpoints, pause p50 {} p99 {} max {} µs",
        figures.join("; "),
        status.taken,
        status.pause_p50_us,
        status.pause_p99_us,
        status.pause_max_us
    ))
}

/// A pair with nothing to do costs the host next to nothing.
pub(super) fn idle(ground: &Ground) -> Result<String> {
    /// Percent of one processor, for each guest.
    const LIMIT_PERCENT: f64 = 5.0;
    const SPAN: Duration = Duration::from_secs(5);
    let mut pair = ground.ready_pair()?;
    settle(&mut pair)?;
    let used = |pair: &Pair| -> Result<Vec<Duration>> {
        pair.nodes
            .iter()
            .map(|node| node.guest.processor_time())
            .collect()
    };
    let before = used(&pair)?;
    let begun = Instant::now();
    // The quantity measured is use over time: this sleep is the measurement.
    thread::sleep(SPAN);
    let span = begun.elapsed();
    let percent: Vec<f64> = used(&pair)?
        .iter()
        .zip(&before)
        .map(|(now, then)| (*now - *then).as_secs_f64() / span.as_secs_f64() * 100.0)
        .collect();
    let figures = format!(
        "master {:.1} %, spare {:.1} % of a processor",
        percent[0], percent[1]
    );
    if percent.iter().any(|percent| *percent > LIMIT_PERCENT) {
        bail!("an idle guest may use {LIMIT_PERCENT} %: {figures}");
    }
    Ok(figures)
}

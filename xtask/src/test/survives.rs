//! Connections that outlive their master: clients that are not ours, their own kernel's TCP facing the guest.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::inside::{Ground, READY_LIMIT};
use crate::command::{bare_words, command, show};
use crate::guest_build::{self, Variant};
use crate::load::{Findings, Load, beside};
use crate::pair::{Happening, Pair, in_a_line};

/// A limit for what takes milliseconds.
const SOON: Duration = Duration::from_secs(20);
/// A limit for clients that are to end: longer than they wait for what they are owed.
const END_LIMIT: Duration = Duration::from_secs(40);
/// So long clients are at work before the kill, and after the takeover. What is waited for is that time passes under load.
const UNDER_LOAD: Duration = Duration::from_millis(400);

fn print(pair: &Pair, happening: &Happening) {
    if let Some(line) = in_a_line(pair, happening) {
        println!("{line}");
    }
}

fn pass_time(pair: &mut Pair, span: Duration) -> Result<()> {
    let until = Instant::now() + span;
    beside(pair, "some time", SOON, print, |_| {
        Ok((Instant::now() >= until).then_some(()))
    })
}

fn ready_pair(ground: &Ground, app: &str, words: &[String]) -> Result<Pair> {
    let image = guest_build::image(app, Variant::Usual);
    let mut pair = ground.pair_of([image.clone(), image], words, None)?;
    pair.wait_until_ready(READY_LIMIT)?;
    Ok(pair)
}

fn at_work(pair: &mut Pair, load: &mut Load) -> Result<()> {
    beside(pair, "the clients at work", SOON, print, |_| {
        Ok(load.is_ready()?.then_some(()))
    })
}

fn kill(pair: &mut Pair) -> Result<Instant> {
    let Some(master) = pair.master() else {
        bail!("there is no master to kill")
    };
    pair.kill(master);
    pair.nodes[master].killed.context("it was killed just now")
}

fn taken_over(pair: &mut Pair) -> Result<f64> {
    beside(pair, "the takeover", SOON, print, |pair| {
        Ok(pair.takeovers.first().map(|takeover| takeover.total_ms))
    })
}

fn end(pair: &mut Pair, load: &mut Load) -> Result<Findings> {
    let findings = beside(pair, "the end of the clients", END_LIMIT, print, |_| load.ended())?;
    if findings.is_clean() {
        Ok(findings)
    } else {
        Err(pair.failure(&format!("clients met:\n  {}", findings.violations.join("\n  "))))
    }
}

/// Clients of `app`, each told one of `arguments`, through a kill. Returns what they met, and how long the takeover took.
fn through_a_kill(ground: &Ground, app: &str, arguments: &[&str]) -> Result<(Vec<Findings>, String)> {
    let mut pair = ready_pair(ground, app, &ground.plan.app(app)?.words)?;
    let service = ground.service_of(app)?;
    let mut loads = Vec::new();
    for arguments in arguments {
        loads.push(Load::start(service, arguments)?);
    }
    for load in &mut loads {
        at_work(&mut pair, load)?;
    }
    pass_time(&mut pair, UNDER_LOAD)?;
    let killed = kill(&mut pair)?;
    loads.iter_mut().for_each(|load| load.tell_killed(killed));
    let total_ms = taken_over(&mut pair)?;
    pass_time(&mut pair, UNDER_LOAD)?;
    loads.iter_mut().for_each(Load::stop);
    let mut all = Vec::new();
    for load in &mut loads {
        all.push(end(&mut pair, load)?);
    }
    Ok((all, format!("takeover after {total_ms:.0} ms")))
}

/// One connection with one INCR at a time and four with eight each; beside them keys are set and read.
pub(super) fn incr(ground: &Ground) -> Result<String> {
    let arguments = "incr --connections 4 --window 8 --mixed 2";
    let (all, took) = through_a_kill(ground, "kv", &[arguments])?;
    let findings = &all[0];
    let pause = |pause: Option<f64>| pause.map_or("none".into(), |pause| format!("{pause:.1} ms"));
    let worst = findings.pauses_ms.iter().copied().flatten().fold(0.0, f64::max);
    Ok(format!(
        "{took}; {} replies, each once and in order; pause {}, of the slowest connection {}",
        findings.replies,
        pause(findings.pauses_ms.first().copied().flatten()),
        pause(Some(worst)),
    ))
}

/// Megabytes each way, hashed.
pub(super) fn bulk(ground: &Ground) -> Result<String> {
    Ok(through_a_kill(ground, "streams", &["bulk --streams 2"])?.1)
}

/// One datagram at a time, each answered once at most.
pub(super) fn udp(ground: &Ground) -> Result<String> {
    Ok(through_a_kill(ground, "kv", &["udp"])?.1)
}

/// Half-closed connections, closed windows, SYNs and FINs under way.
pub(super) fn edges(ground: &Ground) -> Result<String> {
    Ok(through_a_kill(ground, "streams", &["half-close", "slow-reader", "edges"])?.1)
}

/// The application is crashed by a client: what crashed it must not crash the next.
pub(super) fn crash(ground: &Ground) -> Result<String> {
    let mut words = ground.plan.app("kv")?.words.clone();
    words.push("crash=on".into());
    let mut pair = ready_pair(ground, "kv", &words)?;
    let mut load = Load::start(ground.service()?, "crash")?;
    at_work(&mut pair, &mut load)?;
    let master = pair.master().context("there is no master to crash")?;
    pair.nodes[master].may_end = true;
    load.tell_killed(Instant::now());
    let total_ms = taken_over(&mut pair)?;
    let last_words = pair.nodes[master].last_words.clone().unwrap_or_default();
    if !last_words.contains("a client ordered CRASH") {
        bail!("the master did not die of its client's order: {last_words}");
    }
    load.stop();
    end(&mut pair, &mut load)?;
    if pair.master().is_none() {
        return Err(pair.failure("the new master did not outlive what crashed the old one"));
    }
    Ok(format!("takeover after {total_ms:.0} ms"))
}

/// Connections that kv has accepted so far, this question's own among them.
fn connections(service: SocketAddr) -> Result<u64> {
    const NAME: &str = "total_connections_received:";
    let mut stream = TcpStream::connect_timeout(&service, SOON)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(b"INFO stats\r\nQUIT\r\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    let count = said.lines().find_map(|line| line.strip_prefix(NAME));
    count
        .and_then(|count| count.trim().parse().ok())
        .with_context(|| format!("INFO does not tell {NAME} {said}"))
}

/// The benchmark that ships with Redis, at work at the kill: it ends well, on the connections that it had made.
pub(super) fn benchmark(ground: &Ground) -> Result<String> {
    const CLIENTS: u64 = 20;
    let mut pair = ready_pair(ground, "kv", &ground.plan.app("kv")?.words)?;
    let service = ground.service()?;
    let before = connections(service)?;
    let mut benchmark = command("redis-benchmark");
    benchmark.args(["-h", &service.ip().to_string(), "-p", &service.port().to_string()]);
    benchmark.args(["-c", &CLIENTS.to_string()]);
    benchmark.args("-t incr -n 120000 -P 4 -q --precision 2".split(' '));
    show(&benchmark);
    let said = bare_words(&benchmark);
    let (mut output, input) = std::io::pipe()?;
    benchmark
        .stdin(Stdio::null())
        .stdout(input.try_clone()?)
        .stderr(input);
    let mut child = benchmark
        .spawn()
        .with_context(|| format!("cannot start {said}"))?;
    drop(benchmark);
    let reader = thread::spawn(move || {
        let mut text = String::new();
        let _ = output.read_to_string(&mut text);
        text
    });
    // Its connections are there before the first request.
    let deadline = Instant::now() + SOON;
    while connections(service)? < before + CLIENTS {
        if Instant::now() >= deadline {
            return Err(pair.failure("redis-benchmark did not connect"));
        }
    }
    pass_time(&mut pair, UNDER_LOAD)?;
    if let Some(status) = child.try_wait()? {
        bail!("{said} was not at work any more at the kill: {status}");
    }
    let at_work = connections(service)?;
    kill(&mut pair)?;
    let total_ms = taken_over(&mut pair)?;
    let after_kill = child.try_wait()?;
    let status = beside(&mut pair, "the end of redis-benchmark", END_LIMIT, print, |_| {
        Ok(child.try_wait()?)
    });
    if status.is_err() {
        let _ = (child.kill(), child.wait());
    }
    let text = reader.join().unwrap_or_default();
    let status = status?;
    if !status.success() || text.to_lowercase().contains("error") {
        return Err(pair.failure(&format!("{said} met the kill: {status}\n{text}")));
    }
    if let Some(status) = after_kill {
        bail!("{said} had ended at the takeover: {status}");
    }
    // This question is one more than when it was at work.
    let after = connections(service)?;
    if after != at_work + 1 {
        bail!("{said} connected anew: {after} connections, and {at_work} when it was at work");
    }
    let mut figures = text
        .split(['\n', '\r'])
        .filter(|line| line.contains("per second"));
    Ok(format!(
        "takeover after {total_ms:.0} ms; {}",
        figures.next_back().unwrap_or_default()
    ))
}

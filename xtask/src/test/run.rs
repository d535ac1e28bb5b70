//! `run-pair` itself, as a person starts it.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::runner::Runner;
use crate::command::{OURSELVES, root};
use crate::disk;
use crate::events::Tail;
use crate::host::PYTHON;
use crate::load::Load;

/// A started `run-pair`. Dropping it ends it.
struct Started {
    child: Child,
    lines: BufReader<ChildStdout>,
    /// The commands that it shows, and why it fails if it does.
    said: Tail,
}

impl Started {
    fn new(arguments: &[&str]) -> Result<Started> {
        let mut command = Command::new(OURSELVES);
        command
            .arg("run-pair")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        let (said, _) = Tail::follow(child.stderr.take().expect("it is piped"), |_| {});
        Ok(Started { child, lines, said })
    }

    /// The rest of the first line that begins with `start`.
    fn line(&mut self, start: &str) -> Result<String> {
        let mut before = String::new();
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line)? == 0 {
                let status = self.child.wait()?;
                bail!(
                    "run-pair ended ({status}) without a line `{start}…`:\n{before}{}",
                    self.said.text()
                );
            }
            if let Some(rest) = line.strip_prefix(start) {
                return Ok(rest.trim().to_owned());
            }
            before.push_str(&line);
        }
    }

    /// Waits for its end, which must be a success.
    fn end(&mut self) -> Result<()> {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest)?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("run-pair ended with {status}:\n{rest}{}", self.said.text());
        }
        Ok(())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The word for what runs the guests.
pub(super) fn accel(runner: &Runner) -> &'static str {
    match runner.accel() {
        crate::accel::Choice::Auto => "auto",
        crate::accel::Choice::Tcg => "tcg",
        crate::accel::Choice::Kvm => "kvm",
    }
}

/// A file that is removed again.
struct Scratch(PathBuf);

impl Scratch {
    /// A name that nobody has, `kind` and `suffix` in it.
    fn new(kind: &str, suffix: &str) -> Self {
        Self(
            root()
                .join("target")
                .join(format!("{kind}-{}.{suffix}", std::process::id())),
        )
    }

    fn name(&self) -> String {
        self.0.to_string_lossy().into_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The documented run: a client writes through the forwarded port, the master dies, the client finds every key.
pub(super) fn as_documented(runner: &mut Runner) -> Result<()> {
    let (report, disk) = (Scratch::new("report", "json"), Scratch::new("disk", "img"));
    let (path, disk_path) = (report.name(), disk.name());
    let arguments = [
        "--headless",
        "--forward",
        "0",
        "--kill-master-after",
        "10",
        "--exit-after",
        "20",
        "--report",
        &path,
        "--disk",
        &disk_path,
        "--accel",
        accel(runner),
    ];
    let mut run = Started::new(&arguments)?;
    let port = run.line("ready: service 127.0.0.1:")?;
    let client = |runner: &mut Runner, what: &str| {
        let mut client = Command::new(PYTHON);
        client
            .arg(root().join("xtask/tests/kv_client.py"))
            .args(["127.0.0.1", &port])
            .args(what.split(' '));
        runner.run(client, Duration::from_secs(9))
    };
    client(runner, "write 5 200")?;
    // And from inside the pair's network, where the service has its own address.
    let mut inside = Command::new(OURSELVES);
    inside.args([
        "client",
        "--pair",
        &run.child.id().to_string(),
        "--",
        "redis-cli",
        "-h",
        "10.77.0.10",
        "dbsize",
    ]);
    let counted = runner.run(inside, Duration::from_secs(5))?;
    if !counted.lines().any(|line| line.trim() == "200") {
        bail!("`client` saw not 200 keys but: {counted}");
    }
    let took = run.line("takeover: spare is master after ")?;
    client(runner, "verify 5 200")?;
    run.end()?;
    drop(disk::open(&disk.0, disk::MIB_DEFAULT).context("the run's disk was not kept")?);
    check_report(&std::fs::read_to_string(&report.0).context("no report was written")?)?;
    runner.note(&format!("takeover after {took}"));
    Ok(())
}

/// A client on the forwarded port, with one connection and a few more, does not notice that the master dies.
pub(super) fn survives(runner: &mut Runner) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(40);
    let disk = Scratch::new("disk", "img");
    let disk_path = disk.name();
    let arguments = [
        "--headless",
        "--forward",
        "0",
        "--kill-master-after",
        "3",
        "--exit-after",
        "60",
        "--disk",
        &disk_path,
        "--accel",
        accel(runner),
    ];
    let mut run = Started::new(&arguments)?;
    let port: u16 = run.line("ready: service 127.0.0.1:")?.parse()?;
    let mut load = Load::start(([127, 0, 0, 1], port).into(), "incr --connections 2 --mixed 1")?;
    let deadline = Instant::now() + LIMIT;
    while !load.is_ready()? {
        if Instant::now() >= deadline {
            bail!("the clients did not get to work");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let took = run.line("takeover: spare is master after ")?;
    // Each connection ends with one more request, which only the new master can answer.
    load.stop();
    let findings = loop {
        if let Some(findings) = load.ended()? {
            break findings;
        }
        if Instant::now() >= deadline {
            bail!("the clients did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    if !findings.is_clean() {
        bail!("clients met:\n  {}", findings.violations.join("\n  "));
    }
    runner.note(&format!("takeover after {took}, {} replies", findings.replies));
    Ok(())
}

fn check_report(text: &str) -> Result<()> {
    let report: serde_json::Value = serde_json::from_str(text)?;
    let number = |path: &str| report.pointer(path).and_then(serde_json::Value::as_f64);
    let positive = [
        "/checkpoints/taken",
        "/checkpoints/acked",
        "/checkpoints/full",
        "/checkpoints/bytes",
        "/checkpoints/pause_us/max",
    ];
    let present = [
        "/checkpoints/incremental",
        "/checkpoints/pause_us/p50",
        "/checkpoints/pause_us/p99",
    ];
    let takeover =
        ["detect_ms", "restore_ms", "announce_ms", "total_ms"].map(|name| format!("/takeovers/0/{name}"));
    let all_positive = positive
        .iter()
        .all(|path| number(path).is_some_and(|value| value > 0.0));
    let all_there = present
        .iter()
        .copied()
        .chain(takeover.iter().map(String::as_str))
        .all(|path| number(path).is_some());
    let one = report["takeovers"]
        .as_array()
        .is_some_and(|takeovers| takeovers.len() == 1);
    if !(all_positive
        && all_there
        && one
        && report["app"] == "kv"
        && report["takeovers"][0]["cause"].is_string())
    {
        bail!("the report does not tell of this run: {text}");
    }
    Ok(())
}

/// SIGKILL of the outermost process: everything goes, in a moment.
pub(super) fn leaves_nothing(runner: &mut Runner) -> Result<()> {
    let disk = Scratch::new("disk", "img");
    let arguments = [
        "--headless",
        "--forward",
        "0",
        "--disk",
        &disk.name(),
        "--accel",
        accel(runner),
    ];
    let mut run = Started::new(&arguments)?;
    run.line("ready: ")?;
    let outer = run.child.id();
    let inner = descendants(outer)?;
    let namespaces: Vec<PathBuf> = inner
        .iter()
        .filter_map(|pid| network_of(*pid))
        .filter(|network| Some(network) != network_of(outer).as_ref())
        .collect();
    if inner.len() < 4 || namespaces.is_empty() {
        bail!("expected unshare, the inside and two guests below run-pair, found processes {inner:?}");
    }
    kill_process(Pid::from_child(&run.child), Signal::KILL)?;
    let begun = Instant::now();
    let left = loop {
        let processes: Vec<u32> = inner.iter().copied().filter(|pid| runs(*pid)).collect();
        let in_namespace = all_processes()?
            .into_iter()
            .filter_map(network_of)
            .any(|network| namespaces.contains(&network));
        // A process whose first thread is gone may still have others, and its files with them.
        let holds_disk = disk::open(&disk.0, disk::MIB_DEFAULT).is_err();
        if processes.is_empty() && !in_namespace && !holds_disk {
            break begun.elapsed();
        }
        if begun.elapsed() > Duration::from_secs(5) {
            bail!(
                "left behind after 5 s: processes {processes:?}, somebody in the namespace: {in_namespace}, its disk in use: {holds_disk}"
            );
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    runner.note(&format!(
        "{} processes gone after {} ms",
        inner.len(),
        left.as_millis()
    ));
    Ok(())
}

fn all_processes() -> Result<Vec<u32>> {
    let entries = std::fs::read_dir("/proc")?;
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect())
}

/// The fields of a process's `stat` after its name: state, parent, ...
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(
        text.rsplit_once(')')?
            .1
            .split_whitespace()
            .map(String::from)
            .collect(),
    )
}

fn runs(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] != "Z")
}

fn network_of(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}

fn descendants(of: u32) -> Result<Vec<u32>> {
    let parents: Vec<(u32, u32)> = all_processes()?
        .into_iter()
        .filter_map(|pid| Some((pid, stat(pid)?[1].parse().ok()?)))
        .collect();
    let mut found = vec![of];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(pid, _)| *pid),
        );
        at += 1;
    }
    found.remove(0);
    Ok(found)
}

/// What cannot be is said at once, by name.
pub(super) fn refusals(_: &mut Runner) -> Result<()> {
    let held = TcpListener::bind("127.0.0.1:0")?;
    let port = held.local_addr()?.port().to_string();
    let disk = Scratch::new("disk", "img");
    let disk_path = disk.name();
    let _held_disk = disk::open(&disk.0, disk::MIB_DEFAULT)?;
    let letter = root().join("README.md").to_string_lossy().into_owned();
    let cases: [(&[&str], &str); 4] = [
        (&["--forward", &port], &port),
        (&["--app", "nosuch"], "nosuch"),
        (
            &["--forward", "0", "--disk", &letter],
            "is not the disk of a pair",
        ),
        (
            &["--forward", "0", "--disk", &disk_path],
            "in use by another pair",
        ),
    ];
    for (arguments, word) in cases {
        let mut command = Command::new(OURSELVES);
        let output = command
            .arg("run-pair")
            .arg("--headless")
            .args(arguments)
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() || !said.contains(word) {
            bail!(
                "run-pair {arguments:?} ended with {} and said: {said}",
                output.status
            );
        }
    }
    Ok(())
}

//! A pair's own corner of the host: user, network, pid and mount namespaces, made without root.
//!
//! ```text
//!  outside   run-pair        binds ports and files, waits, passes on signals and the exit status
//!              | fork, exec; dies with its parent (PR_SET_PDEATHSIG)
//!            enter           execs into
//!            unshare         makes the namespaces, waits; --kill-child: its child dies with it
//!              | fork
//!  --------- namespaces ------------------------------------------------------------------
//!  inside    inside          process 1: when it ends, in whatever way, the kernel ends
//!              | fork        every process of the pid namespace, and with the last of them
//!            qemu a, qemu b  the namespaces, bridges and taps go
//! ```
//!
//! So nothing can stay behind, not even when the outermost process is killed by SIGKILL: there is no
//! clean-up code that could be missed. No files are made either: guests speak over inherited pipes and sockets.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{PidfdFlags, Resource, Rlimit, Signal, setrlimit};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::command::{OURSELVES, command, show};
use crate::profile::Plan;
use crate::{bench, chaos, handover, run_pair, test, tied};

/// What to do inside.
#[derive(Serialize, Deserialize)]
pub(crate) enum Task {
    /// A pair for a person. Its files: see [`run_pair::inside`].
    RunPair(run_pair::Orders),
    /// One test.
    Test(test::Orders),
    /// The guests of a benchmark. Its file: see [`bench::inside`].
    Bench(bench::Orders),
    /// Pairs that lose a machine. Its files: see [`chaos::inside`].
    Chaos(chaos::Orders),
}

/// How long the inside has to end in order after the first signal.
const GRACE: Duration = Duration::from_secs(5);

/// Runs `task` inside new namespaces, hands it `files`, waits for its end and passes on its exit status.
///
/// # Errors
/// The namespaces cannot be made.
pub(crate) fn run(task: &Task, files: &[BorrowedFd<'_>]) -> Result<ExitCode> {
    let (ours, theirs) = handover::channel()?;
    let terminal = std::io::stdin();
    let settings = tcgetattr(&terminal).ok();
    // Before the fork: no signal may find us without a handler once there is something to end.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let mut child = Command::new(OURSELVES)
        .args(["enter", &std::process::id().to_string()])
        .stdin(theirs)
        .spawn()
        .context("cannot start a process")?;
    let handle = rustix::process::pidfd_open(rustix::process::Pid::from_child(&child), PidfdFlags::empty())?;
    handover::send(&ours, task, files)?;
    let lifeline = ours.try_clone()?;
    thread::spawn(move || {
        for _ in signals.forever() {
            // Its end may already be under way: then there is nobody to tell.
            let _ = handover::send(&lifeline, &"stop", &[]);
            let handle = handle.try_clone();
            thread::spawn(move || {
                thread::sleep(GRACE);
                if let Ok(handle) = handle {
                    let _ = rustix::process::pidfd_send_signal(handle, Signal::KILL);
                }
            });
        }
    });
    let status = child.wait()?;
    if let Some(settings) = settings {
        // Whatever became of the inside, the terminal is as it was.
        let _ = tcsetattr(&terminal, OptionalActions::Now, &settings);
    }
    match (status.code(), status.signal()) {
        (Some(code), _) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        (None, Some(signal)) => bail!("the process inside the namespace was ended by signal {signal}"),
        (None, None) => bail!("the process inside the namespace ended: {status}"),
    }
}

/// The process in between: ties its life to `parent` and becomes `unshare`.
///
/// # Errors
/// The parent is gone, or `unshare` is.
pub(crate) fn enter(parent: u32) -> Result<ExitCode> {
    tied::tie_to(parent)?;
    // Survives the exec, so that the inside is this very program even if its file was replaced meanwhile.
    let program = File::open(OURSELVES)?;
    fcntl_setfd(&program, FdFlags::empty())?;
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&program));
    let mut unshare = command("unshare");
    unshare.args([
        "--user",
        "--map-root-user",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    unshare.arg(path).arg("inside");
    Err(unshare.exec()).context("cannot start unshare")
}

/// The first process inside: receives its task and does it.
///
/// # Errors
/// It was started by hand, or the task failed.
pub(crate) fn inside() -> Result<ExitCode> {
    // Started by a number, it would be listed as one.
    rustix::thread::set_name(c"xtask")?;
    // A QEMU that aborts must not leave a core file behind.
    setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )?;
    let channel = std::io::stdin().as_fd().try_clone_to_owned()?;
    let (task, files) = handover::receive::<Task>(&channel).context("`inside` is not for people")?;
    match task {
        Task::RunPair(orders) => run_pair::inside(orders, files, channel),
        Task::Test(orders) => test::inside(&orders, channel),
        Task::Bench(orders) => bench::inside(orders, files, channel),
        Task::Chaos(orders) => chaos::inside(&orders, files, channel),
    }
}

/// Calls `stop` once the outside says `stop` or is gone.
pub(crate) fn on_stop(channel: OwnedFd, stop: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        let _ = handover::receive::<String>(&channel);
        stop();
    });
}

/// The tap of node `node` on `link` (`service` or `cluster`).
pub(crate) fn tap(node: &str, link: &str) -> String {
    format!("{node}-{link}")
}

/// Makes the pair's network: a bridge for each link, a tap for each node on each.
///
/// # Errors
/// The kernel refuses a step; `ip` says which.
pub(crate) fn make_network(plan: &Plan) -> Result<()> {
    // No router solicitations and the like on the pair's links.
    for which in ["all", "default"] {
        let switch = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
        if fs::exists(&switch)? {
            fs::write(&switch, "1").with_context(|| format!("cannot write {switch}"))?;
        }
    }
    let mut ip = command("ip");
    ip.args(["-batch", "-"]).stdin(Stdio::piped());
    show(&ip);
    let mut child = ip.spawn().context("cannot start ip")?;
    let mut input = child.stdin.take().expect("it is piped");
    for line in network_steps(plan) {
        eprintln!("  {line}");
        writeln!(input, "{line}")?;
    }
    drop(input);
    let status = child.wait()?;
    if !status.success() {
        bail!("the pair's network could not be made: ip failed, {status}");
    }
    Ok(())
}

/// Lets the namespace's loopback work, for tests that need no more of a network.
///
/// # Errors
/// The kernel refuses; `ip` says why.
pub(crate) fn raise_loopback() -> Result<()> {
    let mut ip = command("ip");
    ip.args(["link", "set", "lo", "up"]);
    show(&ip);
    let status = ip.status().context("cannot start ip")?;
    if !status.success() {
        bail!("the loopback could not be set up: ip failed, {status}");
    }
    Ok(())
}

/// The network as arguments of `ip`, a step a line.
fn network_steps(plan: &Plan) -> Vec<String> {
    let mut steps = vec!["link set lo up".to_owned()];
    for link in ["service", "cluster"] {
        // Ports forward at once; the switch still learns where each card is, as a real one does.
        steps.push(format!(
            "link add {link} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        ));
        for node in &plan.node {
            let tap = tap(&node.name, link);
            steps.push(format!("tuntap add dev {tap} mode tap"));
            // The bridge takes on the least MTU of its ports.
            steps.push(match link {
                "cluster" => format!("link set dev {tap} mtu {} master {link} up", plan.cluster.mtu),
                _ => format!("link set dev {tap} master {link} up"),
            });
        }
    }
    steps.push(format!(
        "address add {}/{} dev service",
        plan.service.host, plan.service.prefix_len
    ));
    steps.push(format!(
        "address add {}/{} dev cluster",
        plan.cluster.agent, plan.cluster.prefix_len
    ));
    steps.extend(["service", "cluster"].map(|link| format!("link set dev {link} up")));
    // The agent is in a hurry: it asks nobody for an address.
    for node in &plan.node {
        steps.push(format!(
            "neighbour add {} lladdr {} dev cluster nud permanent",
            node.cluster_address, node.cluster_mac
        ));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_a_tap_on_every_link() {
        let plan = Plan::load().unwrap();
        let steps = network_steps(&plan).join("\n");
        for name in ["a-service", "b-service", "a-cluster", "b-cluster"] {
            assert!(name.len() <= 15, "the kernel's limit on names");
            assert!(
                steps.contains(&format!("tuntap add dev {name} mode tap")),
                "{steps}"
            );
        }
        assert!(steps.contains("address add 10.77.0.1/24 dev service"), "{steps}");
        assert!(
            steps.contains("address add 10.78.0.254/24 dev cluster"),
            "{steps}"
        );
    }
}

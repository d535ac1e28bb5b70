//! A limit on the cluster link: the 100 Mbit/s for which the thesis calculated its figures 6-3 and 6-4.
//!
//! A queueing discipline on the taps, each of which carries one direction. What counts are Ethernet frames without preamble
//! and gap, so a real wire of this speed carries about 2 % less.

use anyhow::{Result, bail};

use crate::command::{command, read, show};
use crate::netns::tap;
use crate::profile::Plan;

/// Ways to limit, the better first: what a person is told, and tc's words. `tbf` lets short bursts through at once and keeps to
/// the rate over milliseconds; `netem` delays each frame by what it would have taken.
const WAYS: [(&str, &str); 2] = [
    (
        "link limited to 100 Mbit/s by tbf",
        "tbf rate 100mbit burst 16kb latency 100ms",
    ),
    (
        "link limited to 100 Mbit/s by netem",
        "netem rate 100mbit limit 1000",
    ),
];

/// Limits the link in both directions; says how.
///
/// # Errors
/// The kernel has none of the ways.
pub(super) fn limit(plan: &Plan) -> Result<&'static str> {
    let mut refusals = Vec::new();
    for (what, words) in WAYS {
        match plan
            .node
            .iter()
            .try_for_each(|node| tc("replace", &tap(&node.name, "cluster"), words))
        {
            Ok(()) => return Ok(what),
            Err(error) => refusals.push(format!("{error:#}")),
        }
    }
    bail!(
        "the cluster link cannot be limited on this host:\n{}",
        refusals.join("\n")
    );
}

/// Lifts the limit.
///
/// # Errors
/// The kernel refuses.
pub(super) fn lift(plan: &Plan) -> Result<()> {
    plan.node
        .iter()
        .try_for_each(|node| tc("delete", &tap(&node.name, "cluster"), ""))
}

fn tc(action: &str, tap: &str, words: &str) -> Result<()> {
    let mut tc = command("tc");
    tc.args(["qdisc", action, "dev", tap, "root"])
        .args(words.split_whitespace());
    show(&tc);
    read(&mut tc).map(drop)
}

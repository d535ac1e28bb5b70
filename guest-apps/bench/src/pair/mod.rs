//! As a node of a pair: checkpoints over the cluster link.
//!
//! Both nodes are told the same. The master waits for its spare, measures, and ends; the spare takes checkpoints in until
//! somebody ends it. Before either begins to be a node, the bare link is measured, if that was asked for ([`link`]).

mod link;
mod rates;
mod registered;

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use bench_plan::words::Orders;
use hs_core::platform::Exit;
use hs_core::registry::thread as workers;
use hs_core::role::Term;
use hs_net::node::{Node, Start, node};
use kernel::Guest;

use crate::failure::Failure;
use crate::library::taker::Taker;
use crate::library::{APPLICATION, run};
use crate::{Context, finish, finish_experiments, finish_run, orders, refuse, refuse_words};

/// Longest that the master waits for its spare.
const SPARE_LIMIT: Duration = Duration::from_secs(60);

/// Becomes a node.
pub(crate) fn live(guest: &'static Guest, orders: &Orders) -> ! {
    let Some(pair) = guest.options().pair.clone() else {
        refuse_words(
            guest,
            "pair: hs.role= and the pair's addresses are missing on the command line",
        );
    };
    let &[service_nic, cluster_nic, ..] = guest.nics() else {
        let why = format!(
            "pair: a node needs two network cards, and {} are there",
            guest.nics().len()
        );
        refuse_words(guest, &why);
    };
    if let Orders::Experiments { chosen, quick, .. } = orders
        && let Err(failure) = link::measure(Context { guest, quick: *quick }, cluster_nic, &pair, chosen)
    {
        refuse(guest, "raw-link", &failure);
    }
    hs_net::node::run(Start {
        machine: guest,
        memory: guest.memory(),
        service_nic,
        cluster_nic,
        pair,
        application: APPLICATION,
        start,
    })
}

/// On a first master: registers who measures.
fn start(_: &'static Node) -> Result<(), String> {
    workers::register(work, 0).map_err(|error| format!("{error}"))
}

/// The worker: measures, and ends the guest.
fn work(_: usize) {
    let (guest, node) = (kernel::guest(), node());
    if node.term() > Term::FIRST {
        let why = "the master is gone, and with it what was to be measured";
        finish(guest, why, Exit::Success);
    }
    let orders = orders(guest);
    let taker = Taker::Node(node);
    if let Err(failure) = await_spare(node, &taker) {
        refuse(guest, "pair", &failure);
        finish(guest, "nothing was measured", Exit::Refused);
    }
    match orders {
        Orders::Experiments { chosen, quick, .. } => {
            rates::run(Context { guest, quick }, &taker, &chosen);
            finish_experiments(guest, chosen.len())
        }
        Orders::Run { knobs, .. } => {
            let context = Context { guest, quick: false };
            let result = run::with(context, &knobs, &taker);
            finish_run(guest, &knobs, result)
        }
    }
}

/// Waits until the spare could take over: the first checkpoint that it has is followed by one that says so.
fn await_spare(node: &'static Node, taker: &Taker) -> Result<(), Failure> {
    let end = node.machine().now() + SPARE_LIMIT;
    loop {
        let seen = node.signal().seen();
        if node.checkpoint_wanted() {
            taker.catch_up()?;
        }
        if node.has_spare() {
            return Ok(());
        }
        if node.machine().now() >= end {
            return Err(Failure::NoSpare);
        }
        node.service().poll(node.machine().now());
        node.signal().wait(seen, Some(end));
    }
}

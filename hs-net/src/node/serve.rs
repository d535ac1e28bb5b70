//! From an application's `main` to a node: what every application that runs as a pair does first.

use alloc::format;
use alloc::string::{String, ToString};

use hs_core::event::Event;
use hs_core::platform::{CheckpointMemory, Exit, Machine, Nic};
use hs_core::role::PairConfig;

use super::{Node, Start, run};

/// Makes a node of a guest and lives its life; the last thing that an application's `main` does. `pair` and `nics` are as
/// the guest has them: whether they are enough is looked at here.
pub fn serve(
    machine: &'static dyn Machine,
    memory: &'static dyn CheckpointMemory,
    pair: Option<&PairConfig>,
    nics: &[&'static dyn Nic],
    application: u64,
    start: fn(&'static Node) -> Result<(), String>,
) -> ! {
    let Some(pair) = pair.cloned() else {
        refuse(
            machine,
            "this application runs as a node of a pair: hs.role= and the pair's addresses are missing",
        );
    };
    let &[service_nic, cluster_nic, ..] = nics else {
        refuse(
            machine,
            &format!("a node needs two network cards, and {} are there", nics.len()),
        );
    };
    run(Start {
        machine,
        memory,
        service_nic,
        cluster_nic,
        pair,
        application,
        start,
    })
}

/// Ends a machine that was told nonsense, and says why.
pub fn refuse(machine: &dyn Machine, why: &str) -> ! {
    log::error!("{why}");
    machine.emit(&Event::Refused {
        what: "options".to_string(),
        why: why.to_string(),
    });
    machine.exit(Exit::BadOptions)
}

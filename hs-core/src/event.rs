//! What a node tells the outside world: one JSON object a line on the event channel.
//!
//! The guest writes these and the host reads them, from this one definition.

use alloc::boxed::Box;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::figure::Figure;
use crate::role::{Role, Term};

/// Something happened.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The kernel is up and the command line was accepted.
    Booted {
        /// Hexadecimal.
        build_id: String,
        /// Usable memory.
        memory_mib: u64,
        /// From the first instruction to here.
        boot_us: u64,
    },
    /// This boot of the node, by the number that its peer knows it by.
    Session {
        /// The number.
        session: u64,
    },
    /// The node has taken up this role.
    Role {
        /// The role.
        role: Role,
        /// The term it has it in.
        term: Term,
    },
    /// The application accepts clients (master only).
    Serving,
    /// The other node answers and runs the same build.
    Paired,
    /// The spare holds its first full checkpoint, verified (both nodes say so).
    Ready,
    /// Counters, repeated while they change.
    Status(Status),
    /// The master does without the other node from now on.
    PeerLost {
        /// How long that had been silent.
        silent_us: u64,
        /// Why, in a word: `silence`, or how its process ended, as the host's agent says: `killed`, `panicked`, `ended`.
        cause: String,
    },
    /// The spare is silent, and could be master by now: the master is mute, whatever waits for an acknowledgement goes on
    /// waiting.
    PeerSilent {
        /// How long it has been silent.
        silent_us: u64,
    },
    /// That spare speaks again: all goes on.
    PeerHeard {
        /// How long it was silent.
        silent_us: u64,
    },
    /// The spare has become master.
    Takeover {
        /// Why, in a word: `agent`, `restart`, or the sign: `heartbeat`.
        cause: String,
        /// From the last sign of the old master to the decision.
        detect_us: u64,
        /// From the decision to the memory, classes and stack in place.
        restore_us: u64,
        /// From there to the first announcement of the address on the wire.
        announce_us: u64,
    },
    /// Something was refused, and why. The node goes on unless it says `exit` afterwards.
    Refused {
        /// What: `checkpoint`, `peer`, `datagram`, `options`.
        what: String,
        /// Why, for a person.
        why: String,
    },
    /// One guest test ended.
    Test {
        /// Its name.
        name: String,
        /// Whether it passed.
        passed: bool,
        /// What failed, or figures worth seeing.
        detail: String,
    },
    /// A benchmark measured something.
    Figure(Box<Figure>),
    /// The node ends, and why.
    Exit {
        /// Why, for a person: a panic message, an exception, an order.
        why: String,
    },
}

/// Counters of a node since its boot.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// Checkpoints begun (master) or received whole (spare).
    pub taken: u64,
    /// Of these, acknowledged by the spare (master) or applied (spare).
    pub acked: u64,
    /// Of those begun or received, full ones.
    pub full: u64,
    /// And incremental ones.
    pub incremental: u64,
    /// Of the incremental ones, those whose pages were copied within the pause (master; a spare cannot tell).
    pub copied: u64,
    /// Bytes of checkpoints sent or received, encoded, without retransmissions.
    pub bytes: u64,
    /// Checkpoints in flight now.
    pub in_flight: u64,
    /// The application's pause in `checkpoint()`, median over all checkpoints taken.
    pub pause_p50_us: u64,
    /// 99th percentile.
    pub pause_p99_us: u64,
    /// Longest.
    pub pause_max_us: u64,
    /// Time that `checkpoint()` waited until nobody was inside the gate, before the pause: 99th percentile.
    pub gate_p99_us: u64,
    /// Longest.
    pub gate_max_us: u64,
    /// Time from taking to acknowledging the newest acknowledged checkpoint.
    pub lag_us: u64,
    /// Datagrams sent again on the cluster link.
    pub retransmitted: u64,
    /// Longest silence of the other node, over both networks, that ended and that this node listened to. A longer deadline would
    /// have let it pass.
    pub silence_max_us: u64,
}

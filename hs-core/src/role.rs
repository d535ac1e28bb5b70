//! What a node is in its pair, and what it was told of the pair at its start.

use core::fmt;
use core::net::Ipv4Addr;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::checkpoint::file::CheckpointFiles;
use crate::detection::Detection;
use crate::fault::Fault;
use crate::format::Compression;
use crate::policy::Choice;
use crate::restore::Source;

/// What a node does in its pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Serves, and takes checkpoints.
    Master,
    /// Holds the newest checkpoint, and waits.
    Spare,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Master => "master",
            Role::Spare => "spare",
        })
    }
}

/// Counts the masters of a pair: each takeover begins the next term. Whoever hears of a newer term than
/// its own has been replaced.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Term(pub u64);

impl Term {
    /// The term of a pair's first master.
    pub const FIRST: Term = Term(1);

    /// The term that a takeover in this one begins.
    #[must_use]
    pub const fn next(self) -> Term {
        Term(self.0.saturating_add(1))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An IPv4 address with the length of its network's prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    /// The address.
    pub address: Ipv4Addr,
    /// Bits of the prefix, at most 32.
    pub prefix_len: u8,
}

/// How a spare comes to hear what clients send to the service, so that it can take up at a takeover what its checkpoint does
/// not cover.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Hearing {
    /// The switch hands frames for the service to all its ports, because no machine ever sends from the service's hardware
    /// address: each sends from its own card's.
    #[default]
    Own,
    /// The master sends from the service's hardware address and forwards on the cluster link what it receives: for switches
    /// that deliver to known addresses only.
    Forwarded,
}

/// What a node is told of its pair at boot. All addresses of one kind lie in one network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PairConfig {
    /// The part to begin with.
    pub role: Role,
    /// The service's address, which moves at a takeover.
    pub service: Network,
    /// This machine's own address on the service network: heartbeats only.
    pub machine_address: Ipv4Addr,
    /// The other machine's.
    pub peer_machine_address: Ipv4Addr,
    /// This machine on the cluster link.
    pub cluster: Network,
    /// The other machine on the cluster link.
    pub peer_cluster_address: Ipv4Addr,
    /// Time between two heartbeats.
    pub heartbeat: Duration,
    /// Silence on both networks after which the other machine counts as dead.
    pub deadline: Duration,
    /// Checkpoints in flight at once: the thesis's `ncon`.
    pub ncon: usize,
    /// How incremental checkpoints may be taken.
    pub checkpoint: Choice,
    /// The files that a master keeps checkpoints in, beside the spare.
    pub checkpoint_files: Option<CheckpointFiles>,
    /// The files whose newest checkpoint this master begins from.
    pub restore: Option<Source>,
    /// How a spare sees that its master has failed. `None`: by the registered function, if there is one, else by heartbeats.
    pub detection: Option<Detection>,
    /// Connections of clients at once.
    pub connections_max: usize,
    /// Where this node is to end as if its power were cut. For tests.
    pub fault: Option<Fault>,
    /// Where the host's agent speaks from, on the cluster link: it tells a node that the other one's process has ended. `None`:
    /// nobody does.
    pub agent_address: Option<Ipv4Addr>,
    /// Pages of the [shadow](crate::checkpoint::CheckpointerConfig::shadow_pages); 0: every page is sent whole.
    pub shadow_pages: usize,
    /// How pages that are sent whole are compressed.
    pub compression: Compression,
    /// How the spare hears clients.
    pub hearing: Hearing,
}

impl PairConfig {
    /// The service's hardware address, the same on whichever machine: ARP tells it to clients. Locally administered, made
    /// from the service's address.
    pub fn service_mac(&self) -> [u8; 6] {
        let [a, b, c, d] = self.service.address.octets();
        [0x02, 0x48, a, b, c, d]
    }
}

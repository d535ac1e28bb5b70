//! The data under `qemu/`: the machine of a guest, the pair's nodes, links and addresses.
//!
//! Data and not code, so that a person can change an address without reading Rust. Unknown names are
//! refused: a misspelt setting must not be a setting without effect.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};
use hs_core::fault::Fault;
use hs_core::role::Role;
use serde::Deserialize;

use crate::command::root;

/// `qemu/pair.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// The file under `qemu/` that describes the machine, without its suffix.
    pub(crate) profile: String,
    pub(crate) service: ServicePlan,
    pub(crate) cluster: ClusterPlan,
    timing: Timing,
    /// The two nodes, the first master first.
    pub(crate) node: Vec<NodePlan>,
    app: BTreeMap<String, AppPlan>,
}

/// The service network.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServicePlan {
    /// The service's address.
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix_len: u8,
    /// The namespace's own address.
    pub(crate) host: Ipv4Addr,
}

/// The cluster link.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClusterPlan {
    pub(crate) prefix_len: u8,
    /// Where the host's agent speaks from.
    pub(crate) agent: Ipv4Addr,
    /// Longest IP packet on it, in bytes.
    pub(crate) mtu: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Timing {
    heartbeat_ms: u64,
    deadline_ms: u64,
    ncon: usize,
}

/// One node.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodePlan {
    pub(crate) name: String,
    /// What it begins as.
    pub(crate) role: Role,
    machine_address: Ipv4Addr,
    pub(crate) cluster_address: Ipv4Addr,
    pub(crate) service_mac: String,
    pub(crate) cluster_mac: String,
}

/// An application that can run as a pair.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(crate) struct AppPlan {
    /// Where it serves.
    pub(crate) port: u16,
    /// What it is told on the command line.
    pub(crate) words: Vec<String>,
    /// What it is asked to see whether it serves, and how it must answer.
    pub(crate) question: String,
    pub(crate) answer: String,
    /// Whether a person plays it at a terminal, so that `run-pair` hands over its own.
    #[serde(default)]
    pub(crate) terminal: bool,
}

/// `qemu/q35.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    pub(crate) program: String,
    pub(crate) machine: String,
    pub(crate) cpu: String,
    pub(crate) bios: String,
    pub(crate) memory_mib: u32,
    pub(crate) arguments: Vec<String>,
    pub(crate) nic: String,
    pub(crate) drive: String,
    pub(crate) disk: String,
    pub(crate) exit_device: String,
    pub(crate) slots: Slots,
}

/// Where the cards and the disk sit on the PCI bus.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Slots {
    pub(crate) service: u8,
    pub(crate) cluster: u8,
    pub(crate) disk: u8,
}

/// The option of the kernel that is a first master's alone.
pub(crate) const RESTORE: &str = "hs.restore";
/// The option of the kernel that is the node's alone that begins in the role of its point.
pub(crate) const FAULT: &str = "hs.fault";

fn load<T: serde::de::DeserializeOwned>(name: &str) -> Result<T> {
    let path = root().join("qemu").join(name);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("in qemu/{name}"))
}

impl Plan {
    /// Reads `qemu/pair.toml`.
    ///
    /// # Errors
    /// The file cannot be read or means nothing.
    pub(crate) fn load() -> Result<Plan> {
        let plan: Plan = load("pair.toml")?;
        plan.checked()
    }

    /// The same, with nodes that wait two seconds before they think each other dead: for what is not about that and
    /// keeps every processor of the host busy.
    pub(crate) fn patient(mut self) -> Plan {
        self.timing.deadline_ms = 2000;
        self
    }

    fn checked(self) -> Result<Plan> {
        let roles: Vec<Role> = self.node.iter().map(|node| node.role).collect();
        if roles != [Role::Master, Role::Spare] {
            bail!("qemu/pair.toml: a pair is two nodes, a master and after it a spare");
        }
        if self
            .node
            .iter()
            .any(|node| node.name.is_empty() || node.name.len() > 7)
        {
            bail!("qemu/pair.toml: a node's name has 1 to 7 letters (it is part of the names of its taps)");
        }
        if self.node[0].name == self.node[1].name {
            bail!("qemu/pair.toml: the nodes' names must differ");
        }
        Ok(self)
    }

    /// The machine of each node.
    ///
    /// # Errors
    /// The file cannot be read or means nothing.
    pub(crate) fn machine(&self) -> Result<Machine> {
        load(&format!("{}.toml", self.profile))
    }

    /// The application `name`.
    ///
    /// # Errors
    /// No such application can run as a pair.
    pub(crate) fn app(&self, name: &str) -> Result<&AppPlan> {
        let known = || self.app.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        self.app.get(name).with_context(|| {
            format!(
                "no application {name} runs as a pair; qemu/pair.toml has: {}",
                known()
            )
        })
    }

    /// The kernel's option that tells a node of the agent.
    pub(crate) fn agent_option(&self) -> String {
        format!("hs.agent={}", self.cluster.agent)
    }

    /// The kernel command line of node number `index`: with further `options` of the kernel, and `words` for the application.
    pub(crate) fn command_line(
        &self,
        index: usize,
        options: &[String],
        words: &[String],
        seed: u64,
        log: &str,
    ) -> String {
        let (node, peer) = (&self.node[index], &self.node[1 - index]);
        let Timing {
            heartbeat_ms,
            deadline_ms,
            ncon,
        } = self.timing;
        let meant = |option: &&String| match option.split_once('=') {
            Some((RESTORE, _)) => node.role == Role::Master,
            // Of what is none, the guest says why.
            Some((FAULT, fault)) => Fault::parse(fault).map_or(true, |fault| fault.point.role() == node.role),
            _ => true,
        };
        let options: String = (options.iter().filter(meant))
            .map(|option| format!("{option} "))
            .collect();
        format!(
            "hs.role={} hs.service={}/{} hs.machine={} hs.peer-machine={} hs.cluster={}/{} hs.peer-cluster={} \
             hs.heartbeat-ms={heartbeat_ms} hs.deadline-ms={deadline_ms} hs.ncon={ncon} {options}hs.seed={} hs.log={log} -- {}",
            node.role,
            self.service.address,
            self.service.prefix_len,
            node.machine_address,
            peer.machine_address,
            node.cluster_address,
            self.cluster.prefix_len,
            peer.cluster_address,
            // The nodes must not draw the same numbers.
            seed.wrapping_add(index as u64),
            words.join(" "),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_files_are_understood() {
        let plan = Plan::load().unwrap();
        let machine = plan.machine().unwrap();
        assert!(
            machine.slots.service < machine.slots.cluster,
            "the guest takes the first card for the service"
        );
        assert_eq!(plan.app("kv").unwrap().port, 6379);
        let error = plan.app("nosuch").err().unwrap().to_string();
        assert!(error.contains("nosuch") && error.contains("kv"), "{error}");
    }

    #[test]
    fn each_node_is_told_its_own_addresses_and_its_peers() {
        let plan = Plan::load().unwrap();
        let words = &plan.app("kv").unwrap().words;
        assert_eq!(
            plan.command_line(0, &[], words, 7, "info"),
            "hs.role=master hs.service=10.77.0.10/24 hs.machine=10.77.0.11 hs.peer-machine=10.77.0.12 \
             hs.cluster=10.78.0.1/24 hs.peer-cluster=10.78.0.2 hs.heartbeat-ms=40 hs.deadline-ms=450 hs.ncon=4 \
             hs.seed=7 hs.log=info -- port=6379"
        );
        let options = ["hs.restore=HSCPT".into(), "hs.cptfork=eager".into()];
        let master = plan.command_line(0, &options, words, 7, "info");
        assert!(
            master.contains("hs.ncon=4 hs.restore=HSCPT hs.cptfork=eager "),
            "{master}"
        );
        let spare = plan.command_line(1, &options, words, 7, "info");
        assert!(spare.starts_with("hs.role=spare "), "{spare}");
        assert!(
            spare.contains("hs.cluster=10.78.0.2/24 hs.peer-cluster=10.78.0.1 ")
                && spare.contains("hs.ncon=4 hs.cptfork=eager hs.seed=8 "),
            "{spare}"
        );
        for (fault, its) in [("hs.fault=kept-heard:3", 0), ("hs.fault=kept-said:3", 1)] {
            for index in 0..2 {
                let line = plan.command_line(index, &[fault.into()], words, 7, "info");
                assert_eq!(line.contains(fault), index == its, "{line}");
            }
        }
    }

    #[test]
    fn a_misspelt_setting_is_refused_by_name() {
        let text = std::fs::read_to_string(root().join("qemu/pair.toml")).unwrap();
        let misspelt = text.replace("deadline_ms", "deadlime_ms");
        assert!(
            toml::from_str::<Plan>(&misspelt)
                .err()
                .unwrap()
                .to_string()
                .contains("deadlime_ms")
        );
        let two_masters = text.replace("\"spare\"", "\"master\"");
        assert!(toml::from_str::<Plan>(&two_masters).unwrap().checked().is_err());
    }
}

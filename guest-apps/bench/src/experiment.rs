//! The experiments by name: the thesis's tables and figures, and ours beyond them.

use core::fmt;

/// Something that is measured; one plot or table of the report.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Experiment {
    /// 400 forks of 16 MiB with nothing written between.
    Table31,
    /// 400 forks; after each the parent writes to every tenth of the pages outside of the checkpoint ranges.
    Table32,
    /// 400 forks over 20000 pages outside of the checkpoint ranges, mapped one by one.
    Table33,
    /// Pause against size.
    Fig61,
    /// Pause against the share of modified pages.
    Fig62,
    /// Checkpoints in a second against size, over the cluster link.
    Fig63,
    /// Checkpoints in a second against the share of modified pages, over the cluster link.
    Fig64,
    /// Pause and stall up to 1 GiB, with so many percent modified.
    Size1,
    /// As `Size1`.
    Size10,
    /// As `Size1`.
    Size50,
    /// Several snapshots alive at once.
    Snapshots,
    /// What a write costs to a page that was sent already, and to a clean page.
    Released,
    /// The ways to take a checkpoint against each other: the policy's evidence.
    Policy,
    /// The pause of the library's `checkpoint()`, to stand beside that of `cptfork`.
    Checkpoint,
    /// What registered descriptors and threads add to a checkpoint.
    Metadata,
    /// As `Metadata`, of what a node's descriptor table keeps up to date.
    MetadataNode,
    /// Bytes of scattered updates, in each form that pages are sent in.
    Scattered,
    /// The thesis's test program at several intervals, with its checkpoints going nowhere and into a pipe.
    Program,
    /// Throughput of checkpoints beside that of the bare link.
    Replication,
    /// A small checkpoint beside the round trip of the bare link.
    Latency,
}

impl Experiment {
    /// All of them, in the order in which they run: as their memory grows, because what a walk over the window takes grows with
    /// all that was ever mapped in it.
    pub const ALL: [Experiment; 20] = [
        Experiment::Fig61,
        Experiment::Fig62,
        Experiment::Policy,
        Experiment::Table31,
        Experiment::Table32,
        Experiment::Snapshots,
        Experiment::Size1,
        Experiment::Size10,
        Experiment::Size50,
        Experiment::Released,
        Experiment::Table33,
        Experiment::Checkpoint,
        Experiment::Metadata,
        Experiment::Scattered,
        Experiment::Program,
        Experiment::Latency,
        Experiment::Fig63,
        Experiment::Fig64,
        Experiment::Replication,
        Experiment::MetadataNode,
    ];

    /// The word for it, on the command line and in its figures.
    pub const fn name(self) -> &'static str {
        match self {
            Experiment::Table31 => "table3-1",
            Experiment::Table32 => "table3-2",
            Experiment::Table33 => "table3-3",
            Experiment::Fig61 => "fig6-1",
            Experiment::Fig62 => "fig6-2",
            Experiment::Fig63 => "fig6-3",
            Experiment::Fig64 => "fig6-4",
            Experiment::Size1 => "size-1pct",
            Experiment::Size10 => "size-10pct",
            Experiment::Size50 => "size-50pct",
            Experiment::Snapshots => "snapshots",
            Experiment::Released => "released",
            Experiment::Policy => "policy",
            Experiment::Checkpoint => "checkpoint",
            Experiment::Metadata => "metadata",
            Experiment::MetadataNode => "metadata-node",
            Experiment::Scattered => "scattered",
            Experiment::Program => "program",
            Experiment::Replication => "replication",
            Experiment::Latency => "latency",
        }
    }

    /// Whether it takes a pair; the others run in a guest alone.
    pub const fn needs_pair(self) -> bool {
        matches!(
            self,
            Experiment::Fig63
                | Experiment::Fig64
                | Experiment::Replication
                | Experiment::Latency
                | Experiment::MetadataNode
        )
    }

    /// Of those that go up to 1 GiB: how much of the memory is modified.
    pub const fn dirty_percent(self) -> Option<usize> {
        match self {
            Experiment::Size1 => Some(1),
            Experiment::Size10 => Some(10),
            Experiment::Size50 => Some(50),
            _ => None,
        }
    }

    /// The experiment of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|experiment| experiment.name() == name)
    }
}

impl fmt::Display for Experiment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_experiments() {
        for experiment in Experiment::ALL {
            assert_eq!(Experiment::find(experiment.name()), Some(experiment));
        }
        assert_eq!(Experiment::find("fig6-9"), None);
    }
}

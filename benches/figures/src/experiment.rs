//! The experiments as the host knows them: their names, who measures them and how they are drawn.
//!
//! What each measures, at which points and how often, stands with the programs that do: our guest's list in `guest-apps/bench`,
//! that of Linux's ways in `benches/peers`. Each has its own because a guest shares no code with the report; tests hold their
//! names against these.

use crate::quantity::Quantity;

/// Where an experiment runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ground {
    /// Our guest, alone.
    Guest,
    /// Linux in the same machine, and natively for reference.
    Linux,
    /// A pair whose cluster link is limited to 100 Mbit/s.
    LimitedPair,
    /// A pair.
    Pair,
    /// A pair of an application, timed by a client on the host.
    AppPair(App),
}

/// An application that is measured as its clients meet it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum App {
    /// The key-value store.
    Kv,
    /// SQLite's shell.
    Sqlite,
}

impl App {
    /// As its crate and the plan of the pair call it.
    pub const fn name(self) -> &'static str {
        match self {
            App::Kv => "kv",
            App::Sqlite => "sqlite",
        }
    }
}

/// What comes of an experiment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// One of the thesis's tables: times of a whole run, a row a series.
    Table,
    /// Curves over x.
    Curves,
}

/// One drawing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plot {
    /// Its file, without its suffix.
    pub file: &'static str,
    /// Its y axis.
    pub quantity: Quantity,
}

/// One experiment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Experiment {
    /// As rows and `--only` call it.
    pub name: &'static str,
    /// What it shows, for a heading.
    pub title: &'static str,
    /// The x axis with its unit.
    pub x_label: &'static str,
    /// Whether x spans decades.
    pub x_log: bool,
    /// Who measures it.
    pub grounds: &'static [Ground],
    /// What comes of it.
    pub shape: Shape,
    /// How it is drawn.
    pub plots: &'static [Plot],
    /// What to know to read it.
    pub note: &'static str,
}

const BOTH: &[Ground] = &[Ground::Guest, Ground::Linux];
const MIB: &str = "memory (MiB)";

macro_rules! plots {
    ($($file:literal $quantity:ident),+) => { &[$(Plot { file: $file, quantity: Quantity::$quantity }),+] };
}

/// What to know of the times in the thesis's tables.
macro_rules! times {
    () => {
        "Each row is told for 400 forks: where fewer were made (Linux's in a quick run; its 20,000 map entries always) it is scaled \
         to 400. User and system time of Linux are those of getrusage. Ours has no user mode: user time is what the same writes \
         take without any fork, system time the rest of the time that the processor was busy."
    };
}

/// What to know of the percentiles.
macro_rules! p99 {
    () => {
        "A quick run has so few rounds that its 99th percentile is nearly the longest pause."
    };
}

/// All experiments, in the order of the report.
pub const EXPERIMENTS: &[Experiment] = &[
    Experiment {
        name: "table3-1",
        title: "Table 3-1: 400 forks of 16 MiB, wired and not wired",
        x_label: MIB,
        x_log: false,
        grounds: BOTH,
        shape: Shape::Table,
        plots: plots!("table3-1" Wall),
        note: concat!(
            "Nothing is written between the forks. The thesis's fork copies wired pages; Linux does not inherit the lock. ",
            times!()
        ),
    },
    Experiment {
        name: "table3-2",
        title: "Table 3-2: 400 forks of 16 MiB, every tenth page written after each",
        x_label: MIB,
        x_log: false,
        grounds: BOTH,
        shape: Shape::Table,
        plots: plots!("table3-2" Wall),
        note: concat!(
            "What becomes of memory outside the checkpoint: copied on write, shared with the child, or dropped from it. ",
            "The child sleeps while the parent writes. ",
            times!()
        ),
    },
    Experiment {
        name: "table3-3",
        title: "Table 3-3: 400 forks of 20,000 pages in 20,000 map entries",
        x_label: "map entries",
        x_log: false,
        grounds: BOTH,
        shape: Shape::Table,
        plots: plots!("table3-3" Wall),
        note: concat!(
            "What many map entries cost when the child has them, and when not. ",
            times!()
        ),
    },
    Experiment {
        name: "fig6-1",
        title: "Figure 6-1: checkpoint time against memory, 10 % dirty",
        x_label: "checkpointable memory (KiB)",
        x_log: false,
        grounds: BOTH,
        shape: Shape::Curves,
        plots: plots!("fig6-1" Pause, "fig6-1-stall" Stall),
        note: concat!(
            "Four regions, runs of four modified pages. pipe and linux-pipe are the thesis's synchronous checkpoint; here both \
             write all of the memory. ",
            p99!()
        ),
    },
    Experiment {
        name: "fig6-2",
        title: "Figure 6-2: checkpoint time against dirty pages, 4 MiB",
        x_label: "dirty pages (%)",
        x_log: false,
        grounds: BOTH,
        shape: Shape::Curves,
        plots: plots!("fig6-2" Pause, "fig6-2-stall" Stall),
        note: concat!(
            "Runs of four modified pages; of 25 at 95 %, as in the thesis. pipe writes all of the memory, whatever is modified, \
             but linux-pipe only what is modified (PAGEMAP_SCAN finds it): compare their bytes before their pauses. ",
            p99!()
        ),
    },
    Experiment {
        name: "fig6-3",
        title: "Figure 6-3: checkpoints in a second at 100 Mbit/s against memory, 10 % dirty",
        x_label: MIB,
        x_log: false,
        grounds: &[Ground::LimitedPair],
        shape: Shape::Curves,
        plots: plots!("fig6-3" Rate),
        note: "The thesis only calculated these: contents over the bandwidth. Measured: checkpoints that the spare acknowledged, \
               over a cluster link limited to 100 Mbit/s, headers, acknowledgements and all.",
    },
    Experiment {
        name: "fig6-4",
        title: "Figure 6-4: checkpoints in a second at 100 Mbit/s against dirty pages, 10 MiB",
        x_label: "dirty pages (%)",
        x_log: false,
        grounds: &[Ground::LimitedPair],
        shape: Shape::Curves,
        plots: plots!("fig6-4" Rate),
        note: "As figure 6-3.",
    },
    Experiment {
        name: "program",
        title: "The thesis's test program: 4 MiB, four regions, 10 % dirty",
        x_label: "checkpoint interval (ms)",
        x_log: false,
        grounds: &[Ground::Guest],
        shape: Shape::Curves,
        plots: plots!("program" Pause),
        note: "The program of the thesis's chapter 6 with the library's checkpoint(), which modifies its pages, takes a checkpoint and \
               sleeps for what is left of the interval. null: checkpoints are encoded and counted, asynchronously. pipe: the caller \
               waits until another thread has read all of it, the thesis's synchronous case. With other knobs: \
               `cargo xtask bench --run KNOBS`.",
    },
    Experiment {
        name: "size-1pct",
        title: "1 % dirty, from 1 MiB to 1 GiB",
        x_label: MIB,
        x_log: true,
        grounds: BOTH,
        shape: Shape::Curves,
        plots: plots!("size-1pct-pause" Pause, "size-1pct-stall" Stall),
        note: "Runs of four modified pages, evenly spread.",
    },
    Experiment {
        name: "size-10pct",
        title: "10 % dirty, from 1 MiB to 1 GiB",
        x_label: MIB,
        x_log: true,
        grounds: BOTH,
        shape: Shape::Curves,
        plots: plots!("size-10pct-pause" Pause, "size-10pct-stall" Stall),
        note: "Runs of four modified pages, evenly spread. tlb-flush is a bare reload of CR3 in the same state: the floor.",
    },
    Experiment {
        name: "size-50pct",
        title: "50 % dirty, from 1 MiB to 1 GiB",
        x_label: MIB,
        x_log: true,
        grounds: BOTH,
        shape: Shape::Curves,
        plots: plots!("size-50pct-pause" Pause, "size-50pct-stall" Stall),
        note: "Runs of four modified pages, evenly spread.",
    },
    Experiment {
        name: "snapshots",
        title: "Several snapshots at once, 16 MiB, 10 % dirty",
        x_label: "snapshots alive",
        x_log: false,
        grounds: BOTH,
        shape: Shape::Curves,
        plots: plots!("snapshots-pause" Pause, "snapshots-stall" Stall),
        note: "The pause of one more checkpoint, and its stall, while so many are held in all.",
    },
    Experiment {
        name: "released",
        title: "Writes that should cost nothing, 64 MiB, 10 % dirty",
        x_label: MIB,
        x_log: false,
        grounds: &[Ground::Guest],
        shape: Shape::Curves,
        plots: &[],
        note: "Faults of writes to pages that were sent already (released), and to clean pages in touched spans (clean-writes), while \
               a snapshot is alive. -stale: those that only found a translation out of date. -copies: copied pages.",
    },
    Experiment {
        name: "checkpoint",
        title: "The library's checkpoint() beside cptfork, 10 % dirty",
        x_label: MIB,
        x_log: true,
        grounds: &[Ground::Guest],
        shape: Shape::Curves,
        plots: plots!("checkpoint" Pause),
        note: "What the application feels when it calls the library (checkpoint-lazy), beside cptfork alone of the same memory \
               (cptfork-lazy). checkpoint-plain is the same call without the kernel's support, on plain copies: all of the memory \
               in the pause, and sent, whatever is modified.",
    },
    Experiment {
        name: "metadata",
        title: "What is registered: checkpoint() at 1 MiB, 10 % dirty",
        x_label: "registered",
        x_log: false,
        grounds: &[Ground::Guest],
        shape: Shape::Curves,
        plots: plots!("metadata" Pause),
        note: "Registered descriptors and threads are in every checkpoint: 96 and 16 bytes of headers each (header_bytes). both: so many \
               of each.",
    },
    Experiment {
        name: "metadata-node",
        title: "What is registered with a node: checkpoint() at 1 MiB, 10 % dirty",
        x_label: "registered",
        x_log: false,
        grounds: &[Ground::Pair],
        shape: Shape::Curves,
        plots: &[],
        note: "A pair's master with so many descriptors and threads: 64 open files, each moved before each checkpoint, 16 UDP sockets, \
               8 TCP listeners, 12 bare records. A node can have no more open. at-rest: no file is moved.",
    },
    Experiment {
        name: "scattered",
        title: "Scattered updates: one word in each of many pages, 16 MiB, 10 % dirty",
        x_label: "dirty pages",
        x_log: false,
        grounds: &[Ground::Guest],
        shape: Shape::Curves,
        plots: &[],
        note: "whole: each page as it is. difference: only what is different in it, to what the spare has (hs.shadow-mib). lz4: each page \
               as an LZ4 block (hs.compress); the pages hold hardly more than one byte's value, so that its bytes are the best \
               that can be. Contents are all bytes of a checkpoint here. The child's life shows what each form takes.",
    },
    Experiment {
        name: "replication",
        title: "Replication against the raw link",
        x_label: "contents of one checkpoint (MiB)",
        x_log: true,
        grounds: &[Ground::Pair],
        shape: Shape::Curves,
        plots: plots!("replication" Throughput),
        note: "lazy: contents of incremental checkpoints that the spare acknowledged, one after the other. raw-link: the same amount in \
               datagrams from guest to guest with nothing done to them. \
               The link is not limited: what bounds it is the guests' processor.",
    },
    Experiment {
        name: "latency",
        title: "A small checkpoint against the round trip of the cluster link",
        x_label: "dirty pages",
        x_log: false,
        grounds: &[Ground::Pair],
        shape: Shape::Curves,
        plots: &[],
        note: "acknowledged: incremental checkpoints one after the other, each from the call until its child has ended, which is when \
               a caller who waits goes on; the rate is theirs. udp-echo: a datagram from guest to guest and back, one after the \
               other, before either is a node; it has no contents and stands at 0.",
    },
    Experiment {
        name: "sqlite-bulk",
        title: "SQLite: 10,000 rows inserted in one transaction",
        x_label: "rows",
        x_log: false,
        grounds: &[Ground::AppPair(App::Sqlite)],
        shape: Shape::Curves,
        plots: &[],
        note: "A statement each, sent to the shell as fast as it takes them; from the first byte to the answer to COMMIT, by the host's \
               clock. with-spare: the answer waits until the spare has the checkpoint. alone: the same guest after its spare's death, \
               which takes no checkpoints.",
    },
    Experiment {
        name: "output-commit",
        title: "What output commit costs: INCR at kv",
        x_label: "connections",
        x_log: false,
        grounds: &[Ground::AppPair(App::Kv)],
        shape: Shape::Curves,
        plots: &[],
        note: "One pair with two ports: committed replies wait until the spare has what they tell, uncommitted ones do not \
               (async-port=); checkpoints are taken for both. By a client on the host and its clock. 1 connection: one request \
               at a time, blocks of 200 by turns on both ports; difference: of the medians of two blocks beside each other; \
               until-kept: a checkpoint from its taking to the spare's word that it has it, by the guest's clock, asked after each \
               committed block. 50 connections: 16 requests on their way in each, both ports by turns for a second; the throughput \
               lost is the median over the turns.",
    },
    Experiment {
        name: "policy",
        title: "Copy, incremental and full against each other",
        x_label: "dirty pages",
        x_log: true,
        grounds: &[Ground::Guest],
        shape: Shape::Curves,
        plots: plots!("policy-pause" Pause, "policy-stall" Stall),
        note: "Where the curves cross is where checkpoint() should change from one to the next.",
    },
];

/// The experiment called `name`.
pub fn find(name: &str) -> Option<&'static Experiment> {
    EXPERIMENTS.iter().find(|experiment| experiment.name == name)
}

/// All names, for a person who misspelt one.
pub fn names() -> String {
    EXPERIMENTS
        .iter()
        .map(|experiment| experiment.name)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bench_plan::experiment::Experiment as Measured;

    #[test]
    fn what_the_guest_measures_is_known_here() {
        for measured in Measured::ALL {
            let known = find(measured.name()).unwrap_or_else(|| panic!("{measured} is not known here"));
            let alone = known.grounds.contains(&Ground::Guest);
            let pair = [Ground::Pair, Ground::LimitedPair]
                .iter()
                .any(|ground| known.grounds.contains(ground));
            let needs_pair = measured.needs_pair();
            assert_eq!((alone, pair), (!needs_pair, needs_pair), "{measured}");
        }
    }

    #[test]
    fn the_guest_knows_what_it_is_asked_for() {
        let asked = EXPERIMENTS.iter().filter(|experiment| {
            let grounds = experiment.grounds.iter();
            let mut ours = grounds.filter(|ground| !matches!(ground, Ground::Linux | Ground::AppPair(_)));
            ours.next().is_some()
        });
        for experiment in asked {
            let name = experiment.name;
            assert!(Measured::find(name).is_some(), "{name} is not known to the guest");
        }
    }

    #[test]
    fn names_and_files_are_unique_and_plain() {
        let names: Vec<&str> = EXPERIMENTS.iter().map(|experiment| experiment.name).collect();
        let files = EXPERIMENTS.iter().flat_map(|experiment| experiment.plots);
        let files: Vec<&str> = files.map(|plot| plot.file).collect();
        for list in [names, files] {
            for (index, name) in list.iter().enumerate() {
                assert!(!list[..index].contains(name), "{name} twice");
                assert!(
                    name.bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'),
                    "{name}"
                );
            }
        }
        assert_eq!(find("fig6-1").unwrap().name, "fig6-1");
        assert!(find("fig6-9").is_none() && super::names().contains("table3-3"));
    }
}

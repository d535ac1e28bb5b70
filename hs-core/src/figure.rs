//! A figure that a benchmark measured: what a guest, or a program that it is compared with, tells the host.
//!
//! One definition for the benchmark guest, the peers on Linux and the report, so that a column means the same in each.

use alloc::string::String;

use serde::{Deserialize, Serialize};

/// How long the application stood still at each checkpoint, or another time that is measured again and again, in microseconds,
/// over all checkpoints of all runs.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Pause {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Longest.
    pub max: f64,
}

/// The middle of repeated runs, and how far apart they lie.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Spread {
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

/// One point of a plot, or one row of a table.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Figure {
    /// `table3-1` … `fig6-4` as in the thesis, `size-10pct` and so on beyond it.
    pub experiment: String,
    /// What was measured: `lazy`, `linux-fork`, …
    pub series: String,
    /// Where on the x axis.
    pub x: f64,
    /// What `x` counts: `MiB`, `KiB`, `% dirty`, `map entries`, …
    pub x_unit: String,
    /// Pause of each checkpoint. All 0: it was not measured, as of a transfer over the bare link.
    pub pause_us: Pause,
    /// Time that one checkpoint took from the writer: pause and faults, as the time that the same writes took longer than
    /// without a checkpoint. The median of the runs. 0, with a spread of 0: it was not measured, as beside a rate.
    pub stall_us: f64,
    /// Of the runs' `stall_us`.
    pub stall_spread_us: Spread,
    /// Of the runs' median pauses.
    pub pause_spread_us: Spread,
    /// Runs that the medians are of.
    pub runs: u32,
    /// Bytes of contents that one checkpoint holds.
    pub bytes: u64,
    /// Bytes of headers of one checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_bytes: Option<u64>,
    /// Faults that one checkpoint cost (for the thesis's tables: that the whole run cost).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<f64>,
    /// From the child's start to its end: where nothing holds it back, from the return of the call that made it; else from when
    /// it may go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child_us: Option<f64>,
    /// Share of the processor that was busy, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_share: Option<f64>,
    /// The thesis's tables: time of the program itself over all forks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_s: Option<f64>,
    /// The thesis's tables: time of the system on its behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_s: Option<f64>,
    /// The thesis's tables, and a transaction: time that went by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_s: Option<f64>,
    /// Of the runs' `wall_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_spread_s: Option<Spread>,
    /// Checkpoints in a second, or transfers of as many bytes over the bare link, or a client's requests: see the experiment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<f64>,
    /// Of the runs' `rate_per_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_spread_per_s: Option<Spread>,
    /// From the call for a checkpoint until its caller knows that the spare has it, or there and back on the bare link, or from a
    /// client's request to its reply, in microseconds, over all rounds of all runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<Pause>,
    /// Of the runs' median `latency_us`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_spread_us: Option<Spread>,
    /// By how much checkpoints lowered the writer's throughput, or output commit a service's, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_throughput: Option<f64>,
}

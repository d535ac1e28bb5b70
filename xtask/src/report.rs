//! What a run came to, as JSON.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use hs_core::event::Status;
use serde::Serialize;

/// The whole report. Times of takeovers are in milliseconds, pauses in microseconds.
#[derive(Serialize)]
pub(crate) struct Report {
    app: String,
    accel: &'static str,
    checkpoints: Checkpoints,
    /// The longest silence of either node that ended: a shorter deadline would have been a false alarm.
    silence_max_ms: f64,
    takeovers: Vec<Takeover>,
}

/// The checkpoints of the pair: those that a master took while it had a spare.
#[derive(Serialize)]
struct Checkpoints {
    taken: u64,
    acked: u64,
    full: u64,
    incremental: u64,
    bytes: u64,
    pause_us: Pause,
}

#[derive(Serialize)]
struct Pause {
    p50: u64,
    p99: u64,
    max: u64,
}

/// One takeover.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct Takeover {
    pub(crate) cause: String,
    /// From the last sign of the old master to the decision.
    detect_ms: f64,
    pub(crate) restore_ms: f64,
    pub(crate) announce_ms: f64,
    /// By the host's clock from the kill, if we killed; else the sum of the guest's figures.
    pub(crate) total_ms: f64,
}

impl Takeover {
    /// A takeover as the guest tells it, that took `total`.
    pub(crate) fn new(
        cause: &str,
        detect_us: u64,
        restore_us: u64,
        announce_us: u64,
        total: Duration,
    ) -> Takeover {
        let ms = |us: u64| us as f64 / 1000.0;
        Takeover {
            cause: cause.into(),
            detect_ms: ms(detect_us),
            restore_ms: ms(restore_us),
            announce_ms: ms(announce_us),
            total_ms: ms(u64::try_from(total.as_micros()).unwrap_or(u64::MAX)),
        }
    }
}

impl Report {
    /// Puts a report together.
    pub(crate) fn new(
        app: &str,
        accel: &'static str,
        status: Status,
        silence_max_us: u64,
        takeovers: &[Takeover],
    ) -> Report {
        let Status {
            taken,
            acked,
            full,
            incremental,
            bytes,
            ..
        } = status;
        let pause_us = Pause {
            p50: status.pause_p50_us,
            p99: status.pause_p99_us,
            max: status.pause_max_us,
        };
        let checkpoints = Checkpoints {
            taken,
            acked,
            full,
            incremental,
            bytes,
            pause_us,
        };
        Report {
            app: app.into(),
            accel,
            checkpoints,
            silence_max_ms: silence_max_us as f64 / 1000.0,
            takeovers: takeovers.to_vec(),
        }
    }

    /// Writes it to `file`, as one line.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn write(&self, mut file: &File) -> Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        file.write_all(&line).context("cannot write the report")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_exactly_the_documented_shape() {
        let status = Status {
            taken: 9,
            acked: 8,
            full: 1,
            incremental: 8,
            bytes: 4096,
            pause_p50_us: 10,
            pause_p99_us: 20,
            pause_max_us: 30,
            ..Status::default()
        };
        let takeover = Takeover::new("heartbeat", 61_500, 2_250, 125, Duration::from_micros(70_001));
        let json = serde_json::to_string(&Report::new("kv", "tcg", status, 41_250, &[takeover])).unwrap();
        assert_eq!(
            json,
            r#"{"app":"kv","accel":"tcg","checkpoints":{"taken":9,"acked":8,"full":1,"incremental":8,"bytes":4096,"#.to_owned()
                + r#""pause_us":{"p50":10,"p99":20,"max":30}},"silence_max_ms":41.25,"takeovers":[{"cause":"heartbeat","detect_ms":61.5,"#
                + r#""restore_ms":2.25,"announce_ms":0.125,"total_ms":70.001}]}"#
        );
    }
}

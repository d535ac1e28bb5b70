//! Checkpoints in files, so that a pair that lost both machines can start again: the thesis's `hs_cpipe_loadfile`.
//!
//! Two files, `NAME0.CPT` and `NAME1.CPT`, hold a generation each:
//!
//! ```text
//! NAME0.CPT   7.0 full │ 7.1 │ 7.2 │ … │ 7.90
//! NAME1.CPT   8.0 full │ 8.1 │ 8.2                     each checkpoint as on the wire, back to back
//! ```
//!
//! A full checkpoint begins the file that does not hold the newest whole generation on the disk; increments are appended to
//! their generation's file. So whenever the power fails, one file begins with a whole full checkpoint. The last checkpoint
//! in a file may be torn: its checksum says so, and the newest whole one before it counts. A checkpoint is kept once it is
//! synced. When the increments are [`GROWTH_MAX`] times as long as the full one, the next checkpoint is full, so that neither file
//! grows without bound.
//!
//! Several checkpoints may be in flight, and a file is one after the other: a writer waits for its turn, which comes when what
//! its checkpoint builds on is written, and passes when its own last byte is. It waits only for older checkpoints, and these never
//! for it, so nobody waits for ever: what waits for one that was lost is doomed, and cancelled. Nothing is buffered.
//!
//! Deliberately absent: a journal for the file system. The files are written by one node alone, which mounted the volume when it
//! became master; FAT's own structures may be torn by a power cut like any other file's.

mod ledger;
mod scan;
mod sink;
#[cfg(test)]
mod tests;

use alloc::format;
use core::fmt;

pub(crate) use self::scan::{Scan, ScanError, Visit, walk};
pub use self::sink::FileSink;
use crate::registry::descriptor::{FilePath, PathError};

/// The increments of a generation may be so many times as long as its full checkpoint, or as [`GROWTH_LEAST_BYTES`].
pub const GROWTH_MAX: u64 = 2;

/// A generation may always grow by [`GROWTH_MAX`] times this, however short its full checkpoint is.
pub const GROWTH_LEAST_BYTES: u64 = 256 << 10;

/// The two files that checkpoints are kept in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckpointFiles {
    paths: [FilePath; 2],
}

impl CheckpointFiles {
    /// Those of base name `base`: a path whose last name has at most seven letters and no point. `HSCPT` stands for
    /// `HSCPT0.CPT` and `HSCPT1.CPT`.
    ///
    /// # Errors
    /// With a figure and `.CPT` behind it, it is no path of 8.3 names.
    pub fn new(base: &str) -> Result<Self, PathError> {
        if base.is_empty() || base.ends_with('/') {
            return Err(PathError::NotAName { at: base.len() });
        }
        let path = |index: usize| FilePath::new(&format!("{base}{index}.CPT"));
        Ok(Self {
            paths: [path(0)?, path(1)?],
        })
    }

    /// Their paths.
    pub fn paths(&self) -> &[FilePath; 2] {
        &self.paths
    }
}

impl fmt::Display for CheckpointFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = &self.paths;
        write!(f, "{} and {}", first.as_str(), second.as_str())
    }
}

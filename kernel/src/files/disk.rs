//! What a volume asks of the disk under it: blocks, in runs, and a barrier.

use core::fmt;

/// Length of a block in bytes.
pub const BLOCK_LEN: usize = 512;

/// Why a disk did not do what it was asked to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskError {
    /// The block lies behind the end of the disk, or of the volume.
    Beyond {
        /// Which.
        block: u64,
    },
    /// The device says that it has failed at this block.
    Refused {
        /// The first of the run.
        block: u64,
    },
    /// The device does not answer, or has broken the rules: it is out of use.
    OutOfUse,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskError::Beyond { block } => write!(f, "block {block} is behind the end"),
            DiskError::Refused { block } => write!(f, "the device failed at block {block}"),
            DiskError::OutOfUse => f.write_str("the device does not answer and is out of use"),
        }
    }
}

impl core::error::Error for DiskError {}

/// A disk with one user. Calls sleep until it is done.
pub trait Disk {
    /// Its length in blocks.
    fn blocks(&self) -> u64;

    /// Reads the run of blocks that begins at `first`. `into` is a whole number of blocks.
    ///
    /// # Errors
    /// See [`DiskError`]; part of it may be read.
    fn read(&mut self, first: u64, into: &mut [u8]) -> Result<(), DiskError>;

    /// Writes the run of blocks that begins at `first`. `from` is a whole number of blocks. Runs are written in the
    /// order of the calls as far as a guest that dies is concerned; for the power of the host, [`flush`](Disk::flush).
    ///
    /// # Errors
    /// See [`DiskError`]; part of it may be written.
    fn write(&mut self, first: u64, from: &[u8]) -> Result<(), DiskError>;

    /// Returns when all that was written is safe from a loss of power.
    ///
    /// # Errors
    /// See [`DiskError`].
    fn flush(&mut self) -> Result<(), DiskError>;
}

#[cfg(test)]
pub(super) mod testing;

//! What Linux offers in place of `cptfork`: a way to hold memory as it was at a moment, while the writer goes on.
//!
//! Each peer is the best that we could make of its mechanism, because a comparison with less would tell nothing:
//! buffers are touched beforehand and lie over huge pages, pipes and files are made outside of the measured part, one call
//! covers all regions where the kernel allows, and whoever handles faults uses what the last epoch taught.

mod copies;
mod fork;
mod guarded;
mod pagemap_scan;
mod pipe;
mod segv;
mod soft_dirty;
#[cfg(test)]
mod tests;
mod uffd_wp;

use anyhow::Result;

use crate::memory::Memory;
use crate::sys::map::PAGE_LEN;

/// What makes a checkpoint of a memory, again and again.
///
/// The order of a round: `prepare`, the dirty set is written, `checkpoint` (measured), `settle`, the dirty set is written
/// again (measured), `let_go`.
pub(crate) trait Peer {
    /// Gets ready for the next checkpoint: whatever can be done beforehand. Not measured.
    ///
    /// # Errors
    /// The mechanism cannot be had.
    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    /// Takes a checkpoint: when it returns, the writer may go on. Its time is the pause.
    ///
    /// # Errors
    /// There is none then.
    fn checkpoint(&mut self) -> Result<()>;

    /// Waits until whoever holds the snapshot is at rest. Not measured.
    ///
    /// # Errors
    /// It is gone.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// Gives up the oldest snapshot. Not measured.
    ///
    /// # Errors
    /// It was not whole.
    fn let_go(&mut self) -> Result<()>;

    /// Copies page number `page` of the oldest snapshot; `false` if the snapshot does not hold the page, because it was not
    /// modified since the checkpoint before.
    ///
    /// # Errors
    /// Whoever holds the snapshot is gone.
    #[cfg_attr(
        not(test),
        expect(
            dead_code,
            reason = "what a checkpoint holds is of no interest to a stopwatch"
        )
    )]
    fn copy_page(&mut self, page: usize, into: &mut [u8; PAGE_LEN]) -> Result<bool>;

    /// Faults that came as signals so far: the kernel does not count them as faults.
    ///
    /// # Errors
    /// One could not be handled: the snapshot is not whole.
    fn signals(&self) -> Result<u64> {
        Ok(0)
    }

    /// Bytes of contents that one checkpoint holds.
    fn bytes(&self) -> u64;
}

/// What is measured. The names are the rows' `series`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Series {
    /// `fork()` over pages of 4 KiB.
    Fork,
    /// The same with the memory wired. Linux copies no wired pages at a fork, unlike the thesis's NetBSD: the lock is the
    /// parent's alone.
    ForkWired,
    /// `fork()` over huge pages, whole again before each checkpoint.
    ForkThp,
    /// `/proc/self/clear_refs` and `pagemap`, modified pages copied in the pause.
    SoftDirty,
    /// `PAGEMAP_SCAN` with write-protect tracking, modified pages copied in the pause.
    PagemapScan,
    /// `mprotect` and SIGSEGV: old pages copied by the handler.
    Segv,
    /// `userfaultfd` write-protect: old pages copied by the handler.
    UffdWp,
    /// The checkpoint written into a pipe in the pause.
    Pipe,
    /// Table 3-2 and 3-3: other memory copied on write.
    Cow,
    /// Other memory shared with the child.
    Share,
    /// Other memory left out of the child.
    Drop,
}

impl Series {
    /// All of them.
    pub(crate) const ALL: [Series; 11] = [
        Series::Fork,
        Series::ForkWired,
        Series::ForkThp,
        Series::SoftDirty,
        Series::PagemapScan,
        Series::Segv,
        Series::UffdWp,
        Series::Pipe,
        Series::Cow,
        Series::Share,
        Series::Drop,
    ];

    /// As it stands in rows and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Series::Fork => "linux-fork",
            Series::ForkWired => "linux-fork-wired",
            Series::ForkThp => "linux-fork-thp",
            Series::SoftDirty => "linux-soft-dirty",
            Series::PagemapScan => "linux-pagemap-scan",
            Series::Segv => "linux-segv",
            Series::UffdWp => "linux-uffd-wp",
            Series::Pipe => "linux-pipe",
            Series::Cow => "linux-cow",
            Series::Share => "linux-share",
            Series::Drop => "linux-drop",
        }
    }
}

/// What a checkpoint holds, where the mechanism leaves the choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Contents {
    /// All memory.
    Everything,
    /// The modified pages.
    Modified,
}

/// Starts the peer of a series on `memory`, for `alive` snapshots at once.
///
/// # Errors
/// The mechanism cannot be had, or has no room; for a series of the thesis's tables, which are no peers.
pub(crate) fn start<'m>(
    series: Series,
    memory: &'m Memory,
    alive: usize,
    contents: Contents,
) -> Result<Box<dyn Peer + 'm>> {
    Ok(match series {
        Series::Fork => Box::new(fork::ForkPeer::new(memory, fork::Kind::Plain)?),
        Series::ForkWired => Box::new(fork::ForkPeer::new(memory, fork::Kind::Wired)?),
        Series::ForkThp => Box::new(fork::ForkPeer::new(memory, fork::Kind::Huge)?),
        Series::SoftDirty => Box::new(soft_dirty::SoftDirtyPeer::new(memory, alive)?),
        Series::PagemapScan => Box::new(pagemap_scan::PagemapScanPeer::new(memory, alive)?),
        Series::Segv => Box::new(segv::peer(memory)?),
        Series::UffdWp => Box::new(uffd_wp::peer(memory)?),
        Series::Pipe => Box::new(pipe::PipePeer::new(memory, contents)?),
        Series::Cow | Series::Share | Series::Drop => {
            anyhow::bail!("{} is measured by the tables only", series.name())
        }
    })
}

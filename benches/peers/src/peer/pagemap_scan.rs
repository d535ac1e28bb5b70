//! `PAGEMAP_SCAN` over a `userfaultfd` that lifts protections by itself: one call lists the written pages and protects them
//! again; then they are copied. Linux 6.7 and newer; the best that it has for incremental snapshots.

use std::fs::File;
use std::ops::Range;

use anyhow::{Context, Result};

use super::Peer;
use super::copies::CopyRing;
use crate::memory::Memory;
use crate::sys::map::PAGE_LEN;
use crate::sys::pagemap::{WrittenRun, take_written};
use crate::sys::uffd::{Feature, Uffd};

/// Runs listed by one call: 96 KiB of them.
const RUNS: usize = 4096;

/// Knows which pages were written. Others may track with it too.
pub(super) struct Tracker<'m> {
    memory: &'m Memory,
    pagemap: File,
    runs: Vec<WrittenRun>,
    // Ends the tracking when it is dropped.
    _uffd: Uffd,
}

impl<'m> Tracker<'m> {
    /// Tracks `memory`, whose dirty set counts as written.
    pub(super) fn new(memory: &'m Memory) -> Result<Self> {
        let uffd = Uffd::open(Feature::Asynchronous).context(
            "the kernel has no userfaultfd that tracks writes by itself (UFFD_FEATURE_WP_ASYNC, Linux 6.7)",
        )?;
        uffd.register(memory.mapping()).context("UFFDIO_REGISTER")?;
        uffd.protect(memory.mapping()).context("UFFDIO_WRITEPROTECT")?;
        memory.touch(1);
        Ok(Self {
            memory,
            pagemap: File::open("/proc/self/pagemap").context("cannot open /proc/self/pagemap")?,
            runs: vec![WrittenRun::default(); RUNS],
            _uffd: uffd,
        })
    }

    /// Calls `with` for each run of pages (by number) written since the last time, ascending, and forgets them.
    #[inline]
    pub(super) fn take(&mut self, mut with: impl FnMut(Range<usize>) -> Result<()>) -> Result<()> {
        let mapping = self.memory.mapping();
        let page_of = |address: u64| (address as usize - mapping.address()) / PAGE_LEN;
        let end = mapping.address() + mapping.len_bytes();
        let mut next = mapping.address();
        while next < end {
            let (count, walked_to) = take_written(&self.pagemap, next..end, &mut self.runs)
                .context("the kernel has no PAGEMAP_SCAN (Linux 6.7)")?;
            for run in &self.runs[..count] {
                with(page_of(run.start)..page_of(run.end))?;
            }
            next = walked_to;
        }
        Ok(())
    }
}

pub(super) struct PagemapScanPeer<'m> {
    memory: &'m Memory,
    ring: CopyRing,
    tracker: Tracker<'m>,
}

impl<'m> PagemapScanPeer<'m> {
    pub(super) fn new(memory: &'m Memory, alive: usize) -> Result<Self> {
        Ok(Self {
            memory,
            ring: CopyRing::new(memory, alive)?,
            tracker: Tracker::new(memory)?,
        })
    }
}

impl Peer for PagemapScanPeer<'_> {
    fn checkpoint(&mut self) -> Result<()> {
        self.ring.begin()?;
        let Self {
            memory,
            ring,
            tracker,
        } = self;
        tracker.take(|run| ring.add(memory, run))
    }

    fn let_go(&mut self) -> Result<()> {
        self.ring.let_go()
    }

    fn copy_page(&mut self, page: usize, into: &mut [u8; PAGE_LEN]) -> Result<bool> {
        self.ring.copy_page(page, into)
    }

    fn bytes(&self) -> u64 {
        (self.memory.dirty().len() * PAGE_LEN) as u64
    }
}

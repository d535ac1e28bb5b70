//! Soft-dirty bits: `/proc/self/pagemap` says which pages were written, `/proc/self/clear_refs` forgets it, and the pages
//! are copied meanwhile. What CRIU does.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail};

use super::Peer;
use super::copies::CopyRing;
use crate::memory::Memory;
use crate::sys::map::PAGE_LEN;

const SOFT_DIRTY: u64 = 1 << 55;
const ENTRY_LEN: usize = size_of::<u64>();
/// Entries read at once: those of 16 MiB, which stay in the second-level cache.
const ENTRIES: usize = 4096;

pub(super) struct SoftDirtyPeer<'m> {
    memory: &'m Memory,
    pagemap: File,
    clear_refs: File,
    entries: Vec<u8>,
    ring: CopyRing,
}

impl<'m> SoftDirtyPeer<'m> {
    pub(super) fn new(memory: &'m Memory, alive: usize) -> Result<Self> {
        let mut peer = Self {
            memory,
            pagemap: File::open("/proc/self/pagemap").context("cannot open /proc/self/pagemap")?,
            clear_refs: OpenOptions::new()
                .write(true)
                .open("/proc/self/clear_refs")
                .context("cannot open /proc/self/clear_refs")?,
            entries: vec![0; ENTRIES * ENTRY_LEN],
            ring: CopyRing::new(memory, alive)?,
        };
        peer.clear()
            .context("the kernel keeps no soft-dirty bits (CONFIG_MEM_SOFT_DIRTY): /proc/self/clear_refs")?;
        memory.touch(1);
        let mut found = 0;
        peer.each_run(|_, run| {
            found += run.len();
            Ok(())
        })?;
        match found {
            0 => bail!("the kernel keeps no soft-dirty bits (CONFIG_MEM_SOFT_DIRTY)"),
            _ if found == memory.dirty().len() => {}
            _ => bail!(
                "the kernel counts {found} pages as modified where {} were",
                memory.dirty().len()
            ),
        }
        Ok(peer)
    }

    fn clear(&mut self) -> std::io::Result<()> {
        self.clear_refs.write_all(b"4")
    }

    /// Calls `with` for each run of modified pages, ascending. A run ends where what was read at once does.
    fn each_run(
        &mut self,
        mut with: impl FnMut(&mut CopyRing, std::ops::Range<usize>) -> Result<()>,
    ) -> Result<()> {
        let (start, pages) = (self.memory.mapping().address() / PAGE_LEN, self.memory.pages());
        for first in (0..pages).step_by(ENTRIES) {
            let entries = &mut self.entries[..ENTRIES.min(pages - first) * ENTRY_LEN];
            self.pagemap
                .read_exact_at(entries, ((start + first) * ENTRY_LEN) as u64)
                .context("cannot read /proc/self/pagemap")?;
            let mut run = first..first;
            for (page, entry) in (first..).zip(entries.as_chunks::<ENTRY_LEN>().0) {
                if u64::from_ne_bytes(*entry) & SOFT_DIRTY == 0 {
                    continue;
                }
                if run.end != page {
                    if !run.is_empty() {
                        with(&mut self.ring, run)?;
                    }
                    run = page..page;
                }
                run.end = page + 1;
            }
            if !run.is_empty() {
                with(&mut self.ring, run)?;
            }
        }
        Ok(())
    }
}

impl Peer for SoftDirtyPeer<'_> {
    fn checkpoint(&mut self) -> Result<()> {
        self.ring.begin()?;
        let memory = self.memory;
        self.each_run(|ring, run| ring.add(memory, run))?;
        self.clear().context("/proc/self/clear_refs")
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

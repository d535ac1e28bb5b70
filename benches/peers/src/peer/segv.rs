//! `mprotect` and SIGSEGV: one call protects everything, the handler saves each page before its first write.
//!
//! Each opened run splits the kernel's map, so it needs as many entries as there are borders (`vm.max_map_count`).

use anyhow::{Context, Result, bail};

use super::Peer;
use crate::memory::Memory;
use crate::sys::guard::Guard;
use crate::sys::map::PAGE_LEN;

pub(super) struct SegvPeer<'m> {
    guard: Guard<'m>,
    bytes: u64,
}

impl<'m> SegvPeer<'m> {
    pub(super) fn new(memory: &'m Memory) -> Result<Self> {
        /// What the program itself has, regions included, and some to spare.
        const OTHER_ENTRIES: usize = 200;
        let entries_max = std::fs::read_to_string("/proc/sys/vm/max_map_count")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(usize::MAX);
        let entries = 2 * memory.dirty_runs().len() + OTHER_ENTRIES;
        if entries > entries_max {
            bail!("the map would need {entries} entries, more than vm.max_map_count = {entries_max}");
        }
        Ok(Self {
            guard: Guard::new(memory.mapping(), memory.dirty(), None)?,
            bytes: (memory.dirty().len() * PAGE_LEN) as u64,
        })
    }
}

impl Peer for SegvPeer<'_> {
    fn checkpoint(&mut self) -> Result<()> {
        self.guard.protect().context("mprotect")
    }

    fn let_go(&mut self) -> Result<()> {
        self.signals().map(drop)
    }

    fn copy_page(&mut self, page: usize, into: &mut [u8; PAGE_LEN]) -> Result<bool> {
        self.guard.copy_page(page, into);
        Ok(true)
    }

    fn signals(&self) -> Result<u64> {
        self.guard
            .signals()
            .context("a write to protected memory could not be handled")
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

//! `userfaultfd` write-protect: one call protects everything, the handler (of SIGBUS, which is quicker than a second thread
//! that reads events) saves each page before its first write.

use anyhow::{Context, Result};

use super::Peer;
use crate::memory::Memory;
use crate::sys::guard::Guard;
use crate::sys::map::PAGE_LEN;
use crate::sys::uffd::{Feature, Uffd};

pub(super) struct UffdWpPeer<'m> {
    guard: Guard<'m>,
    bytes: u64,
}

impl<'m> UffdWpPeer<'m> {
    pub(super) fn new(memory: &'m Memory) -> Result<Self> {
        let uffd = Uffd::open(Feature::Sigbus).context(
            "the kernel has no userfaultfd that write-protects and tells by SIGBUS, or forbids it",
        )?;
        uffd.register(memory.mapping()).context("UFFDIO_REGISTER")?;
        Ok(Self {
            guard: Guard::new(memory.mapping(), memory.dirty(), Some(uffd))?,
            bytes: (memory.dirty().len() * PAGE_LEN) as u64,
        })
    }
}

impl Peer for UffdWpPeer<'_> {
    fn checkpoint(&mut self) -> Result<()> {
        self.guard.protect().context("UFFDIO_WRITEPROTECT")
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

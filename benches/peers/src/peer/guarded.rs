//! What the two peers have in common that protect everything by one call and save each page in a signal's handler.

use anyhow::{Context, Result};

use super::Peer;
use crate::memory::Memory;
use crate::sys::guard::Guard;
use crate::sys::map::PAGE_LEN;
use crate::sys::uffd::Uffd;

/// A peer whose writes are caught.
pub(super) struct GuardedPeer<'m> {
    guard: Guard<'m>,
    /// The call that protects, for its errors.
    call: &'static str,
    bytes: u64,
}

impl<'m> GuardedPeer<'m> {
    /// `memory` is protected by `call`: by way of `uffd`, or of the page tables.
    pub(super) fn new(memory: &'m Memory, uffd: Option<Uffd>, call: &'static str) -> Result<Self> {
        Ok(Self {
            guard: Guard::new(memory.mapping(), memory.dirty(), uffd)?,
            call,
            bytes: (memory.dirty().len() * PAGE_LEN) as u64,
        })
    }
}

impl Peer for GuardedPeer<'_> {
    fn checkpoint(&mut self) -> Result<()> {
        self.guard.protect().context(self.call)
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

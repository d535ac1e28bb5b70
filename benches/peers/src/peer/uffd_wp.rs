//! `userfaultfd` write-protect: one call protects everything, the handler (of SIGBUS, which is quicker than a second thread
//! that reads events) saves each page before its first write.

use anyhow::{Context, Result};

use super::guarded::GuardedPeer;
use crate::memory::Memory;
use crate::sys::uffd::{Feature, Uffd};

/// # Errors
/// The kernel does not have it, or forbids it.
pub(super) fn peer(memory: &Memory) -> Result<GuardedPeer<'_>> {
    let uffd = Uffd::open(Feature::Sigbus)
        .context("the kernel has no userfaultfd that write-protects and tells by SIGBUS, or forbids it")?;
    uffd.register(memory.mapping()).context("UFFDIO_REGISTER")?;
    GuardedPeer::new(memory, Some(uffd), "UFFDIO_WRITEPROTECT")
}

//! Pages of the window of one's own: for tests and benchmarks of `cptfork` that have no library.
//!
//! Whoever maps fresh pages has them to itself, so that writing to them is safe. The library has its own way to memory.

use hs_core::platform::{Cptctl, CptctlError, MapError, PAGE_LEN, PageRange};

use super::window;

/// Mapped pages that nobody else knows of; unmapped when dropped.
#[derive(Debug)]
pub struct Region {
    range: PageRange,
    installed: bool,
}

impl Region {
    /// Maps `range`, whose pages are zeroed.
    ///
    /// # Errors
    /// See [`MapError`]; nothing is mapped then.
    pub fn map(range: PageRange) -> Result<Region, MapError> {
        window::map(range)?;
        Ok(Region {
            range,
            installed: false,
        })
    }

    /// Installs it as a checkpoint range.
    ///
    /// # Errors
    /// See [`CptctlError`].
    pub fn install(&mut self) -> Result<(), CptctlError> {
        window::cptctl(Cptctl::Install(&[self.range]))?;
        self.installed = true;
        Ok(())
    }

    /// Its addresses.
    pub fn range(&self) -> PageRange {
        self.range
    }

    /// Sets the first byte of page `page`.
    ///
    /// # Panics
    /// If the region has no such page, here and below.
    #[inline]
    pub fn write(&mut self, page: usize, value: u8) {
        // SAFETY: a page of our own. Volatile, because its frame may change under the write.
        unsafe { self.address(page).write_volatile(value) };
    }

    /// The first byte of page `page`.
    #[inline]
    pub fn read(&self, page: usize) -> u8 {
        // SAFETY: as in `write`.
        unsafe { self.address(page).read_volatile() }
    }

    #[inline]
    fn address(&self, page: usize) -> *mut u8 {
        assert!(
            page < self.range.pages(),
            "the region has {} pages",
            self.range.pages()
        );
        core::ptr::with_exposed_provenance_mut(self.range.start() + page * PAGE_LEN)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.installed {
            window::cptctl(Cptctl::Purge(&[self.range])).expect("what was installed can be purged");
        }
        window::unmap(self.range).expect("what was mapped can be unmapped");
    }
}

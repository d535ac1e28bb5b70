//! How much of everything a decoder takes: what a damaged or hostile count cannot go beyond.

use super::header::HEADER_LEN_MAX;
use super::section::{self, RUN_LEN, SECTION_HEADER_LEN, TABLES};
use super::tables;
use crate::platform::{PAGE_LEN, PageRange};

/// What a decoder accepts at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The only window.
    pub window: PageRange,
    /// Registered workers.
    pub threads: u32,
    /// Registered descriptors.
    pub descriptors: u32,
    /// Registered signals.
    pub signals: u32,
    /// Memory areas.
    pub areas: u32,
    /// Pages of all areas together.
    pub pages: u64,
}

impl Limits {
    /// Room for sections that this version does not know.
    const SKIPPED_BYTES: u64 = 1 << 20;

    /// Length of the longest checkpoint.
    pub(super) fn total_bytes(&self) -> u64 {
        let page = (PAGE_LEN + RUN_LEN + SECTION_HEADER_LEN) as u64;
        let records =
            (TABLES.into_iter()).map(|kind| u64::from(self.of(kind)) * tables::record_len(kind) as u64);
        self.pages
            .saturating_mul(page)
            .saturating_add(records.sum::<u64>() + HEADER_LEN_MAX as u64 + Self::SKIPPED_BYTES)
    }

    /// Most records of the table `kind`.
    pub(super) const fn of(&self, kind: u8) -> u32 {
        match kind {
            section::THREADS => self.threads,
            section::DESCRIPTORS => self.descriptors,
            section::SIGNALS => self.signals,
            section::AREAS => self.areas,
            _ => 0,
        }
    }
}

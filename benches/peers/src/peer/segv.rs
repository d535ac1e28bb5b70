//! `mprotect` and SIGSEGV: one call protects everything, the handler saves each page before its first write.
//!
//! Each opened run splits the kernel's map, so it needs as many entries as there are borders (`vm.max_map_count`).

use anyhow::{Result, bail};

use super::guarded::GuardedPeer;
use crate::memory::Memory;

/// What the program itself has, regions included, and some to spare.
const OTHER_ENTRIES: usize = 200;

/// # Errors
/// The kernel's map may not have as many entries as this would need.
pub(super) fn peer(memory: &Memory) -> Result<GuardedPeer<'_>> {
    let entries_max = std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(usize::MAX);
    let entries = 2 * memory.dirty_runs().len() + OTHER_ENTRIES;
    if entries > entries_max {
        bail!("the map would need {entries} entries, more than vm.max_map_count = {entries_max}");
    }
    GuardedPeer::new(memory, None, "mprotect")
}

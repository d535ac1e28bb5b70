//! The memory that is checkpointed: regions, and the pages in them that each round modifies.
//!
//! One mapping from end to end, so that a peer may protect or scan it by one call; its regions are separate entries of the
//! kernel's map all the same. Both are in the peers' favour and cost `lazy` nothing.

use std::ops::Range;

use anyhow::{Context, Result, bail};

use crate::sys::map::{Advice, HUGE_LEN, Mapping, PAGE_LEN, Sharing};

/// Populated memory with its set of modified pages.
pub(crate) struct Memory {
    mapping: Mapping,
    dirty: Vec<usize>,
    /// Where each dirty page is written to, in bytes from the start.
    words: Vec<usize>,
}

impl Memory {
    /// `len_bytes` of pages of 4 KiB in `regions` map entries of about the same length, of which `dirty` are written to.
    ///
    /// # Errors
    /// There is no room for it in the address space or in the map.
    pub(crate) fn small_pages(
        len_bytes: usize,
        regions: usize,
        sharing: Sharing,
        dirty: Vec<usize>,
    ) -> Result<Self> {
        let mapping = map(len_bytes, sharing)?;
        // A kernel without huge pages knows no such advice, and needs none.
        let _ = mapping.advise(0..mapping.len_bytes(), Advice::SmallPages);
        let pages = len_bytes / PAGE_LEN;
        let border = |nth: usize| pages * nth / regions * PAGE_LEN;
        for nth in (1..regions).step_by(2) {
            mapping
                .advise(border(nth)..border(nth + 1), Advice::OwnEntry)
                .context("the map takes no more entries (vm.max_map_count)")?;
        }
        mapping.populate();
        Ok(Self::new(mapping, dirty))
    }

    /// `len_bytes` over huge pages of 2 MiB, as far as they fit, in one entry; call [`collapse`](Self::collapse) before use.
    ///
    /// # Errors
    /// None fits, or the kernel has none.
    pub(crate) fn huge_pages(len_bytes: usize, dirty: Vec<usize>) -> Result<Self> {
        if len_bytes < HUGE_LEN {
            bail!("the memory is smaller than a huge page of 2 MiB");
        }
        let mapping = map(len_bytes, Sharing::Private)?;
        mapping
            .advise(0..mapping.len_bytes(), Advice::HugePages)
            .context("the kernel has no huge pages on advice (MADV_HUGEPAGE)")?;
        mapping.populate();
        Ok(Self::new(mapping, dirty))
    }

    fn new(mapping: Mapping, dirty: Vec<usize>) -> Self {
        // A cache line of its own for each of 64 pages: else all words would compete for one set of the cache.
        let words = dirty
            .iter()
            .map(|page| page * PAGE_LEN + page % 64 * 64)
            .collect();
        Self {
            mapping,
            dirty,
            words,
        }
    }

    /// Writes `word` to each dirty page.
    #[inline]
    pub(crate) fn touch(&self, word: u64) {
        self.mapping.write_words(&self.words, word);
    }

    /// Puts everything that fits into huge pages again: a write while a child lives splits them.
    ///
    /// # Errors
    /// The kernel cannot (Linux 6.1 and newer can), or finds no free huge page.
    pub(crate) fn collapse(&self) -> Result<()> {
        const ATTEMPTS_MAX: u32 = 10;
        let fitting = 0..self.mapping.len_bytes() / HUGE_LEN * HUGE_LEN;
        for attempt in 1.. {
            match self.mapping.advise(fitting.clone(), Advice::Collapse) {
                Ok(()) => break,
                // Pages are on their way somewhere for a moment.
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && attempt < ATTEMPTS_MAX => {}
                Err(error) => return Err(error).context("huge pages cannot be put together (MADV_COLLAPSE)"),
            }
        }
        Ok(())
    }

    /// How much of it lies in huge pages, in bytes, as the kernel says in `/proc/self/smaps`.
    ///
    /// # Errors
    /// The file cannot be read, or does not speak of this memory.
    pub(crate) fn in_huge_pages(&self) -> Result<usize> {
        let smaps = std::fs::read_to_string("/proc/self/smaps").context("cannot read /proc/self/smaps")?;
        huge_bytes(&smaps, self.mapping.address()).context("/proc/self/smaps does not speak of the memory")
    }

    /// The mapping.
    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Numbers of the pages that [`touch`](Self::touch) writes to, ascending.
    pub(crate) fn dirty(&self) -> &[usize] {
        &self.dirty
    }

    /// The dirty pages as ranges of page numbers.
    pub(crate) fn dirty_runs(&self) -> Vec<Range<usize>> {
        self.dirty
            .chunk_by(|a, b| a + 1 == *b)
            .map(|run| run[0]..run[run.len() - 1] + 1)
            .collect()
    }

    /// All pages.
    pub(crate) fn pages(&self) -> usize {
        self.mapping.len_bytes() / PAGE_LEN
    }
}

fn map(len_bytes: usize, sharing: Sharing) -> Result<Mapping> {
    Mapping::new(len_bytes, sharing).with_context(|| format!("no address space for {} KiB", len_bytes / 1024))
}

/// `AnonHugePages` in bytes of the map entry that begins at `address`.
fn huge_bytes(smaps: &str, address: usize) -> Option<usize> {
    let start = format!("{address:x}-");
    let entry = smaps.lines().skip_while(|line| !line.starts_with(&start));
    let value = entry
        .filter_map(|line| line.strip_prefix("AnonHugePages:"))
        .next()?;
    let kib: usize = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_read_from_the_right_entry() {
        let smaps = "1000-2000 rw-p 0 00:00 0\nAnonHugePages:  9 kB\nb000-f000 rw-p 0 00:00 0\nRss: 8 kB\nAnonHugePages:      4096 kB\n";
        assert_eq!(huge_bytes(smaps, 0xb000), Some(4096 * 1024));
        assert_eq!(huge_bytes(smaps, 0xc000), None);
    }

    #[test]
    fn regions_are_entries_of_their_own() {
        let memory = Memory::small_pages(64 * PAGE_LEN, 4, Sharing::Private, vec![0, 1, 9]).unwrap();
        assert_eq!(memory.dirty_runs(), [0..2, 9..10]);
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let borders = (0..4).map(|nth| format!("{:x}-", memory.mapping.address() + nth * 16 * PAGE_LEN));
        for start in borders {
            assert!(
                maps.lines().any(|line| line.starts_with(&start)),
                "{start} {maps}"
            );
        }
    }
}

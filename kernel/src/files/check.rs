//! The check of a volume when it is mounted, which mends what a power cut has left.
//!
//! FAT has no journal. What saves it is an order, kept by [`cache`](super::cache) and [`volume`](super::volume):
//!
//! | | on the disk first | then |
//! |---|---|---|
//! | a file grows | its blocks, the chain | the length in its directory |
//! | a file is cut off or removed | its directory's word | the chain |
//!
//! So whenever the writer dies, a directory speaks of no more than its chains hold. What can be wrong, and is mended:
//!
//! - clusters that no file has: they are free again;
//! - a chain longer than its file: it is cut off;
//! - a chain shorter than its file, or one that leads to a free cluster or to another file's (the order was not kept:
//!   somebody else wrote the volume): the file is cut off where the chain ends.
//!
//! After this `embedded-sdmmc` sees a volume whose chains all end, and lead to clusters that there are; on others it would
//! panic or never return.

use super::cache::{Block, Cache};
use super::disk::{BLOCK_LEN, Disk, DiskError};
use super::table::{ENTRIES_MAX, FIRST_CLUSTER, LAST, Layout, Next};

/// What a table says of a cluster that cannot be used.
const BAD: u16 = 0xfff7;

const RECORD_LEN: usize = 32;
const END: u8 = 0;
const REMOVED: u8 = 0xe5;
const ATTRIBUTE_VOLUME: u8 = 0x08;
const ATTRIBUTE_DIRECTORY: u8 = 0x10;

/// A bit for each cluster.
struct Clusters([u64; ENTRIES_MAX / 64]);

impl Clusters {
    const fn new() -> Self {
        Self([0; ENTRIES_MAX / 64])
    }

    fn has(&self, cluster: u32) -> bool {
        self.0[cluster as usize / 64] & 1 << (cluster % 64) != 0
    }

    fn insert(&mut self, cluster: u32) {
        self.0[cluster as usize / 64] |= 1 << (cluster % 64);
    }

    fn pop(&mut self) -> Option<u32> {
        let word = self.0.iter().position(|&word| word != 0)?;
        let bit = self.0[word].trailing_zeros();
        self.0[word] &= self.0[word] - 1;
        Some(word as u32 * 64 + bit)
    }
}

/// What a check has mended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mended {
    /// Files and directories that were cut off or taken out.
    pub files: u32,
    /// Clusters that nobody had.
    pub clusters: u32,
}

/// Checks a volume and mends it, in the cache.
///
/// # Errors
/// The disk's.
pub fn check<D: Disk>(cache: &mut Cache<D>, layout: &Layout) -> Result<Mended, DiskError> {
    let mut check = Check {
        cache,
        layout,
        used: Clusters::new(),
        directories: Clusters::new(),
        mended: Mended::default(),
    };
    for block in layout.root() {
        if !check.directory_block(block)? {
            break;
        }
    }
    // Each cluster gets in here once at most: it is in use then.
    while let Some(first) = check.directories.pop() {
        check.directory(first)?;
    }
    check.sweep()?;
    Ok(check.mended)
}

struct Check<'a, D> {
    cache: &'a mut Cache<D>,
    layout: &'a Layout,
    used: Clusters,
    /// The first clusters of directories that were not looked into.
    directories: Clusters,
    mended: Mended,
}

impl<D: Disk> Check<'_, D> {
    /// Looks into the directory whose chain, sound already, begins at `first`.
    fn directory(&mut self, first: u32) -> Result<(), DiskError> {
        let mut next = Next::Cluster(first);
        while let Next::Cluster(cluster) = next {
            for block in self.layout.cluster(cluster) {
                if !self.directory_block(block)? {
                    return Ok(());
                }
            }
            next = self.layout.next(self.cache, cluster)?;
        }
        Ok(())
    }

    /// Checks the records of a block of a directory; whether there may be more behind it.
    fn directory_block(&mut self, block: u32) -> Result<bool, DiskError> {
        let mut bytes: Block = [0; BLOCK_LEN];
        self.cache.read(block, &mut bytes)?;
        let mut changed = false;
        let mut more = true;
        for record in bytes.chunks_exact_mut(RECORD_LEN) {
            if record[0] == END {
                more = false;
                break;
            }
            // Long names have this attribute too.
            if record[0] == REMOVED || record[0] == b'.' || record[11] & ATTRIBUTE_VOLUME != 0 {
                continue;
            }
            if self.record(record)? {
                changed = true;
                self.mended.files += 1;
            }
        }
        if changed {
            self.cache.write(block, &bytes)?;
        }
        Ok(more)
    }

    /// Checks what a record speaks of; whether the record was changed.
    fn record(&mut self, record: &mut [u8]) -> Result<bool, DiskError> {
        let first = u32::from(u16::from_le_bytes([record[26], record[27]]));
        let len = u32::from_le_bytes([record[28], record[29], record[30], record[31]]);
        if record[11] & ATTRIBUTE_DIRECTORY != 0 {
            let held = self.chain(first, u32::MAX)?;
            if held == 0 {
                record[0] = REMOVED;
                return Ok(true);
            }
            self.directories.insert(first);
            return Ok(false);
        }
        let held = self.chain(first, len.div_ceil(self.layout.cluster_len()))?;
        let held_len = held.saturating_mul(self.layout.cluster_len());
        if held_len >= len && (held > 0 || first == 0) {
            return Ok(false);
        }
        if held == 0 {
            record[26..28].fill(0);
        }
        let len = len.min(held_len);
        record[28..32].copy_from_slice(&len.to_le_bytes());
        Ok(true)
    }

    /// Takes up to `wanted` clusters of the chain that begins at `first` into use, and makes them all of it. Returns how
    /// many there are. A cluster that leads nowhere, as a free one does, is not one of them.
    fn chain(&mut self, first: u32, wanted: u32) -> Result<u32, DiskError> {
        let mut held = 0;
        let mut last = None;
        let mut next = Next::Cluster(first);
        while let Next::Cluster(cluster) = next {
            if held == wanted || !self.layout.is_cluster(cluster) || self.used.has(cluster) {
                break;
            }
            next = self.layout.next(self.cache, cluster)?;
            if next == Next::Broken {
                break;
            }
            self.used.insert(cluster);
            held += 1;
            last = Some(cluster);
        }
        if let Some(last) = last
            && next != Next::Last
        {
            self.layout.set(self.cache, last, LAST)?;
        }
        Ok(held)
    }

    /// Frees what nobody has, and makes sure that no search for a free cluster goes beyond the last one.
    fn sweep(&mut self) -> Result<(), DiskError> {
        let Check {
            cache,
            layout,
            used,
            mended,
            ..
        } = self;
        layout.sweep(cache, |cluster, entry| {
            if layout.is_cluster(cluster) {
                let lost = entry != 0 && entry != BAD && !used.has(cluster);
                mended.clusters += u32::from(lost);
                lost.then_some(0)
            } else {
                (cluster >= FIRST_CLUSTER && entry == 0).then_some(LAST)
            }
        })
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;

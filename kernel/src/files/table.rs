//! Where what lies in a FAT16 volume, and its table of chains.
//!
//! ```text
//!   block 0: partitions │ … │ boot block │ table (once or twice) │ root directory │ clusters 2, 3, …
//!   table: 16 bits a cluster: 0 free, the next one of its file, ≥ fff8 the last one, fff7 bad
//! ```
//!
//! `embedded-sdmmc` computes with what the disk says unchecked, neither gives the clusters of a removed file back nor cuts a
//! file off at a length. So all figures are checked here before it sees the volume, and chains are cut here, behind
//! its back: of a FAT16 volume it remembers no more than where it last found a free cluster.
//!
//! Deliberately absent: FAT32. It keeps a count of free clusters, a second truth that each power cut makes wrong, and more
//! than 2 GiB are not asked for.

use super::cache::{Block, Cache};
use super::disk::{BLOCK_LEN, Disk, DiskError};

/// Clusters are counted from here.
pub const FIRST_CLUSTER: u32 = 2;

/// Most entries of a FAT16 table.
pub const ENTRIES_MAX: usize = 1 << 16;

/// What a table says of a file's last cluster.
pub const LAST: u16 = 0xffff;
const LAST_MIN: u16 = 0xfff8;

const ENTRIES_PER_BLOCK: u32 = BLOCK_LEN as u32 / 2;
const RECORD_LEN: u32 = 32;

/// FAT16 has so many clusters; with fewer or more it would be another format.
const CLUSTERS_MIN: u32 = 4085;
const CLUSTERS_MAX: u32 = 65_524;

/// Why a volume cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadTable {
    /// It is none of ours; what is wrong with it.
    Format(&'static str),
    /// It cannot be read.
    Disk(DiskError),
}

impl From<DiskError> for BadTable {
    fn from(error: DiskError) -> Self {
        BadTable::Disk(error)
    }
}

/// Where the parts of a volume lie, in blocks from the start of the disk. All of it is on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    table: u32,
    table_blocks: u32,
    tables: u32,
    root: u32,
    root_blocks: u32,
    data: u32,
    cluster_blocks: u32,
    clusters: u32,
}

fn word(block: &Block, at: usize) -> u32 {
    u32::from(u16::from_le_bytes([block[at], block[at + 1]]))
}

fn long(block: &Block, at: usize) -> u32 {
    word(block, at) | word(block, at + 2) << 16
}

/// What follows a cluster in its chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// This one.
    Cluster(u32),
    /// Nothing: it is the last one.
    Last,
    /// Nonsense: a free or bad cluster, or none that there is.
    Broken,
}

impl Layout {
    /// Reads the layout of the volume in the disk's first partition.
    ///
    /// # Errors
    /// See [`BadTable`].
    pub fn read<D: Disk>(cache: &mut Cache<D>) -> Result<Self, BadTable> {
        let mut block = [0; BLOCK_LEN];
        let bad = |what| Err(BadTable::Format(what));
        cache.read(0, &mut block)?;
        if word(&block, 510) != 0xaa55 {
            return bad("it has no table of partitions (MBR)");
        }
        let (start, len) = (long(&block, 454), long(&block, 458));
        match block[450] {
            0x04 | 0x06 | 0x0e => {}
            0x0b | 0x0c => return bad("its first partition is FAT32; FAT16 is needed, of at most 2047 MiB"),
            _ => return bad("its first partition is not FAT16"),
        }
        if start == 0 || start.checked_add(len).is_none_or(|end| end > cache.blocks()) {
            return bad("its first partition does not lie on the disk");
        }
        cache.read(start, &mut block)?;
        let (reserved, tables, root_records) = (word(&block, 14), u32::from(block[16]), word(&block, 17));
        let (cluster_blocks, table_blocks) = (u32::from(block[13]), word(&block, 22));
        let blocks = match word(&block, 19) {
            0 => long(&block, 32),
            blocks => blocks,
        };
        if word(&block, 510) != 0xaa55 || word(&block, 11) != BLOCK_LEN as u32 {
            return bad("its boot block is none of a FAT volume with 512-byte blocks");
        }
        let sound =
            cluster_blocks.is_power_of_two() && (1..=2).contains(&tables) && table_blocks > 0 && reserved > 0;
        if !sound || blocks > len {
            return bad("its boot block contradicts itself");
        }
        // Each of these is below 2^24.
        let root = reserved + tables * table_blocks;
        let root_blocks = (root_records * RECORD_LEN).div_ceil(BLOCK_LEN as u32);
        let data = root + root_blocks;
        let clusters = blocks.saturating_sub(data) / cluster_blocks;
        if root_records == 0 || !(CLUSTERS_MIN..=CLUSTERS_MAX).contains(&clusters) {
            return bad("it is not FAT16, or damaged: it has not as many clusters as FAT16 has");
        }
        if (clusters + FIRST_CLUSTER).div_ceil(ENTRIES_PER_BLOCK) > table_blocks {
            return bad("its file allocation table is too short");
        }
        Ok(Self {
            table: start + reserved,
            table_blocks,
            tables,
            root: start + root,
            root_blocks,
            data: start + data,
            cluster_blocks,
            clusters,
        })
    }

    /// The blocks of its tables.
    pub fn table(&self) -> core::ops::Range<u32> {
        self.table..self.table + self.tables * self.table_blocks
    }

    /// The blocks of its root directory.
    pub fn root(&self) -> core::ops::Range<u32> {
        self.root..self.root + self.root_blocks
    }

    /// The blocks of `cluster`, which is one.
    pub fn cluster(&self, cluster: u32) -> core::ops::Range<u32> {
        let start = self.data + (cluster - FIRST_CLUSTER) * self.cluster_blocks;
        start..start + self.cluster_blocks
    }

    /// Length of a cluster in bytes.
    pub fn cluster_len(&self) -> u32 {
        self.cluster_blocks * BLOCK_LEN as u32
    }

    /// Whether there is such a cluster.
    pub fn is_cluster(&self, cluster: u32) -> bool {
        (FIRST_CLUSTER..FIRST_CLUSTER + self.clusters).contains(&cluster)
    }

    /// The block of the first table with the entry of `cluster`, and the entry's place in it.
    fn entry(&self, cluster: u32) -> (u32, usize) {
        let place = (cluster % ENTRIES_PER_BLOCK) as usize * 2;
        (self.table + cluster / ENTRIES_PER_BLOCK, place)
    }

    /// What follows `cluster`, which is one.
    ///
    /// # Errors
    /// The disk's.
    pub fn next<D: Disk>(&self, cache: &mut Cache<D>, cluster: u32) -> Result<Next, DiskError> {
        let (block, place) = self.entry(cluster);
        let mut bytes = [0; BLOCK_LEN];
        cache.read(block, &mut bytes)?;
        let entry = word(&bytes, place);
        Ok(if entry >= u32::from(LAST_MIN) {
            Next::Last
        } else if self.is_cluster(entry) {
            Next::Cluster(entry)
        } else {
            Next::Broken
        })
    }

    /// Sets what follows `cluster`, in all tables.
    ///
    /// # Errors
    /// The disk's.
    pub fn set<D: Disk>(&self, cache: &mut Cache<D>, cluster: u32, entry: u16) -> Result<(), DiskError> {
        let (block, place) = self.entry(cluster);
        for table in 0..self.tables {
            let block = block + table * self.table_blocks;
            let mut bytes = [0; BLOCK_LEN];
            cache.read(block, &mut bytes)?;
            bytes[place..place + 2].copy_from_slice(&entry.to_le_bytes());
            cache.write(block, &bytes)?;
        }
        Ok(())
    }

    /// Frees the chain that begins at `cluster`. Ends where the chain is broken.
    ///
    /// # Errors
    /// The disk's; part of it may be free.
    pub fn free<D: Disk>(&self, cache: &mut Cache<D>, cluster: u32) -> Result<(), DiskError> {
        let mut cluster = cluster;
        for _ in 0..self.clusters {
            if !self.is_cluster(cluster) {
                break;
            }
            let next = self.next(cache, cluster)?;
            self.set(cache, cluster, 0)?;
            match next {
                Next::Cluster(next) => cluster = next,
                Next::Last | Next::Broken => break,
            }
        }
        Ok(())
    }

    /// Makes the first `keep` clusters, at least one, of the chain that begins at `cluster` all of it.
    ///
    /// # Errors
    /// The disk's; part of the rest may not be free.
    pub fn cut<D: Disk>(&self, cache: &mut Cache<D>, cluster: u32, keep: u32) -> Result<(), DiskError> {
        let mut cluster = cluster;
        for _ in 1..keep {
            match self.next(cache, cluster)? {
                Next::Cluster(next) => cluster = next,
                Next::Last | Next::Broken => return Ok(()),
            }
        }
        let next = self.next(cache, cluster)?;
        if next != Next::Last {
            self.set(cache, cluster, LAST)?;
        }
        if let Next::Cluster(next) = next {
            self.free(cache, next)?;
        }
        Ok(())
    }

    /// Gives every entry that `stray` names its new value: one look at each block of the table. Entries behind the last
    /// cluster in the last block are handed over too.
    ///
    /// # Errors
    /// The disk's.
    pub fn sweep<D: Disk>(
        &self,
        cache: &mut Cache<D>,
        mut stray: impl FnMut(u32, u16) -> Option<u16>,
    ) -> Result<(), DiskError> {
        // Behind this block there is no entry of a cluster, and nobody looks.
        let blocks = (self.clusters + FIRST_CLUSTER).div_ceil(ENTRIES_PER_BLOCK);
        for block in 0..blocks {
            let mut bytes = [0; BLOCK_LEN];
            cache.read(self.table + block, &mut bytes)?;
            let mut changed = false;
            for (index, entry) in bytes.chunks_exact_mut(2).enumerate() {
                let cluster = block * ENTRIES_PER_BLOCK + index as u32;
                if let Some(new) = stray(cluster, u16::from_le_bytes([entry[0], entry[1]])) {
                    entry.copy_from_slice(&new.to_le_bytes());
                    changed = true;
                }
            }
            if changed {
                for table in 0..self.tables {
                    cache.write(self.table + table * self.table_blocks + block, &bytes)?;
                }
            }
        }
        Ok(())
    }
}

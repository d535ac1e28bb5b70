//! Whether a file is there, on a volume that somebody else may be writing: for a spare that looks for one.
//!
//! Nothing is mounted, mended or written, and nothing that is read is believed further than the layout allows. What is seen is the
//! directory of some moment; while its writer changes it, a file may be missed, and is found by the next look.

use hs_core::registry::descriptor::FilePath;

use super::cache::{Block, Cache};
use super::disk::{BLOCK_LEN, Disk, DiskError};
use super::table::{ENTRIES_MAX, Layout, Next};

const RECORD_LEN: usize = 32;
const NAME_LEN: usize = 11;
const RECORD_ATTRIBUTES: usize = 11;
const RECORD_CLUSTER: usize = 26;
const END: u8 = 0;
const ATTRIBUTE_VOLUME: u8 = 0x08;
const ATTRIBUTE_DIRECTORY: u8 = 0x10;

/// A name as a directory has it.
type Name = [u8; NAME_LEN];

fn padded(name: &str) -> Name {
    let mut bytes = [b' '; NAME_LEN];
    let (base, extension) = name.split_once('.').unwrap_or((name, ""));
    // A path's names are no longer than this.
    for (into, from) in bytes[..8].iter_mut().zip(base.bytes()) {
        *into = from;
    }
    for (into, from) in bytes[8..].iter_mut().zip(extension.bytes()) {
        *into = from;
    }
    bytes
}

/// Whether the file `path` is on the volume.
///
/// # Errors
/// The disk's.
pub fn exists<D: Disk>(cache: &mut Cache<D>, layout: &Layout, path: &FilePath) -> Result<bool, DiskError> {
    let mut names = path.as_str().split('/').peekable();
    let mut directory = None;
    while let Some(name) = names.next() {
        let Some(record) = find(cache, layout, directory, &padded(name))? else {
            return Ok(false);
        };
        let is_directory = record[RECORD_ATTRIBUTES] & ATTRIBUTE_DIRECTORY != 0;
        if names.peek().is_none() {
            return Ok(!is_directory);
        }
        let cluster = u16::from_le_bytes([record[RECORD_CLUSTER], record[RECORD_CLUSTER + 1]]);
        if !is_directory || !layout.is_cluster(cluster.into()) {
            return Ok(false);
        }
        directory = Some(u32::from(cluster));
    }
    Ok(false)
}

/// The record of `name` in the directory that begins with this cluster, or in the root directory.
fn find<D: Disk>(
    cache: &mut Cache<D>,
    layout: &Layout,
    directory: Option<u32>,
    name: &Name,
) -> Result<Option<[u8; RECORD_LEN]>, DiskError> {
    let mut next = directory;
    let mut blocks = directory.map_or(layout.root(), |cluster| layout.cluster(cluster));
    // A chain may be led in a circle.
    for _ in 0..ENTRIES_MAX {
        for block in blocks {
            let mut bytes: Block = [0; BLOCK_LEN];
            cache.read(block, &mut bytes)?;
            let (records, _) = bytes.as_chunks::<RECORD_LEN>();
            for record in records {
                if record[0] == END {
                    return Ok(None);
                }
                // Parts of long names have this bit too.
                if record[RECORD_ATTRIBUTES] & ATTRIBUTE_VOLUME == 0 && record[..NAME_LEN] == *name {
                    return Ok(Some(*record));
                }
            }
        }
        let Some(cluster) = next else { return Ok(None) };
        match layout.next(cache, cluster)? {
            Next::Cluster(cluster) => {
                next = Some(cluster);
                blocks = layout.cluster(cluster);
            }
            Next::Last | Next::Broken => return Ok(None),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::vec::Vec;

    use hs_core::platform::FileError;
    use hs_core::registry::descriptor::FileMode;
    use proptest::prelude::*;

    use super::*;
    use crate::files::disk::testing::{PARTITION_START, RamDisk, formatted};
    use crate::files::volume::Volume;

    fn volume(disk: &RamDisk) -> Volume<RamDisk> {
        Volume::new(Cache::new(disk.clone(), 24), || {
            Duration::from_secs(1_000_000_000)
        })
    }

    fn path(text: &str) -> FilePath {
        FilePath::new(text).unwrap()
    }

    #[test]
    fn a_spare_sees_what_the_writer_has_synced() {
        let disk = formatted(1);
        let mut writer = volume(&disk);
        writer.mount().unwrap();
        let mut spare = volume(&disk);
        let names: Vec<FilePath> = (0..40)
            .map(|number| path(&std::format!("A/SUB/F{number}.TXT")))
            .chain([path("FAIL"), path("FAIL.NOW")])
            .collect();
        for name in &names {
            assert_eq!(spare.exists(name), Ok(false));
            let file = writer.open(name, FileMode::WRITE).unwrap();
            writer.close(file).unwrap();
            assert_eq!(spare.exists(name), Ok(true));
            assert_eq!(writer.exists(name), Ok(true));
        }
        assert_eq!(spare.exists(&path("A/SUB")), Ok(false), "a directory is no file");
        assert_eq!(spare.exists(&path("FAIL/X")), Ok(false));
        writer.remove(&path("FAIL")).unwrap();
        assert_eq!(spare.exists(&path("FAIL")), Ok(false));
        assert_eq!(
            spare.open(&path("FAIL.NOW"), FileMode::READ).err(),
            Some(FileError::NotMounted)
        );
    }

    #[test]
    fn what_is_no_volume_is_said_so() {
        let mut spare = volume(&RamDisk::new(std::vec![0; 100 * BLOCK_LEN]));
        assert!(matches!(spare.exists(&path("A")), Err(FileError::BadVolume(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is on the disk: no panic, an end, and nothing written.
        #[test]
        fn no_volume_is_too_bad(places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..400)) {
            let disk = formatted(1);
            let mut writer = volume(&disk);
            writer.mount().unwrap();
            let file = writer.open(&path("A/B/C"), FileMode::WRITE).unwrap();
            writer.close(file).unwrap();
            let mut bytes = disk.bytes();
            // What is there lies at the beginning.
            let end = bytes.len().min((PARTITION_START + 80) * BLOCK_LEN);
            for (at, byte) in places {
                bytes[at.index(end)] = byte;
            }
            let damaged = RamDisk::new(bytes.clone());
            let _ = volume(&damaged).exists(&path("A/B/C"));
            prop_assert!(damaged.bytes() == bytes);
        }
    }
}

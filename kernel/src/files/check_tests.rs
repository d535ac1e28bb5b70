use std::vec::Vec;

use super::*;
use crate::files::disk::testing::{PARTITION_START, RamDisk, formatted};

/// A volume whose root directory is all that is written by hand.
struct Handmade {
    cache: Cache<RamDisk>,
    layout: Layout,
    records: usize,
}

impl Handmade {
    fn new() -> Self {
        let mut cache = Cache::new(formatted(2), 24);
        let layout = Layout::read(&mut cache).unwrap();
        cache.set_table(layout.table());
        Self {
            cache,
            layout,
            records: 0,
        }
    }

    fn record(&mut self, name: &[u8; 11], attributes: u8, first: u16, len: u32) {
        let mut bytes = self.root();
        let record = &mut bytes[self.records * RECORD_LEN..][..RECORD_LEN];
        record[..11].copy_from_slice(name);
        record[11] = attributes;
        record[26..28].copy_from_slice(&first.to_le_bytes());
        record[28..].copy_from_slice(&len.to_le_bytes());
        self.cache.write(self.layout.root().start, &bytes).unwrap();
        self.records += 1;
    }

    fn chain(&mut self, clusters: &[u32]) {
        let next = clusters.iter().skip(1).map(|&next| next as u16).chain([LAST]);
        for (&cluster, next) in clusters.iter().zip(next) {
            self.layout.set(&mut self.cache, cluster, next).unwrap();
        }
    }

    fn root(&mut self) -> Block {
        let mut bytes = [0; BLOCK_LEN];
        self.cache.read(self.layout.root().start, &mut bytes).unwrap();
        bytes
    }

    /// Mends, and returns what with which clusters and lengths.
    fn mend(&mut self) -> (Mended, Vec<(u8, u16, u32)>) {
        let mended = check(&mut self.cache, &self.layout).unwrap();
        assert_eq!(check(&mut self.cache, &self.layout), Ok(Mended::default()));
        let bytes = self.root();
        let records = bytes.chunks_exact(RECORD_LEN).take(self.records);
        let told = records.map(|record| {
            let first = u16::from_le_bytes([record[26], record[27]]);
            (
                record[0],
                first,
                u32::from_le_bytes(record[28..].try_into().unwrap()),
            )
        });
        (mended, told.collect())
    }

    fn next(&mut self, cluster: u32) -> Next {
        self.layout.next(&mut self.cache, cluster).unwrap()
    }
}

const MENDED: fn(u32, u32) -> Mended = |files, clusters| Mended { files, clusters };

#[test]
fn what_is_sound_stays() {
    let mut volume = Handmade::new();
    volume.chain(&[2, 9, 4]);
    volume.record(b"SOUND   BIN", 0, 2, 2049);
    volume.record(b"EMPTY   BIN", 0, 0, 0);
    let told = [(b'S', 2, 2049), (b'E', 0, 0)].to_vec();
    assert_eq!(volume.mend(), (Mended::default(), told));
    assert_eq!(volume.next(9), Next::Cluster(4));
}

#[test]
fn what_nobody_has_is_free_again() {
    let mut volume = Handmade::new();
    volume.chain(&[5, 6, 7]);
    assert_eq!(volume.mend().0, MENDED(0, 3));
    assert_eq!(volume.next(5), Next::Broken);
}

#[test]
fn a_chain_longer_than_its_file_is_cut_off() {
    let mut volume = Handmade::new();
    volume.chain(&[2, 3, 4, 5]);
    volume.record(b"GROWING BIN", 0, 2, 1025);
    assert_eq!(volume.mend(), (MENDED(0, 2), [(b'G', 2, 1025)].to_vec()));
    assert_eq!(volume.next(3), Next::Last);
}

#[test]
fn a_file_ends_where_its_chain_does() {
    let mut volume = Handmade::new();
    volume.chain(&[2, 3]);
    volume.record(b"SHORT   BIN", 0, 2, 5000);
    // It leads to a free cluster.
    volume.chain(&[10, 11]);
    volume.layout.set(&mut volume.cache, 11, 0).unwrap();
    volume.record(b"FREE    BIN", 0, 10, 2000);
    // It begins nowhere.
    volume.record(b"NOWHERE BIN", 0, 0, 10);
    volume.record(b"OUTSIDE BIN", 0, 0xfff0, 10);
    let told = [(b'S', 2, 2048), (b'F', 10, 1024), (b'N', 0, 0), (b'O', 0, 0)];
    assert_eq!(volume.mend(), (MENDED(4, 0), told.to_vec()));
    assert_eq!(volume.next(10), Next::Last);
}

#[test]
fn two_files_do_not_share_a_cluster() {
    let mut volume = Handmade::new();
    volume.chain(&[2, 3, 4]);
    volume.chain(&[7, 3]);
    volume.chain(&[3, 4]);
    volume.record(b"FIRST   BIN", 0, 2, 3000);
    volume.record(b"SECOND  BIN", 0, 7, 3000);
    volume.record(b"THIRD   BIN", 0, 4, 1000);
    let told = [(b'F', 2, 3000), (b'S', 7, 1024), (b'T', 0, 0)];
    assert_eq!(volume.mend(), (MENDED(2, 0), told.to_vec()));
}

#[test]
fn chains_and_directories_that_run_in_a_circle_end() {
    let mut volume = Handmade::new();
    volume.chain(&[2, 3]);
    volume.layout.set(&mut volume.cache, 3, 2).unwrap();
    volume.record(b"CIRCLE  BIN", 0, 2, 1 << 20);
    // A directory that is its own subdirectory.
    volume.chain(&[8]);
    volume.record(b"LOOP       ", ATTRIBUTE_DIRECTORY, 8, 0);
    let mut inside = [0; BLOCK_LEN];
    inside[..11].copy_from_slice(b"LOOP       ");
    inside[11] = ATTRIBUTE_DIRECTORY;
    inside[26] = 8;
    let start = volume.layout.cluster(8).start;
    volume.cache.write(start, &inside).unwrap();
    // And one whose chain is free.
    volume.record(b"GONE       ", ATTRIBUTE_DIRECTORY, 20, 0);
    let told = [(b'C', 2, 2048), (b'L', 8, 0), (REMOVED, 20, 0)];
    assert_eq!(volume.mend(), (MENDED(3, 0), told.to_vec()));
    volume.cache.read(start, &mut inside).unwrap();
    assert_eq!(inside[0], REMOVED);
}

/// mkfs.fat leaves these free, and a search for free clusters does not stop before them.
#[test]
fn entries_behind_the_last_cluster_are_taken() {
    let mut volume = Handmade::new();
    let behind = (2..).find(|&cluster| !volume.layout.is_cluster(cluster)).unwrap();
    volume.layout.set(&mut volume.cache, behind, 0).unwrap();
    volume.mend();
    assert_eq!(volume.next(behind), Next::Last);
}

#[test]
fn each_kind_of_volume_that_is_none_is_named() {
    let sound = formatted(2).bytes();
    let refused = |change: &dyn Fn(&mut [u8])| {
        let mut bytes = sound.clone();
        change(&mut bytes);
        match Layout::read(&mut Cache::new(RamDisk::new(bytes), 4)) {
            Err(super::super::table::BadTable::Format(what)) => what,
            other => panic!("{other:?}"),
        }
    };
    let boot = PARTITION_START * BLOCK_LEN;
    assert!(refused(&|bytes| bytes[510] = 0).contains("MBR"));
    assert!(refused(&|bytes| bytes[450] = 0x0c).contains("FAT32"));
    assert!(refused(&|bytes| bytes[450] = 0x83).contains("not FAT16"));
    assert!(refused(&|bytes| bytes[460] = 0x10).contains("on the disk"));
    assert!(refused(&|bytes| bytes[boot + 510] = 0).contains("boot block"));
    assert!(refused(&|bytes| bytes[boot + 13] = 0).contains("contradicts"));
    assert!(refused(&|bytes| bytes[boot + 13] = 128).contains("clusters"));
    assert!(refused(&|bytes| bytes[boot + 22] = 1).contains("too short"));
}

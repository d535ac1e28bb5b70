use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::model::{Model, NAMES, Step, step, steps};
use super::*;
use crate::files::disk::testing::{PARTITION_START, RamDisk, formatted};

const LINES: usize = 24;

fn clock() -> Duration {
    Duration::from_secs(1_000_000_000)
}

pub(super) fn path(text: &str) -> FilePath {
    FilePath::new(text).unwrap()
}

fn volume(disk: &RamDisk) -> Volume<RamDisk> {
    Volume::new(Cache::new(disk.clone(), LINES), clock)
}

fn mounted(disk: &RamDisk) -> Volume<RamDisk> {
    let mut volume = volume(disk);
    assert_eq!(volume.mount(), Ok(Mended::default()));
    volume
}

pub(super) const BOTH: FileMode = FileMode::READ.union(FileMode::WRITE);

fn contents(volume: &mut Volume<RamDisk>, name: &str) -> Result<Vec<u8>, FileError> {
    let file = volume.open(&path(name), FileMode::READ)?;
    let len = volume.len_bytes(file)?;
    let mut bytes = vec![0; len as usize + 1];
    assert_eq!(volume.read_at(file, 0, &mut bytes)?, len as usize);
    bytes.truncate(len as usize);
    volume.close(file)?;
    Ok(bytes)
}

/// All files of a disk as another implementation of FAT sees them.
fn seen_by_fatfs(disk: &RamDisk) -> BTreeMap<String, Vec<u8>> {
    fn walk<'a>(
        directory: fatfs::Dir<'a, Cursor<Vec<u8>>>,
        prefix: &str,
        into: &mut BTreeMap<String, Vec<u8>>,
    ) {
        for entry in directory.iter() {
            let entry = entry.unwrap();
            let name = entry.short_file_name();
            if name == "." || name == ".." {
                continue;
            }
            let name = prefix.to_string() + &name;
            if entry.is_dir() {
                walk(entry.to_dir(), &(name + "/"), into);
            } else {
                let mut bytes = Vec::new();
                entry.to_file().read_to_end(&mut bytes).unwrap();
                into.insert(name, bytes);
            }
        }
    }
    let bytes = disk.bytes()[PARTITION_START * BLOCK_LEN..].to_vec();
    let fat = fatfs::FileSystem::new(Cursor::new(bytes), fatfs::FsOptions::new()).unwrap();
    let mut files = BTreeMap::new();
    walk(fat.root_dir(), "", &mut files);
    files
}

#[test]
fn nothing_is_open_before_the_mount_and_nothing_stays_open_behind_it() {
    let disk = formatted(2);
    let mut volume = volume(&disk);
    assert_eq!(
        volume.open(&path("A.TXT"), BOTH).err(),
        Some(FileError::NotMounted)
    );
    volume.mount().unwrap();
    let file = volume.open(&path("A.TXT"), BOTH).unwrap();
    volume.write_at(file, 0, b"never synced").unwrap();
    volume.mount().unwrap();
    assert_eq!(volume.len_bytes(file), Err(FileError::NotOpen));
    assert_eq!(
        contents(&mut volume, "A.TXT"),
        Err(FileError::NotFound(path("A.TXT")))
    );
}

#[test]
fn each_refusal_says_what_was_wrong() {
    let disk = formatted(2);
    let mut volume = mounted(&disk);
    let a = path("LOGS/A.TXT");
    let missing = Some(FileError::NotFound(a));
    assert_eq!(volume.open(&a, FileMode::READ).err(), missing);
    assert_eq!(volume.remove(&a).err(), missing);
    let file = volume.open(&a, FileMode::WRITE).unwrap();
    let busy = Some(FileError::Busy(a));
    assert_eq!(volume.open(&a, FileMode::READ).err(), busy);
    assert_eq!(volume.remove(&a).err(), busy);
    assert_eq!(volume.read_at(file, 0, &mut [0]), Err(FileError::WrongMode));
    assert_eq!(volume.write_at(file, 1, b"x"), Err(FileError::TooLong));
    assert_eq!(
        volume.write_at(file, u64::from(u32::MAX), b"x"),
        Err(FileError::TooLong)
    );
    assert_eq!(volume.truncate(file, 1), Err(FileError::TooLong));
    volume.close(file).unwrap();
    assert_eq!(volume.close(file), Err(FileError::NotOpen));
    let readers = [(); 2].map(|()| volume.open(&a, FileMode::READ).unwrap());
    assert_eq!(volume.write_at(readers[0], 0, b"x"), Err(FileError::WrongMode));
    assert_eq!(volume.open(&a, BOTH).err(), busy);
    volume.close(readers[0]).unwrap();
    assert_eq!(volume.len_bytes(readers[1]), Ok(0));
    assert_eq!(
        volume.open(&a, FileMode::empty()).err(),
        Some(FileError::WrongMode)
    );
    for directory in ["LOGS", "LOGS/A.TXT/B"] {
        let directory = path(directory);
        let refused = Some(FileError::IsDirectory(directory));
        assert_eq!(volume.open(&directory, BOTH).err(), refused);
    }
    assert_eq!(
        volume.remove(&path("LOGS")).err(),
        Some(FileError::IsDirectory(path("LOGS")))
    );
    let mut opened = 1;
    let last = loop {
        match volume.open(&path(&std::format!("F{opened}")), BOTH) {
            Ok(_) => opened += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((opened, last), (FILES_MAX, FileError::TooMany));
}

#[test]
fn a_full_disk_says_so_and_gives_its_room_back() {
    let disk = formatted(2);
    let mut volume = mounted(&disk);
    let chunk = vec![7; 1 << 20];
    let mut held = Vec::new();
    for round in 0..3 {
        let file = volume.open(&path("BIG"), BOTH).unwrap();
        let mut len = 0;
        let error = loop {
            match volume.write_at(file, len, &chunk) {
                Ok(()) => len += chunk.len() as u64,
                Err(error) => break error,
            }
        };
        assert_eq!(error, FileError::Full);
        held.push(volume.len_bytes(file).unwrap());
        if round % 2 == 0 {
            volume.truncate(file, 0).unwrap();
        }
        volume.close(file).unwrap();
        volume.remove(&path("BIG")).unwrap();
    }
    assert_eq!(held[0], held[1]);
    assert_eq!(held[0], held[2]);
    assert!(held[0] > 3 << 20);
}

/// A loss of power at some word of a run of steps.
fn after_loss(
    disk: &RamDisk,
    steps: &[Step],
    ends: &[usize],
    synced: &[BTreeMap<usize, Vec<u8>>],
    at: usize,
    seed: u64,
) -> Result<(), TestCaseError> {
    // Not in the middle of these any more: what they have synced is safe.
    let done = ends.partition_point(|&end| end <= at);
    let mut safe = done
        .checked_sub(1)
        .map_or_else(BTreeMap::new, |last| synced[last].clone());
    match steps.get(done) {
        Some(Step::Mount) => {}
        Some(step) => drop(step.name().map(|name| safe.remove(&name))),
        None => {}
    }
    let mut random = seed;
    let left = disk.after_loss(at, || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        random >> 62 != 0
    });
    let mut volume = volume(&left);
    prop_assert!(volume.mount().is_ok());
    // Once is enough.
    prop_assert_eq!(volume.mount(), Ok(Mended::default()));
    // Whatever is wrongly free would be taken by this.
    let filler = volume.open(&path("FILLER"), BOTH).unwrap();
    let chunk = vec![0xaa; 1 << 18];
    let mut len = 0;
    while volume.write_at(filler, len, &chunk).is_ok() {
        len += chunk.len() as u64;
    }
    volume.close(filler).unwrap();
    // `embedded-sdmmc` takes the last cluster before it sees that there is no next one, and then does not use it.
    let mended = volume.mount().unwrap();
    prop_assert!(mended.files == 0 && mended.clusters <= 1, "{:?}", mended);
    for (name, bytes) in &safe {
        let found = contents(&mut volume, NAMES[*name]);
        prop_assert_eq!(found.as_ref(), Ok(bytes), "{} at word {}", NAMES[*name], at);
    }
    seen_by_fatfs(&left);
    Ok(())
}

/// What was synced, by number of name.
type Synced = BTreeMap<usize, Vec<u8>>;

/// Does the steps; returns after each how many words the disk had heard, and what was synced.
fn run(disk: &RamDisk, steps: &[Step]) -> Result<(Vec<usize>, Vec<Synced>), TestCaseError> {
    let mut volume = mounted(disk);
    let mut model = Model::default();
    let mut ends = Vec::new();
    let mut synced = Vec::new();
    for (number, what) in steps.iter().enumerate() {
        step(&mut volume, &mut model, what, number as u8)?;
        ends.push(disk.words());
        synced.push(model.synced.clone());
    }
    Ok((ends, synced))
}

/// A disk that does not do what a flush asks for is found out: the test below can fail.
#[test]
fn a_disk_that_lies_about_flushes_is_noticed() {
    let steps = [
        Step::Open(0, BOTH),
        Step::Write(0, 0, 20_000),
        Step::Sync(0),
        Step::Open(1, BOTH),
        Step::Write(1, 0, 20_000),
        Step::Sync(1),
    ];
    let disk = formatted(2);
    let (_, synced) = run(&disk, &steps).unwrap();
    let disk = disk.lying();
    let noticed = (0..20).any(|seed| {
        let ends = [disk.words(); 6];
        after_loss(&disk, &steps, &ends, &synced, disk.words(), seed).is_err()
    });
    assert!(noticed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever is done, files are as in the plainest of file systems; closed and mounted afresh they still are, and another
    /// implementation of FAT sees the same.
    #[test]
    fn files_are_as_in_the_plainest_file_system(steps in steps()) {
        let disk = formatted(2);
        let mut volume = mounted(&disk);
        let mut model = Model::default();
        for (number, what) in steps.iter().enumerate() {
            step(&mut volume, &mut model, what, number as u8)?;
        }
        step(&mut volume, &mut model, &Step::Mount, 0)?;
        let expected: BTreeMap<String, Vec<u8>> = model
            .files
            .iter()
            .map(|(&name, bytes)| (NAMES[name].to_string(), bytes.clone()))
            .collect();
        for (name, bytes) in &expected {
            prop_assert_eq!(&contents(&mut volume, name).unwrap(), bytes);
        }
        prop_assert_eq!(seen_by_fatfs(&disk), expected);
    }

    /// Whenever power is lost, and whatever of what was not flushed is lost with it: the volume can be mounted, what was synced
    /// is there, and stays there when all the rest of the volume is filled.
    #[test]
    fn what_was_synced_outlives_a_loss_of_power(
        steps in steps(),
        tables in 1u8..=2,
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 4),
    ) {
        let disk = formatted(tables);
        let (ends, synced) = run(&disk, &steps)?;
        for (at, seed) in cuts {
            after_loss(&disk, &steps, &ends, &synced, at.index(disk.words() + 1), seed)?;
        }
    }

    /// A volume of which any blocks were overwritten with anything is mounted or refused; and if it is mounted, what is in it can
    /// be read, written and removed, without a panic and without a second mend.
    #[test]
    fn a_damaged_volume_is_no_danger(
        steps in steps(),
        damage in proptest::collection::vec((0usize..120, 0usize..BLOCK_LEN, any::<[u8; 4]>()), 1..40),
    ) {
        let disk = formatted(1);
        let (mut volume, mut model) = (mounted(&disk), Model::default());
        for what in steps.iter().chain([&Step::Mount]) {
            step(&mut volume, &mut model, what, 1)?;
        }
        let mut bytes = disk.bytes();
        for (block, at, with) in damage {
            let at = block * BLOCK_LEN + at.min(BLOCK_LEN - with.len());
            bytes[at..at + with.len()].copy_from_slice(&with);
        }
        let disk = RamDisk::new(bytes);
        let mut volume = self::volume(&disk);
        if volume.mount().is_ok() {
            prop_assert_eq!(volume.mount(), Ok(Mended::default()));
            for name in NAMES {
                let _ = contents(&mut volume, name);
                let Ok(file) = volume.open(&path(name), BOTH) else { continue };
                let len = volume.len_bytes(file).unwrap();
                let _ = volume.write_at(file, len, &[1; 5000]);
                let _ = volume.truncate(file, len / 2);
                let _ = volume.close(file);
                let _ = volume.remove(&path(name));
            }
            prop_assert!(volume.mount().is_ok());
        }
    }
}

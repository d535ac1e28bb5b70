use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::files::disk::testing::{PARTITION_START, RamDisk, formatted};

const LINES: usize = 24;

fn clock() -> Duration {
    Duration::from_secs(1_000_000_000)
}

fn path(text: &str) -> FilePath {
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

const BOTH: FileMode = FileMode::READ.union(FileMode::WRITE);

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
    let bytes = disk.durable()[PARTITION_START * BLOCK_LEN..].to_vec();
    let fat = fatfs::FileSystem::new(Cursor::new(bytes), fatfs::FsOptions::new()).unwrap();
    let mut files = BTreeMap::new();
    walk(fat.root_dir(), "", &mut files);
    files
}

#[test]
fn nothing_is_open_before_the_mount_and_nothing_stays_open_behind_it() {
    let disk = formatted();
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
    let disk = formatted();
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
    let disk = formatted();
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

/// What is done to the files of a disk.
#[derive(Clone, Debug)]
enum Step {
    Open(usize, FileMode),
    Close(usize),
    Write(usize, usize, usize),
    Read(usize, usize, usize),
    Truncate(usize, usize),
    Sync(usize),
    Remove(usize),
    Mount,
}

const NAMES: [&str; 5] = ["A.TXT", "B", "LOGS/A.TXT", "LOGS/OLD/C.BIN", "D.D"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = 0..NAMES.len();
    // Lengths around those of a block and of a cluster, and beyond the cache.
    let len = prop_oneof![0usize..20, 500usize..530, 1000usize..1100, 0usize..40_000];
    let mode = prop_oneof![Just(FileMode::READ), Just(BOTH), Just(FileMode::WRITE)];
    let step = prop_oneof![
        4 => (name.clone(), mode).prop_map(|(name, mode)| Step::Open(name, mode)),
        2 => name.clone().prop_map(Step::Close),
        8 => (name.clone(), 0usize..1000, len.clone()).prop_map(|(name, at, len)| Step::Write(name, at, len)),
        4 => (name.clone(), 0usize..1200, len).prop_map(|(name, at, len)| Step::Read(name, at, len)),
        2 => (name.clone(), 0usize..1200).prop_map(|(name, at)| Step::Truncate(name, at)),
        2 => name.clone().prop_map(Step::Sync),
        1 => name.prop_map(Step::Remove),
        1 => Just(Step::Mount),
    ];
    proptest::collection::vec(step, 1..60)
}

/// The plainest file system, and what of it must be on the disk.
#[derive(Default)]
struct Model {
    files: BTreeMap<usize, Vec<u8>>,
    open: BTreeMap<usize, (FileHandle, FileMode)>,
    /// Files of which all is on the disk.
    synced: BTreeMap<usize, Vec<u8>>,
}

impl Model {
    fn written(&mut self, name: usize) {
        self.synced.remove(&name);
    }

    fn is_synced(&mut self, name: usize) {
        self.synced.insert(name, self.files[&name].clone());
    }
}

/// `at` thousandths of `len`; behind it for more than 1000.
fn place(at: usize, len: usize) -> usize {
    if at > 1000 {
        len + at - 1000
    } else {
        len * at / 1000
    }
}

fn step(
    volume: &mut Volume<RamDisk>,
    model: &mut Model,
    step: &Step,
    filling: u8,
) -> Result<(), TestCaseError> {
    match *step {
        Step::Open(name, mode) => {
            let expected = if model.open.contains_key(&name) {
                // Several readers: tried elsewhere.
                return Ok(());
            } else if !writes(mode) && !model.files.contains_key(&name) {
                Err(FileError::NotFound(path(NAMES[name])))
            } else {
                Ok(())
            };
            let opened = volume.open(&path(NAMES[name]), mode);
            prop_assert_eq!(opened.map(drop), expected);
            if let Ok(file) = opened {
                model.open.insert(name, (file, mode));
                model.files.entry(name).or_default();
            }
        }
        Step::Close(name) => {
            if let Some((file, _)) = model.open.remove(&name) {
                prop_assert_eq!(volume.close(file), Ok(()));
                model.is_synced(name);
            }
        }
        Step::Write(name, at, len) => {
            if let Some(&(file, mode)) = model.open.get(&name) {
                let bytes: Vec<u8> = (0..len)
                    .map(|index| (index as u8).wrapping_mul(3) ^ filling)
                    .collect();
                let at = place(at, model.files[&name].len());
                let written = volume.write_at(file, at as u64, &bytes);
                if !writes(mode) {
                    prop_assert_eq!(written, Err(FileError::WrongMode));
                    return Ok(());
                }
                prop_assert_eq!(written, Ok(()));
                model.written(name);
                let contents = model.files.get_mut(&name).unwrap();
                contents.resize(contents.len().max(at + len), 0);
                contents[at..at + len].copy_from_slice(&bytes);
            }
        }
        Step::Read(name, at, len) => {
            if let Some(&(file, mode)) = model.open.get(&name) {
                let contents = &model.files[&name];
                let at = place(at, contents.len());
                let mut bytes = vec![0; len];
                let read = volume.read_at(file, at as u64, &mut bytes);
                if !mode.contains(FileMode::READ) {
                    prop_assert_eq!(read, Err(FileError::WrongMode));
                } else if at > contents.len() {
                    prop_assert_eq!(read, Err(FileError::TooLong));
                } else {
                    let expected = &contents[at..contents.len().min(at + len)];
                    prop_assert_eq!(read, Ok(expected.len()));
                    prop_assert_eq!(&bytes[..expected.len()], expected);
                }
            }
        }
        Step::Truncate(name, at) => {
            if let Some(&(file, mode)) = model.open.get(&name) {
                let len = place(at, model.files[&name].len());
                let truncated = volume.truncate(file, len as u64);
                if !writes(mode) {
                    prop_assert_eq!(truncated, Err(FileError::WrongMode));
                } else if len > model.files[&name].len() {
                    prop_assert_eq!(truncated, Err(FileError::TooLong));
                } else {
                    prop_assert_eq!(truncated, Ok(()));
                    model.written(name);
                    model.files.get_mut(&name).unwrap().truncate(len);
                }
            }
        }
        Step::Sync(name) => {
            if let Some(&(file, _)) = model.open.get(&name) {
                prop_assert_eq!(volume.sync(file), Ok(()));
                model.is_synced(name);
            }
        }
        Step::Remove(name) => {
            let removed = volume.remove(&path(NAMES[name]));
            if model.open.contains_key(&name) {
                prop_assert_eq!(removed, Err(FileError::Busy(path(NAMES[name]))));
            } else if model.files.remove(&name).is_some() {
                prop_assert_eq!(removed, Ok(()));
                model.synced.remove(&name);
            } else {
                prop_assert_eq!(removed, Err(FileError::NotFound(path(NAMES[name]))));
            }
        }
        Step::Mount => {
            for (name, (file, _)) in core::mem::take(&mut model.open) {
                prop_assert_eq!(volume.close(file), Ok(()));
                model.is_synced(name);
            }
            prop_assert_eq!(volume.mount(), Ok(Mended::default()));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is done, files are as in the plainest of file systems; closed and mounted afresh they still are, and another
    /// implementation of FAT sees the same.
    #[test]
    fn files_are_as_in_the_plainest_file_system(steps in steps()) {
        let disk = formatted();
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
}

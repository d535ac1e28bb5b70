//! The plainest file system, to hold a volume against; and what of it a loss of power may not take.

use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::tests::{BOTH, path};
use super::*;
use crate::files::disk::testing::RamDisk;

/// What is done to the files of a disk.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Open(usize, FileMode),
    Close(usize),
    Write(usize, usize, usize),
    Read(usize, usize, usize),
    Truncate(usize, usize),
    Sync(usize),
    Remove(usize),
    Mount,
}

pub(super) const NAMES: [&str; 5] = ["A.TXT", "B", "LOGS/A.TXT", "LOGS/OLD/C.BIN", "D.D"];

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
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
pub(super) struct Model {
    pub(super) files: BTreeMap<usize, Vec<u8>>,
    open: BTreeMap<usize, (FileHandle, FileMode)>,
    /// Files of which all is on the disk.
    pub(super) synced: BTreeMap<usize, Vec<u8>>,
}

impl Step {
    /// The file that it is about; none for a mount.
    pub(super) fn name(&self) -> Option<usize> {
        match *self {
            Step::Open(name, _)
            | Step::Close(name)
            | Step::Write(name, ..)
            | Step::Read(name, ..)
            | Step::Truncate(name, _)
            | Step::Sync(name)
            | Step::Remove(name) => Some(name),
            Step::Mount => None,
        }
    }
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

pub(super) fn step(
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
            // What was removed or cut off has its clusters freed at the next flush, or by this mount.
            prop_assert_eq!(volume.mount().map(|mended| mended.files), Ok(0));
        }
    }
    Ok(())
}

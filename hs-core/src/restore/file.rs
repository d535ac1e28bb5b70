//! An image from files of checkpoints, when both machines were lost.
//!
//! Each file is read twice: once to find its newest checkpoint that is whole and has all that it needs, once, of the file with
//! the newest, to apply everything up to there as a spare does. What is torn at the end of a file does not count.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::checkpoint::file::{CheckpointFiles, Scan, ScanError, Visit, walk};
use crate::format::{CheckpointId, DecodeError};
use crate::image::{self, Image, ImageConfig, ImageError, Progress};
use crate::platform::{CheckpointMemory, FileError, FileHandle, Files};
use crate::registry::descriptor::{FileMode, FilePath, PathError};
use crate::role::Term;

/// Where to begin from: `hs.restore`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// This file.
    File(FilePath),
    /// The newer of the two files of a base name.
    Files(CheckpointFiles),
}

impl Source {
    /// A file, if its name has a point; else the base name of two, as [`CheckpointFiles::new`] takes it.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let name = text.rsplit('/').next().unwrap_or(text);
        if name.contains('.') {
            FilePath::new(text).map(Self::File)
        } else {
            CheckpointFiles::new(text).map(Self::Files)
        }
    }

    fn paths(&self) -> &[FilePath] {
        match self {
            Source::File(path) => core::slice::from_ref(path),
            Source::Files(files) => files.paths(),
        }
    }
}

/// Why nothing can be restored from a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It cannot be read, or what it holds is not this node's.
    Scan(ScanError),
    /// It begins with no whole checkpoint.
    Nothing(Option<DecodeError>),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Scan(error) => error.fmt(f),
            Refused::Nothing(None) => f.write_str("it holds no full checkpoint"),
            Refused::Nothing(Some(error)) => write!(f, "it holds no whole checkpoint: {error}"),
        }
    }
}

/// Why there is no image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FromFileError {
    /// There is no checkpoint to begin from; of each file, why.
    Nothing(Vec<(FilePath, Refused)>),
    /// The file failed when it was read again.
    File(FilePath, Box<FileError>),
    /// What was found in it could not be applied.
    Image(FilePath, CheckpointId, ImageError),
    /// It changed while it was read.
    Changed(FilePath),
}

impl fmt::Display for FromFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FromFileError::Nothing(refused) => {
                f.write_str("there is no checkpoint to begin from:")?;
                for (index, (path, why)) in refused.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ";" };
                    write!(f, "{comma} {}: {why}", path.as_str())?;
                }
                Ok(())
            }
            FromFileError::File(path, error) => write!(f, "{} cannot be read: {error}", path.as_str()),
            FromFileError::Image(path, id, error) => {
                write!(
                    f,
                    "checkpoint {id} of {} cannot be applied: {error}",
                    path.as_str()
                )
            }
            FromFileError::Changed(path) => write!(f, "{} changed while it was read", path.as_str()),
        }
    }
}

/// An image, and where it came from.
pub struct FromFile {
    /// As a spare's that has applied the checkpoint.
    pub image: Image,
    /// The file.
    pub path: FilePath,
    /// The newest checkpoint in it that is whole, with all that it needs.
    pub id: CheckpointId,
    /// The term of the master that took it.
    pub term: Term,
    /// Whole checkpoints of the file.
    pub checkpoints: u64,
    /// What is wrong with what comes after them, if anything does: it was skipped.
    pub torn: Option<DecodeError>,
    /// The other file, and why it was not taken, where that is not its age.
    pub refused: Option<(FilePath, Refused)>,
}

/// Reads the newest whole checkpoint of `source`, from a volume that is mounted, into `memory`, in whose window nothing is mapped.
///
/// # Errors
/// See [`FromFileError`].
pub fn read(
    files: &dyn Files,
    source: &Source,
    memory: &'static dyn CheckpointMemory,
    config: ImageConfig,
) -> Result<FromFile, FromFileError> {
    let mut best: Option<(FilePath, (Term, CheckpointId), Scan)> = None;
    let mut refused = Vec::new();
    for &path in source.paths() {
        let scan = with_file(files, path, |file| {
            let limits = image::limits(memory.window());
            Scan::of(files, file, limits, &config.build_id, config.application)
        });
        match scan {
            Err(error) => refused.push((path, Refused::Scan(error))),
            Ok(Scan { newest: None, walked }) => refused.push((path, Refused::Nothing(walked.torn))),
            Ok(scan) => {
                if let Some(newest) = scan.newest
                    && best.as_ref().is_none_or(|(_, other, _)| newest > *other)
                {
                    best = Some((path, newest, scan));
                }
            }
        }
    }
    let Some((path, (term, id), scan)) = best else {
        return Err(FromFileError::Nothing(refused));
    };
    let mut image = Image::new(memory, config);
    with_file(files, path, |file| apply(files, file, memory, &mut image)).map_err(|error| match error {
        ApplyError::File(error) => FromFileError::File(path, Box::new(error)),
        ApplyError::Image(id, error) => FromFileError::Image(path, id, error),
    })?;
    if image.newest() != Some(id) {
        return Err(FromFileError::Changed(path));
    }
    Ok(FromFile {
        image,
        path,
        id,
        term,
        checkpoints: scan.walked.checkpoints,
        torn: scan.walked.torn,
        refused: refused.pop(),
    })
}

fn with_file<T, E: From<FileError>>(
    files: &dyn Files,
    path: FilePath,
    with: impl FnOnce(FileHandle) -> Result<T, E>,
) -> Result<T, E> {
    let file = files.open(&path, FileMode::READ)?;
    let result = with(file);
    // It was only read.
    let _ = files.close(file);
    result
}

enum ApplyError {
    File(FileError),
    Image(CheckpointId, ImageError),
}

impl From<FileError> for ApplyError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

/// Applies all that can be, in order.
fn apply(
    files: &dyn Files,
    file: FileHandle,
    memory: &'static dyn CheckpointMemory,
    image: &mut Image,
) -> Result<(), ApplyError> {
    let mut current = None;
    walk(files, file, image::limits(memory.window()), |visit| {
        match visit {
            Visit::Begin(header) => {
                current = Some(header.id);
                let begun = image.begin(header.id);
                begun.map_err(|error| ApplyError::Image(header.id, error))
            }
            Visit::Bytes(bytes) => match current {
                Some(id) => {
                    let fed = image.feed(id, bytes);
                    if let Ok(Progress::Complete { .. }) = fed {
                        // One that lacks what it needs would wait for ever.
                        image.abandon(id);
                    }
                    fed.map(drop).map_err(|error| ApplyError::Image(id, error))
                }
                None => Ok(()),
            },
            Visit::End => Ok(()),
        }
    })?;
    // What is torn at the end.
    image.abandon_all();
    Ok(())
}

//! Reading a file of checkpoints.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use crate::format::{CheckpointId, DecodeError, Decoder, Header, Item, Kind, Limits};
use crate::platform::{FileError, FileHandle, Files};
use crate::role::Term;

/// How much is read at once, in bytes.
const CHUNK_LEN: usize = 64 << 10;

/// What a [`walk`] comes across.
pub(crate) enum Visit<'a> {
    /// The header of the next checkpoint, which is not verified yet.
    Begin(&'a Header),
    /// All its bytes, in order, from the header's first on.
    Bytes(&'a [u8]),
    /// It is whole and undamaged.
    End,
}

/// Where a file's checkpoints end, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Walked {
    /// Whole checkpoints.
    pub(crate) checkpoints: u64,
    /// Their length in bytes.
    pub(crate) len_bytes: u64,
    /// What is wrong with what follows them, if anything does.
    pub(crate) torn: Option<DecodeError>,
}

/// Hands all checkpoints of the file to `visit`, until one is not whole.
///
/// # Errors
/// The file cannot be read, or `visit` refuses.
pub(crate) fn walk<E: From<FileError>>(
    files: &dyn Files,
    file: FileHandle,
    limits: Limits,
    mut visit: impl FnMut(Visit<'_>) -> Result<(), E>,
) -> Result<Walked, E> {
    let mut walked = Walked::default();
    let mut chunk = vec![0; CHUNK_LEN];
    let mut offset = 0;
    let mut decoder = Decoder::new(limits);
    // What has come before the header was whole.
    let mut early = Vec::new();
    let mut begun = false;
    loop {
        let len = files.read_at(file, offset, &mut chunk)?;
        if len == 0 {
            if offset > walked.len_bytes {
                walked.torn = Some(DecodeError::Truncated);
            }
            return Ok(walked);
        }
        let mut rest = &chunk[..len];
        while !rest.is_empty() {
            let before = rest;
            let mut ended = false;
            let mut header = None;
            while !ended {
                match decoder.next(&mut rest) {
                    Ok(Some(Item::Header(found))) => header = Some(found),
                    Ok(Some(Item::End { .. })) => ended = true,
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => {
                        walked.torn = Some(error);
                        return Ok(walked);
                    }
                }
            }
            let used = &before[..before.len() - rest.len()];
            offset += used.len() as u64;
            if let Some(header) = &header {
                begun = true;
                visit(Visit::Begin(header))?;
                visit(Visit::Bytes(&early))?;
                early.clear();
            }
            match begun {
                true => visit(Visit::Bytes(used))?,
                false => early.extend_from_slice(used),
            }
            if ended {
                visit(Visit::End)?;
                walked.checkpoints += 1;
                walked.len_bytes = offset;
                decoder = Decoder::new(limits);
                begun = false;
            }
        }
    }
}

/// What a file offers to start from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Scan {
    /// The newest checkpoint that is there with all that it needs.
    pub(crate) newest: Option<(Term, CheckpointId)>,
    /// How far the file is good.
    pub(crate) walked: Walked,
}

/// Why a file is not read to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScanError {
    /// It cannot be read.
    File(FileError),
    /// Another build took its checkpoints.
    WrongBuild {
        /// Which.
        found: [u8; 20],
    },
    /// They are of another application.
    WrongApplication {
        /// Which.
        found: u64,
    },
}

impl From<FileError> for ScanError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScanError::File(error) => error.fmt(f),
            ScanError::WrongBuild { found } => {
                f.write_str("its checkpoints were taken by another build, ")?;
                found.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str(": start that one")
            }
            ScanError::WrongApplication { found } => {
                write!(f, "its checkpoints are of another application, {found:#x}")
            }
        }
    }
}

impl Scan {
    /// Reads all of the file.
    ///
    /// # Errors
    /// See [`ScanError`].
    pub(crate) fn of(
        files: &dyn Files,
        file: FileHandle,
        limits: Limits,
        build_id: &[u8; 20],
        application: u64,
    ) -> Result<Self, ScanError> {
        let mut newest = None;
        let mut current = None;
        let walked = walk(files, file, limits, |visit| {
            match visit {
                Visit::Begin(header) => {
                    if header.build_id != *build_id {
                        let found = header.build_id;
                        return Err(ScanError::WrongBuild { found });
                    }
                    if header.application != application {
                        let found = header.application;
                        return Err(ScanError::WrongApplication { found });
                    }
                    current = Some((header.term, header.id, header.kind));
                }
                Visit::Bytes(_) => {}
                Visit::End => {
                    if let Some((term, id, kind)) = current
                        && is_next(newest, term, id, kind)
                    {
                        newest = Some((term, id));
                    }
                }
            }
            Ok(())
        })?;
        Ok(Self { newest, walked })
    }
}

/// Whether the checkpoint can be applied to `newest`, and is newer.
pub(crate) fn is_next(
    newest: Option<(Term, CheckpointId)>,
    term: Term,
    id: CheckpointId,
    kind: Kind,
) -> bool {
    match (kind, newest) {
        (_, Some(newest)) if newest >= (term, id) => false,
        (Kind::Full, _) => true,
        (Kind::Incremental { .. }, None) => false,
        (Kind::Incremental { base }, Some((held, newest))) => {
            held == term && newest.generation == id.generation && newest.increment >= base
        }
    }
}

//! Takeover: turns the newest image into a running library. The image is a spare's, or [read](read()) from a file.

mod file;

use alloc::vec::Vec;
use core::fmt;

pub use self::file::{FromFile, FromFileError, Refused, Source, read};

use crate::format::CheckpointId;
use crate::image::Image;
use crate::library::{self, AdoptError};
use crate::platform::{Cptctl, CptctlError};
use crate::registry::descriptor::Descriptor;
use crate::registry::signal::SignalAction;
use crate::registry::thread::Worker;
use crate::registry::{Records, Registered};
use crate::role::Term;

/// Why an image cannot be taken up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RestoreError {
    /// No checkpoint was applied yet.
    Nothing,
    /// Its areas could not be installed.
    Install(CptctlError),
    /// What it holds is not a library's state.
    Adopt(AdoptError),
    /// The checkpoint's list of workers is not the one in its memory.
    WorkersDiffer,
    /// The checkpoint's list of descriptors is not the one in its memory.
    DescriptorsDiffer,
    /// The checkpoint's list of signals is not the one in its memory.
    SignalsDiffer,
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreError::Nothing => f.write_str("no checkpoint was applied yet"),
            RestoreError::Install(error) => write!(f, "the image cannot be installed: {error}"),
            RestoreError::Adopt(error) => write!(f, "the image cannot be taken up: {error}"),
            RestoreError::WorkersDiffer => {
                f.write_str("the checkpoint's list of workers is not the one in its memory")
            }
            RestoreError::DescriptorsDiffer => {
                f.write_str("the checkpoint's list of descriptors is not the one in its memory")
            }
            RestoreError::SignalsDiffer => {
                f.write_str("the checkpoint's list of signals is not the one in its memory")
            }
        }
    }
}

/// What was restored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    /// The checkpoint.
    pub id: CheckpointId,
    /// The term of the master that took it; a takeover begins the next.
    pub term: Term,
    /// The workers to start, in the order of their registration.
    pub workers: Vec<Worker>,
    /// The descriptors to open again under their numbers, in the order of their registration. Here nothing has opened them.
    pub descriptors: Vec<Descriptor>,
    /// The registered signals, in the order of their registration. They are treated as they were, but wait until
    /// [`signal::resume`](crate::signal::resume).
    pub signals: Vec<SignalAction>,
}

/// Ends the image and takes up what the newest applied checkpoint left in the window: installs its areas, so that
/// checkpoints of it can be taken, and adopts the library's state. From here on classes, roots and registries are those of
/// the old master. What was not applied is forgotten.
///
/// # Errors
/// See [`RestoreError`].
pub fn restore(image: Image) -> Result<Restored, RestoreError> {
    let (memory, newest, areas, listed) = image.into_parts();
    let newest = newest.ok_or(RestoreError::Nothing)?;
    memory
        .cptctl(Cptctl::Install(&areas))
        .map_err(RestoreError::Install)?;
    library::adopt(memory).map_err(RestoreError::Adopt)?;
    let mut records = Records::default();
    if let Some(library) = library::lock().as_ref() {
        records.collect(library);
    }
    let mut found = Registered::default();
    found.read(&records);
    if found.workers != listed.workers {
        return Err(RestoreError::WorkersDiffer);
    }
    if found.descriptors != listed.descriptors {
        return Err(RestoreError::DescriptorsDiffer);
    }
    if found.signals != listed.signals {
        return Err(RestoreError::SignalsDiffer);
    }
    Ok(Restored {
        id: newest.id,
        term: newest.term,
        workers: found.workers,
        descriptors: found.descriptors,
        signals: found.signals,
    })
}

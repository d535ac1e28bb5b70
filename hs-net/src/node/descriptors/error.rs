//! Why a descriptor does not do what was asked.

use core::fmt;

use hs_core::DESCRIPTORS_MAX;
use hs_core::checkpoint::CheckpointError;
use hs_core::class::ClassError;
use hs_core::platform::FileError;
use hs_core::registry::descriptor::{self, PathError};

use super::pending::QUEUE_LEN;
use crate::service::{ListenError, UdpError};

/// Why something could not be opened again after a takeover.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReopenError {
    /// The file.
    File(FileError),
    /// The UDP socket.
    Udp(UdpError),
    /// The listener.
    Listen(ListenError),
}

impl fmt::Display for ReopenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReopenError::File(error) => error.fmt(f),
            ReopenError::Udp(error) => error.fmt(f),
            ReopenError::Listen(error) => error.fmt(f),
        }
    }
}

/// Why a descriptor does not do what was asked. Nothing was changed where nothing else is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DescriptorError {
    /// As many descriptors as possible are open.
    TooMany,
    /// The path is none.
    Path(PathError),
    /// The file could not be opened or removed.
    Open(FileError),
    /// The UDP socket could not be opened.
    Socket(UdpError),
    /// The port could not be listened on.
    Listen(ListenError),
    /// Nothing is open under this number.
    NotOpen(u32),
    /// Under this number something else is open than was asked for.
    WrongKind {
        /// The number.
        number: u32,
        /// What was asked for.
        wanted: &'static str,
    },
    /// It could not be opened again after a takeover.
    Lost(u32, ReopenError),
    /// The offset would lie before the start of the file, or beyond every file's end.
    NoSuchOffset {
        /// The number.
        number: u32,
        /// How far from where it was to be.
        by: i64,
    },
    /// The file of this number could not be read or written, now or when an earlier change of it was due. Part of it may be
    /// written.
    File(u32, FileError),
    /// The write queue could not be made.
    NoQueue(ClassError),
    /// Its class has no memory for the write queue.
    NoMemory,
    /// More is written at once than can wait for a checkpoint.
    TooMuch,
    /// As much waits as can wait, and no checkpoint has covered it.
    NoRoom,
    /// As much waits as can wait, and the calling thread keeps a checkpoint away.
    NoRoomInside,
    /// No checkpoint has covered what was written to the file of this number: it is not synced, and still waits.
    NotCommitted(u32, CheckpointError),
    /// The UDP socket of this number refused.
    Udp(u32, UdpError),
    /// It could not be registered or deregistered.
    Registry(descriptor::DescriptorError),
}

impl fmt::Display for DescriptorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DescriptorError::TooMany => {
                write!(f, "all {DESCRIPTORS_MAX} descriptors are open: close one")
            }
            DescriptorError::Path(error) => error.fmt(f),
            DescriptorError::Open(error) => error.fmt(f),
            DescriptorError::Socket(error) => error.fmt(f),
            DescriptorError::Listen(error) => error.fmt(f),
            DescriptorError::NotOpen(number) => write!(f, "descriptor {number} is not open"),
            DescriptorError::WrongKind { number, wanted } => {
                write!(f, "descriptor {number} is not {wanted}")
            }
            DescriptorError::Lost(number, error) => write!(
                f,
                "descriptor {number} could not be opened again after the takeover ({error}): close it"
            ),
            DescriptorError::NoSuchOffset { number, by } => {
                write!(f, "descriptor {number} has no offset {by} bytes from there")
            }
            DescriptorError::File(number, error) => write!(f, "descriptor {number}: {error}"),
            DescriptorError::NoQueue(error) => write!(f, "no file can be written: {error}"),
            DescriptorError::NoMemory => {
                f.write_str("no file can be written: there is no memory for the write queue")
            }
            DescriptorError::TooMuch => write!(
                f,
                "more is written at once than can wait for a checkpoint ({QUEUE_LEN} bytes): write it in parts, with checkpoints in between, or open the file with FileMode::ASYNC"
            ),
            DescriptorError::NoRoom => write!(
                f,
                "{QUEUE_LEN} bytes of changes of files wait for a checkpoint: take one and try again"
            ),
            DescriptorError::NoRoomInside => write!(
                f,
                "{QUEUE_LEN} bytes of changes of files wait for a checkpoint, which this thread keeps away: let go of the checkpoint gate and try again"
            ),
            DescriptorError::NotCommitted(number, error) => {
                write!(f, "descriptor {number} is not synced: {error}")
            }
            DescriptorError::Udp(number, error) => write!(f, "descriptor {number}: {error}"),
            DescriptorError::Registry(error) => error.fmt(f),
        }
    }
}

impl From<PathError> for DescriptorError {
    fn from(error: PathError) -> Self {
        Self::Path(error)
    }
}

impl From<descriptor::DescriptorError> for DescriptorError {
    fn from(error: descriptor::DescriptorError) -> Self {
        Self::Registry(error)
    }
}

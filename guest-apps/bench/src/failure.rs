//! Why something could not be measured.

use core::fmt;

use hs_core::StartError;
use hs_core::checkpoint::CheckpointError;
use hs_core::class::ClassError;
use hs_core::platform::{CptctlError, CptforkError, MapError, SpawnError};
use hs_core::registry::descriptor::DescriptorError;
use hs_core::registry::signal::SignalError;
use hs_core::registry::thread::ThreadError;
use hs_net::node::descriptors as node;
use kernel::cpt::ModeError;

/// Why something could not be measured. Its figures are missing; what is told already stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// The guest has less memory than the measurement takes.
    TooLittleMemory {
        /// What it takes, copies counted in.
        needed_mib: usize,
        /// What is free.
        free_mib: usize,
    },
    /// Memory could not be mapped.
    Map(MapError),
    /// Memory could not be made a checkpoint range.
    Install(CptctlError),
    /// The way of freezing could not be changed.
    Mode(ModeError),
    /// `cptfork` refused.
    Cptfork(CptforkError),
    /// The kernel cancelled so many checkpoints: what was measured is something else.
    Cancelled(u64),
    /// A thread could not be started.
    Spawn(SpawnError),
    /// A checkpoint's list of modified pages is not that of the pages that were written.
    OtherPages {
        /// Pages written.
        written: usize,
        /// Pages on the list.
        listed: usize,
    },
    /// A checkpoint has not as many bytes as the pages that were written are worth.
    OtherBytes {
        /// Pages written.
        written: usize,
        /// Bytes of the checkpoint, less those of one with nothing modified.
        bytes: u64,
    },
    /// A child did not come to its end.
    ChildStuck,
    /// The library did not start.
    Start(StartError),
    /// A class could not be made.
    Class(ClassError),
    /// A class has less room than it was made for.
    ClassFull,
    /// A worker could not be registered.
    Worker(ThreadError),
    /// A descriptor could not be registered.
    Descriptor(DescriptorError),
    /// A descriptor could not be opened or registered with the node.
    Open(node::DescriptorError),
    /// A signal could not be registered.
    Signal(SignalError),
    /// The library refused a checkpoint, or lost it.
    Checkpoint(CheckpointError),
    /// No spare came.
    NoSpare,
    /// The other node does not answer on the bare link.
    NoPeer,
    /// So many checkpoints were lost.
    Lost(u64),
}

impl Failure {
    /// Whether it is a fault of the checkpoints themselves, and not one of where they are measured: one was cancelled or lost, or
    /// held something else than it should.
    pub(crate) const fn is_fault(&self) -> bool {
        matches!(
            self,
            Failure::Cancelled(_)
                | Failure::Lost(_)
                | Failure::Checkpoint(CheckpointError::Lost(..))
                | Failure::OtherPages { .. }
                | Failure::OtherBytes { .. }
                | Failure::ChildStuck
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::TooLittleMemory { needed_mib, free_mib } => write!(
                f,
                "it takes {needed_mib} MiB of free memory and there are {free_mib}: give the guest more (-m)"
            ),
            Failure::Map(error) => error.fmt(f),
            Failure::Install(error) => error.fmt(f),
            Failure::Mode(error) => error.fmt(f),
            Failure::Cptfork(error) => error.fmt(f),
            Failure::Cancelled(count) => {
                write!(
                    f,
                    "memory ran dry and {count} checkpoints were cancelled: give the guest more (-m)"
                )
            }
            Failure::Spawn(error) => error.fmt(f),
            Failure::Start(error) => error.fmt(f),
            Failure::Class(error) => error.fmt(f),
            Failure::ClassFull => f.write_str("a class has less room than it was made for"),
            Failure::Worker(error) => error.fmt(f),
            Failure::Descriptor(error) => error.fmt(f),
            Failure::Open(error) => error.fmt(f),
            Failure::Signal(error) => error.fmt(f),
            Failure::Checkpoint(error) => error.fmt(f),
            Failure::NoSpare => f.write_str("no spare has joined within 60 s: is it told the same words?"),
            Failure::NoPeer => {
                f.write_str("the other node does not answer on the cluster link: is it told the same words?")
            }
            Failure::Lost(count) => write!(f, "{count} checkpoints were lost: the log says why"),
            Failure::OtherPages { written, listed } => write!(
                f,
                "{written} pages were written, and {listed} (or others) are on the checkpoint's list of modified pages"
            ),
            Failure::OtherBytes { written, bytes } => write!(
                f,
                "{written} pages were written, and a checkpoint has {bytes} bytes beyond those of an empty one"
            ),
            Failure::ChildStuck => f.write_str("a checkpoint child did not come to its end within 60 s"),
        }
    }
}

impl From<MapError> for Failure {
    fn from(error: MapError) -> Self {
        Failure::Map(error)
    }
}

impl From<ClassError> for Failure {
    fn from(error: ClassError) -> Self {
        Failure::Class(error)
    }
}

impl From<CptctlError> for Failure {
    fn from(error: CptctlError) -> Self {
        Failure::Install(error)
    }
}

impl From<ModeError> for Failure {
    fn from(error: ModeError) -> Self {
        Failure::Mode(error)
    }
}

impl From<CptforkError> for Failure {
    fn from(error: CptforkError) -> Self {
        Failure::Cptfork(error)
    }
}

impl From<SpawnError> for Failure {
    fn from(error: SpawnError) -> Self {
        Failure::Spawn(error)
    }
}

impl From<ThreadError> for Failure {
    fn from(error: ThreadError) -> Self {
        Failure::Worker(error)
    }
}

impl From<DescriptorError> for Failure {
    fn from(error: DescriptorError) -> Self {
        Failure::Descriptor(error)
    }
}

impl From<node::DescriptorError> for Failure {
    fn from(error: node::DescriptorError) -> Self {
        Failure::Open(error)
    }
}

impl From<SignalError> for Failure {
    fn from(error: SignalError) -> Self {
        Failure::Signal(error)
    }
}

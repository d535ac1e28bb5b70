//! What can go wrong with a class.

use core::alloc::Layout;
use core::fmt;

use super::ClassId;
use crate::library;
use crate::platform::{CptctlError, MapError};

/// Why a class could not be made, grow, give out a block, be trimmed or destroyed. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClassError {
    /// The library was not started.
    NotStarted,
    /// There is a class of this id; find it instead.
    Exists(ClassId),
    /// The table of classes is full.
    TooManyClasses,
    /// The table of areas is full: give the classes more memory at their creation.
    TooManyAreas,
    /// No addresses are left in the checkpoint window.
    WindowFull,
    /// Memory for it could not be mapped.
    Map(MapError),
    /// Memory of it could not be installed or purged.
    Install(CptctlError),
    /// No class gives out such a block: it is too long, or aligned beyond a page.
    TooLarge(Layout),
    /// The class of this handle was destroyed.
    Destroyed,
    /// Blocks of it are in use: free them first.
    InUse {
        /// The class.
        id: ClassId,
        /// How many.
        blocks: usize,
    },
    /// Memory to keep count of its pages could not be had of the global allocator.
    OutOfHeap,
}

impl fmt::Display for ClassError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClassError::NotStarted => library::NotStarted.fmt(f),
            ClassError::Exists(id) => write!(f, "{id} exists already: find it instead"),
            ClassError::TooManyClasses => write!(f, "the table of {} classes is full", library::CLASSES_MAX),
            ClassError::TooManyAreas => {
                write!(
                    f,
                    "the table of {} areas is full: create the classes with more memory",
                    library::AREAS_MAX
                )
            }
            ClassError::WindowFull => f.write_str("no addresses are left in the checkpoint window"),
            ClassError::Map(error) => error.fmt(f),
            ClassError::Install(error) => error.fmt(f),
            ClassError::TooLarge(layout) => write!(
                f,
                "no class gives out {} bytes aligned to {}: at most 512 GiB, aligned to a page",
                layout.size(),
                layout.align()
            ),
            ClassError::Destroyed => f.write_str("the class was destroyed: its handles are void"),
            ClassError::InUse { id, blocks } => {
                write!(f, "{blocks} blocks of {id} are in use: free them first")
            }
            ClassError::OutOfHeap => f.write_str("no memory is left outside the classes to count pages in"),
        }
    }
}

//! Allocation classes: checkpointable memory for the application, grouped by the application.
//!
//! What changes together should lie together, so that an incremental checkpoint has few pages: whoever allocates
//! names a class, and a class's blocks lie in areas of its own.
//!
//! ```text
//! first area                                            further areas, each as long as all before together
//! ├ header: magic, id, areas, length; buckets ┤ blocks …  ├ blocks …
//! ```
//!
//! All bookkeeping lies in the class's own memory and is restored with it; pointers in it are addresses in the window, the
//! same on every machine. A [`Class`] itself is an id and an address, and may lie in checkpointable memory too.
//!
//! Deliberately absent: giving a class's memory back.

mod buckets;
#[cfg(test)]
mod tests;

use core::alloc::Layout;
use core::fmt;
use core::mem::size_of;

use self::buckets::{Bucket, Buckets};
use crate::library::{self, Library};
use crate::platform::{CptctlError, MapError, PAGE_LEN};

const MAGIC: u64 = u64::from_le_bytes(*b"HsClass\0");

/// Names a class; the application's choice, so that the number can be a constant in its code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClassId(pub u32);

impl fmt::Display for ClassId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "class {}", self.0)
    }
}

/// Why a class could not be made, or could not grow. Nothing was changed.
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
    /// Memory for it could not be installed.
    Install(CptctlError),
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
        }
    }
}

/// The start of a class's first area.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct ClassHeader {
    magic: u64,
    id: u32,
    areas: u32,
    total_bytes: usize,
    buckets: Buckets,
}

impl ClassHeader {
    pub(crate) fn is_of(&self, id: ClassId) -> bool {
        self.magic == MAGIC && self.id == id.0
    }
}

/// What a class holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Statistics {
    /// Its memory, with its own bookkeeping.
    pub total_bytes: usize,
    /// Areas that it has grown to.
    pub areas: usize,
    /// Blocks in use.
    pub blocks: usize,
    /// Their length, rounded up as they are.
    pub block_bytes: usize,
    /// Memory that was never used.
    pub fresh_bytes: usize,
}

/// An allocation class: a handle, as cheap as a pointer, and an
/// [`Allocator`](allocator_api2::alloc::Allocator) for `Vec`, `Box` and `hashbrown`'s maps.
///
/// A block is as long as the next power of two, and at least 16 bytes; alignment goes up to a page. Every operation
/// takes the one allocation lock.
///
/// Handles are of the library state that they came from: [`start`](crate::start) makes them void.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class {
    header: usize,
}

impl Class {
    /// Makes a class with at least `initial_bytes` of memory. It doubles whenever that is used up, so ask for about as
    /// much as it will ever need. The thesis's `hs_malloc_create`.
    ///
    /// # Errors
    /// See [`ClassError`].
    pub fn create(id: ClassId, initial_bytes: usize) -> Result<Self, ClassError> {
        library::with(|library| Self::create_in(library, id, initial_bytes))
            .unwrap_or(Err(ClassError::NotStarted))
    }

    fn create_in(library: &mut Library, id: ClassId, initial_bytes: usize) -> Result<Self, ClassError> {
        let classes = library.tables().classes();
        if classes.iter().any(|class| class.id == u64::from(id.0)) {
            return Err(ClassError::Exists(id));
        }
        if classes.len() == library::CLASSES_MAX {
            return Err(ClassError::TooManyClasses);
        }
        let pages = initial_bytes.max(size_of::<ClassHeader>()).div_ceil(PAGE_LEN);
        let area = library.add_area(id, pages)?;
        let (header, mut words) = library.window_mut().table_mut::<ClassHeader>(area.start());
        // The rest is zero, as mapped: empty buckets.
        header.magic = MAGIC;
        header.id = id.0;
        header.areas = 1;
        header.total_bytes = area.len_bytes();
        let first = (area.start() + size_of::<ClassHeader>()).next_multiple_of(16);
        header.buckets.add_fresh(&mut words, area, first);
        let entered = library.add_class(id, area.start());
        debug_assert!(entered, "room was looked for above");
        Ok(Self { header: area.start() })
    }

    /// The class of this id: after a restore, say.
    pub fn find(id: ClassId) -> Option<Self> {
        library::with(|library| {
            let mut classes = library.tables().classes().iter();
            classes
                .find(|class| class.id == u64::from(id.0))
                .map(|class| Self { header: class.header })
        })
        .unwrap_or(None)
    }

    /// Its id.
    pub fn id(&self) -> ClassId {
        self.with(|library| ClassId(library.window().table::<ClassHeader>(self.header).id))
    }

    /// What it holds.
    pub fn statistics(&self) -> Statistics {
        self.with(|library| {
            let header = library.window().table::<ClassHeader>(self.header);
            let (blocks, block_bytes) = header.buckets.in_use();
            Statistics {
                total_bytes: header.total_bytes,
                areas: header.areas as usize,
                blocks,
                block_bytes,
                fresh_bytes: header.buckets.fresh_bytes(),
            }
        })
    }

    #[inline]
    fn with<R>(&self, with: impl FnOnce(&mut Library) -> R) -> R {
        let mut library = library::lock();
        with(
            library
                .as_mut()
                .expect("there is a class, so the library was started"),
        )
    }

    /// A block for `layout`, which is not empty, and its length; `None` if memory has run out.
    #[inline]
    pub(crate) fn malloc(self, layout: Layout) -> Option<(usize, usize)> {
        let bucket = Bucket::of(layout)?;
        self.with(|library| {
            let (header, mut words) = library.window_mut().table_mut::<ClassHeader>(self.header);
            debug_assert!(header.magic == MAGIC, "a class handle outlived its library state");
            header
                .buckets
                .malloc(&mut words, bucket)
                .or_else(|| self.malloc_grown(library, bucket))
        })
        .map(|block| (block, bucket.block_bytes()))
    }

    #[cold]
    fn malloc_grown(self, library: &mut Library, bucket: Bucket) -> Option<usize> {
        self.grow(library, bucket).ok()?;
        let (header, mut words) = library.window_mut().table_mut::<ClassHeader>(self.header);
        header.buckets.malloc(&mut words, bucket)
    }

    /// Takes a block back.
    #[inline]
    pub(crate) fn free(self, block: usize, layout: Layout) {
        let bucket = Bucket::of(layout).expect("a block was given out for this layout");
        self.with(|library| {
            let (header, mut words) = library.window_mut().table_mut::<ClassHeader>(self.header);
            header.buckets.free(&mut words, block, bucket);
        });
    }

    /// Makes a block of layout `old` into one of layout `new` where it is, if that can be done. Returns its length.
    pub(crate) fn resize(self, block: usize, old: Layout, new: Layout) -> Option<usize> {
        if old.size() == 0 || new.size() == 0 {
            return None;
        }
        let (old, new) = (Bucket::of(old)?, Bucket::of(new)?);
        if new > old {
            return None;
        }
        if new < old {
            self.with(|library| {
                let (header, mut words) = library.window_mut().table_mut::<ClassHeader>(self.header);
                header.buckets.shrink(&mut words, block, old, new);
            });
        }
        Some(new.block_bytes())
    }

    /// Doubles the class's memory, as often as a block of `bucket` needs; or, where less than that is left, by as much as
    /// there is.
    fn grow(self, library: &mut Library, bucket: Bucket) -> Result<(), ClassError> {
        let header = library.window().table::<ClassHeader>(self.header);
        let id = ClassId(header.id);
        // A new area is page-aligned, as is every block of a page or more: no more is needed than the block itself.
        let least = bucket.block_bytes().div_ceil(PAGE_LEN);
        let total = header.total_bytes / PAGE_LEN;
        let mut pages = total;
        while pages < least {
            pages = pages
                .checked_mul(2)
                .and_then(|twice| twice.checked_add(total))
                .ok_or(ClassError::WindowFull)?;
        }
        let area = loop {
            match library.add_area(id, pages) {
                Err(ClassError::Map(MapError::OutOfFrames) | ClassError::WindowFull) if pages > least => {
                    pages = (pages / 2).max(least);
                }
                other => break other?,
            }
        };
        let (header, mut words) = library.window_mut().table_mut::<ClassHeader>(self.header);
        header.areas += 1;
        header.total_bytes += area.len_bytes();
        header.buckets.add_fresh(&mut words, area, area.start());
        Ok(())
    }
}

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
//! same on every machine. A [`Class`] itself is a place in the library's table and a serial number, and may lie in checkpointable
//! memory too.
//!
//! Memory is given back when the application says so: [`Class::trim`] returns what nothing lives in, [`Class::destroy`] all of
//! it, which the thesis could not. Frames are free at once, but for what a checkpoint in flight still looks at; the spare's are
//! free when it applies the next checkpoint, whose areas are fewer. Addresses are used again.
//!
//! [`with_class`] sends the global allocator's work into a class; [`check_blocks`] finds wrong frees.
//!
//! Deliberately absent: giving memory back by itself. A class that shrank most often grows again, and to find what is
//! free takes time.

mod buckets;
mod error;
pub(crate) mod ledger;
pub(crate) mod scope;
#[cfg(test)]
mod tests;
mod trim;

use alloc::vec::Vec;
use core::alloc::Layout;
use core::fmt;
use core::mem::size_of;
use core::ptr::{self, NonNull};

use self::buckets::{Bucket, Buckets};
pub use self::error::ClassError;
pub use self::ledger::check_blocks;
use self::ledger::{Fault, Report};
pub use self::scope::{outside_classes, with_class};
use self::trim::Plan;
use crate::library::{self, CLASSES_MAX, Library};
use crate::platform::{MapError, PAGE_LEN, PageRange};

const MAGIC: u64 = u64::from_le_bytes(*b"HsClass\0");

/// Names a class; the application's choice, so that the number can be a constant in its code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClassId(pub u32);

impl fmt::Display for ClassId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "class {}", self.0)
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
/// Handles are of the library state that they came from: [`start`](crate::start) makes them void. Those of a class that was
/// destroyed are known by their serial number: whatever they are asked for is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class {
    /// Its place in the library's table of classes.
    place: u32,
    serial: u32,
}

/// Bits of a scope's word that are the place.
const PLACE_BITS: u32 = 6;
const _: () = assert!(CLASSES_MAX <= 1 << PLACE_BITS);

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
        let tables = library.tables();
        if tables.classes().any(|(_, class)| class.id == id.0) {
            return Err(ClassError::Exists(id));
        }
        let place = tables.empty_class().ok_or(ClassError::TooManyClasses)?;
        let pages = initial_bytes.max(size_of::<ClassHeader>()).div_ceil(PAGE_LEN);
        let area = library.add_area(place, pages)?;
        let (header, mut words) = library.window_mut().table_mut::<ClassHeader>(area.start());
        // The rest is zero, as mapped: empty buckets.
        header.magic = MAGIC;
        header.id = id.0;
        header.areas = 1;
        header.total_bytes = area.len_bytes();
        let first = (area.start() + size_of::<ClassHeader>()).next_multiple_of(16);
        header.buckets.add_fresh(&mut words, area, first);
        let Some(serial) = library.tables_mut().enter_class(place, id, area.start()) else {
            library.replace_areas(place, &[area], &[])?;
            library.unmap(area);
            return Err(ClassError::TooManyClasses);
        };
        Ok(Self {
            place: place as u32,
            serial,
        })
    }

    /// The class of this id: after a restore, say.
    pub fn find(id: ClassId) -> Option<Self> {
        library::with(|library| {
            let mut classes = library.tables().classes();
            classes
                .find(|(_, class)| class.id == id.0)
                .map(|(place, class)| Self {
                    place: place as u32,
                    serial: class.serial,
                })
        })
        .unwrap_or(None)
    }

    /// The class whose area `address` lies in.
    pub(crate) fn owning(library: &Library, address: usize) -> Option<Self> {
        let (_, place) = library.tables().area_at(address)?;
        let serial = library.tables().class(place)?.serial;
        Some(Self {
            place: place as u32,
            serial,
        })
    }

    /// The handle as a word that is not 0.
    pub(crate) fn scope_word(self) -> usize {
        (self.serial as usize) << PLACE_BITS | self.place as usize
    }

    pub(crate) fn of_scope_word(word: usize) -> Self {
        Self {
            place: (word & ((1 << PLACE_BITS) - 1)) as u32,
            serial: (word >> PLACE_BITS) as u32,
        }
    }

    /// Its id.
    ///
    /// # Panics
    /// If it was destroyed.
    pub fn id(&self) -> ClassId {
        self.look(|header| ClassId(header.id))
    }

    /// What it holds.
    ///
    /// # Panics
    /// If it was destroyed.
    pub fn statistics(&self) -> Statistics {
        self.look(|header| {
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

    fn look<R>(&self, look: impl FnOnce(&ClassHeader) -> R) -> R {
        library::with(|library| {
            let header = self.header(library)?;
            Ok::<R, ClassError>(look(library.window().table(header)))
        })
        .unwrap_or(Err(ClassError::NotStarted))
        .unwrap_or_else(|error| panic!("a class was asked what it holds: {error}"))
    }

    /// Where its header is, if it is there.
    #[inline]
    fn address(self, library: &Library) -> Option<usize> {
        let class = library.tables().class(self.place as usize)?;
        (class.serial == self.serial).then_some(class.header)
    }

    fn header(self, library: &Library) -> Result<usize, ClassError> {
        self.address(library).ok_or(ClassError::Destroyed)
    }

    /// A block for `layout`, and how long it is in truth, as the class's [`Allocator`](allocator_api2::alloc::Allocator) gives
    /// it out; but this says why there is none. The thesis's `hs_malloc`.
    ///
    /// # Errors
    /// See [`ClassError`].
    pub fn allocate_block(&self, layout: Layout) -> Result<NonNull<[u8]>, ClassError> {
        if layout.size() == 0 {
            let dangling = NonNull::new(ptr::without_provenance_mut(layout.align()));
            let dangling = dangling.expect("an alignment is not 0");
            return Ok(NonNull::slice_from_raw_parts(dangling, 0));
        }
        let (address, len_bytes) = self.malloc(layout)?;
        let block = NonNull::new(ptr::with_exposed_provenance_mut(address));
        let block = block.expect("the window does not begin at 0");
        Ok(NonNull::slice_from_raw_parts(block, len_bytes))
    }

    /// A block for `layout`, which is not empty, and its length.
    #[inline]
    pub(crate) fn malloc(self, layout: Layout) -> Result<(usize, usize), ClassError> {
        if let Some(bucket) = Bucket::of(layout)
            && let Some(block) = self.malloc_ready(bucket)
        {
            return Ok((block, bucket.block_bytes()));
        }
        self.malloc_slowly(layout)
    }

    /// A block that the class has, if nobody keeps account of it.
    #[inline]
    fn malloc_ready(self, bucket: Bucket) -> Option<usize> {
        let mut library = library::lock_for_blocks();
        let library = library.as_mut().filter(|library| !library.keeps_ledger())?;
        let address = self.address(library)?;
        let (header, mut words) = library.window_mut().table_mut::<ClassHeader>(address);
        debug_assert!(header.magic == MAGIC, "the table of classes and a class differ");
        header.buckets.malloc(&mut words, bucket)
    }

    /// Grows, accounts for the block, or says why there is none.
    #[cold]
    fn malloc_slowly(self, layout: Layout) -> Result<(usize, usize), ClassError> {
        let bucket = Bucket::of(layout).ok_or(ClassError::TooLarge(layout))?;
        let mut library = library::lock();
        let library = library.as_mut().ok_or(ClassError::NotStarted)?;
        let address = self.header(library)?;
        let (header, mut words) = library.window_mut().table_mut::<ClassHeader>(address);
        let block = match header.buckets.malloc(&mut words, bucket) {
            Some(block) => block,
            None => {
                self.grow(library, address, bucket)?;
                let (header, mut words) = library.window_mut().table_mut::<ClassHeader>(address);
                let block = header.buckets.malloc(&mut words, bucket);
                block.expect("a class that grew for a block has room for it")
            }
        };
        if let Some(ledger) = library.ledger() {
            ledger.enter(block, bucket);
        }
        Ok((block, bucket.block_bytes()))
    }

    /// Takes a block back. The thesis's `hs_free`.
    ///
    /// # Panics
    /// If blocks are [accounted for](check_blocks), and it is none of the class.
    #[inline]
    pub(crate) fn free(self, block: usize, layout: Layout) {
        let bucket = Bucket::of(layout).expect("a block was given out for this layout");
        let mut library = library::lock_for_blocks();
        let Some(library) = library.as_mut() else { return };
        if library.keeps_ledger() {
            self.strike_out(library, block, layout, bucket);
        }
        // A class that is gone had no blocks.
        let Some(address) = self.address(library) else {
            return;
        };
        let (header, mut words) = library.window_mut().table_mut::<ClassHeader>(address);
        header.buckets.free(&mut words, block, bucket);
    }

    /// Makes a block of layout `old` into one of layout `new` where it is, if that can be done. Returns its length.
    pub(crate) fn resize(self, block: usize, old: Layout, new: Layout) -> Option<usize> {
        if old.size() == 0 || new.size() == 0 {
            return None;
        }
        let (old_bucket, new_bucket) = (Bucket::of(old)?, Bucket::of(new)?);
        if new_bucket > old_bucket {
            return None;
        }
        if new_bucket < old_bucket {
            let mut library = library::lock_for_blocks();
            let library = library.as_mut()?;
            if library.keeps_ledger() {
                self.strike_out(library, block, old, old_bucket);
                let _outer = scope::leave();
                library.ledger()?.enter(block, new_bucket);
            }
            let address = self.address(library)?;
            let (header, mut words) = library.window_mut().table_mut::<ClassHeader>(address);
            header.buckets.shrink(&mut words, block, old_bucket, new_bucket);
        }
        Some(new_bucket.block_bytes())
    }

    /// Strikes a block out of the ledger; ends the program if it is not one of the class, given out for `layout`.
    #[cold]
    fn strike_out(self, library: &mut Library, block: usize, layout: Layout, bucket: Bucket) {
        let _outer = scope::leave();
        let owner = Self::owning(library, block);
        let id = |library: &Library, class: Self| {
            let class = library.tables().class(class.place as usize);
            class.map(|class| ClassId(class.id))
        };
        let found = match self.header(library) {
            Ok(address) if owner == Some(self) => {
                library.ledger_and_window().map_or(Ok(()), |(ledger, window)| {
                    let (header, words) = window.table_mut::<ClassHeader>(address);
                    ledger.check(header, &words, block, bucket)
                })
            }
            _ => Err(Fault::Foreign {
                owner: owner.and_then(|owner| id(library, owner)),
            }),
        };
        if let Err(fault) = found {
            let class = id(library, self).unwrap_or(ClassId(0));
            let report = Report {
                class,
                block,
                layout,
                fault,
            };
            panic!("{report}");
        }
        if let Some(ledger) = library.ledger() {
            ledger.remove(block);
        }
    }

    /// Doubles the class's memory, as often as a block of `bucket` needs; or, where less than that is left, by as much as
    /// there is.
    fn grow(self, library: &mut Library, header: usize, bucket: Bucket) -> Result<(), ClassError> {
        // A new area is page-aligned, as is every block of a page or more: no more is needed than the block itself.
        let least = bucket.block_bytes().div_ceil(PAGE_LEN);
        let total = library.window().table::<ClassHeader>(header).total_bytes / PAGE_LEN;
        let mut pages = total;
        while pages < least {
            pages = pages
                .checked_mul(2)
                .and_then(|twice| twice.checked_add(total))
                .ok_or(ClassError::WindowFull)?;
        }
        let area = loop {
            match library.add_area(self.place as usize, pages) {
                Err(ClassError::Map(MapError::OutOfFrames) | ClassError::WindowFull) if pages > least => {
                    pages = (pages / 2).max(least);
                }
                other => break other?,
            }
        };
        let (header, mut words) = library.window_mut().table_mut::<ClassHeader>(header);
        header.areas += 1;
        header.total_bytes += area.len_bytes();
        header.buckets.add_fresh(&mut words, area, area.start());
        Ok(())
    }

    /// Gives back the pages that nothing lives in, but for short runs of them. Returns how many bytes that is. What is left
    /// of an area that shrinks counts as modified.
    ///
    /// Takes as long as a look at every free block and a pass over the page tables of what goes, all under the allocation lock:
    /// a thing to do when a class has shrunk for good.
    ///
    /// # Errors
    /// See [`ClassError`].
    pub fn trim(&self) -> Result<usize, ClassError> {
        library::with(|library| self.trim_in(library)).unwrap_or(Err(ClassError::NotStarted))
    }

    fn trim_in(self, library: &mut Library) -> Result<usize, ClassError> {
        let address = self.header(library)?;
        let place = self.place as usize;
        let areas = library.areas_of(place);
        let areas_left = library.areas_left();
        let (header, words) = library.window_mut().table_mut::<ClassHeader>(address);
        let plan = Plan::new(&areas, &header.buckets, &words, areas_left)?;
        if plan.runs.is_empty() {
            return Ok(0);
        }
        library.replace_areas(place, &plan.old, &plan.new)?;
        let (header, mut words) = library.window_mut().table_mut::<ClassHeader>(address);
        let total_bytes = header.total_bytes;
        header
            .buckets
            .forget(&mut words, total_bytes, |block| plan.takes(block));
        header.total_bytes -= plan.len_bytes();
        header.areas = (areas.len() - plan.old.len() + plan.new.len()) as u32;
        plan.runs.iter().for_each(|run| library.unmap(*run));
        Ok(plan.len_bytes())
    }

    /// Gives back all memory of the class, which has no blocks in use; its id is free again, and its handles are void.
    /// Checkpoints in flight keep their view. (To drop a class with everything in it, see [`discard`](Self::discard).)
    ///
    /// Takes a pass over the page tables of its memory, under the allocation lock.
    ///
    /// # Errors
    /// Blocks are in use, and other [`ClassError`]s.
    pub fn destroy(self) -> Result<(), ClassError> {
        library::with(|library| {
            let address = self.header(library)?;
            let header = library.window().table::<ClassHeader>(address);
            match header.buckets.in_use() {
                (0, _) => self.give_back(library),
                (blocks, _) => Err(ClassError::InUse {
                    id: ClassId(header.id),
                    blocks,
                }),
            }
        })
        .unwrap_or(Err(ClassError::NotStarted))
    }

    /// Gives back the memory of the class, whatever lives in it.
    pub(crate) fn give_back(self, library: &mut Library) -> Result<(), ClassError> {
        self.header(library)?;
        let place = self.place as usize;
        let areas: Vec<PageRange> = library.areas_of(place);
        library.replace_areas(place, &areas, &[])?;
        library.tables_mut().remove_class(place);
        for area in areas {
            if let Some(ledger) = library.ledger() {
                ledger.forget(area);
            }
            library.unmap(area);
        }
        Ok(())
    }
}

//! What the library knows of itself, at the start of the checkpoint window: so that it is restored with the rest.
//!
//! ```text
//! window start
//! ├─ library area: fixed-size tables, integers only
//! │    magic "HotSpare" │ layout version │ pages of this area │ pages of the window
//! │    cursor: first address of the window that was never given out
//! │    counts of classes, areas, threads │ which roots are set │ counts of signals, descriptors
//! │    roots   [ROOTS_MAX]     a word each
//! │    classes [CLASSES_MAX]   id, address of the class's header (its first area's start)
//! │    areas   [AREAS_MAX]     start, pages, class; ascending
//! │    threads [THREADS_MAX]   function, argument
//! │    signals [SIGNALS_MAX]   number, mask, handler
//! │    descriptors             a record each, of them [DESCRIPTORS_MAX]
//! ├─ first area of some class: its header, then blocks
//! ├─ areas of classes, in the order in which they were asked for, without gaps
//! ├─ cursor
//! └─ never mapped yet … window end
//! ```
//!
//! Everything here changes seldom (a class is made or grows, a worker comes or goes), so that an incremental checkpoint
//! has these pages seldom. Last are the descriptors, which an application may update more often. What changes with each
//! allocation lies in the class itself.
//!
//! One lock guards all of it and all classes: the global allocation lock, outside checkpointable memory (a lock inside
//! would be restored held). Whoever holds it knows all allocators quiescent.
//!
//! Deliberately absent: giving addresses out twice. The window is far larger than any memory.

mod adopt;

use alloc::vec::Vec;
use core::fmt;
use core::mem::size_of;

pub use self::adopt::{AdoptError, adopt};
use crate::class::{ClassError, ClassId};
use crate::platform::{CheckpointMemory, Cptctl, CptctlError, MapError, PAGE_LEN, PageRange};
use crate::raw::Window;
use crate::registry::descriptor::{self, Descriptor};
use crate::registry::signal::{SignalAction, SignalNumber};
use crate::registry::thread::Worker;
use crate::sync::{Mutex, MutexGuard};

const MAGIC: u64 = u64::from_le_bytes(*b"HotSpare");
const LAYOUT_VERSION: u32 = 2;

/// Most words that [`roots`](crate::roots) hold.
pub const ROOTS_MAX: usize = 16;
/// Most classes of a program.
pub const CLASSES_MAX: usize = 64;
/// Most areas of all classes together.
pub const AREAS_MAX: usize = 512;
/// Most registered workers.
pub const THREADS_MAX: usize = 64;
/// Most registered descriptors.
pub const DESCRIPTORS_MAX: usize = 64;
/// Most registered signals: each of them once.
pub const SIGNALS_MAX: usize = SignalNumber::ALL.len();

const LIBRARY_PAGES: usize = size_of::<LibraryArea>().div_ceil(PAGE_LEN);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct ClassEntry {
    pub(crate) id: u64,
    pub(crate) header: usize,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct AreaEntry {
    start: usize,
    pages: u32,
    class: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(crate) struct ThreadEntry {
    pub(crate) worker: usize,
    pub(crate) argument: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(crate) struct SignalEntry {
    pub(crate) number: u32,
    pub(crate) mask: u32,
    pub(crate) handler: usize,
}

#[derive(Debug)]
#[repr(C)]
pub(crate) struct LibraryArea {
    magic: u64,
    layout_version: u32,
    pages: u32,
    window_pages: usize,
    cursor: usize,
    class_count: u32,
    area_count: u32,
    thread_count: u32,
    roots_set: u32,
    signal_count: u32,
    descriptor_count: u32,
    roots: [usize; ROOTS_MAX],
    classes: [ClassEntry; CLASSES_MAX],
    areas: [AreaEntry; AREAS_MAX],
    threads: [ThreadEntry; THREADS_MAX],
    signals: [SignalEntry; SIGNALS_MAX],
    descriptors: [descriptor::Record; DESCRIPTORS_MAX],
}

impl LibraryArea {
    pub(crate) fn root(&self, index: usize) -> Option<usize> {
        (self.roots_set & (1 << index) != 0).then(|| self.roots[index])
    }

    pub(crate) fn set_root(&mut self, index: usize, value: usize) {
        self.roots[index] = value;
        self.roots_set |= 1 << index;
    }

    pub(crate) fn classes(&self) -> &[ClassEntry] {
        &self.classes[..self.class_count as usize]
    }

    pub(crate) fn threads(&self) -> &[ThreadEntry] {
        &self.threads[..self.thread_count as usize]
    }

    /// `false` if the table is full.
    pub(crate) fn push_thread(&mut self, entry: ThreadEntry) -> bool {
        push(&mut self.threads, &mut self.thread_count, entry)
    }

    /// The others keep their order: it is the order in which they are started again.
    pub(crate) fn remove_thread(&mut self, index: usize) {
        remove(&mut self.threads, &mut self.thread_count, index);
    }

    fn signals(&self) -> &[SignalEntry] {
        &self.signals[..self.signal_count as usize]
    }

    /// `false` if the table is full.
    pub(crate) fn push_signal(&mut self, entry: SignalEntry) -> bool {
        push(&mut self.signals, &mut self.signal_count, entry)
    }

    pub(crate) fn remove_signal(&mut self, index: usize) {
        remove(&mut self.signals, &mut self.signal_count, index);
    }

    fn descriptors(&self) -> &[descriptor::Record] {
        &self.descriptors[..self.descriptor_count as usize]
    }

    /// `false` if the table is full.
    pub(crate) fn push_descriptor(&mut self, record: descriptor::Record) -> bool {
        push(&mut self.descriptors, &mut self.descriptor_count, record)
    }

    pub(crate) fn set_descriptor(&mut self, index: usize, record: descriptor::Record) {
        self.descriptors[index] = record;
    }

    pub(crate) fn remove_descriptor(&mut self, index: usize) {
        remove(&mut self.descriptors, &mut self.descriptor_count, index);
    }
}

/// Appends to the `count` entries of `table`; `false` if it is full.
fn push<T>(table: &mut [T], count: &mut u32, entry: T) -> bool {
    let Some(place) = table.get_mut(*count as usize) else {
        return false;
    };
    *place = entry;
    *count += 1;
    true
}

/// Removes one of the `count` entries of `table`; the others keep their order.
fn remove<T: Copy>(table: &mut [T], count: &mut u32, index: usize) {
    table.copy_within(index + 1..*count as usize, index);
    *count -= 1;
}

/// The library was not started: [`start`] comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotStarted;

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the library has no checkpointable memory yet: call hs_core::start or hs_core::adopt first",
        )
    }
}

/// Why the library could not be started. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartError {
    /// The window has no room for the library's own tables.
    WindowTooSmall,
    /// Their memory could not be mapped.
    Map(MapError),
    /// Their memory could not be installed.
    Install(CptctlError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::WindowTooSmall => {
                write!(f, "the checkpoint window needs at least {LIBRARY_PAGES} pages")
            }
            StartError::Map(error) => write!(f, "cannot map the library's tables: {error}"),
            StartError::Install(error) => write!(f, "cannot install the library's tables: {error}"),
        }
    }
}

/// The library's state, reached through the allocation lock.
pub(crate) struct Library {
    memory: &'static dyn CheckpointMemory,
    window: Window,
}

static LIBRARY: Mutex<Option<Library>> = Mutex::new(None);

/// Takes the allocation lock: all class allocators and registries are quiescent while it is held.
#[inline]
pub(crate) fn lock() -> MutexGuard<'static, Option<Library>> {
    LIBRARY.lock()
}

/// Runs `with` on the library, under the allocation lock.
pub(crate) fn with<R>(with: impl FnOnce(&mut Library) -> R) -> Result<R, NotStarted> {
    lock().as_mut().map(with).ok_or(NotStarted)
}

impl Library {
    pub(crate) fn window(&self) -> &Window {
        &self.window
    }

    pub(crate) fn window_mut(&mut self) -> &mut Window {
        &mut self.window
    }

    pub(crate) fn tables(&self) -> &LibraryArea {
        self.window.table(self.window.range().start())
    }

    pub(crate) fn workers(&self) -> impl Iterator<Item = Worker> {
        let threads = self.tables().threads().iter();
        threads.map(|thread| Worker::of_entry(*thread))
    }

    /// What is registered, as it stands in the tables.
    pub(crate) fn records(&self) -> (&[ThreadEntry], &[descriptor::Record], &[SignalEntry]) {
        let tables = self.tables();
        (tables.threads(), tables.descriptors(), tables.signals())
    }

    // Of what was registered here or taken up by `adopt`, every record is sound.

    pub(crate) fn signals(&self) -> impl Iterator<Item = SignalAction> {
        let entries = self.tables().signals().iter();
        entries.filter_map(|entry| SignalAction::of_entry(*entry))
    }

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = Descriptor> {
        let records = self.tables().descriptors().iter();
        records.filter_map(Descriptor::of_record)
    }

    pub(crate) fn tables_mut(&mut self) -> &mut LibraryArea {
        let start = self.window.range().start();
        self.window.table_mut(start).0
    }

    /// Maps and installs the next `pages` pages of the window for `class`.
    pub(crate) fn add_area(&mut self, class: ClassId, pages: usize) -> Result<PageRange, ClassError> {
        let window = self.window.range();
        let tables = self.tables();
        if tables.area_count as usize == AREAS_MAX {
            return Err(ClassError::TooManyAreas);
        }
        let range = PageRange::new(tables.cursor, pages)
            .filter(|range| window.encloses(*range) && u32::try_from(pages).is_ok())
            .ok_or(ClassError::WindowFull)?;
        self.memory.map(range).map_err(ClassError::Map)?;
        if let Err(error) = self.memory.cptctl(Cptctl::Install(&[range])) {
            self.memory
                .unmap(range)
                .expect("a range mapped just now can be unmapped");
            return Err(ClassError::Install(error));
        }
        let tables = self.tables_mut();
        tables.areas[tables.area_count as usize] = AreaEntry {
            start: range.start(),
            pages: pages as u32,
            class: class.0,
        };
        tables.area_count += 1;
        tables.cursor = range.end();
        Ok(range)
    }

    /// Enters the class into the directory; `false` if that is full.
    pub(crate) fn add_class(&mut self, class: ClassId, header: usize) -> bool {
        let tables = self.tables_mut();
        let count = tables.class_count as usize;
        if count == CLASSES_MAX {
            return false;
        }
        tables.classes[count] = ClassEntry {
            id: u64::from(class.0),
            header,
        };
        tables.class_count += 1;
        true
    }
}

/// The installed ranges of `memory`, into `ranges`. Nothing but the query, if there are no more than it holds already: as
/// many as last time, most often.
pub(crate) fn installed(memory: &dyn CheckpointMemory, ranges: &mut Vec<PageRange>) {
    let placeholder = PageRange::new(0, 1).expect("a valid range");
    loop {
        let count = memory.cptctl(Cptctl::Installed(ranges)).unwrap_or(0);
        if count <= ranges.len() {
            ranges.truncate(count);
            return;
        }
        ranges.resize(count, placeholder);
    }
}

/// Begins with a fresh library state at the start of `memory`'s window: no classes, no workers. The thesis's `hs_init`.
/// From here on the library works on `memory`.
///
/// # Errors
/// See [`StartError`].
pub fn start(memory: &'static dyn CheckpointMemory) -> Result<(), StartError> {
    let window = memory.window();
    let range = PageRange::new(window.start(), LIBRARY_PAGES)
        .filter(|range| window.encloses(*range))
        .ok_or(StartError::WindowTooSmall)?;
    let mut library = lock();
    memory.map(range).map_err(StartError::Map)?;
    if let Err(error) = memory.cptctl(Cptctl::Install(&[range])) {
        memory
            .unmap(range)
            .expect("a range mapped just now can be unmapped");
        return Err(StartError::Install(error));
    }
    let mut fresh = Library {
        memory,
        window: Window::new(window),
    };
    let tables = fresh.tables_mut();
    // The rest is zero, as mapped: no classes, areas, threads and roots.
    tables.magic = MAGIC;
    tables.layout_version = LAYOUT_VERSION;
    tables.pages = LIBRARY_PAGES as u32;
    tables.window_pages = window.pages();
    tables.cursor = range.end();
    *library = Some(fresh);
    Ok(())
}

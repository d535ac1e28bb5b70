//! What the library knows of itself, at the start of the checkpoint window: so that it is restored with the rest.
//!
//! ```text
//! window start
//! ├─ library area: fixed-size tables, integers only
//! │    magic "HotSpare" │ layout version │ pages of this area │ pages of the window
//! │    cursor: first address of the window that was never given out
//! │    counts of classes, areas, threads │ which roots are set
//! │    roots   [ROOTS_MAX]     a word each
//! │    classes [CLASSES_MAX]   id, address of the class's header (its first area's start)
//! │    areas   [AREAS_MAX]     start, pages, class; ascending
//! │    threads [THREADS_MAX]   function, argument
//! ├─ first area of some class: its header, then blocks
//! ├─ areas of classes, in the order in which they were asked for, without gaps
//! ├─ cursor
//! └─ never mapped yet … window end
//! ```
//!
//! Everything here changes seldom (a class is made or grows, a worker comes or goes), so that an incremental checkpoint
//! has these pages seldom. What changes with each allocation lies in the class itself.
//!
//! One lock guards all of it and all classes: the global allocation lock, outside checkpointable memory (a lock inside
//! would be restored held). Whoever holds it knows all allocators quiescent.
//!
//! Deliberately absent: giving addresses out twice. The window is far larger than any memory.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::mem::size_of;

use crate::class::{ClassError, ClassHeader, ClassId};
use crate::platform::{CheckpointMemory, Cptctl, CptctlError, MapError, PAGE_LEN, PageRange};
use crate::raw::Window;
use crate::registry::thread::Worker;
use crate::sync::{Mutex, MutexGuard, machine};

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
    roots: [usize; ROOTS_MAX],
    classes: [ClassEntry; CLASSES_MAX],
    areas: [AreaEntry; AREAS_MAX],
    threads: [ThreadEntry; THREADS_MAX],
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
        let count = self.thread_count as usize;
        if count == THREADS_MAX {
            return false;
        }
        self.threads[count] = entry;
        self.thread_count += 1;
        true
    }

    /// The others keep their order: it is the order in which they are started again.
    pub(crate) fn remove_thread(&mut self, index: usize) {
        let count = self.thread_count as usize;
        self.threads.copy_within(index + 1..count, index);
        self.thread_count -= 1;
    }
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

/// Why what lies in the window is not a library's state. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AdoptError {
    /// The start of the window is not checkpointable memory.
    NotMapped,
    /// No library was started here.
    BadMagic,
    /// A library with another layout was.
    WrongLayout {
        /// Its version.
        found: u32,
    },
    /// The window is another one.
    WrongWindow,
    /// The tables contradict themselves; which, and how.
    Damaged(&'static str),
    /// The tables and the installed ranges differ in this one.
    AreasDiffer(PageRange),
    /// A registered worker is not in this program's code.
    NotCode {
        /// Its address.
        worker: usize,
    },
}

impl fmt::Display for AdoptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdoptError::NotMapped => f.write_str("the start of the window is not mapped and installed"),
            AdoptError::BadMagic => f.write_str("the window does not begin with a library's tables"),
            AdoptError::WrongLayout { found } => {
                write!(
                    f,
                    "the library's tables have layout {found}, this build knows {LAYOUT_VERSION}"
                )
            }
            AdoptError::WrongWindow => f.write_str("the library's tables are of another window"),
            AdoptError::Damaged(what) => write!(f, "the library's tables are damaged: {what}"),
            AdoptError::AreasDiffer(range) => write!(
                f,
                "the library's tables and the installed ranges differ in {range}"
            ),
            AdoptError::NotCode { worker } => {
                write!(f, "registered worker {worker:#x} is not in this program's code")
            }
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
        threads.map(|thread| Worker {
            function: thread.worker,
            argument: thread.argument,
        })
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

/// The installed ranges of `memory`, into `ranges`.
pub(crate) fn installed(memory: &dyn CheckpointMemory, ranges: &mut Vec<PageRange>) {
    let placeholder = PageRange::new(0, 1).expect("a valid range");
    loop {
        ranges.resize(ranges.capacity().max(AREAS_MAX / 8), placeholder);
        let count = memory.cptctl(Cptctl::Installed(ranges)).unwrap_or(0);
        if count <= ranges.len() {
            ranges.truncate(count);
            return;
        }
        ranges.reserve(count - ranges.len());
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

/// Takes up the library state that lies in `memory`'s window, after a restore.
///
/// # Errors
/// See [`AdoptError`].
pub fn adopt(memory: &'static dyn CheckpointMemory) -> Result<(), AdoptError> {
    let window = memory.window();
    let own = PageRange::new(window.start(), LIBRARY_PAGES).ok_or(AdoptError::NotMapped)?;
    let mut ranges = Vec::new();
    installed(memory, &mut ranges);
    if !ranges.contains(&own) {
        return Err(AdoptError::NotMapped);
    }
    let mut library = lock();
    let found = Library {
        memory,
        window: Window::new(window),
    };
    check(&found, own, &ranges)?;
    *library = Some(found);
    Ok(())
}

/// Checks the tables against themselves and against the `installed` ranges, of which `own` is one.
fn check(library: &Library, own: PageRange, installed: &[PageRange]) -> Result<(), AdoptError> {
    let tables = library.tables();
    if tables.magic != MAGIC {
        return Err(AdoptError::BadMagic);
    }
    if tables.layout_version != LAYOUT_VERSION || tables.pages as usize != LIBRARY_PAGES {
        return Err(AdoptError::WrongLayout {
            found: tables.layout_version,
        });
    }
    if tables.window_pages != library.window.range().pages() {
        return Err(AdoptError::WrongWindow);
    }
    let counts = (
        tables.class_count as usize,
        tables.area_count as usize,
        tables.thread_count as usize,
    );
    if counts.0 > CLASSES_MAX || counts.1 > AREAS_MAX || counts.2 > THREADS_MAX {
        return Err(AdoptError::Damaged("a count is beyond its table"));
    }
    let mut next = own.end();
    let mut known = vec![own];
    for area in &tables.areas[..counts.1] {
        let range = PageRange::new(area.start, area.pages as usize)
            .filter(|range| range.start() == next && library.window.range().encloses(*range))
            .ok_or(AdoptError::Damaged("an area is out of place"))?;
        next = range.end();
        known.push(range);
    }
    if tables.cursor != next {
        return Err(AdoptError::Damaged("the cursor is not behind the last area"));
    }
    if let Some(range) = known.iter().find(|range| !installed.contains(range)) {
        return Err(AdoptError::AreasDiffer(*range));
    }
    if let Some(range) = installed.iter().find(|range| !known.contains(range)) {
        return Err(AdoptError::AreasDiffer(*range));
    }
    for class in tables.classes() {
        let first = tables.areas[..counts.1]
            .iter()
            .find(|area| u64::from(area.class) == class.id);
        if first.is_none_or(|area| area.start != class.header) {
            return Err(AdoptError::Damaged(
                "a class's header is not at the start of its first area",
            ));
        }
        if !library
            .window
            .table::<ClassHeader>(class.header)
            .is_of(ClassId(class.id as u32))
        {
            return Err(AdoptError::Damaged("a class's header is not one"));
        }
    }
    match tables
        .threads()
        .iter()
        .find(|thread| !machine().is_code(thread.worker))
    {
        Some(thread) => Err(AdoptError::NotCode {
            worker: thread.worker,
        }),
        None => Ok(()),
    }
}

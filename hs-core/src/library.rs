//! What the library knows of itself, at the start of the checkpoint window: so that it is restored with the rest.
//!
//! ```text
//! window start
//! ├─ library area: fixed-size tables, integers only
//! │    magic "HotSpare" │ layout version │ pages of this area │ pages of the window
//! │    classes ever made │ counts of areas, threads │ which roots are set │ counts of signals, descriptors, hooks
//! │    roots   [ROOTS_MAX]     a word each; of an address, the tag of its type and the length
//! │    classes [CLASSES_MAX]   id, serial number, address of the class's header; serial 0 is an empty place
//! │    areas   [AREAS_MAX]     start, pages, place of the class; ascending, disjoint
//! │    hooks   [HOOKS_MAX]     moment, function, argument
//! │    threads [THREADS_MAX]   function, argument
//! │    signals [SIGNALS_MAX]   number, flags, mask, handler
//! │    descriptors             a record each, of them [DESCRIPTORS_MAX]
//! ├─ areas of classes, each as low as it fitted when it was asked for; a class's first one begins with its header
//! ├─ …
//! └─ the program's checkpointed variables, where the linker has put them; window end
//! ```
//!
//! Everything here changes seldom (a class is made or grows, a worker comes or goes), so that an incremental checkpoint
//! has these pages seldom. Last are the descriptors, which an application may update more often. What changes with each
//! allocation lies in the class itself.
//!
//! One lock guards all of it and all classes: the global allocation lock, outside checkpointable memory (a lock inside
//! would be restored held). Whoever holds it knows all allocators quiescent.

mod adopt;
mod areas;

use alloc::vec::Vec;
use core::fmt;
use core::mem::size_of;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub use self::adopt::{AdoptError, adopt};
use self::areas::AreaEntry;
use crate::class::ClassId;
use crate::class::ledger::{self, Ledger};
use crate::class::scope::{self, Outside};
use crate::platform::{CheckpointMemory, Cptctl, CptctlError, MapError, PAGE_LEN, PageRange};
use crate::raw::Window;
use crate::registry::descriptor::{self, Descriptor};
use crate::registry::hook::{Hook, Moment};
use crate::registry::signal::{SignalAction, SignalNumber};
use crate::registry::thread::Worker;
use crate::roots;
use crate::sync::{Mutex, MutexGuard};

const MAGIC: u64 = u64::from_le_bytes(*b"HotSpare");
const LAYOUT_VERSION: u32 = 3;

/// Most words that [`roots`](crate::roots) hold.
pub const ROOTS_MAX: usize = 16;
/// Most classes of a program.
pub const CLASSES_MAX: usize = 64;
/// Most areas of all classes together.
pub const AREAS_MAX: usize = 512;
/// Most registered hooks.
pub const HOOKS_MAX: usize = 16;
/// Most registered workers.
pub const THREADS_MAX: usize = 128;
/// Most registered descriptors.
pub const DESCRIPTORS_MAX: usize = 128;
/// Most registered signals: each of them once.
pub const SIGNALS_MAX: usize = SignalNumber::ALL.len();

const LIBRARY_PAGES: usize = size_of::<LibraryArea>().div_ceil(PAGE_LEN);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct ClassEntry {
    pub(crate) id: u32,
    /// No two classes of a program ever have the same, and no class has 0.
    pub(crate) serial: u32,
    pub(crate) header: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(crate) struct RootEntry {
    pub(crate) value: usize,
    /// 0 for a plain word.
    pub(crate) tag: u64,
    /// Length of what is kept at the address `value`.
    pub(crate) len_bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(crate) struct ThreadEntry {
    pub(crate) worker: usize,
    pub(crate) argument: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(crate) struct HookEntry {
    pub(crate) moment: u32,
    /// Zero.
    pub(crate) reserved: u32,
    pub(crate) function: usize,
    pub(crate) argument: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(crate) struct SignalEntry {
    pub(crate) number: u16,
    pub(crate) flags: u16,
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
    class_serial: u32,
    area_count: u32,
    thread_count: u32,
    roots_set: u32,
    signal_count: u32,
    descriptor_count: u32,
    hook_count: u32,
    reserved: u32,
    roots: [RootEntry; ROOTS_MAX],
    classes: [ClassEntry; CLASSES_MAX],
    areas: [AreaEntry; AREAS_MAX],
    hooks: [HookEntry; HOOKS_MAX],
    threads: [ThreadEntry; THREADS_MAX],
    signals: [SignalEntry; SIGNALS_MAX],
    descriptors: [descriptor::Record; DESCRIPTORS_MAX],
}

impl LibraryArea {
    pub(crate) fn root(&self, index: usize) -> Option<RootEntry> {
        (self.roots_set & (1 << index) != 0).then(|| self.roots[index])
    }

    pub(crate) fn set_root(&mut self, index: usize, root: RootEntry) {
        self.roots[index] = root;
        self.roots_set |= 1 << index;
    }

    /// The classes there are, each with its place in the table.
    pub(crate) fn classes(&self) -> impl Iterator<Item = (usize, &ClassEntry)> {
        let entries = self.classes.iter().enumerate();
        entries.filter(|(_, class)| class.serial != 0)
    }

    /// The class at `place` of the table, if there is one. (No handle has the serial number 0.)
    #[inline]
    pub(crate) fn class(&self, place: usize) -> Option<&ClassEntry> {
        self.classes.get(place).filter(|class| class.serial != 0)
    }

    /// A place in the table of classes that is empty.
    pub(crate) fn empty_class(&self) -> Option<usize> {
        self.classes.iter().position(|class| class.serial == 0)
    }

    /// Enters a class, whose serial number is returned. `None` if there are no numbers left.
    pub(crate) fn enter_class(&mut self, place: usize, id: ClassId, header: usize) -> Option<u32> {
        let serial = self.class_serial.checked_add(1)?;
        self.class_serial = serial;
        self.classes[place] = ClassEntry {
            id: id.0,
            serial,
            header,
        };
        Some(serial)
    }

    pub(crate) fn remove_class(&mut self, place: usize) {
        self.classes[place].serial = 0;
    }

    pub(crate) fn hooks(&self) -> &[HookEntry] {
        &self.hooks[..self.hook_count as usize]
    }

    /// `false` if the table is full.
    pub(crate) fn push_hook(&mut self, entry: HookEntry) -> bool {
        push(&mut self.hooks, &mut self.hook_count, entry)
    }

    /// The others keep their order: it is the order in which they are called.
    pub(crate) fn remove_hook(&mut self, index: usize) {
        remove(&mut self.hooks, &mut self.hook_count, index);
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

    pub(crate) fn set_signal(&mut self, index: usize, entry: SignalEntry) {
        self.signals[index] = entry;
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

    pub(crate) fn descriptor_mut(&mut self, index: usize) -> &mut descriptor::Record {
        &mut self.descriptors[index]
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
    /// Their memory, or that of the program's checkpointed variables, could not be mapped.
    Map(MapError),
    /// That memory could not be installed.
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
    version: Version,
    window: Window,
    ledger: Option<Ledger>,
}

static LIBRARY: Mutex<Option<Library>> = Mutex::new(None);

/// What the tables of a library are known by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Version {
    /// Another after each change but those of the heads of descriptors' records, and another than any library's before. Never 0.
    pub(crate) tables: u64,
    /// Counts the changes of heads.
    changes: u64,
}

fn next_version() -> u64 {
    static VERSION: AtomicU64 = AtomicU64::new(1);
    VERSION.fetch_add(1, Ordering::Relaxed)
}

/// The window of the library's memory: its start, and its length in bytes. For the global allocator, which asks of each block.
static WINDOW: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// Whether `address` lies in the window that the library works on.
#[inline]
pub(crate) fn window_holds(address: usize) -> bool {
    let [start, len_bytes] = &WINDOW;
    address.wrapping_sub(start.load(Ordering::Acquire)) < len_bytes.load(Ordering::Acquire)
}

/// The allocation lock, held by a thread that is in no class's scope for as long.
pub(crate) struct Locked {
    library: MutexGuard<'static, Option<Library>>,
    // Behind the lock: let go of after it.
    _outside: Outside,
}

impl Deref for Locked {
    type Target = Option<Library>;

    fn deref(&self) -> &Option<Library> {
        &self.library
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut Option<Library> {
        &mut self.library
    }
}

/// Takes the allocation lock: all class allocators and registries are quiescent while it is held. Whatever is allocated under
/// it is the library's or the kernel's own, so it leaves the scope of [`with_class`](crate::class::with_class).
pub(crate) fn lock() -> Locked {
    let outside = scope::leave();
    Locked {
        library: LIBRARY.lock(),
        _outside: outside,
    }
}

/// Takes the allocation lock to give out a block or to take one back: nothing else may be allocated under it.
#[inline]
pub(crate) fn lock_for_blocks() -> MutexGuard<'static, Option<Library>> {
    LIBRARY.lock()
}

/// Runs `with` on the library, under the allocation lock.
pub(crate) fn with<R>(with: impl FnOnce(&mut Library) -> R) -> Result<R, NotStarted> {
    lock().as_mut().map(with).ok_or(NotStarted)
}

impl Library {
    fn new(memory: &'static dyn CheckpointMemory, ledger: Option<Ledger>) -> Self {
        Self {
            memory,
            version: Version {
                tables: next_version(),
                changes: 0,
            },
            window: Window::new(memory.window()),
            ledger,
        }
    }

    /// The version of the tables: as long as it is the same, so are they.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Makes this the library of the program, whose roots nobody has taken yet.
    fn take_office(self, office: &mut Option<Library>) {
        let window = self.window.range();
        WINDOW[0].store(window.start(), Ordering::Release);
        WINDOW[1].store(window.len_bytes(), Ordering::Release);
        roots::forget_taken();
        *office = Some(self);
    }

    /// Where blocks are accounted for, if they are.
    pub(crate) fn ledger(&mut self) -> Option<&mut Ledger> {
        self.ledger.as_mut()
    }

    /// Whether there is one.
    #[inline]
    pub(crate) fn keeps_ledger(&self) -> bool {
        self.ledger.is_some()
    }

    /// As [`ledger`](Self::ledger), with what it is held against.
    pub(crate) fn ledger_and_window(&mut self) -> Option<(&mut Ledger, &mut Window)> {
        self.ledger.as_mut().map(|ledger| (ledger, &mut self.window))
    }

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

    /// What the hooks at restore are called with.
    pub(crate) fn restore_arguments(&self) -> impl Iterator<Item = usize> {
        let hooks = self.tables().hooks().iter();
        let hooks = hooks.filter_map(|entry| Hook::of_entry(*entry));
        hooks
            .filter(|hook| hook.moment() == Moment::Restore)
            .map(Hook::argument)
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
        self.version.tables = next_version();
        self.tables_unversioned()
    }

    /// The record of a descriptor, to change what may change while it is registered: what lies in its head.
    pub(crate) fn descriptor_head_mut(&mut self, index: usize) -> &mut [u8] {
        self.version.changes += 1;
        &mut self.tables_unversioned().descriptor_mut(index)[..descriptor::HEAD_LEN]
    }

    fn tables_unversioned(&mut self) -> &mut LibraryArea {
        let start = self.window.range().start();
        self.window.table_mut(start).0
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
    let own = PageRange::new(window.start(), LIBRARY_PAGES)
        .filter(|range| window.encloses(*range))
        .ok_or(StartError::WindowTooSmall)?;
    let mut library = lock();
    let statics = memory.statics();
    let ranges: Vec<PageRange> = core::iter::once(own)
        .chain(statics.map(|statics| statics.range))
        .collect();
    map_and_install(memory, &ranges)?;
    let mut fresh = Library::new(memory, ledger::of_fresh());
    if let Some(statics) = statics {
        fresh.window.fill(statics.range, statics.initial);
    }
    let tables = fresh.tables_mut();
    // The rest is zero, as mapped: no classes, areas, threads and roots.
    tables.magic = MAGIC;
    tables.layout_version = LAYOUT_VERSION;
    tables.pages = LIBRARY_PAGES as u32;
    tables.window_pages = window.pages();
    fresh.take_office(&mut library);
    Ok(())
}

/// Lets go of the library's state; its memory may be unmapped then. What was allocated is void. For programs that begin anew:
/// until the next [`start`] or [`adopt`] nobody, the signal thread among them, looks at the tables.
pub fn stop() {
    let mut library = lock();
    WINDOW[1].store(0, Ordering::Release);
    *library = None;
}

/// All of `ranges`, or none.
fn map_and_install(memory: &dyn CheckpointMemory, ranges: &[PageRange]) -> Result<(), StartError> {
    let unmap = |ranges: &[PageRange]| {
        for range in ranges {
            memory
                .unmap(*range)
                .expect("a range mapped just now can be unmapped");
        }
    };
    for (done, range) in ranges.iter().enumerate() {
        if let Err(error) = memory.map(*range) {
            unmap(&ranges[..done]);
            return Err(StartError::Map(error));
        }
    }
    memory.cptctl(Cptctl::Install(ranges)).map(drop).map_err(|error| {
        unmap(ranges);
        StartError::Install(error)
    })
}

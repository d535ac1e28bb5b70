//! The traits that a machine fulfils, and nothing else of it.
//!
//! A kernel implements them for a guest; the module `host` (feature `std`) implements them on an ordinary operating
//! system for tests and benchmarks, with plain copies instead of copy-on-write. Every call may be made
//! from any thread; none may be made from an interrupt handler.

mod console;
mod files;

use alloc::boxed::Box;
use core::fmt;
use core::ops::{Add, Deref, DerefMut, Sub};
use core::sync::atomic::AtomicU32;
use core::time::Duration;

pub use self::console::Console;
pub use self::files::{FileError, FileHandle, Files};
use crate::event::Event;

/// Length of a page in bytes.
pub const PAGE_LEN: usize = 4096;

/// A moment on the machine's monotonic clock, in microseconds since some fixed point in the past.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant {
    micros: u64,
}

impl Instant {
    /// The moment `micros` microseconds after the clock's zero.
    pub const fn from_micros(micros: u64) -> Self {
        Self { micros }
    }

    /// Microseconds since the clock's zero.
    pub const fn as_micros(self) -> u64 {
        self.micros
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_micros(self.micros.saturating_sub(earlier.micros))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, rhs: Duration) -> Instant {
        Instant::from_micros(
            self.micros
                .saturating_add(u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;

    fn sub(self, rhs: Instant) -> Duration {
        self.since(rhs)
    }
}

/// A non-empty, page-aligned range of virtual addresses. The thesis's `struct cpt_range`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PageRange {
    start: usize,
    pages: usize,
}

impl PageRange {
    /// The `pages` pages from `start` on, or `None` if that is empty, unaligned or wraps around.
    pub const fn new(start: usize, pages: usize) -> Option<Self> {
        let Some(len) = pages.checked_mul(PAGE_LEN) else {
            return None;
        };
        if pages == 0 || !start.is_multiple_of(PAGE_LEN) || start.checked_add(len).is_none() {
            return None;
        }
        Some(Self { start, pages })
    }

    /// Address of the first byte.
    pub const fn start(self) -> usize {
        self.start
    }

    /// Address of the first byte after the range.
    pub const fn end(self) -> usize {
        self.start + self.len_bytes()
    }

    /// Number of pages, at least one.
    pub const fn pages(self) -> usize {
        self.pages
    }

    /// Length in bytes.
    pub const fn len_bytes(self) -> usize {
        self.pages * PAGE_LEN
    }

    /// Whether `address` lies inside.
    pub const fn contains(self, address: usize) -> bool {
        self.start <= address && address < self.end()
    }

    /// Whether all of `other` lies inside.
    pub const fn encloses(self, other: PageRange) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }

    /// Whether the two share a page.
    pub const fn overlaps(self, other: PageRange) -> bool {
        self.start < other.end() && other.start < self.end()
    }

    /// The address of each page, ascending.
    pub fn iter_pages(self) -> impl DoubleEndedIterator<Item = usize> + ExactSizeIterator {
        (0..self.pages).map(move |index| self.start + index * PAGE_LEN)
    }
}

impl fmt::Display for PageRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end())
    }
}

/// How urgent a thread is. The scheduler is strict between levels and round robin within one. A thread
/// that holds a [`Mutex`](crate::sync::Mutex) runs at the highest level until it lets go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Priority {
    /// What can wait for the application.
    Background,
    /// The application, and checkpoint children.
    Normal,
    /// The pair's own traffic: heartbeats must not wait for the application.
    Urgent,
}

/// Why a thread could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpawnError {
    /// The table of threads is full.
    TooManyThreads,
    /// No memory for the stack.
    OutOfMemory,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SpawnError::TooManyThreads => "the table of threads is full",
            SpawnError::OutOfMemory => "no memory is left for the stack of another thread",
        })
    }
}

/// Places for threads: every number that [`Machine::thread_slot`] returns is below.
pub const THREAD_SLOTS: usize = 192;

/// Clock, chance, threads and the outside world.
pub trait Machine: Sync {
    /// The monotonic clock.
    fn now(&self) -> Instant;

    /// Seconds and nanoseconds since 1970, UTC.
    fn wall_clock(&self) -> Duration;

    /// Fresh random bits. Not for keys: those need the machine's entropy source.
    fn random_u64(&self) -> u64;

    /// Starts a thread. It ends when `body` returns. A `body` with captures is boxed by the caller, outside every class.
    ///
    /// # Errors
    /// The table of threads is full, or memory is.
    fn spawn(
        &self,
        name: &'static str,
        priority: Priority,
        body: Box<dyn FnOnce() + Send>,
    ) -> Result<(), SpawnError>;

    /// A number below [`THREAD_SLOTS`] that the calling thread keeps for its life, and that no other living thread has.
    fn thread_slot(&self) -> usize;

    /// Lets another thread of the same priority run.
    fn yield_now(&self);

    /// Sleeps while `word` is `expected`, until [`wake`](Machine::wake) or `deadline`. May return early:
    /// callers look again. The comparison and the sleep are one step with respect to `wake`.
    fn wait(&self, word: &AtomicU32, expected: u32, deadline: Option<Instant>);

    /// Wakes up to `count` threads that sleep on `word`.
    fn wake(&self, word: &AtomicU32, count: usize);

    /// The calling thread now holds one lock more: it runs at the highest priority while it holds any.
    fn lock_taken(&self);

    /// The calling thread holds one lock less.
    fn lock_released(&self);

    /// A word of the calling thread's own, 0 in a new thread: which class its allocations go into, for
    /// [`with_class`](crate::class::with_class). 0 where the kernel allocates on its own behalf. Never allocates.
    fn scope(&self) -> usize;

    /// Gives the calling thread's word a new value, and returns the old one. Never allocates.
    fn swap_scope(&self, scope: usize) -> usize;

    /// The files of its disk, if it has one.
    fn files(&self) -> Option<&'static dyn Files> {
        None
    }

    /// Its terminal, if it has one.
    fn console(&self) -> Option<&'static dyn Console> {
        None
    }

    /// Tells the outside world: one JSON object a line on the event channel.
    fn emit(&self, event: &Event);

    /// Identifies the build: two nodes pair only if theirs are equal.
    fn build_id(&self) -> [u8; 20];

    /// Whether `address` lies in the code of this image: what a restored worker's address is checked against.
    fn is_code(&self, address: usize) -> bool;

    /// Ends this machine at once with `exit`.
    fn exit(&self, exit: Exit) -> !;
}

/// How a machine ends. The values are what a guest writes to QEMU's `isa-debug-exit`; the process then
/// exits with `value << 1 | 1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    /// Everything that was asked for is done. QEMU exits with 33.
    Success = 0x10,
    /// A panic. 35.
    Panic = 0x11,
    /// A CPU exception in kernel or application. 37.
    Exception = 0x12,
    /// The command line was refused. 39.
    BadOptions = 0x13,
    /// A guest test failed. 41.
    TestFailed = 0x14,
    /// This node may not go on: another build, or a newer term. 43.
    Refused = 0x15,
    /// The power cut that a [fault point](crate::fault) stands for. Nothing is said before it. 45.
    Fault = 0x16,
}

/// What `cptctl` is asked. The thesis's `cptctl(ranges, nranges, op)`.
#[derive(Debug)]
pub enum Cptctl<'a> {
    /// `CPT_INSTALL`: these ranges are checkpointed from now on. All or none. Their pages count as dirty.
    Install(&'a [PageRange]),
    /// `CPT_PURGE`: these ranges, each exactly as installed, are no longer. All or none.
    Purge(&'a [PageRange]),
    /// `CPT_PURGE_ALL`: no range is.
    PurgeAll,
    /// `CPT_QUERY` outside a child: the installed ranges themselves, ascending. (In a child
    /// [`Frozen::dirty`] is the query.)
    Installed(&'a mut [PageRange]),
}

/// Why `cptctl` refused. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CptctlError {
    /// The range is not inside the checkpointable memory, or a page of it is not mapped.
    NotMapped(PageRange),
    /// The range shares a page with an installed one, or with another of the same call.
    Overlaps(PageRange),
    /// No installed range is exactly this one.
    NotInstalled(PageRange),
    /// There is no room for more ranges.
    TooMany,
}

impl fmt::Display for CptctlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CptctlError::NotMapped(range) => write!(f, "{range} is not mapped checkpointable memory"),
            CptctlError::Overlaps(range) => write!(f, "{range} overlaps a checkpoint range"),
            CptctlError::NotInstalled(range) => {
                write!(f, "{range} is not exactly an installed checkpoint range")
            }
            CptctlError::TooMany => f.write_str("the table of checkpoint ranges is full"),
        }
    }
}

/// Why checkpointable memory could not be mapped or unmapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// Outside the window.
    OutsideWindow(PageRange),
    /// A page of it is mapped already (or, for unmapping, is not).
    Conflict(PageRange),
    /// Part of an installed checkpoint range; purge that first.
    Installed(PageRange),
    /// No frames are left.
    OutOfFrames,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MapError::OutsideWindow(range) => write!(f, "{range} is outside the checkpoint window"),
            MapError::Conflict(range) => write!(f, "a page of {range} is mapped already, or not mapped"),
            MapError::Installed(range) => write!(f, "{range} is part of an installed checkpoint range"),
            MapError::OutOfFrames => f.write_str("no memory is left for checkpointable pages"),
        }
    }
}

/// What a checkpoint child sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum View {
    /// Only the pages modified since the last `cptfork`.
    Incremental,
    /// Only the pages modified since the last `cptfork`, copied before this one returns, so that no write faults
    /// afterwards. For few pages; where there are many, a kernel may freeze some of them after all.
    Copied,
    /// Every page of every installed range.
    Whole,
}

/// Why a child was not made. Nothing was changed; the dirty state is as before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CptforkError {
    /// `ncon` children are alive.
    TooManyChildren,
    /// Not enough frames to freeze the view.
    OutOfFrames,
}

impl fmt::Display for CptforkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CptforkError::TooManyChildren => "as many checkpoints as allowed (hs.ncon) are in progress",
            CptforkError::OutOfFrames => "not enough memory is left to freeze the checkpoint",
        })
    }
}

/// Why a child cannot have a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrozenError {
    /// The page at this address is not in the child's view.
    OutsideView(usize),
    /// The checkpoint was cancelled: memory ran dry, and the application's write came first.
    Cancelled,
}

impl fmt::Display for FrozenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrozenError::OutsideView(address) => {
                write!(f, "page {address:#x} is outside the checkpoint's view")
            }
            FrozenError::Cancelled => f.write_str("the checkpoint was cancelled because memory ran out"),
        }
    }
}

/// The frozen memory, as a checkpoint child sees it.
pub trait Frozen {
    /// `CPT_QUERY`: the ranges modified between the last `cptfork` and this one, ascending and coalesced.
    /// Returns how many there are; a buffer too short is left as it was.
    fn dirty(&self, buffer: &mut [PageRange]) -> usize;

    /// Copies the frozen page at `address`.
    ///
    /// # Errors
    /// The page is not in the view, or the checkpoint was cancelled.
    fn copy_page(&self, address: usize, into: &mut [u8; PAGE_LEN]) -> Result<(), FrozenError>;

    /// As [`copy_page`](Frozen::copy_page), for the last time: the page leaves the view, and one that nobody else needs is
    /// unfrozen at once, so that the application's next write to it costs nothing. What was asked of a page after it was
    /// taken is not defined where this is not implemented.
    ///
    /// # Errors
    /// The page is not in the view (any more), or the checkpoint was cancelled.
    fn take_page(&self, address: usize, into: &mut [u8; PAGE_LEN]) -> Result<(), FrozenError> {
        self.copy_page(address, into)
    }

    /// From here to [`leave`](Frozen::leave) the child's thread finds the frozen memory at its own addresses too, where the
    /// machine can do that, and is stopped if it looks beside it. Not so from the start: an address space of one's own makes
    /// every switch of threads dearer, and a child that only takes pages has no use for it.
    fn enter(&self) {}

    /// Back where the child began. At its end it is brought back anyway.
    fn leave(&self) {}
}

/// What became of a checkpoint, as its child found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Some other machine has it: the dirty bits that it took are retired.
    Kept,
    /// It is lost: its pages count as dirty again.
    Lost,
}

/// What a checkpoint child does. It must not touch the window but through [`Frozen`], or after [`Frozen::enter`].
pub type ChildBody = Box<dyn FnOnce(&dyn Frozen) -> Outcome + Send>;

/// What is done once a checkpoint child is gone: its pages are retired or merged back, and its place among the
/// `ncon` is free, so that whoever is told may call `cptfork` at once. (Told by the body itself, a more urgent thread
/// would find the place still taken, and the dirty bits of a lost checkpoint not yet merged back.) It runs on the child's
/// thread with no lock of the memory held, and must not touch the window.
pub type EndedHook = Box<dyn FnOnce(Outcome) + Send>;

/// Variables of the program that are checkpointed: the linker has given them addresses in the window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Statics {
    /// Where they lie.
    pub range: PageRange,
    /// What they are at the program's start, at most as long as the range; zero behind that.
    pub initial: &'static [u8],
}

/// Memory that can be checkpointed: a window of addresses that is the same on every machine.
pub trait CheckpointMemory: Sync {
    /// All addresses that may ever be mapped.
    fn window(&self) -> PageRange;

    /// The program's checkpointed variables, if it has any. They are there once the library was started or adopted.
    fn statics(&self) -> Option<Statics> {
        None
    }

    /// Maps zeroed pages, wired.
    ///
    /// # Errors
    /// See [`MapError`]; nothing is mapped then.
    fn map(&self, range: PageRange) -> Result<(), MapError>;

    /// Unmaps pages and frees what only they held. Live children keep their view.
    ///
    /// # Errors
    /// See [`MapError`]; nothing is unmapped then.
    fn unmap(&self, range: PageRange) -> Result<(), MapError>;

    /// The thesis's `cptctl`. Returns the number of ranges that it handled, or for
    /// [`Cptctl::Installed`] the number that there are (a buffer too short is left as it was).
    ///
    /// # Errors
    /// See [`CptctlError`]; nothing is changed then.
    fn cptctl(&self, request: Cptctl<'_>) -> Result<usize, CptctlError>;

    /// The thesis's `cptfork`: freezes the installed ranges and runs `child` beside the caller.
    ///
    /// # Errors
    /// See [`CptforkError`].
    fn cptfork(&self, view: View, child: ChildBody) -> Result<(), CptforkError> {
        self.cptfork_then(view, child, Box::new(|_| ()))
    }

    /// [`cptfork`](CheckpointMemory::cptfork) that also says when the child is gone.
    ///
    /// # Errors
    /// See [`CptforkError`]; neither `child` nor `ended` is called then.
    fn cptfork_then(&self, view: View, child: ChildBody, ended: EndedHook) -> Result<(), CptforkError>;

    /// Whether it knows which pages were modified since the last `cptfork`. Otherwise all count as modified each time, and every
    /// checkpoint is a full one.
    fn knows_modified(&self) -> bool {
        true
    }

    /// A page to stage a received one in, its contents undefined, or `None` if no frame is left.
    fn stage(&self) -> Option<StagedPage>;

    /// Puts a staged page in place of the mapped page at `address`, with its contents. It counts as clean.
    ///
    /// # Errors
    /// Nothing is mapped there.
    fn place(&self, address: usize, page: StagedPage) -> Result<(), MapError>;

    /// Lets `change` change the mapped page at `address` in place. That does not count as a modification. Whoever calls it is the only one that
    /// has to do with the window, and no checkpoint child is alive.
    ///
    /// # Errors
    /// Nothing is mapped there; `change` was not called.
    fn patch(&self, address: usize, change: &mut dyn FnMut(&mut [u8; PAGE_LEN])) -> Result<(), MapError>;

    /// Takes back a staged page that was not placed. Called by [`StagedPage`] when it is dropped.
    fn unstage(&self, bytes: &'static mut [u8; PAGE_LEN]);
}

/// A page of its own, outside the window, on its way in.
pub struct StagedPage {
    bytes: Option<&'static mut [u8; PAGE_LEN]>,
    owner: &'static dyn CheckpointMemory,
}

impl StagedPage {
    /// For implementations of [`CheckpointMemory::stage`].
    pub fn new(bytes: &'static mut [u8; PAGE_LEN], owner: &'static dyn CheckpointMemory) -> Self {
        Self {
            bytes: Some(bytes),
            owner,
        }
    }

    /// For implementations of [`CheckpointMemory::place`]: the page itself.
    pub fn into_bytes(mut self) -> &'static mut [u8; PAGE_LEN] {
        self.bytes
            .take()
            .expect("a staged page has its bytes until it is consumed")
    }
}

impl Deref for StagedPage {
    type Target = [u8; PAGE_LEN];

    fn deref(&self) -> &[u8; PAGE_LEN] {
        self.bytes
            .as_ref()
            .expect("a staged page has its bytes until it is consumed")
    }
}

impl DerefMut for StagedPage {
    fn deref_mut(&mut self) -> &mut [u8; PAGE_LEN] {
        self.bytes
            .as_mut()
            .expect("a staged page has its bytes until it is consumed")
    }
}

impl Drop for StagedPage {
    fn drop(&mut self) {
        if let Some(bytes) = self.bytes.take() {
            self.owner.unstage(bytes);
        }
    }
}

/// The device's transmit ring is full: try again when it has raised its signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingFull;

/// A network interface card. Frames are Ethernet frames without the checksum.
pub trait Nic: Sync {
    /// The card's own address.
    fn mac(&self) -> [u8; 6];

    /// Longest frame, with the 14 bytes of the Ethernet header.
    fn frame_len_max(&self) -> usize;

    /// Hands the oldest received frame to `with`; `false` if there was none.
    fn receive(&self, with: &mut dyn FnMut(&[u8])) -> bool;

    /// Queues a copy of the frame that `parts` make up together. The device may hear of it only at the next
    /// [`kick`](Nic::kick).
    ///
    /// # Errors
    /// The ring is full, or (logged) the frame is too long for the card and was dropped as if sent.
    fn transmit_parts(&self, parts: &[&[u8]]) -> Result<(), RingFull>;

    /// [`transmit_parts`](Nic::transmit_parts) for a frame in one piece.
    ///
    /// # Errors
    /// As there.
    fn transmit(&self, frame: &[u8]) -> Result<(), RingFull> {
        self.transmit_parts(&[frame])
    }

    /// Tells the device of the queued frames.
    fn kick(&self);

    /// Raises `signal` whenever a frame has arrived or, after [`RingFull`], room is there again.
    fn notify(&self, signal: &'static crate::sync::Signal);
}

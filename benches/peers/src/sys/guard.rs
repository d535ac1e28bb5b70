//! Copy on write by signal: memory is protected, and the handler of the first write to a page saves the old page in a buffer
//! and opens it.
//!
//! One guard at a time in a process, because a signal has one handler. Where a page is written, its neighbours often are:
//! the handler opens with it the pages after it that were written in the epoch before too, so that a run costs one signal.
//! (What `lazy` knows of hot pages, a library on Linux may know as well.)

use std::io;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed,
};

use super::check;
use super::map::{Mapping, PAGE_LEN, protect};
use super::uffd::{Uffd, write_protect};

/// Most pages that one signal opens.
const RUN_PAGES_MAX: usize = 16;
/// The epoch before the first checkpoint. Not 0: that marks a page that was never opened.
const FIRST_EPOCH: u32 = 1;
/// No descriptor: protected by `mprotect`.
const NO_FILE: i32 = -1;

/// The guard that the handler serves.
static ACTIVE: AtomicPtr<State> = AtomicPtr::new(ptr::null_mut());
/// Whether there is a guard.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// What the handler works on. Atomic because a handler interrupts; it runs on the thread that writes.
struct State {
    memory: Range<usize>,
    copies: Range<usize>,
    /// Of `copies`, in pages.
    used: AtomicUsize,
    epoch: AtomicU32,
    /// For each page: the newest epoch in which it was opened.
    opened_in: Vec<AtomicU32>,
    /// And where its old contents stand, in pages of `copies`.
    slots: Vec<AtomicU32>,
    uffd: i32,
    signals: AtomicU64,
    errno: AtomicI32,
}

/// Memory under guard.
pub(crate) struct Guard<'m> {
    state: Box<State>,
    memory: &'m Mapping,
    copies: Mapping,
    uffd: Option<Uffd>,
    signal: libc::c_int,
    former: libc::sigaction,
}

impl<'m> Guard<'m> {
    /// Guards `memory`, with room for as many old pages of an epoch as there are in `likely`: the numbers of those that count as
    /// written before the first epoch. With `uffd` it is write-protected by that (which it
    /// is registered with, and which tells by SIGBUS), without by `mprotect`. Nothing is protected yet.
    ///
    /// # Errors
    /// There is a guard already, or no address space for the copies.
    pub(crate) fn new(memory: &'m Mapping, likely: &[usize], uffd: Option<Uffd>) -> io::Result<Self> {
        let copies_bytes = likely.len() * PAGE_LEN;
        let copies = Mapping::ready_buffer(copies_bytes)?;
        let pages = memory.len_bytes() / PAGE_LEN;
        let zeros = || std::iter::repeat_with(|| AtomicU32::new(0)).take(pages).collect();
        let state = Box::new(State {
            memory: memory.address()..memory.address() + memory.len_bytes(),
            copies: copies.address()..copies.address() + copies_bytes,
            used: AtomicUsize::new(0),
            epoch: AtomicU32::new(FIRST_EPOCH),
            opened_in: zeros(),
            slots: zeros(),
            uffd: uffd.as_ref().map_or(NO_FILE, Uffd::number),
            signals: AtomicU64::new(0),
            errno: AtomicI32::new(0),
        });
        for page in likely {
            state.opened_in[*page].store(FIRST_EPOCH, Relaxed);
        }
        if IS_TAKEN.swap(true, Relaxed) {
            return Err(io::Error::other("the process has guarded memory already"));
        }
        let signal = if uffd.is_some() {
            libc::SIGBUS
        } else {
            libc::SIGSEGV
        };
        ACTIVE.store(ptr::from_ref(&*state).cast_mut(), Relaxed);
        // SAFETY: a structure of numbers; all zeros is a value of it.
        let (mut action, mut former): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        // SAFETY: the handler keeps to what a handler may do; both structures live until the call has returned.
        let result = check(unsafe { libc::sigaction(signal, &raw const action, &raw mut former) });
        let guard = Self {
            state,
            memory,
            copies,
            uffd,
            signal,
            former,
        };
        result.map(|_| guard)
    }

    /// Begins an epoch: everything is protected, and the copies of the epoch before are given up.
    ///
    /// # Errors
    /// The kernel's, now or in the handler.
    #[inline]
    pub(crate) fn protect(&self) -> io::Result<()> {
        self.state.epoch.fetch_add(1, Relaxed);
        self.state.used.store(0, Relaxed);
        match &self.uffd {
            Some(uffd) => uffd.protect(self.memory),
            None => self.memory.protect(false),
        }
    }

    /// Signals handled so far.
    ///
    /// # Errors
    /// The handler had no room for a copy, or the kernel refused to open a page: the snapshot is not whole.
    pub(crate) fn signals(&self) -> io::Result<u64> {
        match self.state.errno.load(Relaxed) {
            0 => Ok(self.state.signals.load(Relaxed)),
            libc::ENOBUFS => Err(io::Error::other(
                "more pages were written than the buffer of old pages holds",
            )),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Copies page number `page` as it was when the epoch began.
    pub(crate) fn copy_page(&self, page: usize, into: &mut [u8; PAGE_LEN]) {
        if self.state.opened_in[page].load(Relaxed) == self.state.epoch.load(Relaxed) {
            let slot = self.state.slots[page].load(Relaxed) as usize;
            self.copies.read(slot * PAGE_LEN, into);
        } else {
            self.memory.read(page * PAGE_LEN, into);
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if self.uffd.is_none() {
            // Fails only where the map has no room to split, and this merges.
            let _ = self.memory.protect(true);
        }
        // With a userfaultfd the protection ends with its file, before anyone writes again.
        self.uffd = None;
        // SAFETY: puts back what was there before.
        unsafe { libc::sigaction(self.signal, &raw const self.former, ptr::null_mut()) };
        ACTIVE.store(ptr::null_mut(), Relaxed);
        IS_TAKEN.store(false, Relaxed);
    }
}

/// The handler: saves the page that was written to, and those that are likely next, and opens them.
extern "C" fn on_signal(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives the signal's details; these signals have an address.
    let address = unsafe { (*info).si_addr() } as usize;
    // SAFETY: while the handler is installed the state lives; it is reached through shared references only.
    let state = unsafe { ACTIVE.load(Relaxed).as_ref() };
    match state {
        Some(state) if state.memory.contains(&address) && state.open(address) => {}
        // Not ours, or beyond help: the same access meets the default action.
        // SAFETY: a call that a handler may make.
        _ => unsafe {
            libc::signal(signal, libc::SIG_DFL);
        },
    }
}

impl State {
    /// Whether the page at `address` can be written to now.
    fn open(&self, address: usize) -> bool {
        self.signals.fetch_add(1, Relaxed);
        let page = (address - self.memory.start) / PAGE_LEN;
        let epoch = self.epoch.load(Relaxed);
        let likely = self.opened_in[page + 1..]
            .iter()
            .take(RUN_PAGES_MAX - 1)
            .take_while(|opened_in| opened_in.load(Relaxed) == epoch - 1)
            .count();
        let (count, slot) = (1 + likely, self.used.load(Relaxed));
        if (slot + count) * PAGE_LEN > self.copies.len() {
            return self.give_up(libc::ENOBUFS);
        }
        let start = self.memory.start + page * PAGE_LEN;
        let copy = self.copies.start + slot * PAGE_LEN;
        // SAFETY: within the guarded memory, which is readable, and within the buffer, which is the guard's own.
        unsafe {
            ptr::copy_nonoverlapping(start as *const u8, copy as *mut u8, count * PAGE_LEN);
        }
        self.used.store(slot + count, Relaxed);
        for (nth, page) in (page..page + count).enumerate() {
            self.slots[page].store((slot + nth) as u32, Relaxed);
            self.opened_in[page].store(epoch, Relaxed);
        }
        if self.make_writable(start, count * PAGE_LEN) {
            return true;
        }
        self.give_up(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }

    /// Opens everything, so that the writer goes on, and remembers why.
    fn give_up(&self, errno: i32) -> bool {
        self.errno.store(errno, Relaxed);
        self.make_writable(self.memory.start, self.memory.len())
    }

    fn make_writable(&self, start: usize, len_bytes: usize) -> bool {
        if self.uffd == NO_FILE {
            // SAFETY: the guarded mapping's own memory.
            unsafe { protect(start, len_bytes, true) == 0 }
        } else {
            write_protect(self.uffd, start, len_bytes, false) == 0
        }
    }
}

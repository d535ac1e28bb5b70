//! Anonymous memory: mapped, advised, protected, wired, and written or read at checked offsets.

use std::io;
use std::ops::Range;
use std::ptr;

use super::check;

/// Length of a page in bytes.
pub(crate) const PAGE_LEN: usize = 4096;
/// Length of a huge page in bytes.
pub(crate) const HUGE_LEN: usize = 2 << 20;

/// Whom a write reaches after a fork.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sharing {
    /// The writer only: copied on write.
    Private,
    /// Parent and children.
    Shared,
}

/// What the kernel is advised about a part of a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Advice {
    /// Pages of 4 KiB only.
    SmallPages,
    /// Huge pages where they fit.
    HugePages,
    /// Put into huge pages now (Linux 6.1 and newer).
    Collapse,
    /// Leave out of children.
    DropInChild,
    /// Leave out of core dumps: has no effect here but that neighbours of other advice stay map entries of their own.
    OwnEntry,
}

impl Advice {
    fn number(self) -> libc::c_int {
        match self {
            Advice::SmallPages => libc::MADV_NOHUGEPAGE,
            Advice::HugePages => libc::MADV_HUGEPAGE,
            Advice::Collapse => libc::MADV_COLLAPSE,
            Advice::DropInChild => libc::MADV_DONTFORK,
            Advice::OwnEntry => libc::MADV_DONTDUMP,
        }
    }
}

/// Memory of our own, unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    address: usize,
    len_bytes: usize,
}

impl Mapping {
    /// Maps `len_bytes` (rounded up to pages) that begin at a multiple of [`HUGE_LEN`]. Nothing is populated.
    ///
    /// # Errors
    /// There is no address space for it.
    pub(crate) fn new(len_bytes: usize, sharing: Sharing) -> io::Result<Self> {
        let len_bytes = len_bytes.max(1).next_multiple_of(PAGE_LEN);
        let reserved_bytes = len_bytes + HUGE_LEN;
        let sharing = match sharing {
            Sharing::Private => libc::MAP_PRIVATE,
            Sharing::Shared => libc::MAP_SHARED,
        };
        // SAFETY: a new mapping where there is none.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                reserved_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                sharing | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let reserved = start as usize..start as usize + reserved_bytes;
        let mapping = Self {
            address: reserved.start.next_multiple_of(HUGE_LEN),
            len_bytes,
        };
        let end = mapping.address + len_bytes;
        for rest in [reserved.start..mapping.address, end..reserved.end] {
            if !rest.is_empty() {
                // SAFETY: a part of what was just mapped, and of which nobody knows.
                check(unsafe { libc::munmap(rest.start as *mut libc::c_void, rest.len()) })?;
            }
        }
        Ok(mapping)
    }

    /// A buffer of at least `len_bytes` that is ready: wholly over huge pages where the kernel has them, and touched. Children
    /// do not get it.
    ///
    /// # Errors
    /// There is no address space for it.
    pub(crate) fn ready_buffer(len_bytes: usize) -> io::Result<Self> {
        let buffer = Self::new(len_bytes.next_multiple_of(HUGE_LEN), Sharing::Private)?;
        // A kernel without huge pages refuses; the buffer serves all the same.
        let _ = buffer.advise(0..buffer.len_bytes, Advice::HugePages);
        buffer.advise(0..buffer.len_bytes, Advice::DropInChild)?;
        buffer.populate();
        Ok(buffer)
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> usize {
        self.address
    }

    /// How long it is.
    pub(crate) fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Advises the kernel about `part`, in bytes from the start.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn advise(&self, part: Range<usize>, advice: Advice) -> io::Result<()> {
        let (start, len) = self.part(&part);
        // SAFETY: the part is ours, and none of these advices changes what stands in it.
        check(unsafe { libc::madvise(start, len, advice.number()) }).map(drop)
    }

    /// Makes everything readable only, or writable again.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn protect(&self, is_writable: bool) -> io::Result<()> {
        // SAFETY: the memory is ours, and nobody holds a reference into it.
        check(unsafe { protect(self.address, self.len_bytes, is_writable) }).map(drop)
    }

    /// Wires everything: it is populated, and stays in memory.
    ///
    /// # Errors
    /// The kernel's; often the limit of locked memory (`ulimit -l`).
    pub(crate) fn wire(&self) -> io::Result<()> {
        // SAFETY: the memory is ours.
        check(unsafe { libc::mlock(self.address as *const libc::c_void, self.len_bytes) }).map(drop)
    }

    /// Undoes [`wire`](Self::wire).
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn unwire(&self) -> io::Result<()> {
        // SAFETY: the memory is ours.
        check(unsafe { libc::munlock(self.address as *const libc::c_void, self.len_bytes) }).map(drop)
    }

    /// Writes to every page, so that none is missing afterwards.
    pub(crate) fn populate(&self) {
        for offset in (0..self.len_bytes).step_by(PAGE_LEN) {
            self.write_word(offset, 0);
        }
    }

    /// Writes `word` at each of `offsets` (in bytes, multiples of 8).
    ///
    /// # Panics
    /// If one is beyond the end or not aligned.
    #[inline]
    pub(crate) fn write_words(&self, offsets: &[usize], word: u64) {
        for offset in offsets {
            self.write_word(*offset, word);
        }
    }

    #[inline]
    fn write_word(&self, offset: usize, word: u64) {
        assert!(
            offset < self.len_bytes && offset.is_multiple_of(8),
            "{offset} is no word of the mapping"
        );
        // SAFETY: within the mapping (whose length is a multiple of 8) and aligned; nobody holds a reference into it.
        unsafe { ((self.address + offset) as *mut u64).write_volatile(word) }
    }

    /// Copies what stands at `offset` into `into`.
    ///
    /// # Panics
    /// If that is beyond the end.
    pub(crate) fn read(&self, offset: usize, into: &mut [u8]) {
        let (start, len) = self.part(&(offset..offset + into.len()));
        // SAFETY: within the mapping, and `into` is memory of its own.
        unsafe { ptr::copy_nonoverlapping(start.cast(), into.as_mut_ptr(), len) }
    }

    /// Copies `part` of `source` to `offset`.
    ///
    /// # Panics
    /// If either is beyond its end.
    #[inline]
    pub(crate) fn copy_from(&self, offset: usize, source: &Mapping, part: Range<usize>) {
        let (to, len) = self.part(&(offset..offset + part.len()));
        let (from, _) = source.part(&part);
        // SAFETY: both within their mappings, which do not overlap unless they are the same one; memmove allows that.
        unsafe { ptr::copy(from.cast::<u8>(), to.cast::<u8>(), len) }
    }

    /// Start and length of `part`, which lies in the mapping.
    fn part(&self, part: &Range<usize>) -> (*mut libc::c_void, usize) {
        assert!(
            part.start <= part.end && part.end <= self.len_bytes,
            "{part:?} is beyond the mapping"
        );
        ((self.address + part.start) as *mut libc::c_void, part.len())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the memory is ours, and nobody holds a reference into it.
        unsafe { libc::munmap(self.address as *mut libc::c_void, self.len_bytes) };
    }
}

/// `mprotect`, also for a signal handler.
///
/// # Safety
/// The memory belongs to a [`Mapping`].
pub(super) unsafe fn protect(address: usize, len_bytes: usize, is_writable: bool) -> libc::c_int {
    let rights = if is_writable {
        libc::PROT_READ | libc::PROT_WRITE
    } else {
        libc::PROT_READ
    };
    // SAFETY: the caller's.
    unsafe { libc::mprotect(address as *mut libc::c_void, len_bytes, rights) }
}

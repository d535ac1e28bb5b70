//! `userfaultfd` in its write-protect mode: numbers and structures by hand from the kernel's interface
//! (`include/uapi/linux/userfaultfd.h`).
//!
//! Deliberately absent: reading events. With [`Feature::Sigbus`] a fault comes as a signal to the thread that made it, with
//! [`Feature::Asynchronous`] the kernel resolves it by itself; both are quicker than a second thread.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::check;
use super::map::Mapping;

const API_VERSION: u64 = 0xaa;
const USER_MODE_ONLY: libc::c_int = 1;
const REGISTER_MODE_WP: u64 = 1 << 1;
const WRITEPROTECT_MODE_WP: u64 = 1 << 0;

const IOCTL_API: libc::c_ulong = 0xc018_aa3f;
const IOCTL_REGISTER: libc::c_ulong = 0xc020_aa00;
const IOCTL_WRITEPROTECT: libc::c_ulong = 0xc018_aa06;

#[repr(C)]
struct Api {
    version: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct Register {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct WriteProtect {
    start: u64,
    len: u64,
    mode: u64,
}

/// How a write to a protected page is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Feature {
    /// By SIGBUS to the thread that wrote.
    Sigbus,
    /// Not at all: the kernel lifts the protection and remembers that (Linux 6.7 and newer).
    Asynchronous,
}

impl Feature {
    fn bits(self) -> u64 {
        const PAGEFAULT_FLAG_WP: u64 = 1 << 0;
        const SIGBUS: u64 = 1 << 7;
        const WP_ASYNC: u64 = 1 << 15;
        match self {
            Feature::Sigbus => PAGEFAULT_FLAG_WP | SIGBUS,
            Feature::Asynchronous => PAGEFAULT_FLAG_WP | WP_ASYNC,
        }
    }
}

/// A `userfaultfd`. What is registered with it ends when it is dropped.
pub(crate) struct Uffd {
    file: OwnedFd,
}

impl Uffd {
    /// Opens one for faults of user code.
    ///
    /// # Errors
    /// The kernel has no `userfaultfd`, or not this feature, or forbids it.
    pub(crate) fn open(feature: Feature) -> io::Result<Self> {
        // SAFETY: takes a number, touches no memory.
        let file = check(
            unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | USER_MODE_ONLY) } as libc::c_int,
        )?;
        // SAFETY: a new file that nobody else has.
        let file = unsafe { OwnedFd::from_raw_fd(file) };
        let mut api = Api {
            version: API_VERSION,
            features: feature.bits(),
            ioctls: 0,
        };
        // SAFETY: the structure that this number is for; it lives until the call has returned.
        check(unsafe { libc::ioctl(file.as_raw_fd(), IOCTL_API, &raw mut api) })?;
        Ok(Self { file })
    }

    /// Watches writes to all of `mapping`.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn register(&self, mapping: &Mapping) -> io::Result<()> {
        let mut register = Register {
            start: mapping.address() as u64,
            len: mapping.len_bytes() as u64,
            mode: REGISTER_MODE_WP,
            ioctls: 0,
        };
        // SAFETY: the structure that this number is for; it lives until the call has returned.
        check(unsafe { libc::ioctl(self.file.as_raw_fd(), IOCTL_REGISTER, &raw mut register) }).map(drop)
    }

    /// Write-protects all of `mapping`, which is registered.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn protect(&self, mapping: &Mapping) -> io::Result<()> {
        let (address, len_bytes) = (mapping.address(), mapping.len_bytes());
        check(write_protect(self.number(), address, len_bytes, true)).map(drop)
    }

    /// The file's number, for a signal handler.
    pub(crate) fn number(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// Protects or opens memory that is registered with `file`, also for a signal handler: 0, or -1 and `errno`.
pub(super) fn write_protect(
    file: RawFd,
    address: usize,
    len_bytes: usize,
    is_protected: bool,
) -> libc::c_int {
    let mut order = WriteProtect {
        start: address as u64,
        len: len_bytes as u64,
        mode: if is_protected { WRITEPROTECT_MODE_WP } else { 0 },
    };
    // SAFETY: the structure that this number is for; it lives until the call has returned. Whatever the memory is, its
    // contents stay.
    unsafe { libc::ioctl(file, IOCTL_WRITEPROTECT, &raw mut order) }
}

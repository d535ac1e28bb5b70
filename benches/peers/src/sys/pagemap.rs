//! `PAGEMAP_SCAN` (Linux 6.7 and newer): asks for written pages and write-protects them again, in one call. Numbers and
//! structures by hand from the kernel's interface (`include/uapi/linux/fs.h`).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

use super::check;

const IOCTL_SCAN: libc::c_ulong = 0xc060_6610;
const PAGE_IS_WRITTEN: u64 = 1 << 1;
const SCAN_WP_MATCHING: u64 = 1 << 0;
const SCAN_CHECK_WPASYNC: u64 = 1 << 1;

#[repr(C)]
#[derive(Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    pages_max: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// Addresses of neighbouring pages that were written.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct WrittenRun {
    /// Address of the first byte.
    pub(crate) start: u64,
    /// Address after the last.
    pub(crate) end: u64,
    categories: u64,
}

/// Lists pages in `addresses` that were written since they were last write-protected (with
/// [`Asynchronous`](super::uffd::Feature::Asynchronous)) into `runs`, and protects them again. Returns how many runs there
/// are, and the address up to which it came: `runs` was too short for the rest.
///
/// # Errors
/// The kernel has no `PAGEMAP_SCAN`, or the memory is not registered.
pub(crate) fn take_written(
    pagemap: &File,
    addresses: Range<usize>,
    runs: &mut [WrittenRun],
) -> io::Result<(usize, usize)> {
    let mut scan = Scan {
        size: size_of::<Scan>() as u64,
        flags: SCAN_WP_MATCHING | SCAN_CHECK_WPASYNC,
        start: addresses.start as u64,
        end: addresses.end as u64,
        vec: runs.as_mut_ptr() as u64,
        vec_len: runs.len() as u64,
        category_mask: PAGE_IS_WRITTEN,
        return_mask: PAGE_IS_WRITTEN,
        ..Scan::default()
    };
    // SAFETY: the structure that this number is for, and a list of as many of its elements as it says; both live until the
    // call has returned.
    let count = check(unsafe { libc::ioctl(pagemap.as_raw_fd(), IOCTL_SCAN, &raw mut scan) })?;
    Ok((count as usize, scan.walk_end as usize))
}

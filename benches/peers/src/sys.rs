//! System calls that the standard library does not have, behind safe functions: the only `unsafe` code of the crate.
//!
//! Each file is one part of the kernel's interface. Memory that is measured is a [`map::Mapping`]: it is reached through
//! offsets that are checked, never through references, because other processes, handlers and protections work on it.

pub(crate) mod guard;
pub(crate) mod machine;
pub(crate) mod map;
pub(crate) mod pagemap;
pub(crate) mod process;
pub(crate) mod uffd;

use std::io;

/// The result of a call that says -1 and leaves its reason in `errno`.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

//! What only the first process of a machine does: mounts, the serial line, the end of the machine.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::check;

/// Mounts a file system that the kernel makes by itself, `kind`, on `on`.
///
/// # Errors
/// The kernel's; `EBUSY` if it is there already.
pub(crate) fn mount(kind: &CStr, on: &CStr) -> io::Result<()> {
    // SAFETY: strings that end with a zero; no options.
    check(unsafe { libc::mount(kind.as_ptr(), on.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) }).map(drop)
}

/// Lets bytes through `line` as they are: no echo, no carriage returns.
///
/// # Errors
/// It is no serial line.
pub(crate) fn make_raw(line: &File) -> io::Result<()> {
    // SAFETY: a structure of numbers; all zeros is a value of it.
    let mut settings: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: it lives until the calls have returned.
    unsafe {
        check(libc::tcgetattr(line.as_raw_fd(), &raw mut settings))?;
        libc::cfmakeraw(&raw mut settings);
        check(libc::tcsetattr(
            line.as_raw_fd(),
            libc::TCSANOW,
            &raw const settings,
        ))
        .map(drop)
    }
}

/// Waits until everything has left `line`.
///
/// # Errors
/// It is no serial line.
pub(crate) fn drain(line: &File) -> io::Result<()> {
    // SAFETY: takes a number, touches no memory.
    check(unsafe { libc::tcdrain(line.as_raw_fd()) }).map(drop)
}

/// Ends the machine: QEMU exits with `value << 1 | 1` if it has `isa-debug-exit` at `port`; else the power goes off.
///
/// # Panics
/// If even that is refused: we are not root.
pub(crate) fn end(port: u16, value: u8) -> ! {
    // SAFETY: the right to one port, which nothing else on this machine uses; the machine is at its end.
    unsafe {
        if libc::ioperm(port.into(), 1, 1) == 0 {
            std::arch::asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack));
        }
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
    panic!("the machine cannot be turned off: {}", io::Error::last_os_error());
}

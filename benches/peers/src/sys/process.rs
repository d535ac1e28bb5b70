//! Forked children that hold a snapshot, and what a process has used.
//!
//! A child says that it is there, then waits for requests on a pipe: the address of a page, which it writes back as it
//! sees it, or the order to end. It is blocked, and its memory stays as it was at the fork. After the fork it makes system
//! calls only, so that a process with more than one thread may have it too.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use super::check;
use super::map::PAGE_LEN;

/// No address: the child ends.
const END: u64 = u64::MAX;
/// What a child says first.
const HELLO: u8 = 1;

/// The pipes for a child that is not forked yet: made beforehand, so that a fork is measured alone.
pub(crate) struct Pipes {
    requests: (PipeReader, PipeWriter),
    replies: (PipeReader, PipeWriter),
}

impl Pipes {
    /// Makes them.
    ///
    /// # Errors
    /// There are too many files open.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            requests: io::pipe()?,
            replies: io::pipe()?,
        })
    }
}

/// A child that holds a snapshot. Killed when dropped, unless it was ended.
pub(crate) struct Child {
    pid: libc::pid_t,
    pipes: Pipes,
    has_ended: bool,
}

impl Child {
    /// Forks a child that waits for requests on `pipes`.
    ///
    /// # Errors
    /// The kernel has no room for it.
    #[inline]
    pub(crate) fn fork(pipes: Pipes) -> io::Result<Self> {
        let ends = [
            pipes.requests.0.as_raw_fd(),
            pipes.requests.1.as_raw_fd(),
            pipes.replies.1.as_raw_fd(),
        ];
        // SAFETY: the child makes system calls only, and never returns from `serve`.
        let pid = check(unsafe { libc::fork() })?;
        if pid == 0 {
            serve(ends);
        }
        Ok(Self {
            pid,
            pipes,
            has_ended: false,
        })
    }

    /// Waits until the child runs and is about to block.
    ///
    /// # Errors
    /// It ended.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        let mut hello = [0];
        self.pipes.replies.0.read_exact(&mut hello)
    }

    /// What the child sees in the page at `address`.
    ///
    /// # Errors
    /// It ended, or does not have the page.
    pub(crate) fn copy_page(&mut self, address: usize, into: &mut [u8; PAGE_LEN]) -> io::Result<()> {
        self.pipes.requests.1.write_all(&(address as u64).to_ne_bytes())?;
        self.pipes.replies.0.read_exact(into)
    }

    /// Ends the child, and waits until it is gone.
    ///
    /// # Errors
    /// It ended before, by a fault of its own.
    pub(crate) fn end(mut self) -> io::Result<()> {
        self.pipes.requests.1.write_all(&END.to_ne_bytes())?;
        self.has_ended = true;
        match self.wait()? {
            0 => Ok(()),
            status => Err(io::Error::other(format!("the child ended with status {status}"))),
        }
    }

    fn wait(&self) -> io::Result<libc::c_int> {
        let mut status = 0;
        // SAFETY: `status` lives until the call has returned.
        check(unsafe { libc::waitpid(self.pid, &raw mut status, 0) })?;
        Ok(status)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.has_ended {
            // SAFETY: our own child, not waited for yet: its number is still its own.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            let _ = self.wait();
        }
    }
}

/// The life of a child: the request pipe's two ends, and the end to reply on.
fn serve([requests, requests_of_parent, replies]: [RawFd; 3]) -> ! {
    // SAFETY: system calls on files and memory of this process. A page that is not there gives an error, not a fault.
    unsafe {
        let hello = HELLO;
        // Else its end would stay open for ever, and the parent's death unheard of.
        libc::close(requests_of_parent);
        libc::write(replies, (&raw const hello).cast(), 1);
        loop {
            let mut request = END;
            let len = libc::read(requests, (&raw mut request).cast(), size_of::<u64>());
            if len != 8 || request == END {
                libc::_exit(0);
            }
            let written = libc::write(replies, request as *const libc::c_void, PAGE_LEN);
            if written != PAGE_LEN as isize {
                libc::_exit(1);
            }
        }
    }
}

/// What a process has used since its start.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Usage {
    /// Processor time of its own.
    pub(crate) user: Duration,
    /// Processor time of the system on its behalf.
    pub(crate) system: Duration,
    /// Page faults that needed no reading ("page reclaims").
    pub(crate) minor_faults: u64,
}

impl Usage {
    /// Of this process without its children.
    pub(crate) fn of_self() -> Self {
        Self::of(libc::RUSAGE_SELF)
    }

    /// Of this process and the children that it has waited for.
    pub(crate) fn with_children() -> Self {
        let (own, children) = (Self::of_self(), Self::of(libc::RUSAGE_CHILDREN));
        Self {
            user: own.user + children.user,
            system: own.system + children.system,
            minor_faults: own.minor_faults + children.minor_faults,
        }
    }

    /// What was used since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
            minor_faults: self.minor_faults - before.minor_faults,
        }
    }

    fn of(whose: libc::c_int) -> Self {
        // SAFETY: a structure of numbers; all zeros is a value of it.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: it lives until the call has returned; the call fails only for an unknown `whose`.
        unsafe { libc::getrusage(whose, &raw mut usage) };
        let duration = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
        Self {
            user: duration(usage.ru_utime),
            system: duration(usage.ru_stime),
            minor_faults: usage.ru_minflt as u64,
        }
    }
}

/// Makes the pipe behind `pipe` hold `len_bytes`.
///
/// # Errors
/// More than the system allows (`/proc/sys/fs/pipe-max-size`).
pub(crate) fn widen_pipe(pipe: &PipeWriter, len_bytes: usize) -> io::Result<()> {
    // SAFETY: takes a number, touches no memory.
    check(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, len_bytes as libc::c_int) }).map(drop)
}

/// Writes all of `parts` (address, length in bytes) of our own memory into `pipe`, as many at once as the kernel takes.
///
/// # Errors
/// Nobody reads any more, or a part is not there.
pub(crate) fn write_parts(pipe: &PipeWriter, parts: &mut [libc::iovec]) -> io::Result<()> {
    const PARTS_MAX: usize = 1024;
    let mut at = 0;
    while at < parts.len() {
        let batch = &parts[at..parts.len().min(at + PARTS_MAX)];
        // SAFETY: the kernel checks what it reads: a part that is not there gives an error.
        let written = unsafe { libc::writev(pipe.as_raw_fd(), batch.as_ptr(), batch.len() as libc::c_int) };
        if written < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut written = written as usize;
        while at < parts.len() && written >= parts[at].iov_len {
            written -= parts[at].iov_len;
            at += 1;
        }
        if written > 0 {
            parts[at].iov_base = parts[at].iov_base.wrapping_byte_add(written);
            parts[at].iov_len -= written;
        }
    }
    Ok(())
}

/// A part of memory for [`write_parts`].
pub(crate) fn part(address: usize, len_bytes: usize) -> libc::iovec {
    libc::iovec {
        iov_base: address as *mut libc::c_void,
        iov_len: len_bytes,
    }
}

//! A virtqueue of equal buffers, with a device that is not believed.
//!
//! virtio-drivers' queue wants to be told with each completion which buffer it is about, and trusts the
//! caller to know. Here a [`Buffer`] is a value with one owner: whoever holds it may touch it, giving it to
//! the device consumes it, and taking a completion brings it back. What the device says of a completion is
//! checked against that.
//!
//! ```text
//!   Buffer ── give_readable, give_writable, give_request ──► device ── take ──► Buffer, length as the device says
//! ```
//!
//! Interrupts and notifications are suppressed by flags that each side sets for the other and then looks once
//! more. Between the two a store must come before a load, which x86 does not promise: hence the fences, which
//! virtio-drivers leaves out. EVENT_IDX, the other way to do it, is never negotiated: virtio-drivers' check
//! does not wrap, and a queue with batched notifications stops for good after 64 Ki of them.

use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport;
use virtio_drivers::{BufferDirection, Error, Hal, PAGE_SIZE};

/// Descriptors of a queue: as many as QEMU's network card has.
pub const QUEUE_LEN: usize = 256;

/// Bytes that a device may read or write while it has them, and their owner otherwise. Never freed.
#[derive(Debug)]
pub struct Buffer {
    bytes: NonNull<[u8]>,
}

// SAFETY: the bytes belong to this value alone.
unsafe impl Send for Buffer {}

impl Buffer {
    /// Makes `count` zeroed buffers of `len_bytes` each; `None` if there is no memory.
    pub fn allocate<H: Hal>(count: usize, len_bytes: usize) -> Option<Vec<Buffer>> {
        // Each on cache lines of its own.
        let stride = len_bytes.next_multiple_of(64);
        let (physical, first) = H::dma_alloc((stride * count).div_ceil(PAGE_SIZE), BufferDirection::Both);
        if physical == 0 {
            return None;
        }
        let buffer = |index| {
            // SAFETY: inside the pages just allocated.
            let start = unsafe { first.add(index * stride) };
            Buffer {
                bytes: NonNull::slice_from_raw_parts(start, len_bytes),
            }
        };
        Some((0..count).map(buffer).collect())
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the bytes are initialised, never freed, and ours: the device has none that somebody owns.
        unsafe { self.bytes.as_ref() }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`.
        unsafe { self.bytes.as_mut() }
    }
}

/// What the device may do with a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    Read(usize),
    Write,
    /// It reads so many bytes, and may write from there to so many.
    Answer(usize, usize),
}

/// The device has broken the rules: its queue is not looked at any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;

/// A queue and the buffers that the device has.
pub struct Queue<H: Hal> {
    ring: VirtQueue<H, QUEUE_LEN>,
    /// By first descriptor.
    with_device: [Option<(Buffer, Access)>; QUEUE_LEN],
    broken: bool,
}

impl<H: Hal> Queue<H> {
    /// Sets up queue `index` of the device.
    ///
    /// # Errors
    /// virtio-drivers': the queue is too short or in use, or there is no memory.
    pub fn new(transport: &mut impl Transport, index: u16) -> Result<Self, Error> {
        // Neither indirect descriptors nor EVENT_IDX.
        let ring = VirtQueue::new(transport, index, false, false)?;
        Ok(Self {
            ring,
            with_device: [const { None }; QUEUE_LEN],
            broken: false,
        })
    }

    /// Lets the device read the first `len_bytes` of `buffer`.
    ///
    /// # Panics
    /// If the buffer is shorter, or the device has [`QUEUE_LEN`] buffers already.
    pub fn give_readable(&mut self, buffer: Buffer, len_bytes: usize) {
        // SAFETY: nobody touches the buffer until `take` has it back.
        let token = unsafe { self.ring.add(&[&buffer[..len_bytes]], &mut []) };
        self.given(token, buffer, Access::Read(len_bytes));
    }

    /// Lets the device write to `buffer`.
    ///
    /// # Panics
    /// If the device has [`QUEUE_LEN`] buffers already.
    pub fn give_writable(&mut self, mut buffer: Buffer) {
        // SAFETY: nobody touches the buffer until `take` has it back.
        let token = unsafe { self.ring.add(&[], &mut [&mut buffer]) };
        self.given(token, buffer, Access::Write);
    }

    /// Lets the device read the first `readable_len` bytes of `buffer`, a request, and write its answer to those from
    /// there to `len_bytes`. Takes two descriptors.
    ///
    /// # Panics
    /// If the buffer is shorter, or the device has almost [`QUEUE_LEN`] buffers already.
    pub fn give_request(&mut self, mut buffer: Buffer, readable_len: usize, len_bytes: usize) {
        let (request, answer) = buffer[..len_bytes].split_at_mut(readable_len);
        // SAFETY: nobody touches the buffer until `take` has it back.
        let token = unsafe { self.ring.add(&[request], &mut [answer]) };
        self.given(token, buffer, Access::Answer(readable_len, len_bytes));
    }

    fn given(&mut self, token: Result<u16, Error>, buffer: Buffer, access: Access) {
        let token = token.expect("a queue has as many descriptors as there are buffers");
        self.with_device[usize::from(token)] = Some((buffer, access));
    }

    /// The buffer that the device has used next and, if it could write there, how many bytes it says that it
    /// has written: at most the buffer's length.
    ///
    /// # Errors
    /// The device says that it has used what it does not have. This is reported once; from then on the queue
    /// seems empty, and the buffers in it stay with the device.
    pub fn take(&mut self) -> Result<Option<(Buffer, usize)>, Broken> {
        if self.broken {
            return Ok(None);
        }
        let Some(token) = self.ring.peek_used() else {
            return Ok(None);
        };
        let taken = self
            .with_device
            .get_mut(usize::from(token))
            .and_then(Option::take);
        let Some((mut buffer, access)) = taken else {
            self.broken = true;
            return Err(Broken);
        };
        let len_bytes = match access {
            // SAFETY: what was added with this token.
            Access::Read(len) => unsafe { self.ring.pop_used(token, &[&buffer[..len]], &mut []) },
            // SAFETY: as above.
            Access::Write => unsafe { self.ring.pop_used(token, &[], &mut [&mut buffer]) },
            Access::Answer(readable_len, len) => {
                let (request, answer) = buffer[..len].split_at_mut(readable_len);
                // SAFETY: as above.
                unsafe { self.ring.pop_used(token, &[request], &mut [answer]) }
            }
        };
        match len_bytes {
            Ok(len_bytes) => {
                let len_bytes = buffer.len().min(len_bytes as usize);
                Ok(Some((buffer, len_bytes)))
            }
            Err(_) => {
                // The device has changed its mind between two looks. Who knows whether it still has the
                // buffer.
                self.broken = true;
                Err(Broken)
            }
        }
    }

    /// Asks the device not to interrupt. It may do so once more.
    pub fn forbid_interrupts(&mut self) {
        self.ring.set_dev_notify(false);
    }

    /// Lets the device interrupt, and returns whether it has used something that it may not have told of. If
    /// not, an interrupt tells of the next.
    #[must_use]
    pub fn allow_interrupts(&mut self) -> bool {
        self.ring.set_dev_notify(true);
        fence(Ordering::SeqCst);
        !self.broken && self.ring.can_pop()
    }

    /// Whether the device wants to be told of what it was given.
    #[must_use]
    pub fn wants_notification(&self) -> bool {
        fence(Ordering::SeqCst);
        !self.broken && self.ring.should_notify()
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;

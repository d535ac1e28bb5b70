//! A bounded pipe between two threads, as long as Linux's: the way of the thesis's synchronous checkpoints.

use alloc::boxed::Box;
use alloc::vec;

use hs_core::sync::{Condvar, Mutex};

/// A ring of bytes. Whoever writes sleeps while it is full, whoever reads while it is empty.
pub(crate) struct Pipe {
    ring: Mutex<Ring>,
    room: Condvar,
    data: Condvar,
}

struct Ring {
    bytes: Box<[u8]>,
    /// Where the oldest byte is.
    first: usize,
    len: usize,
    closed: bool,
}

impl Pipe {
    /// What it holds, in bytes.
    pub(crate) const LEN: usize = 64 << 10;

    /// An empty pipe.
    pub(crate) fn new() -> Self {
        Pipe {
            ring: Mutex::new(Ring {
                bytes: vec![0; Self::LEN].into_boxed_slice(),
                first: 0,
                len: 0,
                closed: false,
            }),
            room: Condvar::new(),
            data: Condvar::new(),
        }
    }

    /// Puts all of `bytes` in; returns when they are.
    pub(crate) fn write(&self, mut bytes: &[u8]) {
        let mut ring = self.ring.lock();
        while !bytes.is_empty() {
            if ring.len == Self::LEN {
                self.room.wait(&mut ring, None);
                continue;
            }
            let at = (ring.first + ring.len) % Self::LEN;
            let count = bytes.len().min(Self::LEN - ring.len).min(Self::LEN - at);
            ring.bytes[at..at + count].copy_from_slice(&bytes[..count]);
            ring.len += count;
            bytes = &bytes[count..];
            self.data.notify_one();
        }
    }

    /// Takes as many bytes as there are and `into` holds, at least one; 0 if the pipe is closed and empty.
    pub(crate) fn read(&self, into: &mut [u8]) -> usize {
        let mut ring = self.ring.lock();
        while ring.len == 0 {
            if ring.closed {
                return 0;
            }
            self.data.wait(&mut ring, None);
        }
        let mut taken = 0;
        while ring.len > 0 && taken < into.len() {
            let at = ring.first;
            let count = ring.len.min(Self::LEN - at).min(into.len() - taken);
            into[taken..taken + count].copy_from_slice(&ring.bytes[at..at + count]);
            ring.first = (at + count) % Self::LEN;
            ring.len -= count;
            taken += count;
        }
        self.room.notify_all();
        taken
    }

    /// Waits until all that was written has been read.
    pub(crate) fn wait_empty(&self) {
        let mut ring = self.ring.lock();
        while ring.len > 0 {
            self.room.wait(&mut ring, None);
        }
    }

    /// No more will be written.
    pub(crate) fn close(&self) {
        self.ring.lock().closed = true;
        self.data.notify_all();
    }
}

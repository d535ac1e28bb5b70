//! What a client is to be told and was not sent yet.

use allocator_api2::vec::Vec;
use hs_core::class::Class;

/// From so many bytes on nothing more is produced until the client has taken some.
pub(crate) const ENOUGH_BYTES: usize = 32 << 10;

/// What is on its way to a client. One row, or one answer of the shell's own, may be on top of
/// what is enough.
#[derive(Debug)]
pub struct Output {
    bytes: Vec<u8, Class>,
    sent: usize,
    is_broken: bool,
}

impl Output {
    pub(crate) fn new(memory: Class) -> Self {
        Self {
            bytes: Vec::new_in(memory),
            sent: 0,
            is_broken: false,
        }
    }

    /// Appends bytes. If there is no memory for them, the client's connection cannot go on.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        if self.bytes.try_reserve(bytes.len()).is_err() {
            self.is_broken = true;
            return;
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn put_str(&mut self, text: &str) {
        self.put(text.as_bytes());
    }

    /// Appends `count` times the same.
    pub(crate) fn repeat(&mut self, text: &str, count: usize) {
        for _ in 0..count {
            self.put_str(text);
        }
    }

    /// What is to be sent.
    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// So many bytes of it were sent.
    pub fn advance(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
            // A client that was told much once need not keep room for it.
            self.bytes.shrink_to(ENOUGH_BYTES);
        }
    }

    /// Whether something was left out for want of memory.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Whether the client should take some first.
    pub(crate) fn is_enough(&self) -> bool {
        self.pending().len() >= ENOUGH_BYTES
    }
}

impl core::fmt::Write for Output {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.put_str(text);
        Ok(())
    }
}

//! A share of memory that many clients draw on, so that no number of clients takes more than it.

/// Bytes lent out, and how many may be.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    used_bytes: usize,
    limit_bytes: usize,
}

impl Quota {
    /// A quota of `limit_bytes`, all free.
    pub const fn new(limit_bytes: usize) -> Self {
        Self {
            used_bytes: 0,
            limit_bytes,
        }
    }

    /// Takes `bytes`, all or none.
    #[must_use]
    pub fn take(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.limit_bytes - self.used_bytes;
        if fits {
            self.used_bytes += bytes;
        }
        fits
    }

    /// Gives `bytes` back.
    ///
    /// # Panics
    /// If more comes back than was taken.
    pub fn give_back(&mut self, bytes: usize) {
        self.used_bytes = self
            .used_bytes
            .checked_sub(bytes)
            .expect("what comes back was taken before");
    }

    /// Bytes lent out now.
    pub const fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Bytes that may be lent out at once.
    pub const fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }
}

/// What a block of `len` bytes takes in a class: classes hand out powers of two.
pub(crate) const fn block_bytes(len: usize) -> usize {
    match len {
        0 => 0,
        1..=16 => 16,
        _ => len.next_power_of_two(),
    }
}

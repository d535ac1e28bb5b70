//! A client's replies on their way out.
//!
//! A queue of chunks: appending never moves what is there, and a long reply takes no more than its length.
//! The first chunk is kept when all is sent, so that a client with short replies always writes the same page.

use allocator_api2::vec::Vec;

use crate::Memory;
use crate::quota::Quota;

/// Length of a chunk in bytes.
pub const CHUNK_BYTES: usize = 16 * 1024;

/// There is no memory for a longer reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// Bytes that the client has not taken yet.
#[derive(Debug)]
pub struct Output<A: Memory> {
    /// Those before `first` are sent and empty.
    chunks: Vec<Vec<u8, A>, A>,
    first: usize,
    /// Bytes of the first chunk that are sent.
    sent: usize,
    len: usize,
    /// What all chunks together may take.
    limit_bytes: usize,
    /// Most bytes that may wait.
    len_max: usize,
}

/// Room left in a chunk that can take more.
fn spare_bytes<A: Memory>(chunk: &Vec<u8, A>) -> Option<usize> {
    Some(chunk.capacity() - chunk.len()).filter(|&spare| spare > 0)
}

impl<A: Memory> Output<A> {
    /// Nothing yet. Takes no memory.
    pub fn new(memory: A) -> Self {
        Self {
            chunks: Vec::new_in(memory),
            first: 0,
            sent: 0,
            len: 0,
            limit_bytes: usize::MAX,
            len_max: usize::MAX,
        }
    }

    /// From now on, no more than `len_max` bytes may wait. [`release`](Output::release) lifts the limit.
    pub fn set_len_max(&mut self, len_max: usize) {
        self.len_max = len_max;
    }

    /// From now on, takes memory only up to `limit_bytes` in all; what is held already stands. [`release`] lifts the
    /// limit.
    ///
    /// [`release`]: Output::release
    pub fn set_limit(&mut self, limit_bytes: usize) {
        self.limit_bytes = limit_bytes;
    }

    /// What is drawn from the quota.
    fn held_bytes(&self) -> usize {
        self.chunks[self.first..].len() * CHUNK_BYTES
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether everything is sent.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes sure that `bytes` more can be appended.
    ///
    /// # Errors
    /// They cannot; what was appended before stands.
    pub fn reserve(&mut self, bytes: usize, quota: &mut Quota) -> Result<(), Full> {
        if bytes > self.len_max.saturating_sub(self.len) {
            return Err(Full);
        }
        let mut room = self.chunks.iter().rev().map_while(spare_bytes).sum::<usize>();
        while room < bytes {
            if self.held_bytes() + CHUNK_BYTES > self.limit_bytes || !quota.take(CHUNK_BYTES) {
                return Err(Full);
            }
            let mut chunk = Vec::new_in(self.chunks.allocator().clone());
            if chunk.try_reserve_exact(CHUNK_BYTES).is_err() || self.chunks.try_reserve(1).is_err() {
                quota.give_back(CHUNK_BYTES);
                return Err(Full);
            }
            self.chunks.push(chunk);
            room += CHUNK_BYTES;
        }
        Ok(())
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// There is no room, and nothing was appended.
    pub fn append(&mut self, mut bytes: &[u8], quota: &mut Quota) -> Result<(), Full> {
        self.reserve(bytes.len(), quota)?;
        let mut at = self.chunks.len() - self.chunks.iter().rev().map_while(spare_bytes).count();
        while !bytes.is_empty() {
            let chunk = &mut self.chunks[at];
            let (now, later) = bytes.split_at(bytes.len().min(chunk.capacity() - chunk.len()));
            chunk.extend_from_slice(now);
            self.len += now.len();
            bytes = later;
            at += 1;
        }
        Ok(())
    }

    /// Takes back what was appended since the queue was `len` long.
    pub fn truncate(&mut self, len: usize, quota: &mut Quota) {
        while self.len > len {
            let last = self.chunks.len() - 1;
            let chunk = &mut self.chunks[last];
            let begin = if last == self.first { self.sent } else { 0 };
            let taken = (chunk.len() - begin).min(self.len - len);
            chunk.truncate(chunk.len() - taken);
            self.len -= taken;
            if self.len > len || (chunk.is_empty() && last > self.first) {
                self.chunks.pop();
                quota.give_back(CHUNK_BYTES);
            }
        }
    }

    /// The oldest bytes that wait, as many as lie together.
    pub fn front(&self) -> &[u8] {
        self.chunks
            .get(self.first)
            .map_or(&[], |chunk| &chunk[self.sent..])
    }

    /// The first `count` bytes of [`front`](Output::front) are sent.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn advance(&mut self, count: usize, quota: &mut Quota) {
        assert!(count <= self.front().len(), "only what waited can have been sent");
        self.sent += count;
        self.len -= count;
        if self.len == 0 {
            let spare = self.chunks[self.first..].len().saturating_sub(1);
            if !self.chunks.is_empty() {
                self.chunks.swap(0, self.first);
                self.chunks[0].clear();
            }
            self.chunks.truncate(1);
            quota.give_back(spare * CHUNK_BYTES);
            self.first = 0;
            self.sent = 0;
        } else if self.front().is_empty() {
            self.chunks[self.first] = Vec::new_in(self.chunks.allocator().clone());
            quota.give_back(CHUNK_BYTES);
            self.first += 1;
            self.sent = 0;
            if self.first * 2 >= self.chunks.len() {
                self.chunks.drain(..self.first);
                self.first = 0;
            }
        }
    }

    /// Drops everything and gives all memory back.
    pub fn release(&mut self, quota: &mut Quota) {
        quota.give_back(self.held_bytes());
        *self = Self::new(self.chunks.allocator().clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use allocator_api2::alloc::Global;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Append(usize),
        Reserve(usize),
        Send(usize),
        TakeBack(usize),
    }

    fn steps() -> impl Strategy<Value = alloc::vec::Vec<Step>> {
        let len = prop_oneof![0_usize..100, 0_usize..50_000];
        proptest::collection::vec(
            prop_oneof![
                3 => len.clone().prop_map(Step::Append),
                1 => len.clone().prop_map(Step::Reserve),
                3 => len.clone().prop_map(Step::Send),
                1 => len.prop_map(Step::TakeBack),
            ],
            0..60,
        )
    }

    proptest! {
        #[test]
        fn the_queue_is_a_queue(steps in steps()) {
            let mut quota = Quota::new(12 * CHUNK_BYTES);
            let mut output = Output::new(Global);
            let mut model = std::collections::VecDeque::new();
            let mut next = 0_u8;
            for step in steps {
                match step {
                    Step::Append(len) => {
                        let bytes: alloc::vec::Vec<u8> = (0..len).map(|at| next.wrapping_add(at as u8)).collect();
                        if output.append(&bytes, &mut quota).is_ok() {
                            model.extend(bytes);
                            next = next.wrapping_add(len as u8);
                        } else {
                            prop_assert!(model.len() + len > 9 * CHUNK_BYTES);
                        }
                    }
                    Step::Reserve(len) => {
                        if output.reserve(len, &mut quota).is_ok() {
                            let used = quota.used_bytes();
                            prop_assert_eq!(output.append(&alloc::vec![0; len], &mut quota), Ok(()));
                            prop_assert_eq!(quota.used_bytes(), used);
                            output.truncate(model.len(), &mut quota);
                        }
                    }
                    Step::Send(len) => {
                        let mut left = len.min(model.len());
                        while left > 0 {
                            let front = output.front();
                            let now = front.len().min(left);
                            prop_assert!(now > 0);
                            let expected: alloc::vec::Vec<u8> = model.drain(..now).collect();
                            prop_assert_eq!(&front[..now], &expected);
                            output.advance(now, &mut quota);
                            left -= now;
                        }
                    }
                    Step::TakeBack(len) => {
                        let kept = model.len().saturating_sub(len);
                        output.truncate(kept, &mut quota);
                        model.truncate(kept);
                    }
                }
                prop_assert_eq!(output.len(), model.len());
                prop_assert!(quota.used_bytes() >= output.len());
                prop_assert!(output.chunks.len() <= 2 * 12 + 2);
            }
            output.release(&mut quota);
            prop_assert_eq!(quota.used_bytes(), 0);
        }
    }
}

//! The commit queue: frames that the service stack has made and that have not reached the network yet.
//!
//! It lies in checkpointable memory with the stack, so that a checkpoint holds the frames that its state has promised. A
//! frame is first *held*, then *released*, then sent and forgotten, in order:
//!
//! ```text
//!          head               released                tail
//!   sent    | may go to the card | held back            | next frame goes here
//!           +------+------+------+--------+-------------+
//! bytes:  ..| len  frame  | len  frame    |  skip | ..      a ring; a frame never wraps around its end
//!           +------+------+------+--------+-------------+
//! ```
//!
//! Whoever takes a checkpoint notes [`tail`](CommitQueue::tail), and [`release`](CommitQueue::release)s up to there once
//! the spare has it. As long as output is not withheld, everything is released at once.
//!
//! A spare keeps what it hears of clients in such a queue too ([`ingress`](crate::ingress)).
//!
//! When the queue is empty it begins again at its first byte: a quiet service dirties the same page each time.

/// Bytes before a frame: its length.
const HEADER_LEN: usize = 4;
/// Records begin at multiples of this, so that there is room for a header at the ring's end.
const ALIGN: usize = 8;
/// In place of a length: the rest of the ring is unused, the next record is at its start.
const SKIP: u32 = u32::MAX;

/// A place between two frames, counted from the queue's creation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Tail(u64);

/// The queue.
#[derive(Debug)]
pub struct CommitQueue {
    ring: &'static mut [u8],
    head: usize,
    tail: usize,
    used: usize,
    sent_frames: u64,
    released_frames: u64,
    queued_frames: u64,
}

const fn record_len(frame_len: usize) -> usize {
    (HEADER_LEN + frame_len).next_multiple_of(ALIGN)
}

impl CommitQueue {
    /// An empty queue on `ring`.
    ///
    /// # Panics
    /// If the ring's length is no multiple of 8.
    pub fn new(ring: &'static mut [u8]) -> Self {
        assert!(ring.len().is_multiple_of(ALIGN), "a ring of {} bytes", ring.len());
        Self {
            ring,
            head: 0,
            tail: 0,
            used: 0,
            sent_frames: 0,
            released_frames: 0,
            queued_frames: 0,
        }
    }

    /// Frames in the queue.
    pub fn frames(&self) -> u64 {
        self.queued_frames - self.sent_frames
    }

    /// Whether a frame of `frame_len` bytes finds room.
    pub fn has_room(&self, frame_len: usize) -> bool {
        let needed = record_len(frame_len);
        let to_end = self.ring.len() - self.tail;
        let needed = if needed <= to_end { needed } else { needed + to_end };
        needed <= self.ring.len() - self.used
    }

    /// Appends a frame of `frame_len` bytes that `fill` writes.
    ///
    /// # Panics
    /// If there is no room: ask first.
    pub fn push<R>(&mut self, frame_len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let result = fill(self.stage(frame_len));
        self.append(frame_len);
        result
    }

    /// Where the next frame will lie, if it is of `frame_len` bytes: to be written there, and then [`append`](Self::append)ed, or
    /// not.
    ///
    /// # Panics
    /// If there is no room: ask first.
    pub fn stage(&mut self, frame_len: usize) -> &mut [u8] {
        assert!(
            self.has_room(frame_len),
            "the commit queue has room when it is asked to take a frame"
        );
        let start = self.place(frame_len) + HEADER_LEN;
        &mut self.ring[start..start + frame_len]
    }

    /// Where the next record goes: at the tail, or at the ring's start if it would not end before the ring does.
    fn place(&self, frame_len: usize) -> usize {
        match record_len(frame_len) > self.ring.len() - self.tail {
            true => 0,
            false => self.tail,
        }
    }

    /// Appends the frame of `frame_len` bytes that was [`stage`](Self::stage)d.
    pub fn append(&mut self, frame_len: usize) {
        let place = self.place(frame_len);
        if place != self.tail {
            self.put_len(self.tail, SKIP);
            self.used += self.ring.len() - self.tail;
        }
        self.put_len(place, frame_len as u32);
        let needed = record_len(frame_len);
        self.tail = (place + needed) % self.ring.len();
        self.used += needed;
        self.queued_frames += 1;
    }

    fn put_len(&mut self, at: usize, len: u32) {
        self.ring[at..at + HEADER_LEN].copy_from_slice(&len.to_le_bytes());
    }

    /// The end of the queue now.
    pub fn tail(&self) -> Tail {
        Tail(self.queued_frames)
    }

    /// Frames before `tail` may go out.
    pub fn release(&mut self, tail: Tail) {
        self.released_frames = self.released_frames.max(tail.0.min(self.queued_frames));
    }

    /// Everything may go out.
    pub fn release_all(&mut self) {
        self.released_frames = self.queued_frames;
    }

    /// Whether there are frames that neither were released nor lie before `covered`.
    pub fn has_frames_behind(&self, covered: Option<Tail>) -> bool {
        let covered = covered.map_or(0, |tail| tail.0);
        self.queued_frames > self.released_frames.max(covered)
    }

    /// Throws away the frames that are not to be `kept`, and releases the others.
    pub fn retain(&mut self, mut kept: impl FnMut(&[u8]) -> bool) {
        self.release_all();
        let mut frame = alloc::vec::Vec::new();
        for _ in 0..self.frames() {
            frame.clear();
            frame.extend_from_slice(self.front().unwrap_or_default());
            self.pop();
            // If the ring's end should be in its way, TCP will make it again.
            if kept(&frame) && self.has_room(frame.len()) {
                self.push(frame.len(), |into| into.copy_from_slice(&frame));
                self.release_all();
            }
        }
    }

    /// The oldest released frame.
    pub fn front(&self) -> Option<&[u8]> {
        if self.sent_frames >= self.released_frames {
            return None;
        }
        let mut at = self.head;
        if self.len_at(at) == SKIP {
            at = 0;
        }
        let len = self.len_at(at) as usize;
        Some(&self.ring[at + HEADER_LEN..at + HEADER_LEN + len])
    }

    /// All frames, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = self.head;
        (0..self.frames()).map(move |_| {
            if self.len_at(at) == SKIP {
                at = 0;
            }
            let len = self.len_at(at) as usize;
            let frame = &self.ring[at + HEADER_LEN..at + HEADER_LEN + len];
            at = (at + record_len(len)) % self.ring.len();
            frame
        })
    }

    fn len_at(&self, at: usize) -> u32 {
        let bytes = self.ring[at..]
            .first_chunk()
            .expect("records are aligned: a header fits");
        u32::from_le_bytes(*bytes)
    }

    /// Forgets the frame that [`front`](CommitQueue::front) showed: the card has it.
    pub fn pop(&mut self) {
        let Some(frame) = self.front() else { return };
        let needed = record_len(frame.len());
        if self.len_at(self.head) == SKIP {
            self.used -= self.ring.len() - self.head;
            self.head = 0;
        }
        self.head = (self.head + needed) % self.ring.len();
        self.used -= needed;
        self.sent_frames += 1;
        if self.used == 0 {
            (self.head, self.tail) = (0, 0);
        }
    }

    /// Throws everything away.
    pub fn clear(&mut self) {
        (self.head, self.tail, self.used) = (0, 0, 0);
        self.sent_frames = self.queued_frames;
        self.released_frames = self.queued_frames;
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::collections::VecDeque;
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize, u8),
        Release,
        Pop,
        Clear,
        Retain(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1usize..200, any::<u8>()).prop_map(|(len, fill)| Step::Push(len, fill)),
            2 => Just(Step::Release),
            4 => Just(Step::Pop),
            1 => Just(Step::Clear),
            1 => any::<u8>().prop_map(Step::Retain),
        ]
    }

    proptest! {
        /// Against a queue of vectors: the same frames in the same order, none before its release, and room whenever the
        /// frames and one unusable end of the ring leave some.
        #[test]
        fn behaves_like_a_queue(steps in prop::collection::vec(step(), 1..400)) {
            const LEN: usize = 1024;
            let mut queue = CommitQueue::new(Box::leak(vec![0; LEN].into_boxed_slice()));
            let mut model: VecDeque<Vec<u8>> = VecDeque::new();
            let mut released = 0;
            for step in steps {
                match step {
                    Step::Push(len, fill) => {
                        let used: usize = model.iter().map(|frame| record_len(frame.len())).sum();
                        if queue.has_room(len) {
                            queue.push(len, |into| into.fill(fill));
                            model.push_back(vec![fill; len]);
                        } else {
                            prop_assert!(used + 2 * record_len(200) + record_len(len) > LEN);
                        }
                    }
                    Step::Release => {
                        queue.release(queue.tail());
                        released = model.len();
                    }
                    Step::Pop => {
                        let expected = if released > 0 { model.front() } else { None };
                        prop_assert_eq!(queue.front(), expected.map(|frame| &frame[..]));
                        queue.pop();
                        if released > 0 {
                            model.pop_front();
                            released -= 1;
                        }
                    }
                    Step::Retain(fill) => {
                        let needed: usize = model.iter().map(|frame| record_len(frame.len())).sum();
                        if needed + 200 < LEN {
                            queue.retain(|frame| frame[0] < fill);
                            model.retain(|frame| frame[0] < fill);
                            released = model.len();
                        }
                    }
                    Step::Clear => {
                        queue.clear();
                        model.clear();
                        released = 0;
                    }
                }
                prop_assert_eq!(queue.frames(), model.len() as u64);
                prop_assert!(queue.iter().eq(model.iter().map(|frame| &frame[..])));
            }
        }
    }

    #[test]
    fn an_old_tail_releases_no_later_frame() {
        let mut queue = CommitQueue::new(Box::leak(vec![0; 256].into_boxed_slice()));
        queue.push(3, |into| into.copy_from_slice(b"one"));
        let covered = queue.tail();
        queue.push(3, |into| into.copy_from_slice(b"two"));
        assert_eq!(queue.front(), None);
        queue.release(covered);
        assert_eq!(queue.front(), Some(&b"one"[..]));
        queue.pop();
        assert_eq!(queue.front(), None);
        queue.release(covered);
        assert_eq!(queue.front(), None);
    }
}

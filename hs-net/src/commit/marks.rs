//! What of the queue each checkpoint in flight covers, and when the next one is due.

use alloc::collections::VecDeque;
use core::time::Duration;

use hs_core::checkpoint::CheckpointId;
use hs_core::platform::Instant;

use super::Tail;

/// While a checkpoint is in flight, the next is taken at the latest so long after it.
pub const GATHER: Duration = Duration::from_millis(2);

/// And earlier, if by then so many pages are likely to be modified: what one checkpoint carries is bounded, and with it the time
/// that output waits for it.
pub const DIRTY_PAGES_MAX: usize = 2048;

/// More checkpoints than can be in flight; marks beyond that are of lost ones.
const MARKS_MAX: usize = 64;

/// When a checkpoint is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// At once.
    Now,
    /// Then, if none of those in flight is acknowledged before.
    At(Instant),
    /// Nothing waits for one.
    Never,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mark<T> {
    checkpoint: CheckpointId,
    tail: T,
}

/// The checkpoints in flight that cover output, oldest first; up to where they do, a `T` says. Outside checkpointable memory: the
/// next master begins without.
#[derive(Debug)]
pub struct Marks<T = Tail> {
    withheld: bool,
    marks: VecDeque<Mark<T>>,
    taken_at: Instant,
    /// Pages that the newest checkpoint found modified, and the time in which they were.
    dirty_pages: usize,
    epoch: Duration,
}

impl<T: Copy> Default for Marks<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Copy> Marks<T> {
    /// Nothing is withheld.
    pub fn new() -> Self {
        Self {
            withheld: false,
            marks: VecDeque::with_capacity(MARKS_MAX),
            taken_at: Instant::from_micros(0),
            dirty_pages: 0,
            epoch: Duration::ZERO,
        }
    }

    /// Whether output waits for its checkpoint.
    pub fn is_withheld(&self) -> bool {
        self.withheld
    }

    /// From here on output is withheld: a spare may come to hold a checkpoint that it can take over from.
    pub fn withhold(&mut self) {
        self.withheld = true;
    }

    /// Nobody can take over any more: output goes out as it is made.
    pub fn let_go(&mut self) {
        self.withheld = false;
        self.marks.clear();
    }

    /// The memory was frozen as `checkpoint` with what waits up to `tail` in it.
    pub fn taken(&mut self, checkpoint: CheckpointId, tail: T, now: Instant) {
        self.epoch = now.since(self.taken_at);
        self.taken_at = now;
        if self.withheld {
            if self.marks.len() == MARKS_MAX {
                // What a lost one covers, a later one does too.
                self.marks.pop_front();
            }
            self.marks.push_back(Mark { checkpoint, tail });
        }
    }

    /// Whether `checkpoint` was taken while output was withheld, so that a spare may take over from it.
    pub fn arms(&self, checkpoint: CheckpointId) -> bool {
        self.marks.iter().any(|mark| mark.checkpoint == checkpoint)
    }

    /// The spare has `checkpoint`: what waits up to the tail that is returned may go.
    pub fn kept(&mut self, checkpoint: CheckpointId) -> Option<T> {
        let mut tail = None;
        while let Some(mark) = self.marks.front()
            && mark.checkpoint <= checkpoint
        {
            tail = Some(mark.tail);
            self.marks.pop_front();
        }
        tail
    }

    /// The end of what checkpoints in flight cover.
    pub fn covered(&self) -> Option<T> {
        self.marks.back().map(|mark| mark.tail)
    }

    /// The newest checkpoint whose pages were counted found so many modified.
    pub fn found_dirty(&mut self, pages: usize) {
        self.dirty_pages = pages;
    }

    /// When the next checkpoint is due, if something `waits` for one.
    pub fn due(&self, waits: bool, now: Instant) -> Due {
        if !waits {
            return Due::Never;
        }
        if self.marks.is_empty() {
            return Due::Now;
        }
        let at = self.taken_at + self.gather();
        if now >= at { Due::Now } else { Due::At(at) }
    }

    /// How long to gather behind a checkpoint in flight.
    fn gather(&self) -> Duration {
        if self.dirty_pages == 0 {
            return GATHER;
        }
        // As fast as in the last epoch.
        let bound = self.epoch.as_micros() as u64 * DIRTY_PAGES_MAX as u64 / self.dirty_pages as u64;
        GATHER.min(Duration::from_micros(bound))
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::collections::VecDeque as Model;
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::commit::CommitQueue;

    fn id(increment: u64) -> CheckpointId {
        CheckpointId {
            generation: 1,
            increment,
        }
    }

    fn at(us: u64) -> Instant {
        Instant::from_micros(us)
    }

    #[derive(Clone, Debug)]
    enum Step {
        Frame,
        Checkpoint,
        /// Of the checkpoints in flight, so many; the rest of them stay.
        Kept(usize),
        Lost(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Frame),
            3 => Just(Step::Checkpoint),
            3 => (1usize..4).prop_map(Step::Kept),
            1 => (1usize..4).prop_map(Step::Lost),
        ]
    }

    /// Runs steps against a model that knows for each frame which checkpoints hold it; `release` is the rule under test.
    fn run(
        steps: &[Step],
        mut release: impl FnMut(&mut Marks, CheckpointId) -> Option<Tail>,
    ) -> Result<(), String> {
        let mut queue = CommitQueue::new(Box::leak(vec![0; 1 << 16].into_boxed_slice()));
        let mut marks = Marks::new();
        marks.withhold();
        let (mut frames, mut increment) = (0u64, 0);
        let mut in_flight: Model<(CheckpointId, u64)> = Model::new();
        let mut safe = 0;
        let mut sent = Vec::new();
        for step in steps {
            match *step {
                Step::Frame => {
                    queue.push(8, |into| into.copy_from_slice(&frames.to_le_bytes()));
                    frames += 1;
                }
                Step::Checkpoint => {
                    increment += 1;
                    marks.taken(id(increment), queue.tail(), at(increment));
                    in_flight.push_back((id(increment), frames));
                }
                Step::Kept(count) => {
                    // The spare applies in order, and says so of the newest too.
                    for _ in 0..count {
                        let Some((kept, covers)) = in_flight.pop_front() else {
                            break;
                        };
                        safe = covers;
                        if let Some(tail) = release(&mut marks, kept) {
                            queue.release(tail);
                        }
                    }
                }
                Step::Lost(count) => in_flight.truncate(in_flight.len().saturating_sub(count)),
            }
            while let Some(frame) = queue.front() {
                sent.push(u64::from_le_bytes(frame.try_into().expect("8 bytes")));
                queue.pop();
            }
            if sent != (0..safe).collect::<Vec<_>>() {
                return Err(format!("{} frames are safe, sent were {sent:?}", safe));
            }
        }
        Ok(())
    }

    use std::format;
    use std::string::String;

    proptest! {
        /// Exactly the frames that an acknowledged checkpoint holds have gone out, in order.
        #[test]
        fn sends_what_the_spare_has_and_no_more(steps in prop::collection::vec(step(), 1..200)) {
            let result = run(&steps, |marks, kept| marks.kept(kept));
            prop_assert!(result.is_ok(), "{:?}", result);
        }
    }

    /// The check can fail: a release up to the newest mark, whatever was acknowledged.
    #[test]
    fn a_release_too_early_is_seen() {
        let steps = [
            Step::Frame,
            Step::Checkpoint,
            Step::Frame,
            Step::Checkpoint,
            Step::Kept(1),
        ];
        assert!(run(&steps, |marks, kept| marks.kept(kept)).is_ok());
        assert!(run(&steps, |marks, _| marks.covered()).is_err());
    }

    #[test]
    fn a_checkpoint_before_output_was_withheld_arms_nobody() {
        let queue = CommitQueue::new(Box::leak(vec![0; 64].into_boxed_slice()));
        let mut marks = Marks::new();
        marks.taken(id(0), queue.tail(), at(1));
        marks.withhold();
        assert!(!marks.arms(id(0)));
        assert_eq!(marks.kept(id(0)), None);
        marks.taken(id(1), queue.tail(), at(2));
        assert!(marks.arms(id(1)));
        marks.let_go();
        assert!(!marks.arms(id(1)) && !marks.is_withheld());
    }

    #[test]
    fn one_is_due_at_once_when_none_is_in_flight_and_gathers_when_one_is() {
        let queue = CommitQueue::new(Box::leak(vec![0; 64].into_boxed_slice()));
        let mut marks = Marks::new();
        marks.withhold();
        assert_eq!(marks.due(false, at(10)), Due::Never);
        assert_eq!(marks.due(true, at(10)), Due::Now);
        marks.taken(id(1), queue.tail(), at(1000));
        let then = at(1000) + GATHER;
        assert_eq!(marks.due(true, at(1001)), Due::At(then));
        assert_eq!(marks.due(true, then), Due::Now);
        marks.kept(id(1));
        assert_eq!(marks.due(true, at(1002)), Due::Now);
        // A writer of four thousand pages in a millisecond does not gather for two.
        marks.taken(id(2), queue.tail(), at(2000));
        marks.found_dirty(2 * DIRTY_PAGES_MAX);
        assert_eq!(marks.due(true, at(2001)), Due::At(at(2500)));
    }
}

//! Lines of slots: who is free, who has to be looked at, who has news.
//!
//! A line is threaded through the slots themselves, so that joining one or leaving it at its front takes the same few steps
//! with any number of slots, needs no memory of its own, and dirties only the page that the slot's news has dirtied already.
//!
//! Deliberately absent: leaving from the middle. Who finds a slot at the front that no longer belongs there drops it.

/// What slots wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Line {
    /// To be a connection's.
    Free,
    /// To send, and to have their next moment noted.
    Send,
    /// To be looked at for news.
    Look,
    /// For the application to take their news.
    Ready,
    /// For stray segments of an old connection: whoever needs a slot may have them.
    TimeWait,
    /// For their client's machine to say where it is.
    Neighbour,
}

const LINES: usize = 6;

/// This slot is not in the line.
const OUT: u16 = u16::MAX;
/// It is the line's last.
const LAST: u16 = u16::MAX - 1;

/// Most slots that lines can hold.
pub(super) const SLOTS_MAX: usize = LAST as usize;

/// A slot's place in each line: who comes after it.
#[derive(Debug)]
pub(super) struct Links([u16; LINES]);

impl Links {
    /// In no line.
    pub(super) const fn new() -> Self {
        Self([OUT; LINES])
    }
}

/// The first and the last of a line.
#[derive(Clone, Copy, Debug)]
struct Ends {
    first: u16,
    last: u16,
}

/// All lines of one array of slots.
#[derive(Debug)]
pub(super) struct Lines([Option<Ends>; LINES]);

impl Lines {
    pub(super) const fn new() -> Self {
        Self([None; LINES])
    }

    pub(super) fn is_empty(&self, line: Line) -> bool {
        self.0[line as usize].is_none()
    }

    /// Whether `slot` is in `line`.
    #[cfg(test)]
    pub(super) fn has<T: AsRef<Links>>(&self, line: Line, slots: &[T], slot: u16) -> bool {
        slots[usize::from(slot)].as_ref().0[line as usize] != OUT
    }

    /// Puts `slot` at the end of `line`, unless it is in there. Returns whether it was not.
    pub(super) fn join<T: AsMut<Links>>(&mut self, line: Line, slots: &mut [T], slot: u16) -> bool {
        let at = line as usize;
        let link = &mut slots[usize::from(slot)].as_mut().0[at];
        if *link != OUT {
            return false;
        }
        *link = LAST;
        let first = match self.0[at] {
            None => slot,
            Some(ends) => {
                slots[usize::from(ends.last)].as_mut().0[at] = slot;
                ends.first
            }
        };
        self.0[at] = Some(Ends { first, last: slot });
        true
    }

    /// Puts `slot` at the front of `line`, unless it is in there.
    pub(super) fn jump<T: AsMut<Links>>(&mut self, line: Line, slots: &mut [T], slot: u16) {
        let at = line as usize;
        let link = &mut slots[usize::from(slot)].as_mut().0[at];
        if *link != OUT {
            return;
        }
        let (next, last) = self.0[at].map_or((LAST, slot), |ends| (ends.first, ends.last));
        *link = next;
        self.0[at] = Some(Ends { first: slot, last });
    }

    /// Takes the first out of `line`.
    pub(super) fn leave<T: AsMut<Links>>(&mut self, line: Line, slots: &mut [T]) -> Option<u16> {
        let at = line as usize;
        let Ends { first, last } = self.0[at]?;
        let next = core::mem::replace(&mut slots[usize::from(first)].as_mut().0[at], OUT);
        self.0[at] = (next != LAST).then_some(Ends { first: next, last });
        Some(first)
    }

    /// The last of `line`: who goes through a line once, and lets some join again, stops behind it.
    pub(super) fn last(&self, line: Line) -> Option<u16> {
        self.0[line as usize].map(|ends| ends.last)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const SLOTS: u16 = 12;
    const ALL: [Line; LINES] = [
        Line::Free,
        Line::Send,
        Line::Look,
        Line::Ready,
        Line::TimeWait,
        Line::Neighbour,
    ];

    impl AsMut<Links> for Links {
        fn as_mut(&mut self) -> &mut Links {
            self
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Join(usize, u16),
        Jump(usize, u16),
        Leave(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..LINES, 0..SLOTS).prop_map(|(line, slot)| Step::Join(line, slot)),
            1 => (0..LINES, 0..SLOTS).prop_map(|(line, slot)| Step::Jump(line, slot)),
            3 => (0..LINES).prop_map(Step::Leave),
        ]
    }

    proptest! {
        /// Against queues of numbers: the same slots in the same order, none twice in one line.
        #[test]
        fn behave_like_queues(steps in prop::collection::vec(step(), 1..300)) {
            let mut slots: Vec<Links> = (0..SLOTS).map(|_| Links::new()).collect();
            let mut lines = Lines::new();
            let mut model: [VecDeque<u16>; LINES] = Default::default();
            for step in steps {
                match step {
                    Step::Join(line, slot) => {
                        let new = !model[line].contains(&slot);
                        if new {
                            model[line].push_back(slot);
                        }
                        prop_assert_eq!(lines.join(ALL[line], &mut slots, slot), new);
                    }
                    Step::Jump(line, slot) => {
                        if !model[line].contains(&slot) {
                            model[line].push_front(slot);
                        }
                        lines.jump(ALL[line], &mut slots, slot);
                    }
                    Step::Leave(line) => {
                        prop_assert_eq!(lines.leave(ALL[line], &mut slots), model[line].pop_front());
                    }
                }
                for (line, model) in ALL.into_iter().zip(&model) {
                    prop_assert_eq!(lines.is_empty(line), model.is_empty());
                    prop_assert_eq!(lines.last(line), model.back().copied());
                }
            }
        }
    }
}

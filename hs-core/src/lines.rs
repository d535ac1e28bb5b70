//! Lines of slots in an array: who is free, who has to be looked at, who has news.
//!
//! A line is threaded through the slots themselves, so that joining one or leaving it at its front takes the same few steps
//! with any number of slots, needs no memory of its own, and dirties only the page that the slot's news has dirtied already.
//! An array may have several lines; a slot is in each of them once at most. Names of lines are numbers, so that an
//! application can give them names of its own.
//!
//! Deliberately absent: leaving from the middle. Who finds a slot at the front that no longer belongs there drops it.

/// This slot is not in the line.
const OUT: u16 = u16::MAX;
/// It is the line's last.
const LAST: u16 = u16::MAX - 1;

/// Most slots that an array with lines can have.
pub const SLOTS_MAX: usize = LAST as usize;

/// A slot's place in each line: who comes after it.
#[derive(Debug)]
pub struct Links<const LINES: usize>([u16; LINES]);

impl<const LINES: usize> Links<LINES> {
    /// In no line.
    pub const fn new() -> Self {
        Self([OUT; LINES])
    }

    /// Whether the slot is in `line`.
    pub fn is_in(&self, line: impl Into<usize>) -> bool {
        self.0[line.into()] != OUT
    }
}

impl<const LINES: usize> Default for Links<LINES> {
    fn default() -> Self {
        Self::new()
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
pub struct Lines<const LINES: usize>([Option<Ends>; LINES]);

impl<const LINES: usize> Default for Lines<LINES> {
    fn default() -> Self {
        Self::new()
    }
}

/// All of these panic if there is no such line or slot.
impl<const LINES: usize> Lines<LINES> {
    /// With nobody in them.
    pub const fn new() -> Self {
        Self([None; LINES])
    }

    /// Whether nobody is in `line`.
    pub fn is_empty(&self, line: impl Into<usize>) -> bool {
        self.0[line.into()].is_none()
    }

    /// Puts `slot` at the end of `line`, unless it is in there. Returns whether it was not.
    pub fn join<T: AsMut<Links<LINES>>>(
        &mut self,
        line: impl Into<usize>,
        slots: &mut [T],
        slot: u16,
    ) -> bool {
        let at = line.into();
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
    pub fn jump<T: AsMut<Links<LINES>>>(&mut self, line: impl Into<usize>, slots: &mut [T], slot: u16) {
        let at = line.into();
        let link = &mut slots[usize::from(slot)].as_mut().0[at];
        if *link != OUT {
            return;
        }
        let (next, last) = self.0[at].map_or((LAST, slot), |ends| (ends.first, ends.last));
        *link = next;
        self.0[at] = Some(Ends { first: slot, last });
    }

    /// Takes the first out of `line`.
    pub fn leave<T: AsMut<Links<LINES>>>(&mut self, line: impl Into<usize>, slots: &mut [T]) -> Option<u16> {
        let at = line.into();
        let Ends { first, last } = self.0[at]?;
        let next = core::mem::replace(&mut slots[usize::from(first)].as_mut().0[at], OUT);
        self.0[at] = (next != LAST).then_some(Ends { first: next, last });
        Some(first)
    }

    /// The last of `line`: who goes through a line once, and lets some join again, stops behind it.
    pub fn last(&self, line: impl Into<usize>) -> Option<u16> {
        self.0[line.into()].map(|ends| ends.last)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const SLOTS: u16 = 12;
    const LINES: usize = 3;

    impl AsMut<Links<LINES>> for Links<LINES> {
        fn as_mut(&mut self) -> &mut Links<LINES> {
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
            let mut slots: Vec<Links<LINES>> = (0..SLOTS).map(|_| Links::new()).collect();
            let mut lines = Lines::new();
            let mut model: [VecDeque<u16>; LINES] = Default::default();
            for step in steps {
                match step {
                    Step::Join(line, slot) => {
                        let new = !model[line].contains(&slot);
                        if new {
                            model[line].push_back(slot);
                        }
                        prop_assert_eq!(lines.join(line, &mut slots, slot), new);
                    }
                    Step::Jump(line, slot) => {
                        if !model[line].contains(&slot) {
                            model[line].push_front(slot);
                        }
                        lines.jump(line, &mut slots, slot);
                    }
                    Step::Leave(line) => {
                        prop_assert_eq!(lines.leave(line, &mut slots), model[line].pop_front());
                    }
                }
                for (line, model) in model.iter().enumerate() {
                    prop_assert_eq!(lines.is_empty(line), model.is_empty());
                    prop_assert_eq!(lines.last(line), model.back().copied());
                }
            }
        }
    }
}

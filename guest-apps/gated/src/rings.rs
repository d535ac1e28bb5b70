//! Two doubly linked rings whose nodes are also linked in pairs across them.
//!
//! ```text
//! head 0 ⇄ 5 ⇄ 9 ⇄ 2 ⇄ (head 0)          each node has a twin, here or there: 5–7, 9–2, 3–4 …
//! head 1 ⇄ 7 ⇄ 3 ⇄ 4 ⇄ (head 1)
//! ```
//!
//! One worker changes them, others may look: the links are atomic numbers, so that no lock is needed and the gate alone
//! keeps checkpoints from the middle of a change.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use allocator_api2::alloc::Allocator;
use allocator_api2::collections::TryReserveError;
use allocator_api2::vec::Vec;

use crate::Dice;

/// The first nodes are the rings' heads, which stay where they are and have no twins.
const HEADS: usize = 2;

#[derive(Debug, Default)]
struct Node {
    next: AtomicU32,
    prev: AtomicU32,
    /// Number of its head.
    ring: AtomicU32,
    twin: AtomicU32,
}

fn get(link: &AtomicU32) -> usize {
    link.load(Ordering::Relaxed) as usize
}

fn set(link: &AtomicU32, to: usize) {
    link.store(to as u32, Ordering::Relaxed);
}

/// The rings.
#[derive(Debug)]
pub struct Rings<A: Allocator> {
    nodes: Vec<Node, A>,
    changes: AtomicU64,
}

impl<A: Allocator> Rings<A> {
    /// Rings of `pairs` pairs of nodes: at first all in one.
    ///
    /// # Errors
    /// No memory.
    pub fn new(pairs: usize, memory: A) -> Result<Self, TryReserveError> {
        let len = HEADS + 2 * pairs;
        let mut nodes = Vec::new_in(memory);
        nodes.try_reserve_exact(len)?;
        nodes.extend(core::iter::repeat_with(Node::default).take(len));
        let rings = Self {
            nodes,
            changes: AtomicU64::new(0),
        };
        for head in 0..HEADS {
            set(&rings.nodes[head].ring, head);
            rings.tie(head, head);
        }
        for node in HEADS..len {
            rings.tie(node - 1 - usize::from(node == HEADS), node);
            // Numbers 2 and 3 are twins, 4 and 5, and so on.
            set(&rings.nodes[node].twin, node ^ 1);
        }
        rings.tie(if pairs == 0 { 0 } else { len - 1 }, 0);
        Ok(rings)
    }

    fn tie(&self, left: usize, right: usize) {
        set(&self.nodes[left].next, right);
        set(&self.nodes[right].prev, left);
    }

    /// Changes made so far.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Moves a node to another place, or parts two pairs of twins and pairs them anew. `breathe` is called in the middle.
    pub fn change(&self, dice: &mut Dice, breathe: &dyn Fn()) {
        let mut any = || HEADS + dice.roll(self.nodes.len() - HEADS);
        let (one, other) = (any(), any());
        if one == other {
            return;
        }
        if dice.roll(2) == 0 {
            self.move_behind(one, other, breathe);
        } else {
            self.pair_anew(one, other, breathe);
        }
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    fn move_behind(&self, node: usize, left: usize, breathe: &dyn Fn()) {
        let Node { next, prev, ring, .. } = &self.nodes[node];
        let (before, after) = (get(prev), get(next));
        set(&self.nodes[before].next, after);
        breathe();
        set(&self.nodes[after].prev, before);
        breathe();
        let right = get(&self.nodes[left].next);
        set(ring, get(&self.nodes[left].ring));
        set(&self.nodes[left].next, node);
        set(prev, left);
        breathe();
        set(next, right);
        set(&self.nodes[right].prev, node);
    }

    fn pair_anew(&self, one: usize, other: usize, breathe: &dyn Fn()) {
        let twins = [one, other].map(|node| get(&self.nodes[node].twin));
        if twins[0] == other {
            return;
        }
        set(&self.nodes[one].twin, other);
        breathe();
        set(&self.nodes[other].twin, one);
        breathe();
        set(&self.nodes[twins[0]].twin, twins[1]);
        breathe();
        set(&self.nodes[twins[1]].twin, twins[0]);
    }

    /// Whether they are whole.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub fn check(&self) -> Result<(), String> {
        let len = self.nodes.len();
        let mut met = 0;
        for head in 0..HEADS {
            let mut at = head;
            loop {
                let next = get(&self.nodes[at].next);
                let node = self
                    .nodes
                    .get(next)
                    .ok_or_else(|| format!("node {at} is followed by {next}, which is none"))?;
                if get(&node.prev) != at {
                    return Err(format!(
                        "node {at} is followed by {next}, which follows {}",
                        get(&node.prev)
                    ));
                }
                if get(&node.ring) != head {
                    return Err(format!(
                        "node {next} of ring {} is in ring {head}",
                        get(&node.ring)
                    ));
                }
                met += 1;
                if met > len {
                    return Err(format!("ring {head} does not close"));
                }
                at = next;
                if at == head {
                    break;
                }
            }
        }
        if met != len {
            return Err(format!("{met} of {len} nodes are in a ring"));
        }
        for node in HEADS..len {
            let twin = get(&self.nodes[node].twin);
            let back = self.nodes.get(twin).map(|twin| get(&twin.twin));
            if twin == node || back != Some(node) {
                return Err(format!("node {node} has the twin {twin}, whose twin is {back:?}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use allocator_api2::alloc::Global;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_whole_between_changes_and_the_checker_sees_most_middles(
            seed: u64,
            pairs in 2usize..40,
            changes in 100usize..200,
        ) {
            let mut dice = Dice::new(seed);
            let rings = Rings::new(pairs, Global).unwrap();
            prop_assert_eq!(rings.check(), Ok(()));
            let (breaths, broken) = (Cell::new(0), Cell::new(0));
            for _ in 0..changes {
                rings.change(&mut dice, &|| {
                    breaths.set(breaths.get() + 1);
                    broken.set(broken.get() + usize::from(rings.check().is_err()));
                });
                prop_assert_eq!(rings.check(), Ok(()));
            }
            // A node that is put where it was is whole all the time.
            prop_assert!(broken.get() * 10 > breaths.get() * 5, "{} of {}", broken.get(), breaths.get());
        }
    }

    #[test]
    fn without_nodes_they_are_two_heads() {
        assert_eq!(Rings::new(0, Global).unwrap().check(), Ok(()));
    }
}

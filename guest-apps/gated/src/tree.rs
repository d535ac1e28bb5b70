//! A binary search tree with links to parents, in an arena that grows; for several workers behind one lock.

use alloc::format;
use alloc::string::String;

use allocator_api2::alloc::Allocator;
use allocator_api2::collections::TryReserveError;
use allocator_api2::vec::Vec;

use crate::Dice;

const NONE: u32 = u32::MAX;

/// Sides of a node.
const LEFT: usize = 0;
const RIGHT: usize = 1;

#[derive(Clone, Copy, Debug)]
struct Node {
    key: u32,
    children: [u32; 2],
    /// Of a free node: the next free one.
    parent: u32,
}

/// A set of numbers.
#[derive(Debug)]
pub struct Tree<A: Allocator> {
    nodes: Vec<Node, A>,
    root: u32,
    free: u32,
    len: usize,
    changes: u64,
}

impl<A: Allocator> Tree<A> {
    /// An empty one.
    pub fn new(memory: A) -> Self {
        Self {
            nodes: Vec::new_in(memory),
            root: NONE,
            free: NONE,
            len: 0,
            changes: 0,
        }
    }

    /// Numbers in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Changes made so far.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Puts a number below `keys` in, or takes it out if it is there. `breathe` is called in the middle. Returns the number.
    ///
    /// # Errors
    /// No memory for one more; nothing has changed.
    pub fn change(
        &mut self,
        dice: &mut Dice,
        keys: usize,
        breathe: &dyn Fn(),
    ) -> Result<u32, TryReserveError> {
        let key = dice.roll(keys) as u32;
        let (mut parent, mut side, mut at) = (NONE, LEFT, self.root);
        while at != NONE && self.node(at).key != key {
            side = if key < self.node(at).key { LEFT } else { RIGHT };
            (parent, at) = (at, self.node(at).children[side]);
        }
        if at == NONE {
            self.insert(key, parent, side, breathe)?;
        } else {
            self.remove(at, breathe);
        }
        self.changes += 1;
        Ok(key)
    }

    fn node(&self, index: u32) -> &Node {
        &self.nodes[index as usize]
    }

    fn node_mut(&mut self, index: u32) -> &mut Node {
        &mut self.nodes[index as usize]
    }

    fn insert(
        &mut self,
        key: u32,
        parent: u32,
        side: usize,
        breathe: &dyn Fn(),
    ) -> Result<(), TryReserveError> {
        let fresh = Node {
            key,
            children: [NONE; 2],
            parent,
        };
        let index = if self.free == NONE {
            self.nodes.try_reserve(1)?;
            self.nodes.push(fresh);
            self.nodes.len() as u32 - 1
        } else {
            let index = self.free;
            self.free = self.node(index).parent;
            *self.node_mut(index) = fresh;
            index
        };
        self.len += 1;
        breathe();
        match parent {
            NONE => self.root = index,
            parent => self.node_mut(parent).children[side] = index,
        }
        Ok(())
    }

    fn remove(&mut self, at: u32, breathe: &dyn Fn()) {
        let mut gone = at;
        if self.node(at).children[LEFT] != NONE && self.node(at).children[RIGHT] != NONE {
            // The next larger number takes its place, which has no left child.
            gone = self.node(at).children[RIGHT];
            while self.node(gone).children[LEFT] != NONE {
                gone = self.node(gone).children[LEFT];
            }
            self.node_mut(at).key = self.node(gone).key;
            breathe();
        }
        let Node { children, parent, .. } = *self.node(gone);
        let child = if children[LEFT] == NONE {
            children[RIGHT]
        } else {
            children[LEFT]
        };
        match parent {
            NONE => self.root = child,
            parent => {
                let side = usize::from(self.node(parent).children[RIGHT] == gone);
                self.node_mut(parent).children[side] = child;
            }
        }
        breathe();
        if child != NONE {
            self.node_mut(child).parent = parent;
        }
        self.node_mut(gone).parent = self.free;
        self.free = gone;
        self.len -= 1;
    }

    /// Whether it is whole.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub fn check(&self) -> Result<(), String> {
        let found = self.walk(|_| ())?;
        if found != self.len {
            return Err(format!("{found} numbers are in the tree, not {}", self.len));
        }
        let (mut free, mut at) = (0, self.free);
        while at != NONE && free <= self.nodes.len() {
            free += 1;
            at = self
                .nodes
                .get(at as usize)
                .ok_or_else(|| format!("free node {at} is none"))?
                .parent;
        }
        if free + found != self.nodes.len() {
            return Err(format!(
                "{free} free nodes and {found} numbers are not the {} nodes",
                self.nodes.len()
            ));
        }
        Ok(())
    }

    /// Calls `with` for each number, ascending; returns how many there are.
    ///
    /// # Errors
    /// What is wrong with the links or the order.
    fn walk(&self, mut with: impl FnMut(u32)) -> Result<usize, String> {
        let get = |index: u32| {
            let node = self.nodes.get(index as usize);
            node.ok_or_else(|| format!("a link leads to node {index}, which is none"))
        };
        let (mut from, mut at) = (NONE, self.root);
        let (mut found, mut newest) = (0, None);
        // Each node is come by at most three times: from above, from the left, from the right.
        for _ in 0..=3 * self.nodes.len() {
            if at == NONE {
                return Ok(found);
            }
            let Node {
                key,
                children,
                parent,
            } = *get(at)?;
            let came_down = from == parent;
            if came_down && children[LEFT] != NONE {
                let below = get(children[LEFT])?.parent;
                if below != at {
                    return Err(format!(
                        "node {} under {at} has the parent {below}",
                        children[LEFT]
                    ));
                }
                (from, at) = (at, children[LEFT]);
                continue;
            }
            if came_down || (from == children[LEFT] && from != NONE) {
                if newest >= Some(key) {
                    return Err(format!("{key} comes after {newest:?}"));
                }
                newest = Some(key);
                found += 1;
                with(key);
                if children[RIGHT] != NONE {
                    let below = get(children[RIGHT])?.parent;
                    if below != at {
                        return Err(format!(
                            "node {} under {at} has the parent {below}",
                            children[RIGHT]
                        ));
                    }
                    (from, at) = (at, children[RIGHT]);
                    continue;
                }
            }
            (from, at) = (at, parent);
        }
        Err(String::from("its links lead in a circle"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use allocator_api2::alloc::Global;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(seed: u64, keys in 1usize..100, changes in 0usize..300) {
            let mut dice = Dice::new(seed);
            let mut tree = Tree::new(Global);
            let mut model = BTreeSet::new();
            for _ in 0..changes {
                let key = tree.change(&mut dice, keys, &|| ()).unwrap();
                if !model.remove(&key) {
                    model.insert(key);
                }
                prop_assert_eq!(tree.check(), Ok(()));
                prop_assert_eq!(tree.len(), model.len());
            }
            let mut found = Vec::new();
            tree.walk(|key| found.push(key)).unwrap();
            prop_assert!(found.iter().eq(&model));
        }
    }

    #[test]
    fn what_is_not_whole_is_said() {
        let mut dice = Dice::new(1);
        let mut tree = Tree::new(Global);
        while tree.len() < 20 {
            tree.change(&mut dice, 1000, &|| ()).unwrap();
        }
        let (root, free) = (tree.root as usize, tree.free);
        let whole = tree.nodes.clone();
        let mut broken = |change: fn(&mut Tree<Global>, usize)| {
            change(&mut tree, root);
            assert!(tree.check().is_err());
            tree.nodes = whole.clone();
            (tree.root, tree.free, tree.len) = (root as u32, free, 20);
            assert_eq!(tree.check(), Ok(()));
        };
        broken(|tree, root| tree.nodes[root].key = 1001);
        broken(|tree, root| tree.nodes[root].children[LEFT] = NONE);
        broken(|tree, root| tree.nodes[root].children[RIGHT] = 99);
        broken(|tree, root| tree.nodes[root].parent = 5);
        broken(|tree, root| tree.free = root as u32);
        broken(|tree, _| tree.len = 19);
    }
}

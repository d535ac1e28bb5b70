//! The guest: four workers change linked structures, a fifth takes checkpoints of them, all at once.
//!
//! Each of the four has rings of its own, which it changes inside the gate, and all share two trees behind locks that lie with
//! them in checkpointable memory. After a takeover a restore hook looks whether everything is whole and every lock free, and
//! says so as an event; then the workers go on. With the word `plant=1` the rings are changed outside the gate: a bug, which
//! the hook has to find.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;

use allocator_api2::boxed::Box;
use gated::{Dice, Rings, Tree};
use hs_core::checkpoint::Flags;
use hs_core::class::{Class, ClassId};
use hs_core::event::Event;
use hs_core::registry::hook::{self, Restored, Verdict};
use hs_core::registry::thread::{self, Work};
use hs_core::sync::{CheckpointMutex, sleep};
use hs_net::node::{Node, node, refuse, serve};
use kernel::Guest;

kernel::entry!(main);

/// The application's own number: nodes pair only with the same.
const APPLICATION: u64 = u64::from_be_bytes(*b"hs-gate\x01");
const STRUCTURES: ClassId = ClassId(1);
const STRUCTURES_BYTES: usize = 1 << 20;

const WORKERS: usize = 4;
/// Of each worker's rings.
const PAIRS: usize = 500;
/// Numbers that may be in a tree.
const KEYS: usize = 1000;
/// Between two rests of a worker: the pair's own traffic does not wait for it, but the host may.
const CHANGES_PER_REST: usize = 8;
const REST: Duration = Duration::from_millis(1);
/// Changes after which the workers are said to work.
const CHANGES_TOLD: u64 = 200;
/// Where it serves, so that the pair knows it as serving. Nothing is said there.
const PORT: u16 = 7;
const BACKLOG: usize = 1;

fn main(guest: &'static Guest) -> ! {
    let words = &guest.options().application;
    if let Some(word) = words.iter().find(|word| *word != "plant=1") {
        refuse(guest, &format!("gated does not know the word {word:?}: plant=1"));
    }
    let pair = guest.options().pair.as_ref();
    serve(guest, guest.memory(), pair, guest.nics(), APPLICATION, start)
}

/// All that is changed.
struct Structures {
    rings: [Rings<Class>; WORKERS],
    trees: [CheckpointMutex<Tree<Class>>; 2],
}

/// Makes the structures and registers the workers, on a first master.
fn start(node: &'static Node) -> Result<(), String> {
    let class = Class::create(STRUCTURES, STRUCTURES_BYTES).map_err(|error| format!("{error}"))?;
    let no_memory = |_| String::from("there is no memory for the structures");
    let rings = [(); WORKERS].map(|()| Rings::new(PAIRS, class));
    let [one, two, three, four] = rings;
    let structures = Structures {
        rings: [
            one.map_err(no_memory)?,
            two.map_err(no_memory)?,
            three.map_err(no_memory)?,
            four.map_err(no_memory)?,
        ],
        trees: [(); 2].map(|()| CheckpointMutex::new(Tree::new(class))),
    };
    let structures: &'static Structures = Box::leak(Box::new_in(structures, class));
    for index in 0..WORKERS {
        let changer = Box::leak(Box::new_in(Changer { structures, index }, class));
        thread::register_state(changer).map_err(|error| format!("{error}"))?;
    }
    let taker = Box::leak(Box::new_in(Taker { structures }, class));
    thread::register_state(taker).map_err(|error| format!("{error}"))?;
    hook::at_restore_of(structures).map_err(|error| format!("{error}"))?;
    node.service()
        .listen(PORT, BACKLOG)
        .map_err(|error| format!("{error}"))
}

impl Structures {
    fn check(&self) -> Result<String, String> {
        if let Some(index) = self.trees.iter().position(CheckpointMutex::is_locked) {
            return Err(format!("the lock of tree {index} is held after the restore"));
        }
        for (index, rings) in self.rings.iter().enumerate() {
            rings
                .check()
                .map_err(|why| format!("rings of worker {index}: {why}"))?;
        }
        let mut numbers = 0;
        for (index, tree) in self.trees.iter().enumerate() {
            let tree = tree.lock();
            tree.check().map_err(|why| format!("tree {index}: {why}"))?;
            numbers += tree.len();
        }
        Ok(format!(
            "{} changes, {numbers} numbers in the trees, all locks free",
            self.changes()
        ))
    }

    fn changes(&self) -> u64 {
        let in_rings: u64 = self.rings.iter().map(Rings::changes).sum();
        let in_trees: u64 = self.trees.iter().map(|tree| tree.lock().changes()).sum();
        in_rings + in_trees
    }
}

impl Restored for Structures {
    fn restored(&self) -> Verdict {
        let checked = self.check();
        let (passed, detail) = match &checked {
            Ok(figures) => (true, figures),
            Err(why) => (false, why),
        };
        node().machine().emit(&Event::Test {
            name: "whole".to_string(),
            passed,
            detail: detail.clone(),
        });
        checked.map(drop).map_err(|_| "a structure is not whole")
    }
}

/// A worker that changes its own rings, and the trees.
struct Changer {
    structures: &'static Structures,
    index: usize,
}

impl Work for Changer {
    fn work(&'static mut self) {
        let machine = node().machine();
        let planted = !kernel::guest().options().application.is_empty();
        let mut dice = Dice::new(machine.random_u64());
        let breathe = || machine.yield_now();
        let rings = &self.structures.rings[self.index];
        loop {
            for _ in 0..CHANGES_PER_REST {
                let inside = (!planted).then(|| node().gate().enter());
                rings.change(&mut dice, &breathe);
                drop(inside);
                let mut tree = self.structures.trees[dice.roll(2)].lock();
                // The class was made large enough for all the numbers there are.
                tree.change(&mut dice, KEYS, &breathe)
                    .expect("the class has room for both trees");
            }
            sleep(REST);
        }
    }
}

/// The worker that takes checkpoints, one after the other.
struct Taker {
    structures: &'static Structures,
}

impl Work for Taker {
    fn work(&'static mut self) {
        let node = node();
        let begun_with = self.structures.changes();
        let mut told = false;
        loop {
            let seen = node.signal().seen();
            // The peer's heartbeats are there too.
            node.service().poll(node.machine().now());
            node.service().flush(node.machine().now());
            // Refused while as many are in flight as may be; the signal says when one has ended.
            let _ = node.checkpoint(Flags::ASYNC | Flags::INCREMENTAL);
            if !told && self.structures.changes() >= begun_with + CHANGES_TOLD {
                told = true;
                node.machine().emit(&Event::Test {
                    name: "working".to_string(),
                    passed: true,
                    detail: format!("{} changes", self.structures.changes()),
                });
            }
            node.signal().wait(seen, Some(node.machine().now() + REST));
        }
    }
}

//! Several sinks at once: whatever some of them do, each holds only states that were, and those that work are up to date.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;

use allocator_api2::vec::Vec as ClassVec;

use super::super::*;
use super::Dice;
use super::pair::{Held, HeldPipe, await_ended, choosing, config, send, written};
use crate::class::{Class, ClassId, with_class};
use crate::host::{HostMemory, Session};
use crate::image::{Image, Progress};
use crate::platform::PAGE_LEN;

type Pages = Vec<(usize, Box<[u8; PAGE_LEN]>)>;

/// A sink that applies what it gets, as a spare does, and fails as its dice have it.
struct Mirror {
    memory: &'static HostMemory,
    image: Mutex<Image>,
    dice: Mutex<Dice>,
    /// One in so many calls fails; 0: none does.
    fails: AtomicU64,
}

struct MirrorPipe(Arc<Mirror>);

struct MirrorWriter {
    mirror: Arc<Mirror>,
    id: CheckpointId,
    bytes: Vec<u8>,
}

impl Mirror {
    fn new(memory: &HostMemory, seed: u64) -> Arc<Self> {
        let memory = memory.twin();
        Arc::new(Self {
            memory,
            image: Mutex::new(Image::new(memory, config())),
            dice: Mutex::new(Dice(seed)),
            fails: AtomicU64::new(0),
        })
    }

    fn maybe(&self) -> Result<(), PipeError> {
        let fails = self.fails.load(Ordering::Relaxed) as usize;
        let mut dice = self.dice.lock().unwrap();
        if fails == 0 || dice.roll(fails) > 0 {
            return Ok(());
        }
        Err([PipeError::Failed, PipeError::Full, PipeError::Refused][dice.roll(3)])
    }

    fn newest(&self) -> Option<CheckpointId> {
        self.image.lock().unwrap().newest()
    }
}

impl CheckpointPipe for MirrorPipe {
    fn open(&self, id: CheckpointId, _: Kind) -> Result<Box<dyn PipeWriter>, PipeError> {
        self.0.maybe()?;
        Ok(Box::new(MirrorWriter {
            mirror: Arc::clone(&self.0),
            id,
            bytes: Vec::new(),
        }))
    }

    fn cancel(&self, _: CheckpointId) {}
}

impl PipeWriter for MirrorWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), PipeError> {
        self.mirror.maybe()?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), PipeError> {
        self.mirror.maybe()?;
        let mut image = self.mirror.image.lock().unwrap();
        let _ = image.begin(self.id);
        match image.feed(self.id, &self.bytes) {
            Ok(Progress::Complete { acknowledge, .. }) if acknowledge.contains(&self.id) => Ok(()),
            // It does not wait for what comes too late: such a sink fails.
            _ => {
                image.abandon(self.id);
                Err(PipeError::Failed)
            }
        }
    }
}

/// A master, its channel, and two further sinks.
struct World {
    memory: &'static HostMemory,
    checkpointer: Checkpointer,
    held: Arc<Held>,
    mirrors: [Arc<Mirror>; 2],
    truth: BTreeMap<CheckpointId, Pages>,
    value: ClassVec<u8, Class>,
}

impl World {
    fn new(memory: &'static HostMemory, seed: u64) -> Self {
        let class = Class::create(ClassId(1), 4 * PAGE_LEN).unwrap();
        let (checkpointer, held) = choosing(memory, 3, Choice::Auto);
        let mirrors = [1, 2].map(|number| Mirror::new(memory, seed * 3 + number));
        for (mirror, need) in mirrors.iter().zip([Need::Required, Need::Optional]) {
            checkpointer
                .load_pipe(Box::new(MirrorPipe(Arc::clone(mirror))), need)
                .unwrap();
        }
        let mut value = ClassVec::new_in(class);
        value.resize(5 * PAGE_LEN, 0);
        Self {
            memory,
            checkpointer,
            held,
            mirrors,
            truth: BTreeMap::new(),
            value,
        }
    }

    fn take(&mut self, flags: Flags) -> Option<CheckpointId> {
        let id = self.checkpointer.checkpoint(flags | Flags::ASYNC, || ()).ok()?;
        self.truth.insert(id, self.memory.pages());
        Some(id)
    }

    fn step(&mut self, dice: &mut Dice) {
        match dice.roll(12) {
            0..4 => {
                let page = dice.roll(5) * PAGE_LEN;
                self.value[page] = dice.roll(256) as u8;
            }
            4..8 => {
                self.take(Flags::INCREMENTAL);
            }
            8 => match dice.roll(4) {
                0 => {
                    self.checkpointer.spare_lost();
                    self.held.refuse_all(PipeError::Disconnected);
                }
                1 => self.checkpointer.spare_joined(),
                _ => {}
            },
            9 => {
                for mirror in &self.mirrors {
                    let fails = [0, 0, 4, 20][dice.roll(4)];
                    mirror.fails.store(fails, Ordering::Relaxed);
                }
            }
            _ => {
                let undecided = self.held.undecided();
                if let Some(id) = undecided.get(dice.roll(undecided.len())) {
                    let lost = dice.roll(6) == 0;
                    let verdict = if lost { Err(PipeError::Full) } else { Ok(()) };
                    self.held.decide(*id, verdict);
                }
            }
        }
        self.compare();
    }

    fn compare(&self) {
        for mirror in &self.mirrors {
            // Held, so that no child applies anything meanwhile.
            let image = mirror.image.lock().unwrap();
            let Some(newest) = image.newest() else { continue };
            // One that was taken just now.
            let Some(truth) = self.truth.get(&newest) else {
                continue;
            };
            assert!(mirror.memory.pages() == *truth, "a sink differs at {newest}");
        }
    }

    fn rest(&self) {
        while self.checkpointer.status().in_flight > 0 {
            let seen = self.checkpointer.ended().seen();
            for id in self.held.undecided() {
                self.held.decide(id, Ok(()));
            }
            let soon = machine().now() + core::time::Duration::from_millis(1);
            self.checkpointer.ended().wait(seen, Some(soon));
        }
    }
}

#[test]
fn each_sink_holds_only_states_that_were() {
    let session = Session::start(256);
    for seed in 0..150 {
        std::println!("seed {seed}");
        session.restart();
        let mut dice = Dice(seed);
        let mut world = World::new(session.memory(), seed);
        for _ in 0..100 {
            world.step(&mut dice);
        }
        world.rest();
        for mirror in &world.mirrors {
            mirror.fails.store(0, Ordering::Relaxed);
        }
        // A sink that failed gets the next full one; from there on all are up to date.
        for flags in [Flags::empty(), Flags::INCREMENTAL] {
            world.value[0] = world.value[0].wrapping_add(1);
            let id = world.take(flags).expect("nothing is in flight");
            world.rest();
            world.compare();
            for mirror in &world.mirrors {
                assert_eq!(mirror.newest(), Some(id));
            }
            assert_eq!(world.checkpointer.newest_kept(), Some(id));
        }
    }
}

#[test]
fn a_failing_optional_sink_is_left_behind_until_the_next_full_checkpoint() {
    let session = Session::start(256);
    let mut world = World::new(session.memory(), 1);
    world.checkpointer.spare_joined();
    let (first, _) = send(&world.checkpointer, &world.held, Flags::INCREMENTAL);
    let [required, optional] = &world.mirrors;
    assert_eq!(optional.newest(), Some(first));
    optional.fails.store(1, Ordering::Relaxed);
    world.value[0] = 1;
    let (second, _) = send(&world.checkpointer, &world.held, Flags::INCREMENTAL);
    assert_eq!(world.checkpointer.newest_kept(), Some(second));
    optional.fails.store(0, Ordering::Relaxed);
    world.value[0] = 2;
    let (third, _) = send(&world.checkpointer, &world.held, Flags::INCREMENTAL);
    assert_eq!(third.generation, first.generation, "nothing is full for its sake");
    assert_eq!((required.newest(), optional.newest()), (Some(third), Some(first)));
    let (full, _) = send(&world.checkpointer, &world.held, Flags::empty());
    assert_eq!((required.newest(), optional.newest()), (Some(full), Some(full)));
}

#[test]
fn a_checkpoint_is_lost_that_a_required_sink_has_not_taken() {
    let session = Session::start(256);
    let mut world = World::new(session.memory(), 1);
    let kept = world.checkpointer.checkpoint(Flags::INCREMENTAL, || ()).unwrap();
    world.mirrors[0].fails.store(1, Ordering::Relaxed);
    world.value[0] = 1;
    let lost = world.checkpointer.checkpoint(Flags::INCREMENTAL, || ());
    assert!(
        matches!(lost, Err(CheckpointError::Lost(_, Loss::Pipe(_)))),
        "{lost:?}"
    );
    assert_eq!(world.checkpointer.newest_kept(), Some(kept));
    // What it held goes into the next.
    world.mirrors[0].fails.store(0, Ordering::Relaxed);
    let next = world.checkpointer.checkpoint(Flags::empty(), || ()).unwrap();
    assert_eq!(world.mirrors[0].newest(), Some(next));
    assert!(world.mirrors[0].memory.pages() == world.memory.pages());
}

#[test]
fn there_is_room_for_four() {
    let session = Session::start(64);
    let (checkpointer, _) = choosing(session.memory(), 1, Choice::Auto);
    let mirror = Mirror::new(session.memory(), 1);
    for _ in 1..SINKS_MAX {
        let pipe = Box::new(MirrorPipe(Arc::clone(&mirror)));
        assert!(checkpointer.load_pipe(pipe, Need::Optional).is_ok());
    }
    let pipe = Box::new(MirrorPipe(mirror));
    assert_eq!(checkpointer.load_pipe(pipe, Need::Optional), Err(PoolFull));
}

#[test]
fn an_optional_sink_that_was_told_of_a_loss_has_not_failed() {
    let session = Session::start(64);
    let (checkpointer, held) = choosing(session.memory(), 4, Choice::Incremental);
    let optional = Arc::new(Held::default());
    let pipe = Box::new(HeldPipe(Arc::clone(&optional)));
    checkpointer.load_pipe(pipe, Need::Optional).unwrap();
    checkpointer.spare_joined();
    let take = || {
        let id = checkpointer
            .checkpoint(Flags::ASYNC | Flags::INCREMENTAL, || ())
            .unwrap();
        written(&optional, id);
        id
    };
    let first = take();
    optional.decide(first, Ok(()));
    held.decide(first, Ok(()));
    await_ended(&checkpointer, &held);
    let [lost, doomed] = [take(), take()];
    // The optional sink waits for the doomed one when it is cancelled.
    held.decide(lost, Err(PipeError::Full));
    optional.decide(lost, Ok(()));
    await_ended(&checkpointer, &held);
    assert_eq!(optional.undecided(), []);
    let next = take();
    assert_eq!(
        (next.generation, next.increment),
        (first.generation, doomed.increment + 1)
    );
    assert_eq!(optional.undecided(), [next], "it gets what comes after");
    optional.decide(next, Ok(()));
    held.decide(next, Ok(()));
    await_ended(&checkpointer, &held);
    assert_eq!(checkpointer.newest_kept(), Some(next));
}

/// A sink that asks for a full checkpoint, always.
struct Wanting(HeldPipe);

impl CheckpointPipe for Wanting {
    fn open(&self, id: CheckpointId, kind: Kind) -> Result<Box<dyn PipeWriter>, PipeError> {
        self.0.open(id, kind)
    }

    fn cancel(&self, id: CheckpointId) {
        self.0.cancel(id);
    }

    fn wants_full(&self) -> bool {
        true
    }
}

#[test]
fn a_sink_that_asks_for_a_full_checkpoint_is_sent_one_at_a_time() {
    let session = Session::start(64);
    let (checkpointer, _) = choosing(session.memory(), 4, Choice::Incremental);
    let held = Arc::new(Held::default());
    let pipe = Box::new(Wanting(HeldPipe(Arc::clone(&held))));
    checkpointer.load_pipe(pipe, Need::Required).unwrap();
    let take = |count: usize| {
        let taken = (0..count).map(|_| {
            checkpointer
                .checkpoint(Flags::ASYNC | Flags::INCREMENTAL, || ())
                .unwrap()
        });
        let taken: Vec<CheckpointId> = taken.collect();
        for id in &taken {
            written(&held, *id);
            held.decide(*id, Ok(()));
        }
        await_ended(&checkpointer, &held);
        taken
            .into_iter()
            .map(|id| (id.generation, id.increment))
            .collect::<Vec<_>>()
    };
    assert_eq!(take(3), [(1, 0), (1, 1), (1, 2)]);
    assert_eq!(take(2), [(2, 0), (2, 1)]);
}

#[test]
fn a_change_of_sinks_asks_no_class_for_memory() {
    let session = Session::start(64);
    let (checkpointer, held) = choosing(session.memory(), 4, Choice::Incremental);
    let class = Class::create(ClassId(1), 0).unwrap();
    checkpointer.spare_joined();
    let doomed = checkpointer.checkpoint(Flags::ASYNC, || ()).unwrap();
    written(&held, doomed);
    // As in a checkpoint that another thread takes: whoever wants this lock with the state's in hand waits for ever.
    let allocation = library::lock();
    std::thread::scope(|threads| {
        let changes = threads.spawn(|| with_class(class, || checkpointer.spare_lost()));
        changes.join().unwrap();
    });
    drop(allocation);
    await_ended(&checkpointer, &held);
}

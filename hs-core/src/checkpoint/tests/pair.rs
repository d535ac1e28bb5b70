//! Master and spare in one process: real classes, children on threads, a pipe whose every byte the test hands on.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread;

use allocator_api2::vec::Vec as ClassVec;

use super::super::*;
use super::Dice;
use crate::checkpoint::Quiesced;
use crate::class::{Class, ClassId};
use crate::format::{Content, Decoder, Item, Limits};
use crate::host::{HostMachine, HostMemory, Session};
use crate::image::{Image, ImageConfig, ImageError, Progress};
use crate::platform::PAGE_LEN;
use crate::registry::descriptor::{self, Descriptor, DescriptorKind};
use crate::registry::thread as workers;
use crate::restore::{RestoreError, restore};
use crate::roots::{self, RootId};

const APPLICATION: u64 = 0xca11;
pub(super) const NCON: usize = 4;

#[derive(Default)]
struct Channel {
    bytes: Vec<u8>,
    /// How many the spare was given.
    given: usize,
    committed: bool,
    verdict: Option<Result<(), PipeError>>,
}

/// A pipe that keeps everything until the test decides.
#[derive(Default)]
pub(in super::super) struct Held {
    channels: Mutex<BTreeMap<CheckpointId, Channel>>,
    changed: Condvar,
}

struct HeldWriter {
    pipe: Arc<Held>,
    id: CheckpointId,
}

pub(in super::super) struct HeldPipe(pub(in super::super) Arc<Held>);

impl Held {
    fn channels(&self) -> MutexGuard<'_, BTreeMap<CheckpointId, Channel>> {
        self.channels.lock().unwrap()
    }

    pub(in super::super) fn decide(&self, id: CheckpointId, verdict: Result<(), PipeError>) {
        self.channels()
            .entry(id)
            .or_default()
            .verdict
            .get_or_insert(verdict);
        self.changed.notify_all();
    }

    /// None of those that are undecided arrives.
    pub(in super::super) fn refuse_all(&self, error: PipeError) {
        for id in self.undecided() {
            self.decide(id, Err(error));
        }
    }

    /// Waits until the child has written everything, or has ended.
    fn await_written(&self, id: CheckpointId) {
        let written = |channel: &Channel| channel.committed || channel.verdict.is_some();
        drop(
            self.changed
                .wait_while(self.channels(), |channels| {
                    !channels.get(&id).is_some_and(written)
                })
                .unwrap(),
        );
    }

    pub(in super::super) fn undecided(&self) -> Vec<CheckpointId> {
        let channels = self.channels();
        channels
            .iter()
            .filter(|(_, channel)| channel.verdict.is_none())
            .map(|(id, _)| *id)
            .collect()
    }
}

impl CheckpointPipe for HeldPipe {
    fn open(&self, id: CheckpointId, _: Kind) -> Result<Box<dyn PipeWriter>, PipeError> {
        if let Some(Err(error)) = self.0.channels().entry(id).or_default().verdict {
            return Err(error);
        }
        Ok(Box::new(HeldWriter {
            pipe: Arc::clone(&self.0),
            id,
        }))
    }

    fn cancel(&self, id: CheckpointId) {
        self.0.decide(id, Err(PipeError::Cancelled));
    }
}

impl PipeWriter for HeldWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), PipeError> {
        let mut channels = self.pipe.channels();
        let channel = channels.get_mut(&self.id).unwrap();
        channel.bytes.extend_from_slice(bytes);
        match channel.verdict {
            Some(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    fn commit(self: Box<Self>) -> Result<(), PipeError> {
        self.pipe.channels().get_mut(&self.id).unwrap().committed = true;
        self.pipe.changed.notify_all();
        let undecided = |channels: &mut BTreeMap<_, Channel>| channels[&self.id].verdict.is_none();
        let channels = self
            .pipe
            .changed
            .wait_while(self.pipe.channels(), undecided)
            .unwrap();
        channels[&self.id].verdict.unwrap()
    }
}

impl Drop for HeldWriter {
    fn drop(&mut self) {
        self.pipe.decide(self.id, Err(PipeError::Cancelled));
    }
}

pub(in super::super) fn config() -> ImageConfig {
    ImageConfig {
        build_id: HostMachine::BUILD_ID,
        application: APPLICATION,
        term: Term::FIRST,
        streams: 2 * NCON,
    }
}

fn checkpointer(memory: &'static HostMemory, ncon: usize) -> (Checkpointer, Arc<Held>) {
    choosing(memory, ncon, Choice::Incremental)
}

pub(in super::super) fn choosing(
    memory: &'static dyn CheckpointMemory,
    ncon: usize,
    choice: Choice,
) -> (Checkpointer, Arc<Held>) {
    sending(memory, ncon, choice, Compression::None)
}

fn sending(
    memory: &'static dyn CheckpointMemory,
    ncon: usize,
    choice: Choice,
    compression: Compression,
) -> (Checkpointer, Arc<Held>) {
    static ENDED: Signal = Signal::new();
    let held = Arc::new(Held::default());
    let pipe = Box::leak(Box::new(HeldPipe(Arc::clone(&held))));
    let config = CheckpointerConfig {
        application: APPLICATION,
        term: Term::FIRST,
        ncon,
        choice,
        shadow_pages: 64,
        compression,
        ended: &ENDED,
    };
    (Checkpointer::new(memory, pipe, config), held)
}

/// Waits until every child whose fate was decided is gone.
pub(super) fn await_ended(checkpointer: &Checkpointer, held: &Held) {
    loop {
        let seen = checkpointer.ended().seen();
        let undecided = held.undecided().len();
        {
            let state = checkpointer.shared.state.lock();
            if state.flights.in_flight() == undecided && !state.flights.has_doomed() {
                return;
            }
        }
        checkpointer.ended().wait(seen, None);
    }
}

type Pages = Vec<(usize, Box<[u8; PAGE_LEN]>)>;

struct Pair {
    memory: &'static HostMemory,
    checkpointer: Checkpointer,
    held: Arc<Held>,
    spare: &'static HostMemory,
    image: Image,
    /// What the master's memory was at each checkpoint.
    truth: BTreeMap<CheckpointId, Pages>,
    /// Applied by the spare, and the master does not know yet.
    acknowledged: Vec<CheckpointId>,
    classes: [Class; 2],
    values: Vec<ClassVec<u8, Class>>,
    registered: usize,
    losses: usize,
}

fn worker(_: usize) {}

fn listener(number: usize, port: usize) -> Descriptor {
    let local = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port as u16);
    Descriptor {
        number: number as u32,
        kind: DescriptorKind::TcpListener { local, backlog: 1 },
    }
}

impl Pair {
    fn new(memory: &'static HostMemory, choice: Choice, compression: Compression) -> Self {
        let classes = [1, 2].map(|id| Class::create(ClassId(id), 3 * PAGE_LEN).unwrap());
        let (checkpointer, held) = sending(memory, NCON, choice, compression);
        checkpointer.spare_joined();
        let spare = memory.twin();
        Self {
            memory,
            checkpointer,
            held,
            spare,
            image: Image::new(spare, config()),
            truth: BTreeMap::new(),
            acknowledged: Vec::new(),
            classes,
            values: Vec::new(),
            registered: 0,
            losses: 0,
        }
    }

    fn work(&mut self, dice: &mut Dice) {
        match dice.roll(11) {
            0..3 => {
                let mut value = ClassVec::new_in(self.classes[dice.roll(2)]);
                value.resize(dice.roll(6000), dice.roll(256) as u8);
                self.values.push(value);
            }
            3 if !self.values.is_empty() => {
                self.values.swap_remove(dice.roll(self.values.len()));
            }
            4 if self.registered < 20 => {
                workers::register(worker, self.registered).unwrap();
                self.registered += 1;
            }
            5 => roots::set(RootId::APPLICATION, dice.roll(1 << 20)).unwrap(),
            6 => {
                let descriptor = listener(dice.roll(5), dice.roll(100));
                let _ = match dice.roll(3) {
                    0 => descriptor::deregister(descriptor.number),
                    1 => descriptor::update(descriptor),
                    _ => descriptor::register(descriptor),
                };
            }
            // Areas come, are cut and go.
            7 => {
                self.classes[dice.roll(2)].trim().unwrap();
            }
            8 => match Class::find(ClassId(3)) {
                Some(class) => class.destroy().unwrap(),
                None => {
                    Class::create(ClassId(3), dice.roll(40) * PAGE_LEN).unwrap();
                }
            },
            _ if self.values.is_empty() => {}
            _ => {
                let index = dice.roll(self.values.len());
                // Zeroes now and then, so that a page becomes one of zeroes again.
                let byte = dice.roll(3) as u8;
                self.values[index].fill(byte);
            }
        }
    }

    fn take(&mut self, flags: Flags) {
        let Ok(id) = self.checkpointer.checkpoint(flags | Flags::ASYNC, || ()) else {
            return;
        };
        self.truth.insert(id, self.memory.pages());
        self.held.await_written(id);
        await_ended(&self.checkpointer, &self.held);
    }

    fn lose(&mut self, id: CheckpointId, why: PipeError) {
        self.losses += 1;
        self.held.decide(id, Err(why));
        await_ended(&self.checkpointer, &self.held);
    }

    /// The spare hears of what was lost: late, sometimes.
    fn tell_losses(&mut self) {
        for (id, channel) in self.held.channels().iter() {
            if matches!(channel.verdict, Some(Err(_))) {
                self.image.abandon(*id);
            }
        }
    }

    /// Hands the next bytes of a checkpoint to the spare, damaged or not.
    fn deliver(&mut self, id: CheckpointId, most: usize, damage: Option<usize>) {
        let (first, bytes) = {
            let mut channels = self.held.channels();
            let channel = channels.get_mut(&id).unwrap();
            let end = channel.bytes.len().min(channel.given.saturating_add(most));
            let bytes = channel.bytes[channel.given..end].to_vec();
            let first = channel.given == 0;
            channel.given = end;
            (first, bytes)
        };
        let mut bytes = bytes;
        if first && self.image.begin(id).is_err() {
            self.lose(id, PipeError::Full);
            return;
        }
        if bytes.is_empty() {
            return;
        }
        if let Some(at) = damage {
            let at = at % bytes.len();
            bytes[at] ^= 1 << (at % 8);
        }
        match self.image.feed(id, &bytes) {
            Ok(Progress::More) => {
                if damage.is_some() {
                    // It will be found at the end; here it ends now.
                    self.image.abandon(id);
                    self.lose(id, PipeError::Refused);
                }
            }
            Ok(Progress::Complete { acknowledge, refused }) => {
                assert!(damage.is_none(), "damage went unseen");
                self.acknowledged.extend(acknowledge);
                self.compare();
                for (id, error) in refused {
                    assert_eq!(error, ImageError::OutOfMemory);
                    self.lose(id, PipeError::Refused);
                }
            }
            Err(error) => {
                assert!(damage.is_some() || error == ImageError::OutOfMemory, "{error}");
                self.lose(id, PipeError::Refused);
            }
        }
    }

    fn compare(&self) {
        let Some(newest) = self.image.newest() else { return };
        assert!(
            self.spare.pages() == self.truth[&newest],
            "the spare differs at {newest}"
        );
    }

    fn other_spare(&mut self) {
        self.spare = self.memory.twin();
        self.image = Image::new(self.spare, config());
        self.acknowledged.clear();
        self.checkpointer.spare_lost();
        self.checkpointer.spare_joined();
        await_ended(&self.checkpointer, &self.held);
    }

    fn step(&mut self, dice: &mut Dice) {
        let undecided = self.held.undecided();
        let some = undecided.get(dice.roll(undecided.len())).copied();
        match (dice.roll(40), some) {
            (0..12, _) => self.work(dice),
            (12..18, _) => self.take(Flags::INCREMENTAL),
            (18, _) => self.take(Flags::empty()),
            (19, _) => {
                self.memory.set_cancel(true);
                self.take(Flags::INCREMENTAL);
                self.memory.set_cancel(false);
            }
            (20, Some(id)) if !self.acknowledged.contains(&id) => {
                self.image.abandon(id);
                self.lose(id, PipeError::Full);
            }
            (21, Some(id)) => self.lose(id, PipeError::Disconnected),
            (22, Some(id)) => self.deliver(id, dice.roll(20_000), Some(dice.roll(1 << 30))),
            (23, Some(id)) => {
                self.spare.set_frames(dice.roll(8));
                self.deliver(id, 100_000, None);
                self.spare.set_frames(1024);
            }
            (24, _) if dice.roll(5) == 0 => self.other_spare(),
            (25, _) => self.tell_losses(),
            (26..32, Some(id)) => self.deliver(id, dice.roll(30_000) + 1, None),
            (_, Some(_)) => {
                if let Some(id) = self.acknowledged.pop() {
                    self.held.decide(id, Ok(()));
                    await_ended(&self.checkpointer, &self.held);
                }
            }
            _ => {}
        }
    }

    fn settle(&mut self) {
        self.tell_losses();
        for flags in [None, Some(Flags::INCREMENTAL)] {
            if let Some(flags) = flags {
                self.take(flags);
            }
            for id in self.held.undecided() {
                self.deliver(id, usize::MAX, None);
                for id in self.acknowledged.drain(..) {
                    self.held.decide(id, Ok(()));
                }
            }
            await_ended(&self.checkpointer, &self.held);
        }
        assert_eq!(self.held.undecided(), [], "what is in flight hangs");
        assert!(
            self.spare.pages() == self.memory.pages(),
            "the spare is not up to date"
        );
        let status = self.checkpointer.status();
        assert_eq!(status.taken, status.full + status.incremental);
        assert!(status.copied <= status.incremental);
        assert_eq!(status.in_flight, 0);
        assert_eq!(self.checkpointer.free_slots(), NCON);
    }
}

#[test]
fn the_spare_equals_the_master_at_each_checkpoint_whatever_is_lost() {
    let session = Session::start(512);
    let mut losses = 0;
    let mut runs = BTreeMap::new();
    let choices = [Choice::Auto, Choice::Incremental, Choice::Copy, Choice::Full];
    for seed in 0..200 {
        std::println!("seed {seed}");
        session.restart();
        let mut dice = Dice(seed);
        let compression = [Compression::None, Compression::Lz4][seed as usize / choices.len() % 2];
        let mut pair = Pair::new(
            session.memory(),
            choices[seed as usize % choices.len()],
            compression,
        );
        for _ in 0..120 {
            pair.step(&mut dice);
        }
        pair.settle();
        losses += pair.losses;
        for channel in pair.held.channels().values() {
            count_runs(session.memory(), &channel.bytes, &mut runs);
        }
    }
    assert!(losses > 100, "{losses} losses show little");
    assert!(runs.len() == Content::ALL.len(), "{runs:?} show little");
}

/// Counts the runs of a checkpoint, as far as it was written.
fn count_runs(memory: &HostMemory, mut bytes: &[u8], runs: &mut BTreeMap<Content, usize>) {
    let mut decoder = Decoder::new(Limits {
        window: memory.window(),
        threads: 64,
        descriptors: 64,
        signals: 5,
        areas: 1024,
        pages: 1 << 20,
    });
    while let Some(item) = decoder.next(&mut bytes).expect("what is written is sound") {
        if let Item::Run(_, content) = item {
            *runs.entry(content).or_default() += 1;
        }
    }
}

#[test]
fn scattered_updates_take_a_tenth_of_their_pages_at_most() {
    const PAGES: usize = 200;
    let session = Session::start(512);
    let (checkpointer, held) = checkpointer(session.memory(), NCON);
    checkpointer.spare_joined();
    let class = Class::create(ClassId(9), PAGES * PAGE_LEN).unwrap();
    let mut value = ClassVec::new_in(class);
    value.resize(60 * PAGE_LEN, 3_u8);
    let mut lens = Vec::new();
    for round in 0_u64..4 {
        for page in 0..60 {
            value[page * PAGE_LEN..][..8].copy_from_slice(&round.to_le_bytes());
        }
        lens.push(send(&checkpointer, &held, Flags::INCREMENTAL).1.len());
    }
    // Everything; each page whole; and then what is different in it.
    assert!(lens[1] > 60 * PAGE_LEN, "{lens:?}");
    assert!(lens[2] < 60 * PAGE_LEN / 10, "{lens:?}");
    assert!(lens[3] <= lens[2], "{lens:?}");
}

/// All bytes of the checkpoint, which the spare acknowledges.
pub(super) fn send(checkpointer: &Checkpointer, held: &Held, flags: Flags) -> (CheckpointId, Vec<u8>) {
    let id = checkpointer.checkpoint(flags | Flags::ASYNC, || ()).unwrap();
    let bytes = written(held, id);
    keep(checkpointer, held, id);
    (id, bytes)
}

/// All bytes of a checkpoint that was taken.
pub(super) fn written(held: &Held, id: CheckpointId) -> Vec<u8> {
    held.await_written(id);
    held.channels()[&id].bytes.clone()
}

/// The spare acknowledges it.
pub(super) fn keep(checkpointer: &Checkpointer, held: &Held, id: CheckpointId) {
    held.decide(id, Ok(()));
    await_ended(checkpointer, held);
}

static RAN: Mutex<Vec<usize>> = Mutex::new(Vec::new());

fn note(argument: usize) {
    RAN.lock().unwrap().push(argument);
}

#[test]
fn a_restore_goes_on_where_the_checkpoint_was() {
    let session = Session::start(1024);
    let memory = session.memory();
    let (checkpointer, held) = checkpointer(memory, NCON);
    checkpointer.spare_joined();

    let class = Class::create(ClassId(9), 1 << 16).unwrap();
    let mut state = allocator_api2::boxed::Box::new_in(ClassVec::<u64, Class>::new_in(class), class);
    state.extend(0..1000);
    let root = (&raw const *state).addr();
    roots::set(RootId::APPLICATION, root).unwrap();
    workers::register(note, 41).unwrap();
    workers::register(note, 42).unwrap();
    let (first, full) = send(&checkpointer, &held, Flags::INCREMENTAL);
    assert_eq!(
        first,
        CheckpointId {
            generation: 1,
            increment: 0
        }
    );

    state[500] = 77;
    state.extend(1000..50_000);
    workers::deregister(note, 41).unwrap();
    let statistics = class.statistics();
    let (second, increment) = send(&checkpointer, &held, Flags::INCREMENTAL);
    assert_eq!(
        second,
        CheckpointId {
            generation: 1,
            increment: 1
        }
    );
    let kept = memory.pages();

    // Never sent, and must not be seen again.
    state.fill(0);
    core::mem::forget(state);
    memory.reset();

    let mut image = Image::new(memory, config());
    for (id, bytes) in [(first, full), (second, increment)] {
        image.begin(id).unwrap();
        assert_eq!(
            image.feed(id, &bytes),
            Ok(Progress::Complete {
                acknowledge: [id].into(),
                refused: Vec::new(),
            })
        );
    }
    let restored = restore(image).unwrap();
    assert_eq!((restored.id, restored.term), (second, Term::FIRST));
    assert!(memory.pages() == kept);
    assert_eq!(Class::find(ClassId(9)), Some(class));
    assert_eq!(class.statistics(), statistics);
    assert_eq!(roots::get(RootId::APPLICATION), Some(root));
    assert_eq!(roots::get(RootId::SERVICE), None);
    assert_eq!(restored.workers, workers::workers());
    for worker in restored.workers {
        worker.run().unwrap();
    }
    assert_eq!(*RAN.lock().unwrap(), [42]);
    // It goes on: the class allocates, and a checkpoint of it can be taken.
    let more = ClassVec::<u8, Class>::with_capacity_in(5000, class);
    assert_eq!(class.statistics().blocks, statistics.blocks + 1);
    drop(more);
    let (again, _) = send(&checkpointer, &held, Flags::INCREMENTAL);
    assert_eq!(
        again,
        CheckpointId {
            generation: 1,
            increment: 2
        }
    );
}

#[test]
fn without_a_spare_nothing_is_frozen() {
    let session = Session::start(64);
    let (checkpointer, _) = checkpointer(session.memory(), 1);
    let mut quiesced = false;
    assert_eq!(
        checkpointer.checkpoint(Flags::empty(), || quiesced = true),
        Err(CheckpointError::NoSpare)
    );
    assert!(!quiesced);
    assert_eq!(checkpointer.free_slots(), 0);
    checkpointer.spare_joined();
    assert_eq!(checkpointer.free_slots(), 1);
    checkpointer.spare_lost();
    assert_eq!(
        checkpointer.checkpoint(Flags::ASYNC, || ()),
        Err(CheckpointError::NoSpare)
    );
    assert_eq!(checkpointer.status().taken, 0);
}

#[test]
fn a_synchronous_checkpoint_returns_when_the_spare_has_it_or_lost_it() {
    let session = Session::start(64);
    let (checkpointer, held) = checkpointer(session.memory(), 1);
    checkpointer.spare_joined();
    let (first, second) = (
        CheckpointId {
            generation: 1,
            increment: 0,
        },
        CheckpointId {
            generation: 2,
            increment: 0,
        },
    );
    for (id, verdict, result) in [
        (
            first,
            Err(PipeError::Refused),
            Err(CheckpointError::Lost(first, Loss::Pipe(PipeError::Refused))),
        ),
        (second, Ok(()), Ok(second)),
    ] {
        thread::scope(|scope| {
            let caller = scope.spawn(|| checkpointer.checkpoint(Flags::INCREMENTAL, || ()));
            held.await_written(id);
            assert!(!caller.is_finished());
            assert_eq!(
                checkpointer.checkpoint(Flags::ASYNC, || ()),
                Err(CheckpointError::NoSlot)
            );
            held.decide(id, verdict);
            assert_eq!(caller.join().unwrap(), result);
        });
    }
    let status = checkpointer.status();
    assert_eq!(
        (status.taken, status.acked, status.full, status.in_flight),
        (2, 1, 2, 0)
    );
    assert!(status.bytes > 0);
    assert_eq!(checkpointer.newest_kept(), Some(second));
}

#[test]
fn the_locks_are_let_go_before_the_wait() {
    struct Guard<'a>(&'a Mutex<bool>, &'a Mutex<Option<CheckpointId>>);
    impl Quiesced for Guard<'_> {
        fn frozen(&mut self, id: CheckpointId) {
            assert!(*self.0.lock().unwrap(), "before it is let go");
            *self.1.lock().unwrap() = Some(id);
        }
    }
    impl Drop for Guard<'_> {
        fn drop(&mut self) {
            *self.0.lock().unwrap() = false;
        }
    }
    let session = Session::start(64);
    let (checkpointer, held) = checkpointer(session.memory(), 1);
    checkpointer.spare_joined();
    let quiet = Mutex::new(false);
    let frozen = Mutex::new(None);
    thread::scope(|scope| {
        let caller = scope.spawn(|| {
            checkpointer.checkpoint(Flags::empty(), || {
                *quiet.lock().unwrap() = true;
                Guard(&quiet, &frozen)
            })
        });
        let id = CheckpointId {
            generation: 1,
            increment: 0,
        };
        held.await_written(id);
        // Classes work meanwhile; the guard may be dropped a moment after the child has begun.
        Class::create(ClassId(1), 0).unwrap();
        held.decide(id, Ok(()));
        caller.join().unwrap().unwrap();
        assert!(!*quiet.lock().unwrap());
        assert_eq!(*frozen.lock().unwrap(), Some(id), "it was told the number");
    });
}

#[test]
fn what_cannot_be_frozen_changes_nothing() {
    let session = Session::start(64);
    let (checkpointer, held) = checkpointer(session.memory(), 4);
    checkpointer.spare_joined();
    session.memory().set_ncon(0);
    assert_eq!(
        checkpointer.checkpoint(Flags::ASYNC, || ()),
        Err(CheckpointError::Cptfork(CptforkError::TooManyChildren))
    );
    assert_eq!(checkpointer.free_slots(), 4);
    session.memory().set_ncon(4);
    let (id, _) = send(&checkpointer, &held, Flags::empty());
    assert_eq!(
        id,
        CheckpointId {
            generation: 1,
            increment: 0
        }
    );
}

#[test]
fn an_image_without_a_checkpoint_is_not_restored() {
    let session = Session::bare(64);
    let image = Image::new(session.memory(), config());
    assert_eq!(restore(image), Err(RestoreError::Nothing));
}

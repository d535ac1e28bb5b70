//! Files of checkpoints: what a power cut leaves can be restored, to a state that the application was in, and what was kept is
//! there.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::super::*;
use super::ledger::{Ledger, Turn};
use super::{CheckpointFiles, FileSink, GROWTH_LEAST_BYTES};
use crate::checkpoint::tests::Dice;
use crate::checkpoint::tests::pair::{Held, HeldPipe, choosing, config};
use crate::class::{Class, ClassId};
use crate::host::{HostMachine, HostMemory, Session, VolatileFiles};
use crate::platform::{Files, PAGE_LEN};
use crate::registry::descriptor::{FileMode, FilePath};
use crate::restore::{self, FromFileError, Refused, Source};

fn names() -> CheckpointFiles {
    CheckpointFiles::new("HSCPT").unwrap()
}

fn id(generation: u64, increment: u64) -> CheckpointId {
    CheckpointId {
        generation,
        increment,
    }
}

fn sink(files: &'static VolatileFiles, memory: &HostMemory) -> FileSink {
    let application = config().application;
    FileSink::new(
        files,
        names(),
        memory.window(),
        HostMachine::BUILD_ID,
        application,
    )
}

type Pages = Vec<(usize, Box<[u8; PAGE_LEN]>)>;

/// A master with a file and, sometimes, a spare that answers as the dice fall.
struct World {
    memory: &'static HostMemory,
    files: &'static VolatileFiles,
    checkpointer: Checkpointer,
    held: Arc<Held>,
    spare: bool,
    has_failed: bool,
    /// The disk had failed while there was a spare: what is kept may be there alone.
    went_past: bool,
    truth: BTreeMap<CheckpointId, Pages>,
    values: Vec<allocator_api2::vec::Vec<u8, Class>>,
    class: Class,
}

impl World {
    fn new(memory: &'static HostMemory) -> Self {
        let files: &'static VolatileFiles = Box::leak(Box::default());
        files.mount().unwrap();
        let (checkpointer, held) = choosing(memory, 4, Choice::Auto);
        checkpointer
            .load_pipe(Box::new(sink(files, memory)), Need::Required)
            .unwrap();
        Self {
            memory,
            files,
            checkpointer,
            held,
            spare: false,
            has_failed: false,
            went_past: false,
            truth: BTreeMap::new(),
            values: Vec::new(),
            class: Class::create(ClassId(1), 4 * PAGE_LEN).unwrap(),
        }
    }

    fn step(&mut self, dice: &mut Dice) {
        match dice.roll(16) {
            0..4 => {
                let mut value = allocator_api2::vec::Vec::new_in(self.class);
                value.resize(dice.roll(9000), dice.roll(256) as u8);
                self.values.push(value);
                if self.values.len() > 8 {
                    self.values.swap_remove(dice.roll(8));
                }
            }
            4..10 => {
                let incremental = dice.roll(8) > 0;
                let flags = if incremental {
                    Flags::INCREMENTAL
                } else {
                    Flags::empty()
                };
                if let Ok(id) = self.checkpointer.checkpoint(flags | Flags::ASYNC, || ()) {
                    self.truth.insert(id, self.memory.pages());
                }
            }
            10 if dice.roll(3) == 0 => {
                self.spare = !self.spare;
                if self.spare {
                    self.checkpointer.spare_joined();
                } else {
                    self.checkpointer.spare_lost();
                    self.held.refuse_all(PipeError::Disconnected);
                }
            }
            11 if dice.roll(4) == 0 => {
                self.has_failed = true;
                self.files.fail_after(Some(dice.roll(6)));
            }
            12 => self.files.fail_after(None),
            _ => self.answer(dice),
        }
        self.went_past |= self.spare && self.has_failed;
    }

    fn answer(&mut self, dice: &mut Dice) {
        let undecided = self.held.undecided();
        if let Some(id) = undecided.get(dice.roll(undecided.len())) {
            let lost = dice.roll(5) == 0;
            self.held
                .decide(*id, if lost { Err(PipeError::Full) } else { Ok(()) });
        }
    }

    /// Whatever is in flight ends, well or badly.
    fn rest(&mut self) {
        while self.checkpointer.status().in_flight > 0 {
            let seen = self.checkpointer.ended().seen();
            for id in self.held.undecided() {
                self.held.decide(id, Ok(()));
            }
            let soon = machine().now() + core::time::Duration::from_millis(1);
            self.checkpointer.ended().wait(seen, Some(soon));
        }
    }

    /// The newest checkpoint in the files, and the memory as it would be restored.
    fn restored(&self) -> Result<(CheckpointId, Pages), FromFileError> {
        let twin = self.memory.twin();
        self.files.mount().unwrap();
        let found = restore::read(self.files, &Source::Files(names()), twin, config())?;
        Ok((found.id, twin.pages()))
    }
}

/// One life of a master until the power fails. Returns whether anything can be restored.
fn live(session: &Session, seed: u64, lies: bool) -> Result<bool, String> {
    session.restart();
    let mut dice = Dice(seed);
    let mut world = World::new(session.memory());
    world.files.forget_syncs(lies);
    for _ in 0..dice.roll(60) + 10 {
        world.step(&mut dice);
    }
    // A child may still be writing; what is kept by now is safe all the same.
    if dice.roll(2) == 0 {
        world.rest();
    }
    let kept = world.checkpointer.newest_kept().filter(|_| !world.went_past);
    world.files.cut_power(|sides| dice.roll(sides));
    let restored = world.restored();
    world.held.refuse_all(PipeError::Disconnected);
    world.rest();
    match restored {
        Ok((id, _)) if Some(id) < kept => Err(format!("{id} is older than {kept:?}")),
        Ok((id, pages)) if pages != world.truth[&id] => Err(format!("{id} is not what it was")),
        Err(error) if kept.is_some() => Err(format!("{kept:?} is lost: {error}")),
        found => Ok(found.is_ok()),
    }
}

#[test]
fn after_a_power_cut_the_files_hold_what_was_kept_or_later() {
    let session = Session::start(512);
    let mut restored = 0;
    for seed in 0..150 {
        match live(&session, seed, false) {
            Ok(found) => restored += u64::from(found),
            Err(wrong) => panic!("seed {seed}: {wrong}"),
        }
    }
    // How many is a matter of how fast children get on beside this thread.
    assert!((20..150).contains(&restored), "{restored} of 150 show little");
}

#[test]
fn a_disk_that_does_not_sync_is_found_out() {
    let session = Session::start(512);
    assert!((0..150).any(|seed| live(&session, seed, true).is_err()));
}

/// Takes a checkpoint that only the file holds, and waits until it does.
fn keep(checkpointer: &Checkpointer, flags: Flags) -> CheckpointId {
    checkpointer.checkpoint(flags, || ()).unwrap()
}

/// A master with a file alone, after a full checkpoint and three increments.
fn four(session: &Session) -> (World, Vec<Pages>) {
    let mut world = World::new(session.memory());
    let mut states = Vec::new();
    for value in 0..4 {
        let mut bytes = allocator_api2::vec::Vec::new_in(world.class);
        bytes.resize(5000, value + 1);
        world.values.push(bytes);
        let id = keep(&world.checkpointer, Flags::INCREMENTAL);
        assert_eq!(id.increment, u64::from(value));
        states.push(world.memory.pages());
    }
    (world, states)
}

#[test]
fn without_a_spare_a_file_is_enough() {
    let session = Session::start(512);
    let (world, states) = four(&session);
    assert!(world.checkpointer.is_open());
    world.files.lose_unsynced();
    let (id, pages) = world.restored().unwrap();
    assert_eq!(id.increment, 3);
    assert!(pages == states[3]);
}

#[test]
fn wherever_the_file_is_torn_the_newest_whole_checkpoint_counts() {
    let session = Session::start(512);
    let (world, states) = four(&session);
    let [path, other] = *names().paths();
    let whole = world.files.contents(&path).unwrap();
    assert_eq!(
        world.files.contents(&other),
        Some(Vec::new()),
        "one generation, one file"
    );
    let mut seen = [0; 5];
    for cut in (0..=whole.len()).rev().step_by(997).chain([0, 1, 8, 200]) {
        world.files.put(&path, whole[..cut].to_vec());
        match world.restored() {
            Ok((id, pages)) => {
                assert!(pages == states[id.increment as usize], "cut at {cut}");
                seen[id.increment as usize] += 1;
            }
            Err(FromFileError::Nothing(refused)) => {
                assert_eq!(refused.len(), 2);
                assert!(matches!(refused[0], (found, Refused::Nothing(_)) if found == path));
                seen[4] += 1;
            }
            Err(error) => panic!("cut at {cut}: {error}"),
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    // Damage in the second ends the file there.
    let mut damaged = whole.clone();
    let full_len = whole
        .windows(4)
        .skip(1)
        .position(|bytes| bytes == b"HSCP")
        .unwrap()
        + 1;
    damaged[full_len + 300] ^= 1;
    world.files.put(&path, damaged);
    let (id, pages) = world.restored().unwrap();
    assert_eq!(id.increment, 0);
    assert!(pages == states[0]);
}

#[test]
fn what_is_not_this_nodes_is_refused_by_name() {
    let session = Session::start(512);
    let (world, _) = four(&session);
    let refusal = |config, source: &str| {
        world.files.mount().unwrap();
        let source = Source::parse(source).unwrap();
        let found = restore::read(world.files, &source, world.memory.twin(), config);
        found.map(|found| found.id).unwrap_err().to_string()
    };
    let mut other = config();
    other.build_id = [7; 20];
    let said = refusal(other, "HSCPT0.CPT");
    assert!(
        said.contains("HSCPT0.CPT") && said.contains("another build"),
        "{said}"
    );
    let mut other = config();
    other.application = 3;
    let said = refusal(other, "hscpt");
    assert!(
        said.contains("application") && said.contains("HSCPT1.CPT: "),
        "{said}"
    );
    let said = refusal(config(), "NOSUCH.CPT");
    assert!(said.contains("NOSUCH.CPT"), "{said}");
    world
        .files
        .put(&FilePath::new("NOTES.TXT").unwrap(), vec![b'x'; 5000]);
    let said = refusal(config(), "NOTES.TXT");
    assert!(
        said.contains("NOTES.TXT") && said.contains("no whole checkpoint"),
        "{said}"
    );
}

#[test]
fn the_next_master_leaves_the_newest_generation_until_it_has_one() {
    let session = Session::start(512);
    let (mut world, states) = four(&session);
    // As at a takeover: another checkpointer, which begins with generation 1 again.
    let (checkpointer, held) = choosing(world.memory, 4, Choice::Auto);
    let mut config = checkpointer.shared.config;
    config.term = config.term.next();
    let checkpointer = Checkpointer::new(
        world.memory,
        Box::leak(Box::new(HeldPipe(Arc::clone(&held)))),
        config,
    );
    world.files.mount().unwrap();
    checkpointer
        .load_pipe(Box::new(sink(world.files, world.memory)), Need::Required)
        .unwrap();
    world.files.fail_after(Some(0));
    let lost = checkpointer.checkpoint(Flags::empty(), || ());
    assert_eq!(
        lost,
        Err(CheckpointError::Lost(id(1, 0), Loss::Pipe(PipeError::Failed)))
    );
    world.files.cut_power(|_| 0);
    let (found, pages) = world.restored().unwrap();
    assert_eq!(found, id(1, 3));
    assert!(pages == states[3], "the old master's newest");

    world.values.clear();
    let checkpointer = Checkpointer::new(world.memory, Box::leak(Box::new(HeldPipe(held))), config);
    checkpointer
        .load_pipe(Box::new(sink(world.files, world.memory)), Need::Required)
        .unwrap();
    assert_eq!(keep(&checkpointer, Flags::INCREMENTAL), id(1, 0));
    world.files.lose_unsynced();
    let (found, pages) = world.restored().unwrap();
    assert_eq!(found, id(1, 0), "of a newer term");
    assert!(pages == world.memory.pages());
}

#[test]
fn a_file_that_nobody_could_look_at_is_not_overwritten() {
    let session = Session::start(512);
    let (world, states) = four(&session);
    let [path, _] = *names().paths();
    let newest = world.files.contents(&path);
    world.files.mount().unwrap();
    let (checkpointer, _) = choosing(world.memory, 4, Choice::Auto);
    checkpointer
        .load_pipe(Box::new(sink(world.files, world.memory)), Need::Required)
        .unwrap();
    let busy = world.files.open(&path, FileMode::READ | FileMode::WRITE).unwrap();
    for flags in [Flags::empty(), Flags::INCREMENTAL] {
        let lost = checkpointer.checkpoint(flags, || ());
        assert!(
            matches!(lost, Err(CheckpointError::Lost(_, Loss::Pipe(PipeError::Failed)))),
            "{lost:?}"
        );
    }
    world.files.close(busy).unwrap();
    let (found, pages) = world.restored().unwrap();
    assert_eq!(found, id(1, 3));
    assert!(pages == states[3]);
    keep(&checkpointer, Flags::INCREMENTAL);
    assert!(world.files.contents(&path) == newest, "the other file was free");
}

#[test]
fn a_disk_that_fails_costs_the_spare_one_checkpoint() {
    let session = Session::start(2048);
    let mut world = World::new(session.memory());
    let mut bytes = allocator_api2::vec::Vec::new_in(world.class);
    bytes.resize(300 << 10, 1u8);
    let mut next = |world: &World, value: u8| {
        bytes.fill(value);
        let flags = Flags::ASYNC | Flags::INCREMENTAL;
        let taken = world.checkpointer.checkpoint(flags, || ()).unwrap();
        while world.checkpointer.status().in_flight > 0 {
            let seen = world.checkpointer.ended().seen();
            for id in world.held.undecided() {
                world.held.decide(id, Ok(()));
            }
            let soon = machine().now() + core::time::Duration::from_millis(1);
            world.checkpointer.ended().wait(seen, Some(soon));
        }
        world.checkpointer.newest_kept() == Some(taken)
    };
    world.checkpointer.spare_joined();
    // So much that the file asks for its next generation, and then the disk is full.
    assert!((1..5).all(|value| next(&world, value)));
    world.files.fail_after(Some(0));
    let kept = (5..30).filter(|value| next(&world, *value)).count();
    assert!(kept >= 24, "the spare has {kept} of 25");
    // Another spare must be able to join meanwhile.
    world.checkpointer.spare_lost();
    world.held.refuse_all(PipeError::Disconnected);
    world.checkpointer.spare_joined();
    assert!(next(&world, 30) && next(&world, 31));
    world.values.push(bytes);
}

#[test]
fn nobody_else_writes_to_the_files() {
    let session = Session::start(512);
    let (world, _) = four(&session);
    for path in names().paths() {
        let opened = world.files.open(path, FileMode::WRITE);
        assert_eq!(opened, Err(crate::platform::FileError::Busy(*path)));
    }
}

#[test]
fn a_file_that_has_grown_is_followed_by_a_full_checkpoint_in_the_other() {
    let session = Session::start(2048);
    let mut world = World::new(session.memory());
    let mut bytes = allocator_api2::vec::Vec::new_in(world.class);
    bytes.resize(300 << 10, 1u8);
    let mut longest = 0;
    let mut generations = 0;
    for round in 0..40u8 {
        bytes.fill(round + 1);
        generations = keep(&world.checkpointer, Flags::INCREMENTAL).generation;
        let lens = names()
            .paths()
            .map(|path| world.files.contents(&path).map_or(0, |bytes| bytes.len()));
        longest = lens.into_iter().max().unwrap().max(longest);
    }
    world.values.push(bytes);
    assert!((5..30).contains(&generations), "{generations} generations");
    assert!(
        longest < 5 * (300 << 10).max(GROWTH_LEAST_BYTES as usize),
        "{longest} bytes"
    );
}

#[test]
fn a_base_name_is_of_seven_letters_without_a_point() {
    let text = |base: &str| CheckpointFiles::new(base).map(|files| format!("{files}"));
    assert_eq!(text("hscpt"), Ok(String::from("HSCPT0.CPT and HSCPT1.CPT")));
    assert_eq!(
        text("A/SEVENLT"),
        Ok(String::from("A/SEVENLT0.CPT and A/SEVENLT1.CPT"))
    );
    for refused in ["", "EIGHTLET", "A.B", "A/", "Ä"] {
        assert!(text(refused).is_err(), "{refused}");
    }
    assert!(matches!(Source::parse("A.B/C"), Ok(Source::Files(_))));
    assert!(matches!(Source::parse("HSCPT0.CPT"), Ok(Source::File(_))));
}

#[test]
fn turns_come_in_order() {
    let mut ledger = Ledger::new(Some(0));
    let base = |base| Kind::Incremental { base };
    assert_eq!(
        ledger.turn(id(1, 1), base(0)),
        Turn::Wait,
        "its full one has not come"
    );
    assert_eq!(
        ledger.turn(id(1, 0), Kind::Full),
        Turn::Write { file: 1, offset: 0 }
    );
    assert_eq!(ledger.turn(id(1, 1), base(0)), Turn::Wait);
    assert_eq!(
        ledger.turn(id(2, 0), Kind::Full),
        Turn::Wait,
        "0 is not to be touched, 1 is written"
    );
    ledger.sealed(1, id(1, 0), 100);
    assert_eq!(
        ledger.turn(id(1, 1), base(0)),
        Turn::Write { file: 1, offset: 100 }
    );
    assert_eq!(ledger.turn(id(1, 2), base(1)), Turn::Wait);
    ledger.synced(1);
    assert_eq!(
        ledger.turn(id(2, 0), Kind::Full),
        Turn::Write { file: 0, offset: 0 }
    );
    // The first increment is lost: its place is taken by the next.
    ledger.dropped(1, id(1, 1), false, false);
    assert_eq!(
        ledger.turn(id(1, 2), base(1)),
        Turn::Wait,
        "until it is cancelled"
    );
    assert_eq!(
        ledger.turn(id(1, 3), base(0)),
        Turn::Write { file: 1, offset: 100 }
    );
    ledger.sealed(1, id(1, 3), 150);
    assert_eq!(ledger.turn(id(1, 2), base(1)), Turn::Superseded);
    ledger.sealed(0, id(2, 0), 90);
    ledger.synced(0);
    assert_eq!(ledger.turn(id(1, 4), base(3)), Turn::Superseded);
    assert_eq!(ledger.turn(id(3, 0), Kind::Full), Turn::Wait, "1.3 is not synced");
    ledger.synced(1);
    assert_eq!(
        ledger.turn(id(3, 0), Kind::Full),
        Turn::Write { file: 1, offset: 0 }
    );
    ledger.dropped(1, id(3, 0), false, true);
    assert_eq!(ledger.turn(id(3, 1), base(0)), Turn::Gone);
    assert_eq!(
        ledger.turn(id(4, 0), Kind::Full),
        Turn::Write { file: 1, offset: 0 }
    );
    // 4 has taken the place of 3, whose increments hope that it will be safe; then it fails too.
    assert_eq!(ledger.turn(id(3, 1), base(0)), Turn::Wait);
    ledger.dropped(1, id(4, 0), false, true);
    assert_eq!(
        ledger.turn(id(3, 1), base(0)),
        Turn::Gone,
        "it would wait for ever, as nothing dooms it where the sink is optional"
    );
}

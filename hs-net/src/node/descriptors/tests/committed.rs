//! Changes of files against checkpoints, acknowledgements and deaths: after a takeover the disk has what the restored state has
//! written, no byte more and none less, however far the dead master came.

use proptest::prelude::*;

use hs_core::host::VolatileFiles;
use hs_core::registry::descriptor::{self, Descriptor};

use super::model::{self, PATHS, World};
use super::*;
use crate::sim::Random;
use crate::writes::{QueueImage, Tail};

#[derive(Clone, Debug)]
enum Step {
    /// What an application does.
    Call(model::Step),
    Checkpoint,
    /// The spare has the newest checkpoint.
    Acknowledge,
    /// A round of the writer thread.
    WriteBack,
    /// A spare takes the master's place, while the power of the disk's cache is lost too, as this seed has it.
    Die(u64),
    /// There is no spare any more.
    SpareLost,
    /// There is one, and it has a checkpoint.
    SpareJoined,
}

fn step() -> impl Strategy<Value = Step> {
    let call = model::step().prop_filter("done here", |step| {
        !matches!(step, model::Step::Checkpoint | model::Step::Takeover)
    });
    prop_oneof![
        30 => call.prop_map(Step::Call),
        4 => Just(Step::Checkpoint),
        3 => Just(Step::Acknowledge),
        4 => Just(Step::WriteBack),
        2 => any::<u64>().prop_map(Step::Die),
        1 => Just(Step::SpareLost),
        1 => Just(Step::SpareJoined),
    ]
}

/// What a checkpoint has, beside what its model has.
#[derive(Clone)]
struct Checkpoint {
    tail: Tail,
    queue: Option<QueueImage>,
    records: Vec<Descriptor>,
    world: World,
}

struct Pair<'a> {
    session: &'a Session,
    files: &'static VolatileFiles,
    table: Descriptors,
    world: World,
    newest: Option<Checkpoint>,
    kept: Option<Checkpoint>,
}

impl Pair<'_> {
    fn checkpoint(&mut self) {
        let mut table = self.table.table();
        self.newest = Some(Checkpoint {
            tail: table.files_tail(),
            queue: table.pending.queue().map(|queue| queue.image()),
            records: descriptors(),
            world: self.world.clone(),
        });
    }

    fn acknowledge(&mut self) {
        // Without a spare nobody does.
        if let Some(newest) = &self.newest
            && self.table.table().pending.is_withheld()
        {
            self.table.node.release_files(newest.tail);
            self.kept = Some(newest.clone());
        }
    }

    fn spare_joined(&mut self) {
        self.table.node.withhold_files(true);
        self.checkpoint();
        self.acknowledge();
    }

    /// The machine dies, and its spare takes over from what it has; without one nothing happens.
    fn die(&mut self, seed: u64) {
        let Some(kept) = self.kept.take() else { return };
        let mut random = Random(seed);
        match random.chance(300) {
            true => self.files.lose_unsynced(),
            false => self.files.cut_power(|sides| random.below(sides as u64) as usize),
        }
        let mut table = self.table.table();
        match (&kept.queue, table.pending.queue()) {
            (Some(image), Some(queue)) => queue.restore(image),
            // It was made since: its memory is not in the checkpoint.
            (None, Some(queue)) => {
                let head = queue.head();
                let mut end = head;
                while let Some((_, behind)) = queue.changes(end).next() {
                    end = behind;
                }
                queue.forget(end);
            }
            (_, None) => {}
        }
        drop(table);
        for record in descriptors() {
            descriptor::deregister(record.number).unwrap();
        }
        for record in kept.records {
            descriptor::register(record).unwrap();
        }
        self.table = takeover(self.session, self.table);
        self.world = kept.world;
        self.world.apply(&model::Step::Takeover).unwrap();
        self.newest = None;
    }

    fn write_back(&self) {
        while self.table.write_back(self.files) {}
    }

    fn call(&mut self, step: &model::Step) -> Result<(), TestCaseError> {
        let expected = self.world.clone().apply(step);
        let mut found = model::perform(self.session, &mut self.table, step);
        if found == Err(DescriptorError::NoRoom) {
            // What the application does about it.
            self.checkpoint();
            self.acknowledge();
            found = model::perform(self.session, &mut self.table, step);
        }
        let _ = self.world.apply(step);
        prop_assert_eq!(found, expected);
        Ok(())
    }

    /// Everything that waits is made: the disk is as the application knows it.
    fn check_disk(&self) -> Result<(), TestCaseError> {
        for (index, name) in PATHS.iter().enumerate() {
            let found = self.files.contents(&path(name));
            prop_assert_eq!(found.as_ref(), self.world.files.get(&index), "{}", name);
        }
        Ok(())
    }
}

/// The property; `spoil` does something to the table after each step that is not allowed.
fn check(steps: &[Step], spoil: impl Fn(&Descriptors)) -> Result<(), TestCaseError> {
    let session = Session::start(64);
    let files: &'static VolatileFiles = Box::leak(Box::new(VolatileFiles::new()));
    HostMachine::install().set_files(Some(files));
    let mut pair = Pair {
        session: &session,
        files,
        table: serving(&session),
        world: World::default(),
        newest: None,
        kept: None,
    };
    pair.spare_joined();
    for (index, step) in steps.iter().enumerate() {
        match step {
            Step::Call(call) => pair
                .call(call)
                .map_err(|error| TestCaseError::fail(std::format!("step {index}, {step:?}: {error}")))?,
            Step::Checkpoint => pair.checkpoint(),
            Step::Acknowledge => pair.acknowledge(),
            Step::WriteBack => drop(pair.table.write_back(files)),
            Step::Die(seed) => {
                let had_spare = pair.kept.is_some();
                pair.die(*seed);
                if had_spare && seed % 2 == 0 {
                    // All that is in the restored queue may be made.
                    pair.write_back();
                    pair.check_disk().map_err(|error| {
                        TestCaseError::fail(std::format!("step {index}, {step:?}: {error}"))
                    })?;
                }
            }
            Step::SpareLost => {
                pair.table.node.withhold_files(false);
                (pair.newest, pair.kept) = (None, None);
            }
            Step::SpareJoined => pair.spare_joined(),
        }
        spoil(&pair.table);
    }
    pair.table.node.withhold_files(false);
    pair.write_back();
    let checked = pair.check_disk();
    HostMachine::install().set_files(None);
    checked
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn the_disk_agrees_with_the_restored_state(steps in prop::collection::vec(step(), 1..150)) {
        check(&steps, |_| ())?;
    }
}

/// One file, written before a checkpoint and after it, and the writer thread at work before the master dies.
fn written_on() -> [Step; 7] {
    [
        Step::Call(model::Step::Open(0, 3)),
        Step::Call(model::Step::Write(3, 10)),
        Step::Checkpoint,
        Step::Acknowledge,
        Step::Call(model::Step::Write(3, 10)),
        Step::WriteBack,
        Step::Die(0),
    ]
}

/// The checker would see a master that does not wait for the acknowledgement.
#[test]
fn changes_that_do_not_wait_are_found() {
    assert!(check(&written_on(), |_| ()).is_ok());
    let early = |table: &Descriptors| {
        let mut table = table.table();
        let tail = table.files_tail();
        table.pending.release(tail);
    };
    assert!(check(&written_on(), early).is_err());
}

/// And one that forgets what it has not synced.
#[test]
fn changes_that_are_forgotten_too_early_are_found() {
    let forgetful = |table: &Descriptors| {
        let mut table = table.table();
        let applied = table.pending.applied();
        table.pending.forget(applied);
    };
    let mut steps = written_on().to_vec();
    // Made where nothing waits, and not synced.
    steps.insert(0, Step::SpareLost);
    steps.insert(3, Step::SpareJoined);
    steps.splice(4.., [Step::Die(4)]);
    assert!(check(&steps, |_| ()).is_ok());
    assert!(check(&steps, forgetful).is_err());
}

//! Files through the table against what POSIX says, on a model that is maps and vectors.

use std::collections::BTreeMap;
use std::vec;

use proptest::prelude::*;

use super::*;

pub(super) const PATHS: [&str; 3] = ["A", "DIR/B.TXT", "C"];

#[derive(Clone, Debug)]
pub(super) enum Step {
    Open(usize, u8),
    Close(u32),
    Read(u32, usize),
    Write(u32, usize),
    Seek(u32, Seek),
    Truncate(u32, u64),
    Remove(usize),
    Register(u32),
    Deregister(u32),
    Checkpoint,
    Takeover,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let number = 3_u32..8;
    let seek = prop_oneof![
        (0_u64..1500).prop_map(Seek::Set),
        (-700_i64..700).prop_map(Seek::Cur),
        (-700_i64..100).prop_map(Seek::End),
    ];
    prop_oneof![
        4 => (0_usize..3, 1_u8..8).prop_map(|(path, mode)| Step::Open(path, mode)),
        2 => number.clone().prop_map(Step::Close),
        4 => (number.clone(), 0_usize..400).prop_map(|(number, len)| Step::Read(number, len)),
        4 => (number.clone(), 0_usize..400).prop_map(|(number, len)| Step::Write(number, len)),
        4 => (number.clone(), seek).prop_map(|(number, seek)| Step::Seek(number, seek)),
        1 => (number.clone(), 0_u64..800).prop_map(|(number, len)| Step::Truncate(number, len)),
        1 => (0_usize..3).prop_map(Step::Remove),
        3 => number.clone().prop_map(Step::Register),
        1 => number.prop_map(Step::Deregister),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Takeover),
    ]
}

#[derive(Clone, Debug)]
struct Model {
    path: usize,
    mode: FileMode,
    offset: u64,
    /// There is a record of it, with the same offset.
    registered: bool,
}

impl Model {
    fn writes(&self) -> bool {
        self.mode.intersects(FileMode::WRITE | FileMode::APPEND)
    }
}

#[derive(Clone, Default, Debug)]
pub(super) struct World {
    pub(super) files: BTreeMap<usize, Vec<u8>>,
    open: BTreeMap<u32, Model>,
}

pub(super) type Outcome = Result<Vec<u8>, DescriptorError>;

fn number_of(value: u64) -> Outcome {
    Ok(value.to_le_bytes().to_vec())
}

impl World {
    fn at(&mut self, number: u32) -> Result<(&mut Model, &mut Vec<u8>), DescriptorError> {
        let model = self
            .open
            .get_mut(&number)
            .ok_or(DescriptorError::NotOpen(number))?;
        let bytes = self.files.get_mut(&model.path).expect("an open file is there");
        Ok((model, bytes))
    }

    pub(super) fn apply(&mut self, step: &Step) -> Outcome {
        let wrong = |number| DescriptorError::File(number, FileError::WrongMode);
        match *step {
            Step::Open(index, mode) => {
                let mode = FileMode::from_bits_truncate(mode);
                let number = (3..).find(|number| !self.open.contains_key(number)).unwrap();
                let model = Model {
                    path: index,
                    mode,
                    offset: 0,
                    registered: false,
                };
                let mut others = self.open.values().filter(|other| other.path == index);
                if others.any(|other| model.writes() || other.writes()) {
                    return Err(DescriptorError::Open(FileError::Busy(path(PATHS[index]))));
                }
                if !model.writes() && !self.files.contains_key(&index) {
                    return Err(DescriptorError::Open(FileError::NotFound(path(PATHS[index]))));
                }
                self.files.entry(index).or_default();
                self.open.insert(number, model);
                number_of(number.into())
            }
            Step::Close(number) => {
                self.at(number)?;
                self.open.remove(&number);
                Ok(vec![])
            }
            Step::Read(number, len) => {
                let (model, bytes) = self.at(number)?;
                let start = (model.offset as usize).min(bytes.len());
                // Behind the end nothing is asked of the disk.
                if !model.mode.contains(FileMode::READ) && model.offset <= bytes.len() as u64 {
                    return Err(wrong(number));
                }
                let read = bytes[start..].iter().copied().take(len).collect::<Vec<u8>>();
                model.offset += read.len() as u64;
                Ok(read)
            }
            Step::Write(number, len) => {
                let (model, bytes) = self.at(number)?;
                if !model.writes() {
                    return Err(wrong(number));
                }
                if model.mode.contains(FileMode::APPEND) {
                    model.offset = bytes.len() as u64;
                }
                let (start, end) = (model.offset as usize, model.offset as usize + len);
                bytes.resize(bytes.len().max(end), 0);
                bytes[start..end].fill(len as u8);
                model.offset = end as u64;
                Ok(vec![])
            }
            Step::Seek(number, to) => {
                let (model, bytes) = self.at(number)?;
                let (base, by) = match to {
                    Seek::Set(offset) => (offset as i64, 0),
                    Seek::Cur(by) => (model.offset as i64, by),
                    Seek::End(by) => (bytes.len() as i64, by),
                };
                model.offset =
                    u64::try_from(base + by).map_err(|_| DescriptorError::NoSuchOffset { number, by })?;
                number_of(model.offset)
            }
            Step::Truncate(number, len) => {
                let (model, bytes) = self.at(number)?;
                if !model.writes() && len != bytes.len() as u64 {
                    return Err(wrong(number));
                }
                bytes.resize(len as usize, 0);
                Ok(vec![])
            }
            Step::Remove(index) => {
                let of = path(PATHS[index]);
                if self.open.values().any(|other| other.path == index) {
                    return Err(DescriptorError::Open(FileError::Busy(of)));
                }
                let removed = self.files.remove(&index);
                removed
                    .map(|_| vec![])
                    .ok_or(DescriptorError::Open(FileError::NotFound(of)))
            }
            Step::Register(number) => {
                let (model, _) = self.at(number)?;
                if model.registered {
                    return Err(DescriptorError::Registry(RegistryError::Registered(number)));
                }
                model.registered = true;
                Ok(vec![])
            }
            Step::Deregister(number) => {
                let (model, _) = self.at(number)?;
                let was = core::mem::take(&mut model.registered);
                was.then(Vec::new)
                    .ok_or(DescriptorError::Registry(RegistryError::NotRegistered(number)))
            }
            Step::Checkpoint => Ok(vec![]),
            Step::Takeover => {
                self.open.retain(|_, model| model.registered);
                Ok(vec![])
            }
        }
    }
}

pub(super) fn perform(session: &Session, table: &mut Descriptors, step: &Step) -> Outcome {
    let done = |()| vec![];
    match *step {
        Step::Open(index, mode) => number_of(
            table
                .open(PATHS[index], FileMode::from_bits_truncate(mode))?
                .into(),
        ),
        Step::Close(number) => table.close(number).map(done),
        Step::Read(number, len) => {
            let mut bytes = vec![0; len];
            let count = table.read(number, &mut bytes)?;
            bytes.truncate(count);
            Ok(bytes)
        }
        Step::Write(number, len) => table.write(number, &vec![len as u8; len]).map(done),
        Step::Seek(number, to) => number_of(table.seek(number, to)?),
        Step::Truncate(number, len) => table.truncate(number, len).map(done),
        Step::Remove(index) => table.remove(PATHS[index]).map(done),
        Step::Register(number) => table.register_file(number).map(done),
        Step::Deregister(number) => table.deregister(number).map(done),
        Step::Checkpoint => {
            drop(table.node.quiesce());
            Ok(vec![])
        }
        Step::Takeover => {
            *table = takeover(session, *table);
            Ok(vec![])
        }
    }
}

/// The property; `spoil` does something to the table that the model does not know of.
fn check(steps: &[Step], spoil: impl Fn(&Descriptors, usize)) -> Result<(), TestCaseError> {
    let session = Session::start(64);
    let disk = Disk::new();
    let mut table = serving(&session);
    let mut model = World::default();
    for (index, step) in steps.iter().enumerate() {
        let expected = model.apply(step);
        prop_assert_eq!(
            perform(&session, &mut table, step),
            expected,
            "step {}: {:?}",
            index,
            step
        );
        spoil(&table, index);
        for number in 3..8 {
            let offset = model.open.get(&number).map(|model| model.offset);
            prop_assert_eq!(table.tell(number).ok(), offset, "{:?}, number {}", step, number);
        }
        let recorded: BTreeMap<u32, u64> = descriptors()
            .iter()
            .map(|descriptor| match descriptor.kind {
                DescriptorKind::File { offset, .. } => (descriptor.number, offset),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected: BTreeMap<u32, u64> = model
            .open
            .iter()
            .filter_map(|(number, model)| model.registered.then_some((*number, model.offset)))
            .collect();
        prop_assert_eq!(recorded, expected, "{:?}", step);
    }
    for (index, bytes) in &model.files {
        prop_assert_eq!(&disk.contents(PATHS[*index]), bytes);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn files_are_as_posix_has_them(steps in prop::collection::vec(step(), 1..120)) {
        check(&steps, |_, _| ())?;
    }
}

/// The checker would see a table whose offsets go astray.
#[test]
fn a_planted_bug_is_found() {
    let steps = [
        Step::Open(0, 3),
        Step::Write(3, 10),
        Step::Checkpoint,
        Step::Read(3, 1),
    ];
    assert!(check(&steps, |_, _| ()).is_ok());
    let astray = |table: &Descriptors, index| {
        if index == 2 {
            table.table().move_to(3, 9);
        }
    };
    assert!(check(&steps, astray).is_err());
}

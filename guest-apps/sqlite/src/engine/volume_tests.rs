use super::*;
use allocator_api2::alloc::Global;
use proptest::prelude::*;
use std::vec::Vec as StdVec;

const LIMIT: usize = 40_000;

#[derive(Clone, Debug)]
enum Step {
    Write(usize, StdVec<u8>),
    Truncate(usize),
    Read(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..LIMIT, prop::collection::vec(any::<u8>(), 0..9_000)).prop_map(|(at, bytes)| Step::Write(at, bytes)),
        1 => (0..LIMIT).prop_map(Step::Truncate),
        3 => (0..LIMIT, 0..9_000usize).prop_map(|(at, len)| Step::Read(at, len)),
    ]
}

proptest! {
    #[test]
    fn it_is_a_file(steps in prop::collection::vec(step(), 0..40)) {
        let mut volume = Volume::new(Global, LIMIT);
        let mut model: StdVec<u8> = StdVec::new();
        for step in steps {
            match step {
                Step::Write(at, bytes) => {
                    let end = at + bytes.len();
                    prop_assert_eq!(volume.write(at, &bytes).is_ok(), end <= LIMIT);
                    if end <= LIMIT {
                        model.resize(model.len().max(end), 0);
                        model[at..end].copy_from_slice(&bytes);
                    }
                }
                Step::Truncate(len) => {
                    volume.truncate(len);
                    model.truncate(len);
                }
                Step::Read(at, len) => {
                    let mut bytes = std::vec![0; len];
                    let count = volume.read(at, &mut bytes);
                    let expected = model.get(at..(at + len).min(model.len()).max(at)).unwrap_or(&[]);
                    prop_assert_eq!(&bytes[..count], expected);
                }
            }
            prop_assert_eq!(volume.len_bytes(), model.len());
        }
    }

    /// Many connections that ask at random: what they hold together is what SQLite's rules allow, and one that is alone gets all.
    #[test]
    fn locks_keep_writers_apart(asks in prop::collection::vec((0..4usize, 0..5u8), 0..200)) {
        const LOCKS: [Lock; 5] = [Lock::None, Lock::Shared, Lock::Reserved, Lock::Pending, Lock::Exclusive];
        let mut volume = Volume::new(Global, 0);
        let mut held = [Lock::None; 4];
        for (who, ask) in asks {
            let wanted = LOCKS[usize::from(ask)];
            let before = held[who];
            held[who] = if wanted > before {
                volume.lock(before, wanted)
            } else {
                volume.unlock(before, wanted.min(Lock::Shared))
            };
            let others = || held.iter().enumerate().filter(|(other, _)| *other != who).map(|(_, lock)| *lock);
            if wanted > before && before >= Lock::Shared && others().all(|lock| lock == Lock::None) {
                prop_assert_eq!(held[who], wanted);
            }
            if before == Lock::None && wanted == Lock::Shared && others().all(|lock| lock <= Lock::Reserved) {
                prop_assert_eq!(held[who], Lock::Shared);
            }
            let writers = held.iter().filter(|lock| **lock >= Lock::Reserved).count();
            prop_assert!(writers <= 1);
            prop_assert_eq!(volume.is_reserved(), writers == 1);
            if held.contains(&Lock::Exclusive) {
                prop_assert_eq!(held.iter().filter(|lock| **lock != Lock::None).count(), 1);
            }
        }
    }
}

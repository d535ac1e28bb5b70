use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::files::disk::testing::RamDisk;

/// Not a whole number of lines.
const BLOCKS: u32 = 203;
const TABLE: Range<u32> = 20..30;

fn filled() -> Vec<u8> {
    (0..BLOCKS as usize * BLOCK_LEN)
        .map(|at| (at / BLOCK_LEN) as u8)
        .collect()
}

fn block(filling: u8) -> Block {
    [filling; BLOCK_LEN]
}

#[derive(Clone, Debug)]
enum Step {
    Read(u32),
    Write(u32, u8),
    Flush,
    Fail(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Near each other, in a sequence, and anywhere.
    let at = prop_oneof![0..BLOCKS, 20u32..40, 100u32..110];
    let step = prop_oneof![
        6 => at.clone().prop_map(Step::Read),
        6 => (at, any::<u8>()).prop_map(|(at, filling)| Step::Write(at, filling)),
        1 => Just(Step::Flush),
        1 => prop_oneof![1 => Just(Step::Fail(true)), 3 => Just(Step::Fail(false))],
    ];
    proptest::collection::vec(step, 1..400)
}

proptest! {
    /// Whatever room there is, and whatever fails in between: what is read is what was last written, and after a flush the
    /// disk has it.
    #[test]
    fn reads_what_was_written(steps in steps(), lines in 2usize..12) {
        let disk = RamDisk::new(filled());
        let mut cache = Cache::new(disk.clone(), lines);
        cache.set_table(TABLE);
        let mut model = filled();
        for step in steps {
            match step {
                Step::Read(at) => {
                    let mut found = block(0);
                    if cache.read(at, &mut found).is_ok() {
                        prop_assert_eq!(&found[..], &model[at as usize * BLOCK_LEN..][..BLOCK_LEN]);
                    } else {
                        prop_assert!(cache.take_failure().is_some());
                    }
                }
                Step::Write(at, filling) => {
                    if cache.write(at, &block(filling)).is_ok() {
                        model[at as usize * BLOCK_LEN..][..BLOCK_LEN].fill(filling);
                    }
                }
                Step::Flush => {
                    if cache.flush().is_ok() {
                        prop_assert_eq!(&disk.bytes(), &model);
                    }
                }
                Step::Fail(failing) => disk.set_failing(failing),
            }
        }
        disk.set_failing(false);
        prop_assert_eq!(cache.flush(), Ok(()));
        prop_assert_eq!(disk.bytes(), model);
    }

    /// Whenever power is lost: a block of the table is never newer on the disk than what was written before it elsewhere.
    #[test]
    fn the_table_is_written_last(
        writes in proptest::collection::vec((0..BLOCKS, any::<bool>()), 1..120),
        cut in any::<prop::sample::Index>(),
        kept in proptest::collection::vec(any::<bool>(), 400),
    ) {
        let disk = RamDisk::new(vec![0; BLOCKS as usize * BLOCK_LEN]);
        let mut cache = Cache::new(disk.clone(), 6);
        cache.set_table(TABLE);
        // Each block at most once, with the number of its write.
        let mut numbers = BTreeMap::new();
        for (number, (at, flush)) in writes.into_iter().enumerate() {
            if let Entry::Vacant(free) = numbers.entry(at) {
                cache.write(at, &block(number as u8 + 1)).unwrap();
                free.insert(number);
            }
            if flush && number % 10 == 0 {
                cache.flush().unwrap();
            }
        }
        cache.flush().unwrap();
        let mut kept = kept.into_iter().cycle();
        let left = disk.after_loss(cut.index(disk.words() + 1), || kept.next() == Some(true)).bytes();
        let arrived = |at: u32| left[at as usize * BLOCK_LEN] != 0;
        let newest = numbers.iter().filter(|(at, _)| TABLE.contains(at) && arrived(**at)).map(|(_, &number)| number).max();
        for (&at, &number) in &numbers {
            if !TABLE.contains(&at) && newest.is_some_and(|newest| number < newest) {
                prop_assert!(arrived(at), "block {} was written before the table was, and is not there", at);
            }
        }
    }
}

#[test]
fn a_sequence_costs_few_requests() {
    let disk = RamDisk::new(vec![7; 2048 * BLOCK_LEN]);
    let mut cache = Cache::new(disk.clone(), LINES);
    for at in 0..2048 {
        cache.read(at, &mut block(0)).unwrap();
    }
    assert!(disk.reads() <= 2048 / RUN_BLOCKS as usize + 1, "{}", disk.reads());
}

#[test]
fn a_block_behind_the_end_is_refused_and_named() {
    let mut cache = Cache::new(RamDisk::new(filled()), 4);
    let beyond = DiskError::Beyond {
        block: u64::from(BLOCKS),
    };
    assert_eq!(cache.read(BLOCKS, &mut block(0)), Err(beyond));
    assert_eq!(cache.write(BLOCKS, &block(0)), Err(beyond));
    assert_eq!(cache.take_failure(), Some(beyond));
    assert_eq!(cache.take_failure(), None);
}

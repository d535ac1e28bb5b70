use std::boxed::Box;
use std::collections::VecDeque;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const LEN: usize = 2048;

/// A change that owns its bytes.
#[derive(Clone, PartialEq, Debug)]
enum Owned {
    Create,
    Write(u64, Vec<u8>),
    SetLen(u64),
    Remove,
}

impl Owned {
    fn lend(&self) -> Change<'_> {
        match self {
            Owned::Create => Change::Create,
            Owned::Write(offset, bytes) => Change::Write {
                offset: *offset,
                bytes,
            },
            Owned::SetLen(len_bytes) => Change::SetLen(*len_bytes),
            Owned::Remove => Change::Remove,
        }
    }
}

fn owned(offset_max: u64, len_max: usize) -> impl Strategy<Value = Owned> {
    let write = (0..offset_max, 0..len_max, any::<u8>())
        .prop_map(|(offset, len, first)| Owned::Write(offset, (first..=255).cycle().take(len).collect()));
    prop_oneof![
        1 => Just(Owned::Create),
        6 => write,
        2 => (0..offset_max).prop_map(Owned::SetLen),
        1 => Just(Owned::Remove),
    ]
}

fn queue() -> WriteQueue {
    WriteQueue::new(Box::leak(vec![0; LEN].into_boxed_slice()))
}

fn path(index: usize) -> FilePath {
    FilePath::new(["A", "LOGS/TODAY.TXT", "B.C"][index]).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize, Owned),
    Forget(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_usize..3, owned(1000, 900)).prop_map(|(path, change)| Step::Push(path, change)),
        2 => (0_usize..6).prop_map(Step::Forget),
    ]
}

/// Changes that own what they are of.
fn seen<'a>(records: impl Iterator<Item = Record<'a>>) -> Vec<(String, Owned)> {
    records
        .map(|record| {
            let change = match record.change {
                Change::Create => Owned::Create,
                Change::Write { offset, bytes } => Owned::Write(offset, bytes.to_vec()),
                Change::SetLen(len_bytes) => Owned::SetLen(len_bytes),
                Change::Remove => Owned::Remove,
            };
            (record.path.to_string(), change)
        })
        .collect()
}

proptest! {
    /// Against a queue of vectors: the same changes in the same order, and room whenever those and one unusable end of the
    /// ring leave some.
    #[test]
    fn changes_queue_as_they_were_made(steps in prop::collection::vec(step(), 1..300)) {
        let mut queue = queue();
        let mut model: VecDeque<(String, Owned)> = VecDeque::new();
        let len_of = |change: &(String, Owned)| record_len(change.0.len(), change.1.lend().data_len());
        for step in steps {
            match step {
                Step::Push(index, change) => {
                    let of = path(index);
                    let used: usize = model.iter().map(len_of).sum();
                    match queue.room(&of, change.lend()) {
                        Room::Enough => {
                            queue.push(&of, change.lend());
                            let pieces = change.lend().pieces(LEN / 8);
                            let pieces = pieces.map(|change| Record { path: of.as_str(), change });
                            model.extend(seen(pieces));
                        }
                        Room::Later => {
                            let pieces = change.lend().pieces(LEN / 8);
                            let needed: usize = pieces
                                .map(|piece| record_len(of.as_str().len(), piece.data_len()))
                                .sum();
                            prop_assert!(used + needed + 2 * (LEN / 8 + 64) > LEN);
                        }
                        Room::Never => prop_assert!(false, "all of these fit into an empty queue"),
                    }
                }
                Step::Forget(count) => {
                    let to = queue.changes(queue.head()).map(|(_, behind)| behind).take(count).last();
                    queue.forget(to.unwrap_or(queue.head()));
                    model.drain(..count.min(model.len()));
                }
            }
            let all = seen(queue.changes(queue.head()).map(|(record, _)| record));
            prop_assert_eq!(&all, model.make_contiguous());
            prop_assert_eq!(queue.tail().0 - queue.head().count, model.len() as u64);
            // Copied out it is the same, and no further than asked for.
            let mut batch = Batch::default();
            let to = Tail(queue.head().count + model.len() as u64 / 2);
            let end = batch.fill(&queue, queue.head(), to);
            prop_assert_eq!(end.tail(), to);
            prop_assert_eq!(seen(batch.changes().map(|(_, record)| record)), &all[..model.len() / 2]);
        }
    }

    /// What a new master relies on: a file on which any of the changes was made, and then all of them, is as if they
    /// were made once.
    #[test]
    fn changes_may_be_made_again(
        before in prop::collection::vec(any::<u8>(), 0..40),
        changes in prop::collection::vec(owned(60, 30), 1..12),
        made in any::<u16>(),
    ) {
        const ROOM: usize = 100;
        // A file as the module says: its length, and all bytes there could be.
        let make = |(len, bytes): &mut (u64, Vec<u8>), change: &Owned| {
            *len = change.lend().len_after(*len);
            change.lend().overlay(0, bytes);
        };
        let mut bytes = before.clone();
        bytes.resize(ROOM, 0);
        let fresh = (before.len() as u64, bytes);
        let mut once = fresh.clone();
        changes.iter().for_each(|change| make(&mut once, change));
        // Any of them reached the disk.
        let mut twice = fresh;
        let some = changes.iter().enumerate().filter(|(index, _)| made >> (index % 16) & 1 == 1);
        some.for_each(|(_, change)| make(&mut twice, change));
        changes.iter().for_each(|change| make(&mut twice, change));
        prop_assert_eq!(once, twice);
    }

    /// A read of a part is a part of a read of all.
    #[test]
    fn a_part_is_overlaid_as_the_whole(
        changes in prop::collection::vec(owned(60, 30), 1..12),
        from in 0_usize..90,
        len in 0_usize..50,
    ) {
        let mut whole = vec![7; 150];
        let mut part = vec![7; len];
        for change in &changes {
            change.lend().overlay(0, &mut whole);
            change.lend().overlay(from as u64, &mut part);
        }
        prop_assert_eq!(&whole[from..from + len], &part);
    }
}

#[test]
fn what_is_longer_than_the_queue_never_finds_room() {
    let mut queue = queue();
    let bytes = vec![1; LEN];
    let write = |len: usize| Change::Write {
        offset: 0,
        bytes: &bytes[..len],
    };
    assert_eq!(queue.room(&path(0), write(LEN)), Room::Never);
    assert_eq!(queue.room(&path(0), write(LEN - 400)), Room::Enough);
    queue.push(&path(0), write(LEN - 400));
    assert_eq!(queue.room(&path(0), write(LEN - 400)), Room::Later);
    assert!(queue.is_half_full());
    let end = queue.changes(queue.head()).last().unwrap().1;
    queue.forget(end);
    assert_eq!(queue.room(&path(0), write(LEN - 400)), Room::Enough);
}

use super::*;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use allocator_api2::alloc::Global;
use hs_core::class::{Class, ClassId};
use hs_core::host::Session;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::HashMap;

type Bytes = vec::Vec<u8>;
type OnHeap = Store<Global>;

const NOW: u64 = 1_700_000_000_000;

fn store(limit_bytes: usize) -> OnHeap {
    Store::new(Global, [1, 2], limit_bytes)
}

impl<A: Memory> Store<A> {
    fn assert_sound(&self) {
        self.deadlines.assert_sound(|slot| self.slots.get(slot).place);
        let mut content_bytes = 0;
        let mut keys = BTreeSet::new();
        for index in 0..self.slots.end() {
            let Some(entry) = self.slots.at(index) else {
                continue;
            };
            assert_eq!(entry.hash, self.hasher.hash(&entry.key));
            assert_eq!(self.slot_of(entry.hash, &entry.key), Some(index as u32));
            assert!(keys.insert(entry.key.to_vec()));
            content_bytes += entry.block_bytes();
        }
        assert_eq!(keys.len(), self.slots.len());
        assert_eq!(self.table.len(), self.slots.len());
        assert_eq!(content_bytes, self.content_bytes);
        // Table and heap double in one step; everything else is asked for before it is taken.
        assert!(self.content_bytes + self.slots.blocks_bytes() <= self.limit_bytes);
    }
}

/// What a store is supposed to be.
#[derive(Clone, Default)]
struct Model(HashMap<Bytes, (Bytes, Option<u64>)>);

impl Model {
    fn get(&self, key: &[u8], now_ms: u64) -> Option<&(Bytes, Option<u64>)> {
        self.0
            .get(key)
            .filter(|(_, deadline)| deadline.is_none_or(|deadline| now_ms <= deadline))
    }

    fn contents(&self, now_ms: u64) -> BTreeMap<Bytes, (Bytes, Option<u64>)> {
        self.0
            .iter()
            .filter(|(key, _)| self.get(key, now_ms).is_some())
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    }
}

fn contents<A: Memory>(store: &mut Store<A>, now_ms: u64) -> BTreeMap<Bytes, (Bytes, Option<u64>)> {
    let mut keys = vec![];
    assert_eq!(
        store.scan(0, usize::MAX, now_ms, |key| keys.push(key.to_vec())),
        0
    );
    keys.into_iter()
        .map(|key| {
            let found = store.find(&key, now_ms).unwrap();
            let value = (store.value(found).to_vec(), store.deadline_ms(found));
            (key, value)
        })
        .collect()
}

#[derive(Clone, Debug)]
enum Step {
    Set(Bytes, Bytes, Expiry),
    Adopt(Bytes, Bytes, Expiry),
    SetAll(vec::Vec<(Bytes, Bytes)>),
    Append(Bytes, Bytes),
    Expire(Bytes, Expiry),
    Remove(Bytes),
    Get(Bytes),
    ExpireDue(usize),
    Pass(u64),
    Clear,
}

fn key() -> impl Strategy<Value = Bytes> {
    prop_oneof![6 => (0_u8..24).prop_map(|key| vec![key]), 1 => proptest::collection::vec(any::<u8>(), 0..20)]
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => (0_usize..5000, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ]
}

fn expiry() -> impl Strategy<Value = Expiry> {
    prop_oneof![
        1 => Just(Expiry::Keep),
        1 => Just(Expiry::Never),
        2 => (0_u64..2000).prop_map(|after| Expiry::At(NOW - 500 + after)),
    ]
}

fn steps() -> impl Strategy<Value = vec::Vec<Step>> {
    let step = prop_oneof![
        6 => (key(), value(), expiry()).prop_map(|(key, value, expiry)| Step::Set(key, value, expiry)),
        2 => (key(), value(), expiry()).prop_map(|(key, value, expiry)| Step::Adopt(key, value, expiry)),
        2 => proptest::collection::vec((key(), value()), 0..8).prop_map(Step::SetAll),
        2 => (key(), value()).prop_map(|(key, value)| Step::Append(key, value)),
        2 => (key(), expiry()).prop_map(|(key, expiry)| Step::Expire(key, expiry)),
        3 => key().prop_map(Step::Remove),
        3 => key().prop_map(Step::Get),
        1 => (0_usize..5).prop_map(Step::ExpireDue),
        2 => (0_u64..300).prop_map(Step::Pass),
        1 => Just(Step::Clear),
    ];
    proptest::collection::vec(step, 0..120)
}

fn apply(expiry: Expiry, before: Option<u64>) -> Option<u64> {
    match expiry {
        Expiry::Keep => before,
        Expiry::Never => None,
        Expiry::At(at_ms) => Some(at_ms),
    }
}

/// Does the steps to a store and to the model; returns how many the store refused.
fn run<A: Memory>(mut store: Store<A>, steps: vec::Vec<Step>) -> usize {
    let mut refusals = 0;
    let mut model = Model::default();
    let mut now = NOW;
    for step in steps {
        let before = contents(&mut store, now);
        let mut refused = false;
        match step {
            Step::Set(key, value, expiry) => match store.set(&key, &value, expiry, now) {
                Ok(()) => {
                    let deadline = apply(expiry, model.get(&key, now).and_then(|(_, deadline)| *deadline));
                    model.0.insert(key, (value, deadline));
                }
                Err(OutOfMemory) => refused = true,
            },
            Step::Adopt(key, value, expiry) => {
                // As in life, the block is there first.
                let block = copy_in(&value, &store.memory());
                match block.and_then(|block| Ok((store.make_room(&key, value.len(), expiry, now)?, block))) {
                    Ok((found, block)) => {
                        store.adopt(found, block);
                        let deadline =
                            apply(expiry, model.get(&key, now).and_then(|(_, deadline)| *deadline));
                        model.0.insert(key, (value, deadline));
                    }
                    Err(OutOfMemory) => refused = true,
                }
            }
            Step::SetAll(pairs) => {
                match store.set_all(
                    pairs
                        .iter()
                        .map(|(key, value)| (key.as_slice(), value.as_slice())),
                    now,
                ) {
                    Ok(()) => model
                        .0
                        .extend(pairs.into_iter().map(|(key, value)| (key, (value, None)))),
                    Err(OutOfMemory) => refused = true,
                }
            }
            Step::Append(key, suffix) => match store.append(&key, &suffix, now) {
                Ok(len) => {
                    let (mut value, deadline) = model.get(&key, now).cloned().unwrap_or_default();
                    value.extend(suffix);
                    assert_eq!(len, value.len());
                    model.0.insert(key, (value, deadline));
                }
                Err(AppendError::OutOfMemory) => refused = true,
                Err(AppendError::TooLong) => panic!("values are short"),
            },
            Step::Expire(key, expiry) => {
                let found = store.find(&key, now);
                assert_eq!(found.is_some(), model.get(&key, now).is_some());
                match found.map(|found| store.expire(found, expiry)) {
                    Some(Ok(())) => {
                        let (_, deadline) = model.0.get_mut(&key).unwrap();
                        *deadline = apply(expiry, *deadline);
                    }
                    Some(Err(OutOfMemory)) => refused = true,
                    None => {}
                }
            }
            Step::Remove(key) => {
                let found = store.find(&key, now);
                assert_eq!(found.is_some(), model.get(&key, now).is_some());
                found.inspect(|&found| store.remove(found));
                model.0.remove(&key);
            }
            Step::Get(key) => {
                assert_eq!(
                    store.get(&key, now),
                    model.get(&key, now).map(|(value, _)| value.as_slice())
                );
            }
            Step::ExpireDue(count_max) => {
                let expired = store.expire_due(now, count_max);
                assert!(expired <= count_max);
                if expired < count_max {
                    assert!(store.next_expiry_ms().is_none_or(|next| next > now));
                    assert_eq!(store.len(), model.contents(now).len());
                }
            }
            Step::Pass(ms) => now += ms,
            Step::Clear => {
                store.clear();
                model.0.clear();
            }
        }
        store.assert_sound();
        let after = contents(&mut store, now);
        assert_eq!(after, model.contents(now));
        assert!(!refused || after == before);
        refusals += usize::from(refused);
        assert!(store.expiring() >= after.values().filter(|(_, deadline)| deadline.is_some()).count());
    }
    refusals
}

proptest! {
    #[test]
    fn a_store_is_a_map_whose_keys_expire(steps in steps()) {
        prop_assert_eq!(run(store(usize::MAX), steps), 0);
    }

    #[test]
    fn a_full_store_refuses_and_loses_nothing(limit_bytes in 16_000_usize..60_000, steps in steps()) {
        run(store(limit_bytes), steps);
    }

    /// Keys come and go between the steps of a walk; those that stay are met exactly once.
    #[test]
    fn a_walk_meets_every_key_that_stays(
        stay in proptest::collection::btree_set(0_u32..400, 0..200),
        early in proptest::collection::vec((0_u32..800, any::<bool>()), 0..400),
        steps in proptest::collection::vec((1_usize..30, proptest::collection::vec((0_u32..800, any::<bool>()), 0..30)), 1..30),
    ) {
        let mut store = store(usize::MAX);
        let name = |key: u32| key.to_le_bytes();
        let change = |store: &mut OnHeap, changes: &[(u32, bool)]| {
            for &(key, there) in changes {
                if stay.contains(&key) {
                    continue;
                }
                match store.find(&name(key), NOW) {
                    Some(found) if !there => store.remove(found),
                    None if there => store.set(&name(key), b"", Expiry::Never, NOW).unwrap(),
                    _ => {}
                }
            }
        };
        change(&mut store, &early);
        for &key in &stay {
            store.set(&name(key), b"stays", Expiry::Never, NOW).unwrap();
        }
        let mut met = vec![];
        let mut cursor = 0;
        let mut steps = steps.iter().cycle();
        loop {
            let (count, changes) = steps.next().unwrap();
            let mut these = 0;
            cursor = store.scan(cursor, *count, NOW, |key| {
                these += 1;
                met.push(u32::from_le_bytes(key.try_into().unwrap()));
            });
            prop_assert!(these <= *count);
            if cursor == 0 {
                break;
            }
            change(&mut store, changes);
            // Overwriting moves nothing either.
            for &key in stay.iter().take(3) {
                store.set(&name(key), b"longer than it was before", Expiry::Never, NOW).unwrap();
            }
        }
        met.retain(|key| stay.contains(key));
        let distinct: BTreeSet<u32> = met.iter().copied().collect();
        prop_assert_eq!(met.len(), distinct.len());
        prop_assert_eq!(distinct, stay);
    }
}

#[test]
fn a_key_lives_until_its_deadline_is_over() {
    let mut store = store(usize::MAX);
    store.set(b"k", b"v", Expiry::At(NOW + 10), NOW).unwrap();
    assert_eq!(store.get(b"k", NOW + 10), Some(b"v".as_slice()));
    assert_eq!(store.next_expiry_ms(), Some(NOW + 11));
    assert_eq!(store.expire_due(NOW + 10, 10), 0);
    assert_eq!(store.get(b"k", NOW + 11), None);
    assert_eq!((store.len(), store.expired()), (0, 1));
}

#[test]
fn values_may_be_as_long_as_the_limit_and_no_longer() {
    let mut store = store(usize::MAX);
    let value = vec![b'v'; BULK_LEN_MAX - 1];
    store.set(b"k", &value, Expiry::Never, NOW).unwrap();
    assert_eq!(store.append(b"k", b"xx", NOW), Err(AppendError::TooLong));
    assert_eq!(store.append(b"k", b"x", NOW), Ok(BULK_LEN_MAX));
    assert_eq!(store.get(b"k", NOW).map(<[u8]>::len), Some(BULK_LEN_MAX));
}

#[test]
fn an_emptied_store_gives_its_memory_back() {
    let mut store = store(usize::MAX);
    for key in 0..10_000_u32 {
        store
            .set(&key.to_le_bytes(), b"some value or other", Expiry::At(NOW), NOW)
            .unwrap();
    }
    assert!(store.used_bytes() > 10_000 * 100);
    assert_eq!(store.expire_due(NOW + 1, usize::MAX), 10_000);
    assert_eq!(store.used_bytes(), 0);
}

#[test]
fn counters_stay_where_they_are() {
    let mut store = store(usize::MAX);
    store.set(b"n", b"1", Expiry::Never, NOW).unwrap();
    let before = store.get(b"n", NOW).unwrap().as_ptr();
    store.set(b"n", b"9223372036854775", Expiry::Keep, NOW).unwrap();
    assert_eq!(store.get(b"n", NOW).unwrap().as_ptr(), before);
}

/// A class whose memory runs out before the store's own limit does: every allocation may be the one that fails.
#[test]
fn a_class_that_runs_dry_refuses_and_loses_nothing() {
    let session = Session::start(14);
    let mut runner = TestRunner::deterministic();
    let mut refusals = 0;
    for _ in 0..200 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        session.restart();
        let class = Class::create(ClassId(1), 4096).unwrap();
        let store = Store::new(class, [1, 2], usize::MAX);
        refusals += run(store, steps);
        assert_eq!(class.statistics().blocks, 0, "an emptied store holds no memory");
    }
    assert!(refusals > 100, "memory ran out {refusals} times only");
}

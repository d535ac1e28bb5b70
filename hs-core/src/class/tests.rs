//! Classes against a reference model.

mod faults;
mod model;
mod scope;

use alloc::vec;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::hash::BuildHasherDefault;
use std::collections::BTreeMap;
use std::hash::DefaultHasher;

use proptest::prelude::*;

use super::*;
use crate::host::{HostMemory, Session};
use crate::library::{adopt, installed, start};
use crate::platform::{CheckpointMemory, Cptctl, PageRange};

const CLASSES: [ClassId; 2] = [ClassId(7), ClassId(70_000)];

#[derive(Clone, Debug)]
enum Op {
    Malloc {
        class: usize,
        size: usize,
        align_shift: u32,
    },
    Free {
        which: prop::sample::Index,
    },
    Resize {
        which: prop::sample::Index,
        size: usize,
    },
    /// Everything is copied out of the window, the window overwritten, and all brought back.
    Restore,
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 1_usize..100, 4 => 1_usize..6000, 1 => 1_usize..200_000]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (0..CLASSES.len(), size(), 0_u32..=12).prop_map(|(class, size, align_shift)| {
            // Large alignments are seldom.
            Op::Malloc { class, size, align_shift: if size % 8 == 0 { align_shift } else { align_shift.min(4) } }
        }),
        8 => any::<prop::sample::Index>().prop_map(|which| Op::Free { which }),
        5 => (any::<prop::sample::Index>(), size()).prop_map(|(which, size)| Op::Resize { which, size }),
        1 => Just(Op::Restore),
    ]
}

/// A block as the model knows it: first and last bytes carry its number.
#[derive(Debug)]
struct Block {
    class: usize,
    address: usize,
    layout: Layout,
    tag: u64,
}

impl Block {
    fn ends(&self) -> Vec<(usize, usize)> {
        let len = self.layout.size().min(8);
        vec![
            (self.address, len),
            (self.address + self.layout.size() - len, len),
        ]
    }

    fn write(&self, memory: &HostMemory) {
        for (address, len) in self.ends() {
            for (offset, byte) in self.tag.to_le_bytes()[..len].iter().enumerate() {
                memory.write(address + offset, &[*byte]);
            }
        }
    }

    fn is_intact(&self, memory: &HostMemory) -> bool {
        // A block shorter than a tag has its end written over its beginning with the same bytes.
        let (address, len) = self.ends()[0];
        let (last, last_len) = self.ends()[1];
        let tag = self.tag.to_le_bytes();
        (self.layout.size() < 16 || memory.read(address, len) == tag[..len])
            && memory.read(last, last_len) == tag[..last_len]
    }
}

/// The window's contents, away and back.
fn restore_by_copy(memory: &'static HostMemory) {
    let mut areas = Vec::new();
    installed(memory, &mut areas);
    let pages = memory.pages();
    memory.reset();
    for area in &areas {
        memory.map(*area).unwrap();
    }
    for (address, page) in pages {
        memory.write(address, &*page);
    }
    memory.cptctl(Cptctl::Install(&areas)).unwrap();
    adopt(memory).unwrap();
}

fn areas_of(memory: &HostMemory) -> Vec<PageRange> {
    let mut areas = Vec::new();
    installed(memory, &mut areas);
    areas
}

#[test]
fn blocks_are_aligned_apart_and_keep_their_contents() {
    let session = Session::start(16384);
    let memory = session.memory();
    proptest!(ProptestConfig::with_cases(96), |(ops in prop::collection::vec(op(), 1..150))| {
        session.restart();
        // What belongs to which class: the ranges that were installed while it was created or grew.
        let mut owned: [Vec<PageRange>; 2] = Default::default();
        let mut known = areas_of(memory);
        let mut note = |owned: &mut [Vec<PageRange>; 2], class: usize| {
            for area in areas_of(memory) {
                if !known.contains(&area) {
                    known.push(area);
                    owned[class].push(area);
                }
            }
        };
        for (index, id) in CLASSES.iter().enumerate() {
            Class::create(*id, 1000).unwrap();
            note(&mut owned, index);
        }
        let mut classes = CLASSES.map(|id| Class::find(id).unwrap());
        let mut blocks: Vec<Block> = Vec::new();
        let mut tag = 0x1111_1111_1111_1111_u64;
        for op in ops {
            match op {
                Op::Malloc { class, size, align_shift } => {
                    let layout = Layout::from_size_align(size, 1 << align_shift).unwrap();
                    let (address, len_bytes) = classes[class].malloc(layout).unwrap();
                    note(&mut owned, class);
                    prop_assert!(address % layout.align() == 0);
                    prop_assert!(len_bytes >= size && len_bytes <= (2 * size).max(2 * layout.align()).max(16));
                    tag = tag.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    blocks.push(Block { class, address, layout, tag });
                    blocks.last().unwrap().write(memory);
                }
                Op::Free { which } if !blocks.is_empty() => {
                    let block = blocks.swap_remove(which.index(blocks.len()));
                    prop_assert!(block.is_intact(memory), "{:?}", block);
                    classes[block.class].free(block.address, block.layout);
                }
                Op::Resize { which, size } if !blocks.is_empty() => {
                    let which = which.index(blocks.len());
                    let block = &mut blocks[which];
                    prop_assert!(block.is_intact(memory), "{:?}", block);
                    let layout = Layout::from_size_align(size, block.layout.align()).unwrap();
                    let grown = classes[block.class].resize(block.address, block.layout, layout);
                    // Smaller is always possible in place.
                    prop_assert!(grown.is_some() || size > block.layout.size());
                    if grown.is_some() {
                        block.layout = layout;
                        block.write(memory);
                    }
                }
                Op::Restore => {
                    restore_by_copy(memory);
                    classes = CLASSES.map(|id| Class::find(id).unwrap());
                }
                Op::Free { .. } | Op::Resize { .. } => {}
            }
        }
        blocks.sort_unstable_by_key(|block| block.address);
        for pair in blocks.windows(2) {
            prop_assert!(pair[0].address + pair[0].layout.size() <= pair[1].address, "{:?}", pair);
        }
        for (index, class) in classes.iter().enumerate() {
            let mine: Vec<&Block> = blocks.iter().filter(|block| block.class == index).collect();
            for block in &mine {
                prop_assert!(block.is_intact(memory), "{:?}", block);
                // Areas that touch are as good as one.
                let inside = |address| owned[index].iter().any(|area| area.contains(address));
                prop_assert!(inside(block.address) && inside(block.address + block.layout.size() - 1));
            }
            let statistics = class.statistics();
            prop_assert_eq!(statistics.blocks, mine.len());
            prop_assert!(statistics.block_bytes >= mine.iter().map(|block| block.layout.size()).sum());
            prop_assert_eq!(statistics.areas, owned[index].len());
            prop_assert_eq!(statistics.total_bytes, owned[index].iter().map(|area| area.len_bytes()).sum::<usize>());
            // Each growth at least doubles, so that there are few areas.
            let mut total = 0;
            for area in &owned[index] {
                prop_assert!(area.len_bytes() >= total);
                total += area.len_bytes();
            }
        }
        // When all is freed and asked for again, in any order, the classes do not grow.
        let before = areas_of(memory);
        for block in &blocks {
            classes[block.class].free(block.address, block.layout);
        }
        for block in blocks.iter().rev() {
            prop_assert!(classes[block.class].malloc(block.layout).is_ok());
        }
        prop_assert_eq!(before, areas_of(memory));
    });
}

#[test]
fn a_class_changes_no_memory_but_its_own() {
    let session = Session::start(4096);
    let memory = session.memory();
    let first = Class::create(ClassId(1), 1 << 20).unwrap();
    Class::create(ClassId(2), 1 << 16).unwrap();
    let ours = areas_of(memory)[1];
    let others = |memory: &HostMemory| -> Vec<_> {
        memory
            .pages()
            .into_iter()
            .filter(|(address, _)| !ours.contains(*address))
            .collect()
    };
    let before = others(memory);
    let mut blocks = Vec::new();
    for round in 0..200_usize {
        let layout = Layout::from_size_align(round * 7 % 3000 + 1, 8).unwrap();
        blocks.push((first.malloc(layout).unwrap().0, layout));
        if round % 3 == 0 {
            let (address, layout) = blocks.swap_remove(round % blocks.len());
            first.free(address, layout);
        }
    }
    assert_eq!(first.statistics().areas, 1, "the test is about one area");
    assert!(before == others(memory));
}

#[test]
fn vectors_and_maps_live_in_classes() {
    type Map<'a> = hashbrown::HashMap<
        u64,
        allocator_api2::vec::Vec<u8, Class>,
        BuildHasherDefault<DefaultHasher>,
        Class,
    >;
    let session = Session::start(16384);
    proptest!(ProptestConfig::with_cases(24), |(ops in prop::collection::vec((0_u64..40, 0_usize..3000), 1..300))| {
        session.restart();
        let class = Class::create(ClassId(3), 0).unwrap();
        let mut map = Map::with_hasher_in(BuildHasherDefault::default(), class);
        let mut model: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (key, len) in ops {
            let byte = (key as u8).wrapping_add(len as u8);
            match len % 4 {
                0 => {
                    map.remove(&key);
                    model.remove(&key);
                }
                1 => {
                    let value = map.entry(key).or_insert_with(|| allocator_api2::vec::Vec::new_in(class));
                    value.resize(len, byte);
                    value.shrink_to_fit();
                    model.entry(key).or_default().resize(len, byte);
                }
                _ => {
                    let value = map.entry(key).or_insert_with(|| allocator_api2::vec::Vec::new_in(class));
                    value.extend_from_slice(&vec![byte; len / 4]);
                    model.entry(key).or_default().extend_from_slice(&vec![byte; len / 4]);
                }
            }
        }
        prop_assert_eq!(map.len(), model.len());
        for (key, value) in &model {
            prop_assert_eq!(&map[key][..], &value[..]);
        }
        drop(map);
        prop_assert_eq!(class.statistics().blocks, 0);
    });
}

#[test]
fn a_large_object_gets_an_area_that_holds_it_and_growth_doubles() {
    let _session = Session::start(16384);
    let class = Class::create(ClassId(1), 4096).unwrap();
    let mut big = allocator_api2::vec::Vec::<u8, Class>::new_in(class);
    big.resize(8 << 20, 0x77);
    assert!(big.iter().all(|byte| *byte == 0x77));
    let statistics = class.statistics();
    assert!(statistics.total_bytes.is_power_of_two(), "{statistics:?}");
    assert!(statistics.total_bytes <= 32 << 20, "{statistics:?}");
    assert_eq!(big.as_ptr() as usize % PAGE_LEN, 0);
}

#[test]
fn fresh_memory_is_not_touched() {
    let session = Session::start(4096);
    let class = Class::create(ClassId(1), 1 << 20).unwrap();
    let layout = Layout::from_size_align(1 << 19, 8).unwrap();
    class.malloc(layout).unwrap();
    let area = areas_of(session.memory())[1];
    let touched = session.memory().pages().into_iter().filter(|(address, page)| {
        *address > area.start() && area.contains(*address) && page.iter().any(|byte| *byte != 0)
    });
    assert_eq!(touched.count(), 0);
}

#[test]
fn empty_layouts_take_nothing() {
    let _session = Session::start(64);
    let class = Class::create(ClassId(1), 0).unwrap();
    let units = allocator_api2::boxed::Box::new_in((), class);
    let none = allocator_api2::vec::Vec::<u64, Class>::with_capacity_in(0, class);
    assert_eq!(class.statistics().blocks, 0);
    drop((units, none));
    // From nothing to something and back.
    let mut some = allocator_api2::vec::Vec::<u64, Class>::new_in(class);
    some.push(1);
    assert_eq!(class.statistics().blocks, 1);
    some.clear();
    some.shrink_to_fit();
    assert_eq!(class.statistics().blocks, 0);
}

#[test]
fn no_byte_is_lost_to_cutting() {
    let session = Session::start(4096);
    proptest!(ProptestConfig::with_cases(64), |(blocks in prop::collection::vec((1_usize..20_000, any::<bool>()), 1..40))| {
        session.restart();
        let class = Class::create(ClassId(1), 1 << 17).unwrap();
        let mut kept_bytes = 0;
        let mut freed = Vec::new();
        for (size, keep) in blocks {
            let layout = Layout::from_size_align(size, 1).unwrap();
            let (address, len_bytes) = class.malloc(layout).unwrap();
            if keep { kept_bytes += len_bytes } else { freed.push((address, layout)) }
        }
        freed.into_iter().for_each(|(address, layout)| class.free(address, layout));
        prop_assert_eq!(class.statistics().block_bytes, kept_bytes);
        // The smallest blocks fill everything that was cut, skipped, freed or never used.
        let before = class.statistics();
        let smallest = Layout::from_size_align(16, 1).unwrap();
        let left = before.total_bytes - size_of::<ClassHeader>().next_multiple_of(16) - kept_bytes;
        for _ in 0..left / 16 {
            class.malloc(smallest).unwrap();
        }
        prop_assert_eq!(class.statistics().total_bytes, before.total_bytes);
        prop_assert_eq!(class.statistics().fresh_bytes, 0);
        class.malloc(smallest).unwrap();
        prop_assert_eq!(class.statistics().total_bytes, 2 * before.total_bytes);
    });
}

#[test]
fn threads_never_meet_in_a_block() {
    let _session = Session::start(4096);
    let class = Class::create(ClassId(1), 0).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            scope.spawn(move || {
                let mut kept = Vec::new();
                for round in 0..2000_usize {
                    let len = (round * 37 + usize::from(thread)) % 700;
                    let mut value = allocator_api2::vec::Vec::<u8, Class>::new_in(class);
                    value.resize(len, thread);
                    kept.push(value);
                    if kept.len() > 20 {
                        let value = kept.swap_remove(round % 20);
                        assert!(value.iter().all(|byte| *byte == thread));
                    }
                }
            });
        }
    });
    assert_eq!(class.statistics().blocks, 0);
}

#[test]
fn exhaustion_is_reported_and_passes() {
    let session = Session::start(1024);
    let class = Class::create(ClassId(1), 1 << 16).unwrap();
    // Less than a doubling: what there is is used.
    session.memory().set_frames(9);
    let layout = Layout::from_size_align(PAGE_LEN, 1).unwrap();
    let mut blocks = Vec::new();
    while let Ok((address, _)) = class.malloc(layout) {
        blocks.push(address);
        assert!(blocks.len() < 100, "memory never runs out");
    }
    assert!(blocks.len() >= 15 + 8, "{} blocks", blocks.len());
    assert_eq!(class.malloc(layout), Err(ClassError::Map(MapError::OutOfFrames)));
    let wide = Layout::from_size_align(16, 8192).unwrap();
    assert_eq!(class.malloc(wide), Err(ClassError::TooLarge(wide)));
    class.free(blocks.pop().unwrap(), layout);
    assert!(class.malloc(layout).is_ok());
    assert_eq!(
        Class::create(ClassId(2), 1 << 20),
        Err(ClassError::Map(MapError::OutOfFrames))
    );
    assert_eq!(Class::find(ClassId(2)), None);
    session.memory().set_frames(1024);
    assert!(Class::create(ClassId(2), 1 << 20).is_ok());
    assert_eq!(Class::create(ClassId(2), 0), Err(ClassError::Exists(ClassId(2))));
    assert_eq!(Class::create(ClassId(3), 1 << 40), Err(ClassError::WindowFull));
}

#[test]
fn starting_twice_on_one_memory_is_refused_and_changes_nothing() {
    let session = Session::start(64);
    let class = Class::create(ClassId(1), 0).unwrap();
    assert!(start(session.memory()).is_err());
    assert_eq!(Class::find(ClassId(1)), Some(class));
}

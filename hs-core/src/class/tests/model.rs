//! Everything that can be done with classes, in any order, against a model.

use alloc::vec;
use alloc::vec::Vec;
use core::alloc::Layout;

use proptest::prelude::*;

use super::{Block, areas_of, restore_by_copy, size};
use crate::class::{Class, ClassError, ClassId, with_class};
use crate::host::{HostMemory, Session};
use crate::library::{self, LibraryArea};
use crate::platform::{CheckpointMemory, PAGE_LEN, PageRange};

const IDS: [ClassId; 3] = [ClassId(7), ClassId(70_000), ClassId(8)];

#[derive(Clone, Debug)]
enum Op {
    Malloc {
        class: usize,
        size: usize,
        align_shift: u32,
    },
    Free(prop::sample::Index),
    Resize(prop::sample::Index, usize),
    /// All blocks of a class, as when its work is done.
    FreeAll {
        class: usize,
    },
    Trim {
        class: usize,
    },
    /// Destroyed if it is empty, and made anew.
    Destroy {
        class: usize,
        initial_bytes: usize,
    },
    /// Something of the global allocator's, within the scope of one class and then of another.
    Push {
        class: usize,
        inner: usize,
        size: usize,
    },
    /// Grows or drops such a thing, in the scope of a class or in none.
    Change {
        which: prop::sample::Index,
        scope: Option<usize>,
        size: usize,
    },
    /// Everything is copied out of the window, the window overwritten, and all brought back.
    Restore,
}

fn op() -> impl Strategy<Value = Op> {
    let class = 0..IDS.len();
    prop_oneof![
        12 => (class.clone(), size(), 0_u32..=12).prop_map(|(class, size, align_shift)| {
            Op::Malloc { class, size, align_shift: if size % 8 == 0 { align_shift } else { align_shift.min(4) } }
        }),
        9 => any::<prop::sample::Index>().prop_map(Op::Free),
        4 => (any::<prop::sample::Index>(), size()).prop_map(|(which, size)| Op::Resize(which, size)),
        1 => class.clone().prop_map(|class| Op::FreeAll { class }),
        3 => class.clone().prop_map(|class| Op::Trim { class }),
        2 => (class.clone(), 0_usize..100_000).prop_map(|(class, initial_bytes)| Op::Destroy { class, initial_bytes }),
        4 => (class.clone(), class.clone(), size()).prop_map(|(class, inner, size)| Op::Push { class, inner, size }),
        4 => (any::<prop::sample::Index>(), prop::option::of(class), size())
            .prop_map(|(which, scope, size)| Op::Change { which, scope, size }),
        1 => Just(Op::Restore),
    ]
}

/// A vector that a library made which knows nothing of classes.
struct Scoped {
    class: usize,
    bytes: Vec<u8>,
    fill: u8,
}

struct Model {
    memory: &'static HostMemory,
    /// Frames before the library was started.
    frames: usize,
    classes: [Class; IDS.len()],
    blocks: Vec<Block>,
    scoped: Vec<Scoped>,
    tag: u64,
}

impl Model {
    fn new(session: &Session) -> Self {
        let memory = session.memory();
        memory.reset();
        let frames = memory.frames();
        crate::start(memory).unwrap();
        Self {
            memory,
            frames,
            classes: IDS.map(|id| Class::create(id, 1000).unwrap()),
            blocks: Vec::new(),
            scoped: Vec::new(),
            tag: 0x1111_1111_1111_1111,
        }
    }

    fn owned(class: Class) -> Vec<PageRange> {
        library::with(|library| library.areas_of(class.place as usize)).unwrap()
    }

    fn live(&self, class: usize) -> usize {
        let blocks = self.blocks.iter().filter(|block| block.class == class).count();
        let scoped = self.scoped.iter().filter(|scoped| scoped.class == class);
        blocks + scoped.filter(|scoped| scoped.bytes.capacity() > 0).count()
    }

    fn free(&mut self, index: usize) {
        let block = self.blocks.swap_remove(index);
        assert!(block.is_intact(self.memory), "{block:?}");
        self.classes[block.class].free(block.address, block.layout);
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Malloc {
                class,
                size,
                align_shift,
            } => {
                let layout = Layout::from_size_align(size, 1 << align_shift).unwrap();
                let (address, len_bytes) = self.classes[class].malloc(layout).unwrap();
                assert!(address.is_multiple_of(layout.align()) && len_bytes >= size);
                self.tag = self.tag.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                let tag = self.tag;
                self.blocks.push(Block {
                    class,
                    address,
                    layout,
                    tag,
                });
                self.blocks.last().unwrap().write(self.memory);
            }
            Op::Free(which) if !self.blocks.is_empty() => self.free(which.index(self.blocks.len())),
            Op::Resize(which, size) if !self.blocks.is_empty() => {
                let which = which.index(self.blocks.len());
                let block = &mut self.blocks[which];
                let layout = Layout::from_size_align(size, block.layout.align()).unwrap();
                let resized = self.classes[block.class].resize(block.address, block.layout, layout);
                assert!(resized.is_some() || size > block.layout.size());
                if resized.is_some() {
                    block.layout = layout;
                    block.write(self.memory);
                }
            }
            Op::FreeAll { class } => {
                while let Some(index) = self.blocks.iter().position(|block| block.class == class) {
                    self.free(index);
                }
                self.scoped.retain(|scoped| scoped.class != class);
            }
            Op::Trim { class } => self.trim(class),
            Op::Destroy { class, initial_bytes } => self.destroy(class, initial_bytes),
            Op::Push { class, inner, size } => {
                let fill = size as u8;
                let [outer, inner_class] = [class, inner].map(|class| self.classes[class]);
                let [first, second, third] = with_class(outer, || {
                    let first = vec![fill; size];
                    let second = with_class(inner_class, || vec![fill; size]);
                    [first, second, vec![fill; size]]
                });
                for (class, bytes) in [(class, first), (inner, second), (class, third)] {
                    self.scoped.push(Scoped { class, bytes, fill });
                }
            }
            Op::Change { which, scope, size } if !self.scoped.is_empty() => {
                let mut scoped = self.scoped.swap_remove(which.index(self.scoped.len()));
                assert!(scoped.bytes.iter().all(|byte| *byte == scoped.fill));
                let mut change = || {
                    if size % 3 == 0 {
                        return None;
                    }
                    scoped.bytes.resize(size, scoped.fill);
                    if size % 3 == 1 {
                        scoped.bytes.shrink_to_fit();
                    }
                    Some(core::mem::take(&mut scoped.bytes))
                };
                let bytes = match scope {
                    Some(class) => with_class(self.classes[class], change),
                    None => change(),
                };
                if let Some(bytes) = bytes {
                    let Scoped { class, fill, .. } = scoped;
                    self.scoped.push(Scoped { class, bytes, fill });
                }
            }
            Op::Restore => {
                restore_by_copy(self.memory);
                self.classes = IDS.map(|id| Class::find(id).unwrap());
            }
            Op::Free(_) | Op::Resize(..) | Op::Change { .. } => {}
        }
    }

    fn trim(&mut self, class: usize) {
        let before = self.classes[class].statistics();
        let frames = self.memory.frames();
        let bytes = self.classes[class].trim().unwrap();
        let after = self.classes[class].statistics();
        assert_eq!(after.total_bytes + bytes, before.total_bytes);
        assert_eq!(self.memory.frames(), frames + bytes / PAGE_LEN);
        assert_eq!(
            (after.blocks, after.block_bytes),
            (before.blocks, before.block_bytes)
        );
        if self.live(class) == 0 {
            assert!(after.total_bytes <= 16 * PAGE_LEN, "{after:?}");
        }
        // Once is enough.
        assert_eq!(self.classes[class].trim(), Ok(0));
    }

    fn destroy(&mut self, class: usize, initial_bytes: usize) {
        let old = self.classes[class];
        let blocks = self.live(class);
        if blocks > 0 {
            let id = IDS[class];
            assert_eq!(old.destroy(), Err(ClassError::InUse { id, blocks }));
            return;
        }
        let frames = self.memory.frames();
        let total_bytes = old.statistics().total_bytes;
        old.destroy().unwrap();
        assert_eq!(self.memory.frames(), frames + total_bytes / PAGE_LEN);
        assert_eq!(Class::find(IDS[class]), None);
        self.classes[class] = Class::create(IDS[class], initial_bytes).unwrap();
        // The old handle is not the new class's.
        assert_eq!(old.destroy(), Err(ClassError::Destroyed));
        assert_eq!(old.malloc(Layout::new::<u64>()), Err(ClassError::Destroyed));
    }

    fn check(&self) {
        let mut extents: Vec<(usize, usize)> = Vec::new();
        let mut known = Vec::new();
        let library_pages = size_of::<LibraryArea>().div_ceil(PAGE_LEN);
        known.extend(PageRange::new(self.memory.window().start(), library_pages));
        for (index, class) in self.classes.iter().enumerate() {
            let owned = Self::owned(*class);
            let inside = |address| owned.iter().any(|area| area.contains(address));
            let mut sizes = 0;
            let blocks = self.blocks.iter().filter(|block| block.class == index);
            let blocks = blocks.map(|block| (block.address, block.layout.size()));
            let scoped = self.scoped.iter().filter(|scoped| scoped.class == index);
            let scoped = scoped.map(|scoped| (scoped.bytes.as_ptr().addr(), scoped.bytes.capacity()));
            for (address, len) in blocks.chain(scoped).filter(|(_, len)| *len > 0) {
                assert!(
                    inside(address) && inside(address + len - 1),
                    "{address:#x} is not in its class"
                );
                extents.push((address, address + len));
                sizes += len;
            }
            let statistics = class.statistics();
            assert_eq!(statistics.blocks, self.live(index));
            assert!(statistics.block_bytes >= sizes);
            assert_eq!(statistics.areas, owned.len());
            let total_bytes: usize = owned.iter().map(|area| area.len_bytes()).sum();
            assert_eq!(statistics.total_bytes, total_bytes);
            known.extend(owned);
        }
        extents.sort_unstable();
        for pair in extents.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "{pair:x?} overlap");
        }
        // Nothing is mapped or installed but that.
        known.sort_unstable();
        assert_eq!(areas_of(self.memory), known);
        let pages: usize = known.iter().map(|area| area.pages()).sum();
        assert_eq!(self.memory.frames(), self.frames - pages);
        assert!(self.blocks.iter().all(|block| block.is_intact(self.memory)));
        let is_intact = |scoped: &Scoped| scoped.bytes.iter().all(|byte| *byte == scoped.fill);
        assert!(self.scoped.iter().all(is_intact));
    }
}

#[test]
fn classes_follow_the_model() {
    let session = Session::bare(32_768);
    proptest!(ProptestConfig::with_cases(128), |(ops in prop::collection::vec(op(), 1..120))| {
        let mut model = Model::new(&session);
        for op in ops {
            model.apply(op);
            model.check();
        }
        // All gone, all of it is free again.
        for class in 0..IDS.len() {
            model.apply(Op::FreeAll { class });
            model.classes[class].destroy().unwrap();
        }
        prop_assert_eq!(areas_of(model.memory).len(), 1);
    });
}

//! Planted faults of a client, each of which must be caught and told by name.

use alloc::string::String;
use core::alloc::Layout;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Class, ClassId, restore_by_copy};
use crate::class::check_blocks;
use crate::host::Session;
use crate::library;

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).unwrap()
}

/// A library that accounts for blocks, or does not.
fn start(checked: bool) -> Session {
    // Within the session: others may not be started so.
    let session = Session::bare(256);
    check_blocks(checked);
    session.restart();
    check_blocks(cfg!(debug_assertions));
    session
}

/// What the report says.
fn caught(fault: impl FnOnce()) -> String {
    let thrown = catch_unwind(AssertUnwindSafe(fault)).expect_err("nothing was caught");
    *thrown.downcast::<String>().unwrap()
}

#[test]
fn each_wrong_free_is_caught_and_named() {
    let session = start(true);
    let class = Class::create(ClassId(5), 0).unwrap();
    let other = Class::create(ClassId(6), 0).unwrap();
    let malloc = |class: Class, size| class.malloc(layout(size)).unwrap().0;
    let [freed, kept, foreign] = [malloc(class, 24), malloc(class, 100), malloc(other, 24)];
    class.free(freed, layout(24));
    for restored in [false, true] {
        if restored {
            restore_by_copy(session.memory());
        }
        let twice = caught(|| class.free(freed, layout(24)));
        assert!(
            twice.contains("class 5") && twice.contains("freed twice"),
            "{twice}"
        );
        assert!(twice.contains(&alloc::format!("{freed:#x}")), "{twice}");
        let of_other = caught(|| class.free(foreign, layout(24)));
        assert!(of_other.contains("foreign pointer, of class 6"), "{of_other}");
        let nowhere = caught(|| class.free(&raw const class as usize, layout(24)));
        assert!(nowhere.contains("foreign pointer, of no class"), "{nowhere}");
        // Of an older block the ledger does not know where it begins and ends; of a newer one it does.
        let kept = if restored { malloc(class, 100) } else { kept };
        let inside = caught(|| class.free(kept + 32, layout(24)));
        assert!(inside.contains("inside the block of 128 bytes"), "{inside}");
        let wrong = caught(|| class.free(kept, layout(24)));
        assert!(wrong.contains("wrong layout: the block is 128 bytes"), "{wrong}");
        let resized = caught(|| assert!(class.resize(kept + 16, layout(100), layout(20)).is_none()));
        assert!(resized.contains("inside the block"), "{resized}");
        let fresh = caught(|| class.free(kept + 2048, layout(8)));
        assert!(fresh.contains("never given out"), "{fresh}");
        if restored {
            class.free(kept, layout(100));
        }
    }
    // Nothing came of all that.
    class.free(kept, layout(100));
    other.free(foreign, layout(24));
    assert_eq!([class, other].map(|class| class.statistics().blocks), [0, 0]);
}

#[test]
fn a_destroyed_class_is_no_longer_there_for_its_handles() {
    let _session = start(true);
    let class = Class::create(ClassId(5), 0).unwrap();
    let (block, _) = class.malloc(layout(24)).unwrap();
    class.free(block, layout(24));
    class.destroy().unwrap();
    let asked = caught(|| assert_eq!(class.statistics().blocks, 0));
    assert!(asked.contains("the class was destroyed"), "{asked}");
    let freed = caught(|| class.free(block, layout(24)));
    assert!(freed.contains("of no class"), "{freed}");
    // Its place and its addresses go to another.
    let next = Class::create(ClassId(5), 0).unwrap();
    assert_ne!(class, next);
    let (again, _) = next.malloc(layout(24)).unwrap();
    assert_eq!(again, block);
    let freed = caught(|| class.free(block, layout(24)));
    assert!(freed.contains("foreign pointer, of class 5"), "{freed}");
}

#[test]
fn blocks_of_a_discarded_class_are_forgotten() {
    let session = start(true);
    let class = Class::create(ClassId(5), 0).unwrap();
    let (block, _) = class.malloc(layout(200)).unwrap();
    let frames = session.memory().frames();
    // What `discard` does; nothing lives in that block but the test's word for it.
    library::with(|library| class.give_back(library))
        .unwrap()
        .unwrap();
    assert_eq!(session.memory().frames(), frames + 1);
    let next = Class::create(ClassId(6), 0).unwrap();
    for _ in 0..20 {
        let (other, _) = next.malloc(layout(24)).unwrap();
        next.free(other, layout(24));
        next.malloc(layout(24)).unwrap();
    }
    let freed = caught(|| next.free(block, layout(200)));
    assert!(freed.contains("wrong layout"), "{freed}");
}

#[test]
fn unchecked_a_class_works_as_well() {
    let session = start(false);
    let class = Class::create(ClassId(5), 0).unwrap();
    let (block, _) = class.malloc(layout(24)).unwrap();
    class.free(block, layout(24));
    assert_eq!(class.malloc(layout(24)).unwrap().0, block);
    class.free(block, layout(24));
    class.destroy().unwrap();
    // Checked nowhere, a free through a void handle changes nothing.
    class.free(block, layout(24));
    session.restart();
}

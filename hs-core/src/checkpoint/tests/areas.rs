//! Memory that the master gives back: its spare gives it back too, whatever is in flight.

use alloc::vec;
use alloc::vec::Vec;
use core::alloc::Layout;

use super::super::*;
use super::pair::{NCON, choosing, config, send};
use crate::class::{Class, ClassId, with_class};
use crate::host::{HostMemory, Session};
use crate::image::{Image, Progress};
use crate::platform::PAGE_LEN;
use crate::restore::restore;
use crate::roots::{Root, RootError, RootId};

const PAGE: Layout = Layout::new::<[u8; PAGE_LEN]>();

fn feed(image: &mut Image, (id, bytes): &(CheckpointId, Vec<u8>)) {
    image.begin(*id).unwrap();
    let fed = image.feed(*id, bytes);
    assert!(matches!(fed, Ok(Progress::Complete { .. })), "{fed:?}");
    assert_eq!(image.newest(), Some(*id));
}

/// So many pages, in use.
fn fill(class: Class, pages: usize) -> Vec<usize> {
    (0..pages).map(|_| class.malloc(PAGE).unwrap().0).collect()
}

/// Frames that the spare does without.
fn in_use(spare: &HostMemory) -> usize {
    2 * spare.window().pages() - spare.frames()
}

#[test]
fn a_spare_gives_back_what_its_master_gives_back() {
    let session = Session::start(4096);
    let memory = session.memory();
    let (checkpointer, held) = choosing(memory, NCON, Choice::Incremental);
    checkpointer.spare_joined();
    let take = || send(&checkpointer, &held, Flags::INCREMENTAL);
    let (spare, mut checkpoints) = (memory.twin(), Vec::new());
    let mut image = Image::new(spare, config());
    let mut check = |checkpoints: &mut Vec<_>, what| {
        let checkpoint = take();
        feed(&mut image, &checkpoint);
        checkpoints.push(checkpoint);
        assert!(spare.pages() == memory.pages(), "the spare differs: {what}");
        assert_eq!(in_use(spare), spare.pages().len(), "frames are lost: {what}");
    };
    let [going, staying] = [1, 2].map(|id| Class::create(ClassId(id), 3 * PAGE_LEN).unwrap());
    let (gone, mut kept) = (fill(going, 100), fill(staying, 200));
    check(&mut checkpoints, "the first");
    gone.into_iter().for_each(|page| going.free(page, PAGE));
    going.destroy().unwrap();
    check(&mut checkpoints, "a class is destroyed");
    // One block in thirty stays: areas are cut in several places.
    for (index, page) in core::mem::take(&mut kept).into_iter().enumerate() {
        if index % 30 == 0 {
            memory.write(page, &[index as u8; PAGE_LEN]);
            kept.push(page);
        } else {
            staying.free(page, PAGE);
        }
    }
    assert!(staying.trim().unwrap() > 100 * PAGE_LEN);
    assert!(staying.statistics().areas > 4, "{:?}", staying.statistics());
    check(&mut checkpoints, "a class is trimmed");
    // Others take the addresses: the same areas, other contents.
    let third = Class::create(ClassId(3), 64 * PAGE_LEN).unwrap();
    let pages = fill(third, 90);
    pages.iter().for_each(|page| memory.write(*page, &[3; PAGE_LEN]));
    check(&mut checkpoints, "addresses are used again");
    pages.into_iter().for_each(|page| third.free(page, PAGE));
    third.destroy().unwrap();
    let fourth = Class::create(ClassId(4), 64 * PAGE_LEN).unwrap();
    check(&mut checkpoints, "the same area again, empty");

    // And a restore of it all goes on.
    let expected = memory.pages();
    memory.reset();
    let mut image = Image::new(memory, config());
    checkpoints
        .iter()
        .for_each(|checkpoint| feed(&mut image, checkpoint));
    restore(image).unwrap();
    assert!(memory.pages() == expected);
    assert_eq!([1, 3].map(|id| Class::find(ClassId(id))), [None, None]);
    assert_eq!(Class::find(ClassId(4)), Some(fourth));
    for (index, page) in kept.into_iter().enumerate() {
        assert_eq!(memory.read(page, PAGE_LEN), [index as u8 * 30; PAGE_LEN]);
        staying.free(page, PAGE);
    }
    assert_eq!(staying.trim().map(|bytes| bytes > 0), Ok(true));
    staying.destroy().unwrap();
    fourth.destroy().unwrap();
}

#[test]
fn checkpoints_in_flight_keep_what_is_destroyed_under_them() {
    let session = Session::start(1024);
    let memory = session.memory();
    let (checkpointer, held) = choosing(memory, NCON, Choice::Incremental);
    checkpointer.spare_joined();
    let class = Class::create(ClassId(1), 0).unwrap();
    let pages = fill(class, 50);
    pages.iter().for_each(|page| memory.write(*page, &[9; PAGE_LEN]));
    // The child of this one has everything to send yet, as far as the memory knows.
    let taken = checkpointer.checkpoint(Flags::ASYNC, || ()).unwrap();
    let truth = memory.pages();
    pages.iter().for_each(|page| class.free(*page, PAGE));
    class.destroy().unwrap();
    Class::create(ClassId(2), 0).unwrap();
    let spare = memory.twin();
    let mut image = Image::new(spare, config());
    let bytes = super::pair::written(&held, taken);
    feed(&mut image, &(taken, bytes));
    // What was freed was written to by the allocator after the freezing.
    assert!(spare.pages() == truth, "a view was lost with its class");
    super::pair::keep(&checkpointer, &held, taken);
    let next = send(&checkpointer, &held, Flags::INCREMENTAL);
    feed(&mut image, &next);
    assert!(spare.pages() == memory.pages());
}

#[derive(Debug, PartialEq)]
struct Game {
    moves: Vec<u32>,
}

#[test]
fn a_typed_root_is_found_after_a_restore_and_only_as_what_it_is() {
    const GAME: Root<Game> = Root::new(RootId::APPLICATION);
    const OTHER: Root<Game> = Root::new(RootId::new(9).unwrap());
    let session = Session::start(256);
    let memory = session.memory();
    assert_eq!(GAME.take(), Err(RootError::Empty(RootId::APPLICATION)));
    let (checkpointer, held) = choosing(memory, NCON, Choice::Incremental);
    checkpointer.spare_joined();
    let class = Class::create(ClassId(1), 0).unwrap();
    let new = |moves| Box::leak(Box::new(Game { moves }));
    let outside = GAME.keep(new(vec![1]));
    assert!(
        matches!(outside, Err(RootError::NotInClass { .. })),
        "{outside:?}"
    );
    GAME.keep(with_class(class, || new(vec![1, 2]))).unwrap();
    let game = GAME.take().unwrap();
    assert_eq!(GAME.take(), Err(RootError::Taken(RootId::APPLICATION)));
    with_class(class, || game.moves.push(3));
    // Two roots of the same value could both be taken after a restore.
    assert_eq!(OTHER.keep(game), Err(RootError::Overlaps(RootId::APPLICATION)));
    let checkpoint = send(&checkpointer, &held, Flags::empty());
    memory.reset();
    let mut image = Image::new(memory, config());
    feed(&mut image, &checkpoint);
    restore(image).unwrap();
    let wrong: Root<[u32; 6]> = Root::new(RootId::APPLICATION);
    assert_eq!(wrong.take(), Err(RootError::WrongType(RootId::APPLICATION)));
    let game = GAME.take().unwrap();
    assert_eq!(game.moves, [1, 2, 3]);
    // Another takes its place, and it may go elsewhere.
    GAME.keep(with_class(class, || new(Vec::new()))).unwrap();
    OTHER.keep(game).unwrap();
    assert!(GAME.take().unwrap().moves.is_empty());
    // What a worker is called with is the worker's.
    let game = OTHER.take().unwrap();
    OTHER.keep(game).unwrap();
    let address = crate::roots::get(RootId::new(9).unwrap()).unwrap();
    crate::registry::thread::register(|_| (), address).unwrap();
    assert_eq!(OTHER.take(), Err(RootError::Worker(RootId::new(9).unwrap())));
    // A plain word is of no type.
    crate::roots::set(RootId::APPLICATION, address).unwrap();
    assert_eq!(GAME.take(), Err(RootError::WrongType(RootId::APPLICATION)));
}

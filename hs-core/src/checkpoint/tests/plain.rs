//! The library without a kernel's support: full checkpoints whatever is asked for, and the same restore.

use std::boxed::Box;
use std::sync::mpsc;
use std::vec::Vec;

use allocator_api2::vec::Vec as ClassVec;

use super::super::*;
use super::pair::{NCON, choosing, config, send};
use crate::class::{Class, ClassId};
use crate::host::{HostMemory, Session};
use crate::image::Image;
use crate::plain::PlainMemory;
use crate::platform::{
    CheckpointMemory, Cptctl, CptctlError, Frozen, MapError, Outcome, PAGE_LEN, PageRange,
};
use crate::restore::restore;
use crate::roots::{self, RootId};

fn plain(memory: &'static HostMemory, ncon: usize) -> &'static PlainMemory {
    Box::leak(Box::new(PlainMemory::new(memory, ncon)))
}

#[test]
fn every_checkpoint_is_full_and_restores_what_it_froze() {
    let session = Session::bare(256);
    let memory = plain(session.memory(), NCON);
    crate::start(memory).unwrap();
    let (checkpointer, held) = choosing(memory, NCON, Choice::Auto);
    checkpointer.spare_joined();
    let class = Class::create(ClassId(1), 0).unwrap();
    let mut values: ClassVec<u64, Class> = ClassVec::new_in(class);
    let mut sent = Vec::new();
    let mut addresses = Vec::new();
    for generation in 1..=6 {
        // It grows, and so its pages do.
        values.extend((0..1000).map(|value| value * generation));
        roots::set(RootId::APPLICATION, values.as_ptr().addr()).unwrap();
        sent.push(send(&checkpointer, &held, Flags::INCREMENTAL));
        addresses.push(values.len());
        let id = sent.last().unwrap().0;
        assert_eq!((id.generation, id.increment), (generation, 0));
    }
    assert_eq!(
        (checkpointer.status().full, checkpointer.status().incremental),
        (6, 0)
    );
    let expected = values.to_vec();
    let at = values.as_ptr().addr();
    core::mem::forget(values);

    session.memory().reset();
    let spare = plain(session.memory(), NCON);
    let mut image = Image::new(spare, config());
    for (id, bytes) in sent {
        image.begin(id).unwrap();
        image.feed(id, &bytes).unwrap();
    }
    assert_eq!(image.newest().map(|newest| newest.generation), Some(6));
    restore(image).unwrap();
    assert_eq!(roots::get(RootId::APPLICATION), Some(at));
    let bytes = session.memory().read(at, expected.len() * size_of::<u64>());
    let found = bytes
        .chunks(8)
        .map(|word| u64::from_ne_bytes(word.try_into().unwrap()));
    assert!(found.eq(expected));
    // And goes on as a master.
    let (checkpointer, held) = choosing(spare, NCON, Choice::Auto);
    checkpointer.spare_joined();
    send(&checkpointer, &held, Flags::INCREMENTAL);
}

#[test]
fn the_programs_variables_are_checkpointed_too() {
    let session = Session::bare(256);
    let host = session.memory();
    host.set_statics(2, &[7; PAGE_LEN]);
    let range = host.statics().unwrap().range;
    let memory = plain(host, NCON);
    crate::start(memory).unwrap();
    assert_eq!(host.read(range.start(), 2), [7, 7], "as at the program's start");
    host.write(range.start(), &[8]);
    let (checkpointer, held) = choosing(memory, NCON, Choice::Auto);
    checkpointer.spare_joined();
    let (id, bytes) = send(&checkpointer, &held, Flags::INCREMENTAL);
    host.reset();
    let mut image = Image::new(plain(host, NCON), config());
    image.begin(id).unwrap();
    image.feed(id, &bytes).unwrap();
    restore(image).unwrap();
    assert_eq!(host.read(range.start(), 2), [8, 7]);
}

/// Two ranges, the second right behind the first, and one further on, filled with their pages' numbers.
fn three(memory: &PlainMemory, host: &HostMemory) -> [PageRange; 3] {
    let start = memory.window().start();
    let ranges =
        [(0, 2), (2, 3), (8, 1)].map(|(page, pages)| PageRange::new(start + page * PAGE_LEN, pages).unwrap());
    for range in ranges {
        memory.map(range).unwrap();
        for address in range.iter_pages() {
            host.write(address, &[((address - start) / PAGE_LEN) as u8]);
        }
    }
    memory.cptctl(Cptctl::Install(&ranges)).unwrap();
    ranges
}

#[test]
fn a_child_sees_the_moment_and_gives_back_what_it_has_taken() {
    let session = Session::bare(16);
    let (host, memory) = (session.memory(), plain(session.memory(), 2));
    let ranges = three(memory, host);
    let start = memory.window().start();
    let before = host.frames();
    let (go, goes) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    let body = move |frozen: &dyn Frozen| {
        goes.recv().unwrap();
        let mut dirty = [PageRange::new(0, 1).unwrap(); 4];
        let count = frozen.dirty(&mut dirty);
        let mut page = [0; PAGE_LEN];
        let first = frozen.copy_page(start, &mut page).map(|()| page[0]);
        let taken = frozen
            .take_page(start + 3 * PAGE_LEN, &mut page)
            .map(|()| page[0]);
        let gone = frozen.copy_page(start + 3 * PAGE_LEN, &mut page);
        let never = frozen.copy_page(start + 6 * PAGE_LEN, &mut page);
        tell.send((
            dirty[..count].to_vec(),
            host.frames(),
            [first, taken],
            [gone, never],
        ))
        .unwrap();
        Outcome::Lost
    };
    memory
        .cptfork_then(
            View::Incremental,
            Box::new(body),
            Box::new(move |outcome| end.send(outcome).unwrap()),
        )
        .unwrap();
    assert_eq!(host.frames(), before - 6);
    for address in ranges.iter().flat_map(|range| range.iter_pages()) {
        host.write(address, &[99]);
    }
    go.send(()).unwrap();
    let (dirty, frames, seen, refused) = told.recv().unwrap();
    assert_eq!(dirty, [PageRange::new(start, 5).unwrap(), ranges[2]]);
    assert_eq!(frames, before - 5);
    assert_eq!(seen, [Ok(0), Ok(3)]);
    assert_eq!(
        refused,
        [3, 6].map(|page| Err(FrozenError::OutsideView(start + page * PAGE_LEN)))
    );
    assert_eq!(ended.recv().unwrap(), Outcome::Lost);
    assert_eq!(host.frames(), before);
}

#[test]
fn too_many_children_and_too_little_memory_are_said_and_change_nothing() {
    let session = Session::bare(16);
    let (host, memory) = (session.memory(), plain(session.memory(), 1));
    three(memory, host);
    let before = host.frames();
    host.set_frames(5);
    let fork = |body: crate::platform::ChildBody, ended| memory.cptfork_then(View::Whole, body, ended);
    let idle = || Box::new(|_: &dyn Frozen| Outcome::Kept);
    assert_eq!(fork(idle(), Box::new(|_| ())), Err(CptforkError::OutOfFrames));
    assert_eq!(host.frames(), 5);
    host.set_frames(before);
    let (go, goes) = mpsc::channel::<()>();
    let (end, ended) = mpsc::channel();
    let waits = move |_: &dyn Frozen| {
        goes.recv().unwrap();
        Outcome::Kept
    };
    fork(Box::new(waits), Box::new(move |_| end.send(()).unwrap())).unwrap();
    assert_eq!(fork(idle(), Box::new(|_| ())), Err(CptforkError::TooManyChildren));
    go.send(()).unwrap();
    ended.recv().unwrap();
    // Who is told may have the next at once.
    fork(idle(), Box::new(|_| ())).unwrap();
}

#[test]
fn what_is_not_mapped_is_not_installed_and_what_is_installed_stays_mapped() {
    let session = Session::bare(16);
    let (host, memory) = (session.memory(), plain(session.memory(), 1));
    let [first, second, _] = three(memory, host);
    let beyond = PageRange::new(second.start(), 4).unwrap();
    assert_eq!(
        memory.cptctl(Cptctl::Install(&[beyond])),
        Err(CptctlError::NotMapped(beyond))
    );
    assert_eq!(
        memory.cptctl(Cptctl::Install(&[second])),
        Err(CptctlError::Overlaps(second))
    );
    assert_eq!(memory.unmap(first), Err(MapError::Installed(first)));
    assert_eq!(memory.map(first), Err(MapError::Conflict(first)));
    memory.cptctl(Cptctl::Purge(&[first])).unwrap();
    memory.unmap(first).unwrap();
    assert_eq!(
        memory.cptctl(Cptctl::Install(&[first])),
        Err(CptctlError::NotMapped(first))
    );
}

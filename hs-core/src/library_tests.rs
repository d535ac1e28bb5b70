//! Registries and roots, and what is not taken up.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use crate::class::{Class, ClassId};
use crate::host::{HostMemory, Session};
use crate::library::{
    AdoptError, CLASSES_MAX, DESCRIPTORS_MAX, HOOKS_MAX, HookEntry, LibraryArea, ROOTS_MAX, SIGNALS_MAX,
    StartError, THREADS_MAX, adopt,
};
use crate::platform::{CheckpointMemory, Cptctl, MapError, PAGE_LEN, PageRange};
use crate::registry::descriptor::{self, Descriptor, DescriptorKind};
use crate::registry::hook;
use crate::registry::signal::{self, SignalMask, SignalNumber};
use crate::registry::thread::{ThreadError, deregister, register, workers};
use crate::roots::{self, RootId};

fn first(_: usize) {}

fn second(argument: usize) {
    assert_ne!(argument, 0);
}

#[test]
fn workers_are_listed_in_the_order_of_their_registration() {
    let _session = Session::start(64);
    register(first, 1).unwrap();
    register(second, 2).unwrap();
    register(first, 3).unwrap();
    register(first, 1).unwrap();
    let arguments = || {
        workers()
            .into_iter()
            .map(|worker| worker.argument())
            .collect::<Vec<_>>()
    };
    assert_eq!(arguments(), [1, 2, 3, 1]);
    assert_eq!(deregister(second, 3), Err(ThreadError::NotRegistered));
    deregister(first, 1).unwrap();
    assert_eq!(arguments(), [2, 3, 1]);
    deregister(first, 1).unwrap();
    assert_eq!(deregister(first, 1), Err(ThreadError::NotRegistered));
    assert_eq!(arguments(), [2, 3]);
    for argument in 2..THREADS_MAX {
        register(second, argument).unwrap();
    }
    assert_eq!(register(second, 5), Err(ThreadError::TooMany));
}

#[test]
fn roots_keep_what_they_are_set_to() {
    let _session = Session::start(64);
    let ids: Vec<RootId> = (0..=u8::MAX).map_while(RootId::new).collect();
    assert_eq!(ids.len(), ROOTS_MAX);
    assert!(ids.iter().all(|id| roots::get(*id).is_none()));
    for (value, id) in ids.iter().enumerate().step_by(2) {
        roots::set(*id, value).unwrap();
    }
    for (value, id) in ids.iter().enumerate() {
        assert_eq!(roots::get(*id), (value % 2 == 0).then_some(value));
    }
}

/// Overwrites `bytes` at `offset` of the library area, sees what `adopt` says, and takes that back.
fn adopt_with(memory: &'static HostMemory, offset: usize, bytes: &[u8]) -> Result<(), AdoptError> {
    let address = memory.window().start() + offset;
    let before = memory.read(address, bytes.len());
    memory.write(address, bytes);
    let result = adopt(memory);
    memory.write(address, &before);
    result
}

#[test]
fn only_a_sound_state_is_taken_up() {
    const CLASSES: usize = 56 + ROOTS_MAX * 24;
    const AREAS: usize = CLASSES + CLASSES_MAX * 16;
    let session = Session::start(64);
    let memory = session.memory();
    let class = Class::create(ClassId(5), 0).unwrap();
    register(first, 1).unwrap();
    hook::at_freeze(|_| Ok(()), 0).unwrap();
    for name in [SignalNumber::Int, SignalNumber::Term] {
        crate::signal::action(name, |_| (), SignalMask::empty());
        signal::register(name).unwrap();
    }
    for number in 1..3 {
        let local = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80);
        let kind = DescriptorKind::TcpListener { local, backlog: 1 };
        descriptor::register(Descriptor { number, kind }).unwrap();
    }
    assert_eq!(adopt(memory), Ok(()));
    let start = memory.window().start();
    let library_pages = size_of::<LibraryArea>().div_ceil(PAGE_LEN);
    let header = library_pages * PAGE_LEN;

    assert_eq!(adopt_with(memory, 0, b"H0t"), Err(AdoptError::BadMagic));
    assert_eq!(
        adopt_with(memory, 8, &[9]),
        Err(AdoptError::WrongLayout { found: 9 })
    );
    assert_eq!(adopt_with(memory, 16, &[9]), Err(AdoptError::WrongWindow));
    for (offset, bytes) in [
        // Classes ever made; counts of areas, threads, signals, descriptors.
        (24, &[0][..]),
        (28, &[255; 2]),
        (32, &[255]),
        (40, &[255]),
        (44, &[255]),
        (48, &[255]),
        // The class's id and serial number, its header's address; the area's start, length and class.
        (CLASSES, &[6]),
        (CLASSES + 4, &[0]),
        (CLASSES + 4, &[2]),
        (CLASSES + 9, &[0x11]),
        (CLASSES + 16, &[5, 0, 0, 0, 1, 0, 0, 0]),
        (AREAS + 1, &[0x01]),
        (AREAS + 8, &[0]),
        (AREAS + 12, &[3]),
    ] {
        let result = adopt_with(memory, offset, bytes);
        assert!(
            matches!(result, Err(AdoptError::Damaged(_))),
            "{offset}: {result:?}"
        );
    }
    // The class's own header.
    assert!(matches!(
        adopt_with(memory, header, &[0]),
        Err(AdoptError::Damaged(_))
    ));
    assert!(matches!(
        adopt_with(memory, header + 8, &[6]),
        Err(AdoptError::Damaged(_))
    ));
    // The tables at the end: workers, signals, descriptors.
    let descriptors = size_of::<LibraryArea>() - DESCRIPTORS_MAX * descriptor::RECORD_LEN;
    let signals = descriptors - SIGNALS_MAX * 16;
    let threads = signals - THREADS_MAX * 16;
    let result = adopt_with(memory, threads, &[0; 8]);
    assert_eq!(result, Err(AdoptError::NotCode { worker: 0 }));
    let result = adopt_with(memory, signals + 8, &[8, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(result, Err(AdoptError::HandlerNotCode { handler: 8 }));
    let hooks = threads - HOOKS_MAX * size_of::<HookEntry>();
    let result = adopt_with(memory, hooks + 8, &[0; 8]);
    assert_eq!(result, Err(AdoptError::HookNotCode { hook: 0 }));
    // A hook of no moment; a signal that is none; one that is there twice; a flag and a mask of none; a kind of descriptor that
    // is none; the same number.
    for (offset, bytes) in [
        (hooks, &[5][..]),
        (signals, &[9]),
        (signals, &[SignalNumber::Term as u8]),
        (signals + 2, &[4]),
        (signals + 4, &[1]),
        (descriptors + 4, &[9]),
        (descriptors, &[2]),
    ] {
        let result = adopt_with(memory, offset, bytes);
        assert!(
            matches!(result, Err(AdoptError::Damaged(_))),
            "{offset}: {result:?}"
        );
    }

    let area = PageRange::new(start + header, 1).unwrap();
    memory.cptctl(Cptctl::Purge(&[area])).unwrap();
    assert_eq!(adopt(memory), Err(AdoptError::AreasDiffer(area)));
    memory.cptctl(Cptctl::Install(&[area])).unwrap();
    let more = PageRange::new(start + 60 * PAGE_LEN, 2).unwrap();
    memory.map(more).unwrap();
    memory.cptctl(Cptctl::Install(&[more])).unwrap();
    assert_eq!(adopt(memory), Err(AdoptError::AreasDiffer(more)));
    memory.cptctl(Cptctl::Purge(&[more])).unwrap();
    assert_eq!(adopt(memory), Ok(()));
    assert_eq!(Class::find(ClassId(5)), Some(class));

    let other = HostMemory::new(64);
    assert_eq!(adopt(other), Err(AdoptError::NotMapped));
}

#[test]
fn the_programs_variables_are_there_from_the_start_and_adopted_with_the_rest() {
    let session = Session::bare(64);
    let memory = session.memory();
    memory.set_statics(2, &[7; PAGE_LEN + 3]);
    let range = memory.statics().expect("just set").range;

    let frames = memory.frames();
    memory.set_frames(size_of::<LibraryArea>().div_ceil(PAGE_LEN));
    assert_eq!(crate::start(memory), Err(StartError::Map(MapError::OutOfFrames)));
    assert!(memory.pages().is_empty(), "a refused start leaves nothing");
    memory.set_frames(frames);

    crate::start(memory).unwrap();
    let bytes = memory.read(range.start(), range.len_bytes());
    let (initial, rest) = bytes.split_at(PAGE_LEN + 3);
    assert!(initial.iter().all(|byte| *byte == 7) && rest.iter().all(|byte| *byte == 0));
    Class::create(ClassId(5), 0).unwrap();
    memory.write(range.start(), &[8]);
    assert_eq!(adopt(memory), Ok(()));
    assert_eq!(memory.read(range.start(), 1), [8], "adopted as they are");

    memory.cptctl(Cptctl::Purge(&[range])).unwrap();
    assert_eq!(adopt(memory), Err(AdoptError::AreasDiffer(range)));
}

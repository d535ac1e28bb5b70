//! What is registered, from a master to the spare that takes over.

use core::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Mutex;
use std::vec::Vec;

use super::super::*;
use super::pair::{NCON, choosing, config, send};
use crate::host::{HostMemory, Session};
use crate::image::Image;
use crate::library::{DESCRIPTORS_MAX, LibraryArea, SIGNALS_MAX, THREADS_MAX};
use crate::registry::descriptor::{self, Descriptor, DescriptorKind, FileMode, FilePath, UdpFlags};
use crate::registry::signal::{self, SignalMask, SignalNumber};
use crate::registry::thread;
use crate::restore::{RestoreError, restore};

static RAISED: Mutex<Vec<SignalNumber>> = Mutex::new(Vec::new());

fn note(signal: SignalNumber) {
    RAISED.lock().unwrap().push(signal);
}

fn register_signal(number: SignalNumber, mask: SignalMask) {
    crate::signal::action(number, note, mask);
    signal::register(number).unwrap();
}

fn file(offset: u64) -> Descriptor {
    Descriptor {
        number: 3,
        kind: DescriptorKind::File {
            path: FilePath::new("DATA/KEYS.DB").unwrap(),
            mode: FileMode::READ | FileMode::WRITE,
            offset,
        },
    }
}

fn socket(number: u32) -> Descriptor {
    Descriptor {
        number,
        kind: DescriptorKind::Udp {
            local: SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 10), 53),
            peer: Some(SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 1), 5353)),
            flags: UdpFlags::GETNAME | UdpFlags::GETPEER,
        },
    }
}

/// An image in the same memory, as a spare's after these checkpoints.
pub(super) fn image_of(memory: &'static HostMemory, checkpoints: Vec<(CheckpointId, Vec<u8>)>) -> Image {
    memory.reset();
    let mut image = Image::new(memory, config());
    for (id, bytes) in checkpoints {
        image.begin(id).unwrap();
        image.feed(id, &bytes).unwrap();
    }
    image
}

#[test]
fn it_comes_back_as_it_was_at_the_newest_checkpoint() {
    let session = Session::start(64);
    let memory = session.memory();
    let (checkpointer, held) = choosing(memory, NCON, Choice::Incremental);
    checkpointer.spare_joined();
    descriptor::register(file(0)).unwrap();
    descriptor::register(socket(4)).unwrap();
    register_signal(SignalNumber::Int, SignalMask::TERM);
    let first = send(&checkpointer, &held, Flags::INCREMENTAL);
    descriptor::update(file(8192)).unwrap();
    descriptor::deregister(4).unwrap();
    descriptor::register(socket(9)).unwrap();
    register_signal(SignalNumber::Usr2, SignalMask::empty());
    let second = send(&checkpointer, &held, Flags::INCREMENTAL);
    // Never sent.
    descriptor::deregister(3).unwrap();
    signal::deregister(SignalNumber::Int).unwrap();

    let restored = restore(image_of(memory, [first, second].into())).unwrap();
    assert_eq!(restored.descriptors, [file(8192), socket(9)]);
    assert_eq!(restored.descriptors, descriptor::descriptors());
    assert_eq!(restored.signals, signal::actions());
    assert_eq!(restored.signals[0].mask(), SignalMask::TERM);
    for action in restored.signals {
        action.run().unwrap();
    }
    assert_eq!(*RAISED.lock().unwrap(), [SignalNumber::Int, SignalNumber::Usr2]);
    // The registries go on.
    assert_eq!(
        descriptor::register(file(1)),
        Err(descriptor::DescriptorError::Registered(3))
    );
    descriptor::deregister(9).unwrap();
}

#[test]
fn a_checkpoint_whose_lists_are_not_its_memorys_is_not_taken_up() {
    fn worker(_: usize) {}
    let session = Session::start(64);
    let memory = session.memory();
    let descriptors = size_of::<LibraryArea>() - DESCRIPTORS_MAX * size_of::<descriptor::Record>();
    let signals = descriptors - SIGNALS_MAX * 16;
    let threads = signals - THREADS_MAX * 16;
    for (offset, byte, error) in [
        (threads + 8, 42, RestoreError::WorkersDiffer),
        (
            signals + 4,
            SignalMask::INT.bits() as u8,
            RestoreError::SignalsDiffer,
        ),
        (descriptors, 42, RestoreError::DescriptorsDiffer),
    ] {
        session.restart();
        let (checkpointer, held) = choosing(memory, NCON, Choice::Incremental);
        checkpointer.spare_joined();
        thread::register(worker, 1).unwrap();
        register_signal(SignalNumber::Alrm, SignalMask::empty());
        descriptor::register(file(0)).unwrap();
        let image = image_of(memory, [send(&checkpointer, &held, Flags::empty())].into());
        memory.write(memory.window().start() + offset, &[byte]);
        assert_eq!(restore(image), Err(error));
    }
}

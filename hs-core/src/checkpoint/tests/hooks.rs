//! Hooks in the course of a checkpoint, and the gate that it closes.

use std::format;
use std::string::ToString;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::vec::Vec;

use allocator_api2::vec::Vec as ClassVec;

use super::super::*;
use super::pair::{NCON, choosing, send};
use super::registered::image_of;
use crate::class::{Class, ClassId};
use crate::host::Session;
use crate::platform::{FrozenError, PAGE_LEN};
use crate::registry::hook::{self, FrozenView, HookError, Moment, Restored, Sight, Verdict};
use crate::registry::thread::{ThreadError, Work, register_state};
use crate::restore::restore;
use crate::roots::{Root, RootError, RootId};

static CALLS: Mutex<Vec<(&str, usize)>> = Mutex::new(Vec::new());

fn note(moment: &'static str, argument: usize) -> Verdict {
    CALLS.lock().unwrap().push((moment, argument));
    Ok(())
}

fn calls() -> Vec<(&'static str, usize)> {
    core::mem::take(&mut CALLS.lock().unwrap())
}

fn freezes(argument: usize) -> Verdict {
    note("freeze", argument)
}

fn looks(argument: usize, _: &FrozenView<'_>) -> Verdict {
    note("child", argument)
}

fn comes_back(argument: usize) -> Verdict {
    note("restore", argument)
}

#[test]
fn each_is_called_at_its_moment_in_order_and_comes_back() {
    let session = Session::start(64);
    let memory = session.memory();
    calls();
    let (checkpointer, held) = choosing(memory, NCON, Choice::Incremental);
    checkpointer.spare_joined();
    let first = hook::at_freeze(freezes, 1).unwrap();
    hook::at_restore(comes_back, 2).unwrap();
    hook::in_child(Sight::Checkpoint, looks, 3).unwrap();
    hook::at_freeze(freezes, 4).unwrap();
    let one = send(&checkpointer, &held, Flags::INCREMENTAL);
    assert_eq!(calls(), [("freeze", 1), ("freeze", 4), ("child", 3)]);
    hook::deregister(first).unwrap();
    assert_eq!(hook::deregister(first), Err(HookError::NotRegistered));
    hook::in_child(Sight::Whole, looks, 5).unwrap();
    let two = send(&checkpointer, &held, Flags::INCREMENTAL);
    assert_eq!(calls(), [("freeze", 4), ("child", 3), ("child", 5)]);
    let registered = hook::hooks();

    restore(image_of(memory, [one, two].into())).unwrap();
    assert_eq!(hook::hooks(), registered);
    hook::call_at_restore().unwrap();
    assert_eq!(calls(), [("restore", 2)]);
    for argument in registered.len()..crate::HOOKS_MAX {
        hook::at_freeze(freezes, argument).unwrap();
    }
    assert_eq!(hook::at_freeze(freezes, 0), Err(HookError::TooMany));
}

fn refuses(_: usize) -> Verdict {
    Err("the index is half built")
}

fn refuses_in_child(_: usize, _: &FrozenView<'_>) -> Verdict {
    Err("the sums do not agree")
}

#[test]
fn one_that_refuses_is_named_and_nothing_is_frozen_or_kept() {
    let session = Session::start(64);
    calls();
    let (checkpointer, held) = choosing(session.memory(), NCON, Choice::Incremental);
    checkpointer.spare_joined();
    let refusing = hook::at_freeze(refuses, 7).unwrap();
    hook::at_freeze(freezes, 8).unwrap();
    let error = checkpointer.checkpoint(Flags::ASYNC, || ()).unwrap_err();
    let function = refuses as fn(usize) -> Verdict as usize;
    assert_eq!(
        error.to_string(),
        format!("the freeze hook {function:#x} (with 0x7) refuses: the index is half built")
    );
    assert_eq!((calls(), checkpointer.status().taken), ([].into(), 0));
    hook::deregister(refusing).unwrap();

    let refusing = hook::in_child(Sight::Checkpoint, refuses_in_child, 9).unwrap();
    assert_eq!(refusing.moment(), Moment::Child(Sight::Checkpoint));
    match checkpointer.checkpoint(Flags::INCREMENTAL, || ()) {
        Err(CheckpointError::Lost(_, Loss::Hook(refusal))) => assert_eq!(refusal.hook, refusing),
        other => panic!("{other:?}"),
    }
    hook::deregister(refusing).unwrap();
    hook::at_restore(refuses, 0).unwrap();
    assert_eq!(
        hook::call_at_restore().unwrap_err().why,
        "the index is half built"
    );
    // The gate is open again, and the next one holds everything.
    send(&checkpointer, &held, Flags::INCREMENTAL);
}

/// What the hook below found: the number at its address, or why not.
static FOUND: Mutex<Vec<Result<u64, FrozenError>>> = Mutex::new(Vec::new());

fn reads(address: usize, view: &FrozenView<'_>) -> Verdict {
    let found = [address, address + PAGE_LEN].map(|address| view.read(address));
    FOUND.lock().unwrap().extend(found);
    Ok(())
}

#[test]
fn one_in_the_child_sees_what_was_frozen_and_all_of_it_if_it_has_to() {
    let session = Session::start(64);
    let (checkpointer, held) = choosing(session.memory(), NCON, Choice::Copy);
    checkpointer.spare_joined();
    let class = Class::create(ClassId(1), 8 * PAGE_LEN).unwrap();
    let mut words: ClassVec<u64, Class> = ClassVec::new_in(class);
    words.resize(4 * PAGE_LEN / 8, 5);
    let index = PAGE_LEN / 8;
    let at = words.as_ptr().addr() + PAGE_LEN;
    send(&checkpointer, &held, Flags::INCREMENTAL);
    let outside = Err(FrozenError::OutsideView((at + PAGE_LEN) / PAGE_LEN * PAGE_LEN));
    for (sight, second) in [(Sight::Checkpoint, outside), (Sight::Whole, Ok(5))] {
        let hook = hook::in_child(sight, reads, at).unwrap();
        words[index] += 1;
        let status = checkpointer.status();
        send(&checkpointer, &held, Flags::INCREMENTAL);
        assert_eq!(
            core::mem::take(&mut *FOUND.lock().unwrap()),
            [Ok(words[index]), second]
        );
        // Either sends what was modified and no more.
        assert_eq!(checkpointer.status().incremental, status.incremental + 1);
        assert!(checkpointer.status().bytes - status.bytes < 8 * PAGE_LEN as u64);
        hook::deregister(hook).unwrap();
    }
}

#[test]
fn bytes_over_the_edge_of_pages_are_one_value() {
    let session = Session::start(64);
    let (checkpointer, held) = choosing(session.memory(), NCON, Choice::Full);
    checkpointer.spare_joined();
    let class = Class::create(ClassId(1), 8 * PAGE_LEN).unwrap();
    let mut bytes: ClassVec<u8, Class> = ClassVec::new_in(class);
    bytes.extend((0..3 * PAGE_LEN).map(|index| index as u8));
    static AT: AtomicUsize = AtomicUsize::new(0);
    fn compares(address: usize, view: &FrozenView<'_>) -> Verdict {
        let mut copied = [0; 2 * PAGE_LEN];
        view.copy(address, &mut copied).map_err(|_| "not in the view")?;
        let same = (0..copied.len()).all(|index| copied[index] == (index + AT.load(Ordering::Relaxed)) as u8);
        let wide: u64 = view.read(address).map_err(|_| "not in the view")?;
        (same && wide.to_ne_bytes() == copied[..8])
            .then_some(())
            .ok_or("other bytes")
    }
    for offset in [0, 1, 1000, PAGE_LEN - 3] {
        AT.store(offset, Ordering::Relaxed);
        let hook = hook::in_child(Sight::Checkpoint, compares, bytes.as_ptr().addr() + offset).unwrap();
        send(&checkpointer, &held, Flags::empty());
        hook::deregister(hook).unwrap();
    }
}

/// State that is looked at after a restore.
struct Sum(u64);

impl Restored for Sum {
    fn restored(&self) -> Verdict {
        (self.0 == 42).then_some(()).ok_or("the sum is another")
    }
}

#[test]
fn a_state_is_its_own_hook_after_a_restore() {
    use allocator_api2::boxed::Box as ClassBox;
    let session = Session::start(64);
    let memory = session.memory();
    let (checkpointer, held) = choosing(memory, NCON, Choice::Incremental);
    checkpointer.spare_joined();
    let class = Class::create(ClassId(1), 1000).unwrap();
    // On the heap it would be gone.
    let lost = hook::at_restore_of(Box::leak(Box::new(Sum(41))));
    assert!(matches!(lost, Err(HookError::NotKept { .. })), "{lost:?}");
    const SUM: Root<Sum> = Root::new(RootId::APPLICATION);
    SUM.keep(ClassBox::leak(ClassBox::new_in(Sum(42), class)))
        .unwrap();
    let sum: &'static Sum = SUM.take().unwrap();
    let hook = hook::at_restore_of(sum).unwrap();
    let sent = send(&checkpointer, &held, Flags::INCREMENTAL);
    restore(image_of(memory, [sent].into())).unwrap();
    hook::call_at_restore().unwrap();
    // It is shared with the hook.
    assert_eq!(SUM.take().map(drop), Err(RootError::Hook(RootId::APPLICATION)));
    hook::deregister(hook).unwrap();
    assert_eq!(SUM.take().map(|sum| sum.0), Ok(42));
}

struct Idle;

impl Work for Idle {
    fn work(&'static mut self) {}
}

struct Counting(u64);

impl Work for Counting {
    fn work(&'static mut self) {
        self.0 += 1;
    }
}

#[test]
fn a_worker_whose_state_would_be_lost_is_refused() {
    use allocator_api2::boxed::Box as ClassBox;
    let _session = Session::start(64);
    let lost = register_state(Box::leak(Box::new(Counting(1))));
    assert!(matches!(lost, Err(ThreadError::NotKept { .. })), "{lost:?}");
    let class = Class::create(ClassId(1), 1000).unwrap();
    register_state(ClassBox::leak(ClassBox::new_in(Counting(1), class))).unwrap();
    // There is nothing to lose.
    register_state(Box::leak(Box::new(Idle))).unwrap();
}

#[test]
fn a_checkpoint_waits_for_those_inside_and_is_refused_to_them() {
    let session = Session::start(64);
    let (checkpointer, _held) = choosing(session.memory(), NCON, Choice::Incremental);
    checkpointer.spare_joined();
    let inside = gate().enter();
    assert_eq!(
        checkpointer.checkpoint(Flags::ASYNC, || ()),
        Err(CheckpointError::InsideGate)
    );
    let taken = thread::scope(|scope| {
        let taker = scope.spawn(|| checkpointer.checkpoint(Flags::ASYNC, || ()));
        while !gate().is_closed() {
            thread::yield_now();
        }
        assert_eq!(checkpointer.status().taken, 0);
        drop(inside);
        taker.join().unwrap()
    });
    taken.unwrap();
    // The wait is no part of the pause.
    let status = checkpointer.status();
    assert_eq!(status.taken, 1);
    assert!(status.gate_max_us >= status.gate_p99_us && status.gate_max_us > 0);
    assert!(!gate().is_closed());
    fn nests(_: usize) -> Verdict {
        drop(gate().enter());
        gate().close().map(drop).map_err(|_| "closed by this thread")
    }
    hook::at_freeze(nests, 0).unwrap();
    match checkpointer.checkpoint(Flags::ASYNC, || ()) {
        Err(CheckpointError::Hook(refusal)) => assert_eq!(refusal.why, "closed by this thread"),
        other => panic!("{other:?}"),
    }
}

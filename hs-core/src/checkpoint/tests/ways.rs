//! Which way a checkpoint goes: what the policy is told, what comes of what it says, and short memory.

use std::boxed::Box;
use std::sync::Mutex;
use std::vec::Vec;

use allocator_api2::vec::Vec as ClassVec;

use super::super::*;
use super::pair::{NCON, choosing, send};
use crate::class::{Class, ClassId};
use crate::host::{HostMemory, Session};
use crate::platform::{
    ChildBody, Cptctl, CptctlError, EndedHook, MapError, Outcome, PAGE_LEN, PageRange, StagedPage,
};

/// A memory that says which views it was asked for, and has no frames for some.
struct Short {
    memory: &'static HostMemory,
    refused: Mutex<Vec<View>>,
    asked: Mutex<Vec<View>>,
}

impl Short {
    fn new(memory: &'static HostMemory) -> &'static Self {
        Box::leak(Box::new(Self {
            memory,
            refused: Mutex::default(),
            asked: Mutex::default(),
        }))
    }

    fn refuse(&self, views: &[View]) {
        *self.refused.lock().unwrap() = views.to_vec();
    }

    /// The views that were asked for since the last time.
    fn asked(&self) -> Vec<View> {
        core::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl CheckpointMemory for Short {
    fn window(&self) -> PageRange {
        self.memory.window()
    }

    fn map(&self, range: PageRange) -> Result<(), MapError> {
        self.memory.map(range)
    }

    fn unmap(&self, range: PageRange) -> Result<(), MapError> {
        self.memory.unmap(range)
    }

    fn cptctl(&self, request: Cptctl<'_>) -> Result<usize, CptctlError> {
        self.memory.cptctl(request)
    }

    fn cptfork_then(&self, view: View, child: ChildBody, ended: EndedHook) -> Result<(), CptforkError> {
        self.asked.lock().unwrap().push(view);
        if self.refused.lock().unwrap().contains(&view) {
            return Err(CptforkError::OutOfFrames);
        }
        self.memory.cptfork_then(view, child, ended)
    }

    fn stage(&self) -> Option<StagedPage> {
        self.memory.stage()
    }

    fn place(&self, address: usize, page: StagedPage) -> Result<(), MapError> {
        self.memory.place(address, page)
    }

    fn patch(&self, address: usize, change: &mut dyn FnMut(&mut [u8; PAGE_LEN])) -> Result<(), MapError> {
        self.memory.patch(address, change)
    }

    fn unstage(&self, bytes: &'static mut [u8; PAGE_LEN]) {
        self.memory.unstage(bytes);
    }
}

/// Nearly all of the memory is one value in a class.
const VALUE_PAGES: usize = 1024;

fn value() -> ClassVec<u8, Class> {
    let class = Class::create(ClassId(1), (VALUE_PAGES + 1) * PAGE_LEN).unwrap();
    let mut value = ClassVec::new_in(class);
    value.resize(VALUE_PAGES * PAGE_LEN, 0);
    value
}

fn write(value: &mut [u8], pages: usize) {
    for page in 0..pages {
        value[page * PAGE_LEN] = value[page * PAGE_LEN].wrapping_add(1);
    }
}

#[test]
fn the_way_follows_what_was_modified() {
    let session = Session::start(2048);
    let memory = Short::new(session.memory());
    let (checkpointer, held) = choosing(memory, NCON, Choice::Auto);
    checkpointer.spare_joined();
    let mut value = value();
    let mut round = |pages: usize| {
        write(&mut value, pages);
        send(&checkpointer, &held, Flags::INCREMENTAL);
        memory.asked()
    };
    // The first is full because it must be, and the second knows nothing: that all was modified before the first counts
    // for nothing.
    assert_eq!(round(VALUE_PAGES), [View::Whole]);
    assert_eq!(round(3), [View::Incremental]);
    for _ in 0..3 {
        assert_eq!(round(3), [View::Copied]);
    }
    // Too much once: the next four are frozen.
    assert_eq!(round(100), [View::Copied]);
    for _ in 0..4 {
        assert_eq!(round(3), [View::Incremental]);
    }
    assert_eq!(round(3), [View::Copied]);
    // All of it, until nothing else is remembered.
    assert_eq!(round(VALUE_PAGES), [View::Copied]);
    for _ in 0..7 {
        assert_eq!(round(VALUE_PAGES), [View::Incremental]);
    }
    assert_eq!(round(VALUE_PAGES), [View::Whole]);
    assert_eq!(round(3), [View::Whole]);
    assert_eq!(round(3), [View::Incremental]);

    let status = checkpointer.status();
    assert_eq!((status.full, status.incremental, status.copied), (3, 19, 6));
}

#[test]
fn a_chosen_full_one_begins_a_generation() {
    let session = Session::start(2048);
    let (checkpointer, held) = choosing(session.memory(), NCON, Choice::Full);
    checkpointer.spare_joined();
    let mut value = value();
    for generation in 1..4 {
        write(&mut value, 1);
        let (id, _) = send(&checkpointer, &held, Flags::INCREMENTAL);
        assert_eq!(
            id,
            CheckpointId {
                generation,
                increment: 0
            }
        );
    }
}

#[test]
fn whoever_asks_for_everything_gets_it() {
    let session = Session::start(2048);
    for choice in [Choice::Auto, Choice::Copy, Choice::Incremental] {
        session.restart();
        let memory = Short::new(session.memory());
        let (checkpointer, held) = choosing(memory, NCON, choice);
        checkpointer.spare_joined();
        for _ in 0..3 {
            send(&checkpointer, &held, Flags::empty());
        }
        assert_eq!(memory.asked(), [View::Whole; 3]);
    }
}

#[test]
fn short_memory_changes_the_way_unless_it_is_forced() {
    let session = Session::start(2048);
    let lost = Err(CheckpointError::Cptfork(CptforkError::OutOfFrames));
    for (choice, expected) in [
        (Choice::Auto, [View::Copied, View::Incremental].as_slice()),
        (Choice::Copy, &[View::Copied]),
        (Choice::Full, &[View::Whole]),
    ] {
        session.restart();
        let memory = Short::new(session.memory());
        let (checkpointer, held) = choosing(memory, NCON, choice);
        checkpointer.spare_joined();
        for _ in 0..2 {
            send(&checkpointer, &held, Flags::INCREMENTAL);
        }
        memory.asked();
        memory.refuse(&[View::Copied, View::Whole]);
        if choice == Choice::Auto {
            send(&checkpointer, &held, Flags::INCREMENTAL);
        } else {
            let flags = Flags::INCREMENTAL | Flags::ASYNC;
            assert_eq!(checkpointer.checkpoint(flags, || ()), lost);
        }
        assert_eq!(memory.asked(), expected);
        // Whoever asks for everything is content with nothing less.
        assert_eq!(checkpointer.checkpoint(Flags::ASYNC, || ()), lost);
        assert_eq!(memory.asked(), [View::Whole]);
        // Nothing was begun that did not come to pass.
        memory.refuse(&[]);
        send(&checkpointer, &held, Flags::INCREMENTAL);
        let status = checkpointer.status();
        assert_eq!(status.taken, status.acked);
        assert_eq!(checkpointer.free_slots(), NCON);
    }
}

#[test]
fn a_page_is_taken_once() {
    let session = Session::bare(8);
    let memory = session.memory();
    let range = PageRange::new(memory.window().start(), 2).unwrap();
    memory.map(range).unwrap();
    memory.cptctl(Cptctl::Install(&[range])).unwrap();
    for view in [View::Whole, View::Incremental, View::Copied] {
        memory.write(range.start(), &[view as u8 + 1]);
        let (told, result) = std::sync::mpsc::channel();
        let body = move |frozen: &dyn crate::platform::Frozen| {
            let mut page = [0; PAGE_LEN];
            let copied = frozen.copy_page(range.start(), &mut page).map(|()| page[0]);
            let taken = frozen.take_page(range.start(), &mut page).map(|()| page[0]);
            let again = [
                frozen.take_page(range.start(), &mut page),
                frozen.copy_page(range.start(), &mut page),
            ];
            told.send((copied, taken, again)).unwrap();
            Outcome::Kept
        };
        memory.cptfork(view, Box::new(body)).unwrap();
        let (copied, taken, again) = result.recv().unwrap();
        assert_eq!((copied, taken), (Ok(view as u8 + 1), Ok(view as u8 + 1)));
        assert_eq!(again, [Err(FrozenError::OutsideView(range.start())); 2]);
    }
}

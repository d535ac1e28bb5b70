//! `cptfork` in bad cases, and what it costs.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use hs_core::platform::{
    CheckpointMemory, Cptctl, CptforkError, Frozen, FrozenError, Machine, Outcome, PAGE_LEN, PageRange, View,
};
use hs_core::sync::Mutex;
use kernel::cpt::{Mode, Other};
use kernel::mem::frames;

use crate::memory::window_pages;
use crate::{Context, Verdict, check};

/// A word that one side sets and the other waits for.
#[derive(Clone)]
pub(crate) struct Flag(Arc<AtomicU32>);

impl Flag {
    pub(crate) fn new() -> Self {
        Flag(Arc::new(AtomicU32::new(0)))
    }

    pub(crate) fn set(&self, machine: &dyn Machine) {
        self.0.store(1, Ordering::SeqCst);
        machine.wake(&self.0, usize::MAX);
    }

    /// Waits, at most ten seconds; whether it was set.
    pub(crate) fn wait(&self, machine: &dyn Machine) -> bool {
        let end = machine.now() + Duration::from_secs(10);
        while self.0.load(Ordering::SeqCst) == 0 {
            if machine.now() >= end {
                return false;
            }
            machine.wait(&self.0, 0, Some(end));
        }
        true
    }
}

/// Maps and installs `range`.
fn install(context: &Context, range: PageRange) -> Result<(), String> {
    context
        .guest
        .map(range)
        .map_err(|error| format!("map: {error}"))?;
    context
        .guest
        .cptctl(Cptctl::Install(&[range]))
        .map(drop)
        .map_err(|error| format!("install: {error}"))
}

/// Purges and unmaps `range`.
fn remove(context: &Context, range: PageRange) -> Result<(), String> {
    context
        .guest
        .cptctl(Cptctl::Purge(&[range]))
        .map_err(|error| format!("purge: {error}"))?;
    context
        .guest
        .unmap(range)
        .map_err(|error| format!("unmap: {error}"))
}

fn write(address: usize, value: u8) {
    // SAFETY: the tests pass addresses of pages that they have mapped; volatile, because writing may fault.
    unsafe { core::ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(value) };
}

fn read(address: usize) -> u8 {
    // SAFETY: as in `write`.
    unsafe { core::ptr::with_exposed_provenance::<u8>(address).read_volatile() }
}

/// A cptfork whose child waits for `go`, then does `look`; the flag returned is set when it is gone.
pub(crate) fn fork(
    context: &Context,
    view: View,
    go: &Flag,
    look: impl FnOnce(&dyn Frozen) -> Outcome + Send + 'static,
) -> Result<Flag, CptforkError> {
    fork_with(context, view, Other::Share, go, look)
}

/// As [`fork`], with the memory beside the ranges as `other` has it.
pub(crate) fn fork_with(
    context: &Context,
    view: View,
    other: Other,
    go: &Flag,
    look: impl FnOnce(&dyn Frozen) -> Outcome + Send + 'static,
) -> Result<Flag, CptforkError> {
    let guest = context.guest;
    let (gone, go) = (Flag::new(), go.clone());
    let told_gone = gone.clone();
    kernel::cpt::cptfork(
        view,
        other,
        Box::new(move |frozen| {
            if go.wait(guest) {
                frozen.enter();
                look(frozen)
            } else {
                Outcome::Lost
            }
        }),
        Box::new(move |_| told_gone.set(guest)),
    )?;
    Ok(gone)
}

/// Frames run dry while children hold frozen pages: the writes succeed, a child is cancelled, its pages are dirty again,
/// nothing leaks.
pub(crate) fn out_of_frames(context: &Context) -> Verdict {
    for mode in Mode::ALL {
        kernel::cpt::set_mode(mode).map_err(|error| format!("{error}"))?;
        out_of_frames_as(context).map_err(|error| format!("{mode}: {error}"))?;
    }
    kernel::cpt::set_mode(Mode::default()).map_err(|error| format!("{error}"))?;
    Ok("".into())
}

fn out_of_frames_as(context: &Context) -> Result<(), String> {
    const PAGES: usize = 64;
    let range = window_pages(0, PAGES);
    install(context, range)?;
    for page in range.iter_pages() {
        write(page, 1);
    }
    let before = frames::available();
    // Leave enough to begin with, not enough for a copy of every page.
    let mut hoard = Vec::new();
    while frames::available() > PAGES / 2 {
        hoard.extend(frames::allocate());
    }
    let go = Flag::new();
    let found: Arc<Mutex<Option<Result<(), FrozenError>>>> = Arc::new(Mutex::new(None));
    let result = Arc::clone(&found);
    let first = range.start();
    let gone = fork(context, View::Whole, &go, move |frozen| {
        let mut page = Box::new([0; PAGE_LEN]);
        *result.lock() = Some(frozen.copy_page(first, &mut page));
        Outcome::Lost
    })
    .map_err(|error| format!("cptfork: {error}"))?;
    check!(
        fork(context, View::Whole, &go, |_| Outcome::Kept).map(drop) == Err(CptforkError::OutOfFrames),
        "a second checkpoint found frames although none are left"
    );
    let cancelled_before = kernel::cpt::counters().cancelled;
    for page in range.iter_pages() {
        write(page, 2);
    }
    let cancelled = kernel::cpt::counters().cancelled - cancelled_before;
    for frame in hoard {
        frames::release(frame);
    }
    check!(range.iter_pages().all(|page| read(page) == 2), "a write was lost");
    check!(
        cancelled == 1,
        "{cancelled} checkpoints were cancelled instead of 1"
    );
    go.set(context.guest);
    check!(
        gone.wait(context.guest),
        "the cancelled child did not come to its end"
    );
    let found = found.lock().take();
    check!(
        found == Some(Err(FrozenError::Cancelled)),
        "the cancelled child found {found:?}"
    );
    // All pages are dirty: written, and of a lost checkpoint.
    let count = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&count);
    let go = Flag::new();
    go.set(context.guest);
    let gone = fork(context, View::Incremental, &go, move |frozen| {
        let mut buffer = [range; 4];
        let ranges = frozen.dirty(&mut buffer);
        seen.store(
            if ranges == 1 { buffer[0].pages() as u32 } else { 0 },
            Ordering::SeqCst,
        );
        Outcome::Kept
    })
    .map_err(|error| format!("cptfork: {error}"))?;
    check!(gone.wait(context.guest), "the last child did not come to its end");
    check!(
        count.load(Ordering::SeqCst) as usize == PAGES,
        "the dirty bits of a cancelled checkpoint were lost"
    );
    remove(context, range)?;
    let after = frames::available();
    check!(after >= before, "{} frames are missing", before - after);
    Ok(())
}

/// More children than the pool has are refused by name, and harm nobody.
pub(crate) fn too_many_children(context: &Context) -> Verdict {
    let range = window_pages(0, 4);
    install(context, range)?;
    let go = Flag::new();
    let mut gone = Vec::new();
    let refused = loop {
        match fork(context, View::Whole, &go, |_| Outcome::Kept) {
            Ok(flag) => gone.push(flag),
            Err(error) => break error,
        }
        check!(gone.len() <= kernel::cpt::CHILDREN_MAX, "the pool has no end");
    };
    check!(
        refused == CptforkError::TooManyChildren,
        "the surplus child was refused with {refused}"
    );
    go.set(context.guest);
    for flag in &gone {
        check!(flag.wait(context.guest), "a child did not come to its end");
    }
    remove(context, range)?;
    Ok(format!("{} children at once", gone.len()))
}

/// A child that touches what it may not is stopped and reported; its pages are dirty again, and its place serves the next.
pub(crate) fn stray_child(context: &Context) -> Verdict {
    let range = window_pages(0, 4);
    install(context, range)?;
    let go = Flag::new();
    go.set(context.guest);
    // Clean, so that the second child's view is empty.
    let gone =
        fork(context, View::Whole, &go, |_| Outcome::Kept).map_err(|error| format!("cptfork: {error}"))?;
    check!(
        gone.wait(context.guest),
        "the first child did not come to its end"
    );
    for how in 0..2 {
        write(range.start(), how);
        let reached = Arc::new(AtomicU32::new(0));
        let after = Arc::clone(&reached);
        let stray = range.start() + if how == 0 { PAGE_LEN } else { 0 };
        let gone = fork(context, View::Incremental, &go, move |_| {
            if how == 0 {
                // A page outside of the view.
                core::hint::black_box(read(stray));
            } else {
                // A write, even to a page of the view.
                write(stray, 9);
            }
            after.store(1, Ordering::SeqCst);
            Outcome::Kept
        })
        .map_err(|error| format!("cptfork: {error}"))?;
        check!(
            gone.wait(context.guest),
            "the stray child did not come to its end"
        );
        check!(reached.load(Ordering::SeqCst) == 0, "the stray child went on");
        check!(
            read(range.start()) == how,
            "the stray child changed the parent's memory"
        );
    }
    let dirty = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&dirty);
    let gone = fork(context, View::Incremental, &go, move |frozen| {
        seen.store(frozen.dirty(&mut []) as u32, Ordering::SeqCst);
        Outcome::Kept
    })
    .map_err(|error| format!("cptfork: {error}"))?;
    check!(gone.wait(context.guest), "the last child did not come to its end");
    check!(
        dirty.load(Ordering::SeqCst) == 1,
        "the stray child's pages are not dirty again"
    );
    remove(context, range)?;
    Ok("".into())
}

/// A range that a live child still holds is purged and unmapped: the child keeps its view.
pub(crate) fn purge_under_child(context: &Context) -> Verdict {
    let range = window_pages(0, 8);
    install(context, range)?;
    for (index, page) in range.iter_pages().enumerate() {
        write(page, index as u8 + 1);
    }
    let go = Flag::new();
    let found: Arc<Mutex<Option<Result<(), String>>>> = Arc::new(Mutex::new(None));
    let result = Arc::clone(&found);
    let gone = fork(context, View::Whole, &go, move |frozen| {
        let mut page = Box::new([0; PAGE_LEN]);
        let looked = range.iter_pages().enumerate().try_for_each(|(index, address)| {
            frozen
                .copy_page(address, &mut page)
                .map_err(|error| format!("{error}"))?;
            if page[0] == index as u8 + 1 {
                Ok(())
            } else {
                Err(format!("page {index} has changed"))
            }
        });
        *result.lock() = Some(looked);
        Outcome::Kept
    })
    .map_err(|error| format!("cptfork: {error}"))?;
    remove(context, range)?;
    install(context, range)?;
    check!(
        range.iter_pages().all(|page| read(page) == 0),
        "pages mapped anew are not zeroed"
    );
    go.set(context.guest);
    check!(gone.wait(context.guest), "the child did not come to its end");
    let found = found.lock().take();
    remove(context, range)?;
    found.unwrap_or_else(|| Err("the child was stopped".into()))?;
    Ok("".into())
}

/// Memory that was mapped and is no more costs nothing: the notes of its spans are not walked over.
pub(crate) fn unmapped_is_forgotten(context: &Context) -> Verdict {
    let pages = frames::available() / 2;
    let range = window_pages(1 << 20, pages);
    let known = kernel::cpt::known_spans();
    install(context, range)?;
    check!(
        kernel::cpt::known_spans() >= known + pages / 512,
        "{pages} pages are noted in {} spans",
        kernel::cpt::known_spans() - known
    );
    let go = Flag::new();
    let gone = fork(context, View::Whole, &go, |_| Outcome::Kept);
    let gone = gone.map_err(|error| format!("cptfork: {error}"))?;
    remove(context, range)?;
    check!(
        kernel::cpt::known_spans() > known,
        "a child's view was forgotten with the memory"
    );
    go.set(context.guest);
    check!(gone.wait(context.guest), "the child did not come to its end");
    check!(
        kernel::cpt::known_spans() == known,
        "{} spans are still known",
        kernel::cpt::known_spans() - known
    );
    Ok(format!("{} spans came and went", pages / 512))
}

/// What cptfork costs, for the record: no bound is checked here, the benchmark measures with more care.
pub(crate) fn cost(context: &Context) -> Verdict {
    let mut figures = String::new();
    for mode in Mode::ALL {
        kernel::cpt::set_mode(mode).map_err(|error| format!("{error}"))?;
        figures += &format!("{mode}: {}", cost_as(context)?);
    }
    kernel::cpt::set_mode(Mode::default()).map_err(|error| format!("{error}"))?;
    Ok(figures)
}

fn cost_as(context: &Context) -> Verdict {
    let mut figures = String::new();
    let go = Flag::new();
    go.set(context.guest);
    for mib in [1_usize, 4, 16] {
        let range = window_pages(0, (mib << 20) / PAGE_LEN);
        install(context, range)?;
        let mut pauses = Vec::new();
        let mut writes = Vec::new();
        for round in 0..9_u8 {
            for page in range.iter_pages().step_by(10) {
                write(page, round);
            }
            let hold = Flag::new();
            let start = kernel::time::stopwatch_ns();
            let gone = fork(context, View::Incremental, &hold, |_| Outcome::Kept)
                .map_err(|error| format!("cptfork: {error}"))?;
            pauses.push(kernel::time::stopwatch_ns() - start);
            let start = kernel::time::stopwatch_ns();
            for page in range.iter_pages().step_by(10) {
                write(page, round);
            }
            let elapsed_ns = kernel::time::stopwatch_ns() - start;
            writes.push(elapsed_ns / range.iter_pages().step_by(10).len() as u64);
            hold.set(context.guest);
            check!(gone.wait(context.guest), "the child did not come to its end");
        }
        pauses.sort_unstable();
        writes.sort_unstable();
        figures += &format!(
            "{mib} MiB: pause {:.1} us, {} ns a copied page; ",
            pauses[4] as f64 / 1000.0,
            writes[4]
        );
        remove(context, range)?;
    }
    Ok(figures)
}

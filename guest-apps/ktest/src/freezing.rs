//! What freezing costs and what it leaves alone, shown by the fault counters; and the memory beside the ranges.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use hs_core::platform::{CheckpointMemory, Cptctl, FrozenError, Outcome, PAGE_LEN, View};
use hs_core::sync::Mutex;
use kernel::cpt::region::Region;
use kernel::cpt::{Counters, Mode, ModeError, Other, counters, set_mode};
use kernel::mem::frames;

use crate::checkpoints::{Flag, fork, fork_with};
use crate::memory::window_pages;
use crate::{Context, Verdict, check};

/// Pages of two spans and a little.
const PAGES: usize = 1100;

pub(crate) fn installed(first: usize, pages: usize) -> Result<Region, String> {
    let mut region = Region::map(window_pages(first, pages)).map_err(|error| format!("map: {error}"))?;
    region.install().map_err(|error| format!("install: {error}"))?;
    Ok(region)
}

/// What is counted while `work` runs.
pub(crate) fn counted(work: impl FnOnce() -> Result<(), String>) -> Result<Counters, String> {
    let before = counters();
    work()?;
    Ok(counters().since(before))
}

/// A checkpoint of whatever is dirty, taken and ended, so that all is clean.
pub(crate) fn clean(context: &Context) -> Result<(), String> {
    let go = Flag::new();
    go.set(context.guest);
    let gone = fork(context, View::Incremental, &go, |frozen| {
        frozen.dirty(&mut []);
        Outcome::Kept
    })
    .map_err(|error| format!("cptfork: {error}"))?;
    check!(gone.wait(context.guest), "a child did not come to its end");
    Ok(())
}

/// In a touched span, clean pages cost one fault for the span and no copy; dirty ones a fault and a copy each, until the child
/// has taken them: then none.
pub(crate) fn faults_are_counted(context: &Context) -> Verdict {
    let mut region = installed(0, PAGES)?;
    clean(context)?;
    let dirty: Vec<usize> = (0..PAGES).step_by(10).collect();
    let write = |region: &mut Region, page: usize| region.write(page, page as u8);

    dirty.iter().for_each(|page| write(&mut region, *page));
    let (go, taken, end) = (Flag::new(), Flag::new(), Flag::new());
    let (told, ending, first) = (taken.clone(), end.clone(), region.range());
    let guest = context.guest;
    let gone = fork(context, View::Incremental, &go, move |frozen| {
        let mut page = Box::new([0; PAGE_LEN]);
        let all = first
            .iter_pages()
            .step_by(10)
            .try_for_each(|address| frozen.take_page(address, &mut page));
        told.set(guest);
        // The child stays: what it has taken is free all the same.
        if ending.wait(guest) && all.is_ok() {
            Outcome::Kept
        } else {
            Outcome::Lost
        }
    })
    .map_err(|error| format!("cptfork: {error}"))?;

    let clean_writes = counted(|| {
        (0..PAGES)
            .filter(|page| page % 10 != 0)
            .for_each(|page| write(&mut region, page));
        Ok(())
    })?;
    check!(
        clean_writes.copies + clean_writes.hot_copies + clean_writes.write_faults == 0,
        "clean pages cost faults or copies: {clean_writes:?}"
    );
    check!(
        clean_writes.span_faults == 3,
        "three spans cost {} faults",
        clean_writes.span_faults
    );

    let frozen_writes = counted(|| {
        dirty.iter().take(20).for_each(|page| write(&mut region, *page));
        Ok(())
    })?;
    check!(
        frozen_writes.copies == 20,
        "20 frozen pages cost {} copies",
        frozen_writes.copies
    );

    go.set(guest);
    check!(taken.wait(guest), "the child did not take its pages");
    let after_taking = counted(|| {
        dirty.iter().for_each(|page| write(&mut region, *page));
        Ok(())
    })?;
    end.set(guest);
    check!(gone.wait(guest), "the child did not come to its end");
    check!(
        after_taking.copies + after_taking.write_faults + after_taking.span_faults == 0,
        "pages that were sent cost faults or copies: {after_taking:?}"
    );
    Ok(format!(
        "{} stale faults",
        clean_writes.stale_faults + after_taking.stale_faults
    ))
}

/// Pages that are written and copied in one epoch are copied ahead in the next, at most 8 at each fault of the parent; a
/// page that is not modified any more is not.
pub(crate) fn hot_pages(context: &Context) -> Verdict {
    const HOT: usize = 20;
    let mut region = installed(0, 512)?;
    clean(context)?;
    let mut epoch = |pages: usize| -> Result<Counters, String> {
        let hold = Flag::new();
        let gone = fork(context, View::Incremental, &hold, |_| Outcome::Kept)
            .map_err(|error| format!("cptfork: {error}"))?;
        let counted = counted(|| {
            (0..pages).for_each(|page| region.write(page, 1));
            Ok(())
        })?;
        hold.set(context.guest);
        check!(gone.wait(context.guest), "a child did not come to its end");
        Ok(counted)
    };
    epoch(HOT)?; // nothing is dirty yet
    let first = epoch(HOT)?;
    check!(
        (first.copies, first.hot_copies) == (20, 0),
        "the first time: {first:?}"
    );
    let second = epoch(HOT)?;
    // 7 while the span is settled; the eighth faults and brings 7 more, and so does the sixteenth with the last 4. One page in
    // 32 is put to the test, and may fault on its own.
    check!(
        second.copies + second.hot_copies == 20
            && (2..=4).contains(&second.copies)
            && second.write_faults == second.copies,
        "the second time: {second:?}"
    );
    let third = epoch(0)?;
    let fourth = epoch(HOT)?;
    check!(
        third.hot_copies + fourth.hot_copies == 0,
        "clean pages are copied ahead: {third:?}, {fourth:?}"
    );
    Ok("".into())
}

/// However hot the pages around it, one write copies at most 8: those of the span's settling and those after its own.
pub(crate) fn copies_of_one_write(context: &Context) -> Verdict {
    const HOT: usize = 40;
    let mut region = installed(0, 512)?;
    let mut most = 0;
    for round in 0..6 {
        let hold = Flag::new();
        let gone = fork(context, View::Incremental, &hold, |_| Outcome::Kept)
            .map_err(|error| format!("cptfork: {error}"))?;
        // In the middle: settling copies others.
        let one = counted(|| {
            region.write(HOT / 2, 1);
            Ok(())
        })?;
        check!(
            one.parent_faults == 1,
            "one write cost {} faults",
            one.parent_faults
        );
        most = most.max(one.copies + one.hot_copies);
        (0..HOT).for_each(|page| region.write(page, round));
        hold.set(context.guest);
        check!(gone.wait(context.guest), "a child did not come to its end");
    }
    check!((2..=8).contains(&most), "one write copied up to {most} pages");
    Ok(format!("at most {most} copies"))
}

/// A copying cptfork copies 64 pages and freezes the others; what it copies nothing of costs it no table.
pub(crate) fn copied_in_part(context: &Context) -> Verdict {
    const SPANS: usize = 100;
    let mut regions = Vec::new();
    for span in 0..SPANS {
        regions.push(installed(512 * span, 1)?);
    }
    clean(context)?;
    regions.iter_mut().for_each(|region| region.write(0, 1));
    let (hold, before) = (Flag::new(), frames::available());
    let addresses: Vec<usize> = regions.iter().map(|region| region.range().start()).collect();
    let found = Arc::new(Mutex::new(None));
    let told = Arc::clone(&found);
    let mut gone = None;
    let forked = counted(|| {
        let child = fork(context, View::Copied, &hold, move |frozen| {
            let mut page = Box::new([0; PAGE_LEN]);
            let wrong = addresses
                .iter()
                .find(|address| frozen.copy_page(**address, &mut page).is_err() || page[0] != 1);
            *told.lock() = Some(wrong.copied());
            Outcome::Kept
        });
        gone = Some(child.map_err(|error| format!("cptfork: {error}"))?);
        Ok(())
    })?;
    let used = before - frames::available();
    check!(
        forked.hot_copies == 64,
        "{} pages were copied in the pause",
        forked.hot_copies
    );
    // A copy and a table for each of 64 spans, upper tables, and what stays set aside.
    check!(used <= 64 * 2 + 400, "{used} frames are gone");
    let written = counted(|| {
        regions.iter_mut().for_each(|region| region.write(0, 2));
        Ok(())
    })?;
    check!(
        written.copies == SPANS as u64 - 64,
        "{} of the other pages were frozen",
        written.copies
    );
    hold.set(context.guest);
    check!(
        gone.is_some_and(|gone| gone.wait(context.guest)),
        "the child did not come to its end"
    );
    let found = found.lock().take();
    check!(found == Some(None), "the child found another page: {found:?}");
    Ok(format!("{used} frames set aside or used"))
}

/// A page put in place of one that a child holds: the child keeps what it was.
pub(crate) fn place_under_child(context: &Context) -> Verdict {
    for mode in Mode::ALL {
        set_mode(mode).map_err(|error| format!("{error}"))?;
        place_as(context).map_err(|error| format!("{mode}: {error}"))?;
    }
    set_mode(Mode::default()).map_err(|error| format!("{error}"))?;
    Ok("".into())
}

fn place_as(context: &Context) -> Result<(), String> {
    let mut region = installed(0, 4)?;
    let address = region.range().start();
    region.write(0, 1);
    let (go, found) = (Flag::new(), Arc::new(Mutex::new(None)));
    let told = Arc::clone(&found);
    let gone = fork(context, View::Whole, &go, move |frozen| {
        let mut page = Box::new([0; PAGE_LEN]);
        *told.lock() = Some(frozen.copy_page(address, &mut page).map(|()| page[0]));
        Outcome::Kept
    })
    .map_err(|error| format!("cptfork: {error}"))?;
    let mut staged = context.guest.stage().ok_or("no frame to stage a page in")?;
    staged.fill(7);
    context
        .guest
        .place(address, staged)
        .map_err(|error| format!("place: {error}"))?;
    check!(region.read(0) == 7, "the page is not in place");
    go.set(context.guest);
    check!(gone.wait(context.guest), "the child did not come to its end");
    let found = found.lock().take();
    check!(found == Some(Ok(1)), "the child found {found:?}");
    // It counts as clean; written to, as dirty.
    for (write, ranges) in [(false, 0), (true, 1)] {
        if write {
            region.write(0, 8);
        }
        let count = Arc::new(Mutex::new(None));
        let told = Arc::clone(&count);
        let gone = fork(context, View::Incremental, &go, move |frozen| {
            *told.lock() = Some(frozen.dirty(&mut []));
            Outcome::Kept
        })
        .map_err(|error| format!("cptfork: {error}"))?;
        check!(gone.wait(context.guest), "the child did not come to its end");
        let count = count.lock().take();
        check!(
            count == Some(ranges),
            "{count:?} dirty ranges instead of {ranges}"
        );
    }
    Ok(())
}

/// A span that nobody touches stays unsettled over several checkpoints: what was dirty in it is the oldest's alone.
pub(crate) fn untouched_for_epochs(context: &Context) -> Verdict {
    let mut region = installed(0, 8)?;
    clean(context)?;
    region.write(3, 1);
    let hold = Flag::new();
    let counts: Arc<Mutex<Vec<(usize, usize)>>> = Arc::new(Mutex::new(Vec::new()));
    let mut gone = Vec::new();
    for number in 0..4_usize {
        let told = Arc::clone(&counts);
        let child = fork(context, View::Incremental, &hold, move |frozen| {
            told.lock().push((number, frozen.dirty(&mut [])));
            // The oldest is lost: its page is dirty again, for whoever comes next.
            if number == 0 { Outcome::Lost } else { Outcome::Kept }
        });
        gone.push(child.map_err(|error| format!("cptfork: {error}"))?);
    }
    hold.set(context.guest);
    for child in &gone {
        check!(child.wait(context.guest), "a child did not come to its end");
    }
    let mut found = core::mem::take(&mut *counts.lock());
    found.sort_unstable();
    check!(
        found == [(0, 1), (1, 0), (2, 0), (3, 0)],
        "dirty ranges by child: {found:?}"
    );
    let seen = Arc::clone(&counts);
    let child = fork(context, View::Incremental, &hold, move |frozen| {
        seen.lock().push((9, frozen.dirty(&mut [])));
        Outcome::Kept
    });
    check!(
        child
            .map_err(|error| format!("cptfork: {error}"))?
            .wait(context.guest),
        "the last child did not come to its end"
    );
    check!(*counts.lock() == [(9, 1)], "the lost page is not dirty again");
    Ok("".into())
}

/// Memory in no range: the child sees what it becomes (`Share`), what it was (`Cow`), or nothing (`Drop`).
pub(crate) fn other_memory(context: &Context) -> Verdict {
    for mode in Mode::ALL {
        set_mode(mode).map_err(|error| format!("{error}"))?;
        for other in [Other::Share, Other::Drop, Other::Cow] {
            other_memory_as(context, other).map_err(|error| format!("{mode}, {other:?}: {error}"))?;
        }
    }
    set_mode(Mode::default()).map_err(|error| format!("{error}"))?;
    Ok("".into())
}

fn other_memory_as(context: &Context, other: Other) -> Result<(), String> {
    let mut kept = installed(0, 4)?;
    let mut beside = Region::map(window_pages(8, 4)).map_err(|error| format!("map: {error}"))?;
    kept.write(0, 1);
    beside.write(0, 1);
    let (go, looked) = (Flag::new(), Arc::new(Mutex::new(None)));
    let (told, address) = (Arc::clone(&looked), beside.range().start());
    let gone = fork_with(context, View::Incremental, other, &go, move |frozen| {
        let mut page = Box::new([0; PAGE_LEN]);
        let copied = frozen.copy_page(address, &mut page).map(|()| page[0]);
        *told.lock() = Some(copied);
        if other != Other::Drop {
            // SAFETY: mapped as long as the region is, which outlives this child.
            let seen = unsafe { core::ptr::with_exposed_provenance::<u8>(address).read_volatile() };
            *told.lock() = Some(Ok(seen));
        }
        Outcome::Kept
    })
    .map_err(|error| format!("cptfork: {error}"))?;
    beside.write(0, 2);
    go.set(context.guest);
    check!(gone.wait(context.guest), "the child did not come to its end");
    let found = looked.lock().take();
    let expected = match other {
        Other::Share => Ok(2),
        Other::Drop => Err(FrozenError::OutsideView(address)),
        Other::Cow => Ok(1),
    };
    check!(found == Some(expected), "the child found {found:?}");
    check!(
        beside.read(0) == 2 && kept.read(0) == 1,
        "the parent's memory changed"
    );
    Ok(())
}

/// A page whose range is purged while a child lives is not shared with that child: it would see what the page becomes.
pub(crate) fn purged_is_not_shared(context: &Context) -> Verdict {
    let region = installed(0, 2)?;
    clean(context)?;
    let (go, reached) = (Flag::new(), Arc::new(Mutex::new(false)));
    let (told, address) = (Arc::clone(&reached), region.range().start());
    let gone = fork(context, View::Incremental, &go, move |_| {
        // SAFETY: mapped as long as the region is, which outlives this child.
        core::hint::black_box(unsafe { core::ptr::with_exposed_provenance::<u8>(address).read_volatile() });
        *told.lock() = true;
        Outcome::Kept
    })
    .map_err(|error| format!("cptfork: {error}"))?;
    context
        .guest
        .cptctl(Cptctl::Purge(&[region.range()]))
        .map_err(|error| format!("purge: {error}"))?;
    go.set(context.guest);
    check!(gone.wait(context.guest), "the child did not come to its end");
    let read = *reached.lock();
    context
        .guest
        .cptctl(Cptctl::Install(&[region.range()]))
        .map_err(|error| format!("install: {error}"))?;
    check!(!read, "a child read a page that was purged after its cptfork");
    Ok("".into())
}

/// The way of freezing is not changed under ranges or children.
pub(crate) fn mode_refused(context: &Context) -> Verdict {
    let region = installed(0, 1)?;
    check!(
        set_mode(Mode::Eager) == Err(ModeError::Ranges),
        "the way of freezing changed under a range"
    );
    drop(region);
    let go = Flag::new();
    let gone = fork(context, View::Incremental, &go, |_| Outcome::Kept)
        .map_err(|error| format!("cptfork: {error}"))?;
    let refused = set_mode(Mode::Eager);
    go.set(context.guest);
    check!(gone.wait(context.guest), "the child did not come to its end");
    check!(
        refused == Err(ModeError::Children),
        "the way of freezing changed under a child"
    );
    Ok("".into())
}

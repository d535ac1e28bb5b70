//! Memory that runs dry, at moments other than the plainest one.

use alloc::format;
use alloc::vec::Vec;

use hs_core::platform::{CheckpointMemory, Frozen, MapError, Outcome, PageRange, View};
use kernel::mem::frames::{self, PhysFrame};

use crate::checkpoints::{Flag, fork};
use crate::freezing::{clean, counted, installed};
use crate::memory::window_pages;
use crate::{Context, Verdict, check};

/// All frames but a few, held until it is dropped.
struct Hoard(Vec<PhysFrame>);

impl Hoard {
    /// Leaves `left` frames to the others.
    fn all_but(left: usize) -> Hoard {
        // Beforehand, so that the list itself takes none.
        let mut hoard = Hoard(Vec::with_capacity(frames::available()));
        hoard.take_all_but(left);
        hoard
    }

    fn take_all_but(&mut self, left: usize) {
        while frames::available() > left {
            self.0.extend(frames::allocate());
        }
    }

    fn give_back(&mut self, count: usize) {
        (0..count).filter_map(|_| self.0.pop()).for_each(frames::release);
    }
}

impl Drop for Hoard {
    fn drop(&mut self) {
        self.give_back(self.0.len());
    }
}

fn look(frozen: &dyn Frozen) -> Outcome {
    frozen.dirty(&mut []);
    Outcome::Kept
}

/// Mapping a page in a new span, in a new GiB and in the first one, with too few frames for its tables: refused, and nothing
/// is left of it that would harm a checkpoint or the next to map there.
pub(crate) fn map_fails(context: &Context) -> Verdict {
    let mut near = installed(0, 1)?;
    let mut refusals = 0;
    for (place, first) in [512 * 9, 512 * 512 * 7 + 5].into_iter().enumerate() {
        for left in 1..5 {
            let range = window_pages(first + place, 1);
            let known = kernel::cpt::known_spans();
            let hoard = Hoard::all_but(left);
            let mapped = context.guest.map(range);
            drop(hoard);
            match mapped {
                Ok(()) => context
                    .guest
                    .unmap(range)
                    .map_err(|error| format!("unmap: {error}"))?,
                Err(MapError::OutOfFrames) => refusals += 1,
                Err(error) => return Err(format!("map: {error}")),
            }
            check!(
                kernel::cpt::known_spans() == known,
                "with {left} frames left, a span without pages is known"
            );
            near.write(0, 1);
            clean(context)?;
            let mut again = installed(first + place, 1)?;
            again.write(0, 9);
            check!(
                again.read(0) == 9,
                "what was mapped after a refusal does not hold"
            );
            clean(context)?;
        }
    }
    check!(refusals > 0, "no mapping was refused");
    Ok(format!("{refusals} refusals"))
}

/// Two children want every page, and one of them has frames set aside: it pays for both, nobody is cancelled as long as they
/// last.
pub(crate) fn others_reserve(context: &Context) -> Verdict {
    const PAGES: usize = 64;
    let mut region = installed(0, PAGES)?;
    (0..PAGES).for_each(|page| region.write(page, 1));
    let mut hoard = Hoard::all_but(60);
    let go = Flag::new();
    let older = fork(context, View::Whole, &go, look).map_err(|error| format!("cptfork: {error}"))?;
    hoard.give_back(40);
    let younger = fork(context, View::Whole, &go, look).map_err(|error| format!("cptfork: {error}"))?;
    hoard.take_all_but(0);
    // About 45 and 40 frames are set aside, 4 tables are made for each child: one copy for both, of every page.
    let writes = counted(|| {
        (0..PAGES).for_each(|page| region.write(page, 2));
        Ok(())
    })?;
    drop(hoard);
    go.set(context.guest);
    check!(
        older.wait(context.guest) && younger.wait(context.guest),
        "a child did not come to its end"
    );
    check!(
        writes.cancelled == 0,
        "{} children were cancelled although frames were set aside",
        writes.cancelled
    );
    check!(
        writes.copies == PAGES as u64,
        "{} pages were copied",
        writes.copies
    );
    Ok("".into())
}

/// A child that was cancelled is not cancelled again, nor given tables, by writes into spans that are settled later.
pub(crate) fn cancelled_once(context: &Context) -> Verdict {
    let mut near = installed(0, 64)?;
    let mut far = installed(512, 8)?;
    let mut write_all = |near_pages: PageRange| {
        (0..near_pages.pages()).for_each(|page| near.write(page, 1));
    };
    let pages = window_pages(0, 64);
    // The pages of both become hot.
    for _ in 0..3 {
        let hold = Flag::new();
        let gone =
            fork(context, View::Incremental, &hold, look).map_err(|error| format!("cptfork: {error}"))?;
        write_all(pages);
        (0..8).for_each(|page| far.write(page, 1));
        hold.set(context.guest);
        check!(gone.wait(context.guest), "a child did not come to its end");
    }
    let mut hoard = Hoard::all_but(32);
    let hold = Flag::new();
    let gone = fork(context, View::Incremental, &hold, look).map_err(|error| format!("cptfork: {error}"))?;
    hoard.take_all_but(0);
    let first = counted(|| {
        write_all(pages);
        Ok(())
    })?;
    // As if somebody else took what the cancelled one left.
    hoard.take_all_but(0);
    let second = counted(|| {
        far.write(0, 1);
        Ok(())
    })?;
    drop(hoard);
    hold.set(context.guest);
    check!(
        gone.wait(context.guest),
        "the cancelled child did not come to its end"
    );
    check!(
        first.cancelled == 1,
        "{} children were cancelled",
        first.cancelled
    );
    check!(
        second.cancelled == 0 && second.hot_copies == 0,
        "a cancelled child cost more: {second:?}"
    );
    Ok("".into())
}

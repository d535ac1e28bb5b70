//! Which routine scans a table and which copies a page: chosen at boot by trying them.

use alloc::boxed::Box;
use core::hint::black_box;

use kernel_core::copy::{self, Copy};
use kernel_core::fastest;
use kernel_core::scan::{self, Entries, Scan};

use super::STATE;
use crate::arch::{fpu, tsc};
use crate::mem::frames;

/// Chooses the fastest routines for this machine, be it emulated or real. Once, at boot.
pub fn choose_routines() {
    let scan = fastest_scan();
    let copy = fastest_copy();
    let mut state = STATE.lock();
    (state.scan, state.copy) = (scan, copy);
    drop(state);
    log::info!("checkpoints: tables are scanned by {scan:?}, pages copied by {copy:?}");
}

/// The routines in use.
pub fn routines() -> (Scan, Copy) {
    let state = STATE.lock();
    (state.scan, state.copy)
}

/// Ticks that `work` takes, with interrupts off.
fn ticks_of(work: impl FnOnce()) -> u64 {
    x86_64::instructions::interrupts::without_interrupts(|| {
        let begun = tsc::ticks();
        work();
        tsc::ticks() - begun
    })
}

fn fastest_scan() -> Scan {
    // A tenth is dirty, in runs of four.
    let entries: Box<Entries> = Box::new(core::array::from_fn(
        |page| if page % 40 < 4 { scan::DIRTY } else { 0 },
    ));
    let chosen = fastest(scan::candidates(fpu::enabled_states()), |candidate| {
        ticks_of(|| {
            black_box(candidate.dirty(black_box(&entries)));
        })
    });
    chosen.unwrap_or(Scan::SCALAR)
}

fn fastest_copy() -> Copy {
    let (Some(from), Some(to)) = (frames::allocate(), frames::allocate()) else {
        return Copy::Moves;
    };
    let chosen = fastest(Copy::ALL.into_iter(), |candidate| {
        // SAFETY: two different frames of our own.
        ticks_of(|| unsafe { copy::page(candidate, from.bytes(), to.bytes()) })
    });
    frames::release(from);
    frames::release(to);
    chosen.unwrap_or(Copy::Moves)
}

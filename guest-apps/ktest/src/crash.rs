//! Ways to die, for looking at the report.

use core::ptr::NonNull;

use allocator_api2::alloc::{Allocator, Layout};
use hs_core::class::{Class, ClassId};
use kernel::Guest;

/// Dies as `how` says; `None` if that is no way that we know. Wrong frees are found only with `hs.check-blocks=on`.
pub(crate) fn crash(guest: &'static Guest, how: &str) -> Option<()> {
    match how {
        "panic" => deliberate_panic(),
        "null" => {
            // SAFETY: not at all: this is the fault that we want.
            unsafe { core::ptr::without_provenance_mut::<u8>(16).write_volatile(1) };
            Some(())
        }
        "stack" => {
            core::hint::black_box(run_over(core::hint::black_box(1)));
            Some(())
        }
        // The library is not started.
        "variable" => {
            core::hint::black_box(crate::library::counter());
            Some(())
        }
        "undefined" => {
            // SAFETY: as for "null".
            unsafe { core::arch::asm!("ud2") };
            Some(())
        }
        "double-free" => wrong_free(guest, |class, block| {
            // SAFETY: not at all: this is the fault that we want, after a free that is right.
            unsafe {
                class.deallocate(block, BLOCK);
                class.deallocate(block, BLOCK);
            }
        }),
        "foreign-free" => wrong_free(guest, |class, _| {
            // SAFETY: not at all.
            unsafe { class.deallocate(NonNull::from(guest).cast(), BLOCK) }
        }),
        _ => None,
    }
}

const BLOCK: Layout = Layout::new::<[u64; 4]>();

fn wrong_free(guest: &'static Guest, free: impl FnOnce(Class, NonNull<u8>)) -> Option<()> {
    hs_core::start(guest).ok()?;
    let class = Class::create(ClassId(12), 0).ok()?;
    free(class, class.allocate(BLOCK).ok()?.cast());
    Some(())
}

#[inline(never)]
fn deliberate_panic() -> Option<()> {
    panic!("a deliberate panic, to look at its report")
}

#[inline(never)]
fn run_over(depth: u64) -> u64 {
    let room = core::hint::black_box([depth; 64]);
    if depth == u64::MAX {
        0
    } else {
        run_over(depth + 1) + room[(depth % 64) as usize]
    }
}

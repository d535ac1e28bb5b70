//! Ways to die, for looking at the report.

/// Dies as `how` says; `None` if that is no way that we know.
pub(crate) fn crash(how: &str) -> Option<()> {
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
        "undefined" => {
            // SAFETY: as for "null".
            unsafe { core::arch::asm!("ud2") };
            Some(())
        }
        _ => None,
    }
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

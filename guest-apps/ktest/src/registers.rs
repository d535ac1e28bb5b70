//! What a switch of threads keeps beside the general registers and SSE's: the x87 stack of a thread that is stopped in its
//! course, and the control words of any.

use alloc::boxed::Box;
use alloc::format;
use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use hs_core::platform::{Machine, Priority};
use kernel::thread;

use crate::{Context, Verdict, check};

const THREADS: u32 = 3;
const ROUNDS: u32 = 20;
/// Turns with a number on the x87 stack: milliseconds, so that slices end in their course.
const TURNS: u64 = 2_000_000;

/// As after reset: all exceptions masked, the nearest number.
const FCW: u16 = 0x37f;
const MXCSR: u32 = 0x1f80;

/// Keeps `number` on the x87 stack for a while, and returns what is there then.
fn kept(number: u64) -> u64 {
    let mut place = number;
    // SAFETY: leaves the stack as it was, and writes to `place` alone.
    unsafe {
        asm!(
            "fild qword ptr [{place}]",
            "2: dec {turns}",
            "jnz 2b",
            "fistp qword ptr [{place}]",
            place = in(reg) &raw mut place,
            turns = inout(reg) TURNS => _,
            out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
            options(nostack)
        );
    }
    place
}

fn set_control(fcw: u16, mxcsr: u32) {
    // SAFETY: the caller computes nothing until it has put them back.
    unsafe {
        asm!("fldcw [{}]", "ldmxcsr [{}]", in(reg) &raw const fcw, in(reg) &raw const mxcsr, options(nostack))
    };
}

fn control() -> (u16, u32) {
    let (mut fcw, mut mxcsr) = (0_u16, 0_u32);
    // SAFETY: writes to the two variables alone.
    unsafe {
        asm!("fnstcw [{}]", "stmxcsr [{}]", in(reg) &raw mut fcw, in(reg) &raw mut mxcsr, options(nostack))
    };
    (fcw, mxcsr)
}

/// Threads with numbers on the x87 stack and rounding modes of their own, stopped in their course and by themselves: each
/// finds what it left.
pub(crate) fn x87_and_control(context: &Context) -> Verdict {
    struct Shared {
        finished: AtomicU32,
        wrong: AtomicU32,
    }
    let shared: &'static Shared = Box::leak(Box::new(Shared {
        finished: AtomicU32::new(0),
        wrong: AtomicU32::new(0),
    }));
    let guest = context.guest;
    for index in 0..THREADS {
        let body = move || {
            for round in 0..ROUNDS {
                let number = u64::from(index * 1000 + round + 1);
                let own = (FCW | (index as u16) << 10, MXCSR | index << 13);
                set_control(own.0, own.1);
                thread::yield_now();
                let found = control();
                set_control(FCW, MXCSR);
                if found != own || kept(number) != number {
                    shared.wrong.fetch_add(1, Ordering::SeqCst);
                }
            }
            shared.finished.fetch_add(1, Ordering::SeqCst);
            guest.wake(&shared.finished, usize::MAX);
        };
        guest
            .spawn("x87", Priority::Normal, Box::new(body))
            .map_err(|error| format!("spawn: {error}"))?;
    }
    let end = guest.now() + Duration::from_secs(30);
    loop {
        let finished = shared.finished.load(Ordering::SeqCst);
        if finished == THREADS {
            break;
        }
        check!(guest.now() < end, "{finished} of {THREADS} came to their end");
        guest.wait(&shared.finished, finished, Some(end));
    }
    let wrong = shared.wrong.load(Ordering::SeqCst);
    check!(
        wrong == 0,
        "{wrong} times a thread found another's numbers or modes"
    );
    Ok("".into())
}

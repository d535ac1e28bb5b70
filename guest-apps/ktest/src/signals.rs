//! Signals from where they come: a person at the console, the power button, a timer, the program itself.
//!
//! What handlers find is noted in statics, in the order in which they run: the signal thread is alone to write.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;

use hs_core::platform::{Instant, Machine};
use hs_core::registry::signal::{Disposition, SignalMask, SignalNumber};
use hs_core::signal;
use hs_core::sync::Signal;
use kernel::Guest;

use crate::console::{ask, open};
use crate::{Context, Verdict, check};

/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(5);

/// What ran, oldest first, a digit each: 1 for a handler's begin, 2 for its end, and so on as each test says.
static NOTES: AtomicU64 = AtomicU64::new(0);
static NOTED: Signal = Signal::new();

fn note(digit: u64) {
    NOTES.store(NOTES.load(Ordering::SeqCst) * 10 + digit, Ordering::SeqCst);
    NOTED.raise();
}

/// Waits until the notes are so.
fn await_notes(context: &Context, expected: u64) -> Result<(), String> {
    let deadline = context.guest.now() + PATIENCE;
    loop {
        let seen = NOTED.seen();
        let notes = NOTES.load(Ordering::SeqCst);
        if notes == expected {
            return Ok(());
        }
        check!(
            context.guest.now() < deadline,
            "the notes are {notes}, not {expected}"
        );
        NOTED.wait(seen, Some(deadline));
    }
}

/// All as it was before the test.
fn reset() {
    signal::alarm(Duration::ZERO);
    for number in SignalNumber::ALL {
        signal::ignore(number);
        signal::default(number);
    }
    signal::set_mask(SignalMask::empty());
    NOTES.store(0, Ordering::SeqCst);
}

fn note_one(_: SignalNumber) {
    note(1);
}

static RANG_AT_US: AtomicU64 = AtomicU64::new(0);

fn note_time(_: SignalNumber) {
    RANG_AT_US.store(kernel::guest().now().as_micros(), Ordering::SeqCst);
    note(1);
}

/// An alarm rings once, when its time has come and not before; a cancelled one never does.
pub(crate) fn alarm(context: &Context) -> Verdict {
    reset();
    signal::action(SignalNumber::Alrm, note_time, SignalMask::empty());
    let mut latest_us = 0;
    for turn in 1..=20_u64 {
        let after = Duration::from_micros(turn * 700);
        signal::alarm(Duration::from_secs(3_600));
        let left = signal::alarm(after);
        check!(
            left > Duration::from_secs(3_500) && left <= Duration::from_secs(3_600),
            "the earlier alarm had {left:?} left"
        );
        let due: Instant = context.guest.now() + after;
        NOTES.store(0, Ordering::SeqCst);
        await_notes(context, 1)?;
        let rang_at_us = RANG_AT_US.load(Ordering::SeqCst);
        // The clock was read for the alarm before it was here.
        check!(
            rang_at_us + 1_000 >= due.as_micros(),
            "it rang {} us early",
            due.as_micros() - rang_at_us
        );
        latest_us = latest_us.max(rang_at_us.saturating_sub(due.as_micros()));
    }
    signal::alarm(Duration::from_secs(3_600));
    let left = signal::alarm(Duration::ZERO);
    check!(!left.is_zero(), "the alarm was not there to be cancelled");
    check!(
        signal::alarm(Duration::ZERO).is_zero(),
        "the cancelled alarm is still there"
    );
    reset();
    Ok(format!("at most {latest_us} us late"))
}

fn outer(_: SignalNumber) {
    note(1);
    // In the mask, or it would end the node here and now; not in it; itself.
    signal::raise(SignalNumber::Term);
    signal::action(SignalNumber::Term, note_five, SignalMask::empty());
    signal::raise(SignalNumber::Usr2);
    signal::raise(SignalNumber::Usr1);
    signal::action(SignalNumber::Usr1, note_three, SignalMask::empty());
    note(2);
}

fn note_three(_: SignalNumber) {
    note(3);
}

fn note_four(_: SignalNumber) {
    note(4);
}

fn note_five(_: SignalNumber) {
    note(5);
}

/// Handlers run one after the other, in the order of their numbers, and none inside another; the mask keeps one that would
/// end the node from doing so.
pub(crate) fn order(context: &Context) -> Verdict {
    reset();
    signal::action(SignalNumber::Usr1, outer, SignalMask::TERM);
    signal::action(SignalNumber::Usr2, note_four, SignalMask::empty());
    signal::raise(SignalNumber::Usr1);
    await_notes(context, 12_345)?;
    check!(signal::pending().is_empty(), "{:?} waits", signal::pending());
    reset();
    Ok(String::new())
}

/// What is blocked waits, once, and comes when it is not blocked any more.
pub(crate) fn blocked(context: &Context) -> Verdict {
    reset();
    for number in SignalNumber::ALL {
        signal::action(number, note_one, SignalMask::empty());
    }
    let before = signal::block(SignalMask::all());
    check!(before.is_empty(), "{before:?} was blocked");
    for _ in 0..3 {
        SignalNumber::ALL.into_iter().for_each(signal::raise);
    }
    // One that is not blocked passes them all, and shows that nothing else did.
    signal::action(SignalNumber::Int, note_four, SignalMask::empty());
    signal::unblock(SignalMask::INT);
    await_notes(context, 4)?;
    check!(
        signal::pending() == SignalMask::all() - SignalMask::INT,
        "{:?} waits",
        signal::pending()
    );
    signal::ignore(SignalNumber::Term);
    signal::set_mask(SignalMask::empty());
    await_notes(context, 4_111)?;
    check!(signal::pending().is_empty(), "{:?} waits", signal::pending());
    reset();
    Ok(String::new())
}

static WAKES: AtomicUsize = AtomicUsize::new(0);
static LAST: AtomicU32 = AtomicU32::new(0);

fn count(signal: SignalNumber) {
    WAKES.fetch_add(1, Ordering::SeqCst);
    LAST.store(signal as u32, Ordering::SeqCst);
    NOTED.raise();
}

/// Asks for `what` at the console, so many times, and waits for the signal each time.
fn await_signal(context: &Context, number: SignalNumber, what: &str, times: usize) -> Verdict {
    let console = open(context)?;
    reset();
    signal::action(number, count, SignalMask::empty());
    let begun = context.guest.now();
    for _ in 0..times {
        let before = WAKES.load(Ordering::SeqCst);
        let deadline = context.guest.now() + PATIENCE;
        ask(console, what);
        loop {
            let seen = NOTED.seen();
            if WAKES.load(Ordering::SeqCst) > before {
                break;
            }
            check!(context.guest.now() < deadline, "{number} did not come");
            NOTED.wait(seen, Some(deadline));
        }
        let came = LAST.load(Ordering::SeqCst);
        check!(came == number as u32, "signal {came} came, not {number}");
    }
    let mut typed = [0; 8];
    check!(console.receive(&mut typed) == 0, "a byte came with {number}");
    let took_us = context.guest.now().since(begun).as_micros() as usize;
    check!(
        signal::treatment(number).disposition() == Disposition::Handler,
        "{number} is not handled any more"
    );
    reset();
    Ok(format!("{times} times, {} us each", took_us / times))
}

/// Ctrl-C at the console is SIGINT and no byte.
pub(crate) fn interrupt(context: &Context) -> Verdict {
    await_signal(context, SignalNumber::Int, "interrupt", 50)
}

/// The power button is SIGTERM.
pub(crate) fn power_button(context: &Context) -> Verdict {
    await_signal(context, SignalNumber::Term, "power", 10)
}

/// Is ended by a signal that nobody handles, from `what`; `None` if there is no such.
pub(crate) fn end_by(guest: &'static Guest, what: &str) -> Option<()> {
    match what {
        "power" | "interrupt" => ask(guest.console()?, what),
        "raise" => signal::raise(SignalNumber::Usr1),
        "alarm" => drop(signal::alarm(Duration::from_millis(5))),
        _ => return None,
    }
    let rest = Signal::new();
    loop {
        rest.wait(rest.seen(), None);
    }
}

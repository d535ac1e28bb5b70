//! Signals: a machine's few events under their names in POSIX.
//!
//! | signal | comes from |
//! |---|---|
//! | INT | Ctrl-C on the console |
//! | TERM | the power button |
//! | ALRM | [`alarm`] |
//! | USR1, USR2 | [`raise`], as all the others may |
//!
//! What is done at each is set as by `sigaction`: a handler with a mask, nothing, or what is done by default. By default each
//! of the five ends the node in order: it says so, and exits with success. (Its pair takes that for a death, and goes on.)
//!
//! **Handlers run on a thread**, the signal thread, and not on top of whatever code was interrupted. So they may do what any
//! thread may: take locks, allocate, take a checkpoint. They run one after the other, the waiting signal with the lowest
//! number first: nothing nests. While one runs, its own signal and its mask are held back, as in POSIX; that keeps a signal
//! in the mask from ending the node meanwhile, if that is what it does. A handler that never returns keeps out all that
//! come from the machine.
//!
//! There is one mask, the program's, and one bit for each waiting signal: raised twice while it waits, a signal is
//! delivered once. Masks of threads are absent, as in the thesis (chapter 3.5.4).
//!
//! **Registered signals** ([`register`](crate::registry::signal::register)) keep all that across a restore: what is done, the
//! mask, whether the signal is blocked, and whether it waits. The library's tables hold that as it is now, whenever it
//! changes, and these are read in a checkpoint's pause: so it agrees with the memory. (The thesis asks once, at
//! registration.) A handler that ran at the pause is gone, as every thread's stack is, and is not called again.
//!
//! Deliberately absent: an alarm that outlives its machine. The worker that needs one sets it at its beginning, which is
//! where it begins after a restore too.

mod state;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::format;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use self::state::{Next, State};
use crate::event::Event;
use crate::library::{self, Library};
use crate::platform::{Exit, Instant, Priority, SpawnError};
use crate::registry::signal::{SignalAction, SignalMask, SignalNumber};
use crate::sync::{Mutex, Signal, machine};

/// Taken after the allocation lock.
static STATE: Mutex<State> = Mutex::new(State::new());

/// What interrupt handlers have raised: bits of a [`SignalMask`].
static POSTED: AtomicU32 = AtomicU32::new(0);

/// The signal thread sleeps on this.
static CHANGED: Signal = Signal::new();

/// Starts the signal thread. Every machine does, once, as soon as it is [installed](crate::sync::install).
///
/// # Errors
/// The table of threads is full, or memory is.
pub fn start() -> Result<(), SpawnError> {
    machine().spawn("signals", Priority::Normal, Box::new(run))
}

fn run() {
    loop {
        turn();
    }
}

/// Delivers a signal, or sleeps until there may be one.
fn turn() {
    let seen = CHANGED.seen();
    match change(|state| deliver(state, machine().now())) {
        Next::Run(action) => {
            action
                .run()
                .expect("a handler's address was looked at when it was taken up");
            change(State::finish);
        }
        Next::End(signal) => end(signal),
        Next::Sleep(until) => CHANGED.wait(seen, until),
    }
}

/// Takes up what was posted, and says what comes next at `now`.
fn deliver(state: &mut State, now: Instant) -> Next {
    let posted = SignalMask::from_bits_truncate(POSTED.swap(0, Ordering::SeqCst));
    for signal in SignalNumber::ALL {
        if posted.contains(signal.mask()) && state.raise(signal) {
            return Next::End(signal);
        }
    }
    state.next(now)
}

/// Ends the node in order.
fn end(signal: SignalNumber) -> ! {
    log::info!("{signal} ends this node");
    machine().emit(&Event::Exit {
        why: format!("{signal}"),
    });
    machine().exit(Exit::Success)
}

/// Changes the state, and what the library's tables say of registered signals with it.
fn change<R>(with: impl FnOnce(&mut State) -> R) -> R {
    let mut library = library::lock();
    let mut state = STATE.lock();
    let result = with(&mut state);
    if let Some(library) = library.as_mut() {
        record(library, &state);
    }
    result
}

/// Writes down what has changed, and nothing else: each write makes a page of the tables dirty.
fn record(library: &mut Library, state: &State) {
    for index in 0..library.signals().count() {
        let Some(known) = library.signals().nth(index) else {
            return;
        };
        let action = state.action(known.signal());
        if action != known {
            library.tables_mut().set_signal(index, action.to_entry());
        }
    }
}

/// Takes up the registered signals of a library's state that was restored, in the moment in which the library does. The
/// allocation lock is held.
pub(crate) fn take_up(library: &Library) {
    STATE.lock().take_up(library.signals());
}

/// What is done at `signal`, as the tables are to hold it. The allocation lock is held.
pub(crate) fn current(signal: SignalNumber) -> SignalAction {
    STATE.lock().action(signal)
}

fn change_and_tell<R>(with: impl FnOnce(&mut State) -> R) -> R {
    let result = change(with);
    CHANGED.raise();
    result
}

/// After a restore: delivers what waits, and whatever comes from here on. Before, nothing is, because a handler may need what
/// the application needs. To be called just before the workers are started; without a restore it changes nothing.
pub fn resume() {
    change_and_tell(State::resume);
}

/// Raises `signal` from an interrupt handler: the signal thread does the rest. The machine is
/// [installed](crate::sync::install).
pub fn post(signal: SignalNumber) {
    POSTED.fetch_or(signal.mask().bits(), Ordering::SeqCst);
    CHANGED.raise();
}

/// Raises `signal`. Its handler is called soon, on the signal thread. Does not return if it ends the node.
pub fn raise(signal: SignalNumber) {
    if change_and_tell(|state| state.raise(signal)) {
        end(signal);
    }
}

/// From here on `handler` is called at `signal`, and `mask` held back meanwhile, as the signal itself is. Returns what was done
/// before.
pub fn action(signal: SignalNumber, handler: fn(SignalNumber), mask: SignalMask) -> SignalAction {
    set(SignalAction::handled(signal, handler, mask))
}

/// From here on nothing is done at `signal`, and what waits is forgotten. Returns what was done before.
pub fn ignore(signal: SignalNumber) -> SignalAction {
    set(SignalAction::ignored(signal))
}

/// From here on `signal` ends the node. Returns what was done before.
pub fn default(signal: SignalNumber) -> SignalAction {
    set(SignalAction::new(signal))
}

/// Does from here on what `action` says, as [`action()`], [`ignore`] or [`default`] have returned it. Whether its signal is
/// blocked or waits is left as it is. Returns what was done before.
pub fn set(action: SignalAction) -> SignalAction {
    change_and_tell(|state| {
        let earlier = state.action(action.signal());
        state.set(action);
        earlier
    })
}

/// What is done at `signal`, and whether it is blocked and waits.
pub fn treatment(signal: SignalNumber) -> SignalAction {
    STATE.lock().action(signal)
}

/// Blocks the signals of `mask` too: they wait. Returns what was blocked before.
pub fn block(mask: SignalMask) -> SignalMask {
    change_and_tell(|state| state.set_blocked(state.blocked() | mask))
}

/// Blocks the signals of `mask` no longer: those that wait are delivered soon. Returns what was blocked before.
pub fn unblock(mask: SignalMask) -> SignalMask {
    change_and_tell(|state| state.set_blocked(state.blocked() - mask))
}

/// Blocks the signals of `mask` and no others. Returns what was blocked before.
pub fn set_mask(mask: SignalMask) -> SignalMask {
    change_and_tell(|state| state.set_blocked(mask))
}

/// What is blocked. (What a handler that runs holds back is not among it.)
pub fn blocked() -> SignalMask {
    STATE.lock().blocked()
}

/// What was raised and waits.
pub fn pending() -> SignalMask {
    STATE.lock().pending()
}

/// Raises ALRM once `after` has passed; zero cancels the alarm. There is one: a new one replaces it. Returns how long the
/// earlier one had left, zero if there was none.
pub fn alarm(after: Duration) -> Duration {
    let now = machine().now();
    let at = (!after.is_zero()).then(|| now + after);
    change_and_tell(|state| state.set_alarm(at, now))
}

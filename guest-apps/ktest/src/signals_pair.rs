//! Registered signals on the way from a master to the spare that takes over.
//!
//! The first master sets its signals, changes them after they were registered, leaves one waiting, and dies when the host
//! says so. The worker that the spare restores looks at what it finds, and lets the waiting one come. Then the host presses
//! the new master's power button: the handler that the old one had set ends the node.

use alloc::format;
use alloc::string::{String, ToString};
use core::sync::atomic::{AtomicU32, Ordering};

use allocator_api2::boxed::Box;
use hs_core::class::{Class, ClassId};
use hs_core::event::Event;
use hs_core::platform::{Exit, Machine};
use hs_core::registry::signal::{Disposition, SignalMask, SignalNumber, register};
use hs_core::registry::thread::{self, Work};
use hs_core::role::Term;
use hs_core::signal;
use hs_net::node::{Node, node, serve};
use kernel::Guest;

/// The application's own number.
const APPLICATION: u64 = u64::from_be_bytes(*b"hs-ktsig");

/// Nobody asks there; a node serves once it listens.
const PORT: u16 = 7;

/// What is held back while SIGTERM is handled.
const MASK: SignalMask = SignalMask::INT.union(SignalMask::USR1);

/// Becomes a node.
pub(crate) fn live(guest: &'static Guest) -> ! {
    let pair = guest.options().pair.as_ref();
    serve(guest, guest.memory(), pair, guest.nics(), APPLICATION, start)
}

/// Sets the signals, on the first master.
fn start(node: &'static Node) -> Result<(), String> {
    let in_words = |error: &dyn core::fmt::Display| format!("{error}");
    let class = Class::create(ClassId(1), 64 << 10).map_err(|error| in_words(&error))?;
    signal::action(SignalNumber::Term, too_early, SignalMask::empty());
    for number in [SignalNumber::Term, SignalNumber::Int, SignalNumber::Usr2] {
        register(number).map_err(|error| in_words(&error))?;
    }
    signal::action(SignalNumber::Term, end, MASK);
    signal::ignore(SignalNumber::Int);
    signal::action(SignalNumber::Usr2, note, SignalMask::empty());
    signal::block(SignalMask::USR2 | SignalMask::USR1);
    signal::raise(SignalNumber::Usr2);
    // Not registered: on the spare these are as in a program that has just begun.
    signal::action(SignalNumber::Usr1, too_early, SignalMask::empty());
    signal::action(SignalNumber::Alrm, too_early, SignalMask::empty());
    node.service().listen(PORT, 1).map_err(|error| in_words(&error))?;
    let worker = Box::try_new_in(Looker { turns: 0 }, class).map_err(|_| "no memory for the worker")?;
    thread::register_state(Box::leak(worker)).map_err(|error| in_words(&error))
}

/// The worker.
struct Looker {
    turns: u64,
}

impl Work for Looker {
    fn work(&'static mut self) {
        let node = node();
        if node.term() > Term::FIRST {
            tell("signals-restored", look());
            signal::unblock(SignalMask::USR2);
        }
        loop {
            let seen = node.look();
            self.turns += 1;
            // Whatever checkpoint is wanted.
            node.rest(seen, None);
        }
    }
}

/// Compares what is done at each signal with what the old master had set.
fn look() -> Result<(), String> {
    for (number, disposition, mask, blocked, pending) in [
        (
            SignalNumber::Int,
            Disposition::Ignore,
            SignalMask::empty(),
            false,
            false,
        ),
        (
            SignalNumber::Usr1,
            Disposition::Default,
            SignalMask::empty(),
            false,
            false,
        ),
        (
            SignalNumber::Usr2,
            Disposition::Handler,
            SignalMask::empty(),
            true,
            true,
        ),
        (
            SignalNumber::Alrm,
            Disposition::Default,
            SignalMask::empty(),
            false,
            false,
        ),
        (SignalNumber::Term, Disposition::Handler, MASK, false, false),
    ] {
        let found = signal::treatment(number);
        let is_right = found.disposition() == disposition
            && found.mask() == mask
            && found.is_blocked() == blocked
            && found.is_pending() == pending;
        if !is_right {
            return Err(format!("{number} is {found:?}"));
        }
    }
    Ok(())
}

fn tell(name: &str, verdict: Result<(), String>) {
    kernel::guest().emit(&Event::Test {
        name: name.to_string(),
        passed: verdict.is_ok(),
        detail: verdict.err().unwrap_or_default(),
    });
}

/// How often the waiting signal came.
static NOTED: AtomicU32 = AtomicU32::new(0);

/// On the new master alone: on the old one it is blocked.
fn note(_: SignalNumber) {
    let earlier = NOTED.fetch_add(1, Ordering::SeqCst);
    let is_right = earlier == 0 && node().term() > Term::FIRST;
    tell(
        "signals-waited",
        is_right.then_some(()).ok_or("not once, on the new master".into()),
    );
}

fn too_early(signal: SignalNumber) {
    tell(
        "signals-too-early",
        Err(format!("{signal} has its first handler")),
    );
}

/// Ends the node, after a lock was taken that a thread may hold.
fn end(signal: SignalNumber) {
    let listens = node().service().is_listening();
    let is_right = signal == SignalNumber::Term && listens && node().term() > Term::FIRST;
    tell(
        "signals-handled",
        is_right.then_some(()).ok_or("not on the new master".into()),
    );
    let guest = kernel::guest();
    guest.emit(&Event::Exit {
        why: format!("{signal} was handled"),
    });
    guest.exit(Exit::Success)
}

//! The benchmark program of the guest: the thesis's test program with its knobs, and our side of every experiment.
//!
//! Its words ([`words`](bench_plan::words)) say what is measured; each measurement goes out as a
//! [`Figure`](hs_core::figure::Figure). Two layers: `cptfork` alone, on memory that no library manages ([`raw`]), and the Hot
//! Spare library, alone or as a node of a pair.
//!
//! An experiment that cannot be done here (there is too little memory, say) is refused by name, and the others go on. So they do
//! when checkpoints were not what they should be, but then the guest does not end as if all were well.
//!
//! Deliberately absent: drawing and comparing. The host does that, with what its own programs measured in the same run.
#![no_std]
#![no_main]

extern crate alloc;

mod failure;
mod library;
mod pair;
mod pipe;
mod raw;
mod rounds;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use core::sync::atomic::{AtomicBool, Ordering};

use bench_plan::words::{Knobs, Orders};
use hs_core::event::Event;
use hs_core::figure::Figure;
use hs_core::platform::{Exit, Machine, PAGE_LEN};
use kernel::Guest;

use failure::Failure;

kernel::entry!(main);

/// Pages in a MiB.
const MIB_PAGES: usize = (1 << 20) / PAGE_LEN;

/// Whether a checkpoint was not what it should be.
static WAS_FAULTY: AtomicBool = AtomicBool::new(false);

/// What an experiment is given.
#[derive(Clone, Copy)]
pub(crate) struct Context {
    guest: &'static Guest,
    /// With few runs.
    quick: bool,
}

impl Context {
    /// How often a measurement is repeated from its beginning.
    fn runs(self) -> usize {
        if self.quick { 3 } else { 5 }
    }

    /// Tells a figure.
    fn tell(self, figure: Figure) {
        self.guest.emit(&Event::Figure(Box::new(figure)));
    }
}

fn main(guest: &'static Guest) -> ! {
    let orders = orders(guest);
    if orders.pair() {
        pair::live(guest, &orders);
    }
    match orders {
        Orders::Experiments { chosen, quick, .. } => {
            let context = Context { guest, quick };
            raw::run(context, &chosen);
            finish_experiments(guest, chosen.len())
        }
        Orders::Run { knobs, .. } => {
            let context = Context { guest, quick: false };
            let result = library::run::alone(context, &knobs);
            finish_run(guest, &knobs, result)
        }
    }
}

/// Says that so many experiments are over, and ends the guest.
fn finish_experiments(guest: &Guest, count: usize) -> ! {
    if WAS_FAULTY.load(Ordering::Relaxed) {
        let why = format!("{count} experiments are done, of which some found checkpoints at fault");
        finish(guest, &why, Exit::Refused);
    }
    finish(guest, &format!("{count} experiments are done"), Exit::Success)
}

/// Says how the test program's run ended, and ends the guest.
fn finish_run(guest: &Guest, knobs: &Knobs, result: Result<(), Failure>) -> ! {
    let (why, exit) = match &result {
        Ok(()) => ("the run is done", Exit::Success),
        Err(failure) => {
            refuse(guest, &format!("run mem-kib={}", knobs.memory_kib), failure);
            ("nothing was measured", Exit::Refused)
        }
    };
    finish(guest, why, exit)
}

/// Ends the guest, and says why.
fn finish(guest: &Guest, why: &str, exit: Exit) -> ! {
    guest.emit(&Event::Exit { why: why.to_string() });
    guest.exit(exit)
}

/// What the words say; a guest that misunderstands them ends.
fn orders(guest: &Guest) -> Orders {
    let words = guest.options().application.iter().map(String::as_str);
    Orders::parse(words).unwrap_or_else(|error| refuse_words(guest, &format!("{error}")))
}

/// Says that something is not measured.
fn refuse(guest: &Guest, what: &str, failure: &Failure) {
    WAS_FAULTY.fetch_or(failure.is_fault(), Ordering::Relaxed);
    let why = failure.to_string();
    log::error!("{what} is not measured: {why}");
    guest.emit(&Event::Refused {
        what: what.to_string(),
        why,
    });
}

fn refuse_words(guest: &Guest, why: &str) -> ! {
    log::error!("{why}");
    guest.emit(&Event::Refused {
        what: "options".to_string(),
        why: why.to_string(),
    });
    guest.exit(Exit::BadOptions)
}

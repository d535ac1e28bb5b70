//! Tests of the kernel on the real machine, or what QEMU makes of it.
//!
//! Each test is a function that returns figures worth seeing or what was wrong; each result goes out as an event. The
//! application's words choose: none runs everything; `seed=N` repeats a random run; `only=NAME` runs one test;
//! `crash=panic|null|stack|variable|undefined|double-free|foreign-free` dies in that way, so that the host can look at the report;
//! `ends-by=WHAT` is ended by a signal that nobody handles; `pair=signals` is a node of a pair whose signals outlive it.
#![no_std]
#![no_main]

extern crate alloc;

mod checkpoints;
mod classes;
mod console;
mod crash;
mod files;
mod freezing;
mod hooks;
mod library;
mod memory;
mod model;
mod network;
mod random;
mod registers;
mod shortage;
mod signals;
mod signals_pair;
mod threads;

use alloc::string::{String, ToString};

use hs_core::event::Event;
use hs_core::platform::{Exit, Machine};
use kernel::Guest;

kernel::entry!(main);

/// What a test is given.
pub(crate) struct Context {
    guest: &'static Guest,
    seed: u64,
}

/// Figures, or what was wrong.
pub(crate) type Verdict = Result<String, String>;

/// Fails the test with a message unless the condition holds.
#[macro_export]
macro_rules! check {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(alloc::format!($($message)+));
        }
    };
}

/// A test's name and the test.
type Test = (&'static str, fn(&Context) -> Verdict);

const TESTS: &[Test] = &[
    ("write-xor-execute", memory::write_xor_execute),
    ("guard-pages", memory::guard_pages),
    ("frames", memory::frames),
    ("heap", memory::heap),
    ("cptctl-rules", memory::cptctl_rules),
    ("threads-preemption", threads::preemption),
    ("threads-x87", registers::x87_and_control),
    ("threads-wait-wake", threads::wait_and_wake),
    ("threads-sleep", threads::sleep),
    ("threads-priority", threads::priority),
    ("threads-fairness", threads::fairness),
    ("threads-end", threads::end),
    ("threads-condvar-join", threads::condvar_and_join),
    ("cptfork-model", model::cptfork_against_model),
    ("cptfork-model-can-fail", model::planted_bugs_are_found),
    ("cptfork-out-of-frames", checkpoints::out_of_frames),
    ("map-out-of-frames", shortage::map_fails),
    ("cptfork-others-reserve", shortage::others_reserve),
    ("cptfork-cancelled-once", shortage::cancelled_once),
    ("cptfork-too-many", checkpoints::too_many_children),
    ("cptfork-stray-child", checkpoints::stray_child),
    ("cptfork-purge-under-child", checkpoints::purge_under_child),
    ("cptfork-forgets-unmapped", checkpoints::unmapped_is_forgotten),
    ("cptfork-faults", freezing::faults_are_counted),
    ("cptfork-hot-pages", freezing::hot_pages),
    ("cptfork-one-write", freezing::copies_of_one_write),
    ("cptfork-copied-in-part", freezing::copied_in_part),
    ("cptfork-place-under-child", freezing::place_under_child),
    ("cptfork-untouched", freezing::untouched_for_epochs),
    ("cptfork-other-memory", freezing::other_memory),
    ("cptfork-purged-not-shared", freezing::purged_is_not_shared),
    ("cptfork-mode-refused", freezing::mode_refused),
    ("cptfork-cost", checkpoints::cost),
    ("nic-frames", network::frames),
    ("nic-round-trips", network::round_trips),
    ("nic-bounce", network::bounce),
    ("nic-ring-full", network::ring_full),
    ("files", files::life_of_a_file),
    ("files-refusals", files::refusals),
    ("files-threads", files::two_threads),
    ("files-window", files::window),
    ("files-speed", files::speed),
    ("console-echo", console::echo),
    ("console-long-output", console::long_output),
    ("signals-alarm", signals::alarm),
    ("signals-order", signals::order),
    ("signals-blocked", signals::blocked),
    ("signals-interrupt", signals::interrupt),
    ("signals-power-button", signals::power_button),
    ("class", library::class),
    ("class-given-back", classes::given_back),
    ("class-scope", classes::scoped),
    ("class-threads", classes::threads),
    ("class-exhausted", classes::exhaustion),
    ("class-gone-on-spare", classes::spare_gives_back),
    ("threads-many", classes::many_threads),
    ("checkpoint-damaged", library::damaged_checkpoint),
    ("checkpoint-restore", library::restore),
    ("checkpoint-statics", library::statics),
    ("checkpoint-hooks", hooks::hooks),
];

fn main(guest: &'static Guest) -> ! {
    let mut only = None;
    let mut seed = guest.random_u64();
    for word in &guest.options().application {
        match word.split_once('=') {
            Some(("only", name)) => only = Some(name),
            Some(("seed", text)) => match text.parse() {
                Ok(number) => seed = number,
                Err(_) => refuse(guest, word),
            },
            Some(("pair", "signals")) => signals_pair::live(guest),
            Some(("ends-by", what)) => signals::end_by(guest, what).unwrap_or_else(|| refuse(guest, word)),
            Some(("crash", how)) => crash::crash(guest, how).unwrap_or_else(|| refuse(guest, word)),
            _ => refuse(guest, word),
        }
    }
    let context = Context { guest, seed };
    let mut failed = 0;
    let mut ran = 0;
    for (name, test) in TESTS
        .iter()
        .filter(|(name, _)| only.is_none_or(|only| only == *name))
    {
        let verdict = test(&context);
        let passed = verdict.is_ok();
        let detail = match verdict {
            Ok(detail) => detail,
            Err(detail) => alloc::format!("{detail} (seed={seed})"),
        };
        ran += 1;
        failed += usize::from(!passed);
        guest.emit(&Event::Test {
            name: (*name).to_string(),
            passed,
            detail,
        });
    }
    guest.emit(&Event::Exit {
        why: alloc::format!("{ran} tests, {failed} failed"),
    });
    guest.exit(if failed == 0 && ran > 0 {
        Exit::Success
    } else {
        Exit::TestFailed
    })
}

pub(crate) fn refuse(guest: &Guest, word: &str) -> ! {
    guest.emit(&Event::Refused {
        what: "options".to_string(),
        why: alloc::format!(
            "ktest does not know the word {word:?}: only=NAME, seed=N, \
             crash=panic|null|stack|variable|undefined|double-free|foreign-free, ends-by=power|interrupt|raise|alarm, \
             pair=signals"
        ),
    });
    guest.exit(Exit::BadOptions)
}

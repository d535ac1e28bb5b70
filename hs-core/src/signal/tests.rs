//! Against a model, and the thread itself.

use std::sync::atomic::AtomicUsize;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::host::Session;
use crate::library::LibraryArea;
use crate::platform::{CheckpointMemory, Instant, PAGE_LEN};
use crate::registry::signal::{Disposition, SignalError, actions, deregister, register};

/// A program that has just begun.
fn begin_anew() {
    POSTED.store(0, Ordering::SeqCst);
    *STATE.lock() = State::new();
}

fn first(_: SignalNumber) {}
fn second(signal: SignalNumber) {
    assert_ne!(signal as u32, 0);
}

const HANDLERS: [fn(SignalNumber); 2] = [first, second];

/// What is done to the signals of a program.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The handler, if not ignored or default, and a mask.
    Set(SignalNumber, usize, SignalMask),
    Raise(SignalNumber),
    /// As an interrupt handler does.
    Post(SignalNumber),
    SetMask(SignalMask),
    Block(SignalMask),
    Unblock(SignalMask),
    /// In milliseconds.
    Alarm(u64),
    Advance(u64),
    /// The signal thread looks, if it does not run a handler.
    Deliver,
    Return,
    Register(SignalNumber),
    Deregister(SignalNumber),
    Checkpoint,
    /// The newest checkpoint, on another machine.
    Restore,
    Resume,
}

/// What the model gets wrong, to see that it would be noticed.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Bug {
    None,
    MaskNotHeld,
    OwnSignalNotHeld,
    PendingTwice,
    IgnoringKeepsPending,
    MaskNotRestored,
    PendingNotRestored,
    AlarmKeptAtRestore,
    UnregisteredRestored,
    NewestNotRestored,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct OfOne {
    /// 0 default, 1 ignore, then the handlers.
    does: usize,
    mask: SignalMask,
    blocked: bool,
    waits: usize,
    registered: bool,
    /// What was done when it was registered.
    at_registration: usize,
}

const FRESH: OfOne = OfOne {
    does: 0,
    mask: SignalMask::empty(),
    blocked: false,
    waits: 0,
    registered: false,
    at_registration: 0,
};

#[derive(Clone, PartialEq, Debug)]
enum Says {
    Called(SignalNumber, usize),
    Ended(SignalNumber),
    Asleep(Option<u64>),
}

/// Signals as POSIX has them, one record each.
#[derive(Clone)]
struct Model {
    bug: Bug,
    of: [OfOne; 5],
    posted: Vec<SignalNumber>,
    running: Option<SignalNumber>,
    running_mask: SignalMask,
    alarm_ms: Option<u64>,
    now_ms: u64,
    paused: bool,
}

impl Model {
    fn new(bug: Bug) -> Self {
        Model {
            bug,
            of: [FRESH; 5],
            posted: Vec::new(),
            running: None,
            running_mask: SignalMask::empty(),
            alarm_ms: None,
            now_ms: 0,
            paused: false,
        }
    }

    fn passes(&self, signal: SignalNumber) -> bool {
        let held = self.running.is_some_and(|running| {
            (running == signal && self.bug != Bug::OwnSignalNotHeld)
                || (self.running_mask.contains(signal.mask()) && self.bug != Bug::MaskNotHeld)
        });
        !(self.paused || self.of[signal.index()].blocked || held)
    }

    fn raise(&mut self, signal: SignalNumber) -> Option<Says> {
        let passes = self.passes(signal);
        let of = &mut self.of[signal.index()];
        match (of.does, passes) {
            (0, true) => return Some(Says::Ended(signal)),
            (1, true) => {}
            _ if self.bug == Bug::PendingTwice => of.waits += 1,
            _ => of.waits = 1,
        }
        None
    }

    fn deliver(&mut self) -> Says {
        let mut posted = core::mem::take(&mut self.posted);
        posted.sort();
        for signal in posted {
            if let Some(ended) = self.raise(signal) {
                return ended;
            }
        }
        if self.alarm_ms.is_some_and(|at| at <= self.now_ms) {
            self.alarm_ms = None;
            if let Some(ended) = self.raise(SignalNumber::Alrm) {
                return ended;
            }
        }
        for signal in SignalNumber::ALL {
            if self.of[signal.index()].waits == 0 || !self.passes(signal) {
                continue;
            }
            let of = &mut self.of[signal.index()];
            match of.does {
                0 => return Says::Ended(signal),
                1 => of.waits = 0,
                _ if self.running.is_some() => {}
                handler => {
                    of.waits -= 1;
                    self.running = Some(signal);
                    self.running_mask = of.mask;
                    return Says::Called(signal, handler);
                }
            }
        }
        Says::Asleep(self.alarm_ms)
    }

    /// What another machine makes of a checkpoint.
    fn restored(&self, checkpoint: &Model) -> Model {
        let mut restored = Model::new(self.bug);
        restored.now_ms = self.now_ms;
        restored.paused = true;
        if self.bug == Bug::AlarmKeptAtRestore {
            restored.alarm_ms = checkpoint.alarm_ms;
        }
        for (of, kept) in restored.of.iter_mut().zip(&checkpoint.of) {
            if kept.registered || self.bug == Bug::UnregisteredRestored {
                *of = *kept;
                of.blocked &= self.bug != Bug::MaskNotRestored;
                if self.bug == Bug::PendingNotRestored {
                    of.waits = 0;
                }
                if self.bug == Bug::NewestNotRestored {
                    of.does = of.at_registration;
                }
            }
        }
        restored
    }
}

fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1_000)
}

/// What the signal thread would do at this moment.
fn says(next: Next) -> Says {
    match next {
        Next::End(signal) => Says::Ended(signal),
        Next::Sleep(until) => Says::Asleep(until.map(|until| until.as_micros() / 1_000)),
        Next::Run(action) => Says::Called(action.signal(), does(action)),
    }
}

fn does(action: SignalAction) -> usize {
    match action.disposition() {
        Disposition::Default => 0,
        Disposition::Ignore => 1,
        Disposition::Handler => {
            let known = HANDLERS
                .iter()
                .position(|handler| *handler as usize == action.handler);
            known.expect("one of the two") + 2
        }
    }
}

fn set_to(signal: SignalNumber, what: usize, mask: SignalMask) {
    match what {
        0 => default(signal),
        1 => ignore(signal),
        handler => action(signal, HANDLERS[handler - 2], mask),
    };
}

/// Takes the steps on the real thing and on the model. Where they differ, if they do.
fn compare(session: &Session, steps: &[Step], bug: Bug) -> Result<(), std::string::String> {
    session.restart();
    begin_anew();
    let memory = session.memory();
    let addresses = || {
        memory
            .window()
            .iter_pages()
            .take(size_of::<LibraryArea>().div_ceil(PAGE_LEN))
    };
    let mut model = Model::new(bug);
    // Most programs handle theirs.
    for signal in SignalNumber::ALL {
        set_to(signal, 2, SignalMask::empty());
        model.of[signal.index()].does = 2;
    }
    let mut kept = None;
    for (number, step) in steps.iter().enumerate() {
        let mut expected = None;
        let mut said = None;
        match *step {
            Step::Set(signal, what, mask) => {
                let mask = if what < 2 { SignalMask::empty() } else { mask };
                set_to(signal, what, mask);
                let of = &mut model.of[signal.index()];
                (of.does, of.mask) = (what, mask);
                if what == 1 && bug != Bug::IgnoringKeepsPending {
                    of.waits = 0;
                }
            }
            Step::Raise(signal) => {
                said = change(|state| state.raise(signal)).then_some(Says::Ended(signal));
                expected = model.raise(signal);
            }
            Step::Post(signal) => {
                post(signal);
                if !model.posted.contains(&signal) {
                    model.posted.push(signal);
                }
            }
            Step::SetMask(mask) => {
                set_mask(mask);
                for signal in SignalNumber::ALL {
                    model.of[signal.index()].blocked = mask.contains(signal.mask());
                }
            }
            Step::Block(mask) => {
                block(mask);
                for signal in SignalNumber::ALL {
                    model.of[signal.index()].blocked |= mask.contains(signal.mask());
                }
            }
            Step::Unblock(mask) => {
                unblock(mask);
                for signal in SignalNumber::ALL {
                    model.of[signal.index()].blocked &= !mask.contains(signal.mask());
                }
            }
            Step::Alarm(after_ms) => {
                let until = (after_ms > 0).then(|| model.now_ms + after_ms);
                let left = change(|state| state.set_alarm(until.map(at), at(model.now_ms)));
                let earlier = core::mem::replace(&mut model.alarm_ms, until);
                let expected_left = earlier.map_or(0, |earlier| earlier.saturating_sub(model.now_ms));
                if left.as_millis() as u64 != expected_left {
                    return Err(std::format!(
                        "step {number}: {left:?} left, not {expected_left} ms"
                    ));
                }
            }
            Step::Advance(ms) => model.now_ms += ms,
            Step::Deliver => {
                if model.running.is_none() {
                    said = Some(says(change(|state| deliver(state, at(model.now_ms)))));
                    expected = Some(model.deliver());
                }
            }
            Step::Return => {
                change(State::finish);
                model.running = None;
            }
            Step::Register(signal) => {
                let of = &mut model.of[signal.index()];
                let expected = match of.registered {
                    true => Err(SignalError::Registered(signal)),
                    false => Ok(()),
                };
                if register(signal) != expected {
                    return Err(std::format!("step {number}: {step:?} is not {expected:?}"));
                }
                if !of.registered {
                    (of.registered, of.at_registration) = (true, of.does);
                }
            }
            Step::Deregister(signal) => {
                let of = &mut model.of[signal.index()];
                if deregister(signal).is_ok() != of.registered {
                    return Err(std::format!("step {number}: {step:?} is not as it should be"));
                }
                of.registered = false;
            }
            Step::Checkpoint => {
                let tables: Vec<_> = addresses().map(|page| memory.read(page, PAGE_LEN)).collect();
                kept = Some((tables, model.clone()));
            }
            Step::Restore => {
                if let Some((tables, checkpoint)) = &kept {
                    addresses()
                        .zip(tables)
                        .for_each(|(page, bytes)| memory.write(page, bytes));
                    begin_anew();
                    crate::adopt(memory).map_err(|error| std::format!("step {number}: {error}"))?;
                    model = model.restored(checkpoint);
                }
            }
            Step::Resume => {
                resume();
                model.paused = false;
            }
        }
        if said != expected {
            return Err(std::format!(
                "step {number}, {step:?}: {said:?}, not {expected:?}"
            ));
        }
        if let Some(Says::Ended(_)) = said {
            return Ok(());
        }
        for signal in SignalNumber::ALL {
            let of = &model.of[signal.index()];
            let known = treatment(signal);
            let found = (does(known), known.mask(), known.is_blocked(), known.is_pending());
            let expected = (of.does, of.mask, of.blocked, of.waits > 0);
            if found != expected {
                return Err(std::format!(
                    "step {number}, {step:?}: {signal} is {found:?}, not {expected:?}"
                ));
            }
            // What is in the tables, and so in a checkpoint, is what holds.
            let listed = actions().into_iter().find(|action| action.signal() == signal);
            if listed != of.registered.then_some(known) {
                return Err(std::format!(
                    "step {number}, {step:?}: the tables have {listed:?}"
                ));
            }
        }
    }
    Ok(())
}

fn any_signal() -> impl Strategy<Value = SignalNumber> {
    (0..5_usize).prop_map(|index| SignalNumber::ALL[index])
}

fn any_mask() -> impl Strategy<Value = SignalMask> {
    prop::collection::vec(any_signal(), 0..4)
        .prop_map(|signals| signals.into_iter().map(SignalNumber::mask).collect())
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (any_signal(), prop_oneof![1 => Just(0), 2 => Just(1), 6 => 2..4_usize], any_mask())
            .prop_map(|(signal, what, mask)| Step::Set(signal, what, mask)),
        6 => any_signal().prop_map(Step::Raise),
        3 => any_signal().prop_map(Step::Post),
        1 => any_mask().prop_map(Step::SetMask),
        2 => any_mask().prop_map(Step::Block),
        2 => any_mask().prop_map(Step::Unblock),
        1 => (0..20_u64).prop_map(Step::Alarm),
        2 => (0..10_u64).prop_map(Step::Advance),
        8 => Just(Step::Deliver),
        5 => Just(Step::Return),
        3 => any_signal().prop_map(Step::Register),
        1 => any_signal().prop_map(Step::Deregister),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Restore),
        3 => Just(Step::Resume),
    ]
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any_step(), 1..80)
}

#[test]
fn signals_are_as_in_the_model_across_restores() {
    let session = Session::start(64);
    proptest!(ProptestConfig::with_cases(1_000), |(steps in any_steps())| {
        if let Err(difference) = compare(&session, &steps, Bug::None) {
            prop_assert!(false, "{difference}");
        }
    });
    begin_anew();
}

#[test]
fn each_planted_bug_is_found() {
    let session = Session::start(64);
    for bug in [
        Bug::MaskNotHeld,
        Bug::OwnSignalNotHeld,
        Bug::PendingTwice,
        Bug::IgnoringKeepsPending,
        Bug::MaskNotRestored,
        Bug::PendingNotRestored,
        Bug::AlarmKeptAtRestore,
        Bug::UnregisteredRestored,
        Bug::NewestNotRestored,
    ] {
        let mut runner = TestRunner::new(ProptestConfig {
            cases: 5_000,
            failure_persistence: None,
            max_shrink_iters: 0,
            ..ProptestConfig::default()
        });
        let found = runner.run(&any_steps(), |steps| {
            compare(&session, &steps, bug).map_err(TestCaseError::fail)
        });
        assert!(found.is_err(), "{bug:?} was not noticed");
    }
    begin_anew();
}

static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Raises another signal whose handler must not begin before this one has ended.
fn outer(signal: SignalNumber) {
    raise(SignalNumber::Usr2);
    assert_eq!(CALLS.fetch_or(1, Ordering::SeqCst), 0, "{signal}");
}

fn inner(_: SignalNumber) {
    assert_eq!(CALLS.fetch_or(2, Ordering::SeqCst), 1);
    alarm(Duration::from_millis(1));
}

fn last(_: SignalNumber) {
    CALLS.fetch_or(4, Ordering::SeqCst);
}

#[test]
fn the_thread_calls_one_handler_after_the_other_and_keeps_time() {
    let _session = Session::start(64);
    begin_anew();
    action(SignalNumber::Usr1, outer, SignalMask::empty());
    action(SignalNumber::Usr2, inner, SignalMask::empty());
    action(SignalNumber::Alrm, last, SignalMask::empty());
    // A thread that ends: it must not find what other tests raise.
    let thread = std::thread::spawn(|| {
        while CALLS.load(Ordering::SeqCst) & 4 == 0 {
            turn();
        }
    });
    post(SignalNumber::Usr1);
    thread.join().unwrap();
    assert_eq!(CALLS.load(Ordering::SeqCst), 7);
    begin_anew();
}

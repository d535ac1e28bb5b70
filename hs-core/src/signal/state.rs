//! What is done at each signal, what is blocked and what waits, as a state machine: it is told the time, and says what comes next.

use core::time::Duration;

use crate::platform::Instant;
use crate::registry::signal::{Disposition, SignalAction, SignalMask, SignalNumber};

/// What the signal thread does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Call this handler, then say [`State::finish`].
    Run(SignalAction),
    /// End the node: nobody has said what else to do.
    End(SignalNumber),
    /// Nothing, until something is raised or unblocked, or this moment comes.
    Sleep(Option<Instant>),
}

/// The signals of a program.
#[derive(Debug)]
pub(super) struct State {
    /// In the order of [`SignalNumber::ALL`].
    actions: [SignalAction; SignalNumber::ALL.len()],
    blocked: SignalMask,
    pending: SignalMask,
    /// Held back while a handler runs: its mask and its own signal. `None` while none runs.
    held: Option<SignalMask>,
    alarm_at: Option<Instant>,
    /// Nothing is delivered: the application was restored, and is not started yet.
    paused: bool,
}

impl State {
    /// As in a program that has just begun: everything ends it, nothing is blocked.
    pub(super) const fn new() -> Self {
        let [a, b, c, d, e] = SignalNumber::ALL;
        Self {
            actions: [
                SignalAction::new(a),
                SignalAction::new(b),
                SignalAction::new(c),
                SignalAction::new(d),
                SignalAction::new(e),
            ],
            blocked: SignalMask::empty(),
            pending: SignalMask::empty(),
            held: None,
            alarm_at: None,
            paused: false,
        }
    }

    /// What is done at `signal`, and whether it is blocked and waits.
    pub(super) fn action(&self, signal: SignalNumber) -> SignalAction {
        self.actions[signal.index()].being(
            self.blocked.contains(signal.mask()),
            self.pending.contains(signal.mask()),
        )
    }

    /// Sets what is done at a signal: of `action` its disposition and mask alone. What waits is forgotten if it is ignored
    /// from here on.
    pub(super) fn set(&mut self, action: SignalAction) {
        self.actions[action.signal().index()] = action;
        if action.disposition() == Disposition::Ignore {
            self.pending.remove(action.signal().mask());
        }
    }

    /// Blocks this set and no other signal; returns what was blocked before.
    pub(super) fn set_blocked(&mut self, mask: SignalMask) -> SignalMask {
        core::mem::replace(&mut self.blocked, mask & SignalMask::all())
    }

    pub(super) fn blocked(&self) -> SignalMask {
        self.blocked
    }

    pub(super) fn pending(&self) -> SignalMask {
        self.pending
    }

    /// Notes that `signal` was raised; `true` if that ends the node now, whatever handler runs.
    pub(super) fn raise(&mut self, signal: SignalNumber) -> bool {
        let passes = self.passing().contains(signal.mask());
        match self.actions[signal.index()].disposition() {
            Disposition::Ignore if passes => return false,
            Disposition::Default if passes => return true,
            _ => self.pending |= signal.mask(),
        }
        false
    }

    /// Sets the alarm to `at`, or cancels it. Returns how long it was to `now`'s last one, zero if there was none.
    pub(super) fn set_alarm(&mut self, at: Option<Instant>, now: Instant) -> Duration {
        let earlier = core::mem::replace(&mut self.alarm_at, at);
        earlier.map_or(Duration::ZERO, |earlier| earlier.since(now))
    }

    /// Says what comes next, at `now`: an alarm that is due is raised, then the waiting signal with the lowest number delivered.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        if self.alarm_at.is_some_and(|at| at <= now) {
            self.alarm_at = None;
            if self.raise(SignalNumber::Alrm) {
                return Next::End(SignalNumber::Alrm);
            }
        }
        for signal in SignalNumber::ALL {
            let action = self.actions[signal.index()];
            if !(self.pending & self.passing()).contains(signal.mask()) {
                continue;
            }
            match action.disposition() {
                Disposition::Ignore => self.pending.remove(signal.mask()),
                Disposition::Default => return Next::End(signal),
                Disposition::Handler if self.held.is_some() => {}
                Disposition::Handler => {
                    self.pending.remove(signal.mask());
                    self.held = Some(action.mask() | signal.mask());
                    return Next::Run(action);
                }
            }
        }
        Next::Sleep(self.alarm_at)
    }

    /// The handler has returned.
    pub(super) fn finish(&mut self) {
        self.held = None;
    }

    /// A restored program's: each of `actions` as it is given, everything else as in a program that has just begun. Nothing is
    /// delivered until [`resume`](Self::resume).
    pub(super) fn take_up(&mut self, actions: impl Iterator<Item = SignalAction>) {
        *self = Self::new();
        for action in actions {
            self.actions[action.signal().index()] = action;
            self.blocked.set(action.signal().mask(), action.is_blocked());
            self.pending.set(action.signal().mask(), action.is_pending());
        }
        self.paused = true;
    }

    pub(super) fn resume(&mut self) {
        self.paused = false;
    }

    /// What is neither blocked nor held back.
    fn passing(&self) -> SignalMask {
        if self.paused {
            return SignalMask::empty();
        }
        !(self.blocked | self.held.unwrap_or(SignalMask::empty()))
    }
}

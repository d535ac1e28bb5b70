//! Registered signals: what is done at them comes back after a restore.
//!
//! As in the thesis's chapter 3.5.4 a record is a `struct sigaction` of sorts: number, handler, mask; and besides whether the
//! signal is blocked, and whether it waits. The handler is the address of a function of this build, as a worker's is, or as in
//! POSIX one of two numbers that are no addresses.
//!
//! ```text
//! number u16 │ flags u16: 1 blocked, 2 waits │ mask u32 │ handler u64: 0 default, 1 ignore, else its address
//! ```
//!
//! What is done at a signal, and when, is [`crate::signal`]'s. It keeps these records up to date while they are
//! registered, and takes them up after a restore, each handler's address checked.

#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::fmt;

use bitflags::bitflags;

use crate::library::{self, NotStarted, SignalEntry};
use crate::raw;
use crate::signal;
use crate::sync::machine;

/// A signal, by its number in POSIX.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u32)]
pub enum SignalNumber {
    /// Ctrl-C on the console.
    Int = 2,
    /// The application's own.
    Usr1 = 10,
    /// The application's own.
    Usr2 = 12,
    /// The alarm.
    Alrm = 14,
    /// The power button.
    Term = 15,
}

impl SignalNumber {
    /// All there are.
    pub const ALL: [SignalNumber; 5] = [Self::Int, Self::Usr1, Self::Usr2, Self::Alrm, Self::Term];

    fn of(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| *signal as u32 == number)
    }

    /// Its place in [`ALL`](Self::ALL).
    pub(crate) const fn index(self) -> usize {
        match self {
            SignalNumber::Int => 0,
            SignalNumber::Usr1 => 1,
            SignalNumber::Usr2 => 2,
            SignalNumber::Alrm => 3,
            SignalNumber::Term => 4,
        }
    }

    /// The mask of this signal alone.
    pub fn mask(self) -> SignalMask {
        SignalMask::from_bits_retain(1 << self as u32)
    }
}

impl fmt::Display for SignalNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SignalNumber::Int => "SIGINT",
            SignalNumber::Usr1 => "SIGUSR1",
            SignalNumber::Usr2 => "SIGUSR2",
            SignalNumber::Alrm => "SIGALRM",
            SignalNumber::Term => "SIGTERM",
        })
    }
}

bitflags! {
    /// A set of signals: bit `n` is signal number `n`.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct SignalMask: u32 {
        /// [`SignalNumber::Int`].
        const INT = 1 << 2;
        /// [`SignalNumber::Usr1`].
        const USR1 = 1 << 10;
        /// [`SignalNumber::Usr2`].
        const USR2 = 1 << 12;
        /// [`SignalNumber::Alrm`].
        const ALRM = 1 << 14;
        /// [`SignalNumber::Term`].
        const TERM = 1 << 15;
    }
}

/// What kind of thing is done at a signal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Disposition {
    /// The node ends in order. `SIG_DFL`.
    Default,
    /// Nothing. `SIG_IGN`.
    Ignore,
    /// A function is called.
    Handler,
}

/// In place of a handler's address: [`Disposition::Default`].
const DEFAULT: usize = 0;
/// In place of a handler's address: [`Disposition::Ignore`].
const IGNORE: usize = 1;

/// Flag of a signal that is blocked.
const BLOCKED: u16 = 1;
/// Flag of a signal that was raised and waits.
const PENDING: u16 = 2;

/// What is done at a signal, and how the signal is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SignalAction {
    signal: SignalNumber,
    /// Address of the function, or one of the two numbers that are none.
    pub(crate) handler: usize,
    mask: SignalMask,
    blocked: bool,
    pending: bool,
}

/// The handler's address is not in this program's code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotCode(pub SignalAction);

impl fmt::Display for NotCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NotCode(action) = self;
        write!(
            f,
            "the handler {:#x} of {} is not in this program's code",
            action.handler, action.signal
        )
    }
}

impl SignalAction {
    /// The default, of a signal that is neither blocked nor waits.
    pub(crate) const fn new(signal: SignalNumber) -> Self {
        Self {
            signal,
            handler: DEFAULT,
            mask: SignalMask::empty(),
            blocked: false,
            pending: false,
        }
    }

    /// A call of `handler`, with `mask` held back.
    pub(crate) fn handled(signal: SignalNumber, handler: fn(SignalNumber), mask: SignalMask) -> Self {
        Self {
            handler: handler as usize,
            mask: mask & SignalMask::all(),
            ..Self::new(signal)
        }
    }

    /// Nothing.
    pub(crate) const fn ignored(signal: SignalNumber) -> Self {
        Self {
            handler: IGNORE,
            ..Self::new(signal)
        }
    }

    /// The same, of a signal that is blocked, or waits, or neither.
    pub(crate) const fn being(self, blocked: bool, pending: bool) -> Self {
        Self {
            blocked,
            pending,
            ..self
        }
    }

    /// What kind of thing is done.
    pub const fn disposition(self) -> Disposition {
        match self.handler {
            DEFAULT => Disposition::Default,
            IGNORE => Disposition::Ignore,
            _ => Disposition::Handler,
        }
    }

    /// Whether the signal was blocked.
    pub const fn is_blocked(self) -> bool {
        self.blocked
    }

    /// Whether it had been raised and waited.
    pub const fn is_pending(self) -> bool {
        self.pending
    }

    /// At which signal.
    pub const fn signal(self) -> SignalNumber {
        self.signal
    }

    /// The handler's address.
    pub const fn handler(self) -> usize {
        self.handler
    }

    /// What is held back while the handler runs.
    pub const fn mask(self) -> SignalMask {
        self.mask
    }

    /// Calls the handler on this thread; returns when it does.
    ///
    /// # Errors
    /// There is none, or it is not in this program's code; nothing was called.
    pub fn run(self) -> Result<(), NotCode> {
        if !machine().is_code(self.handler) {
            return Err(NotCode(self));
        }
        raw::call_handler(self.handler, self.signal);
        Ok(())
    }

    pub(crate) const fn to_entry(self) -> SignalEntry {
        let blocked = if self.blocked { BLOCKED } else { 0 };
        let pending = if self.pending { PENDING } else { 0 };
        SignalEntry {
            number: self.signal as u16,
            flags: blocked | pending,
            mask: self.mask.bits(),
            handler: self.handler,
        }
    }

    /// The action of `entry`, if it is one. Whether its handler is code is not looked at.
    pub(crate) fn of_entry(entry: SignalEntry) -> Option<Self> {
        if entry.flags & !(BLOCKED | PENDING) != 0 {
            return None;
        }
        Some(Self {
            signal: SignalNumber::of(entry.number.into())?,
            handler: entry.handler,
            mask: SignalMask::from_bits(entry.mask)?,
            blocked: entry.flags & BLOCKED != 0,
            pending: entry.flags & PENDING != 0,
        })
    }
}

/// The first of `actions` whose signal an earlier one has.
pub(crate) fn repeated(actions: &[SignalAction]) -> Option<usize> {
    (1..actions.len()).find(|index| {
        let signal = actions[*index].signal;
        actions[..*index].iter().any(|earlier| earlier.signal == signal)
    })
}

/// Why a signal was not registered or deregistered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignalError {
    /// The library was not started.
    NotStarted,
    /// The signal is registered: deregister it.
    Registered(SignalNumber),
    /// The signal is not registered.
    NotRegistered(SignalNumber),
}

impl From<NotStarted> for SignalError {
    fn from(_: NotStarted) -> Self {
        Self::NotStarted
    }
}

impl fmt::Display for SignalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignalError::NotStarted => NotStarted.fmt(f),
            SignalError::Registered(signal) => write!(f, "{signal} is registered already: deregister it"),
            SignalError::NotRegistered(signal) => write!(f, "{signal} is not registered"),
        }
    }
}

/// Registers `signal`: what is done at it, now or as it may be changed later, is the same after a restore. The thesis's
/// `hs_sigreg`.
///
/// # Errors
/// The library was not started, or the signal is registered.
pub fn register(signal: SignalNumber) -> Result<(), SignalError> {
    library::with(|library| {
        let known = library.signals().any(|known| known.signal == signal);
        // A table with room for each signal once is not full then.
        if known
            || !library
                .tables_mut()
                .push_signal(signal::current(signal).to_entry())
        {
            return Err(SignalError::Registered(signal));
        }
        Ok(())
    })?
}

/// Deregisters a signal; what is done at it stays. The thesis's `hs_sigdereg`.
///
/// # Errors
/// The library was not started, or the signal is not registered.
pub fn deregister(signal: SignalNumber) -> Result<(), SignalError> {
    library::with(|library| {
        let index = library
            .signals()
            .position(|known| known.signal == signal)
            .ok_or(SignalError::NotRegistered(signal))?;
        library.tables_mut().remove_signal(index);
        Ok(())
    })?
}

/// What is done at the registered signals, in the order of their registration.
pub fn actions() -> Vec<SignalAction> {
    library::with(|library| library.signals().collect()).unwrap_or_default()
}

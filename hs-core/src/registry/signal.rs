//! Signals: which function handles which, and what is held back meanwhile.
//!
//! As in the thesis's chapter 3.5.4 a record is a `struct sigaction` of sorts: number, handler, mask. The handler is the
//! address of a function of this build, as a worker's is.
//!
//! The library keeps these records, sends them with each checkpoint and gives them back after a restore, each handler's
//! address checked. **Nothing raises a signal**: the kernel has none yet. It, or the application, installs what the records
//! say.
//!
//! Deliberately absent: masks of threads. The thesis supports signals of programs of one thread only, and so does this.

#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::fmt;

use bitflags::bitflags;

use crate::library::{self, NotStarted, SignalEntry};
use crate::raw;
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
    /// A timer.
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

/// What is done at a signal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SignalAction {
    signal: SignalNumber,
    /// Address of the function.
    pub(crate) handler: usize,
    mask: SignalMask,
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
    /// At which signal.
    pub const fn signal(self) -> SignalNumber {
        self.signal
    }

    /// What is held back while the handler runs.
    pub const fn mask(self) -> SignalMask {
        self.mask
    }

    /// Calls the handler on this thread; returns when it does.
    ///
    /// # Errors
    /// The handler is not in this program's code; nothing was called.
    pub fn run(self) -> Result<(), NotCode> {
        if !machine().is_code(self.handler) {
            return Err(NotCode(self));
        }
        raw::call_handler(self.handler, self.signal);
        Ok(())
    }

    pub(crate) const fn to_entry(self) -> SignalEntry {
        SignalEntry {
            number: self.signal as u32,
            mask: self.mask.bits(),
            handler: self.handler,
        }
    }

    /// The action of `entry`, if it is one. Whether its handler is code is not looked at.
    pub(crate) fn of_entry(entry: SignalEntry) -> Option<Self> {
        Some(Self {
            signal: SignalNumber::of(entry.number)?,
            handler: entry.handler,
            mask: SignalMask::from_bits(entry.mask)?,
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

/// Registers what is done at `signal`, to be found again after a restore: `handler` is called, and `mask` held back
/// meanwhile. The thesis's `hs_sigreg`, which asks `sigaction()` for the latter two.
///
/// # Errors
/// The library was not started, or the signal is registered.
pub fn register(
    signal: SignalNumber,
    handler: fn(SignalNumber),
    mask: SignalMask,
) -> Result<(), SignalError> {
    let action = SignalAction {
        signal,
        handler: handler as usize,
        mask: mask & SignalMask::all(),
    };
    library::with(|library| {
        let known = library.signals().any(|known| known.signal == signal);
        // A table with room for each signal once is not full then.
        if known || !library.tables_mut().push_signal(action.to_entry()) {
            return Err(SignalError::Registered(signal));
        }
        Ok(())
    })?
}

/// Deregisters a signal. The thesis's `hs_sigdereg`.
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

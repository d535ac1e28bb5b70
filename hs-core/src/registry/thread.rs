//! Worker threads: what runs the application, as a function and an argument.
//!
//! A thread's stack is not kept. A worker is a loop around state that lies in classes; it is started from its beginning
//! after a restore, and on a fresh master just the same.

use alloc::vec::Vec;
use core::fmt;

use crate::library::{self, NotStarted, ThreadEntry};
use crate::raw;
use crate::sync::machine;

/// A registered worker.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Worker {
    /// Address of its function.
    pub(crate) function: usize,
    /// What that is called with: most often the address of its state in a class.
    pub(crate) argument: usize,
}

/// The worker's function is not in this program's code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotCode(pub Worker);

impl fmt::Display for NotCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {:#x} is not in this program's code", self.0.function)
    }
}

impl Worker {
    pub(crate) const fn of_entry(entry: ThreadEntry) -> Self {
        Self {
            function: entry.worker,
            argument: entry.argument,
        }
    }

    /// Calls the worker's function on this thread; returns when it does.
    ///
    /// # Errors
    /// The function is not in this program's code; nothing was called.
    pub fn run(self) -> Result<(), NotCode> {
        if !machine().is_code(self.function) {
            return Err(NotCode(self));
        }
        raw::call_worker(self.function, self.argument);
        Ok(())
    }

    /// The function's address.
    pub const fn function(self) -> usize {
        self.function
    }

    /// What the function is called with.
    pub const fn argument(self) -> usize {
        self.argument
    }
}

/// Why a worker was not registered or deregistered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ThreadError {
    /// The library was not started.
    NotStarted,
    /// The table is full.
    TooMany,
    /// No worker is registered with this function and this argument.
    NotRegistered,
    /// The state is not checkpointed: it would not be there after a restore.
    NotKept {
        /// Its address.
        address: usize,
    },
}

impl From<NotStarted> for ThreadError {
    fn from(_: NotStarted) -> Self {
        Self::NotStarted
    }
}

impl fmt::Display for ThreadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ThreadError::NotStarted => NotStarted.fmt(f),
            ThreadError::TooMany => write!(f, "the table of {} workers is full", library::THREADS_MAX),
            ThreadError::NotRegistered => {
                f.write_str("no worker is registered with this function and argument")
            }
            ThreadError::NotKept { address } => write!(
                f,
                "the state at {address:#x} lies in no class, and would be lost: allocate it in one"
            ),
        }
    }
}

/// Registers a worker, to be started after a restore. The same function may be registered again, with other arguments or
/// the same. The thesis's `hs_threadreg`.
///
/// # Errors
/// The library was not started, or the table is full.
pub fn register(worker: fn(usize), argument: usize) -> Result<(), ThreadError> {
    let entry = ThreadEntry {
        worker: worker as usize,
        argument,
    };
    match library::with(|library| library.tables_mut().push_thread(entry))? {
        true => Ok(()),
        false => Err(ThreadError::TooMany),
    }
}

/// A worker whose argument is its own state, which lies in a class.
pub trait Work: 'static {
    /// The worker's loop, from its beginning: on a fresh master and after each restore.
    fn work(&'static mut self);
}

/// Registers a worker that is all of its state, which lies in a class or among the program's checkpointed variables:
/// [`register`] without addresses.
///
/// # Errors
/// The library was not started, the table is full, or the state lies elsewhere.
pub fn register_state<T: Work>(state: &'static mut T) -> Result<(), ThreadError> {
    let address = raw::expose(state);
    if !library::with(|library| library.keeps(address, size_of::<T>()))? {
        return Err(ThreadError::NotKept { address });
    }
    register(raw::work::<T>, address)
}

/// Deregisters a worker: one, if the same was registered several times. Function and argument must both match. The
/// thesis's `hs_threaddereg`.
///
/// # Errors
/// The library was not started, or no such worker is registered.
pub fn deregister(worker: fn(usize), argument: usize) -> Result<(), ThreadError> {
    let entry = ThreadEntry {
        worker: worker as usize,
        argument,
    };
    library::with(|library| {
        let tables = library.tables_mut();
        let index = tables
            .threads()
            .iter()
            .position(|thread| *thread == entry)
            .ok_or(ThreadError::NotRegistered)?;
        tables.remove_thread(index);
        Ok(())
    })?
}

/// The registered workers, in the order of their registration.
pub fn workers() -> Vec<Worker> {
    library::with(|library| library.workers().collect()).unwrap_or_default()
}

//! The machine on an ordinary operating system: threads of `std`, and plain copies for snapshots.
//!
//! For tests and benchmarks of everything above the kernel. The library's memory is global to a process, so a test that
//! uses it holds a [`Session`].

mod files;
mod machine;
mod memory;
mod volatile;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use files::HostFiles;
pub use machine::HostMachine;
pub use memory::HostMemory;
pub use volatile::VolatileFiles;

static TURN: Mutex<()> = Mutex::new(());

/// The library, started on memory of its own; other sessions wait until this one ends.
#[derive(Debug)]
pub struct Session {
    memory: &'static HostMemory,
    _turn: MutexGuard<'static, ()>,
}

impl Session {
    /// Starts the library anew, with a window of so many pages. What an earlier session allocated is void.
    ///
    /// # Panics
    /// If the window is too small for the library.
    pub fn start(window_pages: usize) -> Self {
        let session = Self::bare(window_pages);
        crate::start(session.memory).expect("the library starts on fresh memory");
        session
    }

    /// As [`start`](Self::start), without starting the library.
    pub fn bare(window_pages: usize) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        HostMachine::install();
        Self {
            memory: HostMemory::new(window_pages),
            _turn: turn,
        }
    }

    /// Starts the library anew on the same memory.
    ///
    /// # Panics
    /// If the window is too small for the library.
    pub fn restart(&self) {
        self.memory.reset();
        crate::start(self.memory).expect("the library starts on a memory that was reset");
    }

    /// Its memory.
    pub fn memory(&self) -> &'static HostMemory {
        self.memory
    }
}

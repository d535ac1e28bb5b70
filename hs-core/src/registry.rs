//! What the application registers so that a restore can bring it back.
//!
//! Registries lie in the library area of the window and travel with it; checkpoints list them in sections of their own
//! as well, so that a checkpoint can be judged without its memory.

pub mod descriptor;
pub mod signal;
pub mod thread;

use alloc::vec::Vec;

use self::descriptor::Descriptor;
use self::signal::SignalAction;
use self::thread::Worker;
use crate::library::{self, Library};

/// All that is registered, each in the order of its registration.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Registered {
    pub(crate) workers: Vec<Worker>,
    pub(crate) descriptors: Vec<Descriptor>,
    pub(crate) signals: Vec<SignalAction>,
}

impl Registered {
    /// Room for as much as can be registered.
    pub(crate) fn with_room() -> Self {
        Self {
            workers: Vec::with_capacity(library::THREADS_MAX),
            descriptors: Vec::with_capacity(library::DESCRIPTORS_MAX),
            signals: Vec::with_capacity(library::SIGNALS_MAX),
        }
    }

    /// Takes down what is registered in `library` now. Allocates nothing, if there is room.
    pub(crate) fn collect(&mut self, library: &Library) {
        self.workers.clear();
        self.workers.extend(library.workers());
        self.descriptors.clear();
        self.descriptors.extend(library.descriptors());
        self.signals.clear();
        self.signals.extend(library.signals());
    }
}

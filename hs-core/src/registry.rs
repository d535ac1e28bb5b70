//! What the application registers so that a restore can bring it back.
//!
//! Registries lie in the library area of the window and travel with it; checkpoints list them in sections of their own
//! as well, so that a checkpoint can be judged without its memory.

pub mod descriptor;
pub mod hook;
pub mod signal;
pub mod thread;

use alloc::vec::Vec;

use self::descriptor::Descriptor;
use self::signal::SignalAction;
use self::thread::Worker;
use crate::library::{self, HookEntry, Library, SignalEntry, ThreadEntry, Version};

/// All that is registered, each in the order of its registration.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Registered {
    pub(crate) workers: Vec<Worker>,
    pub(crate) descriptors: Vec<Descriptor>,
    pub(crate) signals: Vec<SignalAction>,
}

/// What is registered, as it stands in the tables: taken down in a checkpoint's pause, and read when there is time. To read
/// 128 descriptors takes longer than all else of the pause.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// Of the tables that they are of; the default if they are of none.
    version: Version,
    threads: Vec<ThreadEntry>,
    descriptors: Vec<descriptor::Record>,
    signals: Vec<SignalEntry>,
    hooks: Vec<HookEntry>,
}

impl Records {
    /// Room for as much as can be registered.
    pub(crate) fn with_room() -> Self {
        Self {
            version: Version::default(),
            threads: Vec::with_capacity(library::THREADS_MAX),
            descriptors: Vec::with_capacity(library::DESCRIPTORS_MAX),
            signals: Vec::with_capacity(library::SIGNALS_MAX),
            hooks: Vec::with_capacity(library::HOOKS_MAX),
        }
    }

    /// Takes down what is registered in `library` now, as far as that has changed since the last time. Allocates nothing, if there
    /// is room.
    pub(crate) fn collect(&mut self, library: &Library) {
        let version = library.version();
        let before = core::mem::replace(&mut self.version, version);
        if before == version {
            return;
        }
        let (threads, descriptors, signals) = library.records();
        if before.tables == version.tables {
            // Offsets of files that were moved, most often.
            for (mine, now) in self.descriptors.iter_mut().zip(descriptors) {
                mine[..descriptor::HEAD_LEN].copy_from_slice(&now[..descriptor::HEAD_LEN]);
            }
            return;
        }
        self.threads.clear();
        self.threads.extend_from_slice(threads);
        self.descriptors.clear();
        self.descriptors.extend_from_slice(descriptors);
        self.signals.clear();
        self.signals.extend_from_slice(signals);
        self.hooks.clear();
        self.hooks.extend_from_slice(library.tables().hooks());
    }

    pub(crate) fn hooks(&self) -> &[HookEntry] {
        &self.hooks
    }
}

impl Registered {
    /// Reads `records` in place of what is there. Of a library's own, every one is sound.
    pub(crate) fn read(&mut self, records: &Records) {
        self.workers.clear();
        let threads = records.threads.iter();
        self.workers
            .extend(threads.map(|thread| Worker::of_entry(*thread)));
        self.descriptors.clear();
        let descriptors = records.descriptors.iter();
        self.descriptors
            .extend(descriptors.filter_map(Descriptor::of_record));
        self.signals.clear();
        let signals = records.signals.iter();
        self.signals
            .extend(signals.filter_map(|entry| SignalAction::of_entry(*entry)));
    }
}

//! A master's disk: mounted once, when somebody wants a file; checkpoints into files, and the beginning from one.

use alloc::boxed::Box;
use alloc::format;
use core::fmt;

use hs_core::checkpoint::file::FileSink;
use hs_core::checkpoint::{CheckpointPipe, Need, PoolFull, SinkId};
use hs_core::image::ImageConfig;
use hs_core::platform::Files;
use hs_core::restore::{self, Source};
use hs_core::role::{Role, Term};

use super::Node;
use super::pipe::Retried;

/// Checkpoints are read one after the other.
const STREAMS: usize = 2;

impl Node {
    /// The files of the pair's disk, mounted if they can be; `None` without a disk. On a spare there are none: the master writes.
    pub fn files(&self) -> Option<&'static dyn Files> {
        if self.role() == Role::Master {
            self.mount();
        }
        self.setup.machine.files()
    }

    /// Mounts the volume, if there is a disk and that was not done before: what is open would be closed. Done when somebody
    /// wants a file, or when there is nothing else to do: a takeover does not wait for it.
    pub(super) fn mount(&self) {
        let Some(files) = self.setup.machine.files() else {
            return;
        };
        let mut mounted = self.mounted.lock();
        if !*mounted {
            match files.mount() {
                Ok(()) => *mounted = true,
                Err(error) => log::warn!("files cannot be had: {error}"),
            }
        }
    }

    /// Opens the files that this node was told to keep checkpoints in.
    pub(super) fn keep_checkpoints(&'static self) {
        let Some(names) = self.setup.pair.checkpoint_files else {
            return;
        };
        let Some(files) = self.files() else {
            self.end(&format!("there is no disk to keep {names} on"));
        };
        let machine = self.setup.machine;
        let window = self.setup.memory.window();
        let sink = FileSink::new(files, names, window, machine.build_id(), self.setup.application);
        match self.load_pipe(Box::new(sink), Need::Required) {
            Ok(_) => log::info!("checkpoints are kept in {names}"),
            Err(error) => self.end(&format!("checkpoints cannot be kept in {names}: {error}")),
        }
    }

    /// A first master goes on from the newest checkpoint of a file, with the library's memory untouched so far.
    pub(super) fn begin_from(&'static self, source: &Source) {
        let machine = self.setup.machine;
        let Some(files) = machine.files() else {
            self.end("hs.restore: there is no disk to restore from");
        };
        self.mount();
        self.remove_signs();
        let config = ImageConfig {
            build_id: machine.build_id(),
            application: self.setup.application,
            term: Term::FIRST,
            streams: STREAMS,
        };
        let found = match restore::read(files, source, self.setup.memory, config) {
            Ok(found) => found,
            Err(error) => self.end(&format!("hs.restore: {error}")),
        };
        let name = found.path;
        if let Some((path, why)) = found.refused {
            log::info!("{} is not used: {why}", path.as_str());
        }
        if let Some(error) = found.torn {
            log::warn!(
                "{}: what comes after its {} whole checkpoints was skipped: {error}",
                name.as_str(),
                found.checkpoints
            );
        }
        let (id, term) = (found.id, found.term);
        let (restored, service) = self.take_up(found.image, "hs.restore");
        service.reset_after_restore(machine.now());
        self.pair.lock().begin_in(term.next());
        self.tell_role();
        log::info!(
            "restored from checkpoint {id} of term {term}, in {}",
            name.as_str()
        );
        let announced = self.announce();
        self.begin_service(service);
        self.service().flush(announced);
        self.begin_checkpoints();
        self.start_pair();
        self.go_on(&restored, "hs.restore");
        self.tell_serving();
    }

    /// Gives checkpoints one more way to somewhere safe, beside the spare and the files of `hs.checkpoint-file`; the next
    /// one is full. The thesis's `hs_cpipe_load`. A pipe is no part of a checkpoint: a worker that is started again after a
    /// takeover loads its pipes again.
    ///
    /// # Errors
    /// This node is no master, or has as many sinks as possible: see [`LoadError`].
    pub fn load_pipe(&'static self, pipe: Box<dyn CheckpointPipe>, need: Need) -> Result<SinkId, LoadError> {
        let Some(checkpointer) = self.checkpointer.get() else {
            return Err(LoadError::NoMaster);
        };
        let pipe = Box::new(Retried::new(self, pipe));
        let sink = checkpointer.load_pipe(pipe, need)?;
        if need == Need::Required {
            self.await_other_sinks();
        }
        self.want_checkpoint();
        Ok(sink)
    }
}

/// Why a pipe was not loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoadError {
    /// Only a master takes checkpoints.
    NoMaster,
    /// There are as many sinks as possible.
    Full(PoolFull),
}

impl From<PoolFull> for LoadError {
    fn from(full: PoolFull) -> Self {
        Self::Full(full)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::NoMaster => f.write_str("a spare takes no checkpoints: load pipes on a master"),
            LoadError::Full(full) => full.fmt(f),
        }
    }
}

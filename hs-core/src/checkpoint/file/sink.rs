//! The files as a sink of checkpoints.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;

use super::super::{CheckpointId, CheckpointPipe, Kind, PipeError, PipeWriter};
use super::ledger::{Ledger, Turn};
use super::{CheckpointFiles, Scan};
use crate::format::Limits;
use crate::image;
use crate::platform::{FileError, FileHandle, Files, PageRange};
use crate::registry::descriptor::FileMode;
use crate::sync::{Condvar, Mutex, machine};

/// After a failure the files are tried again when this has passed.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Most cancellations that are remembered: more than checkpoints can be in flight.
const CANCELLED_MAX: usize = 64;

/// Writes checkpoints into two files, in turn.
pub struct FileSink(Arc<Shared>);

struct Shared {
    files: &'static dyn Files,
    names: CheckpointFiles,
    limits: Limits,
    build_id: [u8; 20],
    application: u64,
    state: Mutex<State>,
    changed: Condvar,
    grown: AtomicBool,
    /// Microseconds, at which to try again after a failure; 0 if there was none.
    retry_at: AtomicU64,
}

struct State {
    /// `None` until the first checkpoint has looked at what is there.
    ledger: Option<Ledger>,
    /// Somebody looks.
    looking: bool,
    handles: [Option<FileHandle>; 2],
    cancelled: VecDeque<CheckpointId>,
}

impl fmt::Debug for FileSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileSink").field(&self.0.names).finish()
    }
}

impl FileSink {
    /// Keeps checkpoints of the window `window` and of this build and application in files of a volume that is mounted, and stays so. What is in
    /// the files already is looked at, by the first checkpoint's child: the newest whole generation stays until there is a newer
    /// one.
    pub fn new(
        files: &'static dyn Files,
        names: CheckpointFiles,
        window: PageRange,
        build_id: [u8; 20],
        application: u64,
    ) -> Self {
        Self(Arc::new(Shared {
            files,
            names,
            limits: image::limits(window),
            build_id,
            application,
            state: Mutex::new(State {
                ledger: None,
                looking: false,
                handles: [None; 2],
                cancelled: VecDeque::with_capacity(CANCELLED_MAX),
            }),
            changed: Condvar::new(),
            grown: AtomicBool::new(false),
            retry_at: AtomicU64::new(0),
        }))
    }
}

impl CheckpointPipe for FileSink {
    fn open(&self, id: CheckpointId, kind: Kind) -> Result<Box<dyn PipeWriter>, PipeError> {
        Ok(Box::new(Writer {
            shared: Arc::clone(&self.0),
            id,
            kind,
            place: Place::Waiting,
            failed: false,
        }))
    }

    fn cancel(&self, id: CheckpointId) {
        let mut state = self.0.state.lock();
        if state.cancelled.len() == CANCELLED_MAX {
            state.cancelled.pop_front();
        }
        state.cancelled.push_back(id);
        self.0.changed.notify_all();
    }

    fn wants_full(&self) -> bool {
        match self.0.retry_at.load(Ordering::Relaxed) {
            0 => self.0.grown.load(Ordering::Relaxed),
            _ => !self.rests(),
        }
    }

    fn rests(&self) -> bool {
        machine().now().as_micros() < self.0.retry_at.load(Ordering::Relaxed)
    }
}

/// Where a writer's bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Its turn has not come.
    Waiting,
    /// Nowhere: there is a newer checkpoint.
    Nowhere,
    /// Into this file, at this offset, next.
    File {
        file: usize,
        handle: FileHandle,
        offset: u64,
    },
    /// All of them are in this file.
    Sealed { file: usize, handle: FileHandle },
    /// It has ended well.
    Ended,
}

/// The two files, open, and which of them holds the newest checkpoint.
type Looked = ([Option<FileHandle>; 2], Option<usize>);

struct Writer {
    shared: Arc<Shared>,
    id: CheckpointId,
    kind: Kind,
    place: Place,
    /// The file did not take it.
    failed: bool,
}

impl Writer {
    /// Waits for this checkpoint's turn.
    fn wait_for_turn(&mut self) -> Result<(), PipeError> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock();
        loop {
            if state.cancelled.contains(&self.id) {
                return Err(PipeError::Cancelled);
            }
            let Some(ledger) = &mut state.ledger else {
                if state.looking {
                    shared.changed.wait(&mut state, None);
                    continue;
                }
                state.looking = true;
                drop(state);
                let valid = shared.look();
                state = shared.state.lock();
                state.looking = false;
                match valid {
                    Ok((handles, valid)) => {
                        state.handles = handles;
                        state.ledger = Some(Ledger::new(valid));
                    }
                    Err((file, error)) => {
                        shared.changed.notify_all();
                        drop(state);
                        return Err(self.fail(file, error));
                    }
                }
                shared.changed.notify_all();
                continue;
            };
            match ledger.turn(self.id, self.kind) {
                Turn::Write { file, offset } => {
                    let handle = state.handles[file];
                    drop(state);
                    return self.begin(file, handle, offset);
                }
                Turn::Wait => shared.changed.wait(&mut state, None),
                Turn::Superseded => {
                    self.place = Place::Nowhere;
                    return Ok(());
                }
                Turn::Gone => return Err(PipeError::Failed),
            }
        }
    }

    /// Its turn has come: makes the file ready.
    fn begin(&mut self, file: usize, open: Option<FileHandle>, offset: u64) -> Result<(), PipeError> {
        let shared = Arc::clone(&self.shared);
        let ready = open.map_or_else(|| shared.open(file), Ok).and_then(|handle| {
            // What a lost checkpoint has left behind the end must not look like a part of this one.
            shared.files.truncate(handle, offset)?;
            Ok(handle)
        });
        match ready {
            Ok(handle) => {
                self.place = Place::File { file, handle, offset };
                Ok(())
            }
            Err(error) => {
                shared.complain(file, error);
                let mut state = shared.state.lock();
                if let Some(ledger) = &mut state.ledger {
                    ledger.dropped(file, self.id, false, true);
                }
                self.place = Place::Nowhere;
                shared.changed.notify_all();
                Err(PipeError::Failed)
            }
        }
    }

    fn fail(&mut self, file: usize, error: FileError) -> PipeError {
        self.failed = true;
        self.shared.complain(file, error);
        PipeError::Failed
    }

    fn is_cancelled(&self) -> bool {
        self.shared.state.lock().cancelled.contains(&self.id)
    }
}

impl Shared {
    /// Opens a file to write into.
    fn open(&self, file: usize) -> Result<FileHandle, FileError> {
        let handle = self
            .files
            .open(&self.names.paths()[file], FileMode::READ | FileMode::WRITE)?;
        self.state.lock().handles[file] = Some(handle);
        Ok(handle)
    }

    /// Opens both files, so that nobody else can write to them, and says which holds the newest checkpoint, from an
    /// earlier master. One that the disk cannot give is tried again when it is needed.
    ///
    /// # Errors
    /// Of this one nobody knows: it cannot be opened now, and must not be overwritten for that.
    fn look(&self) -> Result<Looked, (usize, FileError)> {
        let mut handles = [None; 2];
        let mut newest = [None; 2];
        for (file, path) in self.names.paths().iter().enumerate() {
            match self.files.open(path, FileMode::READ | FileMode::WRITE) {
                Ok(handle) => {
                    handles[file] = Some(handle);
                    let scan = Scan::of(self.files, handle, self.limits, &self.build_id, self.application);
                    newest[file] = scan.ok().and_then(|scan| scan.newest);
                }
                // A restore could not read it either.
                Err(FileError::Device | FileError::Full) => {}
                Err(error) => {
                    for handle in handles.into_iter().flatten() {
                        // Nothing was written to it.
                        let _ = self.files.close(handle);
                    }
                    return Err((file, error));
                }
            }
        }
        let valid = (0..2)
            .filter(|file| newest[*file].is_some())
            .max_by_key(|file| newest[*file]);
        Ok((handles, valid))
    }

    fn complain(&self, file: usize, error: FileError) {
        log::warn!(
            "no checkpoints go into {} for a while: {error}",
            self.names.paths()[file].as_str()
        );
        let retry_at = machine().now() + RETRY_AFTER;
        self.retry_at.store(retry_at.as_micros(), Ordering::Relaxed);
    }
}

impl PipeWriter for Writer {
    fn write(&mut self, bytes: &[u8]) -> Result<(), PipeError> {
        if self.place == Place::Waiting {
            self.wait_for_turn()?;
        }
        let Place::File { file, handle, offset } = self.place else {
            return Ok(());
        };
        if self.is_cancelled() {
            return Err(PipeError::Cancelled);
        }
        if let Err(error) = self.shared.files.write_at(handle, offset, bytes) {
            return Err(self.fail(file, error));
        }
        self.place = Place::File {
            file,
            handle,
            offset: offset + bytes.len() as u64,
        };
        Ok(())
    }

    fn seal(&mut self) -> Result<(), PipeError> {
        let Place::File { file, handle, offset } = self.place else {
            return Ok(());
        };
        let shared = &self.shared;
        let mut state = shared.state.lock();
        if let Some(ledger) = &mut state.ledger {
            ledger.sealed(file, self.id, offset);
            shared.grown.store(ledger.is_grown(), Ordering::Relaxed);
        }
        self.place = Place::Sealed { file, handle };
        shared.changed.notify_all();
        Ok(())
    }

    fn commit(mut self: Box<Self>) -> Result<(), PipeError> {
        self.seal()?;
        if let Place::Sealed { file, handle } = self.place {
            if let Err(error) = self.shared.files.sync(handle) {
                return Err(self.fail(file, error));
            }
            let mut state = self.shared.state.lock();
            if let Some(ledger) = &mut state.ledger {
                ledger.synced(file);
            }
            if self.kind == Kind::Full {
                self.shared.retry_at.store(0, Ordering::Relaxed);
            }
            self.shared.changed.notify_all();
        }
        self.place = Place::Ended;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.cancelled.retain(|id| *id != self.id);
        let (file, sealed) = match self.place {
            Place::File { file, .. } => (file, false),
            Place::Sealed { file, .. } => (file, true),
            Place::Waiting | Place::Nowhere | Place::Ended => return,
        };
        if let Some(ledger) = &mut state.ledger {
            ledger.dropped(file, self.id, sealed, self.failed);
        }
        self.shared.changed.notify_all();
    }
}

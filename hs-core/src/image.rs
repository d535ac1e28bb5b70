//! The spare's side: takes checkpoints in and keeps the window at the newest one.
//!
//! ```text
//! begin(id) ─ feed(id, bytes) … ─┐   several at once, in any order
//!                                ├─ staged: pages of their own, outside the window
//!                        whole, checksum right
//!                                ├─ applied when what it needs is there (see `checkpoint`: base)
//!                                └─ acknowledged: the window has it, or a newer one
//! ```
//!
//! A checkpoint is applied wholly or not at all, so that whenever the master dies the window holds a state that the
//! application was in. Pages enter the window by [`CheckpointMemory::place`]; a difference changes
//! the page that is there, by [`CheckpointMemory::patch`], once it is known that nothing can go wrong any more.
//!
//! Deliberately absent: asking for what is missing. The master dooms what a loss makes useless, and sends it again.

mod apply;
mod pieces;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::fmt;

use self::apply::Areas;
use self::pieces::Pieces;
use crate::event::Status;
use crate::format::{CheckpointId, Content, DecodeError, Decoder, Header, Item, Kind, Limits};
use crate::library;
use crate::platform::{CheckpointMemory, MapError, PageRange};
use crate::registry::Registered;
use crate::role::Term;

/// What an [`Image`] is told.
#[derive(Clone, Copy, Debug)]
pub struct ImageConfig {
    /// This build: no other's checkpoints are taken.
    pub build_id: [u8; 20],
    /// The application's own number: no other's checkpoints are taken.
    pub application: u64,
    /// The oldest term that checkpoints are taken from.
    pub term: Term,
    /// Most checkpoints taken in at once; one above that is refused. Twice the master's `ncon` is enough: as many may be
    /// in flight, and as many given up without this side having heard of it.
    pub streams: usize,
}

/// What came of a piece.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// More of the checkpoint is to come.
    More,
    /// The checkpoint is whole and undamaged.
    Complete {
        /// These are to be acknowledged to the master: all that the window holds now and did not before. It may be
        /// none, if one before is still missing, and others than this one.
        acknowledge: Vec<CheckpointId>,
        /// These waited for it, and could not be applied when their turn came: forgotten, to be reported as lost.
        refused: Vec<(CheckpointId, ImageError)>,
    },
}

/// Why a checkpoint was refused. It is forgotten then; the window is as it was, but for [`Broken`](ImageError::Broken).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImageError {
    /// No such checkpoint was begun (or it was refused or abandoned).
    Unknown(CheckpointId),
    /// It was begun before.
    Duplicate(CheckpointId),
    /// No more can be taken in at once.
    TooMany,
    /// It is damaged, or more than this node takes.
    Decode(DecodeError),
    /// Another build took it.
    WrongBuild,
    /// It is of another application.
    WrongApplication {
        /// Which.
        found: u64,
    },
    /// It is of a master that was replaced.
    OldTerm {
        /// Its term.
        found: Term,
        /// The newest term known.
        newest: Term,
    },
    /// It calls itself otherwise than its sender did.
    WrongId {
        /// How it calls itself.
        found: CheckpointId,
    },
    /// No memory is left to take it in.
    OutOfMemory,
    /// It has a difference to this page, which is not there: not mapped, or mapped anew by this checkpoint.
    NoPage(usize),
    /// It could not be applied, and the one before is lost too: only a full one will do.
    Broken(MapError),
}

impl From<DecodeError> for ImageError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageError::Unknown(id) => write!(f, "checkpoint {id} was never begun, or refused before"),
            ImageError::Duplicate(id) => write!(f, "checkpoint {id} was begun before"),
            ImageError::TooMany => f.write_str("no more checkpoints can be taken in at once"),
            ImageError::Decode(error) => error.fmt(f),
            ImageError::WrongBuild => f.write_str("it was taken by another build"),
            ImageError::WrongApplication { found } => write!(f, "it is of application {found:#x}"),
            ImageError::OldTerm { found, newest } => {
                write!(f, "it is of term {found}, and term {newest} has begun")
            }
            ImageError::WrongId { found } => write!(f, "it calls itself {found}"),
            ImageError::OutOfMemory => f.write_str("no memory is left to take it in"),
            ImageError::NoPage(page) => {
                write!(f, "it has a difference to page {page:#x}, which is not there")
            }
            ImageError::Broken(error) => {
                write!(
                    f,
                    "it could not be applied, and the image is lost until the next full one: {error}"
                )
            }
        }
    }
}

/// A checkpoint on its way in.
struct Stream {
    id: CheckpointId,
    decoder: Decoder,
    header: Option<Header>,
    registered: Registered,
    areas: Vec<PageRange>,
    pieces: Pieces,
    whole: bool,
}

/// What is in the window.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Newest {
    pub(crate) term: Term,
    pub(crate) id: CheckpointId,
}

/// The image of the master's checkpointable memory, in this machine's window.
pub struct Image {
    memory: &'static dyn CheckpointMemory,
    config: ImageConfig,
    term: Term,
    newest: Option<Newest>,
    registered: Registered,
    areas: Areas,
    streams: Vec<Stream>,
    status: Status,
}

/// What is taken of a checkpoint of `window` at most.
pub(crate) fn limits(window: PageRange) -> Limits {
    Limits {
        window,
        threads: library::THREADS_MAX as u32,
        descriptors: library::DESCRIPTORS_MAX as u32,
        signals: library::SIGNALS_MAX as u32,
        areas: 2 * library::AREAS_MAX as u32,
        pages: window.pages() as u64,
    }
}

impl Image {
    /// An empty image in `memory`, in whose window nothing is mapped.
    pub fn new(memory: &'static dyn CheckpointMemory, config: ImageConfig) -> Self {
        Self {
            memory,
            config,
            term: config.term,
            newest: None,
            registered: Registered::default(),
            areas: Areas::default(),
            streams: Vec::with_capacity(config.streams),
            status: Status::default(),
        }
    }

    /// A checkpoint begins to come in.
    ///
    /// # Errors
    /// It did before, or too many do.
    pub fn begin(&mut self, id: CheckpointId) -> Result<(), ImageError> {
        if self.streams.iter().any(|stream| stream.id == id) {
            return Err(ImageError::Duplicate(id));
        }
        if self.streams.len() >= self.config.streams {
            return Err(ImageError::TooMany);
        }
        self.streams.push(Stream {
            id,
            decoder: Decoder::new(limits(self.memory.window())),
            header: None,
            registered: Registered::default(),
            areas: Vec::new(),
            pieces: Pieces::default(),
            whole: false,
        });
        Ok(())
    }

    /// The next bytes of a checkpoint.
    ///
    /// # Errors
    /// The checkpoint is refused and forgotten: see [`ImageError`]. It is to be reported to the master as lost.
    pub fn feed(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<Progress, ImageError> {
        let index = self
            .streams
            .iter()
            .position(|stream| stream.id == id)
            .ok_or(ImageError::Unknown(id))?;
        let whole = match self.take_in(index, bytes) {
            Ok(whole) => whole,
            Err(error) => {
                self.streams.swap_remove(index);
                return Err(error);
            }
        };
        if !whole {
            return Ok(Progress::More);
        }
        self.status.taken += 1;
        self.settle(id)
    }

    fn take_in(&mut self, index: usize, mut bytes: &[u8]) -> Result<bool, ImageError> {
        let stream = &mut self.streams[index];
        let mut whole = false;
        while let Some(item) = stream.decoder.next(&mut bytes)? {
            match item {
                Item::Header(header) => {
                    if header.build_id != self.config.build_id {
                        return Err(ImageError::WrongBuild);
                    }
                    if header.application != self.config.application {
                        return Err(ImageError::WrongApplication {
                            found: header.application,
                        });
                    }
                    if header.term < self.term {
                        return Err(ImageError::OldTerm {
                            found: header.term,
                            newest: self.term,
                        });
                    }
                    if header.id != stream.id {
                        return Err(ImageError::WrongId { found: header.id });
                    }
                    stream.header = Some(header);
                }
                Item::Threads(workers) => stream.registered.workers = workers,
                Item::Descriptors(descriptors) => stream.registered.descriptors = descriptors,
                Item::Signals(signals) => stream.registered.signals = signals,
                Item::Areas(areas) => stream.areas = areas,
                Item::Run(range, Content::Zero) => stream.pieces.add_zero(range)?,
                Item::Run(..) | Item::Skipped { .. } => {}
                Item::Difference { page, difference } => {
                    stream.pieces.add_difference(self.memory, page, difference)?;
                }
                Item::Bytes { page, offset, bytes } => {
                    stream.pieces.add_bytes(self.memory, page, offset, bytes)?;
                }
                Item::End { total_bytes } => {
                    self.status.bytes += total_bytes;
                    stream.whole = true;
                    whole = true;
                }
            }
        }
        Ok(whole)
    }

    /// Applies what can be applied, oldest first, now that `completed` is whole.
    fn settle(&mut self, completed: CheckpointId) -> Result<Progress, ImageError> {
        let (mut acknowledge, mut refused) = (Vec::new(), Vec::new());
        while let Some(index) = self.next_settled() {
            let stream = self.streams.swap_remove(index);
            let (id, applied) = (stream.id, self.apply(stream));
            match applied {
                Ok(()) => acknowledge.push(id),
                // Whatever else is ready waited for it: it is the first.
                Err(error) if id == completed => return Err(error),
                Err(error) => refused.push((id, error)),
            }
        }
        Ok(Progress::Complete { acknowledge, refused })
    }

    fn next_settled(&self) -> Option<usize> {
        let ready = self.streams.iter().enumerate().filter(|(_, stream)| {
            stream.whole
                && stream
                    .header
                    .as_ref()
                    .is_some_and(|header| self.is_superseded(header) || self.fits(header))
        });
        ready.min_by_key(|(_, stream)| stream.id).map(|(index, _)| index)
    }

    /// The window has this one, or a later one of the same master.
    fn is_superseded(&self, header: &Header) -> bool {
        self.newest.is_some_and(|newest| {
            newest
                >= Newest {
                    term: header.term,
                    id: header.id,
                }
        })
    }

    /// What it needs is in the window.
    fn fits(&self, header: &Header) -> bool {
        match (header.kind, self.newest) {
            (Kind::Full, _) => true,
            (Kind::Incremental { .. }, None) => false,
            (Kind::Incremental { base }, Some(newest)) => {
                newest.term == header.term
                    && newest.id.generation == header.id.generation
                    && newest.id.increment >= base
            }
        }
    }

    fn apply(&mut self, stream: Stream) -> Result<(), ImageError> {
        let header = stream.header.expect("a whole checkpoint has a header");
        if self.is_superseded(&header) {
            return Ok(());
        }
        if let Err(error) = self.areas.apply(self.memory, &stream.areas, stream.pieces) {
            if matches!(error, ImageError::Broken(_)) {
                self.newest = None;
            }
            return Err(error);
        }
        self.newest = Some(Newest {
            term: header.term,
            id: header.id,
        });
        self.registered = stream.registered;
        self.observe_term(header.term);
        self.status.acked += 1;
        match header.kind {
            Kind::Full => self.status.full += 1,
            Kind::Incremental { .. } => self.status.incremental += 1,
        }
        Ok(())
    }

    /// The master gave this checkpoint up (and will give up those that need it). Of an unknown one, nothing.
    pub fn abandon(&mut self, id: CheckpointId) {
        let Some(index) = self.streams.iter().position(|stream| stream.id == id) else {
            return;
        };
        self.streams.swap_remove(index);
    }

    /// Forgets all checkpoints that are not applied: their master is gone.
    pub fn abandon_all(&mut self) {
        self.streams.clear();
    }

    /// Another master, or another life of the same, begins with a full checkpoint: whatever is held is not to be taken for a
    /// part of what comes, though it be numbered alike.
    pub fn start_over(&mut self) {
        self.abandon_all();
        self.newest = None;
    }

    /// Some master has this term: older ones' checkpoints are refused from here on.
    pub fn observe_term(&mut self, term: Term) {
        if term > self.term {
            self.term = term;
            self.streams
                .retain(|stream| stream.header.as_ref().is_none_or(|header| header.term >= term));
        }
    }

    /// The checkpoint that the window holds.
    pub fn newest(&self) -> Option<CheckpointId> {
        self.newest.map(|newest| newest.id)
    }

    /// Counters, as a spare understands them.
    pub fn status(&self) -> Status {
        Status {
            in_flight: self.streams.len() as u64,
            ..self.status
        }
    }

    /// What a restore needs: the memory, what it holds, its areas and what is registered.
    pub(crate) fn into_parts(
        self,
    ) -> (
        &'static dyn CheckpointMemory,
        Option<Newest>,
        Vec<PageRange>,
        Registered,
    ) {
        (self.memory, self.newest, self.areas.ranges(), self.registered)
    }
}

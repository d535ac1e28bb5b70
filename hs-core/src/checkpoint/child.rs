//! What a checkpoint child does. It has a small stack, so that everything large lies in its workspace.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::pool::{Crew, Tee};
use super::shadow::{Place, Progress};
use super::{CheckpointId, Kind, Loss, Shared};
use crate::fault::{self, Point};
use crate::format::{BUFFER_BYTES, Compression, Encoder, Form, Header, Packer, Tables};
use crate::library::{self, HookEntry, Library};
use crate::platform::{CheckpointMemory, ChildBody, EndedHook, Frozen, Outcome, PageRange};
use crate::registry::{Records, Registered, hook};
use crate::sync::{Mutex, machine};

/// For so many areas there is room at once.
const AREAS_FEW: usize = 64;

/// What a child needs room for: made once for each of the `ncon`, and used again.
pub(super) struct Workspace {
    buffer: Box<[u8]>,
    records: Records,
    /// Read from the records by the child.
    registered: Registered,
    areas: Vec<PageRange>,
    dirty: Vec<PageRange>,
    pub(super) place: Place,
    /// For the next child that works here.
    berth: Option<Berth>,
    /// Made by the first child that compresses.
    packer: Option<Packer>,
}

impl Workspace {
    /// For one of `ncon` children.
    pub(super) fn new(ncon: usize) -> Box<Self> {
        Box::new(Self {
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            records: Records::with_room(),
            registered: Registered::default(),
            areas: Vec::with_capacity(AREAS_FEW),
            dirty: Vec::new(),
            place: Place::among(ncon),
            berth: Some(Berth::new()),
            packer: None,
        })
    }

    /// Takes down what the sections say, in the pause.
    pub(super) fn collect(&mut self, library: &Library, memory: &dyn CheckpointMemory) {
        self.records.collect(library);
        library::installed(memory, &mut self.areas);
        let window = memory.window();
        self.areas.retain(|area| window.encloses(*area));
    }

    /// What the next child is made with.
    pub(super) fn take_berth(&mut self) -> Berth {
        self.berth.take().unwrap_or_else(Berth::new)
    }

    /// The hooks that were.
    pub(super) fn hooks(&self) -> &[HookEntry] {
        self.records.hooks()
    }

    /// The areas that were collected.
    pub(super) fn areas(&self) -> &[PageRange] {
        &self.areas
    }

    /// Pages of all areas that were collected.
    pub(super) fn installed_pages(&self) -> usize {
        self.areas.iter().map(|area| area.pages()).sum()
    }
}

/// What a child is made with: allocated by the child before it, because a heap may be long to search, and is not searched in a pause.
pub(super) struct Berth {
    pub(super) progress: Arc<Progress>,
    errand: Arc<Mutex<Errand>>,
    body: ChildBody,
    ended: EndedHook,
}

/// What a child is to do, and who is told of its end.
#[derive(Default)]
struct Errand {
    task: Option<Task>,
    told: Option<(Arc<Shared>, CheckpointId)>,
}

impl Berth {
    pub(super) fn new() -> Self {
        let errand = Arc::new(Mutex::new(Errand::default()));
        let (mine, its) = (Arc::clone(&errand), Arc::clone(&errand));
        Self {
            progress: Arc::default(),
            errand,
            body: Box::new(move |frozen| {
                let task = mine.lock().task.take();
                task.map_or(Outcome::Lost, |task| task.run(frozen))
            }),
            ended: Box::new(move |outcome| {
                let told = its.lock().told.take();
                if let Some((shared, id)) = told {
                    shared.ended(id, outcome);
                }
            }),
        }
    }

    /// Gives the child its task: what it runs, and what is called at its end.
    pub(super) fn fill(self, task: Task) -> (ChildBody, EndedHook) {
        let told = Some((Arc::clone(&task.shared), task.id));
        let task = Some(task);
        *self.errand.lock() = Errand { task, told };
        (self.body, self.ended)
    }
}

/// One checkpoint, to be encoded and sent.
pub(super) struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) id: CheckpointId,
    pub(super) kind: Kind,
    /// What it finds modified was modified since the checkpoint before it.
    pub(super) ends_epoch: bool,
    pub(super) progress: Arc<Progress>,
    /// Where it goes.
    pub(super) crew: Crew,
    pub(super) workspace: Box<Workspace>,
}

impl Task {
    pub(super) fn run(mut self, frozen: &dyn Frozen) -> Outcome {
        fault::passed(Point::ChildStarted);
        let mut tee = Tee::new(self.crew, Arc::clone(&self.progress));
        let sent = self.send(frozen, &mut tee);
        // What others have passed is theirs to free, not a pause's.
        self.workspace.place.ahead.clear();
        self.workspace.berth = Some(Berth::new());
        let mut state = self.shared.state.lock();
        state.workspaces.push(self.workspace);
        for sink in tee.failed() {
            state.pool.failed(sink, self.id);
        }
        if !state.pool.is_followed() {
            state.flights.want_full();
        }
        match sent {
            Ok(total_bytes) => {
                state.status.bytes += total_bytes;
                Outcome::Kept
            }
            Err(loss) => {
                let loss = if self.progress.is_doomed() {
                    Loss::Doomed
                } else {
                    loss
                };
                state.flights.report(self.id, loss);
                Outcome::Lost
            }
        }
    }

    fn send(&mut self, frozen: &dyn Frozen, tee: &mut Tee) -> Result<u64, Loss> {
        let Workspace {
            buffer,
            records,
            registered,
            areas,
            dirty,
            place,
            packer,
            ..
        } = &mut *self.workspace;
        registered.read(records);
        // Before any page is taken out of the view, or anything sent that could be called back.
        hook::call_in_child(records.hooks(), frozen).map_err(Loss::Hook)?;
        let window = self.shared.memory.window();
        query(frozen, dirty);
        dirty.retain(|range| window.encloses(*range));
        if self.ends_epoch {
            let dirty_pages = dirty.iter().map(|range| range.pages()).sum();
            self.shared.state.lock().policy.record(dirty_pages);
        }
        let ranges = match self.kind {
            Kind::Full => &*areas,
            Kind::Incremental { .. } => &*dirty,
        };
        let tables = Tables {
            threads: &registered.workers,
            descriptors: &registered.descriptors,
            signals: &registered.signals,
            areas,
        };
        let header = Header {
            build_id: machine().build_id(),
            application: self.shared.config.application,
            term: self.shared.config.term,
            id: self.id,
            kind: self.kind,
            window_start: window.start() as u64,
            window_pages: window.pages() as u64,
            threads: tables.threads.len() as u32,
            descriptors: tables.descriptors.len() as u32,
            signals: tables.signals.len() as u32,
            areas: tables.areas.len() as u32,
            pages: ranges.iter().map(|range| range.pages() as u64).sum(),
        };
        tee.open(self.id, self.kind).map_err(Loss::Pipe)?;
        let (shared, progress) = (&self.shared, &self.progress);
        let mut flush = |bytes: &[u8]| {
            if progress.is_doomed() {
                return Err(Loss::Doomed);
            }
            tee.write(bytes).map_err(Loss::Pipe)
        };
        let mut encoder = Encoder::begin(buffer, &mut flush, &header, &tables)?;
        if shared.config.compression == Compression::Lz4 && packer.is_none() {
            *packer = Some(Packer::new());
        }
        for address in ranges.iter().flat_map(|range| range.iter_pages()) {
            encoder.page_in_form(address, |page, shorter| {
                frozen.take_page(address, page).map_err(Loss::Frozen)?;
                if self.kind != Kind::Full
                    && let Some(len) = shared.shadow.send(place, address, page, shorter)
                {
                    return Ok(Form::Difference(len));
                }
                let packed = packer.as_mut().and_then(|packer| packer.pack(page, shorter));
                Ok(packed.map_or(Form::Whole, Form::Lz4))
            })?;
            progress.pass(address + 1);
        }
        progress.pass_all();
        let total_bytes = encoder.end()?;
        tee.commit().map_err(Loss::Pipe)?;
        Ok(total_bytes)
    }
}

/// All dirty ranges, however many there are: they are stable once asked for.
fn query(frozen: &dyn Frozen, dirty: &mut Vec<PageRange>) {
    const FEW: usize = 64;
    let placeholder = PageRange::new(0, 1).expect("a valid range");
    loop {
        dirty.resize(dirty.capacity().max(FEW), placeholder);
        let count = frozen.dirty(dirty);
        if count <= dirty.len() {
            dirty.truncate(count);
            return;
        }
        dirty.reserve(count - dirty.len());
    }
}

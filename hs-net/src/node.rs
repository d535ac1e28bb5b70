//! A node: the pair's state machine, the service stack and the library, joined with a machine's cards and threads.
//!
//! ```text
//! cluster card ──┐                        ┌── pipe <── checkpoint children (Background)
//!                ├─ pair thread (Urgent) ─┤
//! service card ──┘   rounds, heartbeats   └── messages ──> image thread (spare) ──> takeover
//!      ^
//!      └── front: the service stack <── the application's workers (Normal)
//! ```
//!
//! On a master the application's thread reads the service card, because it alone knows when it wants input; the peer's
//! heartbeats that it finds there go to the pair thread's inbox. On a spare the pair thread reads it, for heartbeats only.
//! The pair thread does a bounded amount of work a round and sleeps on one signal. Nothing polls.
//!
//! One mutex guards the pair's state machine, one the service stack, one what of the files is open on the disk, one the descriptor
//! table. The table's may be taken while the stack's or the disk's is held; otherwise none of these is held while another is
//! taken. Inbox, outbox and ear are taken last, by whoever has the pair or the stack. None is held while the checkpointer is told of a
//! spare that came or went: that may cancel transfers.

pub mod descriptors;
mod disk;
mod forward;
mod front;
mod pipe;
mod rounds;
mod serve;
mod spare;
mod turn;
mod watch;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;

use hs_core::checkpoint::{CheckpointError, CheckpointId, Checkpointer, CheckpointerConfig, Flags};
use hs_core::class::{Class, ClassId};
use hs_core::event::{Event, Status};
use hs_core::platform::{CheckpointMemory, Exit, Instant, Machine, Nic, Priority};
use hs_core::registry::thread::{self, Worker};
use hs_core::role::{Hearing, PairConfig, Role, Term};
use hs_core::roots::{self, RootId};
use hs_core::sync::{Condvar, Gate, Mutex, Signal};
use spin::Once;

use self::descriptors::{Disk, Table};
pub use self::disk::LoadError;
use self::forward::Outbox;
use self::front::Front;
pub use self::front::ServiceGuard;
use self::pipe::Pipe;
use self::rounds::{Inbox, PairThread};
pub use self::serve::{refuse, serve};
use self::spare::Takeover;
pub use self::turn::KEEP_LIMIT;
use crate::announce::Announcer;
use crate::channel::frame::Session;
use crate::ingress::Ear;
use crate::pair::{Pair, PairSettings};
use crate::raw;
use crate::service::{Service, ServiceConfig};
use crate::wire::HEADERS_LEN;

/// The class of the service stack. Not for applications.
pub const SERVICE_CLASS: ClassId = ClassId(u32::MAX);

/// After a checkpoint was lost the application is not asked for the next before this has passed: what refuses one may refuse
/// the next too.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// What a node is made of.
pub struct Start {
    /// The machine.
    pub machine: &'static dyn Machine,
    /// Its checkpointable memory.
    pub memory: &'static dyn CheckpointMemory,
    /// The card on the clients' network.
    pub service_nic: &'static dyn Nic,
    /// The card on the link between the nodes.
    pub cluster_nic: &'static dyn Nic,
    /// What it was told of its pair.
    pub pair: PairConfig,
    /// The application's own number: only nodes of the same one pair.
    pub application: u64,
    /// Makes the application's state and registers its workers, on a first master only. A restored one has both.
    pub start: fn(&'static Node) -> Result<(), String>,
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start")
            .field("pair", &self.pair)
            .field("application", &self.application)
            .finish_non_exhaustive()
    }
}

/// A running node. Nothing of it lies in checkpointable memory.
pub struct Node {
    setup: Start,
    pair: Mutex<Pair>,
    front: Mutex<Front>,
    checkpointer: Once<Checkpointer>,
    announcer: Mutex<Option<Announcer>>,
    descriptors: Mutex<Table>,
    /// A call on a file has ended.
    descriptor_idle: Condvar,
    /// What of the files is open on the disk: taken before the table.
    disk: Mutex<Disk>,
    /// The thread that changes files on the disk sleeps on this.
    write_back: Signal,
    /// Changes of files may be made that waited, or there is room for more.
    files_moved: Condvar,
    inbox: Mutex<Inbox>,
    /// What a spare hears of clients.
    ear: Mutex<Option<Ear>>,
    /// What a master has received and its spare is to hear, if it cannot listen for itself.
    forwarded: Mutex<Option<Outbox>>,
    takeover: Mutex<Option<Takeover>>,
    spare_status: Mutex<Status>,
    /// The pair thread sleeps on this.
    wake: Signal,
    /// The application sleeps on this.
    application: Signal,
    /// Checkpoint children wait on this for room and answers.
    room: Signal,
    /// The image thread sleeps on this.
    inbound: Signal,
    mounted: Mutex<bool>,
    checkpoint_wanted: AtomicBool,
    /// The application has told of changes that no checkpoint covers yet.
    changed: AtomicBool,
    /// Output waits for other sinks than the spare too: for files, or what the application has loaded.
    others_required: AtomicBool,
    /// Microseconds; 0 for never.
    retry_at: AtomicU64,
    /// A sink other than the spare has lost a checkpoint.
    sink_failed: AtomicBool,
    /// Whether each worker has a thread of its own even if it is alone.
    threaded: bool,
    /// The worker that the first thread is to call.
    direct: Mutex<Option<Worker>>,
    /// The first thread sleeps on this.
    first_thread: Signal,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("setup", &self.setup)
            .finish_non_exhaustive()
    }
}

static NODE: Once<&'static Node> = Once::new();

/// The node that this program is.
///
/// # Panics
/// Before [`run`]: there is none.
pub fn node() -> &'static Node {
    NODE.get()
        .expect("hs_net::node::run makes the node, and applications begin after that")
}

/// Makes a node and lives its life: a master's, or a spare's that may become a master. The thesis's `hs_init`. To be called
/// once, as the last thing that the first thread does.
///
/// # Panics
/// If it was called before.
pub fn run(start: Start) -> ! {
    live(start, true)
}

/// [`run`] for a program that is not threaded: if exactly one worker is registered, at the start or after a restore, no thread is
/// made for it, and the first thread calls it. (The thesis, `hs_thread(3)`: "the function worker() will simply be called
/// directly".) If more are, each has its thread all the same.
///
/// # Panics
/// As [`run`].
pub fn run_unthreaded(start: Start) -> ! {
    live(start, false)
}

fn live(start: Start, threaded: bool) -> ! {
    hs_core::sync::install(start.machine);
    assert!(NODE.get().is_none(), "a program is one node");
    let node = *NODE.call_once(|| Box::leak(Box::new(Node::new(start, threaded))));
    node.live();
    // The threads do the rest, or this one does the worker's.
    loop {
        let seen = node.first_thread.seen();
        let direct = node.direct.lock().take();
        match direct {
            Some(worker) => node.work(worker),
            None => node.first_thread.wait(seen, None),
        }
    }
}

impl Node {
    fn new(setup: Start, threaded: bool) -> Self {
        let machine = setup.machine;
        let config = &setup.pair;
        let settings = PairSettings {
            role: config.role,
            session: Session(machine.random_u64().max(1)),
            seed: machine.random_u64(),
            build: machine.build_id(),
            application: setup.application,
            heartbeat: config.heartbeat,
            deadline: config.deadline,
            datagram_len_max: setup.cluster_nic.frame_len_max().saturating_sub(HEADERS_LEN),
            ncon: config.ncon,
        };
        let pair = Pair::new(settings, machine.now());
        let front = Front::new(setup.service_nic.mac(), config);
        let forwarded = Outbox::of(config.hearing);
        Self {
            setup,
            pair: Mutex::new(pair),
            front: Mutex::new(front),
            checkpointer: Once::new(),
            announcer: Mutex::new(None),
            descriptors: Mutex::new(Table::new()),
            descriptor_idle: Condvar::new(),
            disk: Mutex::new(Disk::new()),
            write_back: Signal::new(),
            files_moved: Condvar::new(),
            inbox: Mutex::new(Inbox::new()),
            ear: Mutex::new(None),
            forwarded: Mutex::new(forwarded),
            takeover: Mutex::new(None),
            spare_status: Mutex::new(Status::default()),
            wake: Signal::new(),
            application: Signal::new(),
            room: Signal::new(),
            inbound: Signal::new(),
            mounted: Mutex::new(false),
            checkpoint_wanted: AtomicBool::new(false),
            changed: AtomicBool::new(false),
            others_required: AtomicBool::new(false),
            retry_at: AtomicU64::new(0),
            sink_failed: AtomicBool::new(false),
            threaded,
            direct: Mutex::new(None),
            first_thread: Signal::new(),
        }
    }

    fn live(&'static self) {
        let role = self.setup.pair.role;
        if let Some(fault) = self.setup.pair.fault {
            hs_core::fault::arm(fault);
        }
        let Session(session) = self.pair.lock().session();
        self.setup.machine.emit(&Event::Session { session });
        self.setup.cluster_nic.notify(&self.wake);
        match role {
            Role::Master => {
                self.setup.service_nic.notify(&self.application);
                match &self.setup.pair.restore {
                    Some(source) => self.begin_from(source),
                    None => self.begin_as_master(),
                }
            }
            Role::Spare => {
                self.tell_role();
                let pair = &self.setup.pair;
                *self.ear.lock() = Some(Ear::new(pair.service_mac(), pair.service.address));
                self.setup.service_nic.notify(&self.wake);
                self.watch_master();
                self.start_pair();
                self.spawn("image", Priority::Normal, move || spare::run(self));
            }
        }
    }

    fn start_pair(&'static self) {
        self.spawn("pair", Priority::Urgent, move || PairThread::new(self).run());
    }

    /// Tells what this node is.
    fn tell_role(&self) {
        let (role, term) = {
            let pair = self.pair.lock();
            (pair.role(), pair.term())
        };
        self.setup.machine.emit(&Event::Role { role, term });
    }

    fn begin_as_master(&'static self) {
        self.tell_role();
        self.mount();
        self.remove_signs();
        if let Err(error) = hs_core::start(self.setup.memory) {
            self.end(&format!("the library cannot start: {error}"));
        }
        match self.make_service() {
            Ok(service) => self.begin_service(service),
            Err(why) => self.end(&format!("the service stack cannot start: {why}")),
        }
        self.begin_checkpoints();
        self.start_pair();
        self.announce();
        if let Err(why) = (self.setup.start)(self) {
            self.end(&format!("the application cannot start: {why}"));
        }
        self.tell_serving();
        self.start_workers(&thread::workers());
    }

    fn make_service(&self) -> Result<&'static mut Service, String> {
        let machine = self.setup.machine;
        let mut config = ServiceConfig::new(self.setup.pair.service);
        config.connections_max = self.setup.pair.connections_max;
        config.frame_len_max = config.frame_len_max.min(self.setup.service_nic.frame_len_max());
        let class =
            Class::create(SERVICE_CLASS, config.memory_bytes()).map_err(|error| format!("{error}"))?;
        let mac = self.setup.pair.service_mac();
        let service = Service::create(&class, &config, mac, machine.random_u64(), machine.now())
            .map_err(|error| format!("{error}"))?;
        roots::set(RootId::SERVICE, raw::address_of(service)).map_err(|error| format!("{error}"))?;
        Ok(service)
    }

    /// From here on this machine speaks as the service.
    fn begin_service(&'static self, service: &'static mut Service) {
        self.front.lock().begin(service);
    }

    fn begin_checkpoints(&'static self) {
        let config = CheckpointerConfig {
            application: self.setup.application,
            term: self.pair.lock().term(),
            ncon: self.setup.pair.ncon,
            choice: self.setup.pair.checkpoint,
            shadow_pages: self.setup.pair.shadow_pages,
            compression: self.setup.pair.compression,
            ended: &self.application,
        };
        let pipe: &'static Pipe = Box::leak(Box::new(Pipe::new(self)));
        self.checkpointer
            .call_once(|| Checkpointer::new(self.setup.memory, pipe, config));
        self.keep_checkpoints();
        self.begin_write_back();
    }

    /// Says who has the service's address now: at once, and again for the first seconds. Returns the time after the first.
    fn announce(&self) -> Instant {
        let now = self.setup.machine.now();
        let mut announcer = Announcer::new(self.service_source(), &self.setup.pair, now);
        rounds::send_announcement(&mut announcer, self.setup.service_nic, now);
        let announced = self.setup.machine.now();
        *self.announcer.lock() = Some(announcer);
        self.wake.raise();
        announced
    }

    fn start_workers(&'static self, workers: &[Worker]) {
        if let ([worker], false) = (workers, self.threaded) {
            *self.direct.lock() = Some(*worker);
            self.first_thread.raise();
            return;
        }
        for &worker in workers {
            self.spawn("worker", Priority::Normal, move || self.work(worker));
        }
    }

    fn work(&self, worker: Worker) {
        if let Err(error) = worker.run() {
            self.end(&format!("{error}"));
        }
    }

    fn spawn(&self, name: &'static str, priority: Priority, body: impl FnOnce() + Send + 'static) {
        if let Err(error) = self.setup.machine.spawn(name, priority, Box::new(body)) {
            self.end(&format!("thread {name} cannot start: {error}"));
        }
    }

    fn tell_serving(&self) {
        if self.front.lock().newly_serving() {
            self.setup.machine.emit(&Event::Serving);
        }
    }

    /// Ends this node: it may not go on, and says why.
    fn end(&self, why: &str) -> ! {
        log::error!("{why}");
        self.setup.machine.emit(&Event::Exit { why: why.into() });
        self.setup.machine.exit(Exit::Refused)
    }

    /// A checkpoint was lost: the application will be asked for another.
    /// (Children call this: what lies in checkpointable memory is not theirs to touch.)
    fn checkpoint_lost(&self) {
        let at = self.setup.machine.now() + RETRY_AFTER;
        self.retry_at.store(at.as_micros(), Ordering::SeqCst);
        self.wake.raise();
    }

    fn retry_at(&self) -> Option<Instant> {
        match self.retry_at.load(Ordering::SeqCst) {
            0 => None,
            micros => Some(Instant::from_micros(micros)),
        }
    }

    /// Whether the application has told of changes that no checkpoint covers.
    fn unkept(&self) -> bool {
        self.changed.load(Ordering::SeqCst)
    }

    /// The hardware address that the service's frames leave from.
    fn service_source(&self) -> [u8; 6] {
        match self.setup.pair.hearing {
            Hearing::Own => self.setup.service_nic.mac(),
            Hearing::Forwarded => self.setup.pair.service_mac(),
        }
    }

    fn want_checkpoint(&self) {
        self.retry_at.store(0, Ordering::SeqCst);
        self.checkpoint_wanted.store(true, Ordering::SeqCst);
        self.application.raise();
    }

    // ------------------------------------------------------------------------------------- for applications

    /// The machine.
    pub fn machine(&self) -> &'static dyn Machine {
        self.setup.machine
    }

    /// What this node was told of its pair.
    pub fn config(&self) -> &PairConfig {
        &self.setup.pair
    }

    /// The service stack, locked. Let go of it before [`checkpoint`](Node::checkpoint), which takes the same lock.
    ///
    /// # Panics
    /// On a spare: applications run on masters.
    pub fn service(&'static self) -> ServiceGuard<'static> {
        ServiceGuard::new(self, self.front.lock())
    }

    /// The gate that workers enter to change checkpointable memory, if there are several of them. Enter it before the
    /// [service stack](Node::service) is locked: checkpoints take both in this order.
    pub fn gate(&self) -> &'static Gate {
        hs_core::sync::gate()
    }

    /// What the application's loop sleeps on: raised when frames have arrived, when a checkpoint has ended, and when one is
    /// [wanted](Node::checkpoint_wanted). Read [`seen`](Signal::seen) first, then look at everything, then wait.
    pub fn signal(&self) -> &Signal {
        &self.application
    }

    /// Takes a checkpoint: now, on this thread, at a moment at which the application's state is whole. The thesis's
    /// `hs_cpt`. It waits until nobody is inside the [gate](Node::gate), then until nobody has the service stack.
    ///
    /// # Errors
    /// See [`CheckpointError`]. With [`Flags::ASYNC`] an application may ignore them: without a spare or another sink there is
    /// nothing to do, and after anything else [`checkpoint_wanted`](Node::checkpoint_wanted) asks for the next.
    pub fn checkpoint(&self, flags: Flags) -> Result<CheckpointId, CheckpointError> {
        let Some(checkpointer) = self.checkpointer.get() else {
            return Err(CheckpointError::NoSpare);
        };
        self.checkpoint_wanted.store(false, Ordering::SeqCst);
        // What changes from here on is told again.
        let changed = self.changed.swap(false, Ordering::SeqCst);
        let result = checkpointer.checkpoint(flags, || self.quiesce());
        let nobody = matches!(
            result,
            Err(CheckpointError::NoSpare | CheckpointError::NotStarted)
        );
        if changed && result.is_err() && !nobody {
            self.changed.store(true, Ordering::SeqCst);
        }
        match result {
            Err(CheckpointError::NoSlot) => self.checkpoint_wanted.store(true, Ordering::SeqCst),
            Err(CheckpointError::Cptfork(_) | CheckpointError::Hook(_)) => self.checkpoint_lost(),
            // A lost one was counted where its pipe broke.
            Ok(_)
            | Err(
                CheckpointError::NoSpare
                | CheckpointError::NotStarted
                | CheckpointError::InsideGate
                | CheckpointError::Lost(..),
            ) => {}
        }
        result
    }

    /// Whether a checkpoint should be taken although nothing has changed: a spare or another sink has come that holds nothing, one was lost,
    /// or one could not be taken for want of a slot and now can.
    pub fn checkpoint_wanted(&self) -> bool {
        self.checkpoint_wanted.load(Ordering::SeqCst)
            && self
                .checkpointer
                .get()
                .is_some_and(|checkpointer| checkpointer.free_slots() > 0)
    }

    /// Counters of this node.
    pub fn status(&self) -> Status {
        let (retransmitted, silence_max) = {
            let pair = self.pair.lock();
            (pair.retransmitted(), pair.silence_max())
        };
        let status = match self.checkpointer.get() {
            Some(checkpointer) => checkpointer.status(),
            None => *self.spare_status.lock(),
        };
        Status {
            retransmitted,
            silence_max_us: silence_max.as_micros() as u64,
            ..status
        }
    }

    /// The term that it does it in.
    pub fn term(&self) -> Term {
        self.pair.lock().term()
    }

    /// Whether a spare holds a whole checkpoint of this node.
    pub fn has_spare(&self) -> bool {
        self.pair.lock().holds_image()
    }

    /// What this node does now.
    pub fn role(&self) -> Role {
        self.pair.lock().role()
    }
}

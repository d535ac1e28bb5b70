//! A machine on threads of `std`.

use core::fmt;
use std::boxed::Box;
use std::cell::Cell;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::vec::Vec;
use std::{thread, thread_local};

use crate::event::Event;
use crate::platform::{Exit, Files, Instant, Machine, Priority, SpawnError, THREAD_SLOTS};
use crate::raw::host::is_code;
use crate::sync;

/// Sleepers are told apart by their word's address, roughly.
const BEDS: usize = 64;
const EVENTS_MAX: usize = 4096;

/// Which slots living threads have.
static SLOTS: Mutex<[bool; THREAD_SLOTS]> = Mutex::new([false; THREAD_SLOTS]);

thread_local! {
    /// Needs no memory to be there, so that a global allocator can ask for it.
    static SCOPE: Cell<usize> = const { Cell::new(0) };
    static SLOT: Slot = Slot::take();
}

/// A thread's slot, taken when it first asks and given back when it ends.
struct Slot(usize);

impl Slot {
    fn take() -> Self {
        let mut slots = lock(&SLOTS);
        let free = slots.iter().position(|taken| !taken);
        let free = free.expect("no more threads ask for a slot at once than there are");
        slots[free] = true;
        Self(free)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&SLOTS)[self.0] = false;
    }
}

/// A [`Machine`] on an ordinary operating system. Priorities mean nothing on it.
#[derive(Debug)]
pub struct HostMachine {
    booted: std::time::Instant,
    beds: [(Mutex<()>, Condvar); BEDS],
    events: Mutex<VecDeque<Event>>,
    disk: Mutex<Disk>,
}

#[derive(Default)]
struct Disk(Option<&'static dyn Files>);

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Disk").field(&self.0.is_some()).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HostMachine {
    /// What [`Machine::build_id`] says.
    pub const BUILD_ID: [u8; 20] = *b"a build of the host ";

    /// Makes it the machine of this process, once.
    pub fn install() -> &'static Self {
        static MACHINE: OnceLock<HostMachine> = OnceLock::new();
        let machine = MACHINE.get_or_init(|| Self {
            booted: std::time::Instant::now(),
            beds: std::array::from_fn(|_| Default::default()),
            events: Mutex::default(),
            disk: Mutex::default(),
        });
        sync::install(machine);
        machine
    }

    /// Takes the events emitted since the last call; of more than 4096, the newest.
    pub fn take_events(&self) -> Vec<Event> {
        lock(&self.events).drain(..).collect()
    }

    /// Gives it a disk, or takes it away.
    pub fn set_files(&self, files: Option<&'static dyn Files>) {
        lock(&self.disk).0 = files;
    }

    fn bed(&self, word: &AtomicU32) -> &(Mutex<()>, Condvar) {
        &self.beds[(&raw const *word).addr() / align_of::<AtomicU32>() % BEDS]
    }
}

impl Machine for HostMachine {
    fn now(&self) -> Instant {
        Instant::from_micros(self.booted.elapsed().as_micros() as u64)
    }

    fn wall_clock(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn random_u64(&self) -> u64 {
        // Each state has keys of its own, from the operating system at first.
        RandomState::new().hash_one(())
    }

    fn spawn(
        &self,
        name: &'static str,
        _priority: Priority,
        body: Box<dyn FnOnce() + Send>,
    ) -> Result<(), SpawnError> {
        let spawned = thread::Builder::new().name(name.into()).spawn(body);
        spawned.map(drop).map_err(|_| SpawnError::TooManyThreads)
    }

    fn thread_slot(&self) -> usize {
        SLOT.with(|slot| slot.0)
    }

    fn yield_now(&self) {
        thread::yield_now();
    }

    fn wait(&self, word: &AtomicU32, expected: u32, deadline: Option<Instant>) {
        let (mutex, wakes) = self.bed(word);
        let guard = lock(mutex);
        if word.load(Ordering::SeqCst) != expected {
            return;
        }
        // Poisoned or timed out: callers look again in any case.
        match deadline {
            None => drop(wakes.wait(guard)),
            Some(deadline) => drop(wakes.wait_timeout(guard, deadline.since(self.now()))),
        }
    }

    fn wake(&self, word: &AtomicU32, _count: usize) {
        let (mutex, wakes) = self.bed(word);
        // Taken, so that no sleeper is between its look at the word and its sleep.
        drop(lock(mutex));
        wakes.notify_all();
    }

    fn lock_taken(&self) {}

    fn lock_released(&self) {}

    fn scope(&self) -> usize {
        SCOPE.get()
    }

    fn swap_scope(&self, scope: usize) -> usize {
        SCOPE.replace(scope)
    }

    fn files(&self) -> Option<&'static dyn Files> {
        lock(&self.disk).0
    }

    fn emit(&self, event: &Event) {
        let mut events = lock(&self.events);
        if events.len() == EVENTS_MAX {
            events.pop_front();
        }
        events.push_back(event.clone());
    }

    fn build_id(&self) -> [u8; 20] {
        Self::BUILD_ID
    }

    fn is_code(&self, address: usize) -> bool {
        is_code(address)
    }

    fn exit(&self, exit: Exit) -> ! {
        std::process::exit(i32::from(exit as u8) << 1 | 1)
    }
}

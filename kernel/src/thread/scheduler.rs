//! The table of threads and the choice of the next one.
//!
//! Everything is of fixed size, so that the choice never allocates: it runs in interrupts.

use alloc::boxed::Box;
use core::sync::atomic::Ordering;

use hs_core::platform::{Instant, Priority};

use crate::arch::trap::TrapFrame;
use crate::mem;
use crate::mem::paging::{self, Root};
use crate::mem::stacks::Stack;

/// Most threads at once: as many workers as the library registers, and the node's own.
pub const THREADS_MAX: usize = 192;

/// How long a thread runs before another of the same priority does.
const SLICE_US: u64 = 5_000;

const LEVELS: usize = 3;

/// A thread, by its place in the table. Reused after its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ThreadId(u8);

impl ThreadId {
    /// Its place in the table, below [`THREADS_MAX`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What a thread does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Runs, or could.
    Runnable,
    /// Sleeps until its key is woken or the deadline is there.
    Waiting {
        /// Address of the word that it waits on.
        key: usize,
        /// When it wakes anyway.
        deadline: Option<Instant>,
    },
    /// Has ended; its stack waits to be freed.
    Dead,
}

/// A thread.
pub(super) struct Thread {
    pub(super) name: &'static str,
    priority: Priority,
    pub(super) locks_held: u32,
    pub(super) state: State,
    pub(super) root: Root,
    /// The thread's word while it does not run: see [`scope`](super::scope).
    scope: usize,
    /// When its slice ends, if somebody more urgent stopped it in its course: it goes on with what is left.
    slice_end: Option<Instant>,
    frame: TrapFrame,
    /// Freed with the thread; none for the boot thread.
    stack: Option<Stack>,
}

impl Thread {
    pub(super) fn new(
        name: &'static str,
        priority: Priority,
        stack: Option<Stack>,
        frame: TrapFrame,
    ) -> Box<Thread> {
        Box::new(Thread {
            name,
            priority,
            locks_held: 0,
            state: State::Runnable,
            root: mem::kernel_root(),
            scope: 0,
            slice_end: None,
            frame,
            stack,
        })
    }

    /// Whoever holds a lock runs at the highest level, so that it soon lets go.
    fn level(&self) -> usize {
        if self.locks_held > 0 {
            LEVELS - 1
        } else {
            self.priority as usize
        }
    }
}

/// A queue of thread numbers that cannot overflow: each thread is in at most one.
#[derive(Clone, Copy)]
struct Queue {
    slots: [u8; THREADS_MAX],
    head: usize,
    len: usize,
}

impl Queue {
    const fn new() -> Self {
        Queue {
            slots: [0; THREADS_MAX],
            head: 0,
            len: 0,
        }
    }

    fn push_back(&mut self, thread: u8) {
        assert!(self.len < THREADS_MAX, "a thread is in at most one queue");
        self.slots[(self.head + self.len) % THREADS_MAX] = thread;
        self.len += 1;
    }

    fn push_front(&mut self, thread: u8) {
        assert!(self.len < THREADS_MAX, "a thread is in at most one queue");
        self.head = (self.head + THREADS_MAX - 1) % THREADS_MAX;
        self.slots[self.head] = thread;
        self.len += 1;
    }

    fn pop_front(&mut self) -> Option<u8> {
        if self.len == 0 {
            return None;
        }
        let thread = self.slots[self.head];
        self.head = (self.head + 1) % THREADS_MAX;
        self.len -= 1;
        Some(thread)
    }
}

/// The table, the queues of the ready, and who runs.
pub(super) struct Scheduler {
    threads: [Option<Box<Thread>>; THREADS_MAX],
    /// No place from here on was ever taken: what is looked through at each switch is as long as the program made it.
    places: usize,
    idle: Option<Box<Thread>>,
    /// The runnable ones but the running one, by level.
    ready: [Queue; LEVELS],
    /// The running thread; `None` is the idle thread.
    current: Option<u8>,
    slice_end: Instant,
    /// It has ended while the running thread held a lock and another waited: the switch comes when it lets go.
    slice_overdue: bool,
    /// Since when the idle thread has been running, if it does.
    idle_since: Instant,
    /// How long it has run before, in microseconds.
    idle_us: u64,
    /// When the timer will fire, if it is armed.
    pub(super) timer: Option<Instant>,
}

impl Scheduler {
    pub(super) const fn new() -> Self {
        Scheduler {
            threads: [const { None }; THREADS_MAX],
            places: 1,
            idle: None,
            ready: [Queue::new(); LEVELS],
            current: None,
            slice_end: Instant::from_micros(0),
            slice_overdue: false,
            idle_since: Instant::from_micros(0),
            idle_us: 0,
            timer: None,
        }
    }

    /// The context that calls becomes thread 0. Its frame is filled in when it is first switched away from.
    pub(super) fn adopt_boot_thread(&mut self) {
        // SAFETY: plain numbers, all bit patterns valid; never loaded before it is saved.
        let frame = unsafe { core::mem::zeroed() };
        self.threads[0] = Some(Thread::new("main", Priority::Normal, None, frame));
        self.current = Some(0);
    }

    pub(super) fn set_idle(&mut self, thread: Box<Thread>) {
        self.idle = Some(thread);
    }

    /// Adds a runnable thread, or gives it back if the table is full.
    pub(super) fn add(&mut self, thread: Box<Thread>) -> Result<ThreadId, Box<Thread>> {
        let Some(index) = self.threads.iter().position(Option::is_none) else {
            return Err(thread);
        };
        let level = thread.level();
        self.threads[index] = Some(thread);
        self.places = self.places.max(index + 1);
        self.ready[level].push_back(index as u8);
        Ok(ThreadId(index as u8))
    }

    /// A thread that has ended and does not run any more.
    pub(super) fn take_dead(&mut self) -> Option<Box<Thread>> {
        let current = self.current;
        let index = (0..self.places).find(|&index| {
            current != Some(index as u8)
                && self.threads[index]
                    .as_ref()
                    .is_some_and(|thread| thread.state == State::Dead)
        })?;
        self.threads[index].take()
    }

    pub(super) fn stack_top(&self, thread: ThreadId) -> u64 {
        let thread = self.threads.get(usize::from(thread.0)).and_then(Option::as_ref);
        thread
            .and_then(|thread| thread.stack.as_ref())
            .map_or(0, |stack| stack.top() as u64)
    }

    /// Place of the running thread in the table; `None` for the idle thread.
    pub(super) fn current_slot(&self) -> Option<usize> {
        self.current.map(usize::from)
    }

    pub(super) fn current_mut(&mut self) -> &mut Thread {
        let thread = match self.current {
            Some(index) => self.threads[index as usize].as_mut(),
            None => self.idle.as_mut(),
        };
        thread.expect("the running thread is in the table")
    }

    /// The running thread has had its turn.
    pub(super) fn end_slice(&mut self) {
        self.slice_end = Instant::from_micros(0);
    }

    /// Whether somebody else is to run now. Whoever is as urgent as the running thread waits for the timer, which is
    /// always armed for the end of the slice; that costs nothing here, in the pause of a cptfork above all.
    #[inline]
    pub(super) fn switch_due(&mut self) -> bool {
        if self.current.is_none() {
            return self.ready.iter().any(|queue| queue.len > 0);
        }
        let level = self.current_mut().level();
        self.more_urgent_ready(level)
            || (self.ready[level].len > 0 && (self.slice_overdue || self.timer.is_none()))
    }

    fn more_urgent_ready(&self, level: usize) -> bool {
        self.ready[level + 1..].iter().any(|queue| queue.len > 0)
    }

    fn make_ready(&mut self, index: usize) {
        let current = self.current;
        let thread = self.threads[index]
            .as_mut()
            .expect("only threads in the table are woken");
        thread.state = State::Runnable;
        // Woken between going to sleep and the switch: it simply goes on.
        if current != Some(index as u8) {
            let level = thread.level();
            self.ready[level].push_back(index as u8);
        }
    }

    /// Wakes up to `count` threads that wait on `key`; whether a switch is due.
    pub(super) fn wake(&mut self, key: usize, count: usize) -> bool {
        let all = (0..self.places as u8).map(ThreadId);
        let woken = all
            .filter(|thread| self.wake_if_waiting(*thread, key))
            .take(count)
            .count();
        woken > 0 && self.switch_due()
    }

    /// Wakes those of the threads in `set`, a bit for each from thread `first` on, that wait.
    pub(super) fn wake_all(&mut self, first: usize, set: u64) {
        let in_set = (0..u64::BITS as usize).filter(|bit| set >> bit & 1 != 0);
        for index in in_set.map(|bit| first + bit) {
            let waits = self.threads[index]
                .as_ref()
                .is_some_and(|thread| matches!(thread.state, State::Waiting { .. }));
            if waits {
                self.make_ready(index);
            }
        }
    }

    fn wake_if_waiting(&mut self, ThreadId(index): ThreadId, key: usize) -> bool {
        let waits = self.threads[usize::from(index)]
            .as_ref()
            .is_some_and(|thread| matches!(thread.state, State::Waiting { key: other, .. } if other == key));
        if waits {
            self.make_ready(usize::from(index));
        }
        waits
    }

    /// Wakes everyone whose deadline is there.
    pub(super) fn wake_expired(&mut self, now: Instant) {
        for index in 0..self.places {
            let expired = self.threads[index].as_ref().is_some_and(|thread| {
                matches!(thread.state, State::Waiting { deadline: Some(deadline), .. } if deadline <= now)
            });
            if expired {
                self.make_ready(index);
            }
        }
    }

    /// Chooses who runs, and makes `frame` the chosen one's. Whether that is another thread.
    pub(super) fn switch(&mut self, frame: &mut TrapFrame, now: Instant) -> bool {
        if let Some(index) = self.current {
            let slice_over = now >= self.slice_end;
            let current = self.current_mut();
            let level = current.level();
            let own_level = current.priority as usize;
            let runnable = current.state == State::Runnable;
            let more_urgent = self.more_urgent_ready(level);
            if runnable && !more_urgent && !(slice_over && self.ready[level].len > 0) {
                // A lock prolongs the slice only until it is let go: `switch_due` sees then that it is over.
                self.slice_overdue = slice_over && self.ready[own_level].len > 0;
                if slice_over && !self.slice_overdue {
                    self.slice_end = now + core::time::Duration::from_micros(SLICE_US);
                }
                return false;
            }
            if runnable {
                if slice_over {
                    self.ready[level].push_back(index);
                } else {
                    let slice_end = self.slice_end;
                    self.current_mut().slice_end = Some(slice_end);
                    self.ready[level].push_front(index);
                }
            }
        }
        let next = self.ready.iter_mut().rev().find_map(Queue::pop_front);
        if next == self.current {
            return false;
        }
        let is_idle = self.current.is_none();
        let previous = self.current_mut();
        // The idle thread has nothing to keep: it begins anew each time.
        if !is_idle {
            frame.complete();
            previous.frame.clone_from(frame);
        }
        previous.scope = super::SCOPE.load(Ordering::Relaxed);
        let previous_root = previous.root;
        if self.current.is_none() {
            self.idle_us += now.since(self.idle_since).as_micros() as u64;
        } else if next.is_none() {
            self.idle_since = now;
        }
        self.current = next;
        self.slice_overdue = false;
        let chosen = self.current_mut();
        let left = chosen.slice_end.take();
        self.slice_end = left.unwrap_or(now + core::time::Duration::from_micros(SLICE_US));
        let chosen = self.current_mut();
        frame.clone_from(&chosen.frame);
        super::SCOPE.store(chosen.scope, Ordering::Relaxed);
        if chosen.root != previous_root {
            // SAFETY: every root shares the kernel's part.
            unsafe { chosen.root.load() };
        }
        debug_assert_eq!(paging::current(), self.current_mut().root);
        true
    }

    /// How long the processor has had nothing to do so far, in microseconds, up to the idle thread's last turn.
    pub(super) fn idle_us(&self) -> u64 {
        self.idle_us
    }

    /// When the timer is needed next; `None` if nobody waits for a time.
    pub(super) fn next_timer(&mut self) -> Option<Instant> {
        let deadline = self.threads[..self.places]
            .iter()
            .flatten()
            .filter_map(|thread| match thread.state {
                State::Waiting { deadline, .. } => deadline,
                State::Runnable | State::Dead => None,
            })
            .min();
        // Armed although nobody may wait for the slice's end yet: whoever is woken in its course finds the timer set.
        let slice = self
            .current
            .filter(|_| !self.slice_overdue)
            .map(|_| self.slice_end);
        match (deadline, slice) {
            (Some(deadline), Some(slice)) => Some(deadline.min(slice)),
            (deadline, slice) => deadline.or(slice),
        }
    }
}

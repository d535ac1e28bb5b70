//! Threads: preemptive, strict between priorities, round robin within one.
//!
//! A stopped thread is a [`TrapFrame`]: preemption and the voluntary switch (a software interrupt) save and restore it in
//! the same way, but that a voluntary one, which is a call to the compiler, has no SSE state to keep. Sleeping is [`wait`] and
//! [`wake`] on a word, from which `hs_core::sync` builds locks and signals; the kernel has no other way to sleep.
//!
//! The timer is armed for the next deadline, or the end of the running thread's slice; an idle machine halts until an
//! interrupt.
//!
//! Deliberately absent: priorities that change, affinity, and any means to stop another thread.

mod scheduler;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use hs_core::class::outside_classes;
use hs_core::platform::{Instant, Priority, SpawnError};

use crate::arch::trap::{TrapFrame, VECTOR_SWITCH};
use crate::arch::{apic, gdt};
use crate::mem;
use crate::mem::paging::Root;
use crate::mem::stacks::Stack;
use crate::sync::IrqMutex;
use crate::time;
use scheduler::{Scheduler, State, Thread};

pub use scheduler::{THREADS_MAX, ThreadId};

/// Stack of an ordinary thread, in bytes.
pub const STACK_LEN: usize = 256 << 10;

const RFLAGS_INTERRUPTS_ON: u64 = 0x202;
/// x87 and SSE control words as after reset: all exceptions masked.
const FCW_DEFAULT: u16 = 0x37f;
const MXCSR_DEFAULT: u32 = 0x1f80;

#[unsafe(link_section = ".hot.1.scheduler")]
static SCHEDULER: IrqMutex<Scheduler> = IrqMutex::new(Scheduler::new());

/// A switch is due: looked at whenever interrupts come on again and at the end of every interrupt.
#[unsafe(link_section = ".hot.1.switch")]
static SWITCH_DUE: AtomicBool = AtomicBool::new(false);

/// Turns the boot context into the first thread and makes the idle thread.
///
/// # Panics
/// If there is no memory for the idle thread's stack.
pub fn init() {
    let mut scheduler = SCHEDULER.lock();
    scheduler.adopt_boot_thread();
    let stack = Stack::new(16 << 10).expect("RAM suffices for the idle thread");
    let frame = first_frame(&stack, idle as *const () as u64, 0);
    scheduler.set_idle(Thread::new("idle", Priority::Background, Some(stack), frame));
}

fn first_frame(stack: &Stack, entry: u64, argument: u64) -> TrapFrame {
    let selectors = gdt::selectors();
    let mut sse = [0; 512];
    sse[..2].copy_from_slice(&FCW_DEFAULT.to_le_bytes());
    sse[24..28].copy_from_slice(&MXCSR_DEFAULT.to_le_bytes());
    TrapFrame {
        sse,
        r15: 0,
        r14: 0,
        r13: 0,
        r12: 0,
        r11: 0,
        r10: 0,
        r9: 0,
        r8: 0,
        rdi: argument,
        rsi: 0,
        rbp: 0,
        rbx: 0,
        rdx: 0,
        rcx: 0,
        rax: 0,
        // As if it had called for a switch.
        vector: u64::from(VECTOR_SWITCH),
        error: 0,
        rip: entry,
        cs: u64::from(selectors.code.0),
        rflags: RFLAGS_INTERRUPTS_ON,
        // As after a call: the ABI wants the stack off by eight at a function's entry.
        rsp: stack.top() as u64 - 8,
        ss: u64::from(selectors.data.0),
    }
}

/// A thread's first function: what it was made for, then its end.
extern "C" fn run(body: *mut Box<dyn FnOnce() + Send>) -> ! {
    // SAFETY: `spawn` leaked it for this thread alone.
    let body = unsafe { Box::from_raw(body) };
    body();
    exit()
}

extern "C" fn idle() -> ! {
    loop {
        x86_64::instructions::interrupts::enable_and_hlt();
    }
}

/// A thread that was started: its number, and the means to wait for its end. Dropped, the thread goes on alone.
pub struct JoinHandle {
    id: ThreadId,
    ended: Arc<AtomicU32>,
}

impl JoinHandle {
    /// Which thread it is.
    pub fn id(&self) -> ThreadId {
        self.id
    }

    /// Sleeps until the thread has ended.
    pub fn join(self) {
        while self.ended.load(Ordering::SeqCst) == 0 {
            wait(&self.ended, 0, None);
        }
    }
}

/// Starts a thread that runs `body` and ends.
///
/// # Errors
/// The table of threads is full, or memory is.
pub fn spawn(
    name: &'static str,
    priority: Priority,
    stack_len: usize,
    body: Box<dyn FnOnce() + Send>,
) -> Result<JoinHandle, SpawnError> {
    // What the kernel knows of a thread is no class's, whoever asked for it.
    outside_classes(|| spawn_outside(name, priority, stack_len, body))
}

fn spawn_outside(
    name: &'static str,
    priority: Priority,
    stack_len: usize,
    body: Box<dyn FnOnce() + Send>,
) -> Result<JoinHandle, SpawnError> {
    reap();
    let stack = Stack::new(stack_len).ok_or(SpawnError::OutOfMemory)?;
    let ended = Arc::new(AtomicU32::new(0));
    let told = Arc::clone(&ended);
    let body: Box<dyn FnOnce() + Send> = Box::new(move || {
        body();
        told.store(1, Ordering::SeqCst);
        wake(&told, usize::MAX);
    });
    let body = Box::into_raw(Box::new(body));
    let frame = first_frame(&stack, run as *const () as u64, body as u64);
    let thread = Thread::new(name, priority, Some(stack), frame);
    let added = {
        let mut scheduler = SCHEDULER.lock();
        let added = scheduler.add(thread);
        if scheduler.switch_due() {
            SWITCH_DUE.store(true, Ordering::Relaxed);
        }
        added
    };
    added.map(|id| JoinHandle { id, ended }).map_err(|thread| {
        drop(thread);
        // SAFETY: no thread will run it.
        drop(unsafe { Box::from_raw(body) });
        SpawnError::TooManyThreads
    })
}

/// Frees the stacks of threads that have ended.
fn reap() {
    loop {
        // Dropped outside the lock.
        let dead = SCHEDULER.lock().take_dead();
        if dead.is_none() {
            return;
        }
    }
}

/// Ends the calling thread.
pub fn exit() -> ! {
    {
        let mut scheduler = SCHEDULER.lock();
        scheduler.current_mut().state = State::Dead;
        SWITCH_DUE.store(true, Ordering::Relaxed);
    }
    unreachable!("a dead thread is not chosen again")
}

/// Lets others of the same priority run.
pub fn yield_now() {
    let mut scheduler = SCHEDULER.lock();
    scheduler.end_slice();
    SWITCH_DUE.store(true, Ordering::Relaxed);
}

/// Sleeps while `word` is `expected`, until woken or `deadline`. May return early. The word must not lie in the
/// checkpoint window: the kernel reads it under a lock.
pub fn wait(word: &AtomicU32, expected: u32, deadline: Option<Instant>) {
    assert!(
        x86_64::instructions::interrupts::are_enabled(),
        "neither an interrupt handler nor whoever holds an IrqMutex can sleep"
    );
    let mut scheduler = SCHEDULER.lock();
    if word.load(Ordering::SeqCst) != expected || deadline.is_some_and(|deadline| deadline <= time::now()) {
        return;
    }
    scheduler.current_mut().state = State::Waiting {
        key: key(word),
        deadline,
    };
    SWITCH_DUE.store(true, Ordering::Relaxed);
}

/// Wakes up to `count` threads that wait on `word`. May be called by an interrupt handler.
pub fn wake(word: &AtomicU32, count: usize) {
    let mut scheduler = SCHEDULER.lock();
    if scheduler.wake(key(word), count) {
        SWITCH_DUE.store(true, Ordering::Relaxed);
    }
}

/// A set of threads, to be woken by [`wake_soon`].
#[unsafe(link_section = ".hot.1.soon")]
static WOKEN_SOON: [AtomicU64; THREADS_MAX / BITS] = [const { AtomicU64::new(0) }; THREADS_MAX / BITS];

/// Threads in a word of it.
const BITS: usize = u64::BITS as usize;
const _: () = assert!(THREADS_MAX.is_multiple_of(BITS) && THREADS_MAX <= 1 << u8::BITS);

/// Makes `thread`, which waits or is about to, runnable as of the next choice of a thread: at the latest when the slice of the
/// running one ends, for which the timer is armed. One bit, for the pause of a cptfork: the scheduler is not touched.
pub fn wake_soon(thread: ThreadId) {
    let (word, bit) = (thread.index() / BITS, thread.index() % BITS);
    WOKEN_SOON[word].fetch_or(1 << bit, Ordering::Relaxed);
}

/// The running thread's word of its own: the switch keeps the others'.
#[unsafe(link_section = ".hot.1.scope")]
static SCOPE: AtomicUsize = AtomicUsize::new(0);

/// Which class the calling thread's allocations go into: 0 for none. Whoever keeps interrupts off is the kernel, and allocates
/// for itself.
pub fn scope() -> usize {
    match SCOPE.load(Ordering::Relaxed) {
        0 => 0,
        scope if x86_64::instructions::interrupts::are_enabled() => scope,
        _ => 0,
    }
}

/// Gives the calling thread's word a new value, and returns the old one.
pub fn swap_scope(scope: usize) -> usize {
    // A switch in between keeps it, and brings it back.
    SCOPE.swap(scope, Ordering::Relaxed)
}

fn key(word: &AtomicU32) -> usize {
    core::ptr::from_ref(word) as usize
}

/// The calling thread holds one lock more, and runs at the highest priority for that long.
pub fn lock_taken() {
    SCHEDULER.lock().current_mut().locks_held += 1;
}

/// The calling thread holds one lock less.
pub fn lock_released() {
    let mut scheduler = SCHEDULER.lock();
    let current = scheduler.current_mut();
    current.locks_held = current.locks_held.saturating_sub(1);
    if scheduler.switch_due() {
        SWITCH_DUE.store(true, Ordering::Relaxed);
    }
}

/// Moves the calling thread into another address space.
///
/// # Safety
/// `root` shares the kernel's part, and stays until the thread leaves it.
pub unsafe fn enter_address_space(root: Root) {
    let mut scheduler = SCHEDULER.lock();
    let current = scheduler.current_mut();
    // A reload would cost the processor's translations.
    if current.root != root {
        current.root = root;
        // SAFETY: the caller's promise.
        unsafe { root.load() };
    }
}

/// Moves the calling thread back into the kernel's address space.
pub fn leave_address_space() {
    // SAFETY: the kernel's own root.
    unsafe { enter_address_space(mem::kernel_root()) };
}

/// How long the processor has had nothing to do since boot, in microseconds.
pub fn idle_us() -> u64 {
    SCHEDULER.lock().idle_us()
}

/// The calling thread's place in the table.
///
/// # Panics
/// In the idle thread, which has none and runs no code of others.
pub fn current_slot() -> usize {
    SCHEDULER
        .lock()
        .current_slot()
        .expect("the idle thread only halts")
}

/// The calling thread's name, if the scheduler is free to say (a panic may have happened inside it).
pub fn current_name() -> &'static str {
    SCHEDULER
        .try_lock()
        .map_or("(unknown)", |mut scheduler| scheduler.current_mut().name)
}

/// Where the stack of `thread` begins, to throw it out of what it does; 0 for the boot thread.
pub fn stack_top(thread: ThreadId) -> u64 {
    SCHEDULER.lock().stack_top(thread)
}

/// Whether the calling thread holds a lock, or the scheduler's own is taken. For the handler of a fault.
pub(crate) fn holds_lock() -> bool {
    SCHEDULER
        .try_lock()
        .is_none_or(|mut scheduler| scheduler.current_mut().locks_held > 0)
}

/// Interrupts have come on again: switch threads if one is due. Called when an
/// [`IrqMutex`] is released.
pub fn switch_point() {
    if SWITCH_DUE.load(Ordering::Relaxed) {
        // SAFETY: comes back when this thread is chosen again; the trap keeps no less than a call does.
        unsafe { core::arch::asm!("int {vector}", vector = const VECTOR_SWITCH, clobber_abi("C")) };
    }
}

/// The timer has fired.
pub fn timer_expired() {
    SCHEDULER.lock().timer = None;
    // Deadlines are looked at by the switch.
    SWITCH_DUE.store(true, Ordering::Relaxed);
}

/// At the end of an interrupt: wake who is due, choose, replace the frame, arm the timer. Whether it was replaced.
pub fn switch_if_needed(frame: &mut TrapFrame) -> bool {
    if !SWITCH_DUE.swap(false, Ordering::Relaxed) {
        return false;
    }
    let now = time::now();
    let mut scheduler = SCHEDULER.lock();
    for (word, soon) in WOKEN_SOON.iter().enumerate() {
        if soon.load(Ordering::Relaxed) != 0 {
            scheduler.wake_all(word * BITS, soon.swap(0, Ordering::Relaxed));
        }
    }
    scheduler.wake_expired(now);
    let switched = scheduler.switch(frame, now);
    // A timer that fires early is cheaper than one set anew at each switch.
    if let Some(next) = scheduler.next_timer()
        && scheduler.timer.is_none_or(|armed| next < armed)
    {
        apic::arm_timer(next.since(now).as_micros().max(1) as u64);
        scheduler.timer = Some(next);
    }
    switched
}

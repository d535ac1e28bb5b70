//! Checkpoint children: a pool of parked threads that are woken, never created, by `cptfork`.

use alloc::boxed::Box;
use alloc::string::ToString;
use core::sync::atomic::{AtomicU32, Ordering};

use hs_core::platform::{ChildBody, EndedHook, FrozenError, Outcome, Priority, SpawnError};
use spin::Once;

use super::settle::Settler;
use super::view::{View, each_span};
use super::{CHILDREN_MAX, STATE, State};
use crate::arch::trap::TrapFrame;
use crate::mem::frames;
use crate::mem::kernel_root;
use crate::mem::paging::Root;
use crate::sync::IrqMutex;
use crate::thread;

/// As urgent as the application: what clients were told is safe only once the child is done, and an application that
/// never rests would keep a less urgent one from it for ever.
const PRIORITY: Priority = Priority::Normal;

/// Stack of a child, in bytes.
const STACK_LEN: usize = 64 << 10;

const RFLAGS_INTERRUPTS: u64 = 1 << 9;

/// Set up by [`init`]: children in the pool.
static POOL: AtomicU32 = AtomicU32::new(0);

struct Slot {
    /// Goes up by one with each child that is started in this slot, and with each that has ended.
    turn: AtomicU32,
    body: IrqMutex<Option<ChildBody>>,
    ended: IrqMutex<Option<EndedHook>>,
    /// Its address space, kept from child to child: all but the window is shared, and that is empty between them.
    root: Once<Root>,
    /// Why the last look of the child failed.
    failed: IrqMutex<Option<FrozenError>>,
    /// Where the child's stack begins, to go on from when the child is thrown out of its work.
    stack_top: IrqMutex<u64>,
}

static SLOTS: [Slot; CHILDREN_MAX] = [const {
    Slot {
        turn: AtomicU32::new(0),
        body: IrqMutex::new(None),
        ended: IrqMutex::new(None),
        root: Once::new(),
        failed: IrqMutex::new(None),
        stack_top: IrqMutex::new(0),
    }
}; CHILDREN_MAX];

/// Makes the pool of `ncon` children, each a parked thread.
///
/// # Errors
/// No room for so many threads.
pub fn init(ncon: usize) -> Result<(), SpawnError> {
    for (number, slot) in SLOTS.iter().enumerate().take(ncon) {
        let frame = frames::allocate().ok_or(SpawnError::OutOfMemory)?;
        slot.root.call_once(|| kernel_root().share(frame));
        let body = Box::new(move || serve(number));
        let thread = thread::spawn("checkpoint", PRIORITY, STACK_LEN, body)?;
        *slot.stack_top.lock() = thread::stack_top(thread.id());
        POOL.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// A slot of the pool whose last child has ended, and its address space.
pub(super) fn free_slot(state: &State) -> Option<(usize, Root)> {
    let slot = (0..POOL.load(Ordering::Relaxed) as usize).find(|&slot| {
        state.children[slot].is_none() && SLOTS[slot].turn.load(Ordering::Relaxed).is_multiple_of(2)
    })?;
    Some((slot, *SLOTS[slot].root.get()?))
}

/// Wakes the child of `slot`, whose snapshot is in place, to run `body`, and `ended` once it is gone.
pub(super) fn start(slot: usize, body: ChildBody, ended: EndedHook) {
    *SLOTS[slot].body.lock() = Some(body);
    *SLOTS[slot].ended.lock() = Some(ended);
    SLOTS[slot].turn.fetch_add(1, Ordering::SeqCst);
    thread::wake(&SLOTS[slot].turn, 1);
}

/// The life of a pooled thread.
fn serve(slot: usize) {
    loop {
        let turn = SLOTS[slot].turn.load(Ordering::SeqCst);
        if turn.is_multiple_of(2) {
            thread::wait(&SLOTS[slot].turn, turn, None);
            continue;
        }
        run_child(slot);
    }
}

fn run_child(slot: usize) {
    let root = STATE.lock().children[slot]
        .as_ref()
        .expect("a started child has its snapshot")
        .root;
    // Dropped before the body is called: it may take long.
    let body = SLOTS[slot].body.lock().take();
    // SAFETY: the root shares the kernel's part; it is freed only by `end`, after we have left it.
    unsafe { thread::enter_address_space(root) };
    let outcome = body.map_or(Outcome::Lost, |body| body(&View { slot }));
    end(slot, outcome);
}

/// Leaves the child's address space, frees what only it held, retires or merges back its dirty bits, and says so.
fn end(slot: usize, outcome: Outcome) {
    thread::leave_address_space();
    // Taken before the slot is free: the next child brings its own.
    let ended = SLOTS[slot].ended.lock().take();
    each_span(|state, index| {
        // What was modified before its cptfork must not come to the next child's list.
        state.settle(index, Settler::Walk);
        let span = state.spans.known_mut(index);
        let view = span.forget(slot);
        if outcome == Outcome::Lost {
            span.soft_dirty |= view.dirty & span.installed;
        }
        state.unfreeze(index, view.wanted);
    });
    let mut state = STATE.lock();
    if let Some(mut child) = state.children[slot].take() {
        child.release();
        state.dirty_lately = child.dirty_pages;
    }
    SLOTS[slot].turn.fetch_add(1, Ordering::SeqCst);
    drop(state);
    if let Some(ended) = ended {
        ended(outcome);
    }
}

/// A look of the child in `slot` through its own address space cannot be granted: a bug of the child. It loses its
/// checkpoint for it, and what it owned is never dropped. `false` if it held a lock: then nobody could go on without it.
pub(super) fn access_failed(slot: usize, error: FrozenError, frame: &mut TrapFrame) -> bool {
    if frame.rflags & RFLAGS_INTERRUPTS == 0 || thread::holds_lock() {
        return false;
    }
    *SLOTS[slot].failed.lock() = Some(error);
    frame.rip = thrown_out as *const () as u64;
    frame.rdi = slot as u64;
    frame.rsp = *SLOTS[slot].stack_top.lock() - 8;
    frame.rbp = 0;
    true
}

/// Where a child goes on that touched what it may not: its work is given up, the thread goes back to the pool.
extern "C" fn thrown_out(slot: usize) -> ! {
    let why = SLOTS[slot].failed.lock().take();
    let why = why.map_or_else(|| "unknown".to_string(), |error| error.to_string());
    log::error!("a checkpoint child was stopped: {why}; its checkpoint is lost");
    end(slot, Outcome::Lost);
    serve(slot);
    unreachable!("a pooled thread serves for ever")
}

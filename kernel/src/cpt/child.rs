//! Checkpoint children: a pool of parked threads that are woken, never created, by `cptfork`.

use alloc::boxed::Box;
use alloc::string::ToString;
use core::sync::atomic::{AtomicU32, Ordering};

use hs_core::platform::{FrozenError, Outcome, Priority, SpawnError};

use super::settle::Settler;
use super::view::{View, each_span};
use super::{CHILDREN_MAX, STATE, State};
use crate::arch::trap::TrapFrame;
use crate::mem::frames;
use crate::mem::kernel_root;
use crate::mem::paging::Root;
use crate::thread::{self, ThreadId};

/// As urgent as the application: what clients were told is safe only once the child is done, and an application that
/// never rests would keep a less urgent one from it for ever.
const PRIORITY: Priority = Priority::Normal;

/// Stack of a child, in bytes.
const STACK_LEN: usize = 64 << 10;

const RFLAGS_INTERRUPTS: u64 = 1 << 9;

/// A place in the pool: its thread, and the address space that it lends to one child after the other, if that wants to
/// [enter](hs_core::platform::Frozen::enter) it. All but the window
/// is shared, and that is empty between them.
#[derive(Clone, Copy)]
pub(super) struct Seat {
    thread: ThreadId,
    root: Root,
}

/// What a pooled thread sleeps on: goes up by one with each child that is started in its slot, and with each that has ended.
#[unsafe(link_section = ".hot.1.turns")]
static TURNS: [AtomicU32; CHILDREN_MAX] = [const { AtomicU32::new(0) }; CHILDREN_MAX];

/// Makes the pool of `ncon` children, each a parked thread.
///
/// # Errors
/// No room for so many threads.
pub fn init(ncon: usize) -> Result<(), SpawnError> {
    for slot in 0..ncon.min(CHILDREN_MAX) {
        let frame = frames::allocate().ok_or(SpawnError::OutOfMemory)?;
        let root = kernel_root().share(frame);
        let thread = thread::spawn("checkpoint", PRIORITY, STACK_LEN, Box::new(move || serve(slot)))?;
        STATE.lock().seats[slot] = Some(Seat {
            thread: thread.id(),
            root,
        });
    }
    Ok(())
}

/// A slot of the pool whose last child has ended, and its address space.
pub(super) fn free_slot(state: &State) -> Option<(usize, Root)> {
    (0..CHILDREN_MAX).find_map(|slot| {
        let seat = state.seats[slot]?;
        let free = state.children[slot].is_none() && TURNS[slot].load(Ordering::Relaxed).is_multiple_of(2);
        free.then_some((slot, seat.root))
    })
}

/// Wakes the child of `slot`, whose snapshot is in place.
pub(super) fn start(state: &State, slot: usize) {
    TURNS[slot].fetch_add(1, Ordering::SeqCst);
    if let Some(seat) = state.seats[slot] {
        thread::wake_soon(seat.thread);
    }
}

/// The life of a pooled thread.
fn serve(slot: usize) {
    loop {
        let turn = TURNS[slot].load(Ordering::SeqCst);
        if turn.is_multiple_of(2) {
            thread::wait(&TURNS[slot], turn, None);
            continue;
        }
        run_child(slot);
    }
}

fn run_child(slot: usize) {
    let body = STATE.lock().children[slot]
        .as_mut()
        .expect("a started child has its snapshot")
        .body
        .take();
    let outcome = body.map_or(Outcome::Lost, |body| body(&View { slot }));
    end(slot, outcome);
}

/// Moves the calling child into its own address space.
pub(super) fn enter(slot: usize) {
    let Some(seat) = STATE.lock().seats[slot] else {
        return;
    };
    // SAFETY: the root shares the kernel's part, and lasts as long as the pool.
    unsafe { thread::enter_address_space(seat.root) };
}

/// Leaves the child's address space, frees what only it held, retires or merges back its dirty bits, and says so.
fn end(slot: usize, outcome: Outcome) {
    thread::leave_address_space();
    each_span(|state, index| {
        // What was modified before its cptfork must not come to the next child's list.
        state.settle(index, Settler::Walk);
        let span = state.spans.known_mut(index);
        if span.viewers >> slot & 1 == 0 {
            return;
        }
        let view = span.forget(slot);
        if outcome == Outcome::Lost {
            span.soft_dirty |= view.dirty & span.installed;
        }
        if let Some(child) = &mut state.children[slot] {
            child.release_span(index.start());
        }
        state.unfreeze(index, view.wanted);
        state.spans.forget_if_empty(index);
    });
    let mut state = STATE.lock();
    let mut child = state.children[slot].take();
    if let Some(child) = &mut child {
        child.release();
        state.dirty_lately = child.dirty_pages as usize;
    }
    TURNS[slot].fetch_add(1, Ordering::SeqCst);
    drop(state);
    if let Some(ended) = child.and_then(|child| child.ended) {
        ended(outcome);
    }
}

/// A look of the child in `slot` through its own address space cannot be granted: a bug of the child. It loses its
/// checkpoint for it, and what it owned is never dropped. `false` if it held a lock: then nobody could go on without it.
pub(super) fn access_failed(slot: usize, error: FrozenError, frame: &mut TrapFrame) -> bool {
    if frame.rflags & RFLAGS_INTERRUPTS == 0 || thread::holds_lock() {
        return false;
    }
    let mut state = STATE.lock();
    let (Some(seat), Some(child)) = (state.seats[slot], state.children[slot].as_mut()) else {
        return false;
    };
    child.failed = Some(error);
    drop(state);
    frame.rip = thrown_out as *const () as u64;
    frame.rdi = slot as u64;
    frame.rsp = thread::stack_top(seat.thread) - 8;
    frame.rbp = 0;
    true
}

/// Where a child goes on that touched what it may not: its work is given up, the thread goes back to the pool.
extern "C" fn thrown_out(slot: usize) -> ! {
    // It may have been thrown out of a class's scope.
    thread::swap_scope(0);
    let failed = STATE.lock().children[slot]
        .as_mut()
        .and_then(|child| child.failed.take());
    let why = failed.map_or_else(|| "unknown".to_string(), |error| error.to_string());
    log::error!("a checkpoint child was stopped: {why}; its checkpoint is lost");
    end(slot, Outcome::Lost);
    serve(slot);
    unreachable!("a pooled thread serves for ever")
}

//! Checkpoint children: a pool of parked threads that are woken, never created, by `cptfork`.

use alloc::boxed::Box;
use alloc::string::ToString;
use core::sync::atomic::{AtomicU32, Ordering};

use hs_core::platform::{
    ChildBody, EndedHook, Frozen, FrozenError, Outcome, PAGE_LEN, PageRange, Priority, SpawnError,
};

use super::window::mark_dirty;
use super::{CHILDREN_MAX, STATE, State};
use crate::arch::trap::TrapFrame;
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
        failed: IrqMutex::new(None),
        stack_top: IrqMutex::new(0),
    }
}; CHILDREN_MAX];

unsafe extern "C" {
    /// `trap.s`: copies a page; 0, or 1 if it cannot be read.
    fn try_copy_page(from: *const u8, to: *mut u8) -> u64;
    static try_copy_begin: u8;
    static try_copy_end: u8;
    static try_copy_failed: u8;
}

/// Makes the pool of `ncon` children, each a parked thread.
///
/// # Errors
/// No room for so many threads.
pub fn init(ncon: usize) -> Result<(), SpawnError> {
    for (number, slot) in SLOTS.iter().enumerate().take(ncon) {
        let body = Box::new(move || serve(number));
        let thread = thread::spawn("checkpoint", PRIORITY, STACK_LEN, body)?;
        *slot.stack_top.lock() = thread::stack_top(thread.id());
        POOL.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// A slot of the pool whose last child has ended.
pub(super) fn free_slot(state: &State) -> Option<usize> {
    (0..POOL.load(Ordering::Relaxed) as usize).find(|&slot| {
        state.children[slot].is_none() && SLOTS[slot].turn.load(Ordering::Relaxed).is_multiple_of(2)
    })
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
    let mut state = STATE.lock();
    if let Some(mut snapshot) = state.children[slot].take() {
        snapshot.release();
        crate::mem::frames::release(snapshot.root.frame());
        if outcome == Outcome::Lost {
            for page in snapshot.dirty.iter().flat_map(|range| range.iter_pages()) {
                mark_dirty(page);
            }
        }
    }
    SLOTS[slot].turn.fetch_add(1, Ordering::SeqCst);
    drop(state);
    if let Some(ended) = ended {
        ended(outcome);
    }
}

/// A look of the child in `slot` cannot be granted. In [`Frozen::copy_page`] that is an error to return; anywhere else it is
/// a bug of the child. It loses its checkpoint for it, and what it owned is never dropped. `false` if it held a lock:
/// then nobody could go on without it.
pub(super) fn access_failed(slot: usize, error: FrozenError, frame: &mut TrapFrame) -> bool {
    let copying = (&raw const try_copy_begin) as u64..(&raw const try_copy_end) as u64;
    *SLOTS[slot].failed.lock() = Some(error);
    if copying.contains(&frame.rip) {
        frame.rip = (&raw const try_copy_failed) as u64;
    } else if frame.rflags & RFLAGS_INTERRUPTS == 0 || thread::holds_lock() {
        return false;
    } else {
        frame.rip = thrown_out as *const () as u64;
        frame.rdi = slot as u64;
        frame.rsp = *SLOTS[slot].stack_top.lock() - 8;
        frame.rbp = 0;
    }
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

/// What a child's body is given.
struct View {
    slot: usize,
}

impl Frozen for View {
    fn dirty(&self, buffer: &mut [PageRange]) -> usize {
        let state = STATE.lock();
        let Some(snapshot) = &state.children[self.slot] else {
            return 0;
        };
        if let Some(room) = buffer.get_mut(..snapshot.dirty.len()) {
            room.copy_from_slice(&snapshot.dirty);
        }
        snapshot.dirty.len()
    }

    fn copy_page(&self, address: usize, into: &mut [u8; PAGE_LEN]) -> Result<(), FrozenError> {
        if !address.is_multiple_of(PAGE_LEN) || !super::window::window().contains(address) {
            return Err(FrozenError::OutsideView(address));
        }
        // SAFETY: `into` is a page of room; a fault in the source is caught.
        let failed = unsafe { try_copy_page(address as *const u8, into.as_mut_ptr()) };
        if failed == 0 {
            return Ok(());
        }
        Err(SLOTS[self.slot]
            .failed
            .lock()
            .take()
            .unwrap_or(FrozenError::OutsideView(address)))
    }
}

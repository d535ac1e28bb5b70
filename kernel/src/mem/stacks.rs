//! Stacks of threads: pages of their own, with an unmapped guard page below each.

use x86_64::PhysAddr;

use super::frames::{self, PhysFrame};
use super::kernel_root;
use super::layout::{PAGE_LEN, STACKS};
use super::paging::{self, DATA};
use crate::sync::IrqMutex;

/// Distance of two stacks: the longest stack and its guard.
const SLOT_LEN: usize = 2 << 20;
/// Most stacks at once: more than there are threads, as those of ended ones are freed later.
const SLOTS_MAX: usize = 256;

static USED: IrqMutex<[bool; SLOTS_MAX]> = IrqMutex::new([false; SLOTS_MAX]);

/// A stack, unmapped when dropped.
pub struct Stack {
    slot: usize,
    pages: usize,
}

impl Stack {
    /// A stack of `len_bytes`, rounded up to pages; `None` if frames or slots are used up, or it is empty or too long for a slot.
    pub fn new(len_bytes: usize) -> Option<Stack> {
        let pages =
            Some(len_bytes.div_ceil(PAGE_LEN)).filter(|pages| (1..SLOT_LEN / PAGE_LEN).contains(pages))?;
        // One lock for all of it: two stacks may share the page tables made on the way.
        let mut used = USED.lock();
        let slot = used.iter().position(|used| !used)?;
        // From here on `Drop` gives it back.
        used[slot] = true;
        let mut stack = Stack { slot, pages: 0 };
        while stack.pages < pages {
            let address = stack.top() - (stack.pages + 1) * PAGE_LEN;
            // SAFETY: the lock is held.
            let entry = unsafe { kernel_root().entry_or_create(address, &mut frames::allocate) };
            let (Ok(entry), Some(frame)) = (entry, frames::allocate()) else {
                drop(used);
                return None;
            };
            entry.set_addr(PhysAddr::new(frame.address()), DATA);
            stack.pages += 1;
        }
        Some(stack)
    }

    /// The address above the first push.
    pub fn top(&self) -> usize {
        STACKS + (self.slot + 1) * SLOT_LEN
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let mut used = USED.lock();
        for index in 1..=self.pages {
            let address = self.top() - index * PAGE_LEN;
            // SAFETY: the lock is held.
            if let Some(entry) = unsafe { kernel_root().entry(address) } {
                let frame = PhysFrame::at(entry.addr().as_u64());
                entry.set_unused();
                paging::flush(address);
                frames::release(frame);
            }
        }
        used[self.slot] = false;
    }
}

/// Whether `address` lies among the stacks. All that is mapped there can be read and written, so a fault at such an address
/// (but for a fetch) means that a stack ran over.
pub fn is_guard(address: usize) -> bool {
    (STACKS..STACKS + SLOTS_MAX * SLOT_LEN).contains(&address)
}

//! Sending the global allocator's work into a class.
//!
//! A library that knows nothing of classes allocates where everybody does. Inside [`with_class`] its blocks come from the
//! class instead, on this thread; what is freed or grown finds its class by its address, in whatever scope and on whatever
//! thread that happens.
//!
//! ```text
//! thread's word   0: no scope │ serial << 6 | place of the class
//! allocate        word 0 ─> the allocator below      else ─> the class
//! free, grow      outside the window ─> the allocator below      inside ─> the class of that area
//! ```
//!
//! The library and the kernel [`leave`] the scope for what they allocate on a thread's behalf: it is not part of the
//! application's state. A closure that is handed to [`Machine::spawn`](crate::platform::Machine::spawn) is boxed by the caller:
//! box it outside.
//!
//! Where a class is exhausted, the global allocator's contract knows only a null pointer: `try_reserve` says so, everything
//! else ends the program.

use core::alloc::Layout;

use super::Class;
use crate::library;
use crate::sync;

/// Runs `work` with the global allocator's work of this thread going into `class`, and returns what it returns. Scopes nest:
/// at its end the outer one is back. Needs [`Scoped`](crate::raw::Scoped) as the program's global allocator, which the kernel's
/// is.
///
/// The thread's stack is not kept, so what is to outlive a takeover has to be found from a [root](crate::roots).
pub fn with_class<R>(class: Class, work: impl FnOnce() -> R) -> R {
    let _outer = enter(class.scope_word());
    work()
}

/// Runs `work` outside every class, as the library and the kernel do for what is their own.
pub fn outside_classes<R>(work: impl FnOnce() -> R) -> R {
    let _outer = leave();
    work()
}

/// The scope that the thread was in; it is back when this is dropped.
#[must_use = "the scope is back as soon as this is dropped"]
#[derive(Debug)]
pub(crate) struct Outside {
    outer: usize,
}

impl Drop for Outside {
    fn drop(&mut self) {
        swap(self.outer);
    }
}

fn enter(word: usize) -> Outside {
    Outside { outer: swap(word) }
}

/// Before there is a machine there are no classes.
fn swap(word: usize) -> usize {
    sync::machine_if_installed().map_or(0, |machine| machine.swap_scope(word))
}

/// Leaves the scope, if there is one.
pub(crate) fn leave() -> Outside {
    enter(0)
}

/// The class that this thread's allocations go into.
#[inline]
pub(crate) fn current() -> Option<Class> {
    let word = sync::machine_if_installed()?.scope();
    (word != 0).then(|| Class::of_scope_word(word))
}

/// The class that `block`, an address in the window, belongs to.
///
/// # Panics
/// If it is in no area: whoever goes on with it would write to memory that is somebody else's.
pub(crate) fn owner(block: usize, layout: Layout) -> Class {
    let owner = library::lock_for_blocks()
        .as_ref()
        .and_then(|library| Class::owning(library, block));
    owner.unwrap_or_else(|| {
        panic!(
            "{block:#x} ({} bytes) cannot be freed: it lies in no class's area, or in that of a class that was discarded",
            layout.size()
        )
    })
}

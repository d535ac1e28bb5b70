//! From the addresses that the registries hold back to functions and states.

use core::ptr;

use crate::registry::hook::{FrozenView, Restored, Verdict};
use crate::registry::signal::SignalNumber;
use crate::registry::thread::Work;

/// Calls the function at `address`, which was a `fn(usize)` in this same build when it was registered, and lies in its
/// code (the caller has checked).
pub(crate) fn call_worker(address: usize, argument: usize) {
    // SAFETY: registration stores only the addresses of functions of this type; builds are compared before a checkpoint
    // is accepted, and code is loaded at the same address in each instance of a build.
    let worker: fn(usize) =
        unsafe { core::mem::transmute::<*const (), fn(usize)>(ptr::with_exposed_provenance(address)) };
    worker(argument);
}

/// Calls the function at `address`, which was a `fn(SignalNumber)` in this same build when it was registered, and lies in its
/// code (the caller has checked).
pub(crate) fn call_handler(address: usize, signal: SignalNumber) {
    // SAFETY: as in `call_worker`.
    let handler: fn(SignalNumber) =
        unsafe { core::mem::transmute::<*const (), fn(SignalNumber)>(ptr::with_exposed_provenance(address)) };
    handler(signal);
}

/// Calls the function at `address`, which was a `fn(usize) -> Verdict` in this same build when it was registered as a hook, and
/// lies in its code (`adopt` has checked).
pub(crate) fn call_hook(address: usize, argument: usize) -> Verdict {
    // SAFETY: as in `call_worker`; what is registered for this moment is of this type.
    let hook: fn(usize) -> Verdict = unsafe {
        core::mem::transmute::<*const (), fn(usize) -> Verdict>(ptr::with_exposed_provenance(address))
    };
    hook(argument)
}

/// The type of a child hook's function.
type ChildHook = fn(usize, &FrozenView<'_>) -> Verdict;

/// As [`call_hook`], for a function that was registered as a child hook.
pub(crate) fn call_child_hook(address: usize, argument: usize, view: &FrozenView<'_>) -> Verdict {
    // SAFETY: as in `call_hook`.
    let hook: ChildHook =
        unsafe { core::mem::transmute::<*const (), ChildHook>(ptr::with_exposed_provenance(address)) };
    hook(argument, view)
}

/// The function of a worker that is all of its state, at `argument`.
pub(crate) fn work<T: Work>(argument: usize) {
    let state = ptr::with_exposed_provenance_mut::<T>(argument);
    // SAFETY: registered only by `register_state`, with the address of a `T` in checkpointed memory whose one reference was given
    // up for it; after a restore the same bytes lie there, in the same build. A worker runs once at a time.
    unsafe { &mut *state }.work();
}

/// The restore hook of the state at `argument`.
pub(crate) fn restored<T: Restored>(argument: usize) -> Verdict {
    let state = ptr::with_exposed_provenance::<T>(argument);
    // SAFETY: registered only by `at_restore_of`, with the address of a `&'static T` in checkpointed memory; after a restore the
    // same bytes lie there, in the same build. It is shared, as `T: Sync` allows, and no root gives it out meanwhile.
    unsafe { &*state }.restored()
}

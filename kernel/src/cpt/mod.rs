//! Checkpointable memory: the window, `cptctl` and `cptfork`.
//!
//! ```text
//!   parent's tables             frames (holders)            a child's tables
//!   page 0  rw- dirty  ------>  A (1)
//!   page 1  r-- frozen ------>  B (1)            . . . . .  not there yet: filled by the child's fault from
//!                                                           the parent's entry, or by the parent's write
//!   page 2  rw- ------------->  C' (1)           C (1) <--  page 2 r--: the parent wrote, the child kept C
//! ```
//!
//! `cptfork` ([`eager`]) walks every entry of the installed ranges: it collects the hardware dirty bits, clears
//! them and write-protects the page. A child's view is what it may see: the dirty pages, or everything. As long
//! as the parent has not written to a page of the view, parent and child share its frame without the child's
//! having an entry for it. The parent's first write ([`fault`]) gives the frame to every live child that still
//! needs it, and goes on with a copy. A page that no child needs becomes writable without a copy.
//!
//! Frames for the copies and for the children's tables are set aside at `cptfork`. When they run dry all the same,
//! a child is cancelled: the application's write never fails.
//!
//! Dirty bits are retired when the child says that its checkpoint is kept; otherwise its pages are marked
//! [`SOFT_DIRTY`](crate::mem::paging::SOFT_DIRTY), which counts like the hardware's bit.
//!
//! All of it stands under one interrupt-safe lock, because page faults need it. Nothing that holds it touches the
//! window. The kernel knows nothing of the library that lives in the window.

#[cfg(not(test))]
pub mod child;
#[cfg(not(test))]
pub mod eager;
#[cfg(not(test))]
pub mod fault;
mod ranges;
#[cfg(not(test))]
mod snapshot;
#[cfg(not(test))]
mod state;
#[cfg(not(test))]
pub mod window;

#[cfg(not(test))]
pub use state::{CHILDREN_MAX, Counters, counters};
#[cfg(not(test))]
use state::{COUNTERS, STATE, State};

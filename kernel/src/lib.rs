//! The minimal kernel under a Hotspare guest.
//!
//! It boots, gives out memory, runs threads, drives a handful of virtio devices, and offers one thing that no
//! ordinary kernel has: memory that can be frozen at an instant and read at leisure ([`cpt`]). Application,
//! library and kernel are one image in one address space; there is no user mode, hence no system calls.
//!
//! An application is a function:
//!
//! ```text
//! kernel::entry!(main);
//! fn main(guest: &'static kernel::Guest) -> ! { … }
//! ```
//!
//! Boot order: entry.s (long mode, SSE) → segments and traps → serial ports → memory → timer → threads →
//! command line → devices → the application's `main` as the first thread.
//!
//! Rules that hold everywhere here:
//! - Interrupt handlers, and code that holds an [`IrqMutex`](sync::IrqMutex), never touch the checkpoint window: the
//!   running address space may be a child's.
//! - No allocation in interrupt handlers; they wake, no more.
//! - There is one CPU. What threads share is under locks all the same; flushes of the TLB and the switch of threads
//!   are not ready for a second.
//!
//! Deliberately absent: user mode, processes, paging to disk, anything that polls.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod cpt;
pub mod dev;
pub mod entropy;
pub mod files;
pub mod options;
pub mod symbols;

#[cfg(not(test))]
pub mod arch;
#[cfg(not(test))]
pub mod boot;
#[cfg(not(test))]
mod freestanding;
#[cfg(not(test))]
mod guest;
#[cfg(not(test))]
pub mod mem;
#[cfg(not(test))]
pub mod panic;
#[cfg(not(test))]
mod start;
#[cfg(not(test))]
pub mod sync;
#[cfg(not(test))]
pub mod thread;
#[cfg(not(test))]
pub mod time;

#[cfg(not(test))]
pub use guest::Guest;
#[cfg(not(test))]
pub use start::{boot, guest};

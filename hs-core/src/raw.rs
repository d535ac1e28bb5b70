//! The only module of this crate with `unsafe`: raw locks, raw checkpointable memory, the global allocator's way into it, and on
//! the host its stand-in.
#![allow(unsafe_code)]

#[cfg(feature = "std")]
pub(crate) mod host;
mod lock;
mod memory;
mod scope;

pub use lock::SleepingLock;
pub(crate) use memory::{Window, Words, call_handler, call_worker, expose, reclaim, work};
pub use scope::Scoped;

//! The only module of this crate with `unsafe`: raw locks, raw checkpointable memory, the global allocator's way into it, and on
//! the host its stand-in.
#![allow(unsafe_code)]

mod checkpoint_lock;
#[cfg(feature = "std")]
pub(crate) mod host;
mod lock;
mod memory;
mod registered;
mod scope;

pub use checkpoint_lock::CheckpointLock;
pub use lock::SleepingLock;
pub(crate) use memory::{Window, Words, copy_page, expose, reclaim};
pub(crate) use registered::{call_child_hook, call_handler, call_hook, call_worker, restored, work};
pub use scope::Scoped;

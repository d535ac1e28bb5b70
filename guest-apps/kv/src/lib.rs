//! A key-value server that outlives its machine: it speaks Redis's protocol and keeps its data in
//! checkpointable memory.
//!
//! This library is the server's logic alone, without I/O or a clock of its own: bytes and the time go in,
//! bytes come out. [`resp`] turns bytes into requests and replies into bytes, [`store`] keeps the data,
//! [`command`] does what a request says, [`server`] looks after the clients. The guest's `main.rs` joins
//! it with the kernel and the network; the tests run it on the host.
//!
//! Everything that must survive a takeover is generic over its [`Memory`], a class of checkpointable
//! memory in the guest. Allocation is fallible wherever a client decides how much: a client that asks for
//! too much gets Redis's `-OOM` and nothing else happens.
//!
//! Deliberately absent: types other than strings, databases other than 0, publish/subscribe, scripts,
//! transactions, persistence to disk, and RESP3.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod command;
pub mod glob;
pub mod number;
pub mod options;
pub mod quota;
pub mod resp;
pub mod server;
pub mod store;

use allocator_api2::alloc::Allocator;

/// Memory to keep things in: a class, or the heap in tests. Clones share it.
pub trait Memory: Allocator + Clone + 'static {}

impl<A: Allocator + Clone + 'static> Memory for A {}

/// Longest key or value, in bytes: what `CONFIG GET proto-max-bulk-len` says.
pub const BULK_LEN_MAX: usize = 1024 * 1024;

/// The release of Redis whose words and ways this server copies.
pub const REDIS_VERSION: &str = "7.0.15";

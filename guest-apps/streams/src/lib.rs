//! Streams of many bytes whose contents are checked: what an `iperf3` would do, with a hash at the end.
//!
//! A client connects and says in one line what it wants:
//!
//! | line | what follows |
//! |---|---|
//! | `sink LEN` | the client sends `LEN` bytes, or finishes earlier; the server answers `COUNT CRC32` and closes |
//! | `source LEN SEED` | the server sends the first `LEN` bytes of the [pattern](Pattern) of `SEED`, and closes |
//! | `echo` | the server sends back what it gets, until the client finishes, and closes |
//!
//! How far a stream has come lies in checkpointable memory with its connection, so after a takeover it goes on from there: a
//! byte that was lost, repeated or moved shows in the hash. The logic is free of I/O; a [`Transport`](hs_net::transport::Transport)
//! carries the bytes. Deliberately absent: figures. How fast a stream was, its client knows best.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod order;
mod pattern;
mod server;
mod stream;

pub use order::{Order, OrderError};
pub use pattern::Pattern;
pub use server::{NoMemory, Round, STREAMS_MAX, Server};
pub use stream::PIECE_BYTES;

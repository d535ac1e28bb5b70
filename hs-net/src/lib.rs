//! The pair on the network.
//!
//! Two machines hold one service: the master serves, and sends checkpoints to the spare, which takes over when the master
//! dies. This crate is everything between `hs-core`, which knows checkpoints, and the network cards.
//!
//! ```text
//! application ──> service (TCP, in checkpointable memory) ──> commit queue ──> service network
//!      │                                                                        ^  ^
//!      └─ node ─ pair ┬ heartbeat, detect ──────────────────────────────────────┘  │
//!                     ├ channel (reliable, over UDP) ─ wire ──> cluster link        │
//!                     └ at a takeover: announce (ARP) ─────────────────────────────┘
//! ```
//!
//! All of it but [`mod@node`] is state machines without I/O: events and `now` go in, actions come out.
//!
//! Deliberately absent: any `unsafe` outside the module `raw`, any clock or chance of its own.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod announce;
pub mod channel;
mod checksum;
pub mod commit;
pub mod detect;
pub mod heartbeat;
pub mod ingress;
pub mod node;
pub mod pair;
mod raw;
pub mod service;
#[cfg(test)]
mod sim;
pub mod transport;
pub mod wire;
pub mod writes;

pub use node::{Node, node};

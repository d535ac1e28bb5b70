//! The real SQLite as a server that outlives its machine: a shell over TCP, with the database in checkpointable memory.
//!
//! This library is the server without a network or a clock of its own. [`engine`] is SQLite: its allocator is a class of
//! checkpointable memory, its one database file lies in another, and its C variables lie in the checkpointed section, so that a
//! restored SQLite finds itself as it was. [`shell`] is what one client talks to, [`server`] looks after all of them. The
//! guest's `main.rs` joins it with the kernel and the pair; the tests run it on the host, over the same amalgamation.
//!
//! Each client has a connection of its own to SQLite, and so its own transaction: what it begins, it ends, or it is rolled back
//! when the client goes. Whoever wants to write meanwhile is told `database is locked`, as by SQLite on a shared file. All of that
//! lies in classes: at a takeover connections go on, and with them open transactions and half-read results.
//!
//! SQLite's own stack is in no checkpoint, so none is taken while it works out a row. What is told then waits: for as long as a
//! statement runs without a row, nobody hears anything, and a statement that its master did not finish begins again on the next.
//!
//! Deliberately absent: databases on disk (a backup goes there), `ATTACH` of files, extensions, full-text search, write-ahead
//! logs, and the commands of the `sqlite3` shell that are for scripts and files.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

#[allow(unsafe_code)]
pub mod engine;
pub mod options;
pub mod server;
pub mod shell;

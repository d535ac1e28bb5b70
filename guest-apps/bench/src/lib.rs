//! The plan of the benchmark program: what of it needs no guest, so that the host can test it and the peers on Linux
//! (`benches/peers`) write to the same pages.
//!
//! [`words`] reads what the program is to do, [`experiment`] names the experiments, [`pattern`] says which pages are modified
//! between two checkpoints, [`contents`] how long those are then, [`statistics`] makes figures of samples. The guest's `main.rs` and its modules do the measuring.
//!
//! Deliberately absent: sizes and numbers of runs, which stand with the experiment that they belong to.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod contents;
pub mod experiment;
pub mod pattern;
pub mod statistics;
pub mod words;

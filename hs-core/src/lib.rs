//! The Hot Spare library.
//!
//! An application says which memory is worth keeping ([`class`]), which workers to start again
//! ([`registry`]) and when ([`checkpoint`]). The library turns that into a checkpoint ([`format`]),
//! and a received checkpoint into the same application on another machine ([`image`], [`restore`]).
//!
//! It does no I/O and has no clock of its own: what it needs of the machine stands in [`platform`],
//! which a kernel fulfils. It knows nothing of networks; `hs-net` carries what it makes.
//!
//! In order: [`sync::install`] the machine; start the thread of [`signal`]s; [`start`] (or, after a restore, [`adopt`]) the library in its memory; make
//! classes, register workers; take checkpoints.
//!
//! Deliberately absent: any `unsafe` outside [`mod@raw`].
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod checkpoint;
pub mod class;
pub mod detection;
pub mod event;
pub mod fault;
pub mod figure;
pub mod format;
mod histogram;
#[cfg(feature = "std")]
pub mod host;
pub mod image;
mod library;
#[cfg(test)]
mod library_tests;
pub mod lines;
pub mod plain;
pub mod platform;
pub mod policy;
pub mod ranges;
pub mod raw;
pub mod registry;
pub mod restore;
pub mod role;
pub mod roots;
pub mod signal;
pub mod sync;
pub mod words;

/// The tests of `with_class` need it, and the others run on it too.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: raw::Scoped<std::alloc::System> = raw::Scoped::new(std::alloc::System);

pub use library::{
    AREAS_MAX, AdoptError, CLASSES_MAX, DESCRIPTORS_MAX, HOOKS_MAX, NotStarted, ROOTS_MAX, SIGNALS_MAX,
    StartError, THREADS_MAX, adopt, start, stop,
};

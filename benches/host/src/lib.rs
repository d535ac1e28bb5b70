//! What benchmarks without a guest share: mixed sizes for allocators, and the pool of blocks that they come and go in.
#![deny(unsafe_code)]

mod mixed;
pub mod pool;

pub use mixed::{Step, steps};

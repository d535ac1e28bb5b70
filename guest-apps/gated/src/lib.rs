//! Linked structures that are whole only between changes: what the checkpoint gate is tested with.
//!
//! Each change takes several steps, and breathes between them: other threads run, and a checkpoint that did not wait for
//! the change would find it half done. [`Rings::check`] and [`Tree::check`] say whether a structure is whole, and what is wrong
//! with it.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod dice;
mod rings;
mod tree;

pub use dice::Dice;
pub use rings::Rings;
pub use tree::Tree;

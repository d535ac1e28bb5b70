//! Checkpointable memory: the window, `cptctl` and `cptfork`.
//!
//! ```text
//!   parent's tables             frames                      a child's tables
//!   page 0  rw- dirty  ------>  A
//!   page 1  r-- frozen ------>  B    <. . . wanted . . . .  not there yet: the child looks at B, by the direct map or
//!                                                           by a fault that borrows it
//!   page 2  rw- ------------->  C    copy C' <------------  page 2 r--: the parent wrote, the child kept a copy
//! ```
//!
//! `cptfork` (`fork.rs`) makes a child that may look at what the window was, in one of three ways ([`Mode`]). In each the
//! pages of a child's view are *dirty* ones, or all; it *wants* a page as long as it has no frame of its own for it. The
//! parent's first write to such a page ([`fault`]) leaves a copy to the children that want it. A page that no child wants becomes
//! writable without a copy.
//!
//! - `lazy` takes the right to write away high up in the tree (`lazy.rs`): constant time. Each span is settled once,
//!   by the child or by the parent's first write into it (`settle.rs`).
//! - `eager` walks every entry, as in the thesis (`eager.rs`). `faults` has the write fault record what is modified (`bitmap.rs`).
//!
//! Frames for the copies and for the children's tables are set aside at `cptfork`. When they run dry all the same,
//! a child is cancelled: the application's write never fails.
//!
//! Dirty bits are retired when the child says that its checkpoint is kept; otherwise its pages count as dirty again.
//!
//! All of it stands under one interrupt-safe lock, because page faults need it. Nothing that holds it touches the
//! window. The kernel knows nothing of the library that lives in the window.

#[cfg(not(test))]
mod bitmap;
#[cfg(not(test))]
pub mod child;
#[cfg(not(test))]
mod eager;
#[cfg(not(test))]
pub mod fault;
#[cfg(not(test))]
mod fork;
#[cfg(not(test))]
mod lazy;
#[cfg(not(test))]
pub mod region;
#[cfg(not(test))]
mod routines;
#[cfg(not(test))]
mod settle;
#[cfg(not(test))]
mod snapshot;
#[cfg(not(test))]
mod span;
#[cfg(not(test))]
mod state;
#[cfg(not(test))]
mod view;
#[cfg(not(test))]
pub mod window;

use core::fmt;

#[cfg(not(test))]
pub use fork::{ModeError, Other, cptfork, flush_all, mode, set_mode};
#[cfg(not(test))]
pub use routines::{choose_routines, routines};
#[cfg(not(test))]
pub use state::{Counters, counters, known_spans};
#[cfg(not(test))]
use state::{STATE, State};

/// Most children at once, whatever `hs.ncon` says.
pub const CHILDREN_MAX: usize = 16;

/// How `cptfork` freezes: `hs.cptfork=lazy|eager|faults`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// In constant time, then span by span.
    #[default]
    Lazy,
    /// By a walk over every entry: the thesis's.
    Eager,
    /// What was modified is recorded by faults: the thesis's idea for machines without dirty bits.
    Faults,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 3] = [Mode::Lazy, Mode::Eager, Mode::Faults];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Lazy => "lazy",
            Mode::Eager => "eager",
            Mode::Faults => "faults",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

//! The installed ranges and the live children, under one lock; and what is counted of them.

use super::ranges::Ranges;
use super::snapshot::Snapshot;
use crate::sync::IrqMutex;

/// Most children at once, whatever `hs.ncon` says.
pub const CHILDREN_MAX: usize = 16;

/// The installed ranges and the live children.
pub(super) struct State {
    pub(super) ranges: Ranges,
    pub(super) children: [Option<Snapshot>; CHILDREN_MAX],
}

pub(super) static STATE: IrqMutex<State> = IrqMutex::new(State {
    ranges: Ranges::new(),
    children: [const { None }; CHILDREN_MAX],
});

/// Figures of the checkpoint machinery since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Write faults on protected pages.
    pub write_faults: u64,
    /// Of these, the ones that copied a page.
    pub copies: u64,
    /// Pages that children looked at by fault.
    pub child_faults: u64,
    /// Checkpoints cancelled because frames ran dry.
    pub cancelled: u64,
}

pub(super) static COUNTERS: IrqMutex<Counters> = IrqMutex::new(Counters {
    write_faults: 0,
    copies: 0,
    child_faults: 0,
    cancelled: 0,
});

/// Figures since boot.
pub fn counters() -> Counters {
    *COUNTERS.lock()
}

//! The Hot Spare library as an application uses it: classes, and checkpoints of them.
//!
//! The same code measures a guest alone, whose checkpoints go to a [`sink`], and a node of a pair.

pub(crate) mod checkpoint;
pub(crate) mod metadata;
pub(crate) mod pages;
pub(crate) mod program;
mod registered;
pub(crate) mod run;
mod sink;
pub(crate) mod taker;

use alloc::vec;
use alloc::vec::Vec;

use bench_plan::words::Freeze;
use hs_core::platform::{CheckpointMemory, Cptctl, PageRange};
use kernel::cpt::{self, Mode};

use crate::Context;
use crate::failure::Failure;

/// The benchmark's own number.
pub(crate) const APPLICATION: u64 = u64::from_be_bytes(*b"hsbench\x01");

/// Begins the library in a guest alone, to be frozen in the way of `mode` (as it is, if there is none).
///
/// # Errors
/// Something of an earlier measurement is still there.
fn start(context: Context, mode: Option<Mode>) -> Result<(), Failure> {
    if let Some(mode) = mode {
        cpt::set_mode(mode)?;
    }
    hs_core::start(context.guest).map_err(Failure::Start)
}

/// Purges and unmaps all that the library has installed.
///
/// # Errors
/// A child is still there.
fn clear(context: Context) -> Result<(), Failure> {
    let count = context.guest.cptctl(Cptctl::Installed(&mut []))?;
    let placeholder = PageRange::new(0, 1).expect("a valid range");
    let mut ranges: Vec<PageRange> = vec![placeholder; count];
    context.guest.cptctl(Cptctl::Installed(&mut ranges))?;
    context.guest.cptctl(Cptctl::PurgeAll)?;
    ranges
        .iter()
        .try_for_each(|range| context.guest.unmap(*range))
        .map_err(Failure::Map)
}

/// The kernel's word for it.
fn mode_of(freeze: Freeze) -> Mode {
    match freeze {
        Freeze::Lazy => Mode::Lazy,
        Freeze::Eager => Mode::Eager,
        Freeze::Faults => Mode::Faults,
    }
}

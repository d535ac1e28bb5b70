//! The Hot Spare library as an application uses it: classes, and checkpoints of them.
//!
//! The same code measures a guest alone, whose checkpoints go to a [`sink`], and a node of a pair.

pub(crate) mod checkpoint;
pub(crate) mod metadata;
pub(crate) mod pages;
pub(crate) mod program;
pub(crate) mod registered;
pub(crate) mod run;
pub(crate) mod scattered;
mod sink;
pub(crate) mod taker;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use bench_plan::words::Freeze;
use hs_core::plain::PlainMemory;
use hs_core::platform::{CheckpointMemory, Cptctl, PageRange};
use kernel::cpt::{self, Mode};

use crate::Context;
use crate::failure::Failure;

/// The benchmark's own number.
pub(crate) const APPLICATION: u64 = u64::from_be_bytes(*b"hsbench\x01");

/// Most checkpoints by plain copy at once.
const PLAIN_CHILDREN: usize = 16;

/// The memory that a guest alone has the library on, to be frozen as `freeze` says (as the kernel was told, if it is `None`).
/// Nothing of it is mapped yet.
///
/// # Errors
/// Something of an earlier measurement is still there.
fn memory(context: Context, freeze: Option<Freeze>) -> Result<&'static dyn CheckpointMemory, Failure> {
    let mode = match freeze {
        None => return Ok(context.guest.memory()),
        Some(Freeze::Plain) => {
            return Ok(Box::leak(Box::new(PlainMemory::new(
                context.guest,
                PLAIN_CHILDREN,
            ))));
        }
        Some(Freeze::Lazy) => Mode::Lazy,
        Some(Freeze::Eager) => Mode::Eager,
        Some(Freeze::Faults) => Mode::Faults,
    };
    cpt::set_mode(mode)?;
    Ok(context.guest)
}

/// Begins the library on a memory of its own.
///
/// # Errors
/// Something of an earlier measurement is still there.
fn start(context: Context, freeze: Option<Freeze>) -> Result<&'static dyn CheckpointMemory, Failure> {
    let memory = memory(context, freeze)?;
    hs_core::start(memory).map_err(Failure::Start)?;
    Ok(memory)
}

/// Purges and unmaps all that the library has installed.
///
/// # Errors
/// A child is still there.
fn clear(memory: &dyn CheckpointMemory) -> Result<(), Failure> {
    hs_core::stop();
    let count = memory.cptctl(Cptctl::Installed(&mut []))?;
    let placeholder = PageRange::new(0, 1).expect("a valid range");
    let mut ranges: Vec<PageRange> = vec![placeholder; count];
    memory.cptctl(Cptctl::Installed(&mut ranges))?;
    memory.cptctl(Cptctl::PurgeAll)?;
    ranges
        .iter()
        .try_for_each(|range| memory.unmap(*range))
        .map_err(Failure::Map)
}

//! What a program has registered besides its memory: the thesis's file descriptors, threads and signals.
//!
//! Records alone: nothing is opened, started or raised. They are in every checkpoint, whatever was modified, and so make
//! its headers longer: a descriptor by 96 bytes, a thread or a signal by 16. The pages of the library's tables that hold them
//! are modified when they are registered, not later.

use alloc::format;
use core::ops::Range;

use hs_core::registry::descriptor::{self, Descriptor, DescriptorKind, FileMode, FilePath};
use hs_core::registry::signal::{self, SignalNumber};
use hs_core::registry::thread;
use hs_core::signal::action;
use hs_core::sync::Signal;

use crate::failure::Failure;

/// Registers files under these numbers, each with a name and an offset of its own.
///
/// # Errors
/// The table is full.
pub(crate) fn descriptors(numbers: Range<usize>) -> Result<(), Failure> {
    for number in numbers {
        let name = format!("BENCH/FILE{number:04}.DAT");
        descriptor::register(Descriptor {
            number: number as u32,
            kind: DescriptorKind::File {
                path: FilePath::new(&name).expect("a name of eight and three letters"),
                mode: FileMode::READ | FileMode::WRITE,
                offset: number as u64 * 512,
            },
        })?;
    }
    Ok(())
}

/// Registers workers that have nothing to do, with these numbers as arguments.
///
/// # Errors
/// The table is full.
pub(crate) fn threads(numbers: Range<usize>) -> Result<(), Failure> {
    for number in numbers {
        thread::register(rest, number)?;
    }
    Ok(())
}

/// Handles and registers so many signals, each of which holds the others back: at most those that there are.
///
/// # Errors
/// One is registered already.
pub(super) fn signals(count: usize) -> Result<(), Failure> {
    for number in SignalNumber::ALL.into_iter().take(count) {
        let others = SignalNumber::ALL.into_iter().filter(|other| *other != number);
        action(number, note, others.map(SignalNumber::mask).collect());
        signal::register(number)?;
    }
    Ok(())
}

/// Deregisters those that [`descriptors`] has registered.
///
/// # Errors
/// One is not registered.
pub(crate) fn forget_descriptors(numbers: Range<usize>) -> Result<(), Failure> {
    for number in numbers {
        descriptor::deregister(number as u32)?;
    }
    Ok(())
}

/// Deregisters those that [`threads`] has registered.
///
/// # Errors
/// One is not registered.
pub(crate) fn forget_threads(numbers: Range<usize>) -> Result<(), Failure> {
    for number in numbers {
        thread::deregister(rest, number)?;
    }
    Ok(())
}

/// What a registered thread does: nothing, for ever.
fn rest(_: usize) {
    let rest = Signal::new();
    loop {
        rest.wait(rest.seen(), None);
    }
}

/// What is done at a registered signal.
fn note(_: SignalNumber) {}

//! Taking up the library state that a restore left in the window.
//!
//! It came from another machine: nothing of it is believed before it was looked at.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use super::{
    AREAS_MAX, DESCRIPTORS_MAX, HOOKS_MAX, LAYOUT_VERSION, LIBRARY_PAGES, Library, LibraryArea, MAGIC,
    SIGNALS_MAX, THREADS_MAX, installed, lock,
};
use crate::class::{ClassHeader, ClassId, ledger};
use crate::platform::{CheckpointMemory, PageRange};
use crate::registry::descriptor::{self, Descriptor};
use crate::registry::hook::Hook;
use crate::registry::signal::{self, Disposition, SignalAction};
use crate::sync::machine;

/// Why what lies in the window is not a library's state. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AdoptError {
    /// The start of the window is not checkpointable memory.
    NotMapped,
    /// No library was started here.
    BadMagic,
    /// A library with another layout was.
    WrongLayout {
        /// Its version.
        found: u32,
    },
    /// The window is another one.
    WrongWindow,
    /// The tables contradict themselves; which, and how.
    Damaged(&'static str),
    /// The tables and the installed ranges differ in this one.
    AreasDiffer(PageRange),
    /// A registered worker is not in this program's code.
    NotCode {
        /// Its address.
        worker: usize,
    },
    /// A registered hook is not in this program's code.
    HookNotCode {
        /// Its address.
        hook: usize,
    },
    /// A registered signal's handler is not in this program's code.
    HandlerNotCode {
        /// Its address.
        handler: usize,
    },
}

impl fmt::Display for AdoptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdoptError::NotMapped => f.write_str("the start of the window is not mapped and installed"),
            AdoptError::BadMagic => f.write_str("the window does not begin with a library's tables"),
            AdoptError::WrongLayout { found } => {
                write!(
                    f,
                    "the library's tables have layout {found}, this build knows {LAYOUT_VERSION}"
                )
            }
            AdoptError::WrongWindow => f.write_str("the library's tables are of another window"),
            AdoptError::Damaged(what) => write!(f, "the library's tables are damaged: {what}"),
            AdoptError::AreasDiffer(range) => write!(
                f,
                "the library's tables and the installed ranges differ in {range}"
            ),
            AdoptError::NotCode { worker } => {
                write!(f, "registered worker {worker:#x} is not in this program's code")
            }
            AdoptError::HookNotCode { hook } => {
                write!(f, "registered hook {hook:#x} is not in this program's code")
            }
            AdoptError::HandlerNotCode { handler } => {
                write!(
                    f,
                    "the registered signal handler {handler:#x} is not in this program's code"
                )
            }
        }
    }
}

/// Takes up the library state that lies in `memory`'s window, after a restore. What is done at registered signals is as it was
/// from here on, but they wait until [`signal::resume`](crate::signal::resume).
///
/// # Errors
/// See [`AdoptError`].
pub fn adopt(memory: &'static dyn CheckpointMemory) -> Result<(), AdoptError> {
    let window = memory.window();
    let own = PageRange::new(window.start(), LIBRARY_PAGES).ok_or(AdoptError::NotMapped)?;
    let mut ranges = Vec::new();
    installed(memory, &mut ranges);
    if !ranges.contains(&own) {
        return Err(AdoptError::NotMapped);
    }
    let mut library = lock();
    let found = Library::new(memory, ledger::of_restored());
    check(&found, own, &ranges)?;
    crate::signal::take_up(&found);
    found.take_office(&mut library);
    Ok(())
}

/// Checks the tables against themselves and against the `installed` ranges, of which `own` is one.
fn check(library: &Library, own: PageRange, installed: &[PageRange]) -> Result<(), AdoptError> {
    let tables = library.tables();
    if tables.magic != MAGIC {
        return Err(AdoptError::BadMagic);
    }
    if tables.layout_version != LAYOUT_VERSION || tables.pages as usize != LIBRARY_PAGES {
        return Err(AdoptError::WrongLayout {
            found: tables.layout_version,
        });
    }
    if tables.window_pages != library.window.range().pages() {
        return Err(AdoptError::WrongWindow);
    }
    let is_beyond = tables.area_count as usize > AREAS_MAX
        || tables.thread_count as usize > THREADS_MAX
        || tables.signal_count as usize > SIGNALS_MAX
        || tables.descriptor_count as usize > DESCRIPTORS_MAX
        || tables.hook_count as usize > HOOKS_MAX;
    if is_beyond {
        return Err(AdoptError::Damaged("a count is beyond its table"));
    }
    let mut known = vec![own];
    let mut end = own.end();
    for area in tables.areas() {
        let range = PageRange::new(area.start, area.pages as usize)
            .filter(|range| range.start() >= end && library.window.range().encloses(*range))
            .ok_or(AdoptError::Damaged("an area is out of place"))?;
        if tables.class(area.class as usize).is_none() {
            return Err(AdoptError::Damaged("an area is of no class"));
        }
        end = range.end();
        known.push(range);
    }
    known.extend(library.memory.statics().map(|statics| statics.range));
    if let Some(range) = known.iter().find(|range| !installed.contains(range)) {
        return Err(AdoptError::AreasDiffer(*range));
    }
    if let Some(range) = installed.iter().find(|range| !known.contains(range)) {
        return Err(AdoptError::AreasDiffer(*range));
    }
    check_classes(library, tables)?;
    check_registered(tables)
}

/// Checks the table of classes against the areas, which are sound.
fn check_classes(library: &Library, tables: &LibraryArea) -> Result<(), AdoptError> {
    for (place, class) in tables.classes() {
        if class.serial > tables.class_serial {
            return Err(AdoptError::Damaged("a class is newer than the newest"));
        }
        if tables
            .classes()
            .any(|(other, entry)| entry.id == class.id && other != place)
        {
            return Err(AdoptError::Damaged("two classes have the same id"));
        }
        let owner = tables.area_at(class.header);
        if !owner.is_some_and(|(area, owner)| area.start() == class.header && owner == place) {
            return Err(AdoptError::Damaged(
                "a class's header is not at the start of an area of its own",
            ));
        }
        let header = library.window.table::<ClassHeader>(class.header);
        if !header.is_of(ClassId(class.id)) {
            return Err(AdoptError::Damaged("a class's header is not one"));
        }
    }
    Ok(())
}

/// Checks the registries' tables, whose counts are sound.
fn check_registered(tables: &LibraryArea) -> Result<(), AdoptError> {
    let is_code = |address| machine().is_code(address);
    if let Some(thread) = tables.threads().iter().find(|thread| !is_code(thread.worker)) {
        return Err(AdoptError::NotCode {
            worker: thread.worker,
        });
    }
    if tables
        .hooks()
        .iter()
        .any(|entry| Hook::of_entry(*entry).is_none())
    {
        return Err(AdoptError::Damaged("a hook's record is none"));
    }
    if let Some(hook) = tables.hooks().iter().find(|hook| !is_code(hook.function)) {
        return Err(AdoptError::HookNotCode { hook: hook.function });
    }
    let signals = tables.signals().iter();
    let signals: Option<Vec<SignalAction>> = signals.map(|entry| SignalAction::of_entry(*entry)).collect();
    let signals = signals
        .filter(|signals| signal::repeated(signals).is_none())
        .ok_or(AdoptError::Damaged("a signal's record is none, or there twice"))?;
    let handled = |action: &&SignalAction| action.disposition() == Disposition::Handler;
    if let Some(action) = signals
        .iter()
        .filter(handled)
        .find(|action| !is_code(action.handler))
    {
        return Err(AdoptError::HandlerNotCode {
            handler: action.handler,
        });
    }
    let descriptors = tables.descriptors().iter();
    let descriptors: Option<Vec<Descriptor>> = descriptors.map(Descriptor::of_record).collect();
    descriptors
        .filter(|descriptors| descriptor::repeated(descriptors).is_none())
        .ok_or(AdoptError::Damaged(
            "a descriptor's record is none, or there twice",
        ))?;
    Ok(())
}

//! The tables before the pages: what is registered, and the memory areas. A record each.

use alloc::vec::Vec;

use super::DecodeError;
use super::header::{Header, Kind};
use super::limits::Limits;
use super::section::{AREAS, DESCRIPTORS, RECORD_LEN, SIGNALS, THREADS, u32_at, u64_at};
use crate::library::SignalEntry;
use crate::platform::{PAGE_LEN, PageRange};
use crate::registry::descriptor::{self, Descriptor};
use crate::registry::signal::{self, SignalAction};
use crate::registry::thread::Worker;

/// What a checkpoint has besides its pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tables<'a> {
    /// The registered workers.
    pub threads: &'a [Worker],
    /// The registered descriptors.
    pub descriptors: &'a [Descriptor],
    /// The registered signals.
    pub signals: &'a [SignalAction],
    /// The memory areas, ascending.
    pub areas: &'a [PageRange],
}

impl Tables<'_> {
    /// Whether `header` counts as many of each.
    pub(super) fn are_counted_by(&self, header: &Header) -> bool {
        let counts = [
            (header.threads, self.threads.len()),
            (header.descriptors, self.descriptors.len()),
            (header.signals, self.signals.len()),
            (header.areas, self.areas.len()),
        ];
        counts.into_iter().all(|(count, len)| count as usize == len)
    }
}

/// Length of a record of the table `kind`.
pub(super) const fn record_len(kind: u8) -> usize {
    if kind == DESCRIPTORS {
        descriptor::RECORD_LEN
    } else {
        RECORD_LEN
    }
}

/// How many records the table `kind` has, as `header` says.
pub(super) const fn count(header: &Header, kind: u8) -> u32 {
    match kind {
        THREADS => header.threads,
        DESCRIPTORS => header.descriptors,
        SIGNALS => header.signals,
        AREAS => header.areas,
        _ => 0,
    }
}

fn record(first: [u8; 8], second: u64) -> [u8; RECORD_LEN] {
    let mut record = [0; RECORD_LEN];
    record[..8].copy_from_slice(&first);
    record[8..].copy_from_slice(&second.to_le_bytes());
    record
}

pub(super) fn thread_record(worker: Worker) -> [u8; RECORD_LEN] {
    record((worker.function as u64).to_le_bytes(), worker.argument as u64)
}

pub(super) fn signal_record(action: SignalAction) -> [u8; RECORD_LEN] {
    let entry = action.to_entry();
    let first = u64::from(entry.mask) << 32 | u64::from(entry.flags) << 16 | u64::from(entry.number);
    record(first.to_le_bytes(), entry.handler as u64)
}

pub(super) fn area_record(window: PageRange, area: PageRange) -> [u8; RECORD_LEN] {
    let first = ((area.start() - window.start()) / PAGE_LEN) as u64;
    record(first.to_le_bytes(), area.pages() as u64)
}

/// Collects what `of` makes of each record of `len` bytes; `fault` names the first that is none.
fn collect<T>(
    bytes: &[u8],
    len: usize,
    mut of: impl FnMut(&[u8]) -> Option<T>,
    fault: impl Fn(u32) -> DecodeError,
) -> Result<Vec<T>, DecodeError> {
    let mut found = Vec::new();
    found
        .try_reserve_exact(bytes.len() / len)
        .map_err(|_| DecodeError::OutOfMemory)?;
    for (index, record) in bytes.chunks_exact(len).enumerate() {
        found.push(of(record).ok_or_else(|| fault(index as u32))?);
    }
    Ok(found)
}

pub(super) fn threads_of(bytes: &[u8]) -> Result<Vec<Worker>, DecodeError> {
    let of = |record: &[u8]| {
        Some(Worker {
            function: usize::try_from(u64_at(record, 0)).ok()?,
            argument: usize::try_from(u64_at(record, 8)).ok()?,
        })
    };
    collect(bytes, RECORD_LEN, of, |_| DecodeError::BadThread)
}

/// The descriptors, each of another number.
pub(super) fn descriptors_of(bytes: &[u8]) -> Result<Vec<Descriptor>, DecodeError> {
    let of = |record: &[u8]| Descriptor::of_record(record.try_into().ok()?);
    let found = collect(bytes, descriptor::RECORD_LEN, of, DecodeError::BadDescriptor)?;
    match descriptor::repeated(&found) {
        Some(index) => Err(DecodeError::BadDescriptor(index as u32)),
        None => Ok(found),
    }
}

/// The signals, each once. Whether their handlers are code is looked at when they are taken up.
pub(super) fn signals_of(bytes: &[u8]) -> Result<Vec<SignalAction>, DecodeError> {
    let of = |record: &[u8]| {
        SignalAction::of_entry(SignalEntry {
            number: u32_at(record, 0) as u16,
            flags: (u32_at(record, 0) >> 16) as u16,
            mask: u32_at(record, 4),
            handler: usize::try_from(u64_at(record, 8)).ok()?,
        })
    };
    let found = collect(bytes, RECORD_LEN, of, DecodeError::BadSignal)?;
    match signal::repeated(&found) {
        Some(index) => Err(DecodeError::BadSignal(index as u32)),
        None => Ok(found),
    }
}

/// The areas: in the window, ascending, and of a full checkpoint as many pages as it has.
pub(super) fn areas_of(
    limits: &Limits,
    header: &Header,
    bytes: &[u8],
) -> Result<Vec<PageRange>, DecodeError> {
    let mut end = 0;
    let of = |record: &[u8]| {
        let area = area_of(limits.window, record).filter(|area| area.start() >= end)?;
        end = area.end();
        Some(area)
    };
    let areas = collect(bytes, RECORD_LEN, of, DecodeError::BadArea)?;
    let pages = areas.iter().map(|area| area.pages() as u64).sum();
    if pages > limits.pages {
        return Err(DecodeError::TooMany {
            what: "pages in areas",
            count: pages,
            limit: limits.pages,
        });
    }
    if header.kind == Kind::Full && pages != header.pages {
        return Err(DecodeError::NotFull {
            areas: pages,
            pages: header.pages,
        });
    }
    Ok(areas)
}

/// The area, if it lies in `window`.
fn area_of(window: PageRange, record: &[u8]) -> Option<PageRange> {
    let (first, pages) = (u64_at(record, 0), u64_at(record, 8));
    let end = first.checked_add(pages)?;
    if end > window.pages() as u64 {
        return None;
    }
    PageRange::new(
        window.start() + usize::try_from(first).ok()? * PAGE_LEN,
        usize::try_from(pages).ok()?,
    )
}

//! Sections and what they consist of.

use crate::platform::{PAGE_LEN, PageRange};
use crate::registry::thread::Worker;

/// Flag of a section that a decoder must understand.
pub const REQUIRED: u8 = 1;

pub(super) const THREADS: u8 = 1;
pub(super) const AREAS: u8 = 2;
pub(super) const PAGES: u8 = 3;
pub(super) const END: u8 = 0x7f;

pub(super) const SECTION_HEADER_LEN: usize = 8;
pub(super) const RECORD_LEN: usize = 16;
pub(super) const RUN_LEN: usize = 8;
pub(super) const END_LEN: usize = 12;

pub(super) const ZERO: u8 = 0;
pub(super) const RAW: u8 = 1;

pub(super) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(bytes[offset..offset + 2].try_into().expect("two bytes"))
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("eight bytes"))
}

fn pair(first: u64, second: u64) -> [u8; RECORD_LEN] {
    let mut record = [0; RECORD_LEN];
    record[..8].copy_from_slice(&first.to_le_bytes());
    record[8..].copy_from_slice(&second.to_le_bytes());
    record
}

pub(super) fn thread_record(worker: Worker) -> [u8; RECORD_LEN] {
    pair(worker.function as u64, worker.argument as u64)
}

pub(super) fn thread_of(record: &[u8]) -> Option<Worker> {
    Some(Worker {
        function: usize::try_from(u64_at(record, 0)).ok()?,
        argument: usize::try_from(u64_at(record, 8)).ok()?,
    })
}

pub(super) fn area_record(window: PageRange, area: PageRange) -> [u8; RECORD_LEN] {
    pair(
        ((area.start() - window.start()) / PAGE_LEN) as u64,
        area.pages() as u64,
    )
}

/// The area, if it lies in `window`.
pub(super) fn area_of(window: PageRange, record: &[u8]) -> Option<PageRange> {
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

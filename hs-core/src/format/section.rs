//! Sections and what they consist of.

/// Flag of a section that a decoder must understand.
pub const REQUIRED: u8 = 1;

pub(super) const THREADS: u8 = 1;
pub(super) const AREAS: u8 = 2;
pub(super) const PAGES: u8 = 3;
pub(super) const DESCRIPTORS: u8 = 4;
pub(super) const SIGNALS: u8 = 5;
pub(super) const END: u8 = 0x7f;

/// What comes once each, before the pages, in the order in which it comes.
pub(super) const TABLES: [u8; 4] = [THREADS, DESCRIPTORS, SIGNALS, AREAS];

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

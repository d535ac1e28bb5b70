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
pub(super) const DIFFERENCE: u8 = 2;
pub(super) const LZ4: u8 = 3;

/// Before each page of a run of differences or blocks: the length of its body.
pub(super) const BODY_HEADER_LEN: usize = 2;

/// What a run says of its pages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Content {
    /// They are zero.
    Zero,
    /// They are there as they are.
    Raw,
    /// They are there as differences to what the spare has.
    Difference,
    /// They are there as LZ4 blocks.
    Lz4,
}

impl Content {
    /// All of them.
    pub const ALL: [Content; 4] = [Content::Zero, Content::Raw, Content::Difference, Content::Lz4];

    pub(super) const fn of(code: u8) -> Option<Self> {
        match code {
            ZERO => Some(Content::Zero),
            RAW => Some(Content::Raw),
            DIFFERENCE => Some(Content::Difference),
            LZ4 => Some(Content::Lz4),
            _ => None,
        }
    }
}

pub(super) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(bytes[offset..offset + 2].try_into().expect("two bytes"))
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("eight bytes"))
}

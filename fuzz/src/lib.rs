//! What the fuzz targets share: from the fuzzer's bytes to checkpoints that are sound, nearly sound, or not at all.
//!
//! A checkpoint's end has a checksum over all of it, which no fuzzer guesses. So a checkpoint is first encoded as it should be,
//! from choices that the input makes; then the input changes some bytes of it; and then length and checksum are set right.
#![forbid(unsafe_code)]

use std::convert::Infallible;

use hs_core::format::{BUFFER_BYTES, Encoder, Form, Header, Packer, Tables, bring_up_to_date};
use hs_core::platform::PAGE_LEN;

/// A page's contents.
pub type Page = [u8; PAGE_LEN];

/// Length of the end's own body, and of its checksum.
const END_LEN: usize = 12;
const CRC_LEN: usize = 4;

/// The fuzzer's bytes, taken from the front; zeroes when they are used up.
pub struct Choices<'a>(pub &'a [u8]);

impl Choices<'_> {
    /// One byte.
    pub fn byte(&mut self) -> u8 {
        let (byte, rest) = self
            .0
            .split_first()
            .map_or((0, self.0), |(byte, rest)| (*byte, rest));
        self.0 = rest;
        byte
    }

    /// One of so many.
    pub fn of(&mut self, sides: usize) -> usize {
        usize::from(self.byte()) % sides.max(1)
    }

    /// A number of two bytes.
    pub fn wide(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    /// Yes or no.
    pub fn flip(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Whether there is more.
    pub fn is_used_up(&self) -> bool {
        self.0.is_empty()
    }
}

/// A page in one of a few ways: zeroes, the same everywhere, or a pattern that hardly packs.
pub fn page(kind: u8) -> Page {
    match kind % 3 {
        0 => [0; PAGE_LEN],
        1 => [kind; PAGE_LEN],
        _ => {
            let mut state = u32::from(kind) | 1;
            core::array::from_fn(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
        }
    }
}

/// Encodes `pages` (address and contents, ascending) as the choices say: whole, packed, or as differences to what `old` has
/// there.
///
/// # Panics
/// If the header's counts are not those of the tables.
pub fn encode(
    header: &Header,
    tables: &Tables<'_>,
    pages: &[(usize, Page)],
    old: impl Fn(usize) -> Option<Page>,
    choices: &mut Choices<'_>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut flush = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok::<(), Infallible>(())
    };
    let mut buffer = vec![0; BUFFER_BYTES];
    let Ok(mut encoder) = Encoder::begin(&mut buffer, &mut flush, header, tables);
    for (address, contents) in pages {
        let fill = |page: &mut Page, body: &mut [u8]| {
            *page = *contents;
            let made = match choices.of(4) {
                0 => Packer::new().pack(page, body).map(Form::Lz4),
                1 => None,
                _ => old(*address)
                    .and_then(|mut old| bring_up_to_date(&mut old, page, body))
                    .map(Form::Difference),
            };
            Ok(made.unwrap_or(Form::Whole))
        };
        let Ok(()) = encoder.page_in_form(*address, fill);
    }
    let Ok(_) = encoder.end();
    bytes
}

/// Changes up to three places of `bytes`, more likely near the beginning, where the structure is. Returns whether it did.
pub fn damage(bytes: &mut [u8], choices: &mut Choices<'_>) -> bool {
    let before = bytes.to_vec();
    for _ in 0..choices.of(4) {
        let at = match choices.of(3) {
            0 => choices.of(bytes.len()),
            1 => choices.wide() % bytes.len(),
            _ => bytes.len() - 1 - choices.wide() % bytes.len().min(64),
        };
        bytes[at] = choices.byte();
    }
    *bytes != *before
}

/// Sets the length and the checksum right that the last bytes are, if there is room for them.
pub fn mend(bytes: &mut [u8]) {
    let len = bytes.len();
    if len < END_LEN {
        return;
    }
    bytes[len - END_LEN..len - CRC_LEN].copy_from_slice(&(len as u64).to_le_bytes());
    let crc = crc32fast::hash(&bytes[..len - CRC_LEN]);
    bytes[len - CRC_LEN..].copy_from_slice(&crc.to_le_bytes());
}

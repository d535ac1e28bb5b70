//! Copies a page.
//!
//! ```text
//!                 emulator (TCG)   processor
//! moves           0.75 us          good          64-byte turns of 8-byte moves
//! rep movsq       1.0 us           good
//! rep movsb       20 us            best, where the processor says ERMS
//! SSE             2.0 us           good
//! ```

use core::arch::asm;
use core::arch::x86_64::{__m128i, _mm_load_si128, _mm_store_si128};

/// Length of a page in bytes.
pub const PAGE_LEN: usize = 4096;

/// How a page is copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Copy {
    /// Integer moves.
    Moves,
    /// `rep movsq`.
    RepQuads,
    /// `rep movsb`.
    RepBytes,
    /// Moves of 16 bytes.
    Sse,
}

impl Copy {
    /// All ways: each works on every x86-64.
    pub const ALL: [Copy; 4] = [Copy::Moves, Copy::RepQuads, Copy::RepBytes, Copy::Sse];
}

/// Copies the page at `from` to `to`.
///
/// # Safety
/// Both are page-aligned and a page long, `from` can be read, `to` can be written and nobody else refers to it; they are
/// not the same page.
#[inline]
pub unsafe fn page(copy: Copy, from: *const [u8; PAGE_LEN], to: *mut [u8; PAGE_LEN]) {
    // SAFETY: the caller's promise, for each.
    unsafe {
        match copy {
            Copy::Moves => moves(from, to),
            Copy::RepQuads => asm!(
                "rep movsq",
                inout("rcx") PAGE_LEN / 8 => _,
                inout("rsi") from => _,
                inout("rdi") to => _,
                options(nostack, preserves_flags)
            ),
            Copy::RepBytes => asm!(
                "rep movsb",
                inout("rcx") PAGE_LEN => _,
                inout("rsi") from => _,
                inout("rdi") to => _,
                options(nostack, preserves_flags)
            ),
            Copy::Sse => sse(from, to),
        }
    }
}

/// # Safety
/// As for [`page`].
unsafe fn moves(from: *const [u8; PAGE_LEN], to: *mut [u8; PAGE_LEN]) {
    // In assembler: the compiler would make SSE moves of it.
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "2:",
            "mov {a}, [{from}]",
            "mov {b}, [{from} + 8]",
            "mov {c}, [{from} + 16]",
            "mov {d}, [{from} + 24]",
            "mov [{to}], {a}",
            "mov [{to} + 8], {b}",
            "mov [{to} + 16], {c}",
            "mov [{to} + 24], {d}",
            "mov {a}, [{from} + 32]",
            "mov {b}, [{from} + 40]",
            "mov {c}, [{from} + 48]",
            "mov {d}, [{from} + 56]",
            "mov [{to} + 32], {a}",
            "mov [{to} + 40], {b}",
            "mov [{to} + 48], {c}",
            "mov [{to} + 56], {d}",
            "add {from}, 64",
            "add {to}, 64",
            "dec {turns:e}",
            "jnz 2b",
            turns = inout(reg) PAGE_LEN / 64 => _,
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            a = out(reg) _,
            b = out(reg) _,
            c = out(reg) _,
            d = out(reg) _,
            options(nostack)
        );
    }
}

/// # Safety
/// As for [`page`].
unsafe fn sse(from: *const [u8; PAGE_LEN], to: *mut [u8; PAGE_LEN]) {
    let (from, to) = (from.cast::<__m128i>(), to.cast::<__m128i>());
    for index in (0..PAGE_LEN / 16).step_by(4) {
        // SAFETY: inside the pages, which are aligned.
        unsafe {
            let four = [0, 1, 2, 3].map(|next| _mm_load_si128(from.add(index + next)));
            for (next, part) in four.into_iter().enumerate() {
                _mm_store_si128(to.add(index + next), part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(4096))]
    struct Page([u8; PAGE_LEN]);

    #[test]
    fn every_way_copies_every_byte_and_nothing_else() {
        for copy in Copy::ALL {
            let mut pages = [const { Page([0xee; PAGE_LEN]) }; 3];
            let mut from = Page([0; PAGE_LEN]);
            for (index, byte) in from.0.iter_mut().enumerate() {
                *byte = (index * 7 + index / 256) as u8;
            }
            // SAFETY: two different aligned pages, ours.
            unsafe { page(copy, &raw const from.0, &raw mut pages[1].0) };
            assert!(pages[1].0 == from.0, "{copy:?}");
            assert!(
                pages[0].0.iter().chain(&pages[2].0).all(|byte| *byte == 0xee),
                "{copy:?}"
            );
        }
    }
}

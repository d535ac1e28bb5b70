//! Page tables, frames, heap, and the rules of `cptctl`.

use alloc::format;
use alloc::vec::Vec;

use hs_core::platform::{CheckpointMemory, Cptctl, CptctlError, MapError, PAGE_LEN, PageRange};
use kernel::arch::gdt;
use kernel::mem::{frames, heap, kernel_root, layout, paging};

use crate::random::Random;
use crate::{Context, Verdict, check};

/// A range of the window.
pub(crate) fn window_pages(first: usize, pages: usize) -> PageRange {
    PageRange::new(layout::WINDOW.start + first * PAGE_LEN, pages).expect("aligned, not empty, does not wrap")
}

/// No page of the image may be both written and executed; text and constants may not be written, nor their
/// place in the direct map.
pub(crate) fn write_xor_execute(_: &Context) -> Verdict {
    use x86_64::structures::paging::PageTableFlags as Flags;
    let mut pages = 0;
    for (range, writable, executable) in [
        (layout::text(), false, true),
        (layout::rodata(), false, false),
        (layout::data(), true, false),
    ] {
        for page in range.step_by(PAGE_LEN) {
            if page == layout::boot_guard() || gdt::guard_pages().any(|guard| guard == page) {
                continue;
            }
            // SAFETY: the image's entries are not changed after boot.
            let entry = unsafe { kernel_root().entry(page) };
            let flags = entry.map_or(Flags::empty(), |entry| entry.flags());
            check!(
                flags.contains(Flags::PRESENT),
                "page {page:#x} of the image is not mapped"
            );
            check!(
                flags.contains(Flags::WRITABLE) == writable,
                "page {page:#x}: writable is not {writable}"
            );
            check!(
                flags.contains(Flags::NO_EXECUTE) != executable,
                "page {page:#x}: executable is not {executable}"
            );
            pages += 1;
        }
    }
    for span in layout::image().step_by(layout::SPAN_LEN) {
        let flags = paging::span_flags(kernel_root(), layout::DIRECT_MAP + span);
        check!(
            flags.contains(Flags::PRESENT | Flags::NO_EXECUTE) && !flags.contains(Flags::WRITABLE),
            "the image's alias at {span:#x} in the direct map has the flags {flags:?}"
        );
    }
    Ok(format!("{pages} pages"))
}

/// Under the stacks of boot and traps, and at address 0, nothing is mapped. (`crash=stack` runs into one.)
pub(crate) fn guard_pages(_: &Context) -> Verdict {
    let marker = 0_u8;
    let here = (&raw const marker) as usize;
    let guards: Vec<usize> = gdt::guard_pages()
        .chain([0, PAGE_LEN, layout::boot_guard()])
        .collect();
    for &address in &guards {
        // SAFETY: looked at only.
        let entry = unsafe { kernel_root().entry(address) };
        check!(
            entry.is_none_or(|entry| entry.is_unused()),
            "page {address:#x} is mapped"
        );
    }
    check!(
        here > layout::boot_guard(),
        "the boot stack at {here:#x} is not above its guard"
    );
    Ok(format!("{} pages, boot stack at {here:#x}", guards.len()))
}

/// Frames are handed out once, zeroed if asked, and all come back.
pub(crate) fn frames(context: &Context) -> Verdict {
    let mut random = Random::new(context.seed);
    let before = frames::available();
    let mut held: Vec<(frames::PhysFrame, u32)> = Vec::new();
    for _ in 0..5_000 {
        match random.below(4) {
            0 | 1 => {
                let Some(frame) = frames::allocate_zeroed() else {
                    return Err("frames ran out early".into());
                };
                check!(
                    !held.iter().any(|(other, _)| *other == frame),
                    "{frame:?} was handed out twice"
                );
                // SAFETY: ours.
                let bytes = unsafe { &*frame.bytes() };
                check!(bytes.iter().all(|byte| *byte == 0), "{frame:?} is not zeroed");
                // SAFETY: ours.
                unsafe { frame.bytes().write_bytes(0xa5, 1) };
                held.push((frame, 1));
            }
            2 if !held.is_empty() => {
                let index = random.below(held.len());
                frames::hold(held[index].0);
                held[index].1 += 1;
            }
            _ if !held.is_empty() => {
                let index = random.below(held.len());
                let (frame, holders) = held[index];
                check!(
                    frames::holders(frame) == holders,
                    "{frame:?} does not count its holders"
                );
                frames::release(frame);
                held[index].1 -= 1;
                if holders == 1 {
                    held.swap_remove(index);
                }
            }
            _ => {}
        }
    }
    for (frame, holders) in held {
        for _ in 0..holders {
            frames::release(frame);
        }
    }
    check!(
        frames::available() == before,
        "{before} frames became {}",
        frames::available()
    );
    Ok(format!("{before} frames available"))
}

/// The kernel heap against a model that remembers what each block holds.
pub(crate) fn heap(context: &Context) -> Verdict {
    let mut random = Random::new(context.seed);
    let (used_before, _) = heap::usage();
    let mut blocks: Vec<(u8, Vec<u8>)> = Vec::with_capacity(256);
    for step in 0..20_000_usize {
        if blocks.len() < 200 && !random.once_in(3) {
            let bound = if random.once_in(50) { 100_000 } else { 600 };
            let len = 1 + random.below(bound);
            let fill = step as u8;
            blocks.push((fill, alloc::vec![fill; len]));
        } else if !blocks.is_empty() {
            let (fill, block) = blocks.swap_remove(random.below(blocks.len()));
            check!(
                block.iter().all(|byte| *byte == fill),
                "a block of {} bytes was overwritten",
                block.len()
            );
        }
    }
    drop(blocks);
    let (used, free) = heap::usage();
    check!(
        used <= used_before + 64,
        "the heap grew from {used_before} to {used} bytes"
    );
    Ok(format!("{used} bytes used, {free} free"))
}

/// The thesis's rules: exact match on purge, no overlap, mapped pages only; a refused call changes nothing.
pub(crate) fn cptctl_rules(context: &Context) -> Verdict {
    let memory: &dyn CheckpointMemory = context.guest;
    let a = window_pages(0, 4);
    let b = window_pages(4, 4);
    let unmapped = window_pages(100, 1);
    memory.map(a).map_err(|error| format!("map: {error}"))?;
    memory.map(b).map_err(|error| format!("map: {error}"))?;
    check!(
        memory.map(window_pages(7, 2)) == Err(MapError::Conflict(window_pages(7, 2))),
        "mapped twice"
    );
    // SAFETY: looked at only.
    let beyond = unsafe { kernel_root().entry(window_pages(8, 1).start()) };
    check!(
        beyond.is_none_or(|entry| entry.is_unused()),
        "a refused map mapped"
    );
    let outside = PageRange::new(layout::DIRECT_MAP, 1).expect("aligned");
    check!(
        memory.map(outside) == Err(MapError::OutsideWindow(outside)),
        "mapped outside the window"
    );
    let install = |ranges: &[PageRange]| memory.cptctl(Cptctl::Install(ranges));
    check!(
        install(&[a, unmapped]) == Err(CptctlError::NotMapped(unmapped)),
        "installed an unmapped range"
    );
    check!(install(&[a, b]) == Ok(2), "could not install");
    check!(
        install(&[window_pages(2, 1)]) == Err(CptctlError::Overlaps(window_pages(2, 1))),
        "installed an overlap"
    );
    let purge = |ranges: &[PageRange]| memory.cptctl(Cptctl::Purge(ranges));
    let half = window_pages(0, 2);
    check!(
        purge(&[b, half]) == Err(CptctlError::NotInstalled(half)),
        "purged half a range"
    );
    let mut buffer = [a; 2];
    check!(
        memory.cptctl(Cptctl::Installed(&mut buffer[..1])) == Ok(2),
        "a short buffer was not refused with the count"
    );
    check!(
        memory.cptctl(Cptctl::Installed(&mut buffer)) == Ok(2) && buffer == [a, b],
        "the refused purge changed something"
    );
    check!(
        memory.unmap(a) == Err(MapError::Installed(a)),
        "unmapped an installed range"
    );
    check!(memory.cptctl(Cptctl::PurgeAll) == Ok(2), "could not purge all");
    memory.unmap(a).map_err(|error| format!("unmap: {error}"))?;
    memory.unmap(b).map_err(|error| format!("unmap: {error}"))?;
    check!(memory.unmap(a) == Err(MapError::Conflict(a)), "unmapped twice");
    Ok("".into())
}

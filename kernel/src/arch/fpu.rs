//! Vector registers beyond SSE, where the processor has them.
//!
//! They are switched on for one purpose: to scan page tables with interrupts off. A switch of threads saves what FXSAVE
//! does, x87 and SSE; nothing that can be interrupted may use more. Guests are compiled for plain x86-64, which does not, and
//! the dependency gate keeps crates out that look for vectors at run time.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};

use x86_64::registers::control::{Cr4, Cr4Flags};

/// x87, SSE, AVX, and the three of AVX-512.
const WANTED_STATES: u32 = 0b1110_0111;
const LEAF1_XSAVE: u32 = 1 << 26;

/// Switches on what there is. Once, at boot.
pub fn init() {
    if !has_xsave() {
        return;
    }
    let states = __cpuid_count(0xd, 0).eax & WANTED_STATES;
    // SAFETY: the processor has XSAVE and these states; no state is in use that this would change.
    unsafe {
        Cr4::update(|flags| flags.insert(Cr4Flags::OSXSAVE));
        asm!("xsetbv", in("ecx") 0, in("eax") states, in("edx") 0, options(nomem, nostack, preserves_flags));
    }
}

/// The register states that are switched on: the low half of XCR0, or 0 without XSAVE.
pub fn enabled_states() -> u32 {
    if !has_xsave() {
        return 0;
    }
    let states: u32;
    // SAFETY: `init` has set OSXSAVE, so the instruction exists; it reads a register.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") states, out("edx") _, options(nomem, nostack, preserves_flags));
    }
    states
}

fn has_xsave() -> bool {
    __cpuid(1).ecx & LEAF1_XSAVE != 0
}

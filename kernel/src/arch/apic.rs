//! The local APIC: end of interrupt and the one-shot timer. xAPIC by memory-mapped registers, which every
//! accelerator has.
//!
//! The legacy interrupt controllers are masked; devices signal by MSI-X, the few that cannot through the I/O APIC
//! ([`ioapic`](super::ioapic)).

use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

use super::trap::{VECTOR_SPURIOUS, VECTOR_TIMER};
use super::tsc;
use crate::mem;

const BASE: u64 = 0xfee0_0000;
const MSR_APIC_BASE: u32 = 0x1b;

const REG_EOI: usize = 0xb0;
const REG_SPURIOUS: usize = 0xf0;
const REG_TIMER: usize = 0x320;
const REG_TIMER_INITIAL: usize = 0x380;
const REG_TIMER_CURRENT: usize = 0x390;
const REG_TIMER_DIVIDE: usize = 0x3e0;

const MASKED: u32 = 1 << 16;
const DIVIDE_BY_1: u32 = 0b1011;

/// Beyond the range of a 32-bit counter at any frequency above 1 GHz; and the product below does not overflow.
const DELAY_MAX_US: u64 = 4_000_000;

static TIMER_HZ: AtomicU64 = AtomicU64::new(0);

fn register(offset: usize) -> *mut u32 {
    mem::mmio(BASE).wrapping_add(offset).cast()
}

fn read(offset: usize) -> u32 {
    // SAFETY: a register of the LAPIC, mapped uncached.
    unsafe { register(offset).read_volatile() }
}

fn write(offset: usize, value: u32) {
    // SAFETY: as in `read`; the callers know what each register does.
    unsafe { register(offset).write_volatile(value) }
}

/// Masks the legacy controllers, enables the LAPIC, measures its timer and the TSC.
pub fn init() {
    // SAFETY: the two PICs' mask registers; then the LAPIC's own enable bit.
    unsafe {
        Port::<u8>::new(0x21).write(0xff);
        Port::<u8>::new(0xa1).write(0xff);
        let mut base = Msr::new(MSR_APIC_BASE);
        let value = base.read();
        base.write(value | 1 << 11);
    }
    write(REG_SPURIOUS, 1 << 8 | u32::from(VECTOR_SPURIOUS));
    write(REG_TIMER_DIVIDE, DIVIDE_BY_1);
    write(REG_TIMER, MASKED | u32::from(VECTOR_TIMER));
    // Started anew for each try: it stands still once it has come to zero.
    let restart = || write(REG_TIMER_INITIAL, u32::MAX);
    let hz = tsc::calibrate(restart, || u64::from(read(REG_TIMER_CURRENT)));
    TIMER_HZ.store(hz, Ordering::Relaxed);
    write(REG_TIMER_INITIAL, 0);
    write(REG_TIMER, u32::from(VECTOR_TIMER));
}

/// The interrupt being handled is done.
pub(super) fn end_of_interrupt() {
    write(REG_EOI, 0);
}

/// Arms the timer to fire once in `delay_us`, or earlier if that is beyond its range.
pub fn arm_timer(delay_us: u64) {
    let count = delay_us.min(DELAY_MAX_US) * TIMER_HZ.load(Ordering::Relaxed) / 1_000_000;
    write(REG_TIMER_INITIAL, u32::try_from(count).unwrap_or(u32::MAX).max(1));
}

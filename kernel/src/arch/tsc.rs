//! The monotonic clock: the time-stamp counter, measured once against the PIT.
//!
//! Each of the two samples is sandwiched between two readings of the counter and taken again when the
//! machine was held up in between, so that a busy host does not spoil the measure.

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::instructions::port::Port;

const PIT_HZ: u64 = 1_193_182;
/// How long the measure takes, in PIT ticks: about 10 ms.
const MEASURE_TICKS: u16 = 11_932;
/// How often the measure is tried.
const MEASURE_TRIES: usize = 100;
/// The output of the PIT's channel 2 in port 0x61.
const OUTPUT2: u8 = 1 << 5;
/// A sample is taken again, at most so often, as long as the next one is quicker.
const SAMPLE_TRIES: usize = 64;

/// Microseconds a tick, as a fraction of 2^64: a multiplication is far cheaper than a division.
static MICROS_PER_TICK: AtomicU64 = AtomicU64::new(0);
static ORIGIN: AtomicU64 = AtomicU64::new(0);

/// The counter.
pub fn ticks() -> u64 {
    // SAFETY: every x86-64 CPU has it.
    unsafe { _rdtsc() }
}

/// Ticks to microseconds.
pub fn to_micros(ticks: u64) -> u64 {
    ((u128::from(ticks) * u128::from(MICROS_PER_TICK.load(Ordering::Relaxed))) >> 64) as u64
}

/// Ticks to nanoseconds.
pub fn to_nanos(ticks: u64) -> u64 {
    ((u128::from(ticks) * 1000 * u128::from(MICROS_PER_TICK.load(Ordering::Relaxed))) >> 64) as u64
}

/// Microseconds since the kernel's first instruction, or nearly.
pub fn micros_since_boot() -> u64 {
    to_micros(ticks().saturating_sub(ORIGIN.load(Ordering::Relaxed)))
}

/// Notes the clock's zero: the first thing that the kernel does.
pub fn start() {
    ORIGIN.store(ticks(), Ordering::Relaxed);
}

/// One reading of the PIT's channel 2, the TSC at that moment, and `extra` there too.
fn sample(extra: &mut dyn FnMut() -> u64) -> (u16, u64, u64) {
    let mut command = Port::<u8>::new(0x43);
    let mut channel2 = Port::<u8>::new(0x42);
    let mut best = (0, 0, 0);
    let mut best_width = u64::MAX;
    for _ in 0..SAMPLE_TRIES {
        let before = ticks();
        // SAFETY: latch and read channel 2: nobody else uses it.
        let count = unsafe {
            command.write(0b1000_0000);
            u16::from(channel2.read()) | u16::from(channel2.read()) << 8
        };
        let other = extra();
        let after = ticks();
        if after - before < best_width {
            best_width = after - before;
            best = (count, before + (after - before) / 2, other);
        } else {
            break;
        }
    }
    best
}

/// Measures the counter and, in the same time, how far `other` (counting down, set going by `restart`) comes. Returns
/// the frequency of `other` in Hz.
///
/// # Panics
/// If the host holds this machine up again and again: a clock that runs slow would cost it its role.
pub fn calibrate(mut restart: impl FnMut(), mut other: impl FnMut() -> u64) -> u64 {
    (0..MEASURE_TRIES)
        .find_map(|_| {
            restart();
            measure(&mut other)
        })
        .expect("the time-stamp counter can be measured in one of many tries")
}

/// One measure; `None` if the machine was held up for so long that the PIT has run through: what it
/// shows then may be any number of rounds too little.
fn measure(other: &mut dyn FnMut() -> u64) -> Option<u64> {
    let mut gate = Port::<u8>::new(0x61);
    let mut command = Port::<u8>::new(0x43);
    let mut channel2 = Port::<u8>::new(0x42);
    // SAFETY: gate on, speaker off; channel 2 counts down once from 65535 in mode 0.
    unsafe {
        let value = gate.read();
        gate.write(value & !0b10 | 0b01);
        command.write(0b1011_0000);
        channel2.write(0xff);
        channel2.write(0xff);
    }
    let (count0, tsc0, other0) = sample(other);
    loop {
        let (count1, tsc1, other1) = sample(other);
        // SAFETY: reading has no effect. Bit 5 is the output of channel 2, up once it has come to its end.
        if unsafe { gate.read() } & OUTPUT2 != 0 {
            return None;
        }
        let elapsed = count0.wrapping_sub(count1);
        if elapsed >= MEASURE_TICKS {
            let elapsed = u64::from(elapsed);
            let hz = ((tsc1 - tsc0) * PIT_HZ / elapsed).max(2_000_000);
            MICROS_PER_TICK.store(
                ((1_000_000_u128 << 64) / u128::from(hz)) as u64,
                Ordering::Relaxed,
            );
            return Some(other0.saturating_sub(other1) * PIT_HZ / elapsed);
        }
    }
}

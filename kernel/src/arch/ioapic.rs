//! The I/O APIC: interrupt lines of devices that know no MSI-X, the serial port of the console and ACPI's.
//!
//! ```text
//! fec0_0000  +0x00 select a register      +0x10 its value
//! register 1         bits 16-23 lines − 1
//! register 16 + 2n   line n: bits 0-7 vector, 15 level-triggered, 16 masked      17 + 2n   bits 24-31 CPU
//! ```
//!
//! Every line is taken for level-triggered and active high, also those of ISA, which are edges on a board of old: a device
//! that still has something to say after its handler returned interrupts again, and none is lost. The two machines
//! under us (QEMU's own, and KVM's) hold a line for as long as its device does.

use super::interrupts::{self, Handler};
use crate::mem;
use crate::sync::IrqMutex;

const BASE: u64 = 0xfec0_0000;
const SELECT: usize = 0x00;
const WINDOW: usize = 0x10;

const VERSION: u32 = 0x01;
const LINES: u32 = 0x10;

const LEVEL_TRIGGERED: u32 = 1 << 15;

/// Its two registers are used one after the other: by one thread at a time.
static REGISTERS: IrqMutex<()> = IrqMutex::new(());

fn register(offset: usize) -> *mut u32 {
    mem::mmio(BASE).wrapping_add(offset).cast()
}

fn read(index: u32) -> u32 {
    let _registers = REGISTERS.lock();
    // SAFETY: the two registers of the I/O APIC, mapped uncached; nobody else selects meanwhile.
    unsafe {
        register(SELECT).write_volatile(index);
        register(WINDOW).read_volatile()
    }
}

fn write(index: u32, value: u32) {
    let _registers = REGISTERS.lock();
    // SAFETY: as in `read`; the caller knows what each register does.
    unsafe {
        register(SELECT).write_volatile(index);
        register(WINDOW).write_volatile(value);
    }
}

/// From here on the interrupt line `line` calls `handler(argument)`, on the only CPU. `false` if there is no such line, or
/// no vector is left.
#[must_use]
pub fn connect(line: u8, handler: Handler, argument: usize) -> bool {
    let lines = (read(VERSION) >> 16 & 0xff) + 1;
    if u32::from(line) >= lines {
        return false;
    }
    let Some(vector) = interrupts::allocate(handler, argument) else {
        return false;
    };
    let entry = LINES + 2 * u32::from(line);
    write(entry + 1, 0);
    write(entry, LEVEL_TRIGGERED | u32::from(vector));
    true
}

//! The power button: SIGTERM.
//!
//! ACPI's fixed event registers, as the ICH9 of QEMU's q35 has them. Where they lie stands in the configuration space of its
//! LPC bridge; the firmware has put them there, and if it has not we do:
//!
//! ```text
//! 00:1f.0    +0x40 PMBASE: bits 7-15 the port         +0x44 ACPI_CNTL: bit 7 enables it, bits 0-2 0: line 9
//! at PMBASE  +0 PM1_STS: 8 the button was pressed     +2 PM1_EN: 8 it interrupts     +4 PM1_CNT: 0 by our line
//! ```
//!
//! That is all of ACPI that a guest needs to hear of the button: its tables and their language are not looked at.

use hs_core::registry::signal::SignalNumber;
use spin::Once;
use virtio_drivers::transport::pci::bus::{Cam, ConfigurationAccess, DeviceFunction, MmioCam};
use x86_64::instructions::port::Port;

use super::pci;
use crate::arch::ioapic;
use crate::mem;

const BRIDGE: DeviceFunction = DeviceFunction {
    bus: 0,
    device: 0x1f,
    function: 0,
};
/// Device and vendor of the ICH9's LPC bridge.
const ICH9_LPC: u32 = 0x2918_8086;

const PMBASE: u8 = 0x40;
const PMBASE_MASK: u32 = 0xff80;
/// Where the firmwares put the registers too.
const PMBASE_USUAL: u32 = 0x600;
const ACPI_CNTL: u8 = 0x44;
const ACPI_ENABLE: u32 = 1 << 7;
const SCI_SELECT: u32 = 0b111;

const LINE: u8 = 9;

const BUTTON: u16 = 1 << 8;
const SCI_ENABLE: u16 = 1 << 0;

/// Of [`PMBASE`], once the button is listened to.
static BASE: Once<u16> = Once::new();

/// Listens to the button, if this machine has one that we know.
pub fn start() {
    // SAFETY: both firmwares leave the configuration space there; used at boot alone, by one thread.
    let mut configuration = unsafe { MmioCam::new(mem::mmio(pci::ECAM), Cam::Ecam) };
    if configuration.read_word(BRIDGE, 0) != ICH9_LPC {
        log::info!("no power button that is known");
        return;
    }
    let control = configuration.read_word(BRIDGE, ACPI_CNTL);
    if control & ACPI_ENABLE == 0 {
        configuration.write_word(BRIDGE, PMBASE, PMBASE_USUAL);
    }
    configuration.write_word(BRIDGE, ACPI_CNTL, control & !SCI_SELECT | ACPI_ENABLE);
    let base = *BASE.call_once(|| (configuration.read_word(BRIDGE, PMBASE) & PMBASE_MASK) as u16);
    if !ioapic::connect(LINE, on_interrupt, 0) {
        log::error!("the power button has no interrupt: SIGTERM does not come from it");
        return;
    }
    let mut control = Port::<u16>::new(base + 4);
    // SAFETY: the three registers described above; nobody else uses them.
    unsafe {
        Port::<u16>::new(base).write(BUTTON);
        Port::<u16>::new(base + 2).write(BUTTON);
        let value = control.read();
        control.write(value | SCI_ENABLE);
    }
}

fn on_interrupt(_: usize) {
    let Some(&base) = BASE.get() else {
        return;
    };
    let mut status = Port::<u16>::new(base);
    // SAFETY: as in `start`. Writing a bit clears it, and with it the interrupt.
    let pressed = unsafe {
        let pressed = status.read() & BUTTON != 0;
        status.write(BUTTON);
        pressed
    };
    if pressed {
        hs_core::signal::post(SignalNumber::Term);
    }
}

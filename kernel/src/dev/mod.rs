//! The devices that a guest has, each behind one small module.
//!
//! ```text
//! 0x3f8 COM1 ── the log, text            serial      PCI bus 0 ─ pci ─ msix ─ virtio ─┐
//! 0x2f8 COM2 ── events, JSON lines       events      virtio-net ×2 ─ queue ─ net ── hs_core::platform::Nic
//! 0x3e8 COM3 ── a terminal, maybe        console
//! 00:1f.0 ICH9 ── the power button       power
//! 0x70  CMOS ── wall clock at boot       rtc      virtio-blk    ─ queue ─ blk ── crate::files
//! 0xf4  isa-debug-exit                   exit     (all of them found by probe)
//! ```
//!
//! What needs no hardware (parsing of capabilities, placing of BARs, the line ring, decoding of the clock) is
//! plain code that tests run on the host; the rest exists in a guest only.
//!
//! Deliberately absent: polling. A device that has something to say raises an interrupt.

#[cfg(not(test))]
pub mod blk;
#[cfg(not(test))]
pub mod console;
#[cfg(not(test))]
pub mod events;
#[cfg(not(test))]
pub mod exit;
pub mod json;
pub mod line;
pub mod msix;
#[cfg(not(test))]
pub mod net;
pub mod pci;
#[cfg(not(test))]
pub mod power;
#[cfg(not(test))]
pub mod probe;
pub mod queue;
pub mod rtc;
#[cfg(not(test))]
pub mod serial;
pub mod virtio;

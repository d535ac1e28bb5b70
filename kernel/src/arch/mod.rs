//! The CPU: segments, traps, interrupt controller, time-stamp counter.

pub mod apic;
pub mod gdt;
pub mod idt;
pub mod interrupts;
pub mod trap;
pub mod tsc;

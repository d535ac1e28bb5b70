//! The CPU: segments, traps, interrupt controllers, vector registers, time-stamp counter.

pub mod apic;
pub mod fpu;
pub mod gdt;
pub mod idt;
pub mod interrupts;
pub mod ioapic;
pub mod trap;
pub mod tsc;

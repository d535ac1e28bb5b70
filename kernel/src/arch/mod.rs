//! The CPU: segments, traps, interrupt controller, vector registers, time-stamp counter.

pub mod apic;
pub mod fpu;
pub mod gdt;
pub mod idt;
pub mod interrupts;
pub mod trap;
pub mod tsc;

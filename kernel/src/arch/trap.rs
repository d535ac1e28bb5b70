//! What happens at a trap: the frame that `trap.s` saves, and where each vector goes.

use core::fmt;

use x86_64::registers::control::Cr2;

use super::{apic, interrupts};
use crate::cpt;
use crate::thread;

core::arch::global_asm!(include_str!("trap.s"), switch = const VECTOR_SWITCH);

/// Vector of the voluntary switch of threads.
pub const VECTOR_SWITCH: u8 = 0x40;
/// Vector of the LAPIC timer.
pub const VECTOR_TIMER: u8 = 0x41;
/// Vector that the LAPIC uses when an interrupt vanished.
pub const VECTOR_SPURIOUS: u8 = 0xff;

const VECTOR_PAGE_FAULT: u64 = 14;

/// A thread, stopped: all that `trap.s` saves and restores, from low addresses to high.
#[derive(Clone)]
#[repr(C, align(16))]
pub struct TrapFrame {
    /// FXSAVE image: x87 and SSE state. Of a thread that called for the switch, the control words alone; of one that was
    /// interrupted the vector registers, and the rest once it is switched away from.
    pub sse: [u8; 512],
    /// General registers.
    pub r15: u64,
    /// See `r15`.
    pub r14: u64,
    /// See `r15`.
    pub r13: u64,
    /// See `r15`.
    pub r12: u64,
    /// See `r15`.
    pub r11: u64,
    /// See `r15`.
    pub r10: u64,
    /// See `r15`.
    pub r9: u64,
    /// See `r15`.
    pub r8: u64,
    /// See `r15`.
    pub rdi: u64,
    /// See `r15`.
    pub rsi: u64,
    /// See `r15`.
    pub rbp: u64,
    /// See `r15`.
    pub rbx: u64,
    /// See `r15`.
    pub rdx: u64,
    /// See `r15`.
    pub rcx: u64,
    /// See `r15`.
    pub rax: u64,
    /// The vector that brought us here.
    pub vector: u64,
    /// The CPU's error code, or 0.
    pub error: u64,
    /// Pushed by the CPU.
    pub rip: u64,
    /// Pushed by the CPU.
    pub cs: u64,
    /// Pushed by the CPU.
    pub rflags: u64,
    /// Pushed by the CPU.
    pub rsp: u64,
    /// Pushed by the CPU.
    pub ss: u64,
}

#[repr(align(16))]
struct FxsaveImage([u8; 512]);

/// Of a FXSAVE image, what comes before the vector registers.
const CONTROL_AND_X87_LEN: usize = 160;

impl TrapFrame {
    /// Whether the thread called for the switch.
    fn is_call(&self) -> bool {
        self.vector == u64::from(VECTOR_SWITCH)
    }

    /// The thread is switched away from: saves what the trap has left in the processor.
    pub fn complete(&mut self) {
        if self.is_call() {
            return;
        }
        let mut image = FxsaveImage([0; 512]);
        // SAFETY: a FXSAVE image's room, aligned as it must be.
        unsafe {
            core::arch::asm!("fxsave64 [{}]", in(reg) &raw mut image, options(nostack, preserves_flags))
        };
        // The vector registers are those of the handler by now.
        self.sse[..CONTROL_AND_X87_LEN].copy_from_slice(&image.0[..CONTROL_AND_X87_LEN]);
    }

    /// The name of the vector, for a person.
    pub fn vector_name(&self) -> &'static str {
        const NAMES: [&str; 32] = [
            "divide error",
            "debug",
            "non-maskable interrupt",
            "breakpoint",
            "overflow",
            "bound range exceeded",
            "invalid opcode",
            "device not available",
            "double fault",
            "coprocessor segment overrun",
            "invalid TSS",
            "segment not present",
            "stack segment fault",
            "general protection fault",
            "page fault",
            "reserved exception 15",
            "x87 floating-point error",
            "alignment check",
            "machine check",
            "SIMD floating-point error",
            "virtualization exception",
            "control protection exception",
            "reserved exception 22",
            "reserved exception 23",
            "reserved exception 24",
            "reserved exception 25",
            "reserved exception 26",
            "reserved exception 27",
            "hypervisor injection exception",
            "VMM communication exception",
            "security exception",
            "reserved exception 31",
        ];
        NAMES.get(self.vector as usize).copied().unwrap_or("interrupt")
    }
}

impl fmt::Display for TrapFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  rip {:016x}  rsp {:016x}  rflags {:x}  error {:x}",
            self.rip, self.rsp, self.rflags, self.error
        )?;
        writeln!(
            f,
            "  rax {:016x}  rbx {:016x}  rcx {:016x}  rdx {:016x}",
            self.rax, self.rbx, self.rcx, self.rdx
        )?;
        writeln!(
            f,
            "  rsi {:016x}  rdi {:016x}  rbp {:016x}  r8  {:016x}",
            self.rsi, self.rdi, self.rbp, self.r8
        )?;
        writeln!(
            f,
            "  r9  {:016x}  r10 {:016x}  r11 {:016x}  r12 {:016x}",
            self.r9, self.r10, self.r11, self.r12
        )?;
        write!(
            f,
            "  r13 {:016x}  r14 {:016x}  r15 {:016x}",
            self.r13, self.r14, self.r15
        )
    }
}

/// Called by `trap.s`, interrupts off. To go on as another thread, the frame is replaced, and `true` returned.
#[unsafe(no_mangle)]
extern "C" fn trap_entry(frame: &mut TrapFrame) -> bool {
    match frame.vector {
        VECTOR_PAGE_FAULT => {
            page_fault(frame);
            false
        }
        0..32 => crate::panic::report_exception(frame, None),
        vector => {
            // The range above leaves 32..=255.
            let vector = vector as u8;
            if vector == VECTOR_TIMER {
                thread::timer_expired();
            } else if vector != VECTOR_SWITCH && vector != VECTOR_SPURIOUS {
                interrupts::dispatch(vector);
            }
            if vector != VECTOR_SWITCH && vector != VECTOR_SPURIOUS {
                apic::end_of_interrupt();
            }
            thread::switch_if_needed(frame)
        }
    }
}

fn page_fault(frame: &mut TrapFrame) {
    let address = Cr2::read_raw() as usize;
    if !cpt::fault::resolve(address, frame) {
        crate::panic::report_exception(frame, Some(address));
    }
}

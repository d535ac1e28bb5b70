//! The table of trap handlers: every vector goes to its stub in `trap.s`. Built once, then only read.

use spin::Once;
use x86_64::VirtAddr;
use x86_64::structures::idt::InterruptDescriptorTable;

use super::gdt::Ist;

static IDT: Once<InterruptDescriptorTable> = Once::new();

unsafe extern "C" {
    static trap_stubs: u8;
}

/// Distance of two stubs.
const STUB_LEN: u64 = 16;

fn stub(vector: u8) -> VirtAddr {
    VirtAddr::from_ptr(&raw const trap_stubs) + u64::from(vector) * STUB_LEN
}

/// Builds the table and loads it.
pub fn init() {
    let idt = IDT.call_once(|| {
        let mut idt = InterruptDescriptorTable::new();
        macro_rules! set {
            ($($field:ident $vector:literal $stack:ident),* $(,)?) => {
                $(
                    // SAFETY: the stub saves everything and ends in iretq; the stack is of its own kind.
                    unsafe { idt.$field.set_handler_addr(stub($vector)).set_stack_index(Ist::$stack as u16) };
                )*
            };
        }
        set! {
            divide_error 0 Exception, debug 1 Exception, non_maskable_interrupt 2 Nmi, breakpoint 3 Exception,
            overflow 4 Exception, bound_range_exceeded 5 Exception, invalid_opcode 6 Exception,
            device_not_available 7 Exception, double_fault 8 DoubleFault, invalid_tss 10 Exception,
            segment_not_present 11 Exception, stack_segment_fault 12 Exception,
            general_protection_fault 13 Exception, page_fault 14 PageFault, x87_floating_point 16 Exception,
            alignment_check 17 Exception, machine_check 18 MachineCheck, simd_floating_point 19 Exception,
            virtualization 20 Exception, cp_protection_exception 21 Exception,
            hv_injection_exception 28 Exception, vmm_communication_exception 29 Exception,
            security_exception 30 Exception,
        }
        for vector in 32..=255 {
            // SAFETY: as above.
            unsafe {
                idt[vector]
                    .set_handler_addr(stub(vector))
                    .set_stack_index(Ist::Interrupt as u16)
            };
        }
        idt
    });
    idt.load();
}

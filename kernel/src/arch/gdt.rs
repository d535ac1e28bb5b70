//! Segments, and the stacks that traps run on.
//!
//! Every trap runs on an IST stack of its own kind, never on the interrupted one: the precompiled core keeps
//! data below the stack pointer (the red zone), which a push would destroy. One stack each, so that one kind
//! can interrupt another: a page fault in an interrupt handler still gets its report out.

use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::registers::segmentation::SegmentSelector;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

use crate::mem::layout::PAGE_LEN;

/// The stack that a kind of trap runs on: its index in the TSS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Ist {
    /// Page faults, which are part of normal work: copy-on-write.
    PageFault,
    /// All other exceptions: the report and the end.
    Exception,
    /// Interrupts, and the voluntary switch of threads.
    Interrupt,
    /// Double faults.
    DoubleFault,
    /// Non-maskable interrupts.
    Nmi,
    /// Machine checks.
    MachineCheck,
}

const IST_STACKS: usize = 6;
const IST_STACK_LEN: usize = 32 << 10;

#[repr(C, align(4096))]
struct IstStack {
    /// Unmapped: whoever runs over faults instead of spoiling what lies below.
    _guard: [u8; PAGE_LEN],
    _bytes: [u8; IST_STACK_LEN],
}

struct IstStacks([core::cell::UnsafeCell<IstStack>; IST_STACKS]);

// SAFETY: only the CPU's trap entry uses them, each for one trap at a time.
unsafe impl Sync for IstStacks {}

static STACKS: IstStacks = IstStacks(
    [const {
        core::cell::UnsafeCell::new(IstStack {
            _guard: [0; PAGE_LEN],
            _bytes: [0; IST_STACK_LEN],
        })
    }; IST_STACKS],
);

static TSS: Once<TaskStateSegment> = Once::new();
static GDT: Once<(GlobalDescriptorTable, Selectors)> = Once::new();

/// The selectors of a running thread.
#[derive(Clone, Copy, Debug)]
pub struct Selectors {
    /// Code.
    pub code: SegmentSelector,
    /// Data and stack.
    pub data: SegmentSelector,
    tss: SegmentSelector,
}

/// Loads the segments and names the trap stacks.
pub fn init() {
    let tss = TSS.call_once(|| {
        let mut tss = TaskStateSegment::new();
        let mut tops = [VirtAddr::zero(); 7];
        for (top, stack) in tops.iter_mut().zip(&STACKS.0) {
            *top = VirtAddr::from_ptr(stack.get().wrapping_add(1));
        }
        tss.interrupt_stack_table = tops;
        tss
    });
    let (gdt, selectors) = GDT.call_once(|| {
        let mut gdt = GlobalDescriptorTable::new();
        let code = gdt.append(Descriptor::kernel_code_segment());
        let data = gdt.append(Descriptor::kernel_data_segment());
        let tss = gdt.append(Descriptor::tss_segment(tss));
        (gdt, Selectors { code, data, tss })
    });
    gdt.load();
    // SAFETY: the selectors are those of the table just loaded.
    unsafe {
        CS::set_reg(selectors.code);
        SS::set_reg(selectors.data);
        load_tss(selectors.tss);
    }
}

/// The page below each of these stacks, which is to be unmapped.
pub fn guard_pages() -> impl Iterator<Item = usize> {
    STACKS.0.iter().map(|stack| stack.get().addr())
}

/// The selectors of a running thread.
///
/// # Panics
/// Before [`init`].
pub fn selectors() -> Selectors {
    GDT.get().expect("segments are loaded before threads exist").1
}

//! Page tables: the kernel's own, and the walk that everybody uses.
//!
//! Tables are reached through the direct map, so that no address space needs to map its own. All address
//! spaces share every PML4 entry but the window's.

use core::ops::Range;

use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::page_table::PageTableEntry;
use x86_64::structures::paging::{PageTable, PageTableFlags as Flags, PhysFrame as X86Frame};
use x86_64::{PhysAddr, VirtAddr};

use kernel_core::scan::Entries;

use super::frames::{self, PhysFrame};
use super::layout::{self, DEVICES, DIRECT_MAP, PAGE_LEN, PML4_ENTRY_LEN, SPAN_LEN, SPANS, STACKS, WINDOW};
use crate::arch::gdt;
use crate::boot::BootInfo;

/// Flags of a mapped, writable page of data.
pub const DATA: Flags = Flags::PRESENT.union(Flags::WRITABLE).union(Flags::NO_EXECUTE);

/// No frame was left for a page table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfFrames;

/// Where a walk gets the frames for missing tables from.
pub type TableSource<'a> = &'a mut dyn FnMut() -> Option<PhysFrame>;

/// A PML4: the root of an address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root(PhysFrame);

impl Root {
    /// The frame that holds the PML4.
    pub fn frame(self) -> PhysFrame {
        self.0
    }

    /// A root in `frame` that shares everything with `self` but the window, which is empty.
    pub fn share(self, frame: PhysFrame) -> Root {
        // SAFETY: both are PML4s in the direct map; the new one is not in use yet.
        unsafe {
            let table = frame.bytes().cast::<PageTable>();
            table.write((*self.0.bytes().cast::<PageTable>()).clone());
            (&mut *table)[pml4_index(WINDOW.start)].set_unused();
        }
        Root(frame)
    }

    /// The entry that maps the 4 KiB page at `address`, if its tables exist. The entry itself may be unused.
    ///
    /// # Safety
    /// Nobody else holds a reference to it: for the window, the checkpoint state's lock is held.
    pub unsafe fn entry(self, address: usize) -> Option<&'static mut PageTableEntry> {
        self.lowest_table(address)
            .map(|table| table_entry(table, address, 0))
    }

    /// The table whose entries map the 4 KiB pages around `address`.
    fn lowest_table(self, address: usize) -> Option<PhysFrame> {
        let mut table = self.0;
        for level in (1..4).rev() {
            let entry = table_entry(table, address, level);
            if entry.flags().contains(Flags::HUGE_PAGE) {
                return None;
            }
            table = below(entry)?;
        }
        Some(table)
    }

    /// The table whose entries map the 4 KiB pages of the span around `address`, if it exists.
    ///
    /// # Safety
    /// As for [`entry`](Root::entry).
    pub unsafe fn entries(self, address: usize) -> Option<&'static mut Entries> {
        let table = self.lowest_table(address)?;
        // SAFETY: a table of 512 entries; nobody else refers to them, as the caller promises.
        Some(unsafe { &mut *table.bytes().cast::<Entries>() })
    }

    /// The flags that all entries above the page table have on the way to `address`; none if a table is missing.
    pub fn upper_flags(self, address: usize) -> Flags {
        let mut flags = Flags::all();
        let mut table = self.0;
        for level in (1..4).rev() {
            let entry = table_entry(table, address, level);
            flags &= entry.flags();
            match below(entry) {
                Some(next) => table = next,
                None => return Flags::empty(),
            }
        }
        flags
    }

    /// The entry of `level` (1 maps a span, 3 is the PML4's) on the way to `address`, if the tables above it exist.
    ///
    /// # Safety
    /// As for [`entry`](Root::entry).
    pub unsafe fn upper_entry(self, address: usize, level: u32) -> Option<&'static mut PageTableEntry> {
        let mut table = self.0;
        for above in (level + 1..4).rev() {
            table = below(table_entry(table, address, above))?;
        }
        Some(table_entry(table, address, level))
    }

    /// As [`entry`](Root::entry), with missing tables taken from `source`.
    ///
    /// # Errors
    /// The source is empty. Tables made before stay, empty.
    ///
    /// # Safety
    /// As for [`entry`](Root::entry).
    pub unsafe fn entry_or_create(
        self,
        address: usize,
        source: TableSource<'_>,
    ) -> Result<&'static mut PageTableEntry, OutOfFrames> {
        let mut table = self.0;
        for level in (1..4).rev() {
            let entry = table_entry(table, address, level);
            if below(entry).is_none() {
                let frame = source().ok_or(OutOfFrames)?;
                // SAFETY: the frame is new, and ours.
                unsafe { frame.bytes().write_bytes(0, 1) };
                // Rights are checked at the lowest level alone.
                entry.set_addr(PhysAddr::new(frame.address()), Flags::PRESENT | Flags::WRITABLE);
            }
            table = PhysFrame::at(entry.addr().as_u64());
        }
        Ok(table_entry(table, address, 0))
    }

    /// Frees the lowest table of the span around `address`, if there is one. What it maps is left alone.
    ///
    /// # Safety
    /// As for [`entry`](Root::entry), and the address space is not in use.
    pub unsafe fn free_table(self, address: usize) {
        // SAFETY: the caller's promise.
        if let Some(entry) = unsafe { self.upper_entry(address, 1) }
            && let Some(table) = below(entry)
        {
            entry.set_unused();
            frames::release(table);
        }
    }

    /// Frees the window's tables of this address space. What they map is left alone.
    ///
    /// # Safety
    /// As for [`entry`](Root::entry), and the address space is not in use.
    pub unsafe fn free_window_tables(self) {
        let top = table_entry(self.0, WINDOW.start, 3);
        let Some(directory_pointers) = below(top) else {
            return;
        };
        for i3 in 0..512 {
            let address = WINDOW.start + i3 * (SPAN_LEN * 512);
            let Some(directory) = below(table_entry(directory_pointers, address, 2)) else {
                continue;
            };
            for i2 in 0..512 {
                if let Some(table) = below(table_entry(directory, address + i2 * SPAN_LEN, 1)) {
                    frames::release(table);
                }
            }
            frames::release(directory);
        }
        frames::release(directory_pointers);
        top.set_unused();
    }

    /// Makes this the CPU's address space, and drops its TLB.
    ///
    /// # Safety
    /// The kernel's shared part is mapped in it, and the current stack.
    pub unsafe fn load(self) {
        // SAFETY: the caller's promise.
        unsafe {
            Cr3::write(
                X86Frame::containing_address(PhysAddr::new(self.0.address())),
                Cr3Flags::empty(),
            );
        }
    }
}

/// The CPU's present address space.
pub fn current() -> Root {
    Root(PhysFrame::at(Cr3::read().0.start_address().as_u64()))
}

/// Flags of the 2 MiB page at `address`; none if a table is missing or it is not mapped as one.
pub fn span_flags(root: Root, address: usize) -> Flags {
    let mut table = root.0;
    for level in [3, 2] {
        match below(table_entry(table, address, level)) {
            Some(next) => table = next,
            None => return Flags::empty(),
        }
    }
    let flags = table_entry(table, address, 1).flags();
    if flags.contains(Flags::HUGE_PAGE) {
        flags
    } else {
        Flags::empty()
    }
}

/// Drops the CPU's cached translation of the page at `address`.
pub fn flush(address: usize) {
    x86_64::instructions::tlb::flush(VirtAddr::new(address as u64));
}

fn below(entry: &PageTableEntry) -> Option<PhysFrame> {
    entry
        .flags()
        .contains(Flags::PRESENT)
        .then(|| PhysFrame::at(entry.addr().as_u64()))
}

fn pml4_index(address: usize) -> usize {
    address / PML4_ENTRY_LEN % 512
}

/// The entry for `address` in `table`, which is of `level` (0 the lowest, 3 the PML4).
fn table_entry(table: PhysFrame, address: usize, level: u32) -> &'static mut PageTableEntry {
    let index = (address >> (12 + 9 * level)) % 512;
    // SAFETY: a page table in the direct map; exclusive as the callers' contracts say.
    unsafe { &mut (&mut *table.bytes().cast::<PageTable>())[index] }
}

/// Builds the kernel's page tables as [`layout`] draws them and switches to them.
///
/// # Panics
/// If RAM does not even suffice for the page tables.
///
/// # Safety
/// Called once, on the boot page tables, with the frame allocator ready.
pub unsafe fn init(boot: &BootInfo) -> Root {
    let root = Root(table_frame());
    let nx = Flags::PRESENT | Flags::NO_EXECUTE | Flags::GLOBAL;
    let image = layout::image();
    for range in boot.ram() {
        for span in spans(range.clone()) {
            let writable = if image.contains(&(span as usize)) {
                Flags::empty()
            } else {
                Flags::WRITABLE
            };
            map_span(root, DIRECT_MAP + span as usize, span, nx | writable);
        }
    }
    for span in spans(DEVICES).filter(|span| !boot.ram().iter().any(|range| range.contains(span))) {
        map_span(
            root,
            DIRECT_MAP + span as usize,
            span,
            nx | Flags::WRITABLE | Flags::NO_CACHE,
        );
    }
    map_image(root, layout::text(), Flags::PRESENT | Flags::GLOBAL);
    map_image(root, layout::rodata(), nx);
    map_image(root, layout::data(), nx | Flags::WRITABLE);
    for guard in gdt::guard_pages().chain([layout::boot_guard()]) {
        // SAFETY: nothing else holds the entry; nothing lies in a guard page.
        if let Some(entry) = unsafe { root.entry(guard) } {
            entry.set_unused();
        }
    }
    // The upper tables of regions that grow later exist from the start, so that all address spaces share them.
    // SAFETY: as above.
    unsafe {
        for region in [STACKS, SPANS] {
            root.entry_or_create(region, &mut || Some(table_frame()))
                .expect("the source panics before it fails");
        }
        root.load();
    }
    root
}

fn table_frame() -> PhysFrame {
    frames::allocate_zeroed().expect("RAM suffices for the kernel's own page tables")
}

fn spans(range: Range<u64>) -> impl Iterator<Item = u64> {
    let span = SPAN_LEN as u64;
    (range.start / span * span..range.end).step_by(SPAN_LEN)
}

fn map_span(root: Root, address: usize, physical: u64, flags: Flags) {
    let mut table = root.0;
    for level in [3, 2] {
        let entry = table_entry(table, address, level);
        if entry.is_unused() {
            let frame = table_frame();
            entry.set_addr(PhysAddr::new(frame.address()), Flags::PRESENT | Flags::WRITABLE);
        }
        table = PhysFrame::at(entry.addr().as_u64());
    }
    table_entry(table, address, 1).set_addr(PhysAddr::new(physical), flags | Flags::HUGE_PAGE);
}

fn map_image(root: Root, range: Range<usize>, flags: Flags) {
    for address in range.step_by(PAGE_LEN) {
        // SAFETY: nobody else knows these tables yet.
        let entry = unsafe { root.entry_or_create(address, &mut || Some(table_frame())) }
            .expect("the source panics before it fails");
        entry.set_addr(PhysAddr::new(address as u64), flags);
    }
}

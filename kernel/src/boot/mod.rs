//! What the loader tells: memory, command line, modules. Read once from the PVH start information, then
//! independent of the boot protocol.

use core::ops::Range;
use core::slice;

use crate::mem::{PhysAddress, phys_to_virt};

core::arch::global_asm!(include_str!("entry.s"));

/// Most ranges of RAM that are taken note of.
const RAM_RANGES_MAX: usize = 16;
/// Longest command line, in bytes.
pub const COMMAND_LINE_MAX: usize = 2048;

const START_MAGIC: u32 = 0x336e_c578;
const MEMORY_TYPE_RAM: u32 = 1;

/// What the kernel needs to know of the machine that it woke up in.
pub struct BootInfo {
    ram: [Range<u64>; RAM_RANGES_MAX],
    ram_count: usize,
    command_line: [u8; COMMAND_LINE_MAX],
    command_line_len: usize,
    /// The first module, by convention the image's own ELF file for its symbols.
    pub module: Option<Range<u64>>,
}

/// Why the start information is of no use.
#[derive(Debug)]
pub enum BootError {
    /// The magic number is wrong: not a PVH loader.
    NotPvh,
    /// Version 0 of the structure has no memory map.
    NoMemoryMap,
}

#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    module_count: u32,
    modules: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_count: u32,
    reserved: u32,
}

#[repr(C)]
struct MemoryMapEntry {
    start: u64,
    len: u64,
    kind: u32,
    reserved: u32,
}

#[repr(C)]
struct Module {
    start: u64,
    len: u64,
    command_line: u64,
    reserved: u64,
}

impl BootInfo {
    /// Reads what lies at `start_info`.
    ///
    /// # Errors
    /// It is not a PVH start information with a memory map.
    ///
    /// # Safety
    /// `start_info` is what the loader left in `ebx`, and all that it points to lies in mapped RAM that
    /// nothing has written to.
    pub unsafe fn read(start_info: PhysAddress) -> Result<Self, BootError> {
        // SAFETY: the caller's promise.
        let start = unsafe { &*phys_to_virt(start_info).cast::<StartInfo>() };
        if start.magic != START_MAGIC {
            return Err(BootError::NotPvh);
        }
        if start.version == 0 || start.memory_map == 0 {
            return Err(BootError::NoMemoryMap);
        }
        let mut info = BootInfo {
            ram: [const { 0..0 }; RAM_RANGES_MAX],
            ram_count: 0,
            command_line: [0; COMMAND_LINE_MAX],
            command_line_len: 0,
            module: None,
        };
        // SAFETY: the loader's array of that many entries.
        let map = unsafe {
            slice::from_raw_parts(
                phys_to_virt(start.memory_map).cast::<MemoryMapEntry>(),
                start.memory_map_count as usize,
            )
        };
        for entry in map.iter().filter(|entry| entry.kind == MEMORY_TYPE_RAM) {
            if info.ram_count < RAM_RANGES_MAX {
                info.ram[info.ram_count] = entry.start..entry.start.saturating_add(entry.len);
                info.ram_count += 1;
            }
        }
        if start.command_line != 0 {
            let bytes = phys_to_virt(start.command_line);
            for (offset, slot) in info.command_line.iter_mut().enumerate() {
                // SAFETY: a NUL-terminated string in RAM, of which no more is read than that.
                match unsafe { bytes.add(offset).read() } {
                    0 => break,
                    byte => *slot = byte,
                }
                info.command_line_len = offset + 1;
            }
        }
        if start.module_count > 0 {
            // SAFETY: the loader's array of at least one module.
            let module = unsafe { &*phys_to_virt(start.modules).cast::<Module>() };
            info.module = Some(module.start..module.start.saturating_add(module.len));
        }
        Ok(info)
    }

    /// The ranges of RAM, as physical addresses, in the loader's order.
    pub fn ram(&self) -> &[Range<u64>] {
        &self.ram[..self.ram_count]
    }

    /// The command line, cut off at [`COMMAND_LINE_MAX`].
    pub fn command_line(&self) -> &[u8] {
        &self.command_line[..self.command_line_len]
    }
}

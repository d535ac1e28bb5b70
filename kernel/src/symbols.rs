//! Names for addresses, out of the image's own ELF file.
//!
//! A loader brings only the segments of an ELF file into memory, not its symbol table. So the file itself is
//! given to the guest as its PVH module (`-initrd` of QEMU) and read where it lies, when something has gone
//! wrong and not before: it costs nothing at run time. Without it a report shows bare addresses.
//!
//! ```text
//! ELF64 header ─ e_shoff ─► section headers ─┬─ SHT_SYMTAB ─► 24 bytes each: name, info, …, value, size
//!                                            ╰─ its sh_link ─► string table: names, NUL-terminated
//! ```
//!
//! Every offset in the file is checked, so that a damaged file spoils the names at worst. Deliberately
//! absent: line numbers. `addr2line` on the host has them, from the address in the report.

use core::fmt;

const HEADER_LEN: usize = 64;
const SECTION_HEADER_LEN: usize = 64;
const SYMBOL_LEN: usize = 24;
const SECTION_SYMTAB: u32 = 2;
const SECTION_STRTAB: u32 = 3;
const SECTION_NOTE: u32 = 7;
const SYMBOL_FUNCTION: u8 = 2;

/// Most sections that are looked at.
const SECTIONS_MAX: usize = 1024;
/// Longest name that is shown, in bytes: monomorphised names can fill pages.
const NAME_LEN_MAX: usize = 1024;

/// Why a file is of no use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SymbolsError {
    /// Not a little-endian ELF64 file.
    NotElf64,
    /// An offset or length in it points outside of it.
    Damaged,
    /// It has no symbol table.
    Stripped,
}

impl fmt::Display for SymbolsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SymbolsError::NotElf64 => "it is not an ELF64 file",
            SymbolsError::Damaged => "it is damaged: an offset points outside the file",
            SymbolsError::Stripped => "it has no symbol table",
        })
    }
}

/// The functions of an ELF file.
#[derive(Clone, Copy)]
pub struct Symbols<'a> {
    table: &'a [u8],
    names: &'a [u8],
}

/// A function and a place in it. Shown as `name+0xoffset`, demangled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place<'a> {
    /// As it stands in the file.
    pub mangled: &'a str,
    /// Bytes from the function's start.
    pub offset: u64,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:#}+{:#x}",
            rustc_demangle::demangle(self.mangled),
            self.offset
        )
    }
}

/// The `N` bytes at `offset`.
fn bytes<const N: usize>(file: &[u8], offset: usize) -> Option<[u8; N]> {
    file.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

fn u16_at(file: &[u8], offset: usize) -> Option<u16> {
    bytes(file, offset).map(u16::from_le_bytes)
}

fn u32_at(file: &[u8], offset: usize) -> Option<u32> {
    bytes(file, offset).map(u32::from_le_bytes)
}

fn u64_at(file: &[u8], offset: usize) -> Option<u64> {
    bytes(file, offset).map(u64::from_le_bytes)
}

/// What the section whose header stands in `header` contains.
fn contents<'a>(file: &'a [u8], header: &[u8]) -> Option<&'a [u8]> {
    let start = usize::try_from(u64_at(header, 24)?).ok()?;
    let len = usize::try_from(u64_at(header, 32)?).ok()?;
    file.get(start..start.checked_add(len)?)
}

/// The section headers; none if the file says that it has none; `None` if it is damaged.
fn section_headers(file: &[u8]) -> Option<&[[u8; SECTION_HEADER_LEN]]> {
    let start = usize::try_from(u64_at(file, 40)?).ok()?;
    let count = usize::from(u16_at(file, 60)?);
    if start == 0 || count == 0 {
        return Some(&[]);
    }
    if usize::from(u16_at(file, 58)?) != SECTION_HEADER_LEN || count > SECTIONS_MAX {
        return None;
    }
    Some(
        file.get(start..start.checked_add(count * SECTION_HEADER_LEN)?)?
            .as_chunks()
            .0,
    )
}

/// Whether one of the file's notes ends in `build_id`: names out of another build would mislead.
pub fn has_build_id(file: &[u8], build_id: &[u8; 20]) -> bool {
    let headers = section_headers(file).unwrap_or_default();
    let mut notes = headers
        .iter()
        .filter(|header| u32_at(&header[..], 4) == Some(SECTION_NOTE));
    notes.any(|header| contents(file, header).is_some_and(|note| note.ends_with(build_id)))
}

impl<'a> Symbols<'a> {
    /// Finds the symbol table of an ELF file.
    ///
    /// # Errors
    /// The file is no ELF file, is damaged, or has none.
    pub fn parse(file: &'a [u8]) -> Result<Self, SymbolsError> {
        // Magic, class 2 (64 bits), data 1 (little-endian).
        if file.len() < HEADER_LEN || !file.starts_with(b"\x7fELF\x02\x01") {
            return Err(SymbolsError::NotElf64);
        }
        Self::find(file)
            .ok_or(SymbolsError::Damaged)?
            .ok_or(SymbolsError::Stripped)
    }

    /// `None` if damaged, `Some(None)` if there is no symbol table.
    fn find(file: &'a [u8]) -> Option<Option<Self>> {
        let headers = section_headers(file)?;
        let Some(symtab) = headers
            .iter()
            .find(|header| u32_at(&header[..], 4) == Some(SECTION_SYMTAB))
        else {
            return Some(None);
        };
        let strtab = headers.get(u32_at(symtab, 40)? as usize)?;
        if u32_at(strtab, 4)? != SECTION_STRTAB {
            return None;
        }
        Some(Some(Symbols {
            table: contents(file, symtab)?,
            names: contents(file, strtab)?,
        }))
    }

    /// The function that `address` lies in. Takes a walk over the whole table.
    pub fn lookup(&self, address: u64) -> Option<Place<'a>> {
        self.table.as_chunks::<SYMBOL_LEN>().0.iter().find_map(|symbol| {
            let offset = address.checked_sub(u64_at(symbol, 8)?)?;
            // Functions in assembly may not say how long they are; such a one is found at its first byte
            // alone.
            let inside = offset < u64_at(symbol, 16)?.max(1);
            // Those of section 0 are defined in another file.
            if symbol[4] & 0xf != SYMBOL_FUNCTION || u16_at(symbol, 6)? == 0 || !inside {
                return None;
            }
            let name = self.names.get(u32_at(symbol, 0)? as usize..)?;
            let name = &name[..name.len().min(NAME_LEN_MAX)];
            let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
            Some(Place {
                mangled: core::str::from_utf8(&name[..end]).ok()?,
                offset,
            })
        })
    }
}

#[cfg(test)]
#[path = "symbols_tests.rs"]
mod tests;

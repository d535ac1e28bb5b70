use std::string::ToString;
use std::sync::OnceLock;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// The ELF file that this test runs from: a real one.
fn own_file() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| std::fs::read(std::env::current_exe().unwrap()).unwrap())
}

#[inline(never)]
fn a_function_to_be_found() -> u64 {
    std::hint::black_box(7)
}

/// Where this process was loaded: addresses in the file are relative to that.
fn load_address() -> u64 {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let own = std::env::current_exe().unwrap();
    let line = maps
        .lines()
        .find(|line| line.ends_with(own.to_str().unwrap()))
        .unwrap();
    u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap()
}

#[test]
fn a_function_of_this_very_test_is_found_by_its_address() {
    let symbols = Symbols::parse(own_file()).unwrap();
    let address = a_function_to_be_found as fn() -> u64 as usize as u64 - load_address();
    let place = symbols.lookup(address + 1).unwrap();
    assert_eq!(place.offset, 1);
    let shown = place.to_string();
    assert!(
        shown.ends_with("symbols::tests::a_function_to_be_found+0x1"),
        "{shown}"
    );
    assert_eq!(a_function_to_be_found(), 7);
}

#[test]
fn addresses_outside_every_function_have_no_name() {
    let symbols = Symbols::parse(own_file()).unwrap();
    assert_eq!(symbols.lookup(0), None);
    assert_eq!(symbols.lookup(u64::MAX), None);
}

#[test]
fn what_is_no_elf_file_is_refused() {
    assert_eq!(Symbols::parse(b"").err(), Some(SymbolsError::NotElf64));
    assert_eq!(Symbols::parse(&[0; 100]).err(), Some(SymbolsError::NotElf64));
    assert_eq!(
        Symbols::parse(&own_file()[..63]).err(),
        Some(SymbolsError::NotElf64)
    );
    assert_eq!(
        Symbols::parse(&own_file()[..64]).err(),
        Some(SymbolsError::Damaged)
    );
}

#[test]
fn the_build_id_is_found_in_the_notes() {
    let file = own_file();
    let headers = section_headers(file).unwrap();
    let note = headers
        .iter()
        .filter(|header| u32_at(&header[..], 4) == Some(SECTION_NOTE));
    let mut ids = note.filter_map(|header| contents(file, header)?.last_chunk::<20>());
    assert!(ids.all(|id| has_build_id(file, id)));
    assert!(!has_build_id(file, &[7; 20]));
    assert!(!has_build_id(b"", &[7; 20]));
}

#[test]
fn a_stripped_file_says_so() {
    let mut file = own_file()[..64].to_vec();
    file[40..48].fill(0);
    assert_eq!(Symbols::parse(&file).err(), Some(SymbolsError::Stripped));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Damage where it hurts: in the header and the section headers, and a file cut off anywhere.
    #[test]
    fn damage_never_panics(
        damage in proptest::collection::vec((any::<bool>(), 0usize..4096, any::<u8>()), 0..6),
        len in proptest::option::of(any::<proptest::sample::Index>()),
        address in any::<u64>(),
    ) {
        let mut file = own_file().to_vec();
        let headers = u64_at(&file, 40).unwrap() as usize;
        for (in_sections, offset, value) in damage {
            let at = if in_sections { headers + offset } else { offset % HEADER_LEN };
            if let Some(byte) = file.get_mut(at) {
                *byte = value;
            }
        }
        if let Some(len) = len {
            file.truncate(len.index(file.len()));
        }
        if let Ok(symbols) = Symbols::parse(&file) {
            for address in [address, address & 0xf_ffff] {
                if let Some(place) = symbols.lookup(address) {
                    let _ = place.to_string();
                }
            }
        }
    }

    #[test]
    fn bytes_never_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 64..400),
        address in any::<u64>(),
    ) {
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        if let Ok(symbols) = Symbols::parse(&bytes) {
            let _ = symbols.lookup(address);
        }
        let _ = has_build_id(&bytes, &[0; 20]);
    }
}

//! Decodes whatever comes. It never panics, what it finds lies within the limits, it finds the same however the bytes are
//! cut, and a checkpoint that nobody changed is found as it was encoded.
#![no_main]

use std::collections::BTreeMap;

use hs_core::checkpoint::{CheckpointId, Kind};
use hs_core::format::{Content, DecodeError, Decoder, Header, Item, Limits, Tables};
use hs_core::platform::{PAGE_LEN, PageRange};
use hs_core::role::Term;
use hs_core_fuzz::{Choices, Page, damage, encode, mend, page};
use libfuzzer_sys::fuzz_target;

/// The golden files' window.
const START: usize = 0x4000_0000_0000;
const WINDOW_PAGES: usize = 1 << 20;

fn limits() -> Limits {
    Limits {
        window: PageRange::new(START, WINDOW_PAGES).expect("a valid range"),
        threads: 64,
        descriptors: 64,
        signals: 5,
        areas: 64,
        pages: 128,
    }
}

/// What the spare has: the pages that differences are to.
fn old(address: usize) -> Page {
    page((address / PAGE_LEN % 251) as u8 | 2)
}

/// What was found, without how it was cut.
#[derive(PartialEq, Debug, Default)]
struct Found {
    headers: Vec<Header>,
    tables: usize,
    areas: Vec<PageRange>,
    runs: Vec<(PageRange, Content)>,
    pages: BTreeMap<usize, Page>,
    total_bytes: Option<u64>,
}

fn decode(bytes: &[u8], mut cut: impl FnMut() -> usize) -> (Found, Result<(), DecodeError>) {
    let mut found = Found::default();
    let mut decoder = Decoder::new(limits());
    let mut rest = bytes;
    while !rest.is_empty() {
        let (mut piece, after) = rest.split_at(cut().clamp(1, rest.len()));
        rest = after;
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(item)) => note(&mut found, item),
                Ok(None) => break,
                Err(error) => return (found, Err(error)),
            }
        }
        assert!(piece.is_empty(), "bytes were left");
    }
    assert_eq!(decoder.position(), bytes.len() as u64);
    (found, decoder.finish())
}

/// Each page lies in an area.
fn check_listed(found: &Found) {
    for address in found.pages.keys() {
        assert!(
            found.areas.iter().any(|area| area.contains(*address)),
            "a page outside of the areas"
        );
    }
}

fn note(found: &mut Found, item: Item<'_>) {
    let window = limits().window;
    match item {
        Item::Header(header) => found.headers.push(header),
        Item::Threads(_) | Item::Descriptors(_) | Item::Signals(_) => found.tables += 1,
        Item::Areas(areas) => {
            assert!(areas.iter().all(|area| window.encloses(*area)));
            assert!(areas.is_sorted_by(|before, after| before.end() <= after.start()));
            found.areas = areas;
        }
        Item::Skipped { .. } => {}
        Item::Run(range, content) => {
            assert!(window.encloses(range));
            if content == Content::Zero {
                found
                    .pages
                    .extend(range.iter_pages().map(|address| (address, [0; PAGE_LEN])));
            }
            found.runs.push((range, content));
        }
        Item::Difference { page, difference } => {
            let mut contents = old(page);
            difference.apply(&mut contents);
            found.pages.insert(page, contents);
        }
        Item::Bytes { page, offset, bytes } => {
            found.pages.entry(page).or_insert([0; PAGE_LEN])[offset..offset + bytes.len()]
                .copy_from_slice(bytes);
        }
        Item::End { total_bytes } => found.total_bytes = Some(total_bytes),
    }
}

/// A sound checkpoint, as the choices say.
fn sound(choices: &mut Choices<'_>) -> (Vec<u8>, Header, BTreeMap<usize, Page>) {
    let (mut areas, mut at) = (Vec::new(), 0);
    for _ in 0..choices.of(4) {
        let (gap, pages) = (choices.of(6), 1 + choices.of(5));
        areas.push(PageRange::new(START + (at + gap) * PAGE_LEN, pages).expect("a valid range"));
        at += gap + pages;
    }
    let full = choices.flip();
    let mut pages = Vec::new();
    for address in areas.iter().flat_map(|area| area.iter_pages()) {
        if !full && choices.flip() {
            continue;
        }
        let mut contents = if choices.flip() {
            old(address)
        } else {
            page(choices.byte())
        };
        for _ in 0..choices.of(3) {
            let (at, byte) = (choices.wide() % PAGE_LEN, choices.byte());
            contents[at] = byte;
        }
        pages.push((address, contents));
    }
    let header = Header {
        build_id: [choices.byte(); 20],
        application: choices.wide() as u64,
        term: Term(1 + choices.byte() as u64),
        id: CheckpointId {
            generation: 1,
            increment: u64::from(!full),
        },
        kind: if full {
            Kind::Full
        } else {
            Kind::Incremental { base: 0 }
        },
        window_start: START as u64,
        window_pages: WINDOW_PAGES as u64,
        threads: 0,
        descriptors: 0,
        signals: 0,
        areas: areas.len() as u32,
        pages: pages.len() as u64,
    };
    let tables = Tables {
        areas: &areas,
        ..Tables::default()
    };
    let has = |address| (!full).then(|| old(address));
    let bytes = encode(&header, &tables, &pages, has, choices);
    (bytes, header, pages.into_iter().collect())
}

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices(input);
    let (bytes, expected) = match choices.of(4) {
        // As it is, or with the checksum set right.
        0 => (choices.0.to_vec(), None),
        1 => {
            let mut bytes = choices.0.to_vec();
            mend(&mut bytes);
            (bytes, None)
        }
        _ => {
            let (mut bytes, header, pages) = sound(&mut choices);
            let damaged = damage(&mut bytes, &mut choices);
            mend(&mut bytes);
            (bytes, (!damaged).then_some((header, pages)))
        }
    };
    let (found, outcome) = decode(&bytes, || usize::MAX);
    let (again, same) = decode(&bytes, || 1 + choices.of(200));
    assert_eq!(outcome, same);
    check_listed(&found);
    match outcome {
        Ok(()) => {
            assert_eq!((found.headers.len(), found.tables), (1, 3));
            assert_eq!(found.total_bytes, Some(bytes.len() as u64));
            assert_eq!(found.pages.len() as u64, found.headers[0].pages);
            assert_eq!(found, again);
        }
        Err(error) => assert!(expected.is_none(), "a sound checkpoint was refused: {error}"),
    }
    if let Some((header, pages)) = expected {
        assert_eq!(found.headers, [header]);
        assert!(found.pages == pages, "other pages than were encoded");
    }
});

//! The format there and back, and everything that is refused.

mod forms;
mod golden;

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::convert::Infallible;

use proptest::prelude::*;

use super::header::{MAGIC, PREAMBLE_LEN};
use super::section::{AREAS, DESCRIPTORS, END, END_LEN, PAGES, RAW, SIGNALS, THREADS, ZERO};
use super::*;
use crate::library::SignalEntry;
use crate::platform::{PAGE_LEN, PageRange};
use crate::registry::descriptor::tests::any_descriptor;
use crate::registry::descriptor::{Descriptor, DescriptorKind, FileMode, FilePath};
use crate::registry::signal::{SignalAction, SignalNumber};
use crate::registry::thread::Worker;
use crate::role::Term;

const START: usize = 0x4000_0000_0000;
const WINDOW_PAGES: usize = 1 << 20;

fn window() -> PageRange {
    PageRange::new(START, WINDOW_PAGES).unwrap()
}

fn limits() -> Limits {
    Limits {
        window: window(),
        threads: 64,
        descriptors: 64,
        signals: 5,
        areas: 1024,
        pages: 1 << 18,
    }
}

/// Page numbers to contents; a byte repeated stands for a page.
type Pages = BTreeMap<usize, Vec<u8>>;

#[derive(Clone, PartialEq, Debug)]
struct Checkpoint {
    header: Header,
    threads: Vec<Worker>,
    descriptors: Vec<Descriptor>,
    signals: Vec<SignalAction>,
    areas: Vec<PageRange>,
    pages: Pages,
}

impl Checkpoint {
    fn tables(&self) -> Tables<'_> {
        Tables {
            threads: &self.threads,
            descriptors: &self.descriptors,
            signals: &self.signals,
            areas: &self.areas,
        }
    }

    fn with(mut self, descriptors: Vec<Descriptor>, signals: Vec<SignalAction>) -> Self {
        self.header.descriptors = descriptors.len() as u32;
        self.header.signals = signals.len() as u32;
        Self {
            descriptors,
            signals,
            ..self
        }
    }
}

fn checkpoint(
    kind: Kind,
    areas: &[(usize, usize)],
    pages: &[(usize, Vec<u8>)],
    threads: usize,
) -> Checkpoint {
    let increment = match kind {
        Kind::Full => 0,
        Kind::Incremental { base } => base + 1,
    };
    let area = |(first, pages): &(usize, usize)| PageRange::new(START + first * PAGE_LEN, *pages).unwrap();
    let areas: Vec<PageRange> = areas.iter().map(area).collect();
    Checkpoint {
        header: Header {
            build_id: [7; 20],
            application: 0xfeed,
            term: Term(3),
            id: CheckpointId {
                generation: 5,
                increment,
            },
            kind,
            window_start: START as u64,
            window_pages: WINDOW_PAGES as u64,
            threads: threads as u32,
            descriptors: 0,
            signals: 0,
            areas: areas.len() as u32,
            pages: pages.len() as u64,
        },
        threads: (0..threads)
            .map(|n| Worker {
                function: 0x1000 + n,
                argument: START + n,
            })
            .collect(),
        descriptors: Vec::new(),
        signals: Vec::new(),
        areas,
        pages: pages.iter().cloned().collect(),
    }
}

fn encode(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut flush = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok::<(), Infallible>(())
    };
    let mut buffer = vec![0xcc; BUFFER_BYTES];
    let tables = checkpoint.tables();
    let mut encoder = Encoder::begin(&mut buffer, &mut flush, &checkpoint.header, &tables).unwrap();
    for (number, contents) in &checkpoint.pages {
        encoder
            .page(START + number * PAGE_LEN, |page| {
                page.copy_from_slice(contents);
                Ok(())
            })
            .unwrap();
    }
    let total = encoder.end().unwrap();
    assert_eq!(total, bytes.len() as u64);
    bytes
}

/// What the spare has at `page` before: other contents for each page, and no zeroes.
fn old(page: usize) -> [u8; PAGE_LEN] {
    core::array::from_fn(|index| (index / 64 + page / PAGE_LEN) as u8 | 1)
}

/// Decodes pieces of the lengths that `cut` gives.
fn decode(bytes: &[u8], cut: impl FnMut() -> usize) -> Result<Checkpoint, DecodeError> {
    decode_onto(bytes, cut, old).map(|(checkpoint, _)| checkpoint)
}

/// And onto what `old` has; and the runs that are not of zeroes.
fn decode_onto(
    bytes: &[u8],
    mut cut: impl FnMut() -> usize,
    old: impl Fn(usize) -> [u8; PAGE_LEN],
) -> Result<(Checkpoint, Vec<(PageRange, Content)>), DecodeError> {
    let mut runs = Vec::new();
    let mut decoder = Decoder::new(limits());
    let (mut header, mut areas, mut pages) = (None, Vec::new(), Pages::new());
    let (mut threads, mut descriptors, mut signals) = (Vec::new(), Vec::new(), Vec::new());
    let mut whole = false;
    let mut rest = bytes;
    loop {
        let (mut piece, after) = rest.split_at(cut().clamp(1, rest.len().max(1)).min(rest.len()));
        rest = after;
        while let Some(item) = decoder.next(&mut piece)? {
            assert!(!whole, "something after the end");
            match item {
                Item::Header(found) => header = Some(found),
                Item::Threads(found) => threads = found,
                Item::Descriptors(found) => descriptors = found,
                Item::Signals(found) => signals = found,
                Item::Areas(found) => areas = found,
                Item::Run(range, Content::Zero) => {
                    for address in range.iter_pages() {
                        pages.insert((address - START) / PAGE_LEN, vec![0; PAGE_LEN]);
                    }
                }
                Item::Run(range, content) => runs.push((range, content)),
                Item::Skipped { .. } => {}
                Item::Difference { page, difference } => {
                    let mut contents = old(page);
                    difference.apply(&mut contents);
                    pages.insert((page - START) / PAGE_LEN, contents.to_vec());
                }
                Item::Bytes { page, offset, bytes } => {
                    let page = pages.entry((page - START) / PAGE_LEN).or_default();
                    assert_eq!(page.len(), offset, "a page's bytes come in order");
                    page.extend_from_slice(bytes);
                }
                Item::End { total_bytes } => {
                    assert_eq!(total_bytes, (bytes.len() - rest.len() - piece.len()) as u64);
                    whole = true;
                }
            }
        }
        assert!(piece.is_empty());
        if rest.is_empty() {
            break;
        }
    }
    decoder.finish()?;
    assert!(whole);
    let checkpoint = Checkpoint {
        header: header.unwrap(),
        threads,
        descriptors,
        signals,
        areas,
        pages,
    };
    Ok((checkpoint, runs))
}

fn decode_at_once(bytes: &[u8]) -> Result<Checkpoint, DecodeError> {
    decode(bytes, || usize::MAX)
}

fn page(byte: u8) -> Vec<u8> {
    let mut page = vec![0; PAGE_LEN];
    // At the very end, where a hasty test for zeroes would miss it.
    page[PAGE_LEN - 1] = byte;
    page
}

/// A few hundred bytes, but for one raw page.
fn small() -> Checkpoint {
    let pages = [(10, page(1)), (11, page(0)), (12, page(0)), (40, page(0))];
    checkpoint(Kind::Incremental { base: 8 }, &[(10, 3), (40, 2)], &pages, 2).with(
        vec![file(3, 77)],
        vec![
            action(SignalNumber::Int, 0x1000),
            action(SignalNumber::Usr2, 0x2000),
        ],
    )
}

fn file(number: u32, offset: u64) -> Descriptor {
    Descriptor {
        number,
        kind: DescriptorKind::File {
            path: FilePath::new("data/log.txt").unwrap(),
            mode: FileMode::READ | FileMode::WRITE,
            offset,
        },
    }
}

fn action(signal: SignalNumber, handler: usize) -> SignalAction {
    let entry = SignalEntry {
        number: signal as u16,
        flags: 0,
        mask: SignalNumber::Term.mask().bits(),
        handler,
    };
    SignalAction::of_entry(entry).unwrap()
}

prop_compose! {
    fn any_checkpoint()(
        full in any::<bool>(),
        gaps in prop::collection::vec((0_usize..5, 1_usize..60), 1..8),
        picks in prop::collection::vec(any::<u8>(), 400),
        threads in 0_usize..5,
        descriptors in prop::collection::vec(any_descriptor(), 0..10),
        signals in prop::collection::vec(any::<usize>(), 0..6),
    ) -> Checkpoint {
        let (mut at, mut areas) = (0, Vec::new());
        for (gap, pages) in gaps {
            areas.push((at + gap, pages));
            at += gap + pages;
        }
        let numbers = areas.iter().flat_map(|(first, pages)| *first..first + pages);
        let chosen = numbers.zip(&picks).filter(|(_, pick)| full || **pick % 3 == 0);
        let pages: Vec<_> = chosen.map(|(number, pick)| (number, page(if pick & 8 == 0 { 0 } else { *pick }))).collect();
        let kind = if full { Kind::Full } else { Kind::Incremental { base: 3 } };
        let mut descriptors: Vec<Descriptor> = descriptors;
        descriptors.iter_mut().enumerate().for_each(|(index, descriptor)| descriptor.number = 7 * index as u32);
        let signals = SignalNumber::ALL.into_iter().zip(signals).map(|(signal, handler)| action(signal, handler));
        checkpoint(kind, &areas, &pages, threads).with(descriptors, signals.collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_encoded_is_decoded_however_it_is_cut(
        checkpoint in any_checkpoint(),
        cuts in prop::collection::vec(1_usize..9000, 1..20),
    ) {
        let bytes = encode(&checkpoint);
        prop_assert_eq!(&decode_at_once(&bytes).unwrap(), &checkpoint);
        let mut cuts = cuts.iter().cycle();
        prop_assert_eq!(&decode(&bytes, || *cuts.next().unwrap()).unwrap(), &checkpoint);
    }

    #[test]
    fn random_bytes_are_refused(
        begin in 0_usize..PREAMBLE_LEN * 20,
        noise in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        // A good beginning leads further in.
        let mut bytes = encode(&small());
        bytes.truncate(begin);
        bytes.extend_from_slice(&noise);
        prop_assert!(decode_at_once(&bytes).is_err());
    }

    #[test]
    fn damage_with_a_right_checksum_never_panics(
        checkpoint in any_checkpoint(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = encode(&checkpoint);
        // Where it hurts: not in the pages' contents alone.
        let structure = bytes.len().min(700);
        for (index, byte) in damage {
            let index = index.index(structure);
            bytes[index] = byte;
        }
        mend(&mut bytes);
        // It may still be a checkpoint, another one.
        let _ = decode_at_once(&bytes);
    }
}

/// Sets the checksum right.
fn mend(bytes: &mut [u8]) {
    let at = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..at]);
    bytes[at..].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn every_truncation_is_refused() {
    let bytes = encode(&small());
    for len in 0..bytes.len() {
        assert_eq!(
            decode_at_once(&bytes[..len]),
            Err(DecodeError::Truncated),
            "the first {len} bytes"
        );
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let mut bytes = encode(&small());
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_at_once(&bytes).is_err(), "bit {bit} flipped");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(decode_at_once(&bytes).is_ok());
}

#[test]
fn bytes_after_the_end_are_refused() {
    let mut bytes = encode(&small());
    bytes.push(0);
    assert_eq!(decode_at_once(&bytes), Err(DecodeError::TrailingBytes));
    assert_eq!(decode(&bytes, || 1), Err(DecodeError::TrailingBytes));
}

#[test]
fn a_refused_checkpoint_stays_refused() {
    let mut decoder = Decoder::new(limits());
    assert_eq!(
        decoder.next(&mut &b"HSCQ\x01\x00\x10\x00"[..]),
        Err(DecodeError::BadMagic)
    );
    assert_eq!(decoder.next(&mut &b"HSCP"[..]), Err(DecodeError::Refused));
    assert_eq!(decoder.finish(), Err(DecodeError::Refused));
}

#[test]
fn a_run_longer_than_its_count_can_say_is_cut() {
    let pages: Vec<_> = (0..70_000).map(|number| (number, page(0))).collect();
    let checkpoint = checkpoint(Kind::Full, &[(0, 70_000)], &pages, 0);
    assert_eq!(decode_at_once(&encode(&checkpoint)).unwrap().pages.len(), 70_000);
}

#[test]
fn zero_pages_cost_next_to_nothing_and_a_small_increment_is_one_piece() {
    let numbers = 0..5000;
    let pages: Vec<_> = numbers.map(|number| (number, page(0))).collect();
    assert!(encode(&checkpoint(Kind::Full, &[(0, 5000)], &pages, 1)).len() < 300);

    let pages: Vec<_> = (0..6).map(|number| (number * 2, page(1))).collect();
    let checkpoint = checkpoint(Kind::Incremental { base: 0 }, &[(0, 5000)], &pages, 1);
    let mut pieces = 0;
    let mut flush = |_: &[u8]| {
        pieces += 1;
        Ok::<(), Infallible>(())
    };
    let mut buffer = vec![0; BUFFER_BYTES];
    let tables = checkpoint.tables();
    let mut encoder = Encoder::begin(&mut buffer, &mut flush, &checkpoint.header, &tables).unwrap();
    for number in checkpoint.pages.keys() {
        encoder
            .page(START + number * PAGE_LEN, |page| {
                page[0] = 1;
                Ok(())
            })
            .unwrap();
    }
    encoder.end().unwrap();
    assert_eq!(pieces, 1);
}

/// A checkpoint put together by hand, with a right end, so that only the one thing is wrong that a test is about.
struct Forged {
    bytes: Vec<u8>,
}

impl Forged {
    fn new(header: &Header) -> Self {
        let mut header_bytes = [0; 256];
        let header_bytes = postcard::to_slice(header, &mut header_bytes).unwrap();
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&(header_bytes.len() as u16).to_le_bytes());
        bytes.extend_from_slice(header_bytes);
        Self { bytes }
    }

    fn section(mut self, kind: u8, flags: u8, body: &[u8]) -> Self {
        self.bytes.extend_from_slice(&[kind, flags, 0, 0]);
        self.bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(body);
        self
    }

    /// So many workers, and nothing else that is registered.
    fn threads(self, count: usize) -> Self {
        self.registered(count, &[], &[])
    }

    fn registered(self, threads: usize, descriptors: &[u8], signals: &[u8]) -> Self {
        self.section(THREADS, REQUIRED, &vec![1; threads * 16])
            .section(DESCRIPTORS, REQUIRED, descriptors)
            .section(SIGNALS, REQUIRED, signals)
    }

    fn areas(self, areas: &[(u64, u64)]) -> Self {
        let words = areas
            .iter()
            .flat_map(|(first, pages)| [first.to_le_bytes(), pages.to_le_bytes()]);
        let body: Vec<u8> = words.flatten().collect();
        self.section(AREAS, REQUIRED, &body)
    }

    fn runs(self, runs: &[(u32, u16, u8)]) -> Self {
        let mut body = Vec::new();
        for (page, count, content) in runs {
            body.extend_from_slice(&page.to_le_bytes());
            body.extend_from_slice(&count.to_le_bytes());
            body.extend_from_slice(&[*content, 0]);
            if *content == RAW {
                body.resize(body.len() + usize::from(*count) * PAGE_LEN, 9);
            }
        }
        self.section(PAGES, REQUIRED, &body)
    }

    fn end(self) -> Vec<u8> {
        let total = (self.bytes.len() + 8 + END_LEN) as u64;
        self.end_saying(total)
    }

    fn end_saying(self, total: u64) -> Vec<u8> {
        let mut end = total.to_le_bytes().to_vec();
        end.extend_from_slice(&[0; 4]);
        let mut bytes = self.section(END, REQUIRED, &end).bytes;
        mend(&mut bytes);
        bytes
    }
}

/// Increment 5.9 with one worker, areas of pages 10 … 12 and 40 … 41, and so many pages.
fn header(pages: u64) -> Header {
    Header {
        threads: 1,
        descriptors: 0,
        signals: 0,
        pages,
        ..small().header
    }
}

const TWO_AREAS: [(u64, u64); 2] = [(10, 3), (40, 2)];

fn forged(pages: u64) -> Forged {
    Forged::new(&header(pages)).threads(1).areas(&TWO_AREAS)
}

#[test]
fn forging_itself_is_accepted() {
    let bytes = forged(3)
        .runs(&[(10, 1, RAW), (12, 1, ZERO)])
        .runs(&[(41, 1, RAW)])
        .end();
    assert_eq!(decode_at_once(&bytes).unwrap().pages.len(), 3);
}

#[test]
fn unknown_sections_are_skipped_unless_required() {
    let with = |flags| {
        let bytes = Forged::new(&header(0))
            .section(99, flags, b"what is this")
            .threads(1);
        bytes.areas(&TWO_AREAS).section(100, flags, &[]).end()
    };
    assert!(decode_at_once(&with(0)).is_ok());
    assert!(decode(&with(0), || 5).is_ok());
    assert_eq!(
        decode_at_once(&with(REQUIRED)),
        Err(DecodeError::UnknownSection(99))
    );
    assert_eq!(decode_at_once(&with(2)), Err(DecodeError::Reserved));
}

#[test]
fn each_fault_is_named() {
    let cases: Vec<(Vec<u8>, DecodeError)> = vec![
        (
            forged(1).runs(&[(13, 1, RAW)]).end(),
            DecodeError::PageUnlisted(13),
        ),
        (
            forged(5).runs(&[(10, 5, ZERO)]).end(),
            DecodeError::PageUnlisted(13),
        ),
        (
            forged(1).runs(&[(u32::MAX, 1, ZERO)]).end(),
            DecodeError::PageUnlisted(u64::from(u32::MAX)),
        ),
        (
            forged(2).runs(&[(11, 1, ZERO), (10, 1, ZERO)]).end(),
            DecodeError::PageOrder(10),
        ),
        (
            forged(2).runs(&[(11, 1, RAW)]).runs(&[(11, 1, RAW)]).end(),
            DecodeError::PageOrder(11),
        ),
        (forged(1).runs(&[(10, 0, ZERO)]).end(), DecodeError::BadRun(10)),
        (forged(1).runs(&[(10, 1, 4)]).end(), DecodeError::BadRun(10)),
        (
            forged(1).runs(&[(10, 2, ZERO)]).end(),
            DecodeError::PageCount { stated: 1, found: 2 },
        ),
        (
            forged(3).runs(&[(10, 2, ZERO)]).end(),
            DecodeError::PageCount { stated: 3, found: 2 },
        ),
        (
            forged(0).section(PAGES, REQUIRED, &[]).end(),
            DecodeError::SectionLength {
                kind: PAGES,
                len_bytes: 0,
            },
        ),
        (
            forged(1)
                .section(PAGES, REQUIRED, &[10, 0, 0, 0, 1, 0, RAW, 0, 5])
                .end(),
            DecodeError::SectionLength {
                kind: PAGES,
                len_bytes: 1,
            },
        ),
        (
            forged(1)
                .section(PAGES, REQUIRED, &[10, 0, 0, 0, 1, 0, ZERO, 0, 5, 5, 5])
                .end(),
            DecodeError::SectionLength {
                kind: PAGES,
                len_bytes: 3,
            },
        ),
        (
            forged(1)
                .section(PAGES, REQUIRED, &[10, 0, 0, 0, 1, 0, ZERO, 7])
                .end(),
            DecodeError::Reserved,
        ),
        (forged(0).threads(1).end(), DecodeError::SectionOrder(THREADS)),
        (
            forged(0).areas(&TWO_AREAS).end(),
            DecodeError::SectionOrder(AREAS),
        ),
        (
            Forged::new(&header(0)).areas(&TWO_AREAS).end(),
            DecodeError::SectionOrder(AREAS),
        ),
        (
            Forged::new(&header(1)).threads(1).runs(&[(10, 1, ZERO)]).end(),
            DecodeError::SectionOrder(PAGES),
        ),
        (
            Forged::new(&header(0)).threads(1).end(),
            DecodeError::SectionOrder(END),
        ),
        (
            Forged::new(&header(0)).threads(2).areas(&TWO_AREAS).end(),
            DecodeError::SectionLength {
                kind: THREADS,
                len_bytes: 32,
            },
        ),
        (
            Forged::new(&header(0)).threads(1).areas(&[(10, 3)]).end(),
            DecodeError::SectionLength {
                kind: AREAS,
                len_bytes: 16,
            },
        ),
        (
            Forged::new(&header(0))
                .threads(1)
                .areas(&[(10, 3), (12, 2)])
                .end(),
            DecodeError::BadArea(1),
        ),
        (
            Forged::new(&header(0))
                .threads(1)
                .areas(&[(40, 3), (12, 2)])
                .end(),
            DecodeError::BadArea(1),
        ),
        (
            Forged::new(&header(0))
                .threads(1)
                .areas(&[(10, 0), (12, 2)])
                .end(),
            DecodeError::BadArea(0),
        ),
        (
            Forged::new(&header(0))
                .threads(1)
                .areas(&[(1 << 20, 1), (12, 2)])
                .end(),
            DecodeError::BadArea(0),
        ),
        (
            Forged::new(&header(0))
                .threads(1)
                .areas(&[(u64::MAX, 2), (12, 2)])
                .end(),
            DecodeError::BadArea(0),
        ),
        (
            Forged::new(&header(0))
                .threads(1)
                .areas(&[(0, 1 << 18), (1 << 18, 1)])
                .end(),
            DecodeError::TooMany {
                what: "pages in areas",
                count: (1 << 18) + 1,
                limit: 1 << 18,
            },
        ),
        (
            Forged::new(&Header {
                threads: 65,
                ..header(0)
            })
            .end(),
            DecodeError::TooMany {
                what: "workers",
                count: 65,
                limit: 64,
            },
        ),
        (
            Forged::new(&Header {
                areas: u32::MAX,
                ..header(0)
            })
            .end(),
            DecodeError::TooMany {
                what: "memory areas",
                count: u64::from(u32::MAX),
                limit: 1024,
            },
        ),
        (
            Forged::new(&header(u64::MAX)).end(),
            DecodeError::TooMany {
                what: "pages",
                count: u64::MAX,
                limit: 1 << 18,
            },
        ),
        (
            Forged::new(&Header {
                window_start: 0,
                ..header(0)
            })
            .end(),
            DecodeError::WrongWindow,
        ),
        (
            Forged::new(&Header {
                window_pages: u64::MAX,
                ..header(0)
            })
            .end(),
            DecodeError::WrongWindow,
        ),
        (
            Forged::new(&Header {
                kind: Kind::Full,
                ..header(0)
            })
            .end(),
            DecodeError::Contradiction("a full checkpoint has increment 0"),
        ),
        (
            Forged::new(&Header {
                kind: Kind::Incremental { base: 9 },
                ..header(0)
            })
            .end(),
            DecodeError::Contradiction("an increment needs an earlier one"),
        ),
        (
            Forged::new(&Header {
                kind: Kind::Full,
                id: CheckpointId {
                    generation: 1,
                    increment: 0,
                },
                ..header(4)
            })
            .threads(1)
            .areas(&TWO_AREAS)
            .end(),
            DecodeError::NotFull { areas: 5, pages: 4 },
        ),
        (
            forged(0).end_saying(1),
            DecodeError::TotalLength {
                stated: 1,
                found: forged(0).end().len() as u64,
            },
        ),
        (
            b"HSCP\x01\x00\x10\x00".to_vec(),
            DecodeError::WrongVersion { found: 1 },
        ),
        (b"HSCP\x03\x00\x00\x00".to_vec(), DecodeError::HeaderLength(0)),
        (
            b"HSCP\x03\x00\xff\xff".to_vec(),
            DecodeError::HeaderLength(u16::MAX),
        ),
        (b"HSCP\x03\x00\x01\x00\x00".to_vec(), DecodeError::BadHeader),
        (b"ELF?\x01\x00\x01\x00".to_vec(), DecodeError::BadMagic),
    ];
    for (bytes, error) in cases {
        assert_eq!(decode_at_once(&bytes), Err(error), "{error}");
        assert_eq!(decode(&bytes, || 3), Err(error), "{error}, in pieces of three");
    }
}

/// A header of so many descriptors and signals, and sections of these bytes.
fn registered(counts: (u32, u32), descriptors: &[u8], signals: &[u8]) -> Vec<u8> {
    let header = Header {
        descriptors: counts.0,
        signals: counts.1,
        ..header(0)
    };
    let forged = Forged::new(&header).registered(1, descriptors, signals);
    forged.areas(&TWO_AREAS).end()
}

#[test]
fn each_fault_of_what_is_registered_is_named() {
    let record = file(3, 77).to_record();
    let with = |at: usize, byte: u8| {
        let mut record = record;
        record[at] = byte;
        record
    };
    let twice = [with(0, 3), record].concat();
    let signal = |number: u32, mask: u32| [&number.to_le_bytes()[..], &mask.to_le_bytes(), &[0; 8]].concat();
    let too_many = |what, count, limit| DecodeError::TooMany { what, count, limit };
    let wrong_length = |kind, len_bytes| DecodeError::SectionLength { kind, len_bytes };
    let cases = [
        // Kind, mode, length and letters of the path, and what is to be zero.
        (
            registered((1, 0), &with(4, 0), &[]),
            DecodeError::BadDescriptor(0),
        ),
        (
            registered((1, 0), &with(4, 4), &[]),
            DecodeError::BadDescriptor(0),
        ),
        (
            registered((1, 0), &with(5, 16), &[]),
            DecodeError::BadDescriptor(0),
        ),
        (
            registered((1, 0), &with(6, 65), &[]),
            DecodeError::BadDescriptor(0),
        ),
        (
            registered((1, 0), &with(6, 5), &[]),
            DecodeError::BadDescriptor(0),
        ),
        (
            registered((1, 0), &with(32, b'd'), &[]),
            DecodeError::BadDescriptor(0),
        ),
        (
            registered((1, 0), &with(7, 1), &[]),
            DecodeError::BadDescriptor(0),
        ),
        (
            registered((1, 0), &with(16, 1), &[]),
            DecodeError::BadDescriptor(0),
        ),
        (
            registered((1, 0), &with(95, 1), &[]),
            DecodeError::BadDescriptor(0),
        ),
        (registered((2, 0), &twice, &[]), DecodeError::BadDescriptor(1)),
        (registered((2, 0), &record, &[]), wrong_length(DESCRIPTORS, 96)),
        (registered((0, 0), &record, &[]), wrong_length(DESCRIPTORS, 96)),
        (registered((65, 0), &[], &[]), too_many("descriptors", 65, 64)),
        (registered((0, 1), &[], &signal(9, 0)), DecodeError::BadSignal(0)),
        (registered((0, 1), &[], &signal(2, 1)), DecodeError::BadSignal(0)),
        (
            registered((0, 2), &[], &[signal(2, 0), signal(2, 4)].concat()),
            DecodeError::BadSignal(1),
        ),
        (registered((0, 2), &[], &signal(2, 0)), wrong_length(SIGNALS, 16)),
        (registered((0, 6), &[], &[]), too_many("signals", 6, 5)),
        (
            Forged::new(&header(0)).section(SIGNALS, REQUIRED, &[]).end(),
            DecodeError::SectionOrder(SIGNALS),
        ),
        (
            Forged::new(&header(0))
                .threads(1)
                .section(DESCRIPTORS, REQUIRED, &[])
                .end(),
            DecodeError::SectionOrder(DESCRIPTORS),
        ),
        (
            Forged::new(&header(0))
                .section(THREADS, REQUIRED, &[1; 16])
                .areas(&TWO_AREAS)
                .end(),
            DecodeError::SectionOrder(AREAS),
        ),
    ];
    for (bytes, error) in cases {
        assert_eq!(decode_at_once(&bytes), Err(error), "{error}");
        assert_eq!(decode(&bytes, || 3), Err(error), "{error}, in pieces of three");
    }
    let sound = registered((1, 1), &record, &signal(15, 4));
    let decoded = decode_at_once(&sound).unwrap();
    assert_eq!(decoded.descriptors, [file(3, 77)]);
    assert_eq!(decoded.signals[0].signal(), SignalNumber::Term);
}

#[test]
fn a_checkpoint_without_end_is_cut_off() {
    let mut bytes = forged(0).bytes;
    let limit = 1 << 21;
    let small = Limits { pages: 5, ..limits() };
    let mut decoder = Decoder::new(small);
    let found = loop {
        assert!(bytes.len() < limit, "skipped for ever");
        if let Err(error) = drain(&mut decoder, &bytes) {
            break error;
        }
        bytes = Forged { bytes: Vec::new() }.section(50, 0, &[0; 4000]).bytes;
    };
    assert!(matches!(found, DecodeError::TooLong { .. }), "{found}");
}

fn drain(decoder: &mut Decoder, mut bytes: &[u8]) -> Result<(), DecodeError> {
    while decoder.next(&mut bytes)?.is_some() {}
    Ok(())
}

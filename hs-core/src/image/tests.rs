//! The image against a model: areas that come, go and change, zero pages, scarce memory; and what is refused.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::format::{BUFFER_BYTES, Encoder, Form, Packer, Tables, bring_up_to_date};
use crate::host::{HostMemory, Session};
use crate::platform::PAGE_LEN;

const BUILD: [u8; 20] = [1; 20];
const WINDOW_PAGES: usize = 64;

fn config() -> ImageConfig {
    ImageConfig {
        build_id: BUILD,
        application: 2,
        term: Term(5),
        streams: 4,
    }
}

/// A checkpoint of these areas (first page, pages) and these pages (number, a byte that marks it).
#[derive(Clone, Debug)]
struct Sketch {
    areas: Vec<(usize, usize)>,
    pages: BTreeMap<usize, u8>,
}

fn header(memory: &HostMemory, id: (u64, u64), kind: Kind) -> Header {
    Header {
        build_id: BUILD,
        application: 2,
        term: Term(5),
        id: CheckpointId {
            generation: id.0,
            increment: id.1,
        },
        kind,
        window_start: memory.window().start() as u64,
        window_pages: WINDOW_PAGES as u64,
        threads: 0,
        descriptors: 0,
        signals: 0,
        areas: 0,
        pages: 0,
    }
}

/// A page of zeroes, or one that the byte is spread over, so that two of them are nearly the same.
fn paint(byte: u8) -> [u8; PAGE_LEN] {
    if byte == 0 {
        return [0; PAGE_LEN];
    }
    let mut page = [0x11; PAGE_LEN];
    for at in MARKS {
        page[at..at + 8].fill(byte);
    }
    page
}

const MARKS: [usize; 3] = [0, 808, PAGE_LEN - 8];

fn encode(memory: &HostMemory, header: Header, sketch: &Sketch) -> Vec<u8> {
    encode_to(memory, header, sketch, &BTreeMap::new()).0
}

/// As differences to what the spare has in `old`, and as blocks where pages do not count by eight. Returns the pages that
/// became differences too.
fn encode_to(
    memory: &HostMemory,
    header: Header,
    sketch: &Sketch,
    old: &BTreeMap<usize, u8>,
) -> (Vec<u8>, Vec<usize>) {
    let mut differences = Vec::new();
    let at = |page: usize| memory.window().start() + page * PAGE_LEN;
    let areas: Vec<PageRange> = sketch
        .areas
        .iter()
        .map(|(first, pages)| PageRange::new(at(*first), *pages).unwrap())
        .collect();
    let header = Header {
        areas: areas.len() as u32,
        pages: sketch.pages.len() as u64,
        ..header
    };
    let mut bytes = Vec::new();
    let mut flush = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok::<(), Infallible>(())
    };
    let mut buffer = vec![0; BUFFER_BYTES];
    let tables = Tables {
        areas: &areas,
        ..Tables::default()
    };
    let mut encoder = Encoder::begin(&mut buffer, &mut flush, &header, &tables).unwrap();
    for (number, byte) in &sketch.pages {
        let fill = |page: &mut [u8; PAGE_LEN], body: &mut [u8]| {
            *page = paint(*byte);
            let had = old.get(number).filter(|_| *byte != 0);
            if let Some(len) = had.and_then(|had| bring_up_to_date(&mut paint(*had), page, body)) {
                differences.push(*number);
                return Ok(Form::Difference(len));
            }
            let packs = number % 8 != 0;
            let packed = packs.then(|| Packer::new().pack(page, body)).flatten();
            Ok(packed.map_or(Form::Whole, Form::Lz4))
        };
        encoder.page_in_form(at(*number), fill).unwrap();
    }
    encoder.end().unwrap();
    (bytes, differences)
}

fn feed(image: &mut Image, header: &Header, bytes: &[u8]) -> Result<Progress, ImageError> {
    image.begin(header.id)?;
    image.feed(header.id, bytes)
}

fn acknowledged(ids: &[(u64, u64)]) -> Result<Progress, ImageError> {
    let ids = ids.iter().map(|(generation, increment)| CheckpointId {
        generation: *generation,
        increment: *increment,
    });
    Ok(Progress::Complete {
        acknowledge: ids.collect(),
        refused: Vec::new(),
    })
}

/// What is mapped, as page numbers and the byte that marks each.
fn contents(memory: &HostMemory) -> BTreeMap<usize, u8> {
    let pages = memory.pages().into_iter();
    pages
        .map(|(address, page)| {
            assert!(*page == paint(page[0]), "half a page");
            ((address - memory.window().start()) / PAGE_LEN, page[0])
        })
        .collect()
}

prop_compose! {
    /// Areas from a small stock, so that the same come again, and others overlap them.
    fn areas()(cuts in prop::collection::vec((0_usize..3, 1_usize..6), 1..8)) -> Vec<(usize, usize)> {
        let (mut at, mut areas) = (0, Vec::new());
        for (gap, pages) in cuts {
            if at + gap + pages <= WINDOW_PAGES {
                areas.push((at + gap, pages));
                at += gap + pages;
            }
        }
        areas
    }
}

fn numbers(areas: &[(usize, usize)]) -> impl Iterator<Item = usize> {
    areas.iter().flat_map(|(first, pages)| *first..first + pages)
}

#[derive(Clone, Debug)]
struct Step {
    full: bool,
    areas: Option<Vec<(usize, usize)>>,
    picks: Vec<u8>,
    /// Pages that are sent as differences, if the spare has them; one that it has not, too, if there is one.
    differ: Vec<bool>,
    stray: bool,
    /// Frames that the spare has left for it, beyond those in use.
    frames: usize,
}

prop_compose! {
    fn step()(
        full in prop::bool::weighted(0.2),
        areas in prop::option::weighted(0.3, areas()),
        picks in prop::collection::vec(any::<u8>(), WINDOW_PAGES),
        differ in prop::collection::vec(any::<bool>(), WINDOW_PAGES),
        stray in prop::bool::weighted(0.1),
        frames in prop_oneof![5 => Just(2 * WINDOW_PAGES), 1 => 0_usize..40],
    ) -> Step {
        Step { full, areas, picks, differ, stray, frames }
    }
}

#[test]
fn the_window_follows_the_model_or_stays_as_it_was() {
    let session = Session::bare(WINDOW_PAGES);
    let memory = session.memory();
    proptest!(ProptestConfig::with_cases(200), |(steps in prop::collection::vec(step(), 1..20))| {
        memory.reset();
        let mut image = Image::new(memory, config());
        let mut model: BTreeMap<usize, u8> = BTreeMap::new();
        let mut areas: Vec<(usize, usize)> = Vec::new();
        let mut newest = (0, 0);
        for step in steps {
            let next_areas = step.areas.unwrap_or_else(|| areas.clone());
            let full = step.full || newest.0 == 0;
            let (id, kind) = if full {
                ((newest.0 + 1, 0), Kind::Full)
            } else {
                ((newest.0, newest.1 + 1), Kind::Incremental { base: newest.1 })
            };
            // A page of a new area counts as modified; of a kept one, by chance. A third are zero.
            let kept = |page: usize| areas.iter().any(|area| {
                next_areas.contains(area) && (area.0..area.0 + area.1).contains(&page)
            });
            let pages = numbers(&next_areas).filter(|page| full || !kept(*page) || step.picks[*page] % 4 == 0);
            let byte = |page: usize| if step.picks[page] % 3 == 0 { 0 } else { step.picks[page] };
            let pages: BTreeMap<usize, u8> = pages.map(|page| (page, byte(page))).collect();
            let mut next: BTreeMap<usize, u8> =
                numbers(&next_areas).filter(|page| kept(*page)).map(|page| (page, model[&page])).collect();
            next.extend(&pages);

            let sketch = Sketch { areas: next_areas.clone(), pages };
            let header = header(memory, id, kind);
            let stray = numbers(&sketch.areas).find(|page| step.stray && !kept(*page));
            let had = model.iter().filter(|(page, _)| kept(**page) && step.differ[**page]);
            let mut old: BTreeMap<usize, u8> = had.map(|(page, byte)| (*page, *byte)).collect();
            old.extend(stray.map(|page| (page, 1)));
            if full {
                old.clear();
            }
            let (bytes, differences) = encode_to(memory, header.clone(), &sketch, &old);
            let stray = stray.filter(|page| differences.contains(page));
            memory.set_frames(step.frames);
            match feed(&mut image, &header, &bytes) {
                Err(ImageError::NoPage(address)) => {
                    prop_assert_eq!(Some((address - memory.window().start()) / PAGE_LEN), stray);
                }
                Ok(progress) => {
                    prop_assert_eq!(stray, None);
                    prop_assert_eq!(Ok(progress), acknowledged(&[id]));
                    (model, areas, newest) = (next, next_areas, id);
                }
                Err(ImageError::OutOfMemory) => prop_assert!(step.frames < 2 * WINDOW_PAGES),
                Err(ImageError::Broken(_)) => {
                    prop_assert!(step.frames < 2 * WINDOW_PAGES);
                    (model, areas) = (BTreeMap::new(), Vec::new());
                    newest = (newest.0 + 1, 0);
                    prop_assert_eq!(image.newest(), None);
                    // Only a full one will do.
                    let next = header_after(memory, newest);
                    let empty = Sketch { areas: Vec::new(), pages: BTreeMap::new() };
                    let bytes = encode(memory, next.clone(), &empty);
                    prop_assert_eq!(feed(&mut image, &next, &bytes), acknowledged(&[]));
                    image.abandon(next.id);
                    newest = (0, 0);
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
            prop_assert_eq!(&contents(memory), &model);
            if newest.0 != 0 {
                prop_assert_eq!(image.newest(), Some(CheckpointId { generation: newest.0, increment: newest.1 }));
            }
        }
    });
}

fn header_after(memory: &HostMemory, newest: (u64, u64)) -> Header {
    header(
        memory,
        (newest.0, newest.1 + 1),
        Kind::Incremental { base: newest.1 },
    )
}

fn sketch(pages: &[(usize, u8)]) -> Sketch {
    Sketch {
        areas: vec![(0, 4), (8, 2)],
        pages: pages.iter().copied().collect(),
    }
}

fn full() -> Sketch {
    sketch(&[(0, 1), (1, 1), (2, 0), (3, 0), (8, 1), (9, 0)])
}

#[test]
fn increments_wait_for_what_they_need_and_a_gap_is_never_applied() {
    let session = Session::bare(WINDOW_PAGES);
    let memory = session.memory();
    let mut image = Image::new(memory, config());
    let whole = |image: &mut Image, id: (u64, u64), kind, sketch: &Sketch| {
        let header = header(memory, id, kind);
        feed(image, &header, &encode(memory, header.clone(), sketch))
    };
    let base = |base| Kind::Incremental { base };
    // Before anything else came.
    assert_eq!(
        whole(&mut image, (1, 1), base(0), &sketch(&[(0, 7)])),
        acknowledged(&[])
    );
    assert_eq!(
        whole(&mut image, (1, 3), base(2), &sketch(&[(0, 9)])),
        acknowledged(&[])
    );
    assert_eq!(image.newest(), None);
    assert_eq!(
        whole(&mut image, (1, 0), Kind::Full, &full()),
        acknowledged(&[(1, 0), (1, 1)])
    );
    assert_eq!(contents(memory)[&0], 7, "1.3 is not applied: 1.2 is missing");
    // 1.2 is lost; 1.4 holds all since 1.1.
    image.abandon(CheckpointId {
        generation: 1,
        increment: 2,
    });
    assert_eq!(
        whole(&mut image, (1, 4), base(1), &sketch(&[(1, 0), (2, 5)])),
        acknowledged(&[(1, 4), (1, 3)])
    );
    assert_eq!(
        contents(memory),
        [(0, 7), (1, 0), (2, 5), (3, 0), (8, 1), (9, 0)].into()
    );
    // An old one is superseded: acknowledged, and changes nothing.
    assert_eq!(
        whole(&mut image, (1, 2), base(1), &sketch(&[(0, 8)])),
        acknowledged(&[(1, 2)])
    );
    assert_eq!(
        whole(&mut image, (2, 0), Kind::Full, &full()),
        acknowledged(&[(2, 0)])
    );
    assert_eq!(
        whole(&mut image, (1, 9), base(8), &sketch(&[(0, 8)])),
        acknowledged(&[(1, 9)])
    );
    assert_eq!(contents(memory), full().pages);
    // Another generation's increments do not fit.
    assert_eq!(
        whole(&mut image, (3, 1), base(0), &sketch(&[(0, 8)])),
        acknowledged(&[])
    );
    assert_eq!(contents(memory), full().pages);
    let status = image.status();
    assert_eq!(
        (
            status.taken,
            status.acked,
            status.full,
            status.incremental,
            status.in_flight
        ),
        (8, 4, 2, 2, 1)
    );
}

#[test]
fn one_that_waited_and_cannot_be_applied_is_reported() {
    let session = Session::bare(WINDOW_PAGES);
    let memory = session.memory();
    let mut image = Image::new(memory, config());
    let later = header(memory, (1, 1), Kind::Incremental { base: 0 });
    let more = Sketch {
        areas: vec![(0, 4), (8, 2), (20, 30)],
        pages: (20..50).map(|page| (page, 0)).collect(),
    };
    assert_eq!(
        feed(&mut image, &later, &encode(memory, later.clone(), &more)),
        acknowledged(&[])
    );
    memory.set_frames(20);
    let first = header(memory, (1, 0), Kind::Full);
    assert_eq!(
        feed(&mut image, &first, &encode(memory, first.clone(), &full())),
        Ok(Progress::Complete {
            acknowledge: [first.id].into(),
            refused: [(later.id, ImageError::OutOfMemory)].into()
        })
    );
    assert_eq!(contents(memory), full().pages);
}

#[test]
fn strangers_are_refused() {
    let session = Session::bare(WINDOW_PAGES);
    let memory = session.memory();
    let mut image = Image::new(memory, config());
    let good = header(memory, (1, 0), Kind::Full);
    let mut with = |header: Header, id: CheckpointId| {
        image.begin(id)?;
        let bytes = encode(memory, header, &full());
        // The header is judged before the rest is there.
        image.feed(id, &bytes[..200])
    };
    let id = good.id;
    assert_eq!(
        with(
            Header {
                build_id: [9; 20],
                ..good.clone()
            },
            id
        ),
        Err(ImageError::WrongBuild)
    );
    assert_eq!(
        with(
            Header {
                application: 3,
                ..good.clone()
            },
            id
        ),
        Err(ImageError::WrongApplication { found: 3 })
    );
    let old = Header {
        term: Term(4),
        ..good.clone()
    };
    assert_eq!(
        with(old, id),
        Err(ImageError::OldTerm {
            found: Term(4),
            newest: Term(5)
        })
    );
    let other = CheckpointId {
        generation: 7,
        increment: 0,
    };
    assert_eq!(with(good.clone(), other), Err(ImageError::WrongId { found: id }));
    assert_eq!(with(good.clone(), id), Ok(Progress::More));
    assert_eq!(image.begin(id), Err(ImageError::Duplicate(id)));
    assert_eq!(image.feed(other, &[]), Err(ImageError::Unknown(other)));
    for generation in 10..13 {
        image
            .begin(CheckpointId {
                generation,
                increment: 0,
            })
            .unwrap();
    }
    assert_eq!(image.begin(other), Err(ImageError::TooMany));
    // A newer master: what the old one had begun is forgotten, and no more is taken from it.
    image.observe_term(Term(6));
    assert_eq!(image.feed(id, &[]), Err(ImageError::Unknown(id)));
    image.begin(id).unwrap();
    let bytes = encode(memory, good, &full());
    assert!(matches!(image.feed(id, &bytes), Err(ImageError::OldTerm { .. })));
    assert_eq!(contents(memory), BTreeMap::new());
}

#[test]
fn a_newer_masters_full_checkpoint_replaces_the_old_ones() {
    let session = Session::bare(WINDOW_PAGES);
    let memory = session.memory();
    let mut image = Image::new(memory, config());
    let first = header(memory, (4, 0), Kind::Full);
    assert_eq!(
        feed(&mut image, &first, &encode(memory, first.clone(), &full())),
        acknowledged(&[(4, 0)])
    );
    let newer = Header {
        term: Term(6),
        ..header(memory, (1, 0), Kind::Full)
    };
    let other = sketch(&[(0, 0), (1, 2), (2, 2), (3, 2), (8, 2), (9, 2)]);
    assert_eq!(
        feed(&mut image, &newer, &encode(memory, newer.clone(), &other)),
        acknowledged(&[(1, 0)])
    );
    assert_eq!(contents(memory), other.pages);
    // A third master's increment does not fit onto the second's full one, whatever its numbers.
    let third = Header {
        term: Term(7),
        ..header(memory, (1, 1), Kind::Incremental { base: 0 })
    };
    assert_eq!(
        feed(
            &mut image,
            &third,
            &encode(memory, third.clone(), &sketch(&[(0, 9)]))
        ),
        acknowledged(&[])
    );
    assert_eq!(contents(memory), other.pages);
    let late = header(memory, (4, 1), Kind::Incremental { base: 0 });
    let late_bytes = encode(memory, late.clone(), &sketch(&[(0, 9)]));
    let refused = feed(&mut image, &late, &late_bytes);
    assert_eq!(
        refused,
        Err(ImageError::OldTerm {
            found: Term(5),
            newest: Term(6)
        })
    );
}

#[test]
fn nothing_of_a_refused_checkpoint_stays_behind() {
    let session = Session::bare(WINDOW_PAGES);
    let memory = session.memory();
    memory.set_frames(100);
    let mut image = Image::new(memory, config());
    let good = header(memory, (1, 0), Kind::Full);
    let mut bytes = encode(memory, good.clone(), &full());
    let last = bytes.len() - 1;
    bytes[last] ^= 0x10;
    let refused = feed(&mut image, &good, &bytes);
    assert!(matches!(
        refused,
        Err(ImageError::Decode(DecodeError::Checksum { .. }))
    ));
    assert_eq!((contents(memory), image.newest()), (BTreeMap::new(), None));
    assert_eq!(memory.frames(), 100);
    image.begin(good.id).unwrap();
    image.feed(good.id, &bytes[..8000]).unwrap();
    assert!(memory.frames() < 100);
    image.abandon(good.id);
    assert_eq!(memory.frames(), 100);
}

#[test]
fn differences_wait_for_what_they_are_to() {
    let session = Session::bare(WINDOW_PAGES);
    let memory = session.memory();
    memory.set_frames(100);
    let mut image = Image::new(memory, config());
    let first = header(memory, (1, 0), Kind::Full);
    feed(&mut image, &first, &encode(memory, first.clone(), &full())).unwrap();
    let frames = memory.frames();
    let old = full().pages;
    let page = *old.iter().find(|(_, byte)| **byte != 0).unwrap().0;
    let mut had = old[&page];
    let mut increments = Vec::new();
    for increment in 1..4 {
        let next = sketch(&[(page, had + 1)]);
        let next = Sketch {
            areas: full().areas,
            ..next
        };
        let kind = Kind::Incremental { base: increment - 1 };
        let header = header(memory, (1, increment), kind);
        let (bytes, differences) = encode_to(memory, header.clone(), &next, &[(page, had)].into());
        assert_eq!(differences, [page]);
        increments.push((header, bytes));
        had += 1;
    }
    // The last and the one before it come first: nothing changes until the first is there.
    for (header, bytes) in increments[1..].iter().rev() {
        assert_eq!(feed(&mut image, header, bytes), acknowledged(&[]));
        assert_eq!(contents(memory), old);
    }
    let (header, bytes) = &increments[0];
    assert_eq!(
        feed(&mut image, header, bytes),
        acknowledged(&[(1, 1), (1, 2), (1, 3)])
    );
    assert_eq!(contents(memory)[&page], had);
    // In place: what they were staged in is free again, and nothing else was needed.
    assert_eq!(memory.frames(), frames);
}

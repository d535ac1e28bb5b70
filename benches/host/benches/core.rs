//! The library's hot paths on the host: a block from a class and back, an increment encoded and decoded.

use std::alloc::Layout;
use std::convert::Infallible;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hs_core::class::{Class, ClassId};
use hs_core::format::{BUFFER_BYTES, CheckpointId, Decoder, Encoder, Header, Kind, Limits, Tables};
use hs_core::host::Session;
use hs_core::platform::{PAGE_LEN, PageRange};
use hs_core::role::Term;

/// What a point SELECT of SQLite dirties.
const DIRTY_PAGES: usize = 6;
const WINDOW: usize = 0x4000_0000_0000;

fn class(criterion: &mut Criterion) {
    let _session = Session::start(1 << 14);
    let class = Class::create(ClassId(1), 1 << 24).expect("a class of 16 MiB");
    let mut group = criterion.benchmark_group("class");
    for size in [64_usize, 1000, 100_000] {
        group.bench_function(format!("malloc and free {size} B"), |bencher| {
            let layout = Layout::from_size_align(black_box(size), 8).expect("a small layout");
            bencher.iter(|| {
                allocator_api2::vec::Vec::<u8, Class>::with_capacity_in(layout.size(), class).as_ptr()
            });
        });
    }
    group.finish();
}

fn header(areas: u32, pages: u64) -> Header {
    Header {
        build_id: [0; 20],
        application: 1,
        term: Term::FIRST,
        id: CheckpointId {
            generation: 1,
            increment: 1,
        },
        kind: Kind::Incremental { base: 0 },
        window_start: WINDOW as u64,
        window_pages: 1 << 20,
        threads: 0,
        descriptors: 0,
        signals: 0,
        areas,
        pages,
    }
}

fn encode(buffer: &mut [u8], contents: &[u8; PAGE_LEN], pages: usize, out: &mut Vec<u8>) {
    let areas = [PageRange::new(WINDOW, 1 << 16).expect("a valid range")];
    let mut flush = |bytes: &[u8]| {
        out.extend_from_slice(bytes);
        Ok::<(), Infallible>(())
    };
    let header = header(1, pages as u64);
    let tables = Tables {
        areas: &areas,
        ..Tables::default()
    };
    let Ok(mut encoder) = Encoder::begin(buffer, &mut flush, &header, &tables);
    for page in 0..pages {
        // Every other page, so that each is a run of its own.
        let Ok(()) = encoder.page(WINDOW + 2 * page * PAGE_LEN, |into| {
            into.copy_from_slice(contents);
            Ok(())
        });
    }
    let Ok(_) = encoder.end();
}

fn format(criterion: &mut Criterion) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut contents = [0; PAGE_LEN];
    contents[PAGE_LEN / 2..].fill(7);
    let mut group = criterion.benchmark_group("format");
    for pages in [DIRTY_PAGES, 1000] {
        group.throughput(Throughput::Bytes((pages * PAGE_LEN) as u64));
        let mut bytes = Vec::new();
        // For `decode`, which may be run alone.
        encode(&mut buffer, &contents, pages, &mut bytes);
        group.bench_function(format!("encode {pages} pages"), |bencher| {
            bencher.iter(|| {
                bytes.clear();
                encode(&mut buffer, &contents, pages, &mut bytes);
            });
        });
        let limits = Limits {
            window: PageRange::new(WINDOW, 1 << 20).expect("a valid range"),
            threads: 64,
            descriptors: 64,
            signals: 5,
            areas: 512,
            pages: 1 << 20,
        };
        group.bench_function(format!("decode {pages} pages"), |bencher| {
            bencher.iter(|| {
                let (mut decoder, mut input) = (Decoder::new(limits), &bytes[..]);
                while let Some(item) = decoder.next(&mut input).expect("what was encoded is sound") {
                    black_box(item);
                }
                decoder.finish().expect("it is whole");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, class, format);
criterion_main!(benches);

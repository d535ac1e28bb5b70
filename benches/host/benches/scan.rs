//! The kernel's hot loops on the host: a span's page-table entries scanned for dirty bits, in every way that the
//! processor has, with as much dirty as the other benchmarks have.

use std::arch::is_x86_feature_detected;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use kernel_core::scan::{self, DIRTY, Entries};

/// Neighbours that are dirty together.
const RUN: usize = 4;

/// `share_percent` of the entries dirty, in runs.
fn entries(share_percent: usize) -> Entries {
    let period = RUN * 100 / share_percent.max(1);
    std::array::from_fn(|page| if page % period < RUN { DIRTY } else { 0 })
}

fn scans(criterion: &mut Criterion) {
    // What the host's system has switched on: it says so itself.
    let states = if is_x86_feature_detected!("avx512f") {
        0xe7
    } else {
        0x7
    };
    let mut group = criterion.benchmark_group("entry scan");
    for share_percent in [1, 10, 100] {
        let entries = entries(share_percent);
        for way in scan::candidates(states) {
            group.bench_with_input(
                BenchmarkId::new(format!("{way:?}"), format!("{share_percent}% dirty")),
                &entries,
                |bencher, entries| bencher.iter(|| way.dirty(black_box(entries))),
            );
        }
    }
    group.finish();
}

criterion_group!(benches, scans);
criterion_main!(benches);

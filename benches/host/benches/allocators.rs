//! `hs_malloc` and `hs_free` beside general allocators, on the same mixed sizes.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use host_benches::pool::{Blocks, LinkedList, Pool, Talc};
use host_benches::{Step, steps};
use hs_core::class::{Class, ClassId};
use hs_core::host::Session;
use hs_core::raw::SleepingLock;

const SEED: u64 = 2005;
/// Blocks alive at any time.
const SLOTS: usize = 1000;
const STEPS: usize = 1 << 16;
/// Steps in one measured call: a malloc and a free each.
const BATCH: usize = 4096;
const MEMORY_BYTES: usize = 1 << 24;

fn mixed(criterion: &mut Criterion) {
    let session = Session::start(1 << 13);
    let class = Class::create(ClassId(1), MEMORY_BYTES).expect("a class of 16 MiB");
    let steps = steps(SEED, STEPS, SLOTS);
    let mut group = criterion.benchmark_group("mixed sizes");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("class", |bencher| run(bencher, &class, &steps));
    let talc = Talc::<spin::Mutex<()>>::new(MEMORY_BYTES);
    group.bench_function("talc", |bencher| run(bencher, &talc, &steps));
    let talc = Talc::<SleepingLock>::new(MEMORY_BYTES);
    group.bench_function("talc behind the class's lock", |bencher| {
        run(bencher, &talc, &steps);
    });
    let linked_list = LinkedList::new(MEMORY_BYTES);
    group.bench_function("linked_list_allocator", |bencher| {
        run(bencher, &linked_list, &steps);
    });
    group.finish();
    drop(session);
}

fn run<B: Blocks>(bencher: &mut criterion::Bencher<'_>, blocks: &B, steps: &[Step]) {
    let mut pool = Pool::new(blocks, SLOTS);
    for step in steps {
        pool.replace(step.slot, step.layout);
    }
    let mut batches = steps.chunks_exact(BATCH).cycle();
    bencher.iter(|| {
        for step in batches.next().into_iter().flatten() {
            pool.replace(step.slot, step.layout);
        }
    });
}

criterion_group!(benches, mixed);
criterion_main!(benches);

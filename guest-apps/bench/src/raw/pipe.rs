//! The thesis's synchronous checkpoint: the caller writes everything into a pipe, and another thread reads that empty.
//!
//! The memory is the kernel heap's: nothing of it is frozen or watched here, so it does not matter where it lies. The pause is
//! all of the writing, and the stall is the pause: no write afterwards costs more than it did.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use bench_plan::pattern;
use bench_plan::statistics::Samples;
use hs_core::figure::Figure;
use hs_core::platform::{Machine, PAGE_LEN, Priority};
use kernel::time::stopwatch_ns;

use super::child::Flag;
use crate::Context;
use crate::failure::Failure;
use crate::pipe::Pipe;
use crate::rounds::{Point, Repeats, us};

/// Tells the figure of series `pipe`.
pub(super) fn measure(
    context: Context,
    point: &Point,
    pages: usize,
    dirty_pages: usize,
    contiguity: usize,
) -> Result<(), Failure> {
    let repeats = Repeats::of(context, pages);
    let mut memory: Vec<Box<[u8; PAGE_LEN]>> = core::iter::repeat_with(|| Box::new([1; PAGE_LEN]))
        .take(pages)
        .collect();
    let dirty = pattern::spread(pages, dirty_pages, contiguity);
    let pipe = Arc::new(Pipe::new());
    let (source, ended) = (Arc::clone(&pipe), Flag::new());
    let told = ended.clone();
    let body = move || {
        let mut buffer = vec![0; Pipe::LEN];
        while source.read(&mut buffer) > 0 {}
        told.set();
    };
    context
        .guest
        .spawn("pipe-reader", Priority::Normal, Box::new(body))?;
    let (mut pause, mut stall) = (Samples::default(), Samples::default());
    let mut value = 0_u8;
    let mut write = |memory: &mut Vec<Box<[u8; PAGE_LEN]>>| {
        value = value.wrapping_add(1);
        let begun = stopwatch_ns();
        for page in &dirty {
            memory[*page][0] = value;
        }
        core::hint::black_box(memory);
        stopwatch_ns() - begun
    };
    for _ in 0..repeats.runs {
        pause.begin_run();
        stall.begin_run();
        for _ in 0..repeats.rounds {
            write(&mut memory);
            let plain_ns = write(&mut memory);
            let begun = stopwatch_ns();
            memory.iter().for_each(|page| pipe.write(&page[..]));
            let pause_ns = stopwatch_ns() - begun;
            let rewrite_ns = write(&mut memory);
            pause.add(us(pause_ns));
            stall.add(us(pause_ns) + us(rewrite_ns) - us(plain_ns));
        }
    }
    pipe.close();
    ended.wait()?;
    context.tell(Figure {
        bytes: (pages * PAGE_LEN) as u64,
        faults: Some(0.0),
        ..point.figure("pipe", &pause, &stall)
    });
    Ok(())
}

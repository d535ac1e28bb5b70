//! The thesis's test program at several intervals between checkpoints: what it loses to them, and how busy the processor is.
//!
//! 4 MiB in four regions, 10 % modified, frozen lazily and taken as the policy chooses. Each interval once with checkpoints that
//! go nowhere while the program goes on, and once into the local pipe, which the program waits for: the thesis's synchronous
//! case.

use alloc::boxed::Box;

use bench_plan::experiment::Experiment;
use bench_plan::words::{Freeze, Knobs, Sink};
use hs_core::checkpoint::CheckpointPipe;

use super::run;
use super::sink::{Local, Nowhere};
use crate::Context;
use crate::failure::Failure;
use crate::rounds::Point;

const INTERVALS_MS: [u64; 4] = [0, 5, 20, 100];
/// Checkpoints of each run.
const CHECKPOINTS: usize = 20;
const CHECKPOINTS_QUICK: usize = 6;

/// All intervals, with either sink.
pub(crate) fn run(context: Context) -> Result<(), Failure> {
    // One for all: whoever reads it does so for ever.
    let local: &'static Local = Box::leak(Box::new(Local::start(context)?));
    let sinks: [(Sink, &'static dyn CheckpointPipe); 2] = [(Sink::Null, &Nowhere), (Sink::Pipe, local)];
    for interval_ms in INTERVALS_MS {
        for (sink, pipe) in sinks {
            let knobs = Knobs {
                interval_ms,
                checkpoints: if context.quick {
                    CHECKPOINTS_QUICK
                } else {
                    CHECKPOINTS
                },
                sink,
                freeze: Some(Freeze::Lazy),
                ..Knobs::default()
            };
            let point = Point {
                experiment: Experiment::Program.name(),
                x: interval_ms as f64,
                unit: "interval (ms)",
            };
            let figure = run::into(context, pipe, &knobs, context.runs(), &point, sink.name())?;
            context.tell(figure);
        }
    }
    Ok(())
}

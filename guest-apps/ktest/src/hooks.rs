//! Hooks on the real window: what the one in the child sees is frozen, whatever the application does meanwhile.

use alloc::format;
use core::sync::atomic::{AtomicU64, Ordering};

use hs_core::checkpoint::{CheckpointError, Flags, Loss};
use hs_core::registry::hook::{self, FrozenView, Sight, Verdict};
use hs_core::sync::gate;

use crate::library::{Scene, clear_window};
use crate::{Context, Verdict as Outcome, check};

const NUMBERS: usize = 20_000;
const ROUNDS: u64 = 50;

/// Calls of the freeze hook.
static FREEZES: AtomicU64 = AtomicU64::new(0);
/// What the child hook found.
static SUM: AtomicU64 = AtomicU64::new(0);

fn freezes(_: usize) -> Verdict {
    // The gate is this thread's: who changes memory here need not wait for it.
    drop(gate().enter());
    FREEZES.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

fn sums(address: usize, view: &FrozenView<'_>) -> Verdict {
    let mut sum = 0_u64;
    for index in 0..NUMBERS {
        let number = view.read::<u64>(address + index * size_of::<u64>());
        sum = sum.wrapping_add(number.map_err(|_| "a number is not in the view")?);
    }
    SUM.store(sum, Ordering::SeqCst);
    Ok(())
}

/// Incremental checkpoints with a hook that has to see everything: it finds the sum of the moment, although the application
/// writes on; and one that sees only what was modified is refused the rest.
pub(crate) fn hooks(context: &Context) -> Outcome {
    let mut scene = Scene::new(context, NUMBERS)?;
    scene.checkpoint(Flags::empty())?;
    let address = scene.numbers.as_ptr() as usize;
    let error = |error| format!("{error}");
    let before = hook::at_freeze(freezes, 0).map_err(error)?;
    let whole = hook::in_child(Sight::Whole, sums, address).map_err(error)?;
    for round in 0..ROUNDS {
        scene.numbers[round as usize * 400] = round;
        let expected = scene
            .numbers
            .iter()
            .fold(0_u64, |sum, number| sum.wrapping_add(*number));
        let ended = scene.checkpointer.ended();
        let mut seen = ended.seen();
        scene
            .checkpointer
            .checkpoint(Flags::ASYNC | Flags::INCREMENTAL, || ())
            .map_err(|error| format!("checkpoint: {error}"))?;
        // After the pause, on every page.
        for index in (0..NUMBERS).step_by(32) {
            scene.numbers[index] = scene.numbers[index].wrapping_add(round);
        }
        while scene.checkpointer.status().in_flight > 0 {
            ended.wait(seen, None);
            seen = ended.seen();
        }
        let found = SUM.load(Ordering::SeqCst);
        check!(
            found == expected,
            "round {round}: the hook found the sum {found}, not {expected}"
        );
    }
    let status = scene.checkpointer.status();
    check!(
        status.incremental == ROUNDS && status.acked == ROUNDS + 1,
        "{} of {ROUNDS} were incremental, {} acknowledged",
        status.incremental,
        status.acked
    );
    check!(
        FREEZES.swap(0, Ordering::SeqCst) == ROUNDS,
        "the freeze hook was called otherwise than once a checkpoint"
    );
    hook::deregister(whole).map_err(error)?;
    hook::deregister(before).map_err(error)?;

    hook::in_child(Sight::Checkpoint, sums, address).map_err(error)?;
    scene
        .checkpoint(Flags::INCREMENTAL)
        .map_err(|why| format!("with every page modified: {why}"))?;
    scene.numbers[0] += 1;
    match scene.checkpointer.checkpoint(Flags::INCREMENTAL, || ()) {
        Err(CheckpointError::Lost(_, Loss::Hook(refusal))) => check!(
            refusal.why == "a number is not in the view",
            "another refusal: {refusal}"
        ),
        other => return Err(format!("a hook saw what was not frozen for it: {other:?}")),
    }
    drop(scene);
    clear_window(context)?;
    Ok(format!("{ROUNDS} sums of {NUMBERS} numbers"))
}

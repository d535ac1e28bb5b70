//! The console, with a typist at its other end: the host does what the lines that are shown ask for.
//!
//! ```text
//! echo TEXT          types TEXT and a line's end
//! length NUMBER TEXT types "ok", or how long TEXT was
//! interrupt          types Ctrl-C
//! power              presses the power button
//! ```

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use hs_core::platform::{Console, Instant, Machine};
use hs_core::sync::Signal;

use crate::random::Random;
use crate::{Context, Verdict, check};

/// How long nothing may happen at all.
const PATIENCE: Duration = Duration::from_secs(5);

static TYPED: Signal = Signal::new();

/// The console, emptied.
pub(crate) fn open(context: &Context) -> Result<&'static dyn Console, String> {
    let console = context.guest.console().ok_or("this machine has no console")?;
    console.notify(&TYPED);
    while console.receive(&mut [0; 64]) > 0 {}
    Ok(console)
}

/// Shows `request` and a line's end.
pub(crate) fn ask(console: &dyn Console, request: &str) {
    console.send(format!("{request}\n").as_bytes());
}

/// What is typed until the line's end.
fn answer(context: &Context, console: &dyn Console) -> Result<Vec<u8>, String> {
    let mut line = Vec::new();
    let mut last: Instant = context.guest.now();
    loop {
        let seen = TYPED.seen();
        let mut piece = [0; 300];
        let len = console.receive(&mut piece);
        line.extend_from_slice(&piece[..len]);
        if line.last() == Some(&b'\n') {
            line.pop();
            return Ok(line);
        }
        if len > 0 {
            last = context.guest.now();
            continue;
        }
        TYPED.wait(seen, Some(last + PATIENCE));
        check!(
            TYPED.seen() != seen || context.guest.now().since(last) < PATIENCE,
            "{} bytes were typed, then nothing for {} s",
            line.len(),
            PATIENCE.as_secs()
        );
    }
}

fn letters(random: &mut Random, len: usize) -> String {
    (0..len)
        .map(|_| char::from(b'a' + random.below(26) as u8))
        .collect()
}

/// What is typed comes back as it was shown, whatever its length.
pub(crate) fn echo(context: &Context) -> Verdict {
    let console = open(context)?;
    let mut random = Random::new(context.seed);
    let mut total = 0;
    for _ in 0..40 {
        let len = 1 + random_len(&mut random);
        let text = letters(&mut random, len);
        ask(console, &format!("echo {text}"));
        let typed = answer(context, console)?;
        check!(
            typed == text.as_bytes(),
            "{} letters were typed in place of {}, or others",
            typed.len(),
            text.len()
        );
        total += typed.len();
    }
    Ok(format!("{total} letters there and back"))
}

/// Often short, seldom beyond a few pieces.
fn random_len(random: &mut Random) -> usize {
    if random.once_in(4) {
        random.below(4_000)
    } else {
        random.below(40)
    }
}

/// What is more than a ring holds is shown whole.
pub(crate) fn long_output(context: &Context) -> Verdict {
    const LEN: usize = 40_000;
    let console = open(context)?;
    let text = letters(&mut Random::new(context.seed), LEN);
    let begun = context.guest.now();
    ask(console, &format!("length {LEN} {text}"));
    let took_us = context.guest.now().since(begun).as_micros();
    let typed = answer(context, console)?;
    check!(
        typed == b"ok",
        "of {LEN} letters were shown: {}",
        String::from_utf8_lossy(&typed)
    );
    Ok(format!("{LEN} letters shown in {took_us} us"))
}

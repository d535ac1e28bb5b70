//! The two network cards, which the host has joined by a cable: what one sends the other receives.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use hs_core::platform::{CheckpointMemory, Instant, Machine, Nic, PAGE_LEN, RingFull};
use hs_core::sync::Signal;

use crate::memory::window_pages;
use crate::random::Random;
use crate::{Context, Verdict, check};

/// An EtherType for local experiments, so that nobody else's frame is taken for ours.
const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];
const HEADER_LEN: usize = 14;
const FRAME_LEN_MIN: usize = HEADER_LEN + 8;
/// Frames on their way at once: fewer than the receiving card has buffers, and than the host's socket in
/// between.
const WINDOW: u64 = 64;
/// More than the rings' 16-bit indices can count.
const FRAMES: u64 = 70_000;
const ROUND_TRIPS: usize = 5_000;
/// Numbers of different tests differ by this, so that what one has left on its way does not confuse another.
const NUMBERS: u64 = 1 << 32;
/// How long nothing may happen at all.
const PATIENCE: Duration = Duration::from_secs(2);

/// Raised by the first card and by the second.
static SIGNALS: [Signal; 2] = [const { Signal::new() }; 2];

type Card = &'static dyn Nic;

fn cards(context: &Context) -> Result<(Card, Card), String> {
    let &[first, second, ..] = context.guest.nics() else {
        return Err(format!(
            "{} network cards; two on one cable are needed",
            context.guest.nics().len()
        ));
    };
    for (card, signal) in [first, second].into_iter().zip(&SIGNALS) {
        card.notify(signal);
        while card.receive(&mut |_| {}) {}
    }
    Ok((first, second))
}

/// Frame `number` of a run: its length and its contents follow from both.
fn frame(from: Card, to: Card, seed: u64, number: u64) -> Vec<u8> {
    let mut random = Random::new(seed ^ number);
    let longest = from.frame_len_max().min(to.frame_len_max());
    let len = FRAME_LEN_MIN + random.below(longest - FRAME_LEN_MIN + 1);
    let mut frame = Vec::with_capacity(len);
    frame.extend_from_slice(&to.mac());
    frame.extend_from_slice(&from.mac());
    frame.extend_from_slice(&ETHER_TYPE);
    frame.extend_from_slice(&number.to_be_bytes());
    let filling = random.next();
    frame.resize_with(len, || filling as u8);
    frame
}

/// Takes the next frame of this test, if there is one, and whether it is the `expected` one.
fn receive(card: Card, expected: &[u8]) -> Option<bool> {
    let test = |frame: &[u8]| {
        let number = frame.get(HEADER_LEN..FRAME_LEN_MIN)?.try_into().ok()?;
        (frame[12..HEADER_LEN] == ETHER_TYPE).then(|| u64::from_be_bytes(number) / NUMBERS)
    };
    loop {
        let mut verdict = None;
        let more = card.receive(&mut |frame| {
            if test(frame) == test(expected) {
                verdict = Some(frame == expected);
            }
        });
        if verdict.is_some() || !more {
            return verdict;
        }
    }
}

/// Sleeps until something has happened since `seen`. That nothing has, for so long after `last`, is an error
/// even if a look would find something: then a wake-up was lost.
fn sleep(context: &Context, signal: &Signal, seen: u32, last: Instant) -> Result<(), String> {
    signal.wait(seen, Some(last + PATIENCE));
    let patient = signal.seen() != seen || context.guest.now().since(last) < PATIENCE;
    check!(patient, "nothing has happened for {} s", PATIENCE.as_secs());
    Ok(())
}

/// Frames of all lengths arrive whole, in order and without a loss, beyond the point where 16-bit indices
/// wrap, whatever the number of frames behind one kick.
pub(crate) fn frames(context: &Context) -> Verdict {
    let (from, to) = cards(context)?;
    let frame = |number| frame(from, to, context.seed, number);
    let mut random = Random::new(context.seed);
    let (mut sent, mut received) = (0, 0);
    let begun = context.guest.now();
    let mut last = begun;
    while received < FRAMES {
        let seen = SIGNALS[1].seen();
        let batch = 1 + random.below(WINDOW as usize) as u64;
        let end = FRAMES.min(received + WINDOW).min(sent + batch);
        while sent < end && from.transmit(&frame(sent)).is_ok() {
            sent += 1;
        }
        from.kick();
        let before = received;
        while received < sent {
            match receive(to, &frame(received)) {
                Some(true) => received += 1,
                Some(false) => return Err(format!("frame {received} is not what arrived in its place")),
                None => break,
            }
        }
        if received > before {
            last = context.guest.now();
        } else if sent == end {
            sleep(context, &SIGNALS[1], seen, last)
                .map_err(|error| format!("{received} of {sent} frames: {error}"))?;
        }
    }
    let took = context.guest.now().since(begun).as_micros() as u64;
    Ok(format!("{} frames/s", FRAMES * 1_000_000 / took.max(1)))
}

/// One frame at a time, asleep until it is there: no wake-up is lost.
pub(crate) fn round_trips(context: &Context) -> Verdict {
    let (first, second) = cards(context)?;
    let mut times_us = Vec::with_capacity(ROUND_TRIPS);
    for number in 0..ROUND_TRIPS as u64 {
        let begun = context.guest.now();
        for (from, to, signal) in [(first, second, &SIGNALS[1]), (second, first, &SIGNALS[0])] {
            let frame = frame(from, to, context.seed, NUMBERS + number);
            from.transmit(&frame)
                .map_err(|RingFull| format!("the ring is full at trip {number}"))?;
            from.kick();
            loop {
                let seen = signal.seen();
                match receive(to, &frame) {
                    Some(true) => break,
                    Some(false) => return Err(format!("trip {number} brought back something else")),
                    None => sleep(context, signal, seen, begun)
                        .map_err(|error| format!("trip {number}: {error}"))?,
                }
            }
        }
        times_us.push(context.guest.now().since(begun).as_micros());
    }
    times_us.sort_unstable();
    let at = |percent: usize| times_us[(times_us.len() - 1) * percent / 100];
    Ok(format!("median {} us, 99 % {} us", at(50), at(99)))
}

/// A full ring says so, and then says when there is room, even if nobody has kicked before. The last of these
/// tests: so many frames at once are more than the cable holds, and it may lose whatever comes next.
pub(crate) fn ring_full(context: &Context) -> Verdict {
    let (from, to) = cards(context)?;
    let frame = |number| frame(from, to, context.seed, 2 * NUMBERS + number);
    let mut sent = 0;
    let mut seen = SIGNALS[0].seen();
    while from.transmit(&frame(sent)).is_ok() {
        sent += 1;
        check!(
            sent <= 4096,
            "{sent} frames without a kick, and the ring is not full"
        );
        seen = SIGNALS[0].seen();
    }
    // The wake-up must come, even if a look would find room before it.
    let last = context.guest.now();
    while SIGNALS[0].seen() == seen {
        sleep(context, &SIGNALS[0], seen, last)
            .map_err(|error| format!("no room after {sent} frames: {error}"))?;
    }
    check!(
        from.transmit(&frame(sent)).is_ok(),
        "woken after {sent} frames, but there is no room"
    );
    from.kick();
    Ok(format!("full at {sent} frames"))
}

/// A frame in the checkpoint window is sent as it was when it was handed over: the device never sees the
/// window.
pub(crate) fn bounce(context: &Context) -> Verdict {
    let (from, to) = cards(context)?;
    let range = window_pages(0, 1);
    context
        .guest
        .map(range)
        .map_err(|error| format!("map: {error}"))?;
    let expected = frame(from, to, context.seed, 3 * NUMBERS);
    // SAFETY: just mapped, and nobody else's.
    let page = unsafe { &mut *core::ptr::with_exposed_provenance_mut::<[u8; PAGE_LEN]>(range.start()) };
    page[..expected.len()].copy_from_slice(&expected);
    let sent = from.transmit(&page[..expected.len()]);
    page.fill(0xee);
    from.kick();
    let last = context.guest.now();
    let verdict = loop {
        let seen = SIGNALS[1].seen();
        match receive(to, &expected) {
            Some(true) => break Ok(String::new()),
            Some(false) => break Err("what was written after the frame was handed over has gone out".into()),
            None => {
                if let Err(error) = sleep(context, &SIGNALS[1], seen, last) {
                    break Err(error);
                }
            }
        }
    };
    context
        .guest
        .unmap(range)
        .map_err(|error| format!("unmap: {error}"))?;
    check!(sent.is_ok(), "the ring is full");
    verdict
}

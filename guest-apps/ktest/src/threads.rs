//! Threads: preemption, SSE state, sleeping and waking, priorities, the end.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

use hs_core::platform::{Machine, Priority};
use hs_core::sync::{Condvar, Mutex, Signal};
use kernel::thread;

use crate::{Context, Verdict, check};

/// Waits until `count` is `target`, for at most `seconds`.
fn wait_for(context: &Context, count: &AtomicU32, target: u32, seconds: u64) -> bool {
    let end = context.guest.now() + Duration::from_secs(seconds);
    loop {
        let seen = count.load(Ordering::SeqCst);
        if seen >= target {
            return true;
        }
        if context.guest.now() >= end {
            return false;
        }
        context.guest.wait(count, seen, Some(end));
    }
}

fn done(context: &Context, count: &AtomicU32) {
    count.fetch_add(1, Ordering::SeqCst);
    context.guest.wake(count, usize::MAX);
}

/// Four threads that never yield make progress together, and none finds another's SSE registers.
pub(crate) fn preemption(context: &Context) -> Verdict {
    const THREADS: usize = 4;
    struct Shared {
        turns: [AtomicU64; THREADS],
        stop: AtomicBool,
        finished: AtomicU32,
        wrong: AtomicU32,
        total: Mutex<u64>,
    }
    let shared: &'static Shared = Box::leak(Box::new(Shared {
        turns: [const { AtomicU64::new(0) }; THREADS],
        stop: AtomicBool::new(false),
        finished: AtomicU32::new(0),
        wrong: AtomicU32::new(0),
        total: Mutex::new(0),
    }));
    let guest = context.guest;
    for index in 0..THREADS {
        guest
            .spawn(
                "spinner",
                Priority::Normal,
                Box::new(move || {
                    let own = index as f64 + 0.5;
                    let mut sum = 0.0;
                    let mut turns = 0_u64;
                    while !shared.stop.load(Ordering::Relaxed) {
                        for _ in 0..100 {
                            sum += core::hint::black_box(own);
                        }
                        turns += 1;
                        if sum != own * 100.0 * turns as f64 {
                            shared.wrong.fetch_add(1, Ordering::Relaxed);
                            break;
                        }
                        shared.turns[index].store(turns, Ordering::Relaxed);
                        if turns.is_multiple_of(64) {
                            *shared.total.lock() += 64;
                        }
                    }
                    shared.finished.fetch_add(1, Ordering::SeqCst);
                    guest.wake(&shared.finished, usize::MAX);
                }),
            )
            .map_err(|error| format!("spawn: {error}"))?;
    }
    // Until each has had many turns: only preemption can bring that about, since none of them yields.
    let end = guest.now() + Duration::from_secs(20);
    let timer = AtomicU32::new(0);
    while shared
        .turns
        .iter()
        .any(|turns| turns.load(Ordering::Relaxed) < 5_000)
        && guest.now() < end
    {
        guest.wait(&timer, 0, Some(guest.now() + Duration::from_millis(20)));
    }
    shared.stop.store(true, Ordering::Relaxed);
    check!(
        wait_for(context, &shared.finished, THREADS as u32, 5),
        "a thread did not come to its end"
    );
    let turns: u64 = shared
        .turns
        .iter()
        .map(|turns| turns.load(Ordering::Relaxed))
        .sum();
    check!(
        shared.wrong.load(Ordering::Relaxed) == 0,
        "a thread found foreign SSE registers"
    );
    check!(
        shared
            .turns
            .iter()
            .all(|turns| turns.load(Ordering::Relaxed) >= 5_000),
        "a thread starved: {:?}",
        shared.turns
    );
    Ok(format!("{turns} turns"))
}

/// Two threads hand a token back and forth; no wake-up is lost.
pub(crate) fn wait_and_wake(context: &Context) -> Verdict {
    const ROUNDS: u32 = 5_000;
    struct Shared {
        ping: Signal,
        pong: Signal,
        finished: AtomicU32,
    }
    let shared: &'static Shared = Box::leak(Box::new(Shared {
        ping: Signal::new(),
        pong: Signal::new(),
        finished: AtomicU32::new(0),
    }));
    let guest = context.guest;
    guest
        .spawn(
            "pong",
            Priority::Normal,
            Box::new(move || {
                for round in 0..ROUNDS {
                    while shared.ping.seen() == round {
                        shared.ping.wait(round, None);
                    }
                    shared.pong.raise();
                }
                shared.finished.fetch_add(1, Ordering::SeqCst);
                guest.wake(&shared.finished, usize::MAX);
            }),
        )
        .map_err(|error| format!("spawn: {error}"))?;
    let start = guest.now();
    for round in 0..ROUNDS {
        shared.ping.raise();
        let end = guest.now() + Duration::from_secs(5);
        while shared.pong.seen() == round {
            check!(guest.now() < end, "the wake-up of round {round} was lost");
            shared.pong.wait(round, Some(end));
        }
    }
    let elapsed = guest.now() - start;
    check!(
        wait_for(context, &shared.finished, 1, 5),
        "the other thread did not come to its end"
    );
    Ok(format!(
        "{} ns a round trip",
        elapsed.as_nanos() / u128::from(ROUNDS)
    ))
}

/// A sleep ends neither early nor never.
pub(crate) fn sleep(context: &Context) -> Verdict {
    let mut late_max = Duration::ZERO;
    for millis in [0, 1, 2, 5, 20, 50] {
        let start = context.guest.now();
        hs_core::sync::sleep(Duration::from_millis(millis));
        let slept = context.guest.now() - start;
        check!(
            slept >= Duration::from_millis(millis),
            "slept {slept:?} of {millis} ms"
        );
        late_max = late_max.max(slept - Duration::from_millis(millis));
    }
    check!(late_max < Duration::from_secs(2), "a sleep was {late_max:?} late");
    Ok(format!("at most {} us late", late_max.as_micros()))
}

/// Two equals share the processor, however often somebody more urgent stops the one that runs.
pub(crate) fn fairness(context: &Context) -> Verdict {
    struct Shared {
        stop: AtomicU32,
        woken: AtomicU32,
        ran: AtomicU32,
    }
    let shared: &'static Shared = Box::leak(Box::new(Shared {
        stop: AtomicU32::new(0),
        woken: AtomicU32::new(0),
        ran: AtomicU32::new(0),
    }));
    let guest = context.guest;
    let urgent = move || {
        let word = AtomicU32::new(0);
        while shared.stop.load(Ordering::SeqCst) == 0 {
            guest.wait(&word, 0, Some(guest.now() + Duration::from_millis(1)));
            shared.woken.fetch_add(1, Ordering::SeqCst);
        }
    };
    let equal = move || shared.ran.store(1, Ordering::SeqCst);
    guest
        .spawn("urgent", Priority::Urgent, Box::new(urgent))
        .and_then(|()| guest.spawn("equal", Priority::Normal, Box::new(equal)))
        .map_err(|error| format!("spawn: {error}"))?;
    // Far more often than a fair turn takes.
    let fair = |shared: &Shared| shared.woken.load(Ordering::SeqCst) < 100;
    while shared.ran.load(Ordering::SeqCst) == 0 && fair(shared) {
        core::hint::spin_loop();
    }
    let (ran, woken) = (
        shared.ran.load(Ordering::SeqCst),
        shared.woken.load(Ordering::SeqCst),
    );
    shared.stop.store(1, Ordering::SeqCst);
    check!(
        ran == 1,
        "an equal did not run while an urgent one woke {woken} times"
    );
    Ok(format!("after {woken} urgent turns"))
}

/// An urgent thread interrupts one that spins; a background thread that holds a lock is not kept from letting go.
pub(crate) fn priority(context: &Context) -> Verdict {
    struct Shared {
        lock: Mutex<u32>,
        taken: AtomicU32,
        urgent: AtomicU32,
    }
    let shared: &'static Shared = Box::leak(Box::new(Shared {
        lock: Mutex::new(0),
        taken: AtomicU32::new(0),
        urgent: AtomicU32::new(0),
    }));
    let guest = context.guest;
    let count = &shared.urgent;
    guest
        .spawn(
            "urgent",
            Priority::Urgent,
            Box::new(move || {
                let word = AtomicU32::new(0);
                let wake = guest.now() + Duration::from_millis(5);
                while guest.now() < wake {
                    guest.wait(&word, 0, Some(wake));
                }
                count.store(1, Ordering::SeqCst);
            }),
        )
        .map_err(|error| format!("spawn: {error}"))?;
    let end = guest.now() + Duration::from_secs(5);
    while shared.urgent.load(Ordering::SeqCst) == 0 {
        check!(
            guest.now() < end,
            "a spinning thread kept an urgent one from running"
        );
        core::hint::spin_loop();
    }
    guest
        .spawn(
            "background",
            Priority::Background,
            Box::new(move || {
                let mut guard = shared.lock.lock();
                shared.taken.store(1, Ordering::SeqCst);
                guest.wake(&shared.taken, usize::MAX);
                for _ in 0..200_000 {
                    *guard = core::hint::black_box(*guard + 1);
                }
            }),
        )
        .map_err(|error| format!("spawn: {error}"))?;
    check!(
        wait_for(context, &shared.taken, 1, 5),
        "the background thread never ran"
    );
    // We spin as an application might; the holder must let go all the same.
    let end = guest.now() + Duration::from_secs(5);
    loop {
        if let Some(guard) = shared.lock.try_lock() {
            check!(
                *guard == 200_000,
                "the lock was free although its holder was not done"
            );
            break;
        }
        check!(guest.now() < end, "the holder of a lock was kept from letting go");
    }
    Ok("".into())
}

/// Threads that end give their place and their stack back.
pub(crate) fn end(context: &Context) -> Verdict {
    let before = kernel::mem::frames::available();
    let finished = Arc::new(AtomicU32::new(0));
    for round in 0..200_u32 {
        let count = Arc::clone(&finished);
        let guest = context.guest;
        guest
            .spawn(
                "short",
                Priority::Normal,
                Box::new(move || {
                    count.fetch_add(1, Ordering::SeqCst);
                    guest.wake(&count, usize::MAX);
                }),
            )
            .map_err(|error| format!("spawn {round}: {error}"))?;
        check!(
            wait_for(context, &finished, round + 1, 5),
            "thread {round} did not run"
        );
    }
    done(context, &finished);
    let after = kernel::mem::frames::available();
    // The last one's stack is freed with the next spawn; page tables of the stacks stay.
    check!(after + 200 > before, "{} frames are missing", before - after);
    Ok(format!(
        "{} frames kept for tables and the last stack",
        before.saturating_sub(after)
    ))
}

/// Producers and consumers through a bounded queue under a mutex and two condition variables; every thread is joined.
pub(crate) fn condvar_and_join(_: &Context) -> Verdict {
    const ITEMS: u64 = 3_000;
    const ROOM: usize = 4;
    struct Shared {
        queue: Mutex<VecDeque<u64>>,
        filled: Condvar,
        emptied: Condvar,
        sum: AtomicU64,
    }
    let shared = Arc::new(Shared {
        queue: Mutex::new(VecDeque::new()),
        filled: Condvar::new(),
        emptied: Condvar::new(),
        sum: AtomicU64::new(0),
    });
    let mut handles = Vec::new();
    for producer in 0..2 {
        let shared = Arc::clone(&shared);
        let body = move || {
            for item in 0..ITEMS {
                let mut queue = shared.queue.lock();
                while queue.len() >= ROOM {
                    shared.emptied.wait(&mut queue, None);
                }
                queue.push_back(item * 2 + producer);
                shared.filled.notify_one();
            }
        };
        handles.push(thread::spawn(
            "producer",
            Priority::Normal,
            thread::STACK_LEN,
            Box::new(body),
        ));
    }
    for _ in 0..2 {
        let shared = Arc::clone(&shared);
        let body = move || {
            for _ in 0..ITEMS {
                let mut queue = shared.queue.lock();
                let item = loop {
                    match queue.pop_front() {
                        Some(item) => break item,
                        None => shared.filled.wait(&mut queue, None),
                    }
                };
                shared.sum.fetch_add(item, Ordering::Relaxed);
                shared.emptied.notify_one();
            }
        };
        handles.push(thread::spawn(
            "consumer",
            Priority::Normal,
            thread::STACK_LEN,
            Box::new(body),
        ));
    }
    for handle in handles {
        handle.map_err(|error| format!("spawn: {error}"))?.join();
    }
    let expected: u64 = (0..2 * ITEMS).sum();
    let sum = shared.sum.load(Ordering::Relaxed);
    check!(sum == expected, "the items add up to {sum} instead of {expected}");
    Ok(format!("{} items", 2 * ITEMS))
}

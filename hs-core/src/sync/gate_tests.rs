//! The gate and its lock under real threads: what is seen while it is closed is whole, and nobody is kept for ever.

use std::boxed::Box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::vec::Vec;

use proptest::prelude::*;

use super::{CheckpointMutex, Gate, InsideGate, gate};
use crate::host::{HostMachine, Session};

/// Two words that are equal unless somebody is in the middle of a change.
#[derive(Default)]
struct Twins(AtomicU64, AtomicU64);

impl Twins {
    fn change(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        thread::yield_now();
        self.1.fetch_add(1, Ordering::Relaxed);
    }

    fn are_equal(&self) -> bool {
        self.0.load(Ordering::Relaxed) == self.1.load(Ordering::Relaxed)
    }
}

/// Lets `workers` change their twins, inside the gate or not, while this thread closes it `closings` times; returns how
/// often it saw unequal ones. Ends early when it has.
fn torn(workers: usize, depth: usize, closings: usize, inside: bool) -> usize {
    HostMachine::install();
    let gate = Gate::new();
    let ends = AtomicBool::new(false);
    let twins: Vec<Twins> = (0..workers).map(|_| Twins::default()).collect();
    let mut torn = 0;
    thread::scope(|scope| {
        for twins in &twins {
            let (gate, ends) = (&gate, &ends);
            scope.spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    let guards: Vec<_> = (0..depth).filter(|_| inside).map(|_| gate.enter()).collect();
                    twins.change();
                    drop(guards);
                }
            });
        }
        for _ in 0..closings {
            let closed = gate.close().expect("this thread is not inside");
            torn += twins.iter().filter(|twins| !twins.are_equal()).count();
            drop(closed);
            if torn > 0 {
                break;
            }
        }
        ends.store(true, Ordering::Relaxed);
    });
    torn
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn nothing_is_half_done_while_it_is_closed(workers in 1usize..6, depth in 1usize..4, closings in 1usize..60) {
        prop_assert_eq!(torn(workers, depth, closings, true), 0);
    }
}

#[test]
fn a_change_outside_the_gate_is_found() {
    assert!(
        torn(4, 1, 1_000_000, false) > 0,
        "nobody was seen in the middle of a change: the test above shows nothing"
    );
}

#[test]
fn a_thread_inside_may_enter_again_and_may_not_close() {
    HostMachine::install();
    let gate = Gate::new();
    let outer = gate.enter();
    let inner = gate.enter();
    assert_eq!(gate.close().unwrap_err(), InsideGate);
    drop(outer);
    assert_eq!(gate.close().unwrap_err(), InsideGate);
    drop(inner);
    let closed = gate.close().unwrap();
    // Its own thread is not kept out, nor lets it anybody in by leaving.
    drop(gate.enter());
    assert_eq!(gate.close().unwrap_err(), InsideGate);
    drop(closed);
    drop(gate.close().unwrap());
}

#[test]
fn who_is_inside_enters_again_although_somebody_wants_to_close() {
    HostMachine::install();
    let gate: &'static Gate = Box::leak(Box::default());
    let outer = gate.enter();
    let (told, closed) = mpsc::channel();
    let closer = thread::spawn(move || {
        let closed = gate.close().unwrap();
        told.send(()).unwrap();
        drop(closed);
    });
    // Once it is marked closed, others wait.
    while !gate.is_closed() {
        thread::yield_now();
    }
    drop(gate.enter());
    let (entered, news) = mpsc::channel();
    let other = thread::spawn(move || {
        drop(gate.enter());
        entered.send(()).unwrap();
    });
    while gate.state.load(Ordering::Relaxed) & gate::AWAITED == 0 {
        thread::yield_now();
    }
    assert!(closed.try_recv().is_err() && news.try_recv().is_err());
    drop(outer);
    const TOO_LONG: Duration = Duration::from_secs(30);
    closed
        .recv_timeout(TOO_LONG)
        .expect("the gate closes when the last one has left");
    news.recv_timeout(TOO_LONG)
        .expect("who waits enters when it opens");
    closer.join().unwrap();
    other.join().unwrap();
}

#[test]
fn a_checkpoint_mutex_is_held_by_one_and_free_whenever_the_gate_is_closed() {
    const ROUNDS: u64 = 2_000;
    // The program's own gate, which checkpoints of other tests close too.
    let _session = Session::start(64);
    let locks: [CheckpointMutex<u64>; 3] = Default::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for round in 0..ROUNDS {
                        let mut first = locks[round as usize % 2].lock();
                        // A second lock while one is held, although somebody may want to close.
                        let mut second = locks[2].lock();
                        let before = *second;
                        thread::yield_now();
                        *second = before + 1;
                        *first += 1;
                    }
                })
            })
            .collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            let closed = gate().close().unwrap();
            assert!(locks.iter().all(|lock| !lock.is_locked()));
            drop(closed);
            thread::yield_now();
        }
    });
    assert_eq!(locks[2].try_lock().map(|count| *count), Some(4 * ROUNDS));
    assert_eq!(*locks[0].lock() + *locks[1].lock(), 4 * ROUNDS);
}

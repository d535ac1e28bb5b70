//! The global allocator's work, in classes.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::{Class, ClassId};
use crate::class::{outside_classes, with_class};
use crate::host::Session;
use crate::library::window_holds;
use crate::registry::thread as workers;

fn in_window<T>(value: &T) -> bool {
    window_holds((&raw const *value).addr())
}

#[test]
fn scopes_nest_and_end_and_belong_to_a_thread() {
    let _session = Session::start(256);
    let [outer, inner] = [1, 2].map(|id| Class::create(ClassId(id), 0).unwrap());
    let blocks = || [outer.statistics().blocks, inner.statistics().blocks];
    let mut kept: Vec<Box<u64>> = Vec::with_capacity(8);
    with_class(outer, || {
        kept.push(Box::new(1));
        with_class(inner, || kept.push(Box::new(2)));
        kept.push(Box::new(3));
        outside_classes(|| kept.push(Box::new(4)));
        // Another thread is in no scope.
        let other = outside_classes(|| thread::spawn(|| Box::new(5)).join().unwrap());
        kept.push(other);
    });
    kept.push(Box::new(6));
    assert_eq!(blocks(), [2, 1]);
    let places: Vec<bool> = kept.iter().map(|value| in_window(&**value)).collect();
    assert_eq!(places, [true, true, true, false, false, false]);
    // A panic ends the scope too.
    let thrown = std::panic::catch_unwind(|| with_class(outer, || std::panic::resume_unwind(Box::new(0_u8))));
    outside_classes(|| drop(thrown));
    assert!(!in_window(&*Box::new(1)));
    drop(kept);
    assert_eq!(blocks(), [0, 0]);
}

#[test]
fn what_the_library_allocates_for_itself_stays_out() {
    fn worker(_: usize) {}
    let _session = Session::start(1024);
    let class = Class::create(ClassId(1), 0).unwrap();
    with_class(class, || {
        // Each of them allocates under the allocation lock.
        let other = Class::create(ClassId(2), 1 << 16).unwrap();
        other.malloc(core::alloc::Layout::new::<[u8; 100_000]>()).unwrap();
        workers::register(worker, 1).unwrap();
        drop(workers::workers());
        assert!(other.trim().is_ok());
        assert!(other.destroy().is_err());
    });
    assert_eq!(class.statistics().blocks, 0);
}

#[test]
fn an_exhausted_class_says_so_to_whoever_asks() {
    let session = Session::start(64);
    let class = Class::create(ClassId(1), 0).unwrap();
    session.memory().set_frames(0);
    with_class(class, || {
        let mut bytes: Vec<u8> = Vec::new();
        assert!(bytes.try_reserve(1 << 20).is_err());
        assert!(bytes.try_reserve(100).is_ok());
    });
    assert_eq!(class.statistics().blocks, 0);
}

/// Each thread works in a scope of its own, and frees what another has made.
#[test]
fn many_threads_in_many_scopes() {
    const THREADS: usize = 4;
    const ROUNDS: usize = 1500;
    let _session = Session::start(32_768);
    let classes: Vec<Class> = (0..3).map(|id| Class::create(ClassId(id), 0).unwrap()).collect();
    let (sender, receiver) = std::sync::mpsc::channel::<(usize, BTreeMap<String, Vec<u8>>)>();
    let receiver = std::sync::Mutex::new(receiver);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // Trims while all others work.
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                for class in &classes {
                    class.trim().unwrap();
                }
            }
        });
        let threads: Vec<_> = (0..THREADS)
            .map(|index| {
                let (sender, receiver, classes) = (sender.clone(), &receiver, &classes);
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let class = classes[(index + round) % classes.len()];
                        let map = with_class(class, || {
                            let pairs = (0..round % 9)
                                .map(|key| (format!("{index}.{round}.{key}"), vec![key as u8; key * 90]));
                            pairs.collect::<BTreeMap<_, _>>()
                        });
                        sender.send((round, map)).unwrap();
                        let (round, map) = receiver.lock().unwrap().recv().unwrap();
                        assert_eq!(map.len(), round % 9);
                        for (key, (name, value)) in (0..).zip(&map) {
                            assert!(name.ends_with(&format!(".{key}")));
                            assert!(value.len() == key * 90 && value.iter().all(|byte| *byte == key as u8));
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        done.store(true, Ordering::SeqCst);
    });
    for class in classes {
        assert_eq!(class.statistics().blocks, 0);
        class.destroy().unwrap();
    }
}

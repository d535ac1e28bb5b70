//! Whether each peer is a correct snapshot: what it holds is what stood in memory at the checkpoint.

use std::sync::{Mutex, PoisonError};

use bench_plan::pattern::dirty_set;

use super::*;
use crate::sys::map::{HUGE_LEN, Sharing};

/// One at a time: a signal has one handler, and soft-dirty bits are a whole process's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const ROUNDS: u64 = 5;

/// The first word that was written to page number `page`.
fn word_in(memory: &[u8; PAGE_LEN], page: usize) -> u64 {
    let at = page % 64 * 64;
    u64::from_ne_bytes(memory[at..at + 8].try_into().unwrap())
}

fn hold(series: Series, memory: &Memory, alive: usize, contents: Contents) {
    let mut peer = match start(series, memory, alive, contents) {
        Ok(peer) => peer,
        Err(error) => {
            eprintln!("skipped: {}: {error:#}", series.name());
            return;
        }
    };
    let mut held = std::collections::VecDeque::new();
    for round in 1..=ROUNDS {
        peer.prepare().unwrap();
        memory.touch(round * 10);
        peer.checkpoint().unwrap();
        peer.settle().unwrap();
        held.push_back(round * 10);
        // What is written afterwards must not show.
        memory.touch(round * 10 + 1);
        if held.len() < alive {
            continue;
        }
        let expected = held.pop_front().unwrap();
        let mut dirty = memory.dirty().iter().peekable();
        let mut page = [0; PAGE_LEN];
        let mut count = 0;
        for number in 0..memory.pages() {
            let is_dirty = dirty.next_if_eq(&&number).is_some();
            let is_held = peer.copy_page(number, &mut page).unwrap();
            assert!(
                is_held || !is_dirty,
                "{}: page {number} was modified and is missing",
                series.name()
            );
            if is_held {
                let word = if is_dirty { expected } else { 0 };
                assert_eq!(
                    word_in(&page, number),
                    word,
                    "{}: page {number} in round {round}",
                    series.name()
                );
                count += 1;
            }
        }
        let bytes = (count * PAGE_LEN) as u64;
        // Peers that save old pages see all memory, and say how much they saved.
        assert!(
            peer.bytes() == bytes || matches!(series, Series::Segv | Series::UffdWp),
            "{}: {bytes}",
            series.name()
        );
        peer.let_go().unwrap();
    }
}

fn each(series: Series, alive: usize) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for (percent, contiguity) in [(1, 4), (10, 4), (50, 4), (95, 25), (100, 4)] {
        for contents in [Contents::Everything, Contents::Modified] {
            if series == Series::ForkThp {
                let len_bytes = 2 * HUGE_LEN + (256 << 10);
                let dirty = dirty_set(len_bytes / PAGE_LEN, percent, contiguity);
                let memory = Memory::huge_pages(len_bytes, dirty);
                hold(series, &memory.unwrap(), alive, contents);
            } else {
                let dirty = dirty_set(256, percent, contiguity);
                let memory = Memory::small_pages(1 << 20, 4, Sharing::Private, dirty).unwrap();
                // Twice on the same memory: a peer leaves nothing behind.
                hold(series, &memory, alive, contents);
                let word = |memory: &Memory| {
                    let mut page = [0; PAGE_LEN];
                    memory.mapping().read(0, &mut page);
                    word_in(&page, 0)
                };
                memory.touch(0);
                assert_eq!(word(&memory), 0);
                hold(series, &memory, alive, contents);
            }
        }
    }
}

#[test]
fn fork_holds_what_was() {
    each(Series::Fork, 1);
}

#[test]
fn several_forks_hold_what_was() {
    each(Series::Fork, 3);
}

#[test]
fn a_wired_fork_holds_what_was() {
    each(Series::ForkWired, 1);
}

#[test]
fn a_fork_over_huge_pages_holds_what_was() {
    each(Series::ForkThp, 1);
}

#[test]
fn soft_dirty_copies_what_was() {
    each(Series::SoftDirty, 1);
}

#[test]
fn pagemap_scan_copies_what_was() {
    each(Series::PagemapScan, 1);
}

#[test]
fn several_copies_hold_what_was() {
    each(Series::PagemapScan, 3);
}

#[test]
fn segv_saves_what_was() {
    each(Series::Segv, 1);
}

#[test]
fn userfaultfd_saves_what_was() {
    each(Series::UffdWp, 1);
}

#[test]
fn a_pipe_carries_what_was() {
    each(Series::Pipe, 1);
}

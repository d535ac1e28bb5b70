use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn policy(counts: &[usize]) -> Policy {
    let mut policy = Policy::new(Choice::Auto);
    counts.iter().for_each(|count| policy.record(*count));
    policy
}

#[test]
fn without_anything_remembered_it_is_incremental() {
    assert_eq!(policy(&[]).choose(0), Way::Incremental);
    assert_eq!(policy(&[]).choose(1000), Way::Incremental);
}

#[test]
fn few_pages_are_copied() {
    assert_eq!(policy(&[COPY_PAGES_MAX]).choose(1000), Way::Copy);
    assert_eq!(policy(&[COPY_PAGES_MAX + 1]).choose(1000), Way::Incremental);
    // Of an application that wrote nothing, nothing is frozen either.
    assert_eq!(policy(&[0]).choose(0), Way::Copy);
}

#[test]
fn one_large_epoch_keeps_from_copying_until_it_is_four_epochs_old() {
    let mut policy = policy(&[1, 500, 1, 1, 1]);
    assert_eq!(policy.choose(1000), Way::Incremental);
    policy.record(1);
    assert_eq!(policy.choose(1000), Way::Copy);
}

#[test]
fn nearly_all_pages_every_time_are_a_full_checkpoint() {
    assert_eq!(policy(&[950; 3]).choose(1000), Way::Incremental);
    assert_eq!(policy(&[950; 4]).choose(1000), Way::Full);
    assert_eq!(policy(&[950; 4]).choose(1001), Way::Incremental);
    assert_eq!(policy(&[950, 950, 949, 950]).choose(1000), Way::Incremental);
}

#[test]
fn one_smaller_epoch_keeps_from_full_ones_until_it_is_forgotten() {
    let mut policy = policy(&[1000, 1000, 1000, 1000, 100]);
    for _ in 0..EPOCHS - 1 {
        policy.record(1000);
        assert_eq!(policy.choose(1000), Way::Incremental);
    }
    policy.record(1000);
    assert_eq!(policy.choose(1000), Way::Full);
}

#[test]
fn a_forced_way_is_taken_whatever_is_remembered() {
    for (choice, way) in [
        (Choice::Copy, Way::Copy),
        (Choice::Incremental, Way::Incremental),
        (Choice::Full, Way::Full),
    ] {
        let mut policy = Policy::new(choice);
        assert!(!policy.is_free());
        for count in [0, 1, 1000, 1000, 1000, 1000, 500] {
            assert_eq!(policy.choose(1000), way);
            policy.record(count);
        }
    }
    assert!(Policy::new(Choice::default()).is_free());
}

/// The rule in other words, over all counts that were ever recorded.
fn expected(counts: &[usize], installed: usize) -> Way {
    let remembered: Vec<usize> = counts.iter().rev().take(EPOCHS).copied().collect();
    let is_small = |count: &usize| *count <= COPY_PAGES_MAX;
    let is_most = |count: &usize| *count as u128 * 100 >= installed as u128 * FULL_SHARE_PERCENT as u128;
    if remembered.is_empty() {
        Way::Incremental
    } else if remembered.iter().take(4).all(is_small) {
        Way::Copy
    } else if remembered.len() >= 4 && remembered.iter().all(is_most) {
        Way::Full
    } else {
        Way::Incremental
    }
}

proptest! {
    #[test]
    fn it_chooses_as_the_rule_says(
        counts in proptest::collection::vec(prop_oneof![0..20usize, 900..1001usize], 0..30),
        installed in prop_oneof![0..1100usize, Just(1000)],
    ) {
        prop_assert_eq!(policy(&counts).choose(installed), expected(&counts, installed));
    }

    #[test]
    fn steady_work_settles_on_one_way(count in 0..1001usize) {
        let mut policy = policy(&[]);
        for _ in 0..RECENT {
            policy.record(count);
        }
        let settled = policy.choose(1000);
        for _ in 0..2 * EPOCHS {
            policy.record(count);
            prop_assert_eq!(policy.choose(1000), settled);
        }
    }

    #[test]
    fn counts_of_any_size_do_not_overflow(counts in proptest::collection::vec(any::<usize>(), 0..20), installed: usize) {
        let way = policy(&counts).choose(installed);
        prop_assert!(way != Way::Full || counts.len() >= RECENT);
    }
}

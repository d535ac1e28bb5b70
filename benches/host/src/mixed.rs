//! A program's allocations, made up: many small, few large, each alive for a random while.
//!
//! The same seed gives the same steps, for each allocator that is compared. They are drawn before the clock runs.

use std::alloc::Layout;

/// Sizes in bytes, from … up to but without, and how often of a hundred: most are nodes, keys and short strings, as in
/// the store; a few are buffers.
const SIZES: [(usize, usize, u64); 5] = [
    (16, 64, 40),
    (64, 256, 30),
    (256, 1024, 18),
    (1024, 4096, 9),
    (4096, 8193, 3),
];

/// The block in a slot goes, and one of this layout comes.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Which slot.
    pub slot: usize,
    /// Of the new block.
    pub layout: Layout,
}

/// So many steps over so many slots. A slot is drawn evenly, so that lifetimes are as random as they can be.
pub fn steps(seed: u64, count: usize, slots: usize) -> Vec<Step> {
    let mut dice = Dice(seed);
    let mut step = || {
        let mut share = dice.roll(100);
        let (from, to, _) = SIZES
            .into_iter()
            .find(|(_, _, percent)| {
                let found = share < *percent;
                share = share.saturating_sub(*percent);
                found
            })
            .expect("the shares add up to a hundred");
        let size = from + dice.roll((to - from) as u64) as usize;
        Step {
            slot: dice.roll(slots as u64) as usize,
            layout: Layout::from_size_align(size, 8).expect("a small layout"),
        }
    };
    std::iter::repeat_with(&mut step).take(count).collect()
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

//! Chance: a seed from the CPU, and a small generator for everything that is not a key.
//!
//! Keys will be drawn from [`seed`] directly, and only where it says that it is fit for them.

use core::sync::atomic::{AtomicU64, Ordering};

/// A number that nobody could foresee, more or less.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seed {
    /// 64 bits.
    pub value: u64,
    /// Whether it came from a source made for keys. Otherwise it was scraped from the jitter of the
    /// time-stamp counter, which differs from boot to boot but could be guessed.
    pub fit_for_keys: bool,
}

/// A generator for backoffs, ports and test data: SplitMix64. One word of state, so that any thread may draw
/// from it without a lock. Never for keys: two outputs give away all others.
pub struct Generator(AtomicU64);

/// 2^64 divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads what is in a few bits of `word` over all of them. A bijection.
fn mix(mut word: u64) -> u64 {
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

impl Generator {
    /// The generator that goes through the same numbers whenever it is made from the same seed.
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Starts again from `seed`: at boot, and after a restore.
    pub fn reseed(&self, seed: u64) {
        self.0.store(seed, Ordering::Relaxed);
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        mix(self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP))
    }
}

static GENERATOR: Generator = Generator::new(0);

/// The machine's generator: what [`Machine::random_u64`](hs_core::platform::Machine::random_u64) draws from.
pub fn random_u64() -> u64 {
    GENERATOR.next()
}

/// Seeds the machine's generator: with `seed` if a run is to be repeated, else freshly.
#[cfg(not(test))]
pub fn init(seed: Option<u64>) {
    let value = seed.unwrap_or_else(|| {
        let fresh = hardware::seed();
        if !fresh.fit_for_keys {
            log::warn!("this CPU has neither RDSEED nor RDRAND: random numbers could be guessed");
        }
        fresh.value
    });
    GENERATOR.reseed(value);
}

#[cfg(not(test))]
pub use hardware::seed;

#[cfg(not(test))]
mod hardware {
    use core::arch::x86_64::{__cpuid, __cpuid_count, _rdrand64_step, _rdseed64_step};
    use core::hint::spin_loop;

    use super::{STEP, Seed, mix};
    use crate::arch::tsc;

    /// Intel's advice: RDRAND fails ten times in a row only if it is broken; RDSEED may just be out of
    /// breath.
    const RDRAND_TRIES: usize = 10;
    const RDSEED_TRIES: usize = 1000;
    /// Readings of the time-stamp counter that make up a seed without either.
    const JITTER_READINGS: usize = 256;

    #[target_feature(enable = "rdseed")]
    fn rdseed() -> Option<u64> {
        let mut value = 0;
        (0..RDSEED_TRIES).find(|_| {
            spin_loop();
            _rdseed64_step(&mut value) == 1
        })?;
        // What some CPUs return, again and again, after waking up badly.
        (value != 0 && value != u64::MAX).then_some(value)
    }

    #[target_feature(enable = "rdrand")]
    fn rdrand() -> Option<u64> {
        let mut value = 0;
        (0..RDRAND_TRIES).find(|_| _rdrand64_step(&mut value) == 1)?;
        (value != 0 && value != u64::MAX).then_some(value)
    }

    /// A fresh seed: from RDSEED, else RDRAND, else the jitter of memory and emulator.
    pub fn seed() -> Seed {
        let has_rdseed = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ebx & 1 << 18 != 0;
        let has_rdrand = __cpuid(1).ecx & 1 << 30 != 0;
        // SAFETY: the CPU says that it has the instruction.
        let value = has_rdseed.then(|| unsafe { rdseed() }).flatten();
        // SAFETY: as above.
        let value = value.or_else(|| has_rdrand.then(|| unsafe { rdrand() }).flatten());
        match value {
            Some(value) => Seed {
                value,
                fit_for_keys: true,
            },
            None => Seed {
                value: jitter(),
                fit_for_keys: false,
            },
        }
    }

    fn jitter() -> u64 {
        (0..JITTER_READINGS).fold(0, |state, _| {
            // CPUID leaves the guest, so its duration is the host's affair.
            let leaf = __cpuid(0).eax;
            mix((state ^ tsc::ticks() ^ u64::from(leaf)).wrapping_add(STEP))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // The reference implementation's first numbers for this seed.
        let generator = Generator::new(1_234_567);
        let numbers: [u64; 5] = core::array::from_fn(|_| generator.next());
        assert_eq!(
            numbers,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821,
            ]
        );
        generator.reseed(1_234_567);
        assert_eq!(generator.next(), numbers[0]);
    }
}

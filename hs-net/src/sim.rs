//! A seeded link for tests: loses, repeats, delays and reorders what is sent, the same way for the same seed.

use core::time::Duration;
use std::collections::BTreeMap;
use std::vec::Vec;

use hs_core::platform::Instant;

/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}

/// How bad a link is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) loss_per_mille: u64,
    pub(crate) repeat_per_mille: u64,
    pub(crate) damage_per_mille: u64,
    /// Least delay, and most on top of it.
    pub(crate) delay_us: u64,
    pub(crate) jitter_us: u64,
    /// Time that a byte occupies the link, in nanoseconds.
    pub(crate) byte_ns: u64,
}

impl Weather {
    pub(crate) const FAIR: Weather = Weather {
        loss_per_mille: 0,
        repeat_per_mille: 0,
        damage_per_mille: 0,
        delay_us: 50,
        jitter_us: 0,
        byte_ns: 10,
    };

    pub(crate) fn foul(random: &mut Random) -> Self {
        Self {
            loss_per_mille: random.below(300),
            repeat_per_mille: random.below(200),
            damage_per_mille: random.below(50),
            delay_us: random.below(2000),
            jitter_us: random.below(5000),
            byte_ns: random.below(50),
        }
    }
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Link {
    random: Random,
    pub(crate) weather: Weather,
    busy_until_ns: u64,
    order: u64,
    on_the_way: BTreeMap<(Instant, u64), Vec<u8>>,
}

impl Link {
    pub(crate) fn new(seed: u64, weather: Weather) -> Self {
        Self {
            random: Random(seed),
            weather,
            busy_until_ns: 0,
            order: 0,
            on_the_way: BTreeMap::new(),
        }
    }

    pub(crate) fn send(&mut self, now: Instant, bytes: &[u8]) {
        let weather = self.weather;
        self.busy_until_ns =
            self.busy_until_ns.max(now.as_micros() * 1000) + bytes.len() as u64 * weather.byte_ns;
        let copies = 1 + u64::from(self.random.chance(weather.repeat_per_mille));
        for _ in 0..copies {
            if self.random.chance(weather.loss_per_mille) {
                continue;
            }
            let mut bytes = bytes.to_vec();
            if self.random.chance(weather.damage_per_mille) {
                let at = self.random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << self.random.below(8);
            }
            let delay_us = weather.delay_us + self.random.below(weather.jitter_us + 1);
            let at = Instant::from_micros(self.busy_until_ns / 1000) + Duration::from_micros(delay_us);
            self.order += 1;
            self.on_the_way.insert((at, self.order), bytes);
        }
    }

    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.on_the_way.first_key_value().map(|((at, _), _)| *at)
    }

    pub(crate) fn deliver(&mut self, now: Instant) -> Option<Vec<u8>> {
        let entry = self
            .on_the_way
            .first_entry()
            .filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }
}

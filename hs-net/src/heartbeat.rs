//! When to speak: heartbeats at a steady pace on both networks.
//!
//! One beat is due on each network every interval. The pair's thread sends what is due before any bulk data, and its work
//! per round is bounded, so that a beat is never late by more than a round.

use core::time::Duration;

use hs_core::platform::Instant;

use crate::detect::Network;

/// The pace of one node.
#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    next: Instant,
    due: [bool; 2],
    counter: u64,
}

impl Pace {
    /// A first beat is due at once.
    pub fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            next: now,
            due: [false; 2],
            counter: 0,
        }
    }

    /// Looks at the clock. Beats that were missed are not made up for.
    pub fn on_time(&mut self, now: Instant) {
        if now < self.next {
            return;
        }
        self.counter += 1;
        self.due = [true; 2];
        self.next = self.next + self.interval;
        if self.next <= now {
            self.next = now + self.interval;
        }
    }

    /// The number of the beat that is due on `network`, if one is, counted as sent.
    pub fn take(&mut self, network: Network) -> Option<u64> {
        core::mem::take(&mut self.due[network as usize]).then_some(self.counter)
    }

    /// When the next beat is due.
    pub fn poll_at(&self) -> Instant {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_on_both_networks_and_makes_up_for_none() {
        let at = |ms: u64| Instant::from_micros(ms * 1000);
        let mut pace = Pace::new(Duration::from_millis(20), at(100));
        assert_eq!(pace.take(Network::Cluster), None);
        pace.on_time(at(100));
        assert_eq!(pace.take(Network::Cluster), Some(1));
        assert_eq!(pace.take(Network::Cluster), None);
        assert_eq!(pace.take(Network::Service), Some(1));
        assert_eq!(pace.poll_at(), at(120));
        pace.on_time(at(125));
        assert_eq!(pace.take(Network::Service), Some(2));
        assert_eq!(pace.poll_at(), at(140), "a late beat does not shift the pace");
        pace.on_time(at(500));
        assert_eq!(pace.take(Network::Cluster), Some(3));
        assert_eq!(pace.poll_at(), at(520));
    }
}

//! Deciding that the peer is dead: the thesis's `hs_det`.
//!
//! A spare judges its master by a [`Detection`]: heartbeats unless it is told otherwise, echoes, a file, a function that the
//! user [`register`]s, or several of them ([`Judge`]). A master judges its spare by heartbeats alone. What follows is about these.
//!
//! The peer lives while anything valid of it arrives on either network; it is dead after `deadline` of silence on both.
//! Silence counts only while this node listens: when this node itself was not scheduled for a while, be it for seconds, frames may lie
//! unread, or the peer may have been stopped by the same host, so it listens for one more interval before it judges. It
//! does so [`PATIENCE`] times in one silence, or a node that is always late would never judge.
//!
//! The longest silence that ended is kept, so that a person can see how short a deadline may be.
//!
//! Deliberately absent: any estimate of how likely death is. One number decides, and a person can reason about it.

mod judge;
mod registered;

use core::time::Duration;

pub use hs_core::detection::{Detection, Liveness, Sign};
use hs_core::platform::Instant;

pub use self::judge::Judge;
pub(crate) use self::registered::registered;
pub use self::registered::{Function, register};

/// So often in one silence a node that was late itself listens once more.
pub const PATIENCE: u32 = 4;

/// The two ways by which a peer is heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Network {
    /// The link between the two nodes.
    Cluster,
    /// The network of the clients.
    Service,
}

/// Watches one peer.
#[derive(Debug)]
pub struct Detector {
    interval: Duration,
    deadline: Duration,
    heard: [Instant; 2],
    looked: Instant,
    listen_until: Instant,
    /// How often it has listened once more since the peer was heard.
    postponed: u32,
    silence_max: Duration,
}

impl Detector {
    /// Watches a peer that was heard just `now`, and that speaks every `interval`.
    pub fn new(interval: Duration, deadline: Duration, now: Instant) -> Self {
        Self {
            interval,
            deadline,
            heard: [now; 2],
            looked: now,
            listen_until: now,
            postponed: 0,
            silence_max: Duration::ZERO,
        }
    }

    /// Something valid of the peer arrived.
    pub fn heard(&mut self, network: Network, now: Instant) {
        // What this node slept through is its own silence.
        let listened_until = if self.was_late(now) { self.looked } else { now };
        self.silence_max = self.silence_max.max(listened_until.since(self.last_heard()));
        self.postponed = 0;
        // Heartbeats from the service network may be told late.
        let heard = &mut self.heard[network as usize];
        *heard = now.max(*heard);
    }

    /// The last sign of life.
    pub fn last_heard(&self) -> Instant {
        self.heard[0].max(self.heard[1])
    }

    /// The longest silence of the peer so far, of those that have ended and while this node listened: what a longer deadline
    /// would have let pass. (Up to two intervals of this node's own lateness may be in it.)
    pub fn silence_max(&self) -> Duration {
        self.silence_max
    }

    /// Whether this node itself was not scheduled for a while.
    fn was_late(&self, now: Instant) -> bool {
        now.since(self.looked) > self.interval * 2
    }

    /// How long the peer has been silent, if it is dead. To be asked when everything that has arrived was read, at least
    /// once an interval.
    pub fn verdict(&mut self, now: Instant) -> Option<Duration> {
        if self.was_late(now) && self.postponed < PATIENCE {
            self.postponed += 1;
            self.listen_until = now + self.interval;
        }
        self.looked = now;
        let silent = now.since(self.last_heard());
        (silent > self.deadline && now >= self.listen_until).then_some(silent)
    }

    /// When to ask again.
    pub fn poll_at(&self) -> Instant {
        // A microsecond more: silence must be longer than the deadline.
        (self.last_heard() + self.deadline + Duration::from_micros(1)).max(self.listen_until)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(20);
    const DEADLINE: Duration = Duration::from_millis(60);

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    #[test]
    fn one_network_is_enough() {
        let mut detector = Detector::new(INTERVAL, DEADLINE, at(0));
        for ms in (0..1000).step_by(10) {
            detector.heard(Network::Service, at(ms));
            assert_eq!(detector.verdict(at(ms)), None);
        }
        assert_eq!(detector.poll_at(), at(990) + DEADLINE + Duration::from_micros(1));
    }

    #[test]
    fn own_lateness_is_no_silence_of_the_peer() {
        let mut detector = Detector::new(INTERVAL, DEADLINE, at(0));
        assert_eq!(detector.verdict(at(10)), None);
        // Not scheduled for 190 ms: listen first.
        assert_eq!(detector.verdict(at(200)), None);
        assert_eq!(detector.verdict(at(219)), None);
        assert_eq!(detector.verdict(at(220)), Some(Duration::from_millis(220)));
    }

    /// Stopped for as long as may be: what has arrived meanwhile is read before anybody is judged.
    #[test]
    fn a_node_that_was_stopped_listens_first() {
        let mut detector = Detector::new(INTERVAL, DEADLINE, at(0));
        assert_eq!(detector.verdict(at(10)), None);
        assert_eq!(detector.verdict(at(60_000)), None);
        detector.heard(Network::Cluster, at(60_015));
        assert_eq!(detector.verdict(at(60_015)), None);
        assert_eq!(detector.verdict(at(60_050)), None);
        assert_eq!(detector.verdict(at(60_080)), Some(Duration::from_millis(65)));
    }

    proptest! {
        /// Against a model: looked at often enough, death is declared at the first look after the deadline, and never before.
        #[test]
        fn judges_like_the_model(gaps in prop::collection::vec((1u64..40, 0u8..4), 1..200)) {
            let mut detector = Detector::new(INTERVAL, DEADLINE, at(0));
            let mut now = 0;
            let mut last = 0;
            let mut verdicts = Vec::new();
            for (gap, what) in gaps {
                now += gap;
                match what {
                    0 => detector.heard(Network::Cluster, at(now)),
                    1 => detector.heard(Network::Service, at(now)),
                    _ => {}
                }
                if what < 2 {
                    last = now;
                }
                let silent = Duration::from_millis(now - last);
                verdicts.push((detector.verdict(at(now)), (silent > DEADLINE).then_some(silent)));
            }
            for (actual, expected) in verdicts {
                prop_assert_eq!(actual, expected);
            }
        }

        /// However late the node runs, a dead peer is noticed: at the latest at the look after so many late ones, but for the
        /// interval that the last of them listens for.
        #[test]
        fn patience_is_bounded(gaps in prop::collection::vec(1u64..500, 1..200)) {
            let mut detector = Detector::new(INTERVAL, DEADLINE, at(0));
            let (mut now, mut late) = (0, 0);
            let mut judge_from = DEADLINE;
            for gap in gaps {
                now += gap;
                if Duration::from_millis(gap) > INTERVAL * 2 && late < PATIENCE {
                    late += 1;
                    judge_from = judge_from.max(Duration::from_millis(now) + INTERVAL);
                }
                let elapsed = Duration::from_millis(now);
                let due = elapsed > DEADLINE && elapsed >= judge_from;
                prop_assert_eq!(detector.verdict(at(now)).is_some(), due);
            }
        }

        /// The longest silence is the longest gap between two signs, of a node that is never late; and what a node slept through
        /// adds nothing to it.
        #[test]
        fn the_longest_silence_is_the_longest_gap(gaps in prop::collection::vec((1u64..40, any::<bool>()), 1..200), slept in 100u64..5000) {
            let mut detector = Detector::new(INTERVAL, DEADLINE, at(0));
            let (mut now, mut last, mut longest) = (0, 0, 0);
            for (gap, is_heard) in gaps {
                now += gap;
                if is_heard {
                    detector.heard(Network::Cluster, at(now));
                    longest = longest.max(now - last);
                    last = now;
                }
                detector.verdict(at(now));
            }
            prop_assert_eq!(detector.silence_max(), Duration::from_millis(longest));
            detector.heard(Network::Service, at(now + slept));
            prop_assert_eq!(detector.silence_max(), Duration::from_millis(longest.max(now - last)));
        }
    }
}

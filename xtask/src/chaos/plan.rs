//! What is done to one pair: all of it drawn from one seed, so that the seed repeats it.
//!
//! What cannot be repeated is the host: which reply was on its way at the moment is chance. A seed that found something finds it
//! again in a few runs rather than in each.

use std::fmt;
use std::time::Duration;

use hs_core::fault::{Fault, Point};
use hs_core::role::Role;

/// Points at which a machine may die and the pair live on. A spare that dies in its takeover is the second machine to die.
const POINTS: [Point; 9] = [
    Point::CheckpointFrozen,
    Point::ChildStarted,
    Point::ChunkFirstSent,
    Point::ChunkLastSent,
    Point::KeptHeard,
    Point::OutputReleased,
    Point::OutputSent,
    Point::ImageComplete,
    Point::KeptSaid,
];
/// Passages before the end: at least so many, for a pair to be ready by then, and fewer than so many.
const COUNT_MIN: u64 = 20;
const COUNT_END: u64 = 400;
/// A kill comes within this time from when clients are at work.
const KILL_WITHIN_MS: u64 = 700;
/// So long they go on afterwards, at least, and at most.
const GO_ON_MS: (u64, u64) = (100, 400);

/// The application whose clients send and get bulk streams, and what these are told.
pub(super) const STREAMS: &str = "streams";
const STREAMS_LOADS: [&str; 4] = ["bulk", "edges", "half-close", "slow-reader"];

/// How a machine dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Death {
    /// Its process is killed so long after clients are at work.
    Kill(Role, Duration),
    /// It ends itself at a point of the checkpoint path.
    Fault(Fault),
}

impl Death {
    /// Whose death it is.
    pub(super) fn role(self) -> Role {
        match self {
            Death::Kill(role, _) => role,
            Death::Fault(fault) => fault.point.role(),
        }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Death::Kill(role, after) => write!(f, "{role} killed after {} ms", after.as_millis()),
            Death::Fault(fault) => write!(f, "{} at {fault}", fault.point.role()),
        }
    }
}

/// What is done to one pair.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) death: Death,
    /// What the clients are told.
    pub(super) load: String,
    /// How long they go on after the death.
    pub(super) go_on: Duration,
}

/// Lots (splitmix64): neighbouring seeds give unlike ones.
struct Lots(u64);

impl Lots {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }
}

impl Plan {
    /// The plan of `seed` for pairs of `app`. Without `spares_too`, only masters die.
    pub(super) fn draw(seed: u64, app: &str, spares_too: bool) -> Plan {
        let mut lots = Lots(seed);
        // A kill at a random moment as often as one at a named point.
        let by_fault = lots.below(2) == 0;
        let after = Duration::from_millis(lots.below(KILL_WITHIN_MS));
        let point = POINTS[lots.below(POINTS.len() as u64) as usize];
        let count = (COUNT_MIN + lots.below(COUNT_END - COUNT_MIN)) as u32;
        let spare = spares_too && lots.below(10) == 0;
        let death = match (by_fault, point.role()) {
            (true, Role::Spare) if !spares_too => Death::Kill(Role::Master, after),
            (true, _) => Death::Fault(Fault { point, count }),
            (false, _) => Death::Kill(if spare { Role::Spare } else { Role::Master }, after),
        };
        let (connections, window) = (1 + lots.below(5), 1 << lots.below(5));
        let (mixed, visitors, think_ms) = (lots.below(3), lots.below(3), 1 + lots.below(4));
        let load = match app {
            STREAMS => STREAMS_LOADS[lots.below(STREAMS_LOADS.len() as u64) as usize].to_owned(),
            _ => format!(
                "incr --connections {connections} --window {window} --mixed {mixed} --visitors {visitors} --think-ms {think_ms}"
            ),
        };
        Plan {
            seed,
            death,
            load,
            go_on: Duration::from_millis(GO_ON_MS.0 + lots.below(GO_ON_MS.1 - GO_ON_MS.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_run_and_neighbours_are_unlike() {
        assert_eq!(Plan::draw(7, "kv", true), Plan::draw(7, "kv", true));
        let deaths: Vec<Death> = (0..8).map(|seed| Plan::draw(seed, "kv", true).death).collect();
        let unlike = (1..8).filter(|at| !deaths[..*at].contains(&deaths[*at]));
        assert_eq!(unlike.count(), 7, "{deaths:?}");
    }

    #[test]
    fn a_hundred_seeds_meet_each_point_and_both_nodes() {
        let deaths: Vec<Death> = (0..100).map(|seed| Plan::draw(seed, "kv", true).death).collect();
        for point in POINTS {
            assert!(
                deaths
                    .iter()
                    .any(|death| matches!(death, Death::Fault(fault) if fault.point == point)),
                "{point}"
            );
        }
        let kills = |wanted| {
            let of = |death: &&Death| matches!(death, Death::Kill(role, _) if *role == wanted);
            deaths.iter().filter(of).count()
        };
        assert!(kills(Role::Spare) > 0 && kills(Role::Master) > 25);
    }

    #[test]
    fn the_documentation_has_a_row_for_each_point() {
        let text = std::fs::read_to_string(crate::command::root().join("docs/failover.md")).unwrap();
        for point in Point::ALL {
            let row = format!("| `{point}` | {} | ", point.role());
            assert_eq!(text.matches(&row).count(), 1, "{row}");
        }
    }

    #[test]
    fn without_spares_only_masters_die() {
        assert!((0..1000).all(|seed| Plan::draw(seed, "kv", false).death.role() == Role::Master));
    }
}

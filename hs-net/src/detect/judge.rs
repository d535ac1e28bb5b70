//! All signs of a spare's detection, and the verdict that follows from them.

use alloc::vec::Vec;
use core::time::Duration;

use hs_core::detection::{Detection, Liveness, Sign};
use hs_core::platform::Instant;

use super::{Detector, Network};

/// A reply to one of so many newest requests counts.
const REPLIES_IN_FLIGHT: u16 = 64;

/// Judges one master by a [`Detection`].
#[derive(Debug)]
pub struct Judge {
    detection: Detection,
    signs: Vec<Sign>,
    said: Vec<Liveness>,
    echoes: Option<Echoes>,
}

/// The echoes of one master.
#[derive(Debug)]
struct Echoes {
    interval: Duration,
    detector: Detector,
    sequence: u16,
    due: bool,
    next: Instant,
}

impl Judge {
    /// Judges nobody yet.
    pub fn new(detection: Detection) -> Self {
        let signs = detection.signs();
        Self {
            said: signs.iter().map(|_| Liveness::Alive).collect(),
            detection,
            signs,
            echoes: None,
        }
    }

    /// Another master is judged from `now` on, by echoes at this interval and with this deadline where echoes are a sign.
    pub fn begin(&mut self, interval: Duration, deadline: Duration, now: Instant) {
        self.said.fill(Liveness::Alive);
        self.echoes = self.signs.contains(&Sign::Icmp).then(|| Echoes {
            interval,
            detector: Detector::new(interval, deadline, now),
            sequence: 0,
            due: false,
            next: now,
        });
    }

    /// What a file or the user's function says: sign number `index` of the detection's.
    pub fn report(&mut self, index: usize, liveness: Liveness) {
        let reported = matches!(self.signs.get(index), Some(Sign::File(_) | Sign::User));
        if reported {
            self.said[index] = liveness;
        }
    }

    /// The sequence number of the request for an echo that is due, if one is; counted as sent.
    pub fn take_request(&mut self) -> Option<u16> {
        let echoes = self.echoes.as_mut()?;
        let due = core::mem::take(&mut echoes.due);
        due.then_some(echoes.sequence)
    }

    /// An echo has come.
    pub fn echoed(&mut self, sequence: u16, now: Instant) {
        let Some(echoes) = &mut self.echoes else { return };
        if echoes.sequence.wrapping_sub(sequence) < REPLIES_IN_FLIGHT {
            echoes.detector.heard(Network::Service, now);
        }
    }

    /// Why the master counts as failed, in a word, if it does. `silent`: its heartbeats have failed.
    pub fn verdict(&mut self, silent: bool, now: Instant) -> Option<&'static str> {
        if let Some(echoes) = &mut self.echoes
            && now >= echoes.next
        {
            echoes.sequence = echoes.sequence.wrapping_add(1);
            echoes.due = true;
            echoes.next = now + echoes.interval;
        }
        let unechoed = (self.echoes.as_mut()).is_some_and(|echoes| echoes.detector.verdict(now).is_some());
        for (sign, said) in self.signs.iter().zip(&mut self.said) {
            let failed = match sign {
                Sign::Heartbeat => silent,
                Sign::Icmp => unechoed,
                Sign::File(_) | Sign::User => continue,
            };
            *said = if failed { Liveness::Failed } else { Liveness::Alive };
        }
        self.detection.verdict(&self.said)
    }

    /// When to ask for a verdict again, if nothing happens before.
    pub fn poll_at(&self) -> Option<Instant> {
        self.echoes.as_ref().map(|echoes| echoes.next)
    }
}

#[cfg(test)]
mod tests {
    use hs_core::registry::descriptor::FilePath;
    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(20);
    const DEADLINE: Duration = Duration::from_millis(60);

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    fn judge(text: &str) -> Judge {
        let mut judge = Judge::new(Detection::parse(text).unwrap());
        judge.begin(INTERVAL, DEADLINE, at(0));
        judge
    }

    #[test]
    fn echoes_are_asked_for_each_interval_and_missed_after_the_deadline() {
        let mut judge = judge("icmp");
        for ms in (0..1000).step_by(20) {
            assert_eq!(judge.verdict(true, at(ms)), None, "heartbeats are no sign here");
            let sequence = judge.take_request().expect("one is due");
            assert_eq!(judge.take_request(), None);
            judge.echoed(sequence, at(ms + 5));
            assert_eq!(judge.poll_at(), Some(at(ms + 20)));
        }
        // An echo of long ago is none.
        judge.echoed(1000, at(1000));
        let times = (1000..2000).step_by(10);
        let mut verdicts = times.map(|ms| (ms, judge.verdict(false, at(ms))));
        let found = verdicts.find(|(_, verdict)| verdict.is_some());
        assert_eq!(found, Some((1050, Some("icmp"))));
    }

    #[test]
    fn another_master_is_judged_afresh() {
        let mut judge = judge("user");
        judge.report(0, Liveness::Failed);
        assert_eq!(judge.verdict(false, at(1)), Some("user"));
        judge.begin(INTERVAL, DEADLINE, at(2));
        assert_eq!(judge.verdict(false, at(2)), None);
        judge.report(7, Liveness::Failed);
        assert_eq!(judge.verdict(false, at(3)), None, "there is no such sign");
    }

    proptest! {
        /// The takeover comes exactly when the expression over the four signs says so.
        #[test]
        fn the_verdict_is_the_expressions(
            all in any::<bool>(),
            steps in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()), 1..60),
        ) {
            let signs = [
                Sign::Heartbeat,
                Sign::Icmp,
                Sign::File(FilePath::new("FAIL").unwrap()),
                Sign::User,
            ];
            let parts = signs.map(Detection::Sign);
            let mut judge = Judge::new(if all { Detection::all(parts) } else { Detection::any(parts) });
            judge.begin(INTERVAL, DEADLINE, at(0));
            let mut echoed = 0;
            for (step, (silent, echo, file, user)) in steps.into_iter().enumerate() {
                let now = step as u64 * 10;
                judge.report(2, if file { Liveness::Failed } else { Liveness::Alive });
                judge.report(3, if user { Liveness::Failed } else { Liveness::Alive });
                if echo && step > 0 {
                    judge.echoed(step as u16 / 2, at(now));
                    echoed = now;
                }
                let unechoed = now - echoed > 60;
                let failed = [silent, unechoed, file, user];
                let expected = if all { failed.iter().all(|one| *one) } else { failed.contains(&true) };
                prop_assert_eq!(judge.verdict(silent, at(now)).is_some(), expected, "step {}", step);
            }
        }
    }
}

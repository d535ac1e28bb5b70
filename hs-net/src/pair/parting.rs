//! How a pairing ends, or does not: silence, and the word of the host's agent.
//!
//! Silence is a guess, which the detector makes as well as it can. The agent knows: it watches the other node's process. Its word counts
//! whatever signs the master is judged by, because it is no sign but the fact that they all stand for. What it says of another boot
//! than the peer's changes nothing.

use alloc::format;

use hs_core::platform::Instant;
use hs_core::role::Role;

use super::{Loss, Notice, Pair, Peer};
use crate::channel::frame::{Datagram, Death, Obituary};
use crate::heartbeat::Pace;

impl Pair {
    /// A datagram came in from the host's agent. `false`: it was refused. What follows from it follows in
    /// [`on_time`](Pair::on_time), when everything that the dead node had said was handed in.
    pub fn on_agent_datagram(&mut self, datagram: &[u8], now: Instant) -> bool {
        let accepted = match Datagram::parse(datagram) {
            Ok(Datagram::Obituary(obituary)) => self.on_obituary(&obituary, now),
            _ => false,
        };
        if !accepted {
            self.datagrams_refused += 1;
        }
        accepted
    }

    fn on_obituary(&mut self, obituary: &Obituary, now: Instant) -> bool {
        let Obituary { session, death, term } = *obituary;
        match &mut self.peer {
            Some(peer) if peer.session == session => {
                peer.dead = Some(death);
                if self.role == Role::Spare {
                    self.term = self.term.max(term);
                } else if term > self.term {
                    // It was master while nobody heard of it.
                    self.meet_master(term, session, now);
                }
            }
            _ if self.departed == Some(session) => {}
            _ => return false,
        }
        self.noted = Some(session);
        true
    }

    /// Writes an answer for the agent into `into`, if one is due, and returns its length.
    ///
    /// # Panics
    /// If `into` is shorter than a datagram on the cluster link.
    pub fn take_noted(&mut self, into: &mut [u8]) -> Option<usize> {
        let session = self.noted.take()?;
        Some(Datagram::Noted(session).emit(into))
    }

    /// A master's look at its spare.
    pub(super) fn judge_spare(&mut self, now: Instant) {
        let Some(peer) = &mut self.peer else { return };
        let last_heard = peer.detector.last_heard();
        if let Some(death) = peer.dead {
            return self.part(Loss::Dead(death, now.since(last_heard)));
        }
        let silence = peer.detector.verdict(now);
        peer.silent = silence.is_some();
        match (silence, peer.mute_since) {
            (Some(silence), _) if self.armed_from.is_none() => self.part(Loss::Silent(silence)),
            (Some(silence), None) => {
                peer.mute_since = Some(last_heard);
                self.note(Notice::SpareSilent(silence));
            }
            (None, Some(since)) => {
                peer.mute_since = None;
                self.note(Notice::SpareHeard(last_heard.since(since)));
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    /// A spare's look at its master.
    pub(super) fn judge_master(&mut self, now: Instant) {
        let Some(peer) = &mut self.peer else { return };
        let (dead, silence) = (peer.dead, peer.detector.verdict(now));
        peer.silent = silence.is_some();
        let sign = self.judge.verdict(silence.is_some(), now);
        let Some(cause) = dead.map(|_| "agent").or(sign) else {
            return;
        };
        if self.holds_image {
            return self.take_over(cause, now);
        }
        self.ended = true;
        let failure = match (dead, silence) {
            (Some(death), _) => format!("has {}, the host's agent says,", in_words(death)),
            (None, Some(silence)) => format!("fell silent for {} ms", silence.as_millis()),
            (None, None) => format!("failed ({cause})"),
        };
        let why = format!(
            "the master {failure} before this spare held a whole checkpoint: there is nothing to take over"
        );
        self.note(Notice::End { why });
    }

    /// A master's spare is gone, or a spare's master has begun a new connection.
    pub(super) fn part(&mut self, loss: Loss) {
        self.leave_peer();
        self.begin_epoch();
        if loss != Loss::Restarted {
            self.handshake.part();
        }
        if self.role == Role::Master {
            self.holds_image = false;
            self.parting = true;
            self.note(Notice::SpareLost(loss));
        }
    }

    fn leave_peer(&mut self) -> Option<Peer> {
        let peer = self.peer.take()?;
        self.silence_max = self.silence_max.max(peer.detector.silence_max());
        self.departed = Some(peer.session);
        Some(peer)
    }

    pub(super) fn take_over(&mut self, cause: &'static str, now: Instant) {
        let peer = self.leave_peer();
        let last_heard = peer.as_ref().map_or(now, |peer| peer.detector.last_heard());
        let death = peer.and_then(|peer| peer.dead);
        self.handshake.part();
        self.role = Role::Master;
        self.term = self.term.next();
        self.holds_image = false;
        self.taking_over = true;
        self.reply = None;
        // The old master should hear of the new term at once, if it lives.
        self.pace = Pace::new(self.settings.heartbeat, now);
        self.pace.on_time(now);
        self.note(Notice::TakeOver {
            cause,
            death,
            last_heard,
        });
    }
}

fn in_words(death: Death) -> &'static str {
    match death {
        Death::Killed => "been killed",
        Death::Panicked => "panicked",
        Death::Ended => "ended",
    }
}

//! One node's half of the pair: who the peer is, whether it lives, and what follows.
//!
//! A state machine without I/O: datagrams and `now` go in; datagrams, [`Notice`]s and messages come out. It joins the
//! [handshake](crate::channel::handshake), the [channel](crate::channel), the [pace](crate::heartbeat) and the
//! [detector](crate::detect), and holds the rules of roles and terms:
//!
//! - A spare follows the newest master that it has heard of. It takes over, in the next term, when its master is silent beyond
//!   the deadline, dead by the word of the host's agent, or back as another boot, if it holds a whole checkpoint; else there is nothing
//!   to take over.
//! - A master whose spare could not take over, and is silent for [`MASTER_PATIENCE`] deadlines, goes on alone.
//! - A master whose spare could take over is *mute* while that is silent: it keeps its peer and what is in flight, and as no
//!   acknowledgement comes, whatever waits for one goes on waiting. Silence may be a cut cable, and the other node a master
//!   by now; so silence alone never ends this. The agent's word that the spare's process has ended does, and a spare of another boot.
//! - A master alone takes any spare of the same build that says hello.
//! - A master that hears of a newer term was replaced, and ends. Two masters of one term were started by
//!   mistake: the one whose session is smaller ends.
//!
//! Whatever is heard of the peer, on either network, is a sign of life. A master says its heartbeat always, a spare while it
//! is paired.
//!
//! Deliberately absent: an arbiter. Two nodes that cannot hear each other will both be masters.

mod meeting;
mod parting;
mod transfer;

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use hs_core::checkpoint::CheckpointId;
use hs_core::platform::Instant;
use hs_core::role::{Role, Term};

use self::transfer::Transfers;
pub use self::transfer::{Epoch, Sending};
use crate::channel::Channel;
use crate::channel::flow::MessageBuffer;
pub use crate::channel::frame::Death;
use crate::channel::frame::{Datagram, HEARD_HEADER_LEN, HeardPart, Heartbeat, Hello, Message, Session};
use crate::channel::handshake::{Handshake, Words};
use crate::detect::{Detection, Detector, Judge, Liveness, Network, Sign};
use crate::heartbeat::Pace;

/// So many deadlines of silence until a master gives up a spare that holds nothing, or says that it is mute. A spare waits for
/// one: nobody waits for a master to do so, and who was given up while its machine was merely busy must be sent everything again.
pub const MASTER_PATIENCE: u32 = 4;
/// While there is no peer, a hello goes out each time that so many heartbeats would have.
const HELLO_BEATS: u32 = 5;
/// A node that must end says hello so often before it does: its peer wants to know why too.
const FAREWELL_BEATS: u32 = 3;
/// Most notices that wait to be read. There are a few a second at most.
const NOTICES_MAX: usize = 64;

/// What a node's half is made of.
#[derive(Clone, Copy, Debug)]
pub struct PairSettings {
    /// The part to begin with.
    pub role: Role,
    /// This boot, at random.
    pub session: Session,
    /// Randomness for challenges.
    pub seed: u64,
    /// The build.
    pub build: [u8; 20],
    /// The application.
    pub application: u64,
    /// Time between two heartbeats.
    pub heartbeat: Duration,
    /// Silence after which the peer is dead.
    pub deadline: Duration,
    /// Longest datagram on the cluster link.
    pub datagram_len_max: usize,
    /// Most checkpoints in flight.
    pub ncon: usize,
}

/// What the node has to do or to tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// A peer of the same build is there; what it holds is nothing.
    Paired,
    /// The master's spare is gone; so are the checkpoints that were in flight.
    SpareLost(Loss),
    /// The master's spare, which could take over, has been silent for so long. It stays the peer: the master is mute.
    SpareSilent(Duration),
    /// It speaks again, after so long.
    SpareHeard(Duration),
    /// This spare is master from now on: everything that has arrived is to be applied, then the newest
    /// checkpoint taken up. [`Pair::finish_takeover`] afterwards.
    TakeOver {
        /// Why, in a word: a sign's name, `agent` or `restart`.
        cause: &'static str,
        /// How the old master's process ended, if anybody has said so.
        death: Option<Death>,
        /// The last sign of the old master.
        last_heard: Instant,
    },
    /// Something was refused, for a person to know.
    Refused {
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// This node must end.
    End {
        /// Why, for a person.
        why: String,
    },
}

/// How a master lost its spare.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// It was silent for so long, and could not take over.
    Silent(Duration),
    /// Its process has ended in this way, the host's agent says. It had been silent for so long by then.
    Dead(Death, Duration),
    /// It was started anew.
    Restarted,
}

/// Whose a datagram was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Heard {
    /// The peer's: a sign of life.
    Peer,
    /// Somebody's who may become the peer, or was meant for another.
    Other,
    /// Nobody's: malformed, stale, or out of place.
    Refused,
}

impl From<bool> for Heard {
    fn from(accepted: bool) -> Self {
        if accepted { Heard::Peer } else { Heard::Refused }
    }
}

#[derive(Debug)]
struct Peer {
    session: Session,
    detector: Detector,
    /// It was silent for too long when it was looked at last, and lives by other signs, or keeps its master mute.
    silent: bool,
    /// A master: the last sign of a spare that it was mute for.
    mute_since: Option<Instant>,
    /// Its process has ended, the agent says.
    dead: Option<Death>,
}

/// One node's half.
#[derive(Debug)]
pub struct Pair {
    settings: PairSettings,
    role: Role,
    term: Term,
    /// A spare: there is something to take over. A master: the spare has it all.
    holds_image: bool,
    /// A takeover reads what has arrived; a new connection would wipe it out.
    taking_over: bool,
    handshake: Handshake,
    channel: Channel,
    peer: Option<Peer>,
    /// A spare's judge of its master.
    judge: Judge,
    pace: Pace,
    hello_at: Instant,
    hello_said_at: Instant,
    reply: Option<Words>,
    transfers: Transfers,
    /// The newest checkpoint that the spare has, until somebody asks.
    kept: Option<CheckpointId>,
    /// A spare: the frame of a client's of which parts have arrived, and whether all have.
    heard: Vec<u8>,
    heard_whole: bool,
    /// A master: from this checkpoint on the spare may take over.
    armed_from: Option<CheckpointId>,
    buffer: MessageBuffer,
    notices: VecDeque<Notice>,
    /// A master has lost its spare, and whoever reads notices has not dealt with that yet.
    parting: bool,
    /// A master: who its newest spare is or was.
    last_spare: Option<Session>,
    refused_session: Option<Session>,
    refused_version: Option<u8>,
    end_at: Option<(Instant, String)>,
    ended: bool,
    datagrams_refused: u64,
    /// The peer before this one: its obituary is no news.
    departed: Option<Session>,
    /// The agent is to know that this obituary was read.
    noted: Option<Session>,
    /// Of the peers before this one.
    silence_max: Duration,
}

impl Pair {
    /// A node that knows of nobody.
    pub fn new(settings: PairSettings, now: Instant) -> Self {
        let channel = Channel::new(settings.datagram_len_max);
        let buffer = channel.message_buffer();
        Self {
            settings,
            role: settings.role,
            term: Term::FIRST,
            holds_image: false,
            taking_over: false,
            handshake: Handshake::new(settings.seed),
            channel,
            peer: None,
            judge: Judge::new(Sign::Heartbeat.into()),
            pace: Pace::new(settings.heartbeat, now),
            hello_at: now,
            hello_said_at: now,
            reply: None,
            transfers: Transfers::new(settings.ncon),
            kept: None,
            armed_from: None,
            heard: Vec::new(),
            heard_whole: false,
            buffer,
            notices: VecDeque::with_capacity(NOTICES_MAX),
            parting: false,
            last_spare: None,
            refused_session: None,
            refused_version: None,
            end_at: None,
            ended: false,
            datagrams_refused: 0,
            departed: None,
            noted: None,
            silence_max: Duration::ZERO,
        }
    }

    /// A spare judges its master by this, instead of by its heartbeats alone. To be called before there is a master.
    pub fn detect_by(&mut self, detection: Detection) {
        self.judge = Judge::new(detection);
    }

    /// A first master begins in this term, because it goes on from a checkpoint of the term before. To be called before
    /// anybody has heard of it.
    pub fn begin_in(&mut self, term: Term) {
        self.term = term;
    }

    /// This boot.
    pub fn session(&self) -> Session {
        self.settings.session
    }

    /// What this node does now.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The newest term that it knows.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Whether there is a peer.
    pub fn is_paired(&self) -> bool {
        self.peer.is_some()
    }

    /// The longest silence of any peer so far that ended, while this node listened.
    pub fn silence_max(&self) -> Duration {
        let of_peer = self.peer.as_ref().map(|peer| peer.detector.silence_max());
        self.silence_max.max(of_peer.unwrap_or_default())
    }

    /// Datagrams that were malformed, stale or from nobody.
    pub fn datagrams_refused(&self) -> u64 {
        self.datagrams_refused
    }

    /// Something came in that is no datagram of the peer's.
    pub fn count_refused(&mut self) {
        self.datagrams_refused += 1;
    }

    /// Messages that were sent again.
    pub fn retransmitted(&self) -> u64 {
        self.channel.retransmitted()
    }

    /// The next thing to do or to tell. Whoever asks has dealt with the one before.
    pub fn next_notice(&mut self) -> Option<Notice> {
        self.parting &= self
            .notices
            .iter()
            .any(|notice| matches!(notice, Notice::SpareLost(_)));
        self.notices.pop_front()
    }

    fn note(&mut self, notice: Notice) {
        // Whoever likes can cause refusals: they leave room for what matters.
        if matches!(notice, Notice::Refused { .. }) && self.notices.len() >= NOTICES_MAX / 2 {
            return;
        }
        debug_assert!(
            self.notices.len() < NOTICES_MAX,
            "notices are read after each round"
        );
        if self.notices.len() < NOTICES_MAX {
            self.notices.push_back(notice);
        }
    }

    // ------------------------------------------------------------------------------------- what comes in

    /// A datagram came in.
    pub fn on_datagram(&mut self, network: Network, datagram: &[u8], now: Instant) {
        let heard = match Datagram::parse(datagram) {
            Ok(Datagram::Heartbeat(heartbeat)) => self.on_heartbeat(network, &heartbeat, now),
            // The service network is for heartbeats alone.
            Ok(_) if network == Network::Service => Heard::Refused,
            Ok(Datagram::Hello(hello)) => self.on_hello(&hello, now),
            Ok(Datagram::Data(data)) => Heard::from(self.peer.is_some() && self.channel.on_data(&data, now)),
            Ok(Datagram::Ack(ack)) => Heard::from(self.peer.is_some() && self.channel.on_ack(&ack, now)),
            Ok(Datagram::Probe(connection)) => {
                Heard::from(self.peer.is_some() && self.channel.on_probe(connection))
            }
            Ok(Datagram::Heard(part)) => Heard::from(self.on_heard(&part)),
            // Not from a node.
            Ok(Datagram::Obituary(_) | Datagram::Noted(_)) => Heard::Refused,
            Err(error) => {
                self.on_malformed(error);
                Heard::Refused
            }
        };
        match (heard, &mut self.peer) {
            (Heard::Refused, _) => self.datagrams_refused += 1,
            (Heard::Peer, Some(peer)) => peer.detector.heard(network, now),
            (Heard::Peer, None) | (Heard::Other, _) => {}
        }
        if self.role == Role::Master && !self.taking_over {
            self.read_answers();
        }
    }

    /// A part of a frame that the master has forwarded. They come in order, on a link of their own: what does not follow is
    /// dropped, and its frame with it.
    fn on_heard(&mut self, part: &HeardPart<'_>) -> bool {
        let expected = self.role == Role::Spare && self.peer.is_some();
        if !expected || part.connection != self.channel.connection() {
            return false;
        }
        if part.offset == 0 {
            self.heard.clear();
        }
        let follows = usize::from(part.offset) == self.heard.len();
        if follows {
            self.heard.extend_from_slice(part.bytes);
        }
        self.heard_whole = follows && self.heard.len() == usize::from(part.total);
        true
    }

    /// The frame of a client's that has arrived as a whole with the last datagram, if one has.
    pub fn take_heard(&mut self) -> Option<&[u8]> {
        core::mem::take(&mut self.heard_whole).then_some(&self.heard[..])
    }

    /// Writes the datagram that forwards to the spare what of `frame` lies from `offset` on into `into`, as much as it has room for.
    /// Returns its length and where the rest begins; nothing without a spare.
    pub fn forward(&self, frame: &[u8], offset: usize, into: &mut [u8]) -> Option<(usize, usize)> {
        self.peer.as_ref()?;
        let end = frame.len().min(offset + into.len() - HEARD_HEADER_LEN);
        let part = HeardPart {
            connection: self.channel.connection(),
            offset: offset as u16,
            total: frame.len() as u16,
            bytes: &frame[offset..end],
        };
        Some((Datagram::Heard(part).emit(into), end))
    }

    /// Looks at the clock. To be called when everything that has arrived was handed in.
    pub fn on_time(&mut self, now: Instant) {
        if self.ended {
            return;
        }
        self.pace.on_time(now);
        if let Some((at, _)) = &self.end_at
            && now >= *at
            && let Some((_, why)) = self.end_at.take()
        {
            self.ended = true;
            return self.note(Notice::End { why });
        }
        match self.role {
            Role::Master => self.judge_spare(now),
            Role::Spare => self.judge_master(now),
        }
    }

    /// What a file or the user's function says of the master: sign number `index` of the detection's.
    pub fn report(&mut self, index: usize, liveness: Liveness) {
        if self.role == Role::Spare && self.peer.is_some() {
            self.judge.report(index, liveness);
        }
    }

    /// The peer has answered a ping.
    pub fn on_echo(&mut self, identifier: u16, sequence: u16, now: Instant) {
        if self.role == Role::Spare && identifier == self.echo_identifier() {
            self.judge.echoed(sequence, now);
        }
    }

    /// The takeover has read everything that had arrived: a new spare may come.
    pub fn finish_takeover(&mut self) {
        self.taking_over = false;
    }

    // ------------------------------------------------------------------------------------- what goes out

    /// Writes the heartbeat that is due on `network` into `into`, if one is, and returns its length. To be asked before
    /// [`transmit`](Pair::transmit): signs of life come first.
    ///
    /// # Panics
    /// If `into` is shorter than a datagram on the cluster link.
    pub fn beat(&mut self, network: Network, into: &mut [u8]) -> Option<usize> {
        if self.role == Role::Spare && self.peer.is_none() {
            return None;
        }
        let counter = self.pace.take(network)?;
        let (session, role, term) = (self.settings.session, self.role, self.term);
        Some(
            Datagram::Heartbeat(Heartbeat {
                session,
                role,
                term,
                counter,
            })
            .emit(into),
        )
    }

    /// Identifier and sequence number of the ping that is due on the service network, if one is.
    pub fn ping(&mut self) -> Option<(u16, u16)> {
        if self.role == Role::Master || self.peer.is_none() {
            return None;
        }
        let sequence = self.judge.take_request()?;
        Some((self.echo_identifier(), sequence))
    }

    fn echo_identifier(&self) -> u16 {
        self.settings.session.0 as u16
    }

    /// Writes the next datagram for the cluster link into `into` and returns its length.
    ///
    /// # Panics
    /// If `into` is shorter than a datagram on the cluster link.
    pub fn transmit(&mut self, now: Instant, into: &mut [u8]) -> Option<usize> {
        let alone = self.peer.is_none() && !self.taking_over && now >= self.hello_at;
        if alone {
            self.hello_at = now + self.hello_interval();
            self.hello_said_at = now;
        }
        if let Some(words) = self
            .reply
            .take()
            .or_else(|| alone.then(|| self.handshake.words()))
        {
            let hello = Hello {
                session: self.settings.session,
                role: self.role,
                term: self.term,
                paired: words.paired,
                to: words.to,
                datagram_len_max: u16::try_from(self.settings.datagram_len_max).unwrap_or(u16::MAX),
                challenge: words.challenge,
                answer: words.answer,
                application: self.settings.application,
                build: self.settings.build,
            };
            return Some(Datagram::Hello(hello).emit(into));
        }
        self.peer.as_ref()?;
        self.tell_forsaken();
        self.channel.transmit(now, into)
    }

    fn hello_interval(&self) -> Duration {
        match self.end_at {
            Some(_) => self.settings.heartbeat,
            None => self.settings.heartbeat * HELLO_BEATS,
        }
    }

    /// When [`on_time`](Pair::on_time) and [`beat`](Pair::beat) have something to do, if nothing happens before; and
    /// [`transmit`](Pair::transmit) too, if it `may_transmit`. Who cannot send now must not be told to: that would be once
    /// again and again, for nothing.
    pub fn poll_at(&self, may_transmit: bool) -> Instant {
        let end_at = self.end_at.as_ref().map(|(at, _)| *at);
        // Who is silent already is looked at with each beat.
        let heard = self.peer.as_ref().filter(|peer| !peer.silent);
        let detector_at = heard.map(|peer| peer.detector.poll_at());
        let judge_at = match (&self.peer, self.role) {
            (Some(_), Role::Spare) => self.judge.poll_at(),
            _ => None,
        };
        let transmit_at = match &self.peer {
            _ if !may_transmit => None,
            Some(_) => self.channel.poll_at(),
            None => (!self.taking_over).then_some(self.hello_at),
        };
        let times = [end_at, detector_at, judge_at, transmit_at];
        times
            .into_iter()
            .flatten()
            .fold(self.pace.poll_at(), Instant::min)
    }

    // ------------------------------------------------------------------------------------- the spare's stream

    /// Swaps the next message of the stream with the buffer, and says to which pairing it belongs; what was begun in an
    /// earlier one is lost. For the spare, also during the takeover: the old master's last.
    pub fn take_message(&mut self, buffer: &mut MessageBuffer) -> Option<Epoch> {
        let reads = self.role == Role::Spare || self.taking_over;
        (reads && self.channel.take(buffer)).then(|| self.transfers.epoch())
    }

    /// A buffer for [`take_message`](Pair::take_message).
    pub fn message_buffer(&self) -> MessageBuffer {
        self.channel.message_buffer()
    }

    /// Messages that wait to be taken.
    pub fn readable(&self) -> usize {
        self.channel.readable()
    }

    /// Whether an acknowledgement waits to be sent: reading may have made room that the peer waits for.
    pub fn ack_due(&self) -> bool {
        self.peer.is_some() && self.channel.ack_due()
    }

    /// The spare answers its master; `false` if there is no room now. Without a master nothing is said, and nobody misses it.
    pub fn answer(&mut self, message: &Message<'_>) -> bool {
        if self.role != Role::Spare || self.peer.is_none() {
            return true;
        }
        let len = message.emit(&mut self.buffer.space()[..self.channel.message_len_max()]);
        self.buffer.set_len(len);
        self.channel.queue(&mut self.buffer)
    }

    /// The newest checkpoint that the spare has, if that is news: output up to there may go out.
    pub fn take_kept(&mut self) -> Option<CheckpointId> {
        self.kept.take()
    }

    /// The spare holds a whole checkpoint of this pairing: from here on it can take over.
    pub fn hold_image(&mut self, epoch: Epoch) {
        self.holds_image |= self.role == Role::Spare && epoch == self.transfers.epoch();
    }

    /// Whether the pair's spare holds a whole checkpoint, as far as this node knows.
    pub fn holds_image(&self) -> bool {
        self.holds_image
    }
}

#[cfg(test)]
mod tests;

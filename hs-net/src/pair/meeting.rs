//! Whom this node meets: heartbeats and hellos, and what they mean for roles and terms.

use alloc::format;
use alloc::string::String;
use core::fmt::Write as _;

use hs_core::platform::Instant;
use hs_core::role::{Role, Term};

use super::{FAREWELL_BEATS, Heard, Loss, MASTER_PATIENCE, Notice, Pair, Peer};
use crate::channel::frame::{Heartbeat, Hello, ParseError, Session};
use crate::channel::handshake::Greeting;
use crate::detect::{Detector, Network};

impl Pair {
    /// A node of another version cannot be understood, but a person should know.
    pub(super) fn on_malformed(&mut self, error: ParseError) {
        if let ParseError::Version(version) = error
            && self.refused_version != Some(version)
        {
            self.refused_version = Some(version);
            self.note(Notice::Refused {
                what: "peer",
                why: format!("{error}"),
            });
        }
    }

    pub(super) fn on_heartbeat(&mut self, network: Network, heartbeat: &Heartbeat, now: Instant) -> Heard {
        if heartbeat.session == self.settings.session {
            return Heard::Refused;
        }
        if heartbeat.role == Role::Master && self.role == Role::Master {
            // The clients' network is anybody's: only who was this master's spare is believed there.
            if network == Network::Cluster || self.last_spare == Some(heartbeat.session) {
                self.meet_master(heartbeat.term, heartbeat.session, now);
            }
            return Heard::Other;
        }
        match &self.peer {
            Some(peer) if peer.session == heartbeat.session => {
                if heartbeat.role == Role::Master {
                    self.term = self.term.max(heartbeat.term);
                }
                Heard::Peer
            }
            Some(_) => Heard::Refused,
            None => Heard::Other,
        }
    }

    /// Another master is there.
    pub(super) fn meet_master(&mut self, term: Term, session: Session, now: Instant) {
        let own = (self.term, self.settings.session);
        if (term, session) > own && self.end_at.is_none() && !self.ended {
            let why = match term > self.term {
                true => format!(
                    "the other node is master in term {term}, which is newer than this one's {}",
                    self.term
                ),
                false => format!("both nodes are masters in term {term}: this one gives way"),
            };
            self.end_at = Some((now, why));
        }
    }

    pub(super) fn on_hello(&mut self, hello: &Hello, now: Instant) -> Heard {
        let meant = hello.to.is_none_or(|to| to == self.settings.session);
        if hello.session == self.settings.session || !meant || self.taking_over || self.ended {
            return Heard::Other;
        }
        if hello.role == Role::Master && self.role == Role::Master {
            self.meet_master(hello.term, hello.session, now);
            self.say_hello_soon();
            return Heard::Other;
        }
        if let Some(why) = self.mismatch(hello) {
            self.refuse_peer(hello, why, now);
            return Heard::Refused;
        }
        if hello.role == Role::Master && hello.term < self.term {
            return Heard::Refused;
        }
        let old = self.handshake.peer();
        match self.handshake.on_hello(hello) {
            Greeting::Known => {}
            Greeting::Answer(words) => self.reply = Some(words),
            Greeting::Adopt(connection, words) => {
                if self.role == Role::Spare && self.holds_image && old != Some(hello.session) {
                    // Its memory is gone with its last life, and this node has it.
                    self.take_over("restart", now);
                    return Heard::Other;
                }
                self.reply = words;
                if self.role == Role::Spare {
                    self.term = self.term.max(hello.term);
                    // While this node was lost to its master, that went on alone: what is held here is old.
                    self.holds_image = false;
                }
                if self.peer.is_some() {
                    self.part(Loss::Restarted);
                }
                self.channel.open(connection, hello.datagram_len_max.into());
                self.begin_epoch();
                let deadline = match self.role {
                    Role::Master => self.settings.deadline * MASTER_PATIENCE,
                    Role::Spare => self.settings.deadline,
                };
                let detector = Detector::new(self.settings.heartbeat, deadline, now);
                self.last_spare = (self.role == Role::Master).then_some(hello.session);
                self.peer = Some(Peer {
                    session: hello.session,
                    detector,
                    silent: false,
                    mute_since: None,
                    dead: None,
                });
                let (interval, deadline) = (self.settings.heartbeat, self.settings.deadline);
                self.judge.begin(interval, deadline, now);
                self.note(Notice::Paired);
            }
        }
        match &self.peer {
            Some(peer) if peer.session == hello.session => Heard::Peer,
            _ => Heard::Other,
        }
    }

    /// Lets the other know who speaks here, but no faster than the heart beats: it may do the same.
    fn say_hello_soon(&mut self) {
        self.hello_at = self.hello_at.min(self.hello_said_at + self.settings.heartbeat);
    }

    /// Why this node cannot be in a pair with the other.
    fn mismatch(&self, hello: &Hello) -> Option<String> {
        if hello.build != self.settings.build {
            let mut why = String::from("builds differ: this node's is ");
            hex(&self.settings.build, &mut why);
            why.push_str(", the other's ");
            hex(&hello.build, &mut why);
            return Some(why);
        }
        if hello.application != self.settings.application {
            let (own, other) = (self.settings.application, hello.application);
            return Some(format!(
                "applications differ: this node's is {own:#x}, the other's {other:#x}"
            ));
        }
        (hello.role == self.role).then(|| format!("both nodes are {}s", self.role))
    }

    fn refuse_peer(&mut self, hello: &Hello, why: String, now: Instant) {
        self.say_hello_soon();
        if self.refused_session == Some(hello.session) {
            return;
        }
        self.refused_session = Some(hello.session);
        // Two spares may be a master that is still to come; another build will not change.
        if self.role == Role::Spare && hello.role == Role::Master {
            self.end_at = Some((now + self.settings.heartbeat * FAREWELL_BEATS, why.clone()));
        }
        self.note(Notice::Refused { what: "peer", why });
    }
}

fn hex(bytes: &[u8], into: &mut String) {
    for byte in bytes {
        write!(into, "{byte:02x}").expect("writing to a string does not fail");
    }
}

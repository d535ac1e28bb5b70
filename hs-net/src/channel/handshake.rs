//! How two nodes come to a connection.
//!
//! Each has a random session number for its boot, and a random challenge for the next connection. Whoever is not paired
//! says hello again and again; a hello carries the sender's challenge and, as an answer, the newest challenge that it has
//! heard. A node adopts a peer when a hello answers its current challenge, which no datagram from before can do, and
//! draws a new challenge then. An answer names the boot that it is for. A restarted peer is therefore recognised as soon as it speaks, and a delayed hello of
//! its last life changes nothing.
//!
//! ```text
//!   A: challenge a                          B: challenge b
//!        | hello(a, answer 0)                    |
//!        |-------------------------------------> |
//!        |               hello(b, answer a)      |
//!        | <-------------------------------------|
//!  adopts| hello(a, answer b, paired)            |
//!        |-------------------------------------> | adopts
//! ```
//!
//! If the last one is lost, B goes on saying hello, and A answers.

use super::frame::{Connection, Hello, Session};

/// What a hello asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Greeting {
    /// Nothing.
    Known,
    /// A hello in return: this one.
    Answer(Words),
    /// The peer is adopted: a new connection begins, any earlier one is over. If there are words, the peer needs them to
    /// adopt us.
    Adopt(Connection, Option<Words>),
}

/// The part of a hello that the handshake decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Words {
    /// Whom they answer.
    pub to: Option<Session>,
    /// The sender's challenge.
    pub challenge: u64,
    /// The receiver's, as far as it was heard.
    pub answer: u64,
    /// Whether the sender has adopted the receiver.
    pub paired: bool,
}

#[derive(Clone, Copy, Debug)]
struct Paired {
    session: Session,
    challenge: u64,
    own_challenge: u64,
}

/// One node's side.
#[derive(Debug)]
pub struct Handshake {
    random: u64,
    challenge: u64,
    heard: u64,
    paired: Option<Paired>,
}

impl Handshake {
    /// A node that knows of nobody; challenges are drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        let mut handshake = Self {
            random: seed,
            challenge: 0,
            heard: 0,
            paired: None,
        };
        handshake.challenge = handshake.draw();
        handshake
    }

    /// SplitMix64. Zero means "nothing heard".
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.random).max(1)
    }

    /// The adopted peer's session.
    pub fn peer(&self) -> Option<Session> {
        self.paired.map(|paired| paired.session)
    }

    /// What to say while nobody is adopted.
    pub fn words(&self) -> Words {
        Words {
            to: None,
            challenge: self.challenge,
            answer: self.heard,
            paired: false,
        }
    }

    /// Takes in a hello of an acceptable peer.
    pub fn on_hello(&mut self, hello: &Hello) -> Greeting {
        if let Some(paired) = &self.paired
            && (hello.session, hello.challenge) == (paired.session, paired.challenge)
        {
            return match hello.paired {
                true => Greeting::Known,
                false => Greeting::Answer(Words {
                    to: Some(hello.session),
                    challenge: paired.own_challenge,
                    answer: paired.challenge,
                    paired: true,
                }),
            };
        }
        self.heard = hello.challenge;
        if hello.answer != self.challenge {
            return Greeting::Answer(Words {
                to: Some(hello.session),
                ..self.words()
            });
        }
        let own_challenge = self.challenge;
        self.paired = Some(Paired {
            session: hello.session,
            challenge: hello.challenge,
            own_challenge,
        });
        self.challenge = self.draw();
        self.heard = 0;
        let connection = Connection(mix(own_challenge.wrapping_add(hello.challenge)));
        let words = Words {
            to: Some(hello.session),
            challenge: own_challenge,
            answer: hello.challenge,
            paired: true,
        };
        Greeting::Adopt(connection, (!hello.paired).then_some(words))
    }

    /// The adopted peer is gone.
    pub fn part(&mut self) {
        self.paired = None;
        self.heard = 0;
    }
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

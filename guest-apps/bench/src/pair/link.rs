//! The bare cluster link: datagrams from guest to guest with nothing done to them, for the throughput of checkpoints to stand
//! beside.
//!
//! ```text
//! master   probe … probe ─╮      data data data …   probe ─╮                 done
//! spare                   ╰ ack ──────── ack ── ack ────────╰ ack              becomes a node
//! ```
//!
//! Before either node is one: the cards are ours alone then. The spare counts what arrives and says so now and then; the
//! master keeps a bounded number under way, so that what is measured is what gets through and not what is dropped. Silence
//! while some are under way means that they were lost; they are not sent again, but others in their place.
//!
//! The round trip is that of a probe and its answer, one after the other: what a small checkpoint stands beside.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use bench_plan::experiment::Experiment;
use bench_plan::statistics::{self, Samples};
use hs_core::figure::Figure;
use hs_core::platform::{Instant, Nic, RingFull};
use hs_core::role::{PairConfig, Role};
use hs_core::sync::{Signal, machine, sleep};
use hs_net::wire::{HEADERS_LEN, Received, Wire};
use kernel::time::stopwatch_ns;

use super::rates::REPLICATION_MIB;
use crate::Context;
use crate::failure::Failure;
use crate::rounds::{Point, us};

/// Before the kind of a datagram and a number.
const MAGIC: [u8; 8] = *b"hs-link\x01";
const LETTER_LEN: usize = MAGIC.len() + 1 + 8;
/// Data under way, in datagrams: well within the cards' rings and the host's queues.
const WINDOW: u64 = 64;
/// The spare tells its count after so many.
const ACK_EVERY: u64 = 16;
/// Time between two probes, and the silence that means a loss.
const PROBE_EVERY: Duration = Duration::from_millis(20);
/// Round trips of a run.
pub(super) const ROUND_TRIPS: usize = 400;
/// Longest that either waits for the other.
const LIMIT: Duration = Duration::from_secs(60);
/// A last word that may be lost; if all are, the first heartbeat says the same.
const FAREWELLS: usize = 3;

static ARRIVED: Signal = Signal::new();

/// What a datagram is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Letter {
    /// The master asks for the count.
    Probe,
    /// The spare has received so many data, since it began to count.
    Ack(u64),
    /// Only its length matters.
    Data,
    /// The master is through.
    Done,
}

impl Letter {
    fn write(self, into: &mut [u8]) {
        let (kind, number) = match self {
            Letter::Probe => (0, 0),
            Letter::Ack(count) => (1, count),
            Letter::Data => (2, 0),
            Letter::Done => (3, 0),
        };
        into[..8].copy_from_slice(&MAGIC);
        into[8] = kind;
        into[9..LETTER_LEN].copy_from_slice(&number.to_le_bytes());
    }

    /// `None`: not of ours.
    fn read(datagram: &[u8]) -> Option<Letter> {
        let number = datagram.get(9..LETTER_LEN)?.try_into().ok()?;
        match (datagram[..8] == MAGIC, datagram[8]) {
            (true, 0) => Some(Letter::Probe),
            (true, 1) => Some(Letter::Ack(u64::from_le_bytes(number))),
            (true, 2) => Some(Letter::Data),
            (true, 3) => Some(Letter::Done),
            _ => None,
        }
    }
}

/// The master tells the figures of the bare link that the `chosen` experiments need, and the spare answers until the master is
/// through. Nothing, if they need none.
///
/// # Errors
/// The other node does not answer.
pub(super) fn measure(
    context: Context,
    nic: &'static dyn Nic,
    pair: &PairConfig,
    chosen: &[Experiment],
) -> Result<(), Failure> {
    let needed = |experiment| chosen.contains(&experiment);
    if !needed(Experiment::Replication) && !needed(Experiment::Latency) {
        return Ok(());
    }
    nic.notify(&ARRIVED);
    let mut end = End {
        nic,
        wire: Wire::new(nic.mac(), pair.cluster.address, pair.peer_cluster_address, true),
        frame: vec![0; nic.frame_len_max()],
    };
    match pair.role {
        Role::Master => {
            let mut flow = end.meet()?;
            if needed(Experiment::Latency) {
                end.tell_round_trip(context, &mut flow)?;
            }
            if needed(Experiment::Replication) {
                end.tell_rates(context, &mut flow)?;
            }
            (0..FAREWELLS).for_each(|_| end.say(Letter::Done));
            Ok(())
        }
        Role::Spare => end.answer(),
    }
}

/// One end of the link.
struct End {
    nic: &'static dyn Nic,
    wire: Wire,
    frame: Vec<u8>,
}

impl End {
    /// Sends `letter` in a datagram of `len` bytes.
    fn send(&mut self, letter: Letter, len: usize) -> Result<(), RingFull> {
        letter.write(&mut self.frame[HEADERS_LEN..]);
        let frame_len = self.wire.wrap(&mut self.frame, len);
        self.nic.transmit(&self.frame[..frame_len])
    }

    /// As [`send`](Self::send), for one of few: a full ring loses it.
    fn say(&mut self, letter: Letter) {
        let _ = self.send(letter, LETTER_LEN);
        self.nic.kick();
    }

    /// Hands what has arrived to `with`; what is not ours is `None`.
    fn receive(&mut self, with: &mut dyn FnMut(Option<Letter>)) {
        let (nic, wire) = (self.nic, &mut self.wire);
        while nic.receive(&mut |frame| match wire.receive(frame) {
            Received::Datagram(datagram) => {
                let letter = Letter::read(datagram);
                wire.learn_peer(frame);
                with(letter);
            }
            Received::Arp(reply) => {
                // Whoever asked will ask again.
                let _ = nic.transmit(&reply);
                nic.kick();
            }
            Received::Agent(_) | Received::Refused(_) | Received::Echo(_) | Received::Other => {}
        }) {}
    }

    /// The spare's part.
    fn answer(&mut self) -> Result<(), Failure> {
        let mut heard_at = machine().now();
        let (mut count, mut told, mut done) = (0_u64, 0_u64, false);
        while !done {
            let seen = ARRIVED.seen();
            let (mut asked, mut heard) = (false, false);
            self.receive(&mut |letter| {
                heard = true;
                match letter {
                    Some(Letter::Data) => count += 1,
                    Some(Letter::Probe) => asked = true,
                    Some(Letter::Ack(_)) => {}
                    // A node's heartbeat: the master is one already.
                    Some(Letter::Done) | None => done = true,
                }
            });
            if asked || count - told >= ACK_EVERY {
                told = count;
                self.say(Letter::Ack(count));
            }
            if heard {
                heard_at = machine().now();
            } else if machine().now() >= heard_at + LIMIT {
                return Err(Failure::NoPeer);
            }
            ARRIVED.wait(seen, Some(heard_at + LIMIT));
        }
        Ok(())
    }

    /// The master's part: waits until the spare answers.
    fn meet(&mut self) -> Result<Flow, Failure> {
        let mut flow = Flow::default();
        let give_up = machine().now() + LIMIT;
        while !flow.answered {
            if machine().now() >= give_up {
                return Err(Failure::NoPeer);
            }
            self.say(Letter::Probe);
            self.await_ack(&mut flow, machine().now() + PROBE_EVERY);
        }
        // Answers to earlier probes come in, and are not taken for later ones'.
        sleep(PROBE_EVERY);
        self.hear_acks(&mut flow);
        Ok(flow)
    }

    /// Tells how long a probe and its answer take.
    fn tell_round_trip(&mut self, context: Context, flow: &mut Flow) -> Result<(), Failure> {
        let mut round_trip = Samples::default();
        for _ in 0..context.runs() {
            round_trip.begin_run();
            for _ in 0..ROUND_TRIPS {
                let begun = stopwatch_ns();
                self.say(Letter::Probe);
                let give_up = machine().now() + LIMIT;
                loop {
                    let seen = ARRIVED.seen();
                    if self.hear_acks(flow) {
                        break;
                    }
                    if machine().now() >= give_up {
                        return Err(Failure::NoPeer);
                    }
                    ARRIVED.wait(seen, Some(give_up));
                }
                round_trip.add(us(stopwatch_ns() - begun));
            }
        }
        let point = Point {
            experiment: "latency",
            x: 0.0,
            unit: "dirty pages",
        };
        context.tell(Figure {
            latency_us: Some(statistics::pause(&round_trip.all())),
            latency_spread_us: Some(round_trip.spread()),
            runs: round_trip.runs(),
            ..point.figure("udp-echo", &Samples::default(), &Samples::default())
        });
        Ok(())
    }

    /// Tells the figures of series `raw-link`.
    fn tell_rates(&mut self, context: Context, flow: &mut Flow) -> Result<(), Failure> {
        let len = self.frame.len() - HEADERS_LEN;
        for mib in REPLICATION_MIB {
            let count = (mib << 20).div_ceil(len) as u64;
            let mut rates = Vec::new();
            for _ in 0..context.runs() {
                let begun = stopwatch_ns();
                self.transfer(flow, count, len)?;
                rates.push(1e6 / us(stopwatch_ns() - begun));
            }
            let point = Point {
                experiment: "replication",
                x: mib as f64,
                unit: "MiB",
            };
            context.tell(Figure {
                bytes: count * len as u64,
                header_bytes: Some(count * HEADERS_LEN as u64),
                rate_per_s: Some(statistics::median(&rates)),
                rate_spread_per_s: Some(statistics::spread(&rates)),
                runs: context.runs() as u32,
                ..point.figure("raw-link", &Samples::default(), &Samples::default())
            });
        }
        log::info!("of {} datagrams {} were lost", flow.sent, flow.lost);
        Ok(())
    }

    /// Gets `count` datagrams of `len` bytes to the other end.
    fn transfer(&mut self, flow: &mut Flow, count: u64, len: usize) -> Result<(), Failure> {
        let goal = flow.acked + count;
        let mut moved_at = machine().now();
        let give_up = moved_at + LIMIT;
        while flow.acked < goal {
            let seen = ARRIVED.seen();
            let before = flow.acked;
            while flow.under_way() < WINDOW && flow.acked + flow.under_way() < goal {
                if self.send(Letter::Data, len).is_err() {
                    break;
                }
                flow.sent += 1;
            }
            self.nic.kick();
            if flow.acked + flow.under_way() >= goal {
                // All are sent: the last ones are counted when asked for.
                self.say(Letter::Probe);
            }
            if !self.await_ack_since(flow, seen, moved_at + PROBE_EVERY) && flow.acked == before {
                let now = machine().now();
                if now >= give_up {
                    return Err(Failure::NoPeer);
                }
                if now >= moved_at + PROBE_EVERY {
                    flow.lost = flow.sent - flow.acked;
                    moved_at = now;
                }
            } else {
                moved_at = machine().now();
            }
        }
        Ok(())
    }

    /// Waits for word from the spare until `deadline`; whether more has arrived there.
    fn await_ack(&mut self, flow: &mut Flow, deadline: Instant) -> bool {
        let seen = ARRIVED.seen();
        self.await_ack_since(flow, seen, deadline)
    }

    fn await_ack_since(&mut self, flow: &mut Flow, seen: u32, deadline: Instant) -> bool {
        let before = flow.acked;
        if !self.hear_acks(flow) {
            ARRIVED.wait(seen, Some(deadline));
            self.hear_acks(flow);
        }
        flow.acked > before
    }

    /// Takes in what the spare has said; whether it said anything.
    fn hear_acks(&mut self, flow: &mut Flow) -> bool {
        let mut heard = false;
        self.receive(&mut |letter| {
            if let Some(Letter::Ack(count)) = letter {
                heard = true;
                flow.answered = true;
                flow.acked = flow.acked.max(count);
            }
        });
        heard
    }
}

/// What the master knows.
#[derive(Default)]
struct Flow {
    /// The spare has spoken.
    answered: bool,
    sent: u64,
    acked: u64,
    /// Taken for lost.
    lost: u64,
}

impl Flow {
    /// Sent, and neither acknowledged nor taken for lost. One that was, and arrives after all, counts as received.
    fn under_way(&self) -> u64 {
        (self.sent - self.acked).saturating_sub(self.lost)
    }
}

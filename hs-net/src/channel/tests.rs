//! Two channels and a bad link between them.

use core::time::Duration;
use std::string::String;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::frame::{Datagram, Message};
use super::*;
use crate::sim::{Link, Random, Weather};

const DATAGRAM_LEN: usize = 1472;

/// A CRC would be UDP's business; the simulation has damage noticed by a sum, as UDP's checksum would.
fn seal(mut datagram: Vec<u8>) -> Vec<u8> {
    let sum: u8 = datagram.iter().fold(0, |sum, byte| sum.wrapping_add(*byte));
    datagram.push(sum);
    datagram
}

fn unseal(bytes: &[u8]) -> Option<&[u8]> {
    let (sum, datagram) = bytes.split_last()?;
    (datagram.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)) == *sum).then_some(datagram)
}

struct End {
    channel: Channel,
    out: Link,
    to_send: Vec<Vec<u8>>,
    sent: usize,
    got: Vec<Vec<u8>>,
    buffer: MessageBuffer,
    /// Reads at most so many messages a round.
    reads: usize,
}

impl End {
    fn new(seed: u64, weather: Weather, messages: Vec<Vec<u8>>, reads: usize) -> Self {
        let mut channel = Channel::new(DATAGRAM_LEN);
        channel.open(Connection(77), DATAGRAM_LEN);
        let buffer = channel.message_buffer();
        Self {
            channel,
            out: Link::new(seed, weather),
            to_send: messages,
            sent: 0,
            got: Vec::new(),
            buffer,
            reads,
        }
    }

    fn receive(&mut self, now: Instant, bytes: &[u8]) {
        let Some(bytes) = unseal(bytes) else { return };
        match Datagram::parse(bytes).expect("only this test's datagrams") {
            Datagram::Data(data) => {
                self.channel.on_data(&data, now);
            }
            Datagram::Ack(ack) => assert!(self.channel.on_ack(&ack, now)),
            Datagram::Probe(connection) => assert!(self.channel.on_probe(connection)),
            other => panic!("{other:?}"),
        }
    }

    fn work(&mut self, now: Instant) {
        for _ in 0..self.reads {
            if !self.channel.take(&mut self.buffer) {
                break;
            }
            self.got.push(self.buffer.message().to_vec());
        }
        while self.sent < self.to_send.len() {
            let message = &self.to_send[self.sent];
            self.buffer.space()[..message.len()].copy_from_slice(message);
            self.buffer.set_len(message.len());
            if !self.channel.queue(&mut self.buffer) {
                break;
            }
            self.sent += 1;
        }
        let mut datagram = vec![0; DATAGRAM_LEN];
        for _ in 0..64 {
            let Some(len) = self.channel.transmit(now, &mut datagram) else {
                break;
            };
            self.out.send(now, &seal(datagram[..len].to_vec()));
        }
    }
}

fn messages(random: &mut Random, count: usize) -> Vec<Vec<u8>> {
    let one = |number: usize| {
        let len = random.below((DATAGRAM_LEN - DATA_HEADER_LEN - frame::CHUNK_HEADER_LEN) as u64) as usize;
        let bytes: Vec<u8> = (0..len).map(|index| (number * 31 + index) as u8).collect();
        let checkpoint = hs_core::checkpoint::CheckpointId {
            generation: 1,
            increment: number as u64,
        };
        let mut message = vec![0; DATAGRAM_LEN];
        let len = Message::Chunk {
            checkpoint,
            first: number == 0,
            last: false,
            arms: false,
            bytes: &bytes,
        }
        .emit(&mut message);
        message.truncate(len);
        message
    };
    (0..count).map(one).collect()
}

/// Runs both until everything has arrived, and says how long that took; or why it did not.
fn run(ends: &mut [End; 2], mut fair_from: Option<Instant>) -> Result<Instant, String> {
    let mut now = Instant::from_micros(1_000_000);
    let started = now;
    for _ in 0..2_000_000 {
        if fair_from.is_some_and(|at| now >= at) {
            fair_from = None;
            for end in ends.iter_mut() {
                end.out.weather = Weather::FAIR;
            }
        }
        for index in 0..2 {
            while let Some(bytes) = ends[index].out.deliver(now) {
                ends[1 - index].receive(now, &bytes);
            }
        }
        for end in ends.iter_mut() {
            end.work(now);
        }
        for index in 0..2 {
            let (got, sent) = (&ends[index].got, &ends[1 - index].to_send);
            if got.len() > sent.len() || got.iter().zip(sent).any(|(got, sent)| got != sent) {
                return Err("something else arrived than was sent".into());
            }
        }
        if (0..2).all(|index| ends[index].got.len() == ends[1 - index].to_send.len()) {
            return Ok(Instant::from_micros(now.as_micros() - started.as_micros()));
        }
        let timers = ends.iter().filter_map(|end| end.channel.poll_at());
        let links = ends.iter().filter_map(|end| end.out.next_at());
        let slow_reader = ends.iter().any(|end| end.channel.readable() > 0);
        let next = timers
            .chain(links)
            .chain(slow_reader.then(|| now + Duration::from_micros(100)))
            .min();
        let Some(next) = next else {
            return Err("nothing will ever happen again".into());
        };
        // A busy sender is asked again at once; time goes on all the same.
        now = next.max(now + Duration::from_micros(10));
    }
    Err("it takes for ever".into())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever the link does, everything arrives once, in order, byte for byte, both ways at once.
    #[test]
    fn a_bad_link_changes_nothing(seed in any::<u64>(), count in 1usize..800, reads in 1usize..200) {
        let mut random = Random(seed);
        let weather = Weather::foul(&mut random);
        let back = random.below(50) as usize;
        let mut ends = [
            End::new(random.next(), weather, messages(&mut random, count), reads),
            End::new(random.next(), weather, messages(&mut random, back), reads),
        ];
        run(&mut ends, None).map_err(TestCaseError::fail)?;
    }

    /// After a time in which nothing at all arrives, the rest does, and soon.
    #[test]
    fn life_goes_on_after_an_outage(seed in any::<u64>(), outage_ms in 1u64..5000) {
        let mut random = Random(seed);
        let out = Weather { loss_per_mille: 1000, ..Weather::FAIR };
        let mut ends = [
            End::new(random.next(), out, messages(&mut random, 300), 64),
            End::new(random.next(), out, messages(&mut random, 3), 64),
        ];
        let fair = Instant::from_micros(1_000_000 + outage_ms * 1000);
        let took = run(&mut ends, Some(fair)).map_err(TestCaseError::fail)?;
        prop_assert!(took.since(Instant::from_micros(outage_ms * 1000)) < Duration::from_millis(300), "{:?}", took);
    }
}

#[test]
fn a_fair_link_is_used_well() {
    let mut random = Random(1);
    let to_send = messages(&mut random, 20_000);
    let bytes: usize = to_send
        .iter()
        .map(|message| message.len() + DATA_HEADER_LEN)
        .sum();
    // 100 MB/s and a round trip of 0.4 ms.
    let weather = Weather {
        delay_us: 200,
        ..Weather::FAIR
    };
    let mut ends = [
        End::new(1, weather, to_send, 10_000),
        End::new(2, weather, Vec::new(), 10_000),
    ];
    let took = run(&mut ends, None).unwrap();
    let ideal_us = bytes as u64 * weather.byte_ns / 1000;
    assert!(
        took.as_micros() < ideal_us * 11 / 10,
        "{} us instead of {ideal_us}",
        took.as_micros()
    );
    assert_eq!(ends[0].channel.retransmitted(), 0);
}

#[test]
fn one_lost_tail_costs_milliseconds() {
    let mut random = Random(1);
    let mut ends = [
        End::new(1, Weather::FAIR, messages(&mut random, 200), 1000),
        End::new(2, Weather::FAIR, Vec::new(), 1000),
    ];
    run(&mut ends, None).unwrap();
    ends[0].to_send.extend(messages(&mut random, 1));
    let mut now = Instant::from_micros(9_000_000);
    ends[0].work(now);
    while ends[0].out.deliver(now + Duration::from_secs(1)).is_some() {}
    let lost_at = now;
    for _ in 0..3 {
        now = ends[0].channel.poll_at().expect("the sender waits");
        ends[0].work(now);
        if let Some(at) = ends[0].out.next_at() {
            assert!(
                at.since(lost_at) < Duration::from_millis(15),
                "{:?}",
                at.since(lost_at)
            );
            return;
        }
    }
    panic!("it was never sent again");
}

#[test]
fn a_reader_that_stops_stops_its_sender() {
    let mut random = Random(3);
    let mut ends = [
        End::new(1, Weather::FAIR, messages(&mut random, 3000), 0),
        End::new(2, Weather::FAIR, Vec::new(), 0),
    ];
    let mut now = Instant::from_micros(1);
    for _ in 0..20_000 {
        for index in 0..2 {
            while let Some(bytes) = ends[index].out.deliver(now) {
                ends[1 - index].receive(now, &bytes);
            }
        }
        for end in &mut ends {
            end.work(now);
        }
        now = now + Duration::from_micros(100);
    }
    let held = ends[1].channel.readable();
    assert_eq!(held, 512, "the receiver's ring is full, and no more");
    assert!(ends[0].sent <= 2 * held, "the sender's ring is full, and no more");
    assert_eq!(ends[0].channel.retransmitted(), 0, "waiting is no loss");
    ends[1].reads = 100;
    run(&mut ends, None).unwrap();
}

#[test]
fn an_ack_of_what_was_never_sent_is_refused() {
    let now = Instant::from_micros(1);
    let mut channel = Channel::new(DATAGRAM_LEN);
    channel.open(Connection(5), DATAGRAM_LEN);
    let ack = |next, limit, first_word| {
        let mut bitmap = [0; frame::ACK_WORDS_MAX];
        bitmap[0] = first_word;
        Ack {
            connection: Connection(5),
            next,
            limit,
            echo_us: 0,
            bitmap,
        }
    };
    assert!(!channel.on_ack(&ack(1, 10, 0), now));
    assert!(!channel.on_ack(&ack(0, 10, 1), now));
    assert!(!channel.on_ack(&ack(u64::MAX, u64::MAX, 1), now));
    assert!(!channel.on_ack(
        &Ack {
            connection: Connection(6),
            ..ack(0, 10, 0)
        },
        now
    ));
    assert!(channel.on_ack(&ack(0, u64::MAX, 0), now));
}

/// The checker itself: a link that damages unnoticed must be noticed here.
#[test]
fn the_check_can_fail() {
    let mut random = Random(1);
    let mut ends = [
        End::new(1, Weather::FAIR, messages(&mut random, 10), 10),
        End::new(2, Weather::FAIR, Vec::new(), 10),
    ];
    ends[1].got.push(vec![1, 2, 3]);
    assert!(run(&mut ends, None).is_err());
}

/// The datagrams that the channel has to send now.
fn said(channel: &mut Channel, now: Instant) -> Vec<Vec<u8>> {
    let mut datagram = vec![0; DATAGRAM_LEN];
    let mut one = || {
        let len = channel.transmit(now, &mut datagram)?;
        Some(datagram[..len].to_vec())
    };
    core::iter::from_fn(&mut one).collect()
}

/// A channel to which so many messages have come, and the moment.
fn told(sequences: impl IntoIterator<Item = u64>) -> (Channel, Instant) {
    let now = Instant::from_micros(1_000);
    let mut channel = Channel::new(DATAGRAM_LEN);
    channel.open(Connection(77), DATAGRAM_LEN);
    // The first ack tells of the room.
    assert_eq!(said(&mut channel, now).len(), 1);
    let message = messages(&mut Random(1), 1).remove(0);
    for sequence in sequences {
        let received = frame::Cumulative {
            next: 0,
            limit: 16,
            echo_us: 0,
        };
        assert!(channel.on_data(
            &Data {
                connection: Connection(77),
                received,
                sequence,
                sent_us: 7,
                message: &message,
            },
            now,
        ));
    }
    (channel, now)
}

#[test]
fn an_answer_carries_the_acknowledgement() {
    let (mut channel, now) = told([0, 1]);
    assert!(said(&mut channel, now).is_empty(), "an answer may come");
    let mut buffer = channel.message_buffer();
    let answer = messages(&mut Random(2), 1).remove(0);
    buffer.space()[..answer.len()].copy_from_slice(&answer);
    buffer.set_len(answer.len());
    assert!(channel.queue(&mut buffer));
    let said_now = said(&mut channel, now);
    let [only] = &said_now[..] else {
        panic!("{} datagrams instead of one", said_now.len());
    };
    match Datagram::parse(only).unwrap() {
        Datagram::Data(data) => assert_eq!((data.received.next, data.received.echo_us), (2, 7)),
        other => panic!("{other:?}"),
    }
    assert!(
        said(&mut channel, now + flow::ACK_DELAY).is_empty(),
        "it was acknowledged"
    );
}

#[test]
fn what_nobody_answers_is_acknowledged_all_the_same() {
    let (mut channel, now) = told([0]);
    let at = channel.poll_at().expect("an ack waits");
    assert_eq!(at, now + flow::ACK_DELAY);
    assert!(said(&mut channel, now).is_empty());
    assert_eq!(said(&mut channel, at).len(), 1);
    assert_eq!(channel.poll_at(), None);
}

#[test]
fn many_messages_and_a_gap_are_acknowledged_at_once() {
    for sequences in [vec![0, 1, 2, 3], vec![1], vec![0, 0]] {
        let (mut channel, now) = told(sequences.iter().copied());
        let said_now = said(&mut channel, now);
        assert_eq!(said_now.len(), 1, "{sequences:?}");
        assert!(matches!(Datagram::parse(&said_now[0]), Ok(Datagram::Ack(_))));
    }
}

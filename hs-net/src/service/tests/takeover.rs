//! A stack that goes on after its machine's death, with what the next machine has heard.
//!
//! The stack is not copied here, as a restore does: it is the one that the checkpoint had because it was shown nothing since.

use super::*;
use crate::commit::Commit;
use crate::ingress::Ear;
use crate::service::{Resumed, Unseen};

/// What the client's card has sent since, heard by the spare and not by the old master.
fn hear(world: &mut World, ear: &mut Ear) -> usize {
    let now = StackInstant::from_micros(world.now.as_micros() as i64);
    world.interface.poll(now, &mut world.card, &mut world.sockets);
    let mut heard = 0;
    while let Some(frame) = world.card.sent.pop_front() {
        ear.hear(&frame);
        heard += 1;
    }
    heard
}

fn ear() -> Ear {
    Ear::new(MAC, SERVICE)
}

/// On a machine whose clock begins anew.
fn take_over(world: &mut World, ear: &Ear, unseen: Unseen) -> Resumed {
    let begun = Instant::from_micros(world.now.as_micros() - 4_000_000);
    let resumed = world.service.take_over(begun, ear, unseen);
    // The client's clock is another: what is measured with the world's is only how long things take.
    world.service.clock_offset_us -= 4_000_000;
    resumed
}

#[test]
fn what_the_spare_has_heard_is_answered_without_the_client_sending_it_again() {
    let mut world = World::listening(&config());
    let client = world.connect();
    world.settle();
    world.events.clear();
    let mut ear = ear();
    world.client(client).send_slice(b"a request").unwrap();
    assert_eq!(hear(&mut world, &mut ear), 1);
    let before = world.now;
    let resumed = take_over(&mut world, &ear, Unseen::TakenIn);
    assert_eq!((resumed.connections, resumed.taken_in, resumed.reset), (1, 1, 0));
    world.settle();
    assert!(world.now.since(before) < Duration::from_millis(5));
    let mut reply = [0; 16];
    assert_eq!(world.client(client).recv_slice(&mut reply), Ok(9));
    assert!(world.events.iter().all(|event| !event.news.closed));
}

#[test]
fn what_was_queued_goes_out_and_what_was_lost_is_sent_again_at_once() {
    for lost in [false, true] {
        let mut world = World::listening(&config());
        let client = world.connect();
        world.settle();
        let id = world.events[0].connection;
        world.service.send(id, b"an answer").unwrap();
        world.service.egress(world.now);
        assert!(world.service.has_output_behind(None));
        if lost {
            // Sent by the old master, as far as the checkpoint knows, and never arrived.
            let queue = world.service.queue();
            queue.release_all();
            queue.pop();
        }
        let before = world.now;
        take_over(&mut world, &ear(), Unseen::TakenIn);
        world.settle();
        assert!(world.now.since(before) < Duration::from_millis(5), "lost: {lost}");
        let mut answer = [0; 16];
        assert_eq!(world.client(client).recv_slice(&mut answer), Ok(9));
    }
}

/// The request that killed the application is not given to it again, neither from the ear nor by its client.
#[test]
fn after_a_panic_connections_with_input_that_nobody_has_seen_are_reset() {
    let mut world = World::listening(&config());
    let clients: StdVec<_> = (0..5).map(|_| world.connect()).collect();
    world.settle();
    world.events.clear();
    let mut ear = ear();
    for &client in &clients[..2] {
        world.client(client).send_slice(b"deadly").unwrap();
    }
    assert_eq!(hear(&mut world, &mut ear), 2);
    let resumed = take_over(&mut world, &ear, Unseen::Refused);
    assert_eq!((resumed.connections, resumed.taken_in, resumed.reset), (3, 0, 2));
    world.settle();
    for (index, &client) in clients.iter().enumerate() {
        let open = world.client(client).state() == tcp::State::Established;
        assert_eq!(open, index >= 2, "client {index}");
    }
    assert_eq!(world.events.iter().filter(|event| event.news.closed).count(), 2);
    assert!(world.events.iter().all(|event| !event.news.readable));
    world.client(clients[4]).send_slice(b"harmless").unwrap();
    world.settle();
    assert_eq!(world.client(clients[4]).recv_queue(), 8);
}

/// What a network says to all does not drive out what tells covered frames from others.
#[test]
fn noise_on_the_network_makes_nothing_uncovered() {
    let mut world = World::listening(&config());
    let client = world.connect();
    world.settle();
    world.client(client).send_slice(b"a request").unwrap();
    let mut ear = ear();
    let now = StackInstant::from_micros(world.now.as_micros() as i64);
    world.interface.poll(now, &mut world.card, &mut world.sockets);
    assert_eq!(world.card.sent.len(), 1);
    ear.hear(&world.card.sent[0]);
    // Taken in by the old master, too.
    world.settle();
    let mut question = [0xff; 42];
    question[12..14].copy_from_slice(&[0x08, 0x06]);
    for number in 0..300u16 {
        question[30..32].copy_from_slice(&number.to_be_bytes());
        world.service.ingest(world.now, &question);
    }
    let resumed = take_over(&mut world, &ear, Unseen::TakenIn);
    assert_eq!((resumed.connections, resumed.taken_in, resumed.reset), (1, 0, 0));
}

/// As many clients do, this one sends its request with the last step of the handshake, and no checkpoint has seen that.
#[test]
fn after_a_panic_a_connection_that_was_not_complete_is_reset_too() {
    let mut world = World::listening(&config());
    let client = world.connect();
    let is_half_open = |world: &World| {
        let mut entries = world.service.entries.iter();
        entries.any(|entry| matches!(entry.phase, Phase::HalfOpen { .. }))
    };
    while !is_half_open(&world) {
        world.step();
    }
    world.service.egress(world.now);
    world.service.release_all();
    while let Some(frame) = world.service.next_frame() {
        world.card.received.push_back(frame.to_vec());
        world.service.forget_frame();
    }
    let mut ear = ear();
    assert_eq!(hear(&mut world, &mut ear), 1);
    world.client(client).send_slice(b"deadly").unwrap();
    assert_eq!(hear(&mut world, &mut ear), 1);
    assert!(is_half_open(&world));
    take_over(&mut world, &ear, Unseen::Refused);
    let until = world.now + Duration::from_secs(5);
    world.run_until(until);
    assert_eq!(world.client(client).state(), tcp::State::Closed);
    assert!(world.events.iter().all(|event| !event.news.readable));
}

#[test]
fn a_service_that_opted_out_answers_at_once_and_is_reset() {
    let mut world = World::new(&config());
    world.service.listen_with(PORT, 16, Commit::Async).unwrap();
    let client = world.connect();
    world.settle();
    let id = world.events[0].connection;
    world.events.clear();
    world.service.send(id, b"at once").unwrap();
    world.service.egress(world.now);
    assert!(!world.service.has_output_behind(None), "it waits for nothing");
    let frame = world.service.next_frame().expect("it may go").to_vec();
    world.service.forget_frame();
    world.card.received.push_back(frame);
    world.settle();
    assert_eq!(world.client(client).recv_queue(), 7);
    let resumed = take_over(&mut world, &ear(), Unseen::TakenIn);
    assert_eq!((resumed.connections, resumed.reset), (0, 1));
    world.settle();
    assert_eq!(world.client(client).state(), tcp::State::Closed);
    assert!(
        world
            .events
            .iter()
            .any(|event| event.connection == id && event.news.closed)
    );
    // Whoever comes back is served.
    let again = world.connect();
    world.settle();
    assert_eq!(world.client(again).state(), tcp::State::Established);
}

proptest! {
    /// Whatever was on its way when the machine died, and however much of it the spare has heard: no byte is lost, doubled
    /// or out of order, and no connection breaks.
    #[test]
    fn streams_go_on_byte_for_byte(
        seed in any::<u64>(),
        steps in 1usize..60,
        heard_per_mille in prop_oneof![Just(1000u64), 0u64..1000],
        kills in 1usize..4,
    ) {
        const TOTAL: usize = 60_000;
        let mut random = Random(seed);
        let mut world = World::listening(&config());
        let client = world.connect();
        world.settle();
        let (mut sent, mut received) = (0, StdVec::new());
        let byte = |at: usize| (at * 131 + at / 251) as u8;
        let until = world.now + Duration::from_secs(600);
        let mut kills = kills;
        let mut next_kill = steps;
        while received.len() < TOTAL {
            prop_assert!(world.now < until, "{} of {TOTAL} bytes", received.len());
            let piece: StdVec<u8> = (sent..TOTAL.min(sent + random.below(3000) as usize)).map(byte).collect();
            sent += world.client(client).send_slice(&piece).unwrap_or(0);
            let moved = world.step();
            let mut bytes = [0; 2048];
            if let Ok(count) = world.client(client).recv_slice(&mut bytes) {
                received.extend_from_slice(&bytes[..count]);
            }
            if !moved && sent == TOTAL {
                world.run_until(world.now + Duration::from_millis(20));
            }
            next_kill -= usize::from(next_kill > 0);
            if next_kill == 0 && kills > 0 {
                kills -= 1;
                next_kill = steps;
                // What the client says now reaches the old master no more, and the spare in part.
                let now = StackInstant::from_micros(world.now.as_micros() as i64);
                world.interface.poll(now, &mut world.card, &mut world.sockets);
                let mut ear = ear();
                while let Some(frame) = world.card.sent.pop_front() {
                    if random.chance(heard_per_mille) {
                        ear.hear(&frame);
                    }
                }
                let resumed = take_over(&mut world, &ear, Unseen::TakenIn);
                prop_assert_eq!((resumed.connections, resumed.reset), (1, 0));
            }
        }
        prop_assert!(received.iter().enumerate().all(|(at, found)| *found == byte(at)));
    }
}

//! Many connections: each is found, none costs another anything, and what the stack notes of them agrees.

use std::collections::BTreeMap;

use super::*;

#[test]
fn a_hundred_clients_at_once_and_again() {
    let mut config = config();
    config.connections_max = 128;
    let mut world = World::new(&config);
    world.service.listen(PORT, 511).unwrap();
    for round in 0..3u8 {
        let clients: StdVec<_> = (0..100).map(|_| world.connect()).collect();
        world.settle();
        assert_eq!(world.open(), 100);
        for (number, &client) in clients.iter().enumerate() {
            world.client(client).send_slice(&[round, number as u8]).unwrap();
        }
        world.settle();
        for (number, &client) in clients.iter().enumerate() {
            let mut bytes = [0; 4];
            assert_eq!(world.client(client).recv_slice(&mut bytes), Ok(2));
            assert_eq!(bytes[..2], [round, number as u8]);
            world.client(client).close();
        }
        world.settle();
        assert_eq!(world.open(), 0);
        for client in clients {
            world.sockets.remove(client);
        }
    }
    assert_eq!(world.service.counters().opened, 300);
}

#[test]
fn more_clients_than_sockets_are_refused_and_come_later() {
    let mut config = config();
    config.connections_max = 4;
    let mut world = World::new(&config);
    world.service.listen(PORT, 100).unwrap();
    let slots = config.slots();
    let clients: StdVec<_> = (0..slots + 3).map(|_| world.connect()).collect();
    world.settle();
    assert_eq!(world.open(), slots);
    assert_eq!(world.service.counters().refused, 3);
    let refused = clients
        .iter()
        .filter(|client| world.sockets.get::<tcp::Socket>(**client).state() == tcp::State::Closed);
    assert_eq!(refused.count(), 3);
    world.client(clients[0]).abort();
    world.settle();
    let late = world.connect();
    world.settle();
    assert_eq!(world.client(late).state(), tcp::State::Established);
}

/// What is noted in several places must agree.
fn check(world: &mut World) {
    let now = StackInstant::from_micros(world.service.clock_us);
    let service = &mut *world.service;
    let mut waiting = BTreeMap::new();
    for (slot, entry) in service.entries.iter().enumerate() {
        let slot = slot as u16;
        let found = entry.peer.and_then(|(_, remote)| {
            service
                .demux
                .find(service.entries, demux::Key::new(remote, entry.port))
        });
        match entry.phase {
            Phase::Free | Phase::Listening => assert_ne!(found, Some(slot), "{:?} is found", entry.phase),
            _ => assert_eq!(found, Some(slot), "{:?} is not found", entry.phase),
        }
        if entry.is_in_backlog() {
            *waiting.entry(entry.port).or_insert(0) += 1;
        }
        // What it would do by itself is known, or something before it.
        if matches!(entry.phase, Phase::Free | Phase::Listening) {
            continue;
        }
        let mut noted_us = service.timers.of(slot);
        if entry.links.is_in(Line::Send) {
            noted_us = i64::MIN;
        }
        let at = service.interface.poll_at(now, &entry.sockets);
        let at_us = at
            .map(|at| at.total_micros())
            .into_iter()
            .chain(entry.phase_until_us());
        assert!(
            at_us
                .min()
                .is_none_or(|at_us| noted_us <= at_us.max(now.total_micros())),
            "{entry:?} is forgotten"
        );
    }
    for listener in service.listeners.iter().flatten() {
        let (port, count) = listener.backlog_of();
        assert_eq!(waiting.get(&port).copied().unwrap_or(0), count);
    }
    let free = service
        .entries
        .iter()
        .filter(|entry| entry.phase == Phase::Free)
        .count();
    let in_line = service
        .entries
        .iter()
        .filter(|entry| entry.links.is_in(Line::Free))
        .count();
    assert_eq!(in_line, free);
}

/// Visits to connections that a request costs while so many are open.
fn visits_of_a_request(open: usize) -> u64 {
    let mut config = config();
    config.connections_max = open;
    (config.receive_len, config.send_len) = (256, 256);
    let mut world = World::new(&config);
    world.service.listen(PORT, 2 * open).unwrap();
    let clients: StdVec<_> = (0..open).map(|_| world.connect()).collect();
    world.settle();
    assert_eq!(world.open(), open);
    check(&mut world);
    let before = world.service.counters().visits;
    world.client(clients[open / 2]).send_slice(b"request").unwrap();
    world.settle();
    assert_eq!(world.client(clients[open / 2]).recv_queue(), 7);
    world.service.counters().visits - before
}

#[test]
fn a_request_costs_the_same_among_sixteen_and_a_thousand() {
    let few = visits_of_a_request(16);
    assert!(few > 0);
    assert_eq!(visits_of_a_request(1024), few);
}

/// A client of the model.
#[derive(Debug)]
struct Known {
    handle: SocketHandle,
    sent: StdVec<u8>,
}

#[derive(Clone, Debug)]
enum Step {
    Connect(u16),
    Send(u16, usize),
    /// The client closes, and the application after it.
    Finish(u16),
    /// The client resets.
    Reset(u16),
    /// The application closes, and the client after it.
    Close(u16),
    /// The application resets.
    Abort(u16),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    // Fewer ports than slots: they are used again and again, in whatever state the last connection from there is.
    let port = 0u16..14;
    prop_oneof![
        6 => port.clone().prop_map(Step::Connect),
        6 => (port.clone(), 1usize..3000).prop_map(|(port, len)| Step::Send(port, len)),
        1 => port.clone().prop_map(Step::Finish),
        1 => port.clone().prop_map(Step::Reset),
        1 => port.clone().prop_map(Step::Close),
        1 => port.prop_map(Step::Abort),
        1 => (0u64..40_000).prop_map(Step::Wait),
    ]
}

fn connection_of(world: &mut World, port: u16) -> ConnectionId {
    let all: StdVec<_> = world.service.connections().collect();
    let mut all = all.into_iter();
    all.find(|connection| world.service.peer(*connection).map(|peer| peer.port()) == Some(port))
        .expect("a client of the model has a connection")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Clients come, talk and leave in every way, from ports that were used before: exactly those are connected that the
    /// model says, each gets what it said, and the notes agree.
    #[test]
    fn each_connection_is_itself(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::listening(&config());
        let mut model: BTreeMap<u16, Known> = BTreeMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Connect(port) => {
                    let port = 50_000 + port;
                    model.entry(port).or_insert_with(|| Known {
                        handle: world.connect_from(port),
                        sent: StdVec::new(),
                    });
                }
                Step::Send(port, len) => {
                    if let Some(known) = model.get_mut(&(50_000 + port)) {
                        let bytes: StdVec<u8> = (0..len).map(|index| (index * 7 + number) as u8).collect();
                        let sent = world.sockets.get_mut::<tcp::Socket>(known.handle).send_slice(&bytes).unwrap();
                        known.sent.extend(&bytes[..sent]);
                    }
                }
                Step::Finish(port) => {
                    if let Some(known) = model.remove(&(50_000 + port)) {
                        world.client(known.handle).close();
                        world.settle();
                        prop_assert_eq!(world.client(known.handle).state(), tcp::State::TimeWait);
                        world.sockets.remove(known.handle);
                    }
                }
                Step::Reset(port) => {
                    if let Some(known) = model.remove(&(50_000 + port)) {
                        world.client(known.handle).abort();
                        world.settle();
                        world.sockets.remove(known.handle);
                    }
                }
                Step::Close(port) => {
                    if let Some(known) = model.remove(&(50_000 + port)) {
                        let connection = connection_of(&mut world, 50_000 + port);
                        world.service.close(connection);
                        world.settle();
                        world.client(known.handle).close();
                        world.settle();
                        prop_assert_eq!(world.client(known.handle).state(), tcp::State::Closed);
                        world.sockets.remove(known.handle);
                    }
                }
                Step::Abort(port) => {
                    if let Some(known) = model.remove(&(50_000 + port)) {
                        let connection = connection_of(&mut world, 50_000 + port);
                        world.service.abort(connection);
                        world.settle();
                        prop_assert_eq!(world.client(known.handle).state(), tcp::State::Closed);
                        world.sockets.remove(known.handle);
                    }
                }
                Step::Wait(ms) => {
                    let until = world.now + Duration::from_millis(ms);
                    world.run_until(until);
                }
            }
            world.settle();
            check(&mut world);
            for (port, known) in &mut model {
                let socket = world.sockets.get_mut::<tcp::Socket>(known.handle);
                prop_assert_eq!(socket.state(), tcp::State::Established, "port {}", port);
                let mut bytes = vec![0; known.sent.len() + 1];
                let count = socket.recv_slice(&mut bytes).unwrap();
                // The ring's end may have split it.
                let rest = socket.recv_slice(&mut bytes[count..]).unwrap();
                prop_assert_eq!(&bytes[..count + rest], &known.sent[..]);
                known.sent.clear();
            }
            world.settle();
            prop_assert_eq!(world.open(), model.len());
        }
    }
}

mod golden;

use super::*;
use crate::BULK_LEN_MAX;
use crate::command::Pair;
use crate::resp::CHUNK_BYTES;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use allocator_api2::alloc::Global;
use hs_core::class::{Class, ClassId};
use hs_core::event::Status;
use hs_core::host::Session;
use hs_core::role::{Role, Term};
use hs_net::transport::Loopback;
use proptest::prelude::*;

type Heap<T> = vec::Vec<T>;

pub(super) const NOW: u64 = 1_700_000_000_000;

/// Clients at once, unless a test is about their number.
const CLIENTS_MAX: usize = 128;

pub(super) struct World;

impl Surroundings for World {
    fn pair(&self) -> Pair {
        Pair {
            role: Role::Master,
            term: Term::FIRST,
            spare: true,
            status: Status::default(),
            build_id: [7; 20],
        }
    }
}

/// A server on a network in memory.
pub(super) struct Rig<A: Memory = Global> {
    server: Server<A, usize>,
    network: Loopback,
    now_ms: u64,
}

impl Rig {
    pub(super) fn new(buffer_len: usize) -> Self {
        Self::over(Global, buffer_len)
    }
}

impl<A: Memory> Rig<A> {
    fn over(memory: A, buffer_len: usize) -> Self {
        Self::for_clients(CLIENTS_MAX, memory, buffer_len)
    }

    fn for_clients(clients_max: usize, memory: A, buffer_len: usize) -> Self {
        let options = Options {
            memory_mib: 64,
            ..Options::default()
        };
        let server = Server::new(memory.clone(), memory, options, clients_max, [1, 2, 3, 4], NOW).unwrap();
        Self {
            server,
            network: Loopback::new(buffer_len),
            now_ms: NOW,
        }
    }

    /// Rounds until nothing more happens; returns whether the data was changed.
    fn settle(&mut self) -> bool {
        let mut changed = false;
        for _ in 0..10_000 {
            let round = self
                .server
                .round(&mut self.network, &World, &mut [0; SCRATCH_BYTES], self.now_ms);
            changed |= round.changed;
            if !round.busy && !self.network.has_events() {
                return changed;
            }
        }
        panic!("the server never settles");
    }

    /// Sends as the buffers allow and takes all replies.
    pub(super) fn exchange(&mut self, client: usize, bytes: &[u8]) -> Heap<u8> {
        let mut sent = 0;
        let mut replies = vec![];
        loop {
            let now = self.network.client_send(client, &bytes[sent..]);
            sent += now;
            self.settle();
            let received = self.network.client_receive(client);
            if now == 0 && received.is_empty() {
                return replies;
            }
            replies.extend(received);
        }
    }
}

fn command(words: &[&[u8]]) -> Heap<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend(*word);
        bytes.extend(b"\r\n");
    }
    bytes
}

fn bulk(bytes: &[u8]) -> Heap<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

#[test]
fn large_values_go_through_small_buffers() {
    let mut rig = Rig::new(3000);
    let client = rig.network.connect();
    let value: Heap<u8> = (0..BULK_LEN_MAX).map(|at| (at % 251) as u8).collect();
    assert_eq!(
        rig.exchange(client, &command(&[b"SET", b"k", &value])),
        b"+OK\r\n"
    );
    assert!(rig.exchange(client, &command(&[b"GET", b"k"])) == bulk(&value));
    let twice = [&b"*2\r\n"[..], &bulk(&value), &bulk(&value)].concat();
    assert!(rig.exchange(client, &command(&[b"MGET", b"k", b"k"])) == twice);
}

#[test]
fn a_server_that_was_not_told_so_is_not_crashed() {
    let mut rig = Rig::new(4096);
    let client = rig.network.connect();
    let reply = rig.exchange(client, b"CRASH\r\n");
    assert!(reply.starts_with(b"-ERR unknown command 'CRASH'"));
}

#[test]
#[should_panic(expected = "a client ordered CRASH")]
fn a_server_that_was_told_so_is_crashed() {
    let mut rig = Rig::new(4096);
    rig.server.database.options.crash = true;
    let client = rig.network.connect();
    rig.exchange(client, b"CRASH\r\n");
}

#[test]
fn a_protocol_error_ends_that_client_alone() {
    let mut rig = Rig::new(4096);
    let (bad, good) = (rig.network.connect(), rig.network.connect());
    let replies = rig.exchange(bad, b"PING\r\n*1\r\n$1048577\r\nPING\r\n");
    assert_eq!(replies, b"+PONG\r\n-ERR Protocol error: invalid bulk length\r\n");
    assert!(rig.network.is_closed(bad));
    assert_eq!(rig.exchange(good, b"PING\r\n"), b"+PONG\r\n");
    assert_eq!(rig.server.database().clients, 1);
}

#[test]
fn a_client_that_does_not_read_is_not_read_either() {
    let mut rig = Rig::new(8192);
    let (lazy, other) = (rig.network.connect(), rig.network.connect());
    rig.exchange(other, &command(&[b"SET", b"k", &[b'v'; 100_000]]));
    let request = command(&[b"GET", b"k"]);
    let mut sent = 0;
    for _ in 0..100_000 {
        let now = rig.network.client_send(lazy, &request[sent % request.len()..]);
        sent += now;
        rig.settle();
        if now == 0 {
            break;
        }
    }
    assert!(
        rig.network.room(lazy) == 0,
        "its requests pile up on its own side"
    );
    assert!(rig.server.output.used_bytes() < 400_000);
    assert_eq!(rig.exchange(other, b"PING\r\n"), b"+PONG\r\n");
    // When it reads, it gets everything that it asked for.
    let mut received = 0;
    loop {
        let part = rig.network.client_receive(lazy).len();
        received += part;
        rig.settle();
        if part == 0 {
            break;
        }
    }
    assert_eq!(received, sent / request.len() * bulk(&[b'v'; 100_000]).len());
}

#[test]
fn all_clients_get_their_turn_beside_a_busy_one() {
    let mut rig = Rig::new(1 << 20);
    let busy = rig.network.connect();
    let others: Heap<usize> = (0..100).map(|_| rig.network.connect()).collect();
    rig.settle();
    rig.network.client_send(busy, &b"PING\r\n".repeat(100_000));
    for &client in &others {
        rig.network.client_send(client, b"INCR n\r\n");
    }
    let round = rig
        .server
        .round(&mut rig.network, &World, &mut [0; SCRATCH_BYTES], NOW);
    assert!(round.busy && round.changed);
    let mut counts: Heap<Heap<u8>> = others
        .iter()
        .map(|&client| rig.network.client_receive(client))
        .collect();
    counts.sort_by_key(|count| (count.len(), count.clone()));
    let expected: Heap<Heap<u8>> = (1..=100)
        .map(|count| format!(":{count}\r\n").into_bytes())
        .collect();
    assert_eq!(counts, expected);
}

#[test]
fn one_client_too_many_is_told_so() {
    let mut rig = Rig::new(4096);
    for _ in 0..CLIENTS_MAX {
        rig.network.connect();
    }
    rig.settle();
    let late = rig.network.connect();
    assert_eq!(rig.exchange(late, b""), b"-ERR max number of clients reached\r\n");
    assert!(rig.network.is_closed(late));
    rig.network.client_close(0);
    rig.settle();
    let next = rig.network.connect();
    assert_eq!(rig.exchange(next, b"PING\r\n"), b"+PONG\r\n");
}

#[test]
fn a_thousand_clients_each_get_their_own_answers() {
    let mut rig = Rig::for_clients(1000, Global, 4096);
    let mut clients: Heap<(usize, usize)> = (0..1000).map(|_| (rig.network.connect(), 0)).collect();
    for round in 0..6 {
        // Some talk, some are silent, and some of the silent ones leave; others come in their place.
        for (number, (client, count)) in clients.iter_mut().enumerate() {
            if (number + round) % 3 == 0 {
                let line = format!("INCR key{number}\r\n");
                assert_eq!(rig.network.client_send(*client, line.as_bytes()), line.len());
                *count += 1;
            } else if (number + round) % 7 == 0 {
                rig.network.client_close(*client);
                *client = rig.network.connect();
            }
        }
        rig.settle();
        for (number, (client, count)) in clients.iter().enumerate() {
            let expected = match (number + round) % 3 {
                0 => format!(":{count}\r\n"),
                _ => String::new(),
            };
            assert_eq!(
                rig.network.client_receive(*client),
                expected.into_bytes(),
                "of client {number}"
            );
        }
        assert_eq!(rig.server.database().clients, 1000);
    }
    assert_eq!(rig.server.database().statistics.rejected_connections, 0);
}

#[test]
fn everything_drawn_from_the_quotas_comes_back() {
    let mut rig = Rig::new(4096);
    let clients: Heap<usize> = (0..20).map(|_| rig.network.connect()).collect();
    for &client in &clients {
        rig.network
            .client_send(client, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000\r\nabc");
    }
    rig.settle();
    assert!(rig.server.input.used_bytes() > 20 * 500_000);
    for &client in &clients {
        rig.network.client_close(client);
    }
    rig.settle();
    assert_eq!(
        (rig.server.input.used_bytes(), rig.server.output.used_bytes()),
        (0, 0)
    );
    assert_eq!(rig.server.database().clients, 0);
}

#[test]
fn a_request_without_memory_waits_and_is_then_refused() {
    let mut rig = Rig::new(1 << 20);
    let holders: Heap<usize> = (0..15).map(|_| rig.network.connect()).collect();
    for &client in &holders {
        rig.network.client_send(
            client,
            format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${BULK_LEN_MAX}\r\nabc").as_bytes(),
        );
    }
    rig.settle();
    let late = rig.network.connect();
    let set = command(&[b"SET", b"late", &vec![b'v'; 900_000]]);
    assert_eq!(rig.exchange(late, &set), b"");
    let round = rig
        .server
        .round(&mut rig.network, &World, &mut [0; SCRATCH_BYTES], rig.now_ms);
    assert_eq!(round.due_ms, Some(rig.now_ms + WAIT_STEP_MS));

    // One of the others leaves: there is room.
    rig.network.client_close(holders[0]);
    rig.settle();
    assert_eq!(rig.network.client_receive(late), b"+OK\r\n");

    // Nobody leaves: refused in the end, and the connection goes on.
    rig.network.client_send(holders[1], &[b'v'; 100]);
    let another = rig.network.connect();
    rig.network.client_send(
        another,
        format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${BULK_LEN_MAX}\r\nabc").as_bytes(),
    );
    rig.settle();
    assert_eq!(rig.exchange(late, &set), b"");
    rig.now_ms += WAIT_MS;
    let replies = rig.exchange(late, b"PING\r\n");
    assert_eq!(
        replies,
        b"-OOM command not allowed when used memory > 'maxmemory'.\r\n+PONG\r\n"
    );
}

#[test]
fn a_reply_without_memory_waits_and_is_then_refused() {
    let mut rig = Rig::new(1 << 20);
    let client = rig.network.connect();
    rig.exchange(client, &command(&[b"SET", b"k", &vec![b'v'; BULK_LEN_MAX]]));
    let mut mget: Heap<&[u8]> = vec![b"MGET"];
    mget.resize(21, b"k");
    assert_eq!(rig.exchange(client, &command(&mget)), b"");
    rig.now_ms += WAIT_MS;
    assert_eq!(
        rig.exchange(client, b""),
        b"-OOM the reply does not fit into the memory for replies.\r\n"
    );
    assert_eq!(
        rig.exchange(client, b"SET k x GET\r\n").len(),
        bulk(&[b'v'; BULK_LEN_MAX]).len()
    );
    assert_eq!(rig.exchange(client, b"GET k\r\n"), b"$1\r\nx\r\n");
}

/// Clients that ask for long replies until none of the memory for replies is left, and do not read.
fn hogs(rig: &mut Rig) -> Heap<usize> {
    let setter = rig.network.connect();
    rig.exchange(setter, &command(&[b"SET", b"long", &vec![b'v'; BULK_LEN_MAX]]));
    rig.exchange(setter, &command(&[b"SET", b"short", &[b'v'; 10_000]]));
    rig.network.client_close(setter);
    let mut mget: Heap<&[u8]> = vec![b"MGET"];
    mget.resize(16, b"long");
    let mut hogs = vec![];
    let mut request = command(&mget);
    while OUTPUT_LIMIT_BYTES - rig.server.output.used_bytes() >= CHUNK_BYTES {
        let hog = rig.network.connect();
        rig.network.client_send(hog, &request);
        rig.settle();
        hogs.push(hog);
        request = command(&[b"GET", b"short"]);
    }
    hogs
}

#[test]
fn clients_that_do_not_read_do_not_lock_out_others() {
    let mut rig = Rig::new(4096);
    let (idle, other) = (rig.network.connect(), rig.network.connect());
    let hogs = hogs(&mut rig);

    rig.now_ms += STUCK_MS - 1;
    assert_eq!(rig.exchange(other, b"PING\r\n"), b"");
    assert!(hogs.iter().all(|&hog| !rig.network.is_closed(hog)));
    // One of them takes a little: it goes on, slow as it is.
    let (slow, stuck) = (hogs[1], [&hogs[..1], &hogs[2..]].concat());
    assert_eq!(rig.network.client_receive(slow).len(), 4096);
    assert_eq!(rig.exchange(other, b""), b"");

    rig.now_ms += 1;
    rig.settle();
    assert_eq!(rig.exchange(other, b""), b"+PONG\r\n");
    assert!(stuck.iter().all(|&hog| rig.network.is_closed(hog)));
    let rest = bulk(&[b'v'; 10_000]).len() - 4096;
    assert_eq!(rig.exchange(slow, b"").len(), rest);
    assert_eq!(rig.exchange(idle, b"PING\r\n"), b"+PONG\r\n");
    assert_eq!(rig.server.database().clients, 3);
    assert_eq!(rig.server.output.used_bytes(), 0);
}

#[test]
fn clients_that_do_not_read_stay_while_nobody_needs_their_memory() {
    let mut rig = Rig::new(4096);
    let other = rig.network.connect();
    let hogs = hogs(&mut rig);
    rig.now_ms += 10 * WAIT_MS;
    rig.settle();
    assert!(hogs.iter().all(|&hog| !rig.network.is_closed(hog)));
    assert_eq!(rig.exchange(other, b"PING\r\n"), b"+PONG\r\n");
    assert!(hogs.iter().all(|&hog| rig.network.is_closed(hog)));
}

#[test]
fn a_standstill_begins_with_the_reply_that_stands_still() {
    let mut rig = Rig::new(4096);
    let other = rig.network.connect();
    // Its last reply fills the connection's buffer to the last byte, and nothing waits in the server.
    let late = rig.network.connect();
    rig.exchange(other, &command(&[b"SET", b"fits", &[b'v'; 4096 - 9]]));
    rig.network.client_send(late, &command(&[b"GET", b"fits"]));
    rig.settle();
    assert_eq!(rig.server.output.used_bytes(), 0);
    let hogs = hogs(&mut rig);
    rig.now_ms += STUCK_MS;
    rig.network.client_close(hogs[1]);
    rig.settle();
    rig.network.client_send(late, b"PING\r\n");
    rig.settle();
    assert!(rig.server.output.used_bytes() + CHUNK_BYTES > OUTPUT_LIMIT_BYTES);
    assert_eq!(rig.exchange(other, b"PING\r\n"), b"+PONG\r\n");
    assert!(rig.network.is_closed(hogs[0]) && !rig.network.is_closed(late));
}

#[test]
fn a_long_reply_is_not_piled_upon_unsent_ones() {
    let mut rig = Rig::new(4096);
    let (client, other) = (rig.network.connect(), rig.network.connect());
    rig.exchange(other, &command(&[b"SET", b"k", &vec![b'v'; BULK_LEN_MAX]]));
    rig.exchange(other, &command(&[b"SET", b"h", &[b'v'; 50_000]]));
    let mut mget: Heap<&[u8]> = vec![b"MGET"];
    mget.resize(16, b"k");
    let requests = [&command(&[b"GET", b"h"])[..], &command(&mget)].concat();
    rig.network.client_send(client, &requests);
    rig.settle();
    assert_eq!(rig.server.output.used_bytes(), 4 * CHUNK_BYTES);
    // However long it takes: nothing is refused, and nobody else is held up.
    rig.now_ms += 10 * WAIT_MS;
    assert_eq!(rig.exchange(other, b"PING\r\n"), b"+PONG\r\n");
    let long = [&b"*15\r\n"[..], &bulk(&vec![b'v'; BULK_LEN_MAX]).repeat(15)].concat();
    assert!(rig.exchange(client, b"") == [bulk(&[b'v'; 50_000]), long].concat());
    assert_eq!(rig.server.output.used_bytes(), 0);
}

#[test]
fn a_full_store_says_so_and_keeps_everything() {
    let mut rig = Rig::new(1 << 20);
    let client = rig.network.connect();
    let value = vec![b'v'; BULK_LEN_MAX];
    let mut stored = 0;
    loop {
        let key = format!("key {stored}");
        let reply = rig.exchange(client, &command(&[b"SET", key.as_bytes(), &value]));
        if reply != b"+OK\r\n" {
            assert_eq!(
                reply,
                b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
            );
            break;
        }
        stored += 1;
    }
    assert_eq!(stored, 63);
    assert_eq!(rig.exchange(client, b"DBSIZE\r\n"), b":63\r\n");
    let refused = rig.exchange(client, &command(&[b"APPEND", b"a", &value]));
    assert!(refused.starts_with(b"-OOM"));
    for key in 0..stored {
        assert!(rig.exchange(client, &command(&[b"GET", format!("key {key}").as_bytes()])) == bulk(&value));
    }
    assert_eq!(rig.exchange(client, b"DEL \"key 7\"\r\n"), b":1\r\n");
    assert_eq!(
        rig.exchange(client, &command(&[b"SET", b"again", &value])),
        b"+OK\r\n"
    );
}

#[test]
fn only_changes_ask_for_a_checkpoint() {
    let mut rig = Rig::new(4096);
    let client = rig.network.connect();
    for (line, changes) in [
        ("PING", false),
        ("GET k", false),
        ("SET k v", true),
        ("SET k v NX", false),
        ("GET k", false),
        ("INCR k", false),
        ("EXPIRE k 100", true),
        ("EXPIRE k 100 GT", false),
        ("PERSIST k", true),
        ("PERSIST k", false),
        ("DEL nothing", false),
        ("DEL k", true),
        ("KEYS *", false),
        ("CLIENT SETNAME me", false),
        ("FLUSHALL", true),
    ] {
        rig.network.client_send(client, format!("{line}\r\n").as_bytes());
        assert_eq!(rig.settle(), changes, "{line}");
    }
}

#[test]
fn time_never_goes_back_and_names_the_next_expiry() {
    let mut rig = Rig::new(4096);
    let client = rig.network.connect();
    rig.exchange(client, b"SET k v PX 1000\r\n");
    let round = rig
        .server
        .round(&mut rig.network, &World, &mut [0; SCRATCH_BYTES], NOW);
    assert_eq!(round.due_ms, Some(NOW + 1001));
    rig.now_ms = NOW + 400;
    assert_eq!(rig.exchange(client, b"PTTL k\r\n"), b":600\r\n");
    // Another machine, whose clock is behind.
    rig.now_ms = NOW - 5000;
    assert_eq!(rig.exchange(client, b"PTTL k\r\n"), b":600\r\n");
    rig.now_ms = NOW + 1001;
    let round = rig
        .server
        .round(&mut rig.network, &World, &mut [0; SCRATCH_BYTES], rig.now_ms);
    assert_eq!((round.due_ms, round.changed), (None, false));
    assert_eq!(rig.server.database().store.len(), 0);
}

#[test]
fn after_a_takeover_time_goes_on_even_if_the_new_clock_is_behind() {
    for (wall_ms, passed_ms) in [(NOW - 3_600_000, 0), (NOW, 0), (NOW + 300, 300)] {
        let mut rig = Rig::new(4096);
        let client = rig.network.connect();
        rig.exchange(client, b"SET k v PX 1000\r\n");
        let clock = Clock::new(rig.server.clock_ms(), wall_ms);
        rig.now_ms = clock.now_ms(wall_ms);
        rig.server.resume(&mut rig.network, rig.now_ms);
        let left = format!(":{}\r\n", 1000 - passed_ms).into_bytes();
        assert_eq!(rig.exchange(client, b"PTTL k\r\n"), left);
        rig.now_ms = clock.now_ms(wall_ms + 400);
        let left = format!(":{}\r\n", 600 - passed_ms).into_bytes();
        assert_eq!(rig.exchange(client, b"PTTL k\r\n"), left);
        let round = rig
            .server
            .round(&mut rig.network, &World, &mut [0; SCRATCH_BYTES], rig.now_ms);
        assert_eq!(round.due_ms, Some(rig.now_ms + 601 - passed_ms));
        rig.now_ms = clock.now_ms(wall_ms + 1001);
        rig.settle();
        assert_eq!(rig.server.database().store.len(), 0);
    }
}

#[test]
fn after_a_takeover_lost_connections_are_forgotten_and_the_data_is_there() {
    let mut rig = Rig::new(4096);
    let (kept, lost) = (rig.network.connect(), rig.network.connect());
    rig.exchange(kept, b"SET k v\r\n");
    rig.exchange(lost, b"*2\r\n$3\r\nGET\r\n$1000\r\nabc");
    rig.network.cut(lost);
    rig.server.resume(&mut rig.network, NOW);
    assert_eq!(rig.server.database().clients, 1);
    assert_eq!(rig.exchange(kept, b"GET k\r\n"), b"$1\r\nv\r\n");
    let new = rig.network.connect();
    assert_eq!(rig.exchange(new, b"CLIENT ID\r\n"), b":3\r\n");
}

#[test]
fn a_client_that_is_done_sending_still_gets_its_replies() {
    let mut rig = Rig::new(4096);
    let client = rig.network.connect();
    rig.network.client_send(client, b"PING\r\nECHO hi\r\nPIN");
    rig.network.client_finish(client);
    rig.settle();
    assert_eq!(rig.network.client_receive(client), b"+PONG\r\n$2\r\nhi\r\n");
    assert!(rig.network.is_closed(client));
}

proptest! {
    /// Whatever clients send, in whatever pieces: no panic, no leak, and the next client is served.
    #[test]
    fn no_bytes_harm_the_server(
        streams in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..300),
                proptest::collection::vec(proptest::sample::select(
                    b"*$0123459\r\nGETSETINCRk \"'".as_slice()), 0..300),
                proptest::collection::vec(proptest::sample::select(vec![
                    "SET k v", "GET k", "INCR n", "EXPIRE k 1", "SCAN 0", "MGET k n", "KEYS *", "INFO", "COMMAND",
                    "APPEND k xxxxx", "FLUSHALL", "CLIENT INFO", "CONFIG GET *", "QUIT", "HELLO 2", "SET k v PX 1",
                ]), 0..40).prop_map(|lines| lines.iter().flat_map(|line| format!("{line}\r\n").into_bytes()).collect()),
            ], 1..8),
        buffer_len in 1_usize..600,
    ) {
        let mut rig = Rig::new(buffer_len);
        for stream in &streams {
            let client = rig.network.connect();
            rig.exchange(client, stream);
            rig.now_ms += 1;
        }
        let mut last = rig.network.connect();
        prop_assert_eq!(rig.exchange(last, b"PING\r\n"), b"+PONG\r\n");
        while last > 0 {
            rig.network.client_close(last);
            last -= 1;
        }
        rig.network.client_close(0);
        rig.settle();
        prop_assert_eq!((rig.server.input.used_bytes(), rig.server.output.used_bytes()), (0, 0));
    }
}

/// Memory that runs out anywhere, for requests, replies, clients and data alike: some are refused or thrown out, nobody
/// gets a wrong answer, and afterwards everything is as it was.
#[test]
fn a_class_that_runs_dry_harms_nobody_for_long() {
    let session = Session::start(1500);
    for round in 0..20 {
        session.restart();
        let class = Class::create(ClassId(1), 4096).unwrap();
        let mut rig = Rig::over(class, 1 << 14);
        let first = rig.network.connect();
        assert_eq!(rig.exchange(first, b"SET first here\r\n"), b"+OK\r\n");
        let value = vec![b'v'; 100_000 + 10_000 * round];
        let others: Heap<usize> = (0..60).map(|_| rig.network.connect()).collect();
        let (mut stored, mut refused) = (0, 0);
        for (turn, &client) in others.iter().enumerate() {
            let key = format!("key {turn}");
            let set = command(&[b"SET", key.as_bytes(), &value]);
            let get = command(&[b"GET", key.as_bytes()]);
            // Half of them stop in the middle.
            if turn % 2 == 0 {
                rig.exchange(client, &set[..set.len() / 2]);
                continue;
            }
            let answer = rig.exchange(client, &set);
            if answer == b"+OK\r\n" {
                stored += 1;
                let found = rig.exchange(client, &get);
                assert!(
                    found.is_empty() || found == bulk(&value),
                    "{}",
                    found.escape_ascii()
                );
            } else {
                refused += 1;
                assert!(answer.is_empty() || answer.starts_with(b"-OOM") || answer.starts_with(b"-ERR max"));
            }
        }
        assert!(stored > 0 && refused > 0, "{stored} stored, {refused} refused");
        for &client in &others {
            rig.network.client_close(client);
        }
        rig.now_ms += WAIT_MS;
        rig.settle();
        assert_eq!(
            rig.exchange(first, b"GET first\r\nFLUSHALL\r\n"),
            b"$4\r\nhere\r\n+OK\r\n"
        );
        let again = rig.network.connect();
        assert_eq!(rig.exchange(again, &command(&[b"SET", b"k", &value])), b"+OK\r\n");
        assert!(rig.exchange(again, b"GET k\r\n") == bulk(&value));
    }
}

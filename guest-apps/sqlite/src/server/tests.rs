//! Many clients on a network in memory.

use std::string::String;
use std::vec::Vec as StdVec;

use hs_core::class::ClassId;
use hs_core::host;
use hs_core::sync::machine;
use hs_net::transport::Loopback;

use super::*;

struct Rig {
    server: Server<usize>,
    network: Loopback,
    changes: usize,
    _session: host::Session,
}

impl Rig {
    fn new(buffer_len: usize) -> Self {
        let session = host::Session::start(60_000);
        let heap = Class::create(ClassId(1), 1 << 20).unwrap();
        let data = Class::create(ClassId(2), 1 << 20).unwrap();
        let engine = Engine::start(heap, 64 << 20, data, 32 << 20).unwrap();
        Self {
            server: Server::new(engine, heap).unwrap(),
            network: Loopback::new(buffer_len),
            changes: 0,
            _session: session,
        }
    }

    fn surroundings() -> Surroundings<'static> {
        Surroundings {
            machine: machine(),
            files: None,
        }
    }

    /// Until nothing more happens.
    fn settle(&mut self) {
        loop {
            let round = self.server.round(&mut self.network, Self::surroundings());
            self.changes += usize::from(round.changed);
            if !round.busy && !self.network.has_events() {
                return;
            }
        }
    }

    /// Sends `text`, and returns what the client is told until nothing more comes.
    fn say(&mut self, client: usize, text: &str) -> String {
        let mut rest = text.as_bytes();
        let mut said = StdVec::new();
        loop {
            let sent = self.network.client_send(client, rest);
            rest = &rest[sent..];
            self.settle();
            let received = self.network.client_receive(client);
            if received.is_empty() && sent == 0 {
                return String::from_utf8_lossy(&said).into_owned();
            }
            said.extend_from_slice(&received);
        }
    }

    fn connect(&mut self) -> usize {
        let client = self.network.connect();
        assert_eq!(
            self.say(client, ".mode list\n.headers off\n"),
            "sqlite> sqlite> sqlite> "
        );
        client
    }
}

#[test]
fn clients_have_transactions_of_their_own_and_one_that_goes_is_rolled_back() {
    let mut rig = Rig::new(4096);
    let (one, two) = (rig.connect(), rig.connect());
    rig.say(one, "CREATE TABLE t (a); INSERT INTO t VALUES (1);\n");
    assert_eq!(rig.changes, 1, "one checkpoint covers a round");
    rig.say(one, "BEGIN; INSERT INTO t VALUES (2);\n");
    assert_eq!(rig.changes, 1, "nothing is changed before the commit");
    assert_eq!(rig.say(two, "SELECT count(*) FROM t;\n"), "1\nsqlite> ");
    assert_eq!(
        rig.say(two, "INSERT INTO t VALUES (3);\n"),
        "Runtime error: database is locked (5)\nsqlite> "
    );
    rig.network.client_close(one);
    rig.settle();
    assert_eq!(rig.server.clients(), 1);
    assert_eq!(
        rig.say(two, "INSERT INTO t VALUES (3); SELECT sum(a) FROM t;\n"),
        "4\nsqlite> "
    );
    assert_eq!(rig.changes, 2);
}

#[test]
fn after_a_takeover_clients_without_connection_are_rolled_back() {
    let mut rig = Rig::new(4096);
    let (one, two) = (rig.connect(), rig.connect());
    rig.say(one, "CREATE TABLE t (a);\n");
    rig.say(one, "BEGIN; INSERT INTO t VALUES (2);\n");
    rig.network.cut(one);
    rig.server.resume(&mut rig.network, Rig::surroundings());
    assert_eq!(rig.server.clients(), 1);
    assert_eq!(
        rig.say(two, "INSERT INTO t VALUES (3); SELECT sum(a) FROM t;\n"),
        "3\nsqlite> "
    );
}

#[test]
fn after_a_takeover_clients_go_on_in_their_transactions_and_results() {
    let mut rig = Rig::new(2048);
    let (one, two) = (rig.connect(), rig.connect());
    rig.say(one, "CREATE TABLE t (a);\n");
    rig.say(one, "BEGIN; INSERT INTO t VALUES (2);\n");
    let rows =
        b"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT i FROM n;\n";
    assert_eq!(rig.network.client_send(two, rows), rows.len());
    rig.settle();
    let half = rig.network.client_receive(two);
    rig.server.resume(&mut rig.network, Rig::surroundings());
    let rest = rig.say(two, "");
    let told = String::from_utf8(half).unwrap() + &rest;
    let expected: String = (1..=20000).map(|i| std::format!("{i}\n")).collect();
    assert_eq!(told, expected + "sqlite> ");
    assert_eq!(
        rig.say(one, "INSERT INTO t VALUES (3); COMMIT; SELECT sum(a) FROM t;\n"),
        "5\nsqlite> "
    );
    assert_eq!(rig.say(two, "SELECT count(*) FROM t;\n"), "2\nsqlite> ");
}

#[test]
fn a_client_that_does_not_read_keeps_nobody_waiting() {
    let mut rig = Rig::new(2048);
    let (slow, other) = (rig.connect(), rig.connect());
    let rows = b"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n;\n";
    assert_eq!(rig.network.client_send(slow, rows), rows.len());
    rig.settle();
    assert_eq!(rig.say(other, "SELECT 5;\n"), "5\nsqlite> ");
    assert!(!rig.network.client_receive(slow).is_empty());
    rig.settle();
    rig.network.client_close(slow);
    rig.settle();
    assert_eq!(rig.server.clients(), 1);
}

#[test]
fn a_client_that_finishes_gets_the_rest_and_is_closed() {
    let mut rig = Rig::new(64);
    let client = rig.connect();
    rig.network.client_send(client, b"SELECT 'the last words';\n");
    rig.network.client_finish(client);
    assert_eq!(rig.say(client, ""), "the last words\nsqlite> ");
    assert!(rig.network.is_closed(client));
    let client = rig.connect();
    assert_eq!(rig.say(client, ".quit\n"), "");
    assert!(rig.network.is_closed(client));
}

#[test]
fn one_client_too_many_is_told_so() {
    let mut rig = Rig::new(4096);
    for _ in 0..CLIENTS_MAX {
        rig.connect();
    }
    let last = rig.network.connect();
    assert_eq!(rig.say(last, ""), "Error: too many clients\n");
    assert!(rig.network.is_closed(last));
    assert_eq!(rig.server.clients(), CLIENTS_MAX);
}

use alloc::format;
use alloc::string::String;
use alloc::vec;
use core::net::Ipv4Addr;

use allocator_api2::alloc::Global;
use hs_net::transport::DatagramLoopback;
use proptest::prelude::*;

use super::super::tests::{NOW, World};
use super::*;
use crate::options::Options;

const LEN_MAX: usize = 1472;

type Heap<T> = vec::Vec<T>;

struct Rig {
    server: Server<Global, usize>,
    network: DatagramLoopback,
}

fn client(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 1), port)
}

impl Rig {
    fn new() -> Self {
        let options = Options::default();
        Self {
            server: Server::new(Global, Global, options, 4, [1, 2, 3, 4], NOW).unwrap(),
            network: DatagramLoopback::new(LEN_MAX),
        }
    }

    fn round(&mut self) -> Round {
        self.server
            .answer(&mut self.network, &World, &mut [0; SCRATCH_BYTES], NOW)
    }

    /// The one reply to one datagram, or none.
    fn ask(&mut self, bytes: &[u8]) -> Option<Heap<u8>> {
        self.network.client_send(client(4000), bytes);
        self.round();
        let reply = self.network.client_receive();
        assert_eq!(self.network.client_receive(), None, "one reply a datagram");
        let used = (self.server.input.used_bytes(), self.server.output.used_bytes());
        assert_eq!(used, (0, 0), "nothing is kept between two datagrams");
        reply.map(|(to, bytes)| {
            assert_eq!(to, client(4000));
            bytes
        })
    }

    fn told(&mut self, text: &str) -> String {
        String::from_utf8(self.ask(text.as_bytes()).expect("an answer")).unwrap()
    }
}

#[test]
fn a_command_comes_as_a_line_or_as_an_array() {
    let mut rig = Rig::new();
    assert_eq!(rig.told("INCR n\r\n"), ":1\r\n");
    assert_eq!(rig.told("INCR n\n"), ":2\r\n");
    assert_eq!(rig.told("INCR n"), ":3\r\n");
    assert_eq!(rig.told("*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n"), ":4\r\n");
    assert_eq!(rig.told("PING"), "+PONG\r\n");
    assert_eq!(rig.told("ECHO hi"), "$2\r\nhi\r\n");
    assert_eq!(rig.told("GET nothing"), "$-1\r\n");
}

#[test]
fn what_no_datagram_can_be_is_refused_and_not_done() {
    let mut rig = Rig::new();
    for (datagram, answer) in [
        (
            "",
            "-ERR Protocol error: the command does not end in its datagram\r\n",
        ),
        (
            "\r\n",
            "-ERR Protocol error: the command does not end in its datagram\r\n",
        ),
        (
            "*2\r\n$4\r\nINCR\r\n$1\r\n",
            "-ERR Protocol error: the command does not end in its datagram\r\n",
        ),
        (
            "INCR n\r\nINCR n\r\n",
            "-ERR Protocol error: a datagram holds one command\r\n",
        ),
        (
            "*2\r\n$4\r\nINCR\r\n$1\r\nn\r\nINCR n",
            "-ERR Protocol error: a datagram holds one command\r\n",
        ),
        ("*1\r\n:5\r\n", "-ERR Protocol error: expected '$', got ':'\r\n"),
        (
            "SET n \"1",
            "-ERR Protocol error: unbalanced quotes in request\r\n",
        ),
        (
            "CLIENT SETNAME me",
            "-ERR 'client|setname' needs a connection: a datagram has none\r\n",
        ),
        (
            "SELECT 0",
            "-ERR 'select' needs a connection: a datagram has none\r\n",
        ),
        ("QUIT", "-ERR 'quit' needs a connection: a datagram has none\r\n"),
        (
            "HELLO",
            "-ERR 'hello' needs a connection: a datagram has none\r\n",
        ),
    ] {
        assert_eq!(rig.told(datagram), answer, "{datagram:?}");
    }
    assert!(
        rig.told("POST / HTTP/1.1")
            .starts_with("-ERR unknown command 'POST'")
    );
    assert_eq!(rig.told("DBSIZE"), ":0\r\n");
}

#[test]
fn a_reply_longer_than_a_datagram_is_refused_before_anything_is_done() {
    let mut rig = Rig::new();
    let fits = "v".repeat(LEN_MAX - "$1463\r\n\r\n".len());
    assert_eq!(rig.told(&format!("SET k {fits}")), "+OK\r\n");
    assert_eq!(rig.told("GET k").len(), LEN_MAX);
    assert_eq!(rig.told("APPEND k v"), ":1464\r\n");
    let refused = "-ERR the reply is longer than a datagram: ask over a connection\r\n";
    assert_eq!(rig.told("GET k"), refused);
    assert_eq!(rig.told("GETDEL k"), refused);
    assert_eq!(rig.told("STRLEN k"), ":1464\r\n");
}

#[test]
fn a_round_is_bounded_and_tells_of_changes() {
    let mut rig = Rig::new();
    for port in 0..DATAGRAMS_PER_ROUND as u16 + 1 {
        rig.network.client_send(client(4000 + port), b"INCR n");
    }
    let first = rig.round();
    assert!(first.busy && first.changed);
    assert!(!rig.round().busy);
    for port in 0..DATAGRAMS_PER_ROUND as u16 + 1 {
        let reply = format!(":{}\r\n", port + 1).into_bytes();
        assert_eq!(rig.network.client_receive(), Some((client(4000 + port), reply)));
    }
    rig.network.client_send(client(4000), b"GET n");
    assert!(!rig.round().changed);
}

proptest! {
    /// Whatever a datagram holds: one whole reply at most, that a datagram holds, and the next is answered.
    #[test]
    fn no_datagram_harms_the_server(
        datagrams in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                prop::collection::vec(prop::sample::select(b"*$0123459\r\nGETSETINCRk \"'".as_slice()), 0..200),
                prop::sample::select(vec![
                    "SET k v", "GET k", "INFO", "COMMAND", "KEYS *", "CONFIG GET *", "MGET k k", "FLUSHALL", "QUIT",
                    "COMMAND DOCS", "CLIENT LIST", "*1\r\n$4\r\nINFO\r\n",
                ]).prop_map(|line| line.as_bytes().to_vec()),
            ], 1..20),
    ) {
        let mut rig = Rig::new();
        for datagram in &datagrams {
            if let Some(reply) = rig.ask(datagram) {
                prop_assert!(reply.len() <= LEN_MAX);
                prop_assert!(reply.ends_with(b"\r\n") && b"+-:$*".contains(&reply[0]));
            }
        }
        prop_assert_eq!(rig.told("PING"), "+PONG\r\n");
    }
}

//! All streams, served in turn.

use allocator_api2::alloc::Allocator;
use allocator_api2::vec::Vec;
use hs_net::transport::Transport;

use crate::stream::{Next, PIECE_BYTES, Stream};

/// Streams at once.
pub const STREAMS_MAX: usize = 64;

/// There is no memory for the table of streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMemory;

/// What a round has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Round {
    /// Some stream stands elsewhere than before.
    pub changed: bool,
    /// There is more to do at once.
    pub busy: bool,
}

#[derive(Debug)]
struct Client<C> {
    connection: C,
    awake: bool,
    stream: Stream,
}

/// The server with all its state. `C` names a connection.
#[derive(Debug)]
pub struct Server<A: Allocator, C> {
    clients: Vec<Option<Client<C>>, A>,
}

impl<A: Allocator, C: Copy + PartialEq> Server<A, C> {
    /// A server without streams, in `memory`.
    ///
    /// # Errors
    /// There is no memory for their table.
    pub fn new(memory: A) -> Result<Self, NoMemory> {
        let mut clients = Vec::new_in(memory);
        clients.try_reserve_exact(STREAMS_MAX).map_err(|_| NoMemory)?;
        clients.resize_with(STREAMS_MAX, || None);
        Ok(Self { clients })
    }

    /// After a takeover: forgets the streams whose connections are no more; the others look again.
    pub fn resume(&mut self, transport: &mut impl Transport<Connection = C>) {
        for slot in &mut self.clients {
            if let Some(client) = slot {
                client.awake = true;
                if !transport.is_open(client.connection) {
                    *slot = None;
                }
            }
        }
    }

    /// Takes in what has happened, and serves every stream that has something to do. `scratch` need not be kept.
    pub fn round(
        &mut self,
        transport: &mut impl Transport<Connection = C>,
        scratch: &mut [u8; PIECE_BYTES],
    ) -> Round {
        // Each connection has one event at most, until it is served.
        for _ in 0..2 * STREAMS_MAX {
            let Some((connection, news)) = transport.next_event() else {
                break;
            };
            let known = self
                .clients
                .iter_mut()
                .find(|slot| matches!(slot, Some(client) if client.connection == connection));
            match known {
                Some(slot) if news.closed => *slot = None,
                Some(Some(client)) => client.awake = true,
                _ if news.opened && !news.closed => self.accept(transport, connection),
                _ => {}
            }
        }
        let mut round = Round::default();
        for slot in &mut self.clients {
            let Some(client) = slot.as_mut().filter(|client| client.awake) else {
                continue;
            };
            let (changed, next) = client.stream.serve(transport, client.connection, scratch);
            round.changed |= changed;
            match next {
                Next::Sleep => client.awake = false,
                Next::Again => round.busy = true,
                Next::Close => {
                    transport.close(client.connection);
                    *slot = None;
                }
                Next::Gone => *slot = None,
            }
        }
        round
    }

    fn accept(&mut self, transport: &mut impl Transport<Connection = C>, connection: C) {
        match self.clients.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => {
                *slot = Some(Client {
                    connection,
                    awake: true,
                    stream: Stream::new(),
                });
            }
            None => transport.abort(connection),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec as Heap;

    use allocator_api2::alloc::Global;
    use hs_net::transport::Loopback;
    use proptest::prelude::*;

    use super::*;
    use crate::Pattern;

    struct Rig {
        server: Server<Global, usize>,
        network: Loopback,
    }

    impl Rig {
        fn new(buffer_len: usize) -> Self {
            Self {
                server: Server::new(Global).unwrap(),
                network: Loopback::new(buffer_len),
            }
        }

        /// Rounds until there is nothing to do.
        fn run(&mut self) {
            let mut scratch = [0; PIECE_BYTES];
            while self.server.round(&mut self.network, &mut scratch).busy || self.network.has_events() {}
        }

        /// A client that sends `bytes` in pieces of `step_bytes`, then finishes, and takes all that it gets.
        fn talk(&mut self, bytes: &[u8], step_bytes: usize) -> Heap<u8> {
            let client = self.network.connect();
            let mut said = Heap::new();
            let mut left = bytes;
            while !left.is_empty() {
                let sent = self
                    .network
                    .client_send(client, &left[..step_bytes.min(left.len())]);
                left = &left[sent..];
                self.run();
                said.extend(self.network.client_receive(client));
            }
            self.network.client_finish(client);
            loop {
                self.run();
                let more = self.network.client_receive(client);
                if more.is_empty() {
                    break;
                }
                said.extend(more);
            }
            assert!(self.network.is_closed(client));
            said
        }
    }

    proptest! {
        #[test]
        fn streams_carry_every_byte_once_whatever_the_pieces(
            body in prop::collection::vec(any::<u8>(), 0..20_000),
            buffer_len in 1_usize..9_000,
            step_bytes in 1_usize..5_000,
            cut in 0_usize..100,
        ) {
            let mut rig = Rig::new(buffer_len);
            let hash = crc32fast::hash(&body);
            let mut said = std::format!("sink {}\n", body.len()).into_bytes();
            said.extend(&body);
            let expected = std::format!("{} {hash:08x}\n", body.len()).into_bytes();
            prop_assert_eq!(rig.talk(&said, step_bytes), expected);

            // A client that finishes early is told what there was.
            let part = &body[..body.len() - cut.min(body.len())];
            let mut said = std::format!("sink {}\n", body.len() + 1).into_bytes();
            said.extend(part);
            let expected = std::format!("{} {:08x}\n", part.len(), crc32fast::hash(part)).into_bytes();
            prop_assert_eq!(rig.talk(&said, step_bytes), expected);

            let mut said = b"echo\n".to_vec();
            said.extend(&body);
            prop_assert_eq!(&rig.talk(&said, step_bytes), &body);

            let mut expected = std::vec![0; body.len()];
            Pattern::new(9).fill(&mut expected);
            let order = std::format!("source {} 9\n", body.len());
            prop_assert_eq!(rig.talk(order.as_bytes(), step_bytes), expected);
        }
    }

    #[test]
    fn what_is_no_order_is_refused_with_the_list() {
        let mut rig = Rig::new(1000);
        let long = [b'x'; 65];
        for line in [&b"GET / HTTP/1.0\r\n"[..], b"sink many\n", &long] {
            assert!(rig.talk(line, 7).starts_with(b"say `sink LEN`"), "{line:?}");
        }
    }

    #[test]
    fn a_full_house_resets_whoever_comes_next_and_a_place_that_is_left_is_taken() {
        let mut rig = Rig::new(100);
        let guests: Heap<usize> = (0..STREAMS_MAX).map(|_| rig.network.connect()).collect();
        rig.run();
        let late = rig.network.connect();
        rig.run();
        assert!(rig.network.is_closed(late));
        rig.network.client_close(guests[3]);
        rig.run();
        assert_eq!(rig.talk(b"echo\nhello", 10), b"hello");
    }

    #[test]
    fn after_a_takeover_the_streams_go_on_whose_connections_are_there() {
        let mut rig = Rig::new(1000);
        let (stays, goes) = (rig.network.connect(), rig.network.connect());
        for client in [stays, goes] {
            rig.network.client_send(client, b"sink 6\nabc");
        }
        rig.run();
        rig.network.cut(goes);
        // Nothing is announced of what came meanwhile.
        rig.network.client_send(stays, b"def");
        while rig.network.next_event().is_some() {}
        rig.server.resume(&mut rig.network);
        rig.run();
        assert_eq!(rig.server.clients.iter().flatten().count(), 0);
        let expected = std::format!("6 {:08x}\n", crc32fast::hash(b"abcdef"));
        assert_eq!(rig.network.client_receive(stays), expected.as_bytes());
    }
}

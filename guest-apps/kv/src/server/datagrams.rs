//! Commands by UDP: one a datagram, in either form that a connection may use, and one datagram with its reply.
//!
//! A line need not end here: the datagram does. What a datagram cannot carry is refused with an error, and nothing is done: a request that is not
//! whole, a second command, a reply that is longer than a datagram, a command about the connection. Nothing is kept between two
//! datagrams. Requests and replies may be lost on their way, as datagrams are; who asks again asks twice.

use core::fmt;
use core::net::{SocketAddr, SocketAddrV4};

use hs_net::transport::Datagrams;

use super::{Round, SCRATCH_BYTES, Server};
use crate::Memory;
use crate::command::{self, Outcome, REPLY_ROOM_BYTES, Refusal, Session, Surroundings};
use crate::quota::Quota;
use crate::resp::{Full, Output, Progress, ProtocolError, Reply, Request};

/// Datagrams answered in one round.
const DATAGRAMS_PER_ROUND: usize = 64;

/// Why a datagram is not a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unfit {
    NotWhole,
    NotAlone,
    NoMemory,
    Broken(ProtocolError),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::NotWhole => f.write_str("ERR Protocol error: the command does not end in its datagram"),
            Unfit::NotAlone => f.write_str("ERR Protocol error: a datagram holds one command"),
            Unfit::NoMemory => f.write_str("OOM there is no memory for the request now"),
            Unfit::Broken(error) => write!(f, "ERR Protocol error: {error}"),
        }
    }
}

/// Takes in the one command that `bytes` are to be.
fn read<A: Memory>(request: &mut Request<A>, bytes: &[u8], quota: &mut Quota) -> Result<(), Unfit> {
    let (used, mut progress) = request.feed(bytes, quota);
    if progress == Progress::More && bytes.first() != Some(&b'*') {
        (_, progress) = request.feed(b"\r\n", quota);
    }
    match progress {
        Progress::Ready if bytes[used..].iter().all(|byte| b"\r\n".contains(byte)) => Ok(()),
        Progress::Ready => Err(Unfit::NotAlone),
        Progress::More => Err(Unfit::NotWhole),
        Progress::TooLarge | Progress::Stalled => Err(Unfit::NoMemory),
        Progress::Broken(error) => Err(Unfit::Broken(error)),
    }
}

impl<A: Memory, C: Copy + PartialEq> Server<A, C> {
    /// Answers the datagrams that have come. `scratch` is for one on its way, and need not be kept.
    pub fn answer(
        &mut self,
        datagrams: &mut impl Datagrams,
        surroundings: &dyn Surroundings,
        scratch: &mut [u8; SCRATCH_BYTES],
        now_ms: u64,
    ) -> Round {
        self.clock_ms = self.clock_ms.max(now_ms);
        let changes = self.database.statistics.changes;
        let mut answered = 0;
        while answered < DATAGRAMS_PER_ROUND
            && let Some((len_bytes, from)) = datagrams.receive(scratch)
        {
            answered += 1;
            let mut output = Output::new(self.places.allocator().clone());
            output.set_len_max(datagrams.len_max());
            self.answer_one(&scratch[..len_bytes], from, surroundings, &mut output);
            let reply = output.front();
            self.database.statistics.input_bytes += len_bytes as u64;
            // Without memory for as much as an error there is none, and what does not go out is lost as on its way.
            if !reply.is_empty() && datagrams.send(from, reply) {
                self.database.statistics.output_bytes += reply.len() as u64;
            }
            output.release(&mut self.output);
        }
        Round {
            changed: self.database.statistics.changes != changes,
            busy: answered == DATAGRAMS_PER_ROUND,
            due_ms: None,
        }
    }

    fn answer_one(
        &mut self,
        bytes: &[u8],
        from: SocketAddrV4,
        surroundings: &dyn Surroundings,
        output: &mut Output<A>,
    ) {
        let memory = self.places.allocator().clone();
        let mut request = Request::new(memory.clone(), self.database.store.memory());
        let mut session = Session::of_a_datagram(&memory, SocketAddr::V4(from), self.clock_ms);
        let read = read(&mut request, bytes, &mut self.input);
        let outcome = read.map(|()| {
            command::run(
                &mut request,
                output,
                &mut self.output,
                &mut self.database,
                &mut session,
                surroundings,
                self.clock_ms,
            )
        });
        let refused = match outcome {
            Ok(Outcome::Answered) => Ok(()),
            Err(unfit) => self.refuse(output, unfit),
            // Room for a reply is there, but not for this one: it is too long.
            Ok(Outcome::NoRoom) if output.reserve(REPLY_ROOM_BYTES, &mut self.output).is_ok() => {
                self.refuse(output, Refusal::TooLongForDatagram.with(&request))
            }
            Ok(Outcome::NoRoom) => self.refuse(output, Refusal::NoRoom.with(&request)),
        };
        debug_assert!(
            refused.is_ok() || output.is_empty(),
            "a reply is whole or not there"
        );
        request.release(&mut self.input);
    }

    fn refuse(&mut self, output: &mut Output<A>, why: impl fmt::Display) -> Result<(), Full> {
        self.database.statistics.errors += 1;
        let mut reply = Reply::new(output, &mut self.output);
        let mark = reply.mark();
        reply.error(why).inspect_err(|Full| reply.take_back(mark))
    }
}

#[cfg(test)]
mod tests;

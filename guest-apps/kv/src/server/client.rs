//! One client: what it has sent, and what it has yet to get.

use allocator_api2::vec::Vec;
use core::mem;
use core::net::SocketAddr;
use core::ops::Range;
use hs_net::transport::{End, Transport};

use super::{STUCK_MS, WAIT_MS};
use crate::Memory;
use crate::command::{self, Database, Outcome, Refusal, Session, Surroundings};
use crate::quota::Quota;
use crate::resp::{Full, Output, Progress, Reply, Request};

/// What a client has to take before its next request is run, in bytes.
const UNSENT_BYTES_MAX: usize = 64 * 1024;

/// The part of the memory for replies that one client may hold while earlier replies of its own are unsent: one in so
/// many. A reply that is the client's only one may take it all.
const OUTPUT_SHARE: usize = 4;

/// Work in a client's share of a round: see [`Work`].
const SHARE_PER_ROUND: usize = 128 * 1024;

/// What a request costs beside its bytes.
const STEP_COST: usize = 1024;

/// Work that may still be done, in bytes read or replied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work(pub(super) usize);

impl Work {
    fn spend(&mut self, cost: usize) {
        self.0 = self.0.saturating_sub(cost);
    }

    pub(super) fn is_spent(self) -> bool {
        self.0 == 0
    }
}

/// What a client does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Nothing until an event comes.
    Sleep,
    /// It waits for memory.
    Wait,
    /// Its share of the round is used up.
    Again,
}

/// How a client leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leave {
    /// In order: it has everything that it was sent.
    Close,
    /// It is thrown out.
    Abort,
    /// It is gone already.
    Gone,
}

/// What a step of a client may use.
pub(super) struct Service<'a, A: Memory> {
    pub(super) database: &'a mut Database<A>,
    pub(super) input: &'a mut Quota,
    pub(super) output: &'a mut Quota,
    pub(super) surroundings: &'a dyn Surroundings,
    pub(super) now_ms: u64,
    /// Left of the round.
    pub(super) work: Work,
    /// Where input is read to. Outside the clients' memory: most of it is worked off at once and never kept.
    pub(super) scratch: &'a mut [u8],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Activity {
    Asleep,
    Awake,
    /// For memory. A reply is tried again only when all replies together take less than `below_bytes`.
    Waiting {
        since_ms: u64,
        below_bytes: usize,
    },
}

#[derive(Debug)]
pub(super) struct Client<A: Memory, C> {
    pub(super) connection: C,
    session: Session<A>,
    /// Read in an earlier round and not yet taken in.
    left_over: Vec<u8, A>,
    request: Request<A>,
    output: Output<A>,
    /// The request found no room for its reply beside earlier ones, and is run once they are sent.
    alone: bool,
    /// When bytes of the output last went out, or there were none.
    last_sent_ms: u64,
    activity: Activity,
}

/// What came of looking at a client's input.
enum Step {
    /// Something was done.
    Done,
    /// There is nothing to do.
    Idle,
    /// There is no memory to do it.
    NoMemory,
}

impl<A: Memory, C: Copy + PartialEq> Client<A, C> {
    pub(super) fn new(
        memory: &A,
        data: &A,
        connection: C,
        id: u64,
        address: SocketAddr,
        now_ms: u64,
    ) -> Self {
        Self {
            connection,
            session: Session::new(memory, id, address, now_ms),
            left_over: Vec::new_in(memory.clone()),
            request: Request::new(memory.clone(), data.clone()),
            output: Output::new(memory.clone()),
            alone: false,
            last_sent_ms: now_ms,
            activity: Activity::Awake,
        }
    }

    /// Something has happened to the connection.
    pub(super) fn wake(&mut self) {
        if self.activity == Activity::Asleep {
            self.activity = Activity::Awake;
        }
    }

    /// After a takeover: takes up where it was. What the clocks of two machines differ by counts neither as a wait nor as
    /// a standstill.
    pub(super) fn resume(&mut self, now_ms: u64) {
        self.wake();
        self.last_sent_ms = now_ms;
        if let Activity::Waiting { since_ms, .. } = &mut self.activity {
            *since_ms = now_ms;
        }
    }

    /// Whether it keeps memory from others by not taking its replies. One that waits for memory itself is told apart:
    /// its wait ends by itself.
    pub(super) fn is_stuck(&self, now_ms: u64) -> bool {
        !self.output.is_empty()
            && !matches!(self.activity, Activity::Waiting { .. })
            && now_ms.saturating_sub(self.last_sent_ms) >= STUCK_MS
    }

    /// Whether replies wait to be sent.
    pub(super) fn has_unsent(&self) -> bool {
        !self.output.is_empty()
    }

    /// Gives back what was drawn from the quotas.
    pub(super) fn release(&mut self, input: &mut Quota, output: &mut Quota) {
        self.request.release(input);
        self.output.release(output);
    }

    /// Does the client's share of a round.
    pub(super) fn serve(
        &mut self,
        service: &mut Service<'_, A>,
        transport: &mut impl Transport<Connection = C>,
    ) -> Result<Next, Leave> {
        if self.activity == Activity::Asleep {
            return Ok(Next::Sleep);
        }
        if self.output.is_empty() {
            self.last_sent_ms = service.now_ms;
        }
        let mut input = 0..0;
        let next = self.serve_share(&mut input, service, transport)?;
        if !input.is_empty() {
            let rest = &service.scratch[input];
            self.left_over
                .try_reserve_exact(rest.len())
                .map_err(|_| Leave::Abort)?;
            self.left_over.extend_from_slice(rest);
        }
        // A client with nothing under way keeps no memory: the next one then writes the same pages, and a checkpoint
        // has less to carry.
        if self.request.is_idle() {
            self.request.release(service.input);
        }
        if self.output.is_empty() {
            self.output.release(service.output);
        }
        Ok(next)
    }

    /// The same, with the place in the scratch memory where input lies that is not taken in yet.
    fn serve_share(
        &mut self,
        input: &mut Range<usize>,
        service: &mut Service<'_, A>,
        transport: &mut impl Transport<Connection = C>,
    ) -> Result<Next, Leave> {
        let mut share = Work(SHARE_PER_ROUND);
        while !share.is_spent() && !service.work.is_spent() {
            let unsent_bytes_max = if self.alone { 0 } else { UNSENT_BYTES_MAX };
            if self.output.len() > unsent_bytes_max {
                self.flush(service, transport)?;
            }
            if self.output.len() > unsent_bytes_max {
                // There is no room to send: an event will tell when there is.
                self.activity = Activity::Asleep;
                return Ok(Next::Sleep);
            }
            let before = service.database.statistics.input_bytes + self.output.len() as u64;
            let step = if self.session.closing {
                Step::Idle
            } else {
                self.step(input, service, transport)?
            };
            let after = service.database.statistics.input_bytes + self.output.len() as u64;
            let cost = STEP_COST + after.saturating_sub(before) as usize;
            share.spend(cost);
            service.work.spend(cost);
            match step {
                Step::Done => self.activity = Activity::Awake,
                Step::Idle => {
                    self.activity = Activity::Asleep;
                    self.flush(service, transport)?;
                    if self.session.closing && self.output.is_empty() {
                        return Err(Leave::Close);
                    }
                    return Ok(Next::Sleep);
                }
                Step::NoMemory => {
                    self.flush(service, transport)?;
                    return Ok(Next::Wait);
                }
            }
        }
        self.flush(service, transport)?;
        Ok(Next::Again)
    }

    /// Sends what goes.
    fn flush(
        &mut self,
        service: &mut Service<'_, A>,
        transport: &mut impl Transport<Connection = C>,
    ) -> Result<(), Leave> {
        while !self.output.is_empty() {
            let sent = transport
                .send(self.connection, self.output.front())
                .map_err(|_| Leave::Gone)?;
            if sent == 0 {
                break;
            }
            self.output.advance(sent, service.output);
            self.last_sent_ms = service.now_ms;
            service.database.statistics.output_bytes += sent as u64;
        }
        Ok(())
    }

    /// Reads if nothing is left, and takes in one request or a piece of one.
    fn step(
        &mut self,
        input: &mut Range<usize>,
        service: &mut Service<'_, A>,
        transport: &mut impl Transport<Connection = C>,
    ) -> Result<Step, Leave> {
        if Range::is_empty(input) && self.request.wants_input() {
            *input = 0..self.read(service, transport)?;
            if Range::is_empty(input) {
                return Ok(Step::Idle);
            }
        }
        let (used, progress) = self.request.feed(&service.scratch[input.clone()], service.input);
        input.start += used;
        match progress {
            Progress::More => Ok(Step::Done),
            Progress::Ready => self.run(service),
            Progress::TooLarge => {
                self.refuse(service, Refusal::OutOfMemory)?;
                Ok(Step::Done)
            }
            Progress::Stalled => {
                if self.waited_enough(service, usize::MAX) {
                    self.request.give_up(service.input);
                    return Ok(Step::Done);
                }
                Ok(Step::NoMemory)
            }
            Progress::Broken(error) => {
                let mut reply = Reply::new(&mut self.output, service.output);
                reply
                    .error(format_args!("ERR Protocol error: {error}"))
                    .map_err(|Full| Leave::Abort)?;
                service.database.statistics.errors += 1;
                self.session.closing = true;
                Ok(Step::Done)
            }
        }
    }

    /// Puts what was left over, or else what has arrived, at the beginning of the scratch memory, and returns how much.
    fn read(
        &mut self,
        service: &mut Service<'_, A>,
        transport: &mut impl Transport<Connection = C>,
    ) -> Result<usize, Leave> {
        if !self.left_over.is_empty() {
            let nothing = Vec::new_in(self.left_over.allocator().clone());
            let left_over = mem::replace(&mut self.left_over, nothing);
            service.scratch[..left_over.len()].copy_from_slice(&left_over);
            return Ok(left_over.len());
        }
        match transport.receive(self.connection, service.scratch) {
            Ok(count) => {
                service.database.statistics.input_bytes += count as u64;
                Ok(count)
            }
            Err(End::Finished) => {
                self.session.closing = true;
                Ok(0)
            }
            Err(End::Gone) => Err(Leave::Gone),
        }
    }

    fn run(&mut self, service: &mut Service<'_, A>) -> Result<Step, Leave> {
        let held_bytes = service.output.used_bytes();
        if let Activity::Waiting { below_bytes, .. } = self.activity
            && held_bytes >= below_bytes
            && !self.waited_enough(service, below_bytes)
        {
            return Ok(Step::NoMemory);
        }
        let limit_bytes = service.output.limit_bytes();
        self.output.set_limit(if self.output.is_empty() {
            limit_bytes
        } else {
            limit_bytes / OUTPUT_SHARE
        });
        let outcome = command::run(
            &mut self.request,
            &mut self.output,
            service.output,
            service.database,
            &mut self.session,
            service.surroundings,
            service.now_ms,
        );
        match outcome {
            Outcome::Answered => self.request.finish(service.input),
            // Not a wait with an end: the room is the client's own to make.
            Outcome::NoRoom if !self.output.is_empty() => {
                self.alone = true;
                return Ok(Step::Done);
            }
            Outcome::NoRoom if !self.waited_enough(service, held_bytes) => return Ok(Step::NoMemory),
            Outcome::NoRoom => self.refuse(service, Refusal::NoRoom)?,
        }
        self.alone = false;
        Ok(Step::Done)
    }

    /// Whether the wait for memory has been long enough. Begins the wait if there is none yet.
    fn waited_enough(&mut self, service: &Service<'_, A>, below_bytes: usize) -> bool {
        let since_ms = match self.activity {
            Activity::Waiting { since_ms, .. } => since_ms,
            Activity::Asleep | Activity::Awake => service.now_ms,
        };
        self.activity = Activity::Waiting {
            since_ms,
            below_bytes,
        };
        service.now_ms.saturating_sub(since_ms) >= WAIT_MS
    }

    /// Answers a request that did not fit into memory, or whose reply did not.
    fn refuse(&mut self, service: &mut Service<'_, A>, refusal: Refusal) -> Result<(), Leave> {
        let mut reply = Reply::new(&mut self.output, service.output);
        reply
            .error(refusal.with(&self.request))
            .map_err(|Full| Leave::Abort)?;
        service.database.statistics.errors += 1;
        self.request.finish(service.input);
        Ok(())
    }
}

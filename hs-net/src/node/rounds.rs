//! The pair thread: rounds of bounded work between the cards and the pair's state machine.
//!
//! A round reads what has arrived, looks at the clock, sends what is due, signs of life first, and tells what has happened. As
//! no round is long, no heartbeat is late behind bulk data.

use alloc::boxed::Box;
use alloc::vec;
use core::sync::atomic::Ordering;
use core::time::Duration;

use hs_core::event::{Event, Status};
use hs_core::platform::{Instant, Nic};
use hs_core::role::{Hearing, Role};
use hs_core::sync::{Mutex, MutexGuard};

use super::Node;
use super::spare::Takeover;
use crate::announce::Announcer;
use crate::detect::Network;
use crate::pair::{Loss, Notice, Pair};
use crate::wire::{ECHO_LEN, Echo, HEADERS_LEN, Received, Wire};

/// Most frames in a round, from each card and to the cluster link.
const FRAMES_PER_ROUND: usize = 64;
/// Most frames of clients that lie unread at a takeover: a few rounds' worth, where a card may hold more than one.
const FRAMES_LEFT_MAX: usize = 16 * FRAMES_PER_ROUND;
/// Least time between two status events.
const STATUS_EVERY: Duration = Duration::from_millis(250);
/// Longest frame that the inbox takes: a heartbeat's.
const INBOX_FRAME_LEN: usize = 128;
/// Most frames in the inbox. More heartbeats than this say nothing new.
const INBOX_FRAMES: usize = 8;

/// The pair's frames that the application's thread found on the service network. Nobody is woken for them: the pair thread
/// reads them before it judges anybody's silence.
pub(super) struct Inbox {
    letters: [Letter; INBOX_FRAMES],
    len: usize,
}

#[derive(Clone, Copy)]
struct Letter {
    frame: [u8; INBOX_FRAME_LEN],
    len: usize,
    at: Instant,
}

impl Inbox {
    pub(super) const fn new() -> Self {
        let blank = Letter {
            frame: [0; INBOX_FRAME_LEN],
            len: 0,
            at: Instant::from_micros(0),
        };
        Self {
            letters: [blank; INBOX_FRAMES],
            len: 0,
        }
    }

    /// Puts in a frame that came at `now`, unless it is damaged or too long for a heartbeat or a ping. If there is no room, the last
    /// one gives way: the newest sign of life is what counts.
    pub(super) fn put(inbox: &Mutex<Inbox>, wire: &Wire, frame: &[u8], now: Instant) {
        let meant = matches!(wire.receive(frame), Received::Datagram(_) | Received::Echo(_));
        if !meant || frame.len() > INBOX_FRAME_LEN {
            return;
        }
        let mut inbox = inbox.lock();
        let index = inbox.len.min(INBOX_FRAMES - 1);
        let letter = &mut inbox.letters[index];
        letter.frame[..frame.len()].copy_from_slice(frame);
        (letter.len, letter.at) = (frame.len(), now);
        inbox.len = index + 1;
    }
}

/// The thread's own state.
pub(super) struct PairThread {
    node: &'static Node,
    cluster: Wire,
    service: Wire,
    /// Headers, then a datagram.
    frame: Box<[u8]>,
    /// Headers, then a datagram of what a client has sent.
    heard: Box<[u8]>,
    /// The frame could not be sent: so long it is. The card will say when it can.
    stalled: Option<usize>,
    ready_told: bool,
    status_at: Instant,
    status_told: Status,
    refused_told: u64,
}

/// Sends the announcement that is due at `now`, if one is.
pub(super) fn send_announcement(announcer: &mut Announcer, nic: &dyn Nic, now: Instant) {
    if let Some(frames) = announcer.poll(now) {
        for frame in frames {
            // A full ring loses one of several.
            let _ = nic.transmit(&frame);
        }
        nic.kick();
    }
}

impl PairThread {
    pub(super) fn new(node: &'static Node) -> Self {
        let config = &node.setup.pair;
        let (cluster_mac, service_mac) = (node.setup.cluster_nic.mac(), node.setup.service_nic.mac());
        Self {
            node,
            cluster: Wire::new(
                cluster_mac,
                config.cluster.address,
                config.peer_cluster_address,
                true,
            )
            .with_agent(config.agent_address),
            service: Wire::new(
                service_mac,
                config.machine_address,
                config.peer_machine_address,
                false,
            ),
            frame: vec![0; node.setup.cluster_nic.frame_len_max()].into_boxed_slice(),
            heard: vec![0; node.setup.cluster_nic.frame_len_max()].into_boxed_slice(),
            stalled: None,
            ready_told: false,
            status_at: node.setup.machine.now(),
            status_told: Status::default(),
            refused_told: 0,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let seen = self.node.wake.seen();
            let more = self.round();
            if !more {
                let at = self.poll_at();
                self.node.wake.wait(seen, Some(at));
            }
        }
    }

    fn poll_at(&self) -> Instant {
        let announce_at = self.node.announcer.lock().as_ref().and_then(Announcer::poll_at);
        let pair_at = self.node.pair.lock().poll_at(self.stalled.is_none());
        announce_at
            .into_iter()
            .chain(self.node.retry_at())
            .fold(pair_at, Instant::min)
    }

    /// One round; `true` if there is more to do at once.
    fn round(&mut self) -> bool {
        let node = self.node;
        let machine = node.setup.machine;
        let mut pair = node.pair.lock();
        let now = machine.now();
        let read = self.read(&mut pair, now);
        if let Some(checkpoint) = pair.take_kept() {
            // No lock is held while another is taken; and clients come before what is said to the spare.
            drop(pair);
            node.release_output(checkpoint);
            pair = node.pair.lock();
        }
        let now = machine.now();
        pair.on_time(now);
        let sent = self.send(&mut pair, now);
        self.wake_others(&pair, read > 0);
        self.tell_ready(&pair);
        self.handle_notices(pair, now);
        if let Some(announcer) = node.announcer.lock().as_mut() {
            send_announcement(announcer, node.setup.service_nic, now);
        }
        if node.sink_failed.swap(false, Ordering::SeqCst) && !node.pair.lock().is_paired() {
            // A lone master whose files fail serves all the same, as the log says.
            node.let_output_go();
        }
        if node.retry_at().is_some_and(|at| at <= now) {
            node.want_checkpoint();
        }
        self.tell_status(now);
        read >= FRAMES_PER_ROUND || sent >= FRAMES_PER_ROUND
    }

    /// Reads what has arrived. Returns the number of frames, of the network that had more.
    fn read(&mut self, pair: &mut Pair, now: Instant) -> usize {
        let node = self.node;
        let cluster = &mut self.cluster;
        let from_cluster = drain(node.setup.cluster_nic, FRAMES_PER_ROUND, |frame| {
            match cluster.receive(frame) {
                Received::Datagram(datagram) => {
                    pair.on_datagram(Network::Cluster, datagram, now);
                    cluster.learn_peer(frame);
                    if let Some(frame) = pair.take_heard() {
                        node.hear(frame);
                    }
                }
                Received::Agent(datagram) => {
                    if pair.on_agent_datagram(datagram, now) {
                        cluster.learn_agent(frame);
                    }
                }
                Received::Arp(reply) => {
                    // Whoever asked will ask again.
                    let _ = node.setup.cluster_nic.transmit(&reply);
                }
                Received::Refused(refusal) => {
                    log::debug!("cluster link: {refusal}");
                    pair.count_refused();
                }
                Received::Echo(_) | Received::Other => {}
            }
        });
        let role = pair.role();
        let listens = node.setup.pair.hearing == Hearing::Own;
        let service = &mut self.service;
        let mut hear = |frame: &[u8], at| match service.receive(frame) {
            Received::Datagram(datagram) => {
                pair.on_datagram(Network::Service, datagram, at);
                service.learn_peer(frame);
            }
            Received::Echo(echo) if echo.is_reply => pair.on_echo(echo.identifier, echo.sequence, at),
            Received::Echo(request) => answer(service, node.setup.service_nic, &request),
            Received::Other if role == Role::Spare && listens => node.hear(frame),
            Received::Agent(_) | Received::Arp(_) | Received::Refused(_) | Received::Other => {}
        };
        let mut inbox = node.inbox.lock();
        let count = core::mem::take(&mut inbox.len);
        for letter in &inbox.letters[..count] {
            hear(&letter.frame[..letter.len], letter.at);
        }
        drop(inbox);
        let from_service = match role {
            Role::Spare => drain(node.setup.service_nic, FRAMES_PER_ROUND, |frame| hear(frame, now)),
            Role::Master => 0,
        };
        from_cluster.max(from_service)
    }

    /// Sends what is due. Returns the number of frames.
    fn send(&mut self, pair: &mut Pair, now: Instant) -> usize {
        let (cluster_nic, service_nic) = (self.node.setup.cluster_nic, self.node.setup.service_nic);
        let mut beats = [0; 2 * INBOX_FRAME_LEN];
        let networks = [
            (Network::Cluster, cluster_nic, &mut self.cluster),
            (Network::Service, service_nic, &mut self.service),
        ];
        for (network, nic, wire) in networks {
            if let Some(len) = pair.beat(network, &mut beats[HEADERS_LEN..]) {
                let len = wire.wrap(&mut beats, len);
                // The next one comes soon.
                let _ = nic.transmit(&beats[..len]);
                nic.kick();
            }
        }
        if let Some((identifier, sequence)) = pair.ping() {
            let ping = Echo {
                is_reply: false,
                identifier,
                sequence,
                data: &[],
            };
            let len = self.service.wrap_echo(&mut beats, &ping);
            // As above.
            let _ = service_nic.transmit(&beats[..len]);
            service_nic.kick();
        }
        if let Some(len) = pair.take_noted(&mut beats[HEADERS_LEN..])
            && let Some(len) = self.cluster.wrap_for_agent(&mut beats, len)
        {
            // The agent repeats itself until it is answered.
            let _ = cluster_nic.transmit(&beats[..len]);
            cluster_nic.kick();
        }
        let mut sent = self.forward(pair);
        while sent < FRAMES_PER_ROUND {
            let len = match self.stalled.take() {
                Some(len) => len,
                None => match pair.transmit(now, &mut self.frame[HEADERS_LEN..]) {
                    Some(len) => self.cluster.wrap(&mut self.frame, len),
                    None => break,
                },
            };
            if cluster_nic.transmit(&self.frame[..len]).is_err() {
                self.stalled = Some(len);
                break;
            }
            sent += 1;
        }
        if sent > 0 || self.stalled.is_some() {
            cluster_nic.kick();
        }
        if self.stalled.is_some() { 0 } else { sent }
    }

    /// Forwards what clients have sent, if the spare cannot listen for itself. Returns the number of frames.
    fn forward(&mut self, pair: &Pair) -> usize {
        let nic = self.node.setup.cluster_nic;
        let mut outbox = self.node.forwarded.lock();
        let Some(outbox) = outbox.as_mut() else { return 0 };
        let mut sent = 0;
        while let Some(frame) = outbox.next()
            && sent < FRAMES_PER_ROUND
        {
            let mut offset = 0;
            while offset < frame.len()
                && let Some((len, rest)) = pair.forward(frame, offset, &mut self.heard[HEADERS_LEN..])
            {
                let len = self.cluster.wrap(&mut self.heard, len);
                // What is lost its client sends again, after a while.
                let _ = nic.transmit(&self.heard[..len]);
                (offset, sent) = (rest, sent + 1);
            }
            outbox.forget();
        }
        if sent > 0 {
            nic.kick();
        }
        sent
    }

    fn wake_others(&self, pair: &Pair, heard: bool) {
        let node = self.node;
        if heard {
            node.room.raise();
        }
        if pair.role() == Role::Spare && pair.readable() > 0 {
            node.inbound.raise();
        }
    }

    /// A master says when its spare holds a whole checkpoint. (The spare says so itself.)
    fn tell_ready(&mut self, pair: &Pair) {
        let ready = pair.role() == Role::Master && pair.holds_image();
        if ready && !self.ready_told {
            self.node.setup.machine.emit(&Event::Ready);
        }
        self.ready_told = ready;
    }

    fn handle_notices(&mut self, mut pair: MutexGuard<'_, Pair>, now: Instant) {
        while let Some(notice) = pair.next_notice() {
            drop(pair);
            self.handle(notice, now);
            pair = self.node.pair.lock();
        }
    }

    fn handle(&mut self, notice: Notice, now: Instant) {
        let node = self.node;
        let machine = node.setup.machine;
        match notice {
            Notice::Paired => {
                machine.emit(&Event::Paired);
                if let Some(checkpointer) = node.checkpointer.get() {
                    checkpointer.spare_joined();
                    node.want_checkpoint();
                }
            }
            Notice::SpareLost(loss) => {
                let told = match loss {
                    Loss::Silent(silent) => Some(("silence", silent)),
                    Loss::Dead(death, silent) => Some((death.word(), silent)),
                    Loss::Restarted => None,
                };
                if let Some((cause, silent)) = told {
                    self.cluster.forget_peer();
                    self.service.forget_peer();
                    machine.emit(&Event::PeerLost {
                        silent_us: silent.as_micros() as u64,
                        cause: cause.into(),
                    });
                }
                if let Some(checkpointer) = node.checkpointer.get() {
                    checkpointer.spare_lost();
                    // Other sinks are to have what this one was to keep.
                    if checkpointer.is_open() {
                        node.want_checkpoint();
                    }
                }
                if !node.others_required.load(Ordering::Relaxed) {
                    node.let_output_go();
                }
                node.room.raise();
            }
            Notice::SpareSilent(silent) => {
                log::warn!(
                    "the spare has been silent for {} ms and may be master by now: whatever waits for its acknowledgement goes on \
                     waiting until it answers, is started anew, or has ended, as the host's agent would say",
                    silent.as_millis()
                );
                let silent_us = silent.as_micros() as u64;
                machine.emit(&Event::PeerSilent { silent_us });
            }
            Notice::SpareHeard(silent) => {
                log::info!("the spare answers again after {} ms", silent.as_millis());
                let silent_us = silent.as_micros() as u64;
                machine.emit(&Event::PeerHeard { silent_us });
            }
            Notice::TakeOver {
                cause,
                death,
                last_heard,
            } => {
                self.cluster.forget_peer();
                self.service.forget_peer();
                self.hear_what_is_left();
                *node.takeover.lock() = Some(Takeover {
                    cause,
                    death,
                    last_heard,
                    decided: now,
                });
                node.inbound.raise();
                node.room.raise();
            }
            Notice::Refused { what, why } => {
                log::warn!("refused {what}: {why}");
                machine.emit(&Event::Refused {
                    what: what.into(),
                    why,
                });
            }
            Notice::End { why } => node.end(&why),
        }
    }

    /// The ear hears what the service card still holds: a checkpoint may cover it, and then the stack must not be shown it again.
    fn hear_what_is_left(&mut self) {
        let node = self.node;
        if node.setup.pair.hearing != Hearing::Own {
            return;
        }
        let service = &mut self.service;
        let hear = |frame: &[u8]| {
            // The old master's words come too late, and its successor says its own.
            if matches!(service.receive(frame), Received::Other) {
                node.hear(frame);
            }
        };
        drain(node.setup.service_nic, FRAMES_LEFT_MAX, hear);
    }

    /// Tells the counters when they have changed, not too often.
    fn tell_status(&mut self, now: Instant) {
        if now < self.status_at {
            return;
        }
        self.status_at = now + STATUS_EVERY;
        let status = self.node.status();
        if status != self.status_told {
            self.status_told = status;
            self.node.setup.machine.emit(&Event::Status(status));
        }
        let refused = self.node.pair.lock().datagrams_refused();
        if refused != self.refused_told {
            log::warn!("{refused} datagrams of the pair were refused so far");
            self.refused_told = refused;
        }
    }
}

/// Gives back what the peer has sent to have it back.
fn answer(wire: &mut Wire, nic: &dyn Nic, request: &Echo<'_>) {
    let mut frame = [0; INBOX_FRAME_LEN];
    if ECHO_LEN + request.data.len() > frame.len() {
        return;
    }
    let echo = Echo {
        is_reply: true,
        ..*request
    };
    let len = wire.wrap_echo(&mut frame, &echo);
    // Whoever pings does so again.
    let _ = nic.transmit(&frame[..len]);
    nic.kick();
}

/// Hands frames to `with`, at most so many.
fn drain(nic: &dyn Nic, frames_max: usize, mut with: impl FnMut(&[u8])) -> usize {
    (0..frames_max).take_while(|_| nic.receive(&mut with)).count()
}

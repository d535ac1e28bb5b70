//! Received frames, each to the one socket that it is for.

use hs_core::platform::Instant;
use smoltcp::iface::{PollIngressSingleResult, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{HardwareAddress, Ipv4Address};

use super::Service;
use super::demux::{Received, Segment};
use super::device::QueueDevice;
use super::entry::{Line, Phase};
use crate::checksum;
use crate::ingress::is_for_service;

impl Service {
    /// Whether a frame can be taken in: its answer must find room in the queue.
    pub fn can_ingest(&self) -> bool {
        self.output.has_room(self.config.frame_len_max)
    }

    /// Takes in a received frame. [`refresh`](Service::refresh) after the last one makes the events.
    pub fn ingest(&mut self, now: Instant, frame: &[u8]) {
        if !self.can_ingest() || !checksum::tcp_is_right(frame) {
            self.counters.dropped += 1;
            return;
        }
        let HardwareAddress::Ethernet(mac) = self.interface.hardware_addr();
        if is_for_service(frame, mac.0, self.config.network.address) {
            self.recent.note(frame);
        }
        let now = self.stack_time(now);
        match Received::parse(frame) {
            Received::Tcp(segment) if segment.first => self.ingest_first(now, frame, &segment),
            Received::Tcp(segment) => match self.demux.find(self.entries, segment.key()) {
                Some(slot) => self.ingest_for(slot, now, frame),
                None => self.ingest_for_nobody(now, frame),
            },
            Received::Udp => {
                self.udp_touched = true;
                let mut device = QueueDevice::new(Some(frame), &mut self.output, self.config.frame_len_max);
                let sockets = &mut self.udp_sockets;
                expect_taken(self.interface.poll_ingress_single(now, &mut device, sockets));
            }
            Received::Arp { sender } => {
                self.ingest_for_nobody(now, frame);
                self.find_neighbour(sender);
            }
            Received::Other => self.ingest_for_nobody(now, frame),
        }
    }

    fn ingest_for(&mut self, slot: u16, now: StackInstant, frame: &[u8]) {
        let mut device = QueueDevice::new(Some(frame), &mut self.output, self.config.frame_len_max);
        let sockets = &mut self.entries[usize::from(slot)].sockets;
        expect_taken(self.interface.poll_ingress_single(now, &mut device, sockets));
        self.touch(slot);
    }

    /// A segment of no connection is answered with a reset, an echo request with its reply.
    fn ingest_for_nobody(&mut self, now: StackInstant, frame: &[u8]) {
        let mut device = QueueDevice::new(Some(frame), &mut self.output, self.config.frame_len_max);
        let mut nobody = SocketSet::new(&mut [][..]);
        expect_taken(self.interface.poll_ingress_single(now, &mut device, &mut nobody));
    }

    /// Whoever waited for `neighbour` need not wait any longer.
    fn find_neighbour(&mut self, neighbour: Ipv4Address) {
        self.udp_touched = true;
        let Some(last) = self.lines.last(Line::Neighbour) else {
            return;
        };
        while let Some(slot) = self.lines.leave(Line::Neighbour, self.entries) {
            let remote = self.entries[usize::from(slot)].socket().remote_endpoint();
            match remote {
                Some(end) if end.addr == neighbour.into() => self.touch(slot),
                Some(_) => {
                    self.lines.join(Line::Neighbour, self.entries, slot);
                }
                None => {}
            }
            if slot == last {
                return;
            }
        }
    }

    /// Takes in the first segment of a connection, or of none.
    fn ingest_first(&mut self, now: StackInstant, frame: &[u8], segment: &Segment) {
        let (port, ours) = (segment.local.1, segment.local.0 == self.config.network.address);
        let (Some(index), true) = (self.listener_of(port), ours) else {
            return self.ingest_for_nobody(now, frame);
        };
        if let Some(slot) = self.twin(now, segment) {
            let entry = &mut self.entries[usize::from(slot)];
            if !entry.is_in_time_wait() {
                return self.ingest_for(slot, now, frame);
            }
            // Its client begins anew from the same port: listening forgets the old connection, closing ends that.
            let socket = entry.socket_mut();
            socket.listen(port).expect("a socket in TIME-WAIT may listen");
            socket.close();
            self.vacate(slot);
        }
        if self.is_backlog_full(index) {
            self.counters.ignored += 1;
            return;
        }
        self.arm();
        let Some(slot) = self.armed(index) else {
            self.counters.refused += 1;
            return self.ingest_for_nobody(now, frame);
        };
        self.ingest_for(slot, now, frame);
        let entry = &mut self.entries[usize::from(slot)];
        if entry.socket().state() == tcp::State::SynReceived {
            entry.begin(Phase::HalfOpen {
                until_us: now.total_micros() + self.config.half_open_us(),
            });
            (entry.port, entry.peer) = (port, Some((segment.mac, segment.remote)));
            entry.prompt = self.output.prompt_ports.contains(&port);
            self.demux.insert(self.entries, slot, segment.key());
            self.disarm(index);
            self.count(slot);
            self.arm();
        }
    }

    /// The connection that `segment` asks for, if it is there already.
    fn twin(&mut self, now: StackInstant, segment: &Segment) -> Option<u16> {
        let slot = self.demux.find(self.entries, segment.key())?;
        // A reset just before may have ended it.
        self.refresh_entry(slot, now.total_micros());
        let slot = self.demux.find(self.entries, segment.key())?;
        let is_closed = self.entries[usize::from(slot)].socket().state() == tcp::State::Closed;
        (!is_closed).then_some(slot)
    }
}

fn expect_taken(result: PollIngressSingleResult) {
    debug_assert!(
        result != PollIngressSingleResult::None,
        "there was room and a frame"
    );
}

//! A takeover of a stack of its own, before there is one to take over.
//!
//! A spare's machine has never run most of the code that its takeover consists of: its caches are cold, and an emulated processor has yet
//! to translate all of it, which takes longer than to run it. So a spare runs it once when it has nothing else to do: a small
//! stack in ordinary memory, a client that connects, asks and is answered, and the stack taken over. Nothing of it leaves the machine.
//!
//! Deliberately absent: the application's own code. It cannot run without its state.

use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::time::Duration;

use allocator_api2::alloc::Global;
use hs_core::platform::Instant;
use hs_core::role::Network;
use smoltcp::wire::{
    ArpOperation, EthernetAddress, EthernetFrame, Ipv4Packet, TcpControl, TcpPacket, TcpSeqNumber,
};

use super::probe::{self, End};
use super::{Resumed, Service, ServiceConfig, Unseen};
use crate::ingress::Ear;
use crate::wire::arp_frame;

/// Addresses that nobody has (RFC 5737).
const SERVICE: End = (Ipv4Addr::new(192, 0, 2, 1), 7);
const CLIENT: End = (Ipv4Addr::new(192, 0, 2, 2), 7);
const SERVICE_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const CLIENT_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);

const QUESTION: &[u8] = b"question";
/// Bytes of what the client's few frames are kept in.
const EAR_LEN: usize = 4 << 10;

/// The client: the numbers that it says next.
struct Client {
    sequence: TcpSeqNumber,
    acknowledged: Option<TcpSeqNumber>,
}

impl Client {
    fn say(&mut self, control: TcpControl, payload: &'static [u8]) -> Vec<u8> {
        let mut segment = probe::segment(CLIENT, SERVICE);
        (segment.control, segment.payload) = (control, payload);
        (segment.seq_number, segment.ack_number) = (self.sequence, self.acknowledged);
        segment.window_len = 4096;
        self.sequence += segment.segment_len();
        let mut frame = vec![0; probe::PROBE_LEN + payload.len()];
        probe::emit(
            &mut frame,
            (CLIENT_MAC, CLIENT.0),
            (SERVICE_MAC, SERVICE.0),
            &segment,
        );
        frame
    }

    /// Hears what the service has said.
    fn hear(&mut self, service: &mut Service, now: Instant) {
        service.egress(now);
        service.release_all();
        while let Some(frame) = service.next_frame() {
            let segment = EthernetFrame::new_checked(frame).ok().and_then(|frame| {
                let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
                let segment = TcpPacket::new_checked(packet.payload()).ok()?;
                Some(segment.seq_number() + segment.segment_len())
            });
            self.acknowledged = segment.or(self.acknowledged);
            service.forget_frame();
        }
    }
}

/// Runs what a takeover runs, at `now`. Returns what became of the client's connection, or `None` if there is no memory
/// for it.
pub(crate) fn rehearse(now: Instant) -> Option<Resumed> {
    let mut config = ServiceConfig::new(Network {
        address: SERVICE.0,
        prefix_len: 24,
    });
    config.connections_max = 1;
    (config.receive_len, config.send_len) = (1 << 10, 1 << 10);
    (config.udp_buffer_len, config.udp_datagrams_max) = (256, 1);
    (config.queue_len, config.prompt_queue_len) = (16 << 10, 8 << 10);
    let service = Service::create(&Global, &config, SERVICE_MAC.0, 1, now).ok()?;
    service.listen(SERVICE.1, 1).ok()?;
    let mut client = Client {
        sequence: TcpSeqNumber(1),
        acknowledged: None,
    };
    let own = (CLIENT_MAC, CLIENT.0);
    service.ingest(
        now,
        &arp_frame(ArpOperation::Reply, own, (SERVICE_MAC, SERVICE.0), SERVICE_MAC),
    );
    service.ingest(now, &client.say(TcpControl::Syn, b""));
    service.refresh(now);
    client.hear(service, now);
    service.ingest(now, &client.say(TcpControl::Psh, QUESTION));
    service.refresh(now);
    answer(service);
    client.hear(service, now);

    let mut ear = Ear::with_room(SERVICE_MAC.0, SERVICE.0, EAR_LEN);
    ear.hear(&client.say(TcpControl::Psh, QUESTION));
    let resumed = service.take_over(now + Duration::from_millis(1), &ear, Unseen::TakenIn);
    answer(service);
    client.hear(service, now);
    Some(resumed)
}

/// The application.
fn answer(service: &mut Service) {
    while let Some(event) = service.next_event() {
        let mut question = [0; QUESTION.len()];
        if let Ok(len) = service.recv(event.connection, &mut question) {
            // As much as goes: nobody waits for it.
            let _ = service.send(event.connection, &question[..len]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else it would not run what it is for.
    #[test]
    fn the_client_is_served_before_and_after() {
        let resumed = rehearse(Instant::from_micros(5_000_000)).expect("there is memory");
        assert_eq!((resumed.connections, resumed.taken_in, resumed.reset), (1, 1, 0));
    }
}

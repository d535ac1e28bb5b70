//! The host's agent on the cluster link: where it speaks from, and the way back.
//!
//! The agent has an address of its own, which a node is told at its start; whoever else speaks from another is a stranger. Its port is
//! any: it has a socket for each node that it watches, and each is answered where it spoke from.

use core::net::Ipv4Addr;

use smoltcp::wire::{EthernetAddress, EthernetFrame, Ipv4Packet, UdpPacket};

use super::Wire;

/// What is known of the agent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agent {
    pub(super) address: Ipv4Addr,
    /// Where it spoke from last.
    heard_from: Option<(EthernetAddress, u16)>,
}

impl Wire {
    /// The same, on a network where the host's agent speaks from `address`.
    #[must_use]
    pub fn with_agent(self, address: Option<Ipv4Addr>) -> Self {
        let agent = address.map(|address| Agent {
            address,
            heard_from: None,
        });
        Self { agent, ..self }
    }

    /// A datagram of `frame` was the agent's: its source is where an answer goes.
    pub fn learn_agent(&mut self, frame: &[u8]) {
        let Some(agent) = &mut self.agent else { return };
        agent.heard_from = source(frame).or(agent.heard_from);
    }

    /// As [`wrap`](Wire::wrap), to the agent; `None` if it was not heard.
    ///
    /// # Panics
    /// As `wrap`.
    pub fn wrap_for_agent(&mut self, frame: &mut [u8], len: usize) -> Option<usize> {
        let Agent { address, heard_from } = self.agent?;
        let (mac, port) = heard_from?;
        Some(self.wrap_to((mac, address, port), frame, len))
    }
}

fn source(frame: &[u8]) -> Option<(EthernetAddress, u16)> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let ipv4 = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    let udp = UdpPacket::new_checked(ipv4.payload()).ok()?;
    let mac = ethernet.src_addr();
    mac.is_unicast().then(|| (mac, udp.src_port()))
}

//! The small IP layer under the pair's own traffic: UDP over Ethernet between two known addresses, and ARP answered.
//!
//! Used on both networks: for everything on the cluster link, and for heartbeats on the service network. The peer's hardware
//! address is learned from what it sends; until then, and after it fell silent, frames go to everybody, so that no ARP
//! exchange stands between a boot and the first heartbeat. On the service network ARP is left to the service stack: the
//! per-machine addresses there are for heartbeats alone.
//!
//! A machine address also answers its peer's pings (`wire/echo.rs`). On the cluster link the host's agent may speak too, if the
//! node was told its address (`wire/agent.rs`).
//!
//! Deliberately absent: fragments, IP options, routing. Such datagrams are not the peer's.

mod agent;
mod echo;

use core::fmt;
use core::net::Ipv4Addr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
    IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket,
};

use self::agent::Agent;
pub use self::echo::{ECHO_LEN, Echo};
use crate::checksum;

/// UDP port of the pair on both networks.
pub const PORT: u16 = 7707;

/// Ethernet, IPv4 and UDP headers: what a datagram costs on the wire.
pub const HEADERS_LEN: usize = 14 + 20 + 8;

/// Length of an ARP frame.
pub const ARP_LEN: usize = 14 + 28;

/// What a received frame is to this node.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// A datagram of the peer's, not yet parsed.
    Datagram(&'a [u8]),
    /// A datagram of the host's agent, not yet parsed.
    Agent(&'a [u8]),
    /// Somebody asks for this node's hardware address: the answer, a frame to send.
    Arp([u8; ARP_LEN]),
    /// The peer asks for an echo, or answers with one.
    Echo(Echo<'a>),
    /// None of the pair's business.
    Other,
    /// For the pair's port, but damaged or from somebody else.
    Refused(Refusal),
}

/// Why a frame for the pair's port was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Headers, lengths or checksums are wrong.
    Damaged,
    /// It does not come from the peer's address.
    Stranger(Ipv4Addr),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Damaged => f.write_str("damaged headers"),
            Refusal::Stranger(address) => write!(f, "{address} is not the peer"),
        }
    }
}

/// The way to the peer on one network.
#[derive(Debug)]
pub struct Wire {
    mac: EthernetAddress,
    address: Ipv4Addr,
    peer_address: Ipv4Addr,
    peer_mac: EthernetAddress,
    agent: Option<Agent>,
    answers_arp: bool,
    identification: u16,
}

impl Wire {
    /// The way from the card with address `mac` and `address` to `peer_address`.
    pub fn new(mac: [u8; 6], address: Ipv4Addr, peer_address: Ipv4Addr, answers_arp: bool) -> Self {
        let (mac, peer_mac) = (EthernetAddress(mac), EthernetAddress::BROADCAST);
        Self {
            mac,
            address,
            peer_address,
            peer_mac,
            agent: None,
            answers_arp,
            identification: 0,
        }
    }

    /// The peer fell silent: the next one at its address may have another card.
    pub fn forget_peer(&mut self) {
        self.peer_mac = EthernetAddress::BROADCAST;
    }

    /// A datagram of `frame` was the peer's: its source is where the peer lives.
    pub fn learn_peer(&mut self, frame: &[u8]) {
        if let Ok(frame) = EthernetFrame::new_checked(frame)
            && frame.src_addr().is_unicast()
        {
            self.peer_mac = frame.src_addr();
        }
    }

    /// Whether `frame` may be the pair's own on this network: cheap, for a thread that has other frames to handle.
    pub fn is_own(&self, frame: &[u8]) -> bool {
        !matches!(self.receive(frame), Received::Other)
    }

    /// Looks at a received frame.
    pub fn receive<'a>(&self, frame: &'a [u8]) -> Received<'a> {
        let Ok(ethernet) = EthernetFrame::new_checked(frame) else {
            return Received::Other;
        };
        if ethernet.dst_addr() != self.mac && !ethernet.dst_addr().is_broadcast() {
            return Received::Other;
        }
        let payload = &frame[EthernetFrame::<&[u8]>::header_len()..];
        match ethernet.ethertype() {
            EthernetProtocol::Arp if self.answers_arp => self.receive_arp(payload),
            EthernetProtocol::Ipv4 => self.receive_ipv4(payload),
            _ => Received::Other,
        }
    }

    fn receive_arp(&self, payload: &[u8]) -> Received<'static> {
        let Ok(packet) = ArpPacket::new_checked(payload) else {
            return Received::Other;
        };
        match ArpRepr::parse(&packet) {
            Ok(ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Request,
                source_hardware_addr,
                source_protocol_addr,
                target_protocol_addr,
                ..
            }) if target_protocol_addr == self.address && source_hardware_addr.is_unicast() => {
                Received::Arp(arp_frame(
                    ArpOperation::Reply,
                    (self.mac, self.address),
                    (source_hardware_addr, source_protocol_addr),
                    source_hardware_addr,
                ))
            }
            _ => Received::Other,
        }
    }

    fn receive_ipv4<'a>(&self, payload: &'a [u8]) -> Received<'a> {
        let Ok(ipv4) = Ipv4Packet::new_checked(payload) else {
            return Received::Other;
        };
        if ipv4.dst_addr() != self.address {
            return Received::Other;
        }
        match ipv4.next_header() {
            IpProtocol::Udp => {}
            IpProtocol::Icmp => return self.receive_icmp(payload, &ipv4),
            _ => return Received::Other,
        }
        let checksums = ChecksumCapabilities::default();
        let whole = !ipv4.more_frags() && ipv4.frag_offset() == 0;
        if !whole || Ipv4Repr::parse(&ipv4, &checksums).is_err() {
            return Received::Refused(Refusal::Damaged);
        }
        let range = usize::from(ipv4.header_len())..usize::from(ipv4.total_len());
        let segment = &payload[range];
        let Ok(udp) = UdpPacket::new_checked(segment) else {
            return Received::Refused(Refusal::Damaged);
        };
        if udp.dst_port() != PORT {
            return Received::Other;
        }
        let udp_len = usize::from(udp.len());
        // No checksum at all is legal in general; this pair's nodes always make one.
        if udp.checksum() == 0 || checksum::of(ipv4.src_addr(), ipv4.dst_addr(), 17, &segment[..udp_len]) != 0
        {
            return Received::Refused(Refusal::Damaged);
        }
        let datagram = &segment[8..udp_len];
        if self.agent.is_some_and(|agent| agent.address == ipv4.src_addr()) {
            return Received::Agent(datagram);
        }
        if ipv4.src_addr() != self.peer_address || udp.src_port() != PORT {
            return Received::Refused(Refusal::Stranger(ipv4.src_addr()));
        }
        Received::Datagram(datagram)
    }

    fn receive_icmp<'a>(&self, payload: &'a [u8], ipv4: &Ipv4Packet<&[u8]>) -> Received<'a> {
        let whole = !ipv4.more_frags() && ipv4.frag_offset() == 0;
        if !whole || ipv4.src_addr() != self.peer_address || !ipv4.verify_checksum() {
            return Received::Other;
        }
        let message = &payload[usize::from(ipv4.header_len())..usize::from(ipv4.total_len())];
        Echo::parse(message).map_or(Received::Other, Received::Echo)
    }

    /// Puts headers before the datagram that lies at [`HEADERS_LEN`] in `frame`, `len` bytes long. Returns the frame's length.
    ///
    /// # Panics
    /// If `frame` is shorter than that.
    pub fn wrap(&mut self, frame: &mut [u8], len: usize) -> usize {
        self.wrap_to((self.peer_mac, self.peer_address, PORT), frame, len)
    }

    fn wrap_to(&mut self, to: (EthernetAddress, Ipv4Addr, u16), frame: &mut [u8], len: usize) -> usize {
        let (mac, address, port) = to;
        let checksums = ChecksumCapabilities::default();
        let frame = &mut frame[..HEADERS_LEN + len];
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame[..]);
        EthernetRepr {
            src_addr: self.mac,
            dst_addr: mac,
            ethertype: EthernetProtocol::Ipv4,
        }
        .emit(&mut ethernet);
        let mut ipv4 = Ipv4Packet::new_unchecked(&mut frame[14..]);
        Ipv4Repr {
            src_addr: self.address,
            dst_addr: address,
            next_header: IpProtocol::Udp,
            payload_len: 8 + len,
            hop_limit: 1,
        }
        .emit(&mut ipv4, &checksums);
        self.identification = self.identification.wrapping_add(1);
        ipv4.set_ident(self.identification);
        ipv4.fill_checksum();
        let mut udp = UdpPacket::new_unchecked(&mut frame[34..]);
        udp.set_src_port(PORT);
        udp.set_dst_port(port);
        udp.set_len((8 + len) as u16);
        checksum::fill_udp(self.address, address, &mut frame[34..]);
        HEADERS_LEN + len
    }
}

/// An ARP frame from `source` about `target`.
pub(crate) fn arp_frame(
    operation: ArpOperation,
    source: (EthernetAddress, Ipv4Addr),
    target: (EthernetAddress, Ipv4Addr),
    to: EthernetAddress,
) -> [u8; ARP_LEN] {
    let mut bytes = [0; ARP_LEN];
    let mut ethernet = EthernetFrame::new_unchecked(&mut bytes[..]);
    EthernetRepr {
        src_addr: source.0,
        dst_addr: to,
        ethertype: EthernetProtocol::Arp,
    }
    .emit(&mut ethernet);
    ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: source.0,
        source_protocol_addr: source.1,
        target_hardware_addr: target.0,
        target_protocol_addr: target.1,
    }
    .emit(&mut ArpPacket::new_unchecked(ethernet.payload_mut()));
    bytes
}

#[cfg(test)]
mod tests;

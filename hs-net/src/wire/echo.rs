//! ICMP echoes between the machine addresses: whether the other machine still answers a ping.
//!
//! Only the peer is answered. A machine address has no other use, and nobody else is told its hardware address.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Repr,
};

use super::Wire;

/// Ethernet, IPv4 and ICMP headers: the length of an echo without data.
pub const ECHO_LEN: usize = 14 + 20 + 8;

/// A request for an echo, or the echo.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Echo<'a> {
    /// Which of the two.
    pub is_reply: bool,
    /// Whose it is.
    pub identifier: u16,
    /// Which of theirs.
    pub sequence: u16,
    /// What is to come back.
    pub data: &'a [u8],
}

impl<'a> Echo<'a> {
    /// Looks at an ICMP message; `None` if it is another or damaged.
    pub(super) fn parse(message: &'a [u8]) -> Option<Self> {
        let packet = Icmpv4Packet::new_checked(message).ok()?;
        let (is_reply, identifier, sequence, data) =
            match Icmpv4Repr::parse(&packet, &ChecksumCapabilities::default()).ok()? {
                Icmpv4Repr::EchoRequest { ident, seq_no, data } => (false, ident, seq_no, data),
                Icmpv4Repr::EchoReply { ident, seq_no, data } => (true, ident, seq_no, data),
                _ => return None,
            };
        // The same bytes, as long as the message itself.
        let data = &message[message.len() - data.len()..];
        Some(Self {
            is_reply,
            identifier,
            sequence,
            data,
        })
    }
}

impl Wire {
    /// Writes the frame of an echo to the peer into `frame` and returns its length.
    ///
    /// # Panics
    /// If `frame` is shorter than [`ECHO_LEN`] and the data.
    pub fn wrap_echo(&mut self, frame: &mut [u8], echo: &Echo<'_>) -> usize {
        let checksums = ChecksumCapabilities::default();
        let (ident, seq_no, data) = (echo.identifier, echo.sequence, echo.data);
        let message = match echo.is_reply {
            true => Icmpv4Repr::EchoReply { ident, seq_no, data },
            false => Icmpv4Repr::EchoRequest { ident, seq_no, data },
        };
        let len = ECHO_LEN + data.len();
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame[..len]);
        EthernetRepr {
            src_addr: self.mac,
            dst_addr: self.peer_mac,
            ethertype: EthernetProtocol::Ipv4,
        }
        .emit(&mut ethernet);
        let mut ipv4 = smoltcp::wire::Ipv4Packet::new_unchecked(ethernet.payload_mut());
        Ipv4Repr {
            src_addr: self.address,
            dst_addr: self.peer_address,
            next_header: IpProtocol::Icmp,
            payload_len: message.buffer_len(),
            hop_limit: 1,
        }
        .emit(&mut ipv4, &checksums);
        message.emit(&mut Icmpv4Packet::new_unchecked(ipv4.payload_mut()), &checksums);
        len
    }
}

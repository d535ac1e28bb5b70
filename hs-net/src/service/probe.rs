//! Making a client find out that its connection is gone.
//!
//! After a takeover the stack may be older than what the client has seen, and a client ignores a reset whose sequence number
//! is not the one that it expects next. An acknowledgement from nowhere helps: the client answers it with its true numbers;
//! no socket here knows them any more, and the reset that they get is exact.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpAddress, IpProtocol, Ipv4Address,
    Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

/// Length of the probe.
pub(super) const PROBE_LEN: usize = 14 + 20 + 20;

/// One end of a connection.
pub(super) type End = (Ipv4Address, u16);

/// A segment from `local` to `remote` that acknowledges nothing with number 0.
pub(super) const fn segment(local: End, remote: End) -> TcpRepr<'static> {
    TcpRepr {
        src_port: local.1,
        dst_port: remote.1,
        control: TcpControl::None,
        seq_number: TcpSeqNumber(0),
        ack_number: Some(TcpSeqNumber(0)),
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    }
}

/// Writes the frame of `segment` from one machine to another.
pub(super) fn emit(
    into: &mut [u8],
    local: (EthernetAddress, Ipv4Address),
    remote: (EthernetAddress, Ipv4Address),
    segment: &TcpRepr<'_>,
) {
    let checksums = ChecksumCapabilities::default();
    let mut ethernet = EthernetFrame::new_unchecked(into);
    EthernetRepr {
        src_addr: local.0,
        dst_addr: remote.0,
        ethertype: EthernetProtocol::Ipv4,
    }
    .emit(&mut ethernet);
    let mut ipv4 = Ipv4Packet::new_unchecked(ethernet.payload_mut());
    Ipv4Repr {
        src_addr: local.1,
        dst_addr: remote.1,
        next_header: IpProtocol::Tcp,
        payload_len: segment.buffer_len(),
        hop_limit: 64,
    }
    .emit(&mut ipv4, &checksums);
    let mut tcp = TcpPacket::new_unchecked(ipv4.payload_mut());
    let (from, to) = (IpAddress::Ipv4(local.1), IpAddress::Ipv4(remote.1));
    segment.emit(&mut tcp, &from, &to, &checksums);
}

/// Writes an acknowledgement of nothing, from `local` at `mac` to `remote` at `remote_mac`.
pub(super) fn write(
    into: &mut [u8],
    mac: EthernetAddress,
    local: End,
    remote_mac: EthernetAddress,
    remote: End,
) {
    let segment = segment(local, remote);
    emit(into, (mac, local.0), (remote_mac, remote.0), &segment);
}

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

/// Writes an acknowledgement of nothing, from `local` at `mac` to `remote` at `remote_mac`.
pub(super) fn write(
    into: &mut [u8],
    mac: EthernetAddress,
    local: End,
    remote_mac: EthernetAddress,
    remote: End,
) {
    let checksums = ChecksumCapabilities::default();
    let mut ethernet = EthernetFrame::new_unchecked(into);
    EthernetRepr {
        src_addr: mac,
        dst_addr: remote_mac,
        ethertype: EthernetProtocol::Ipv4,
    }
    .emit(&mut ethernet);
    let mut ipv4 = Ipv4Packet::new_unchecked(ethernet.payload_mut());
    Ipv4Repr {
        src_addr: local.0,
        dst_addr: remote.0,
        next_header: IpProtocol::Tcp,
        payload_len: 20,
        hop_limit: 64,
    }
    .emit(&mut ipv4, &checksums);
    let segment = TcpRepr {
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
    };
    let mut tcp = TcpPacket::new_unchecked(ipv4.payload_mut());
    segment.emit(
        &mut tcp,
        &IpAddress::Ipv4(local.0),
        &IpAddress::Ipv4(remote.0),
        &checksums,
    );
}

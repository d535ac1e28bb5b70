//! The host's agent on the cluster link, as far as a test needs it.

use std::net::{Ipv4Addr, UdpSocket};

use hs_core::role::Term;
use hs_net::channel::frame::{Datagram, Death, Obituary, Session};
use hs_net::wire::{HEADERS_LEN, Received, Wire};

use super::{FRAME_LEN_MAX, TOO_LONG};

/// Where it speaks from.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 254);

/// Tells the node at `to` of a death, and waits until it has noted it.
pub(crate) fn tell(cluster: u16, to: Ipv4Addr, session: u64, death: Death) {
    let session = Session(session);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket on loopback");
    socket
        .connect((Ipv4Addr::LOCALHOST, cluster))
        .expect("the hub's address");
    socket.set_read_timeout(Some(TOO_LONG)).expect("a time");
    let mut wire = Wire::new([2, 0, 0, 0, 2, 254], ADDRESS, to, false);
    let mut frame = [0; FRAME_LEN_MAX];
    let term = Term::FIRST;
    let len = Datagram::Obituary(Obituary { session, death, term }).emit(&mut frame[HEADERS_LEN..]);
    let len = wire.wrap(&mut frame, len);
    socket.send(&frame[..len]).expect("the hub");
    loop {
        let len = socket.recv(&mut frame).expect("an answer of the node");
        if let Received::Datagram(datagram) = wire.receive(&frame[..len])
            && Datagram::parse(datagram) == Ok(Datagram::Noted(session))
        {
            return;
        }
    }
}

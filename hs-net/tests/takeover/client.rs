//! A client's machine on the service network: smoltcp on a wire of its own.

use super::{CLIENT, FRAME_LEN_MAX, PORT, SERVICE, TOO_LONG};
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, Ipv4Cidr};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

/// A client's machine on the service network.
pub(crate) struct Client {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    port: u16,
    begun: Instant,
}

struct Wire(UdpSocket);

struct Frame<'a>(Vec<u8>, &'a UdpSocket);

impl phy::RxToken for Frame<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, with: F) -> R {
        with(&self.0)
    }
}

impl phy::TxToken for Frame<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, with: F) -> R {
        let mut frame = vec![0; len];
        let result = with(&mut frame);
        self.1.send(&frame).expect("the hub is there");
        result
    }
}

impl phy::Device for Wire {
    type RxToken<'a> = Frame<'a>;
    type TxToken<'a> = Frame<'a>;

    fn receive(&mut self, _: StackInstant) -> Option<(Frame<'_>, Frame<'_>)> {
        let mut frame = vec![0; 2048];
        let len = self.0.recv(&mut frame).ok()?;
        frame.truncate(len);
        hear_announcement(&mut frame);
        Some((Frame(frame, &self.0), Frame(Vec::new(), &self.0)))
    }

    fn transmit(&mut self, _: StackInstant) -> Option<Frame<'_>> {
        Some(Frame(Vec::new(), &self.0))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_LEN_MAX;
        capabilities
    }
}

/// Other systems believe an announcement of an address that they know; smoltcp only what is addressed to it. So it is.
fn hear_announcement(frame: &mut [u8]) {
    const TYPE: core::ops::Range<usize> = 12..14;
    const SENDER: core::ops::Range<usize> = 28..32;
    const TARGET: core::ops::Range<usize> = 38..42;
    if frame.len() >= TARGET.end && frame[TYPE] == [8, 6] && frame[SENDER] == frame[TARGET] {
        frame[TARGET].copy_from_slice(&CLIENT.octets());
    }
}

impl Client {
    pub(crate) fn new(hub: u16) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket on loopback");
        socket
            .connect((Ipv4Addr::LOCALHOST, hub))
            .expect("the hub's address");
        socket
            .set_read_timeout(Some(Duration::from_millis(1)))
            .expect("a timeout");
        socket.send(&[]).expect("the hub is there");
        let mut wire = Wire(socket);
        let mac = HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 1, 9]));
        let mut interface = Interface::new(
            smoltcp::iface::Config::new(mac),
            &mut wire,
            StackInstant::from_micros(0),
        );
        interface.update_ip_addrs(|addresses| {
            addresses
                .push(IpCidr::Ipv4(Ipv4Cidr::new(CLIENT, 24)))
                .expect("one address");
        });
        let storage = Box::leak(Box::new([const { smoltcp::iface::SocketStorage::EMPTY }; 1]));
        let mut sockets = SocketSet::new(&mut storage[..]);
        let buffer = || tcp::SocketBuffer::new(&mut vec![0u8; 8192].leak()[..]);
        let handle = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Self {
            wire,
            interface,
            sockets,
            handle,
            port: 40_000,
            begun: Instant::now(),
        }
    }

    fn poll(&mut self) {
        let now = StackInstant::from_micros(self.begun.elapsed().as_micros() as i64);
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn connect(&mut self) {
        self.port += 1;
        let to = (IpAddress::Ipv4(SERVICE), PORT);
        let socket = self.sockets.get_mut::<tcp::Socket>(self.handle);
        socket
            .connect(self.interface.context(), to, self.port)
            .expect("a closed socket");
    }

    /// Sends `count` bytes and returns the service's count; connects and tries again as often as needed, and says how often
    /// that was.
    pub(crate) fn ask(&mut self, count: usize) -> (u64, usize) {
        let until = Instant::now() + TOO_LONG;
        let mut connections = 0;
        let mut asked = false;
        while Instant::now() < until {
            self.poll();
            let socket = self.socket();
            match socket.state() {
                tcp::State::Closed => {
                    self.connect();
                    connections += 1;
                    asked = false;
                }
                tcp::State::Established if !asked => {
                    socket.send_slice(&vec![1; count]).expect("an open connection");
                    asked = true;
                }
                _ => {}
            }
            let socket = self.socket();
            let mut answer = [0; 64];
            if asked && let Ok(len @ 8..) = socket.recv_slice(&mut answer) {
                return (
                    u64::from_le_bytes(answer[len - 8..len].try_into().expect("8 bytes")),
                    connections,
                );
            }
        }
        panic!("no answer");
    }
}

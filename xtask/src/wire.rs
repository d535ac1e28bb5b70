//! A cluster link that a test holds in its hands: every frame between the nodes passes through here.
//!
//! ```text
//!  node a  4001 ──datagrams──> [wire] ──datagrams──> 4002  node b     on the namespace's own loopback
//! ```
//! A bridge cannot do this: what it damages, the UDP checksum catches. Here the checksum is made right again,
//! as a faulty switch's memory or a faulty guest would leave it, so that only the checkpoint's own check is left.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result};

use crate::qemu::Plug;

/// Where the guests' ends are; the loopback of a fresh namespace has nobody else.
const GUEST_PORTS: [u16; 2] = [4001, 4002];
/// Frames shorter than this are left alone: acknowledgements and heartbeats.
const DAMAGE_LEN_MIN: usize = 512;

/// The link.
pub(crate) struct Wire {
    to_damage: Arc<AtomicUsize>,
}

impl Wire {
    /// Lays the link; the plugs are for the first and the second node.
    ///
    /// # Errors
    /// No sockets are left.
    pub(crate) fn lay() -> Result<(Wire, [Plug; 2])> {
        let ends = [
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
        ];
        let guests = GUEST_PORTS.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let plug =
            |index: usize| -> Result<Plug> { Ok(Plug::Wire(guests[index], ends[index].local_addr()?)) };
        let plugs = [plug(0)?, plug(1)?];
        let to_damage = Arc::new(AtomicUsize::new(0));
        for from in 0..2 {
            let (inlet, outlet) = (ends[from].try_clone()?, ends[1 - from].try_clone()?);
            let (destination, to_damage) = (guests[1 - from], to_damage.clone());
            thread::Builder::new()
                .name(format!("wire-{from}"))
                .spawn(move || relay(&inlet, &outlet, destination, &to_damage))
                .context("cannot start a thread")?;
        }
        Ok((Wire { to_damage }, plugs))
    }

    /// Damages the next `frames` long frames, one bit each.
    pub(crate) fn damage(&self, frames: usize) {
        self.to_damage.store(frames, Ordering::SeqCst);
    }

    /// How many of them are still to come.
    pub(crate) fn damage_left(&self) -> usize {
        self.to_damage.load(Ordering::SeqCst)
    }
}

fn relay(inlet: &UdpSocket, outlet: &UdpSocket, destination: SocketAddr, to_damage: &AtomicUsize) {
    let mut frame = vec![0; 64 * 1024];
    loop {
        // An error is the echo of a frame to a guest that is not there: a pulled plug.
        let Ok(length) = inlet.recv(&mut frame) else {
            continue;
        };
        let frame = &mut frame[..length];
        if to_damage.load(Ordering::SeqCst) > 0 && flip(frame) {
            to_damage.fetch_sub(1, Ordering::SeqCst);
        }
        let _ = outlet.send_to(frame, destination);
    }
}

/// Flips one bit late in the payload of a long UDP frame and makes its checksum right. `false` if it is no such frame.
fn flip(frame: &mut [u8]) -> bool {
    const ETHERNET: usize = 14;
    const UDP: u8 = 17;
    if frame.len() < DAMAGE_LEN_MIN || frame[12..14] != [0x08, 0x00] || frame[ETHERNET + 9] != UDP {
        return false;
    }
    let header_len = usize::from(frame[ETHERNET] & 0x0f) * 4;
    let datagram = ETHERNET + header_len;
    let at = datagram + (frame.len() - datagram) * 3 / 4;
    // The ones' complement sum changes by what its 16-bit word changes by (RFC 1624).
    let word = at - (at - datagram) % 2;
    let old = u16::from_be_bytes([frame[word], frame[word + 1]]);
    frame[at] ^= 0x10;
    let new = u16::from_be_bytes([frame[word], frame[word + 1]]);
    let sum = u16::from_be_bytes([frame[datagram + 6], frame[datagram + 7]]);
    if sum != 0 {
        let mut folded = u32::from(!sum) + u32::from(!old) + u32::from(new);
        while folded > 0xffff {
            folded = (folded & 0xffff) + (folded >> 16);
        }
        let sum = !(folded as u16);
        frame[datagram + 6..datagram + 8]
            .copy_from_slice(&(if sum == 0 { 0xffff } else { sum }).to_be_bytes());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum over the pseudo-header and the datagram, checksum included: 0xffff if it is right.
    fn sum(frame: &[u8]) -> u16 {
        let datagram = &frame[34..];
        let mut sum = 17 + datagram.len() as u32;
        for pair in frame[26..34].chunks(2).chain(datagram.chunks(2)) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    fn frame(payload_len: usize, seed: u8) -> Vec<u8> {
        let mut frame = vec![0; 42 + payload_len];
        frame[12] = 8;
        frame[14] = 0x45;
        frame[23] = 17;
        for (index, byte) in frame[26..].iter_mut().enumerate() {
            *byte = (index as u8).wrapping_mul(31).wrapping_add(seed);
        }
        frame[40..42].fill(0);
        let checksum = !sum(&frame);
        frame[40..42].copy_from_slice(&checksum.to_be_bytes());
        frame
    }

    #[test]
    fn a_damaged_frame_differs_in_one_bit_and_its_checksum_is_right() {
        for (payload_len, seed) in [(1000, 0), (1001, 7), (1437, 91), (1438, 200)] {
            let sound = frame(payload_len, seed);
            assert_eq!(sum(&sound), 0xffff);
            let mut damaged = sound.clone();
            assert!(flip(&mut damaged));
            assert_eq!(sum(&damaged), 0xffff);
            let bits: u32 = sound[42..]
                .iter()
                .zip(&damaged[42..])
                .map(|(a, b)| (a ^ b).count_ones())
                .sum();
            assert_eq!(bits, 1);
            assert_eq!(sound[..40], damaged[..40]);
        }
    }

    #[test]
    fn short_frames_and_other_protocols_pass_unharmed() {
        let mut short = frame(100, 1);
        assert!(!flip(&mut short));
        let mut arp = frame(1000, 1);
        arp[13] = 6;
        assert!(!flip(&mut arp));
    }
}

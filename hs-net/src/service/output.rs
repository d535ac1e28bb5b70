//! Where the stack's frames go: into the commit queue, or past it for services that opted out.

use crate::commit::CommitQueue;

use super::listen::LISTENERS_MAX;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;

/// Both queues, in checkpointable memory.
#[derive(Debug)]
pub(super) struct Output {
    /// Frames that wait for their checkpoint.
    pub(super) withheld: CommitQueue,
    /// Frames that wait for nothing.
    pub(super) prompt: CommitQueue,
    /// TCP ports of services that opted out; 0 is none.
    pub(super) prompt_ports: [u16; LISTENERS_MAX],
}

impl Output {
    pub(super) fn new(withheld: CommitQueue, prompt: CommitQueue) -> Self {
        Self {
            withheld,
            prompt,
            prompt_ports: [0; LISTENERS_MAX],
        }
    }

    /// Whether a frame of `frame_len` bytes finds room, whichever way it goes.
    pub(super) fn has_room(&self, frame_len: usize) -> bool {
        self.withheld.has_room(frame_len) && self.prompt.has_room(frame_len)
    }

    /// Appends a frame of `frame_len` bytes that `fill` writes.
    pub(super) fn push<R>(&mut self, frame_len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let frame = self.withheld.stage(frame_len);
        let result = fill(frame);
        match tcp_source(frame) {
            Some(port) if self.prompt_ports.contains(&port) => {
                self.prompt.push(frame_len, |into| into.copy_from_slice(frame));
                self.prompt.release_all();
            }
            _ => self.withheld.append(frame_len),
        }
        result
    }

    /// The next frame that may go out.
    pub(super) fn front(&self) -> Option<&[u8]> {
        self.prompt.front().or_else(|| self.withheld.front())
    }

    /// Forgets the frame that [`front`](Self::front) showed.
    pub(super) fn pop(&mut self) {
        match self.prompt.front() {
            Some(_) => self.prompt.pop(),
            None => self.withheld.pop(),
        }
    }
}

/// The protocol of the IPv4 packet in `frame` that is no fragment, and what follows its header.
fn packet(frame: &[u8]) -> Option<(u8, &[u8])> {
    let ip = frame.get(14..).filter(|_| frame[12..14] == ETHERTYPE_IPV4)?;
    let header = ip.first_chunk::<20>()?;
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    let len = usize::from(header[0] & 0xf) * 4;
    Some((header[9], ip.get(len..)?)).filter(|_| !fragment)
}

/// The source port, never 0, of the TCP segment in `frame`, if there is one.
fn tcp_source(frame: &[u8]) -> Option<u16> {
    let (protocol, segment) = packet(frame)?;
    let port = u16::from_be_bytes(*segment.first_chunk()?);
    (protocol == PROTOCOL_TCP && port != 0).then_some(port)
}

/// Whether there is a UDP datagram in `frame`, or a part of one.
pub(super) fn is_udp(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&ETHERTYPE_IPV4) && frame.get(23) == Some(&PROTOCOL_UDP)
}

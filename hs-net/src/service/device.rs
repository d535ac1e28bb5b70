//! The stack's device: one frame in, and out into the queues alone.

use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use super::output::Output;
use crate::checksum;

/// A device for one call into the stack. When a queue has no room for a frame of full length, it neither gives the
/// received frame nor takes one.
pub(super) struct QueueDevice<'a> {
    pub(super) received: Option<&'a [u8]>,
    pub(super) output: &'a mut Output,
    pub(super) frame_len_max: usize,
    /// Room for a frame was taken: somebody had something to say, even if nothing came of it.
    pub(super) wanted: bool,
}

impl<'a> QueueDevice<'a> {
    pub(super) fn new(received: Option<&'a [u8]>, output: &'a mut Output, frame_len_max: usize) -> Self {
        Self {
            received,
            output,
            frame_len_max,
            wanted: false,
        }
    }
}

impl Device for QueueDevice<'_> {
    type RxToken<'a>
        = Received<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Append<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Append<'_>)> {
        if !self.output.has_room(self.frame_len_max) {
            return None;
        }
        Some((Received(self.received.take()?), Append(self.output)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Append<'_>> {
        if !self.output.has_room(self.frame_len_max) {
            return None;
        }
        self.wanted = true;
        Some(Append(self.output))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.frame_len_max;
        // Made here, and looked at before a frame is taken in.
        capabilities.checksum.tcp = Checksum::None;
        capabilities
    }
}

pub(super) struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, with: F) -> R {
        with(self.0)
    }
}

pub(super) struct Append<'a>(&'a mut Output);

impl TxToken for Append<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, with: F) -> R {
        self.0.push(len, |frame| {
            let result = with(frame);
            checksum::fill_tcp(frame);
            result
        })
    }
}

//! What clients send, on its way to a spare: into its own ear, or over the cluster link where the switch lets it hear nothing.

use alloc::boxed::Box;
use alloc::vec;

use hs_core::role::Hearing;

use super::Node;
use crate::commit::CommitQueue;

/// Bytes of frames that wait to be forwarded. They wait for the pair thread's next round; what finds no room is not forwarded.
const OUTBOX_LEN: usize = 256 << 10;

/// Frames of clients that the master is to forward.
pub(super) struct Outbox(CommitQueue);

impl Outbox {
    /// One, if frames are forwarded at all.
    pub(super) fn of(hearing: Hearing) -> Option<Self> {
        let ring = || Box::leak(vec![0; OUTBOX_LEN].into_boxed_slice());
        (hearing == Hearing::Forwarded).then(|| Self(CommitQueue::new(ring())))
    }

    fn put(&mut self, frame: &[u8]) {
        if self.0.has_room(frame.len()) {
            self.0.push(frame.len(), |into| into.copy_from_slice(frame));
            self.0.release_all();
        }
    }

    pub(super) fn next(&self) -> Option<&[u8]> {
        self.0.front()
    }

    pub(super) fn forget(&mut self) {
        self.0.pop();
    }
}

impl Node {
    /// A master has received `frame`: the spare is to hear of it, if it cannot by itself.
    pub(super) fn forward(&self, frame: &[u8]) {
        if self.setup.pair.hearing == Hearing::Own {
            return;
        }
        if let Some(outbox) = self.forwarded.lock().as_mut() {
            outbox.put(frame);
        }
        self.wake.raise();
    }

    /// A spare has heard `frame`, whichever way.
    pub(super) fn hear(&self, frame: &[u8]) {
        if let Some(ear) = self.ear.lock().as_mut() {
            ear.hear(frame);
        }
    }
}

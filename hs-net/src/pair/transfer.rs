//! The master's checkpoints on their way: which are open, and what became of them.
//!
//! A transfer belongs to an epoch, one pairing or the time between two: when the epoch ends, it is lost. The table is bounded by
//! `ncon`, and so is the memory of cancellations that came before their transfer.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::vec::Vec;

use hs_core::checkpoint::{CheckpointId, PipeError};
use hs_core::fault::{self, Point};

use super::{Notice, Pair};
use crate::channel::flow::MessageBuffer;
use crate::channel::frame::Message;

/// One pairing, or the time between two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Epoch(u64);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Open,
    Kept,
    Failed(PipeError),
    /// Closed, and the spare is still to be told to forget it.
    Forsaken,
}

#[derive(Debug)]
pub(super) struct Transfers {
    ncon: usize,
    epoch: u64,
    live: Vec<(CheckpointId, Fate)>,
    cancelled: VecDeque<CheckpointId>,
}

impl Transfers {
    pub(super) fn new(ncon: usize) -> Self {
        let ncon = ncon.max(1);
        Self {
            ncon,
            epoch: 0,
            live: Vec::with_capacity(ncon),
            cancelled: VecDeque::with_capacity(ncon),
        }
    }

    /// Whatever is on its way is lost.
    pub(super) fn begin_epoch(&mut self) {
        self.epoch += 1;
        self.live.clear();
        self.cancelled.clear();
    }

    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.epoch)
    }

    fn fate(&mut self, checkpoint: CheckpointId) -> Option<&mut Fate> {
        self.live
            .iter_mut()
            .find(|(id, _)| *id == checkpoint)
            .map(|(_, fate)| fate)
    }

    fn settle(&mut self, checkpoint: CheckpointId, fate: Fate) -> bool {
        match self.fate(checkpoint) {
            Some(open @ Fate::Open) => {
                *open = fate;
                true
            }
            _ => false,
        }
    }
}

/// What a message of a transfer needs before it can go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sending {
    /// It was queued.
    Queued,
    /// There is no room now.
    NoRoom,
}

impl Pair {
    /// Whatever is on its way, or was said of it, is of the past.
    pub(super) fn begin_epoch(&mut self) {
        self.transfers.begin_epoch();
        (self.kept, self.armed_from) = (None, None);
    }

    /// Begins a transfer. `arms`: who has the checkpoint may take over.
    ///
    /// # Errors
    /// There is no spare, it was cancelled already, or too many are under way.
    pub fn open_transfer(&mut self, checkpoint: CheckpointId, arms: bool) -> Result<Epoch, PipeError> {
        // Until everybody has heard that a spare was lost, a checkpoint that was taken for it would pass for one of the next
        // spare's, and arm that although output does not wait.
        if self.peer.is_none() || self.parting {
            return Err(PipeError::Disconnected);
        }
        if let Some(index) = self.transfers.cancelled.iter().position(|id| *id == checkpoint) {
            self.transfers.cancelled.remove(index);
            return Err(PipeError::Cancelled);
        }
        if self.transfers.live.len() == self.transfers.ncon || self.transfers.fate(checkpoint).is_some() {
            return Err(PipeError::Full);
        }
        self.transfers.live.push((checkpoint, Fate::Open));
        if arms && self.armed_from.is_none_or(|from| checkpoint < from) {
            self.armed_from = Some(checkpoint);
        }
        Ok(self.transfers.epoch())
    }

    /// Whether the transfer may go on: `true` if it has arrived as a whole.
    ///
    /// # Errors
    /// It is lost.
    pub fn transfer_kept(&mut self, epoch: Epoch, checkpoint: CheckpointId) -> Result<bool, PipeError> {
        if epoch.0 != self.transfers.epoch {
            return Err(PipeError::Disconnected);
        }
        match self.transfers.fate(checkpoint) {
            Some(Fate::Open) => Ok(false),
            Some(Fate::Kept) => Ok(true),
            Some(Fate::Failed(error)) => Err(*error),
            Some(Fate::Forsaken) | None => Err(PipeError::Disconnected),
        }
    }

    /// Queues a message of the transfer and leaves a free buffer.
    ///
    /// # Errors
    /// It is lost.
    ///
    /// # Panics
    /// If the message is longer than [`message_len_max`](Pair::message_len_max).
    pub fn send_of_transfer(
        &mut self,
        epoch: Epoch,
        checkpoint: CheckpointId,
        buffer: &mut MessageBuffer,
    ) -> Result<Sending, PipeError> {
        self.transfer_kept(epoch, checkpoint)?;
        Ok(if self.channel.queue(buffer) {
            Sending::Queued
        } else {
            Sending::NoRoom
        })
    }

    /// Ends the transfer. If its last message was not sent or not answered, the spare is told to forget it.
    pub fn close_transfer(&mut self, epoch: Epoch, checkpoint: CheckpointId) {
        if epoch.0 != self.transfers.epoch {
            return;
        }
        let Some(index) = self.transfers.live.iter().position(|(id, _)| *id == checkpoint) else {
            return;
        };
        let fate = &mut self.transfers.live[index].1;
        match fate {
            Fate::Open | Fate::Failed(PipeError::Cancelled) => *fate = Fate::Forsaken,
            Fate::Kept | Fate::Failed(_) | Fate::Forsaken => {
                self.transfers.live.swap_remove(index);
            }
        }
        self.tell_forsaken();
    }

    /// Tells the spare what will not be finished, as far as there is room.
    pub(super) fn tell_forsaken(&mut self) {
        while let Some(index) = self
            .transfers
            .live
            .iter()
            .position(|(_, fate)| *fate == Fate::Forsaken)
        {
            let (checkpoint, _) = self.transfers.live[index];
            let len = Message::Abandon { checkpoint }.emit(self.buffer.space());
            self.buffer.set_len(len);
            if !self.channel.queue(&mut self.buffer) {
                return;
            }
            self.transfers.live.swap_remove(index);
        }
    }

    /// The transfer is lost already, even if it was not begun.
    pub fn cancel_transfer(&mut self, checkpoint: CheckpointId) {
        if self.transfers.fate(checkpoint).is_some() {
            self.transfers
                .settle(checkpoint, Fate::Failed(PipeError::Cancelled));
            return;
        }
        if self.transfers.cancelled.len() == self.transfers.ncon {
            self.transfers.cancelled.pop_front();
        }
        self.transfers.cancelled.push_back(checkpoint);
    }

    /// Longest message of a transfer.
    pub fn message_len_max(&self) -> usize {
        self.channel.message_len_max()
    }

    /// Whether so many messages wait that could go on the wire now.
    pub fn has_batch(&self, batch: usize) -> bool {
        self.channel.unsent() >= batch && self.channel.may_transmit()
    }

    /// Reads what the spare says of checkpoints.
    pub(super) fn read_answers(&mut self) {
        while self.channel.take(&mut self.buffer) {
            match Message::parse(self.buffer.message()) {
                Ok(Message::Kept { checkpoint }) => {
                    fault::passed(Point::KeptHeard);
                    if self.transfers.settle(checkpoint, Fate::Kept) {
                        self.kept = self.kept.max(Some(checkpoint));
                        self.holds_image |= self.armed_from.is_some_and(|from| from <= checkpoint);
                    }
                }
                Ok(Message::Refused { checkpoint, why }) => {
                    let why = format!("the spare refused checkpoint {checkpoint}: {why}");
                    if self
                        .transfers
                        .settle(checkpoint, Fate::Failed(PipeError::Refused))
                    {
                        self.note(Notice::Refused {
                            what: "checkpoint",
                            why,
                        });
                    }
                }
                // A spare sends no checkpoints; messages are parsed before they are queued.
                Ok(Message::Chunk { .. } | Message::Abandon { .. }) | Err(_) => self.datagrams_refused += 1,
            }
        }
    }
}

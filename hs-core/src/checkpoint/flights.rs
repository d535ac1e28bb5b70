//! Which checkpoints are in flight, and what the next one may build on. Rules in the parent module.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::shadow::Progress;
use super::{CheckpointId, Kind, Loss, PipeError};
use crate::platform::{Instant, Outcome};

/// Why no checkpoint can be taken now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    NoSpare,
    NoSlot,
}

/// A checkpoint in flight.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) id: CheckpointId,
    /// Shared with its child.
    pub(super) progress: Arc<Progress>,
    pub(super) taken_at: Instant,
    /// Somebody waits for its end.
    pub(super) awaited: bool,
    /// Why it is lost, if its child said so.
    pub(super) loss: Option<Loss>,
}

#[derive(Debug)]
pub(super) struct Flights {
    ncon: usize,
    /// Checkpoints go somewhere.
    open: bool,
    /// The next one must be full.
    full_wanted: bool,
    /// Of the newest checkpoint taken; generation 0 if there is none.
    newest: CheckpointId,
    kept: Option<CheckpointId>,
    live: Vec<Flight>,
}

impl Flights {
    pub(super) fn new(ncon: usize) -> Self {
        Self {
            ncon,
            open: false,
            full_wanted: true,
            newest: CheckpointId {
                generation: 0,
                increment: 0,
            },
            kept: None,
            live: Vec::with_capacity(ncon),
        }
    }

    /// What the next checkpoint would be.
    pub(super) fn plan(&self, incremental: bool) -> Result<(CheckpointId, Kind), Refusal> {
        if !self.open {
            return Err(Refusal::NoSpare);
        }
        if self.live.len() >= self.ncon {
            return Err(Refusal::NoSlot);
        }
        if self.full_wanted || !incremental {
            let id = CheckpointId {
                generation: self.newest.generation + 1,
                increment: 0,
            };
            return Ok((id, Kind::Full));
        }
        let mut mine = self
            .live
            .iter()
            .filter(|flight| flight.id.generation == self.newest.generation);
        if mine.clone().any(Flight::is_doomed) {
            return Err(Refusal::NoSlot);
        }
        // What is in flight will be kept, or doom this one. What was lost is dirty again.
        let kept = self.kept.filter(|kept| kept.generation == self.newest.generation);
        let base = mine.by_ref().map(|flight| flight.id).chain(kept).max();
        let base = base
            .expect("without its full checkpoint kept or in flight, the next is full")
            .increment;
        let id = CheckpointId {
            increment: self.newest.increment + 1,
            ..self.newest
        };
        Ok((id, Kind::Incremental { base }))
    }

    /// Those in flight that a checkpoint of this number comes after, in its generation.
    pub(super) fn ahead(&self, id: CheckpointId, ahead: &mut Vec<(CheckpointId, Arc<Progress>)>) {
        let mine = self
            .live
            .iter()
            .filter(|flight| flight.id.generation == id.generation);
        ahead.extend(mine.map(|flight| (flight.id, Arc::clone(&flight.progress))));
    }

    /// The checkpoint that was planned is in flight.
    pub(super) fn begin(
        &mut self,
        id: CheckpointId,
        progress: Arc<Progress>,
        taken_at: Instant,
        awaited: bool,
    ) {
        self.newest = id;
        if id.increment == 0 {
            self.full_wanted = false;
        }
        self.live.push(Flight {
            id,
            progress,
            taken_at,
            awaited,
            loss: None,
        });
    }

    /// What its child says before it ends.
    pub(super) fn report(&mut self, id: CheckpointId, loss: Loss) {
        if let Some(flight) = self.live.iter_mut().find(|flight| flight.id == id) {
            flight.loss = Some(loss);
        }
    }

    /// A checkpoint's child is gone. Returns it, and those that were doomed by this.
    pub(super) fn end(&mut self, id: CheckpointId, outcome: Outcome) -> Option<(Flight, Vec<CheckpointId>)> {
        let index = self.live.iter().position(|flight| flight.id == id)?;
        let flight = self.live.swap_remove(index);
        let mut doomed = Vec::new();
        match outcome {
            Outcome::Kept => self.kept = self.kept.max(Some(id)),
            // The spare has a later one, and with it all that was in this one.
            Outcome::Lost if self.kept >= Some(id) => {}
            Outcome::Lost => {
                // A spare that refused one may have lost what it had.
                let refused = flight.loss == Some(Loss::Pipe(PipeError::Refused));
                if id.generation == self.newest.generation && (id.increment == 0 || refused) {
                    self.full_wanted = true;
                }
                doomed = self.doom(|other| other.generation == id.generation && other > id);
            }
        }
        Some((flight, doomed))
    }

    /// Those that hold checkpoints have changed: what is in flight is lost, and the next one is full, if `open` says that
    /// there still are any.
    pub(super) fn renew(&mut self, open: bool) -> Vec<CheckpointId> {
        self.open = open;
        self.full_wanted = true;
        self.kept = None;
        self.doom(|_| true)
    }

    /// Nobody holds what an increment could be applied to.
    pub(super) fn want_full(&mut self) {
        self.full_wanted = true;
    }

    fn doom(&self, which: impl Fn(CheckpointId) -> bool) -> Vec<CheckpointId> {
        let doomed = self
            .live
            .iter()
            .filter(|flight| which(flight.id) && !flight.is_doomed());
        doomed
            .map(|flight| {
                flight.progress.doom();
                flight.id
            })
            .collect()
    }

    pub(super) fn free_slots(&self) -> usize {
        if self.plan(true).is_ok() {
            self.ncon - self.live.len()
        } else {
            0
        }
    }

    /// Whether the next one is full because it has to be: what it finds modified is not the work of one epoch.
    pub(super) fn is_full_wanted(&self) -> bool {
        self.full_wanted
    }

    /// Whether the newest generation's full checkpoint is on its way still.
    pub(super) fn is_full_in_flight(&self) -> bool {
        let newest = self.newest.generation;
        self.live
            .iter()
            .any(|flight| flight.id.generation == newest && flight.id.increment == 0)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.live.len()
    }

    #[cfg(test)]
    pub(super) fn has_doomed(&self) -> bool {
        self.live.iter().any(Flight::is_doomed)
    }

    pub(super) fn kept(&self) -> Option<CheckpointId> {
        self.kept
    }
}

impl Flight {
    fn is_doomed(&self) -> bool {
        self.progress.is_doomed()
    }
}

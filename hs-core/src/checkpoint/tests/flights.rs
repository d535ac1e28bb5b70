//! The rules of numbers, bases and losses in a world of six cells: a spare that applies by them never holds a state that
//! the master was not in, and what is kept is there.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::super::flights::{Flights, Refusal};
use super::super::shadow::Progress;
use super::super::{CheckpointId, Kind, Loss, PipeError};
use super::Dice;
use crate::platform::{Instant, Outcome};

const CELLS: usize = 6;
const NCON: usize = 4;

type Cells = [u64; CELLS];

/// How the world goes wrong, where the test must be seen to fail.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Planted {
    Nothing,
    /// Increments are taken while the doomed have not ended.
    DoesNotWait,
    /// A child's end is told before its pages are dirty again.
    ToldTooEarly,
    /// A base older than it should be.
    WrongBase,
    /// Nobody is doomed.
    NoDoom,
}

struct Child {
    id: CheckpointId,
    kind: Kind,
    contents: BTreeMap<usize, u64>,
    dirty: BTreeSet<usize>,
    progress: Arc<Progress>,
    delivered: bool,
    /// It has ended, but the checkpointer was not told yet.
    outcome: Option<Outcome>,
    /// Its spare is another one by now.
    cut_off: bool,
}

#[derive(Default)]
struct Spare {
    newest: Option<(CheckpointId, Cells)>,
    whole: Vec<(CheckpointId, Kind, BTreeMap<usize, u64>)>,
    acknowledged: BTreeSet<CheckpointId>,
}

struct World {
    planted: Planted,
    flights: Flights,
    cells: Cells,
    dirty: BTreeSet<usize>,
    children: Vec<Child>,
    spare: Spare,
    truth: BTreeMap<CheckpointId, Cells>,
    written: u64,
}

impl Spare {
    /// As [`Image`](crate::image::Image) does it.
    fn settle(&mut self, truth: &BTreeMap<CheckpointId, Cells>) -> Result<(), String> {
        loop {
            let newest = self.newest.map(|(id, _)| id);
            let fits = |(id, kind, _): &(CheckpointId, Kind, _)| match kind {
                _ if newest >= Some(*id) => true,
                Kind::Full => true,
                Kind::Incremental { base } => newest
                    .is_some_and(|newest| newest.generation == id.generation && newest.increment >= *base),
            };
            let ready = self.whole.iter().enumerate().filter(|(_, stream)| fits(stream));
            let Some((index, _)) = ready.min_by_key(|(_, stream)| stream.0) else {
                return Ok(());
            };
            let (id, _, contents) = self.whole.swap_remove(index);
            self.acknowledged.insert(id);
            if newest >= Some(id) {
                continue;
            }
            let mut cells = self.newest.map_or([0; CELLS], |(_, cells)| cells);
            contents.iter().for_each(|(cell, value)| cells[*cell] = *value);
            if cells != truth[&id] {
                return Err(format!(
                    "at {id} the spare holds {cells:?} instead of {:?}",
                    truth[&id]
                ));
            }
            self.newest = Some((id, cells));
        }
    }
}

impl World {
    fn new(planted: Planted) -> Self {
        let mut flights = Flights::new(NCON);
        flights.renew(true);
        Self {
            planted,
            flights,
            cells: [0; CELLS],
            dirty: BTreeSet::new(),
            children: Vec::new(),
            spare: Spare::default(),
            truth: BTreeMap::new(),
            written: 0,
        }
    }

    fn write(&mut self, cell: usize) {
        self.written += 1;
        self.cells[cell] = self.written;
        self.dirty.insert(cell);
    }

    fn plan(&self, incremental: bool) -> Result<(CheckpointId, Kind), Refusal> {
        match self.planted {
            // As if those had ended, and their pages were dirty again.
            Planted::DoesNotWait if incremental && self.children.len() < NCON => {
                let planned = self.flights.plan(incremental);
                let newest = self.truth.last_key_value().map(|(id, _)| *id);
                let (Err(Refusal::NoSlot), Some(newest)) = (planned, newest) else {
                    return planned;
                };
                let live = self.children.iter().filter(|child| !child.progress.is_doomed());
                let bases = live.map(|child| child.id).chain(self.flights.kept());
                let base = bases
                    .filter(|id| id.generation == newest.generation)
                    .max()
                    .ok_or(Refusal::NoSlot)?;
                let id = CheckpointId {
                    increment: newest.increment + 1,
                    ..newest
                };
                Ok((id, Kind::Incremental { base: base.increment }))
            }
            Planted::WrongBase => self.flights.plan(incremental).map(|(id, kind)| match kind {
                Kind::Incremental { base } => (
                    id,
                    Kind::Incremental {
                        base: base.saturating_sub(1),
                    },
                ),
                Kind::Full => (id, kind),
            }),
            _ => self.flights.plan(incremental),
        }
    }

    fn take(&mut self, incremental: bool) {
        let Ok((id, kind)) = self.plan(incremental) else {
            return;
        };
        let dirty = core::mem::take(&mut self.dirty);
        let contents = (0..CELLS).filter(|cell| kind == Kind::Full || dirty.contains(cell));
        let contents = contents.map(|cell| (cell, self.cells[cell])).collect();
        let progress = Arc::<Progress>::default();
        self.flights
            .begin(id, Arc::clone(&progress), Instant::default(), false);
        self.truth.insert(id, self.cells);
        self.children.push(Child {
            id,
            kind,
            contents,
            dirty,
            progress,
            delivered: false,
            outcome: None,
            cut_off: false,
        });
    }

    fn deliver(&mut self, index: usize) -> Result<(), String> {
        let child = &mut self.children[index];
        if child.delivered || child.cut_off || child.outcome.is_some() {
            return Ok(());
        }
        child.delivered = true;
        self.spare
            .whole
            .push((child.id, child.kind, child.contents.clone()));
        self.spare.settle(&self.truth)
    }

    /// The child ends: kept if it was acknowledged, unless the acknowledgement does not arrive.
    fn finish(&mut self, index: usize, outcome: Outcome) {
        let child = &mut self.children[index];
        if child.outcome.is_some() || outcome == Outcome::Kept && !self.spare.acknowledged.contains(&child.id)
        {
            return;
        }
        child.outcome = Some(outcome);
        if outcome == Outcome::Lost && self.planted != Planted::ToldTooEarly {
            self.dirty.extend(child.dirty.iter());
        }
        if self.planted == Planted::ToldTooEarly {
            self.flights.end(child.id, outcome);
        }
    }

    fn tell(&mut self, index: usize) -> Result<(), String> {
        let Some(outcome) = self.children[index].outcome else {
            return Ok(());
        };
        let child = self.children.swap_remove(index);
        let held = self.spare.newest.is_some_and(|(newest, _)| newest >= child.id);
        if outcome == Outcome::Kept && !child.cut_off && !held {
            return Err(format!("{} was kept, but the spare does not have it", child.id));
        }
        if self.planted == Planted::ToldTooEarly {
            if outcome == Outcome::Lost {
                self.dirty.extend(child.dirty);
            }
            return Ok(());
        }
        self.flights.end(child.id, outcome);
        if self.planted == Planted::NoDoom {
            self.children.iter().for_each(|child| child.progress.pardon());
        }
        Ok(())
    }

    fn other_spare(&mut self, at_once: bool) {
        self.spare = Spare::default();
        self.children.iter_mut().for_each(|child| child.cut_off = true);
        if !at_once {
            self.flights.renew(false);
            assert_eq!(self.flights.plan(true), Err(Refusal::NoSpare));
        }
        self.flights.renew(true);
    }

    fn step(&mut self, dice: &mut Dice) -> Result<(), String> {
        let index = dice.roll(self.children.len());
        match dice.roll(24) {
            0..6 => self.write(dice.roll(CELLS)),
            6..11 => self.take(true),
            11 if dice.roll(6) == 0 => self.take(false),
            12 if dice.roll(8) == 0 => self.other_spare(dice.roll(2) == 0),
            13 if !self.spare.whole.is_empty() => {
                // It hears that a checkpoint was given up; some such words come late.
                let index = dice.roll(self.spare.whole.len());
                let id = self.spare.whole[index].0;
                if !self
                    .children
                    .iter()
                    .any(|child| child.id == id && child.outcome.is_none())
                {
                    self.spare.whole.swap_remove(index);
                }
            }
            _ if self.children.is_empty() => {}
            14..18 => self.deliver(index)?,
            18..21 => self.finish(index, Outcome::Kept),
            21 => self.finish(index, Outcome::Lost),
            _ => self.tell(index)?,
        }
        Ok(())
    }

    /// Without further losses, all that is in flight ends, and one more increment brings the spare up to date.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..4 * NCON {
            for index in (0..self.children.len()).rev() {
                self.deliver(index)?;
                self.finish(index, Outcome::Kept);
                let child = &self.children[index];
                if child.progress.is_doomed() || child.cut_off {
                    self.finish(index, Outcome::Lost);
                }
                self.tell(index)?;
            }
        }
        if !self.children.is_empty() {
            return Err(format!("{} hangs", self.children[0].id));
        }
        self.take(true);
        self.deliver(0)?;
        match self.spare.newest {
            Some((_, cells)) if cells == self.cells => Ok(()),
            other => Err(format!(
                "the spare ends with {other:?} instead of {:?}",
                self.cells
            )),
        }
    }
}

fn run(planted: Planted, seed: u64) -> Result<(), String> {
    let mut dice = Dice(seed);
    let mut world = World::new(planted);
    for _ in 0..200 {
        world.step(&mut dice)?;
    }
    world.settle()
}

#[test]
fn the_spare_holds_only_states_that_were() {
    for seed in 0..20_000 {
        if let Err(wrong) = run(Planted::Nothing, seed) {
            panic!("seed {seed}: {wrong}");
        }
    }
}

#[test]
fn the_model_finds_planted_faults() {
    for planted in [
        Planted::DoesNotWait,
        Planted::ToldTooEarly,
        Planted::WrongBase,
        Planted::NoDoom,
    ] {
        let found = (0..2000).find(|seed| run(planted, *seed).is_err());
        assert!(found.is_some(), "{planted:?} was not found");
    }
}

fn id(generation: u64, increment: u64) -> CheckpointId {
    CheckpointId {
        generation,
        increment,
    }
}

/// A full checkpoint 1.0 and the increments 1.1 and 1.2 are in flight.
fn three_in_flight() -> Flights {
    let mut flights = Flights::new(NCON);
    flights.renew(true);
    for _ in 0..3 {
        let (id, _) = flights.plan(true).unwrap();
        flights.begin(id, Arc::default(), Instant::default(), false);
    }
    flights
}

#[test]
fn a_lost_acknowledgement_is_no_loss_if_a_later_one_arrives() {
    let mut flights = three_in_flight();
    flights.end(id(1, 1), Outcome::Kept);
    let (_, doomed) = flights.end(id(1, 0), Outcome::Lost).unwrap();
    assert_eq!(doomed, []);
    assert_eq!(flights.plan(true), Ok((id(1, 3), Kind::Incremental { base: 2 })));
}

#[test]
fn the_next_increment_holds_all_since_the_last_that_is_not_lost() {
    let mut flights = three_in_flight();
    flights.end(id(1, 0), Outcome::Kept);
    let (_, doomed) = flights.end(id(1, 1), Outcome::Lost).unwrap();
    assert_eq!(doomed, [id(1, 2)]);
    assert_eq!(flights.plan(true), Err(Refusal::NoSlot));
    assert_eq!(flights.free_slots(), 0);
    flights.end(id(1, 2), Outcome::Lost);
    assert_eq!(flights.plan(true), Ok((id(1, 3), Kind::Incremental { base: 0 })));
}

#[test]
fn after_a_refusal_the_next_is_full() {
    let mut flights = three_in_flight();
    flights.end(id(1, 0), Outcome::Kept);
    flights.report(id(1, 1), Loss::Pipe(PipeError::Refused));
    flights.end(id(1, 1), Outcome::Lost);
    assert_eq!(flights.plan(true), Ok((id(2, 0), Kind::Full)));
}

//! The shadow in a world of a few pages: children that encode page by page in any interleaving, losses, other spares and
//! areas mapped anew. A spare that applies what they make never holds a state that the master was not in.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::super::flights::Flights;
use super::super::tests::Dice;
use super::*;
use crate::format::Difference;
use crate::host::{HostMachine, HostMemory};
use crate::platform::{Instant, Outcome};

const PAGES: usize = 10;
/// One set: fewer places than pages.
const PLACES: usize = WAYS;
const NCON: usize = 4;
const START: usize = 0x7000_0000;
/// The words of a page that differ, in bytes from its start.
const WORDS: [usize; 3] = [0, 8, 4088];

/// What is in a page: the rest of it is the same in all.
type Cell = [u64; WORDS.len()];
/// How often each half was mapped anew.
type Mappings = [usize; 2];

fn contents(cell: &Cell) -> [u8; PAGE_LEN] {
    let mut page = [0x77; PAGE_LEN];
    for (at, word) in WORDS.iter().zip(cell) {
        page[*at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    page
}

fn half(page: usize) -> usize {
    page / (PAGES / 2)
}

fn areas(mappings: Mappings) -> [PageRange; 2] {
    // Another length each time stands for another range.
    [0, 1].map(|half| PageRange::new((half + 1) << 32, 1 + mappings[half]).unwrap())
}

/// How the world goes wrong, where the test must be seen to fail.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Planted {
    Nothing,
    /// What was entered stays when a checkpoint is lost.
    KeepsAtLoss,
    /// It becomes void only some time after the loss is known.
    VoidTooLate,
    /// Nobody waits until those ahead have passed.
    NoOrder,
    /// Older increments make entries too.
    OldEnter,
    /// The spare maps areas anew, and nobody thinks of it.
    KeepsAtMapping,
    /// A full checkpoint does not begin an epoch, nor does another spare.
    OneEpoch,
}

enum Sent {
    Whole(Cell),
    Difference(Vec<u8>),
}

struct Child {
    id: CheckpointId,
    kind: Kind,
    mappings: Mappings,
    /// To be encoded, in order; the first `encoded` are.
    pages: Vec<(usize, Cell)>,
    sent: Vec<(usize, Sent)>,
    dirty: BTreeSet<usize>,
    progress: Arc<Progress>,
    place: Place,
    delivered: bool,
    cut_off: bool,
}

/// A checkpoint that the spare has whole.
type Whole = (CheckpointId, Kind, Mappings, Vec<(usize, Sent)>);

struct Spare {
    newest: Option<CheckpointId>,
    cells: Vec<Cell>,
    mappings: Mappings,
    acknowledged: BTreeSet<CheckpointId>,
    whole: Vec<Whole>,
}

impl Spare {
    fn new() -> Self {
        Self {
            newest: None,
            cells: vec![Cell::default(); PAGES],
            mappings: [0; 2],
            acknowledged: BTreeSet::new(),
            whole: Vec::new(),
        }
    }

    fn fits(&self, id: CheckpointId, kind: Kind) -> bool {
        match kind {
            Kind::Full => true,
            Kind::Incremental { base } => self
                .newest
                .is_some_and(|newest| newest.generation == id.generation && newest.increment >= base),
        }
    }
}

struct World {
    planted: Planted,
    memory: &'static HostMemory,
    shadow: Shadow,
    areas: Vec<PageRange>,
    flights: Flights,
    cells: Vec<Cell>,
    mappings: Mappings,
    dirty: BTreeSet<usize>,
    children: Vec<Child>,
    spare: Spare,
    truth: BTreeMap<CheckpointId, Vec<Cell>>,
    /// Losses that the shadow has not heard of.
    late: usize,
    differences: usize,
}

impl World {
    fn new(planted: Planted, memory: &'static HostMemory) -> Self {
        let mut flights = Flights::new(NCON);
        flights.renew(true);
        Self {
            planted,
            memory,
            shadow: Shadow::new(memory, PLACES),
            areas: Vec::new(),
            flights,
            cells: vec![Cell::default(); PAGES],
            mappings: [0; 2],
            dirty: BTreeSet::new(),
            children: Vec::new(),
            spare: Spare::new(),
            truth: BTreeMap::new(),
            late: 0,
            differences: 0,
        }
    }

    /// Few values, so that a word becomes again what it was: then a difference to a state before the last is a wrong one.
    fn write(&mut self, page: usize, dice: &mut Dice) {
        self.cells[page][dice.roll(WORDS.len())] = dice.roll(3) as u64;
        self.dirty.insert(page);
    }

    fn map_anew(&mut self, which: usize) {
        self.mappings[which] += 1;
        for page in (0..PAGES).filter(|page| half(*page) == which) {
            self.cells[page] = Cell::default();
            self.dirty.insert(page);
        }
    }

    fn take(&mut self, incremental: bool) {
        let Ok((id, kind)) = self.flights.plan(incremental) else {
            return;
        };
        let dirty = core::mem::take(&mut self.dirty);
        let pages = (0..PAGES).filter(|page| kind == Kind::Full || dirty.contains(page));
        let pages = pages.map(|page| (page, self.cells[page])).collect();
        let same = note_areas(&mut self.areas, &areas(self.mappings));
        let mut place = Place::default();
        let (kind_told, same_told) = match self.planted {
            Planted::KeepsAtMapping => (kind, true),
            Planted::OneEpoch => (Kind::Incremental { base: 0 }, same),
            _ => (kind, same),
        };
        self.shadow.begin(id, kind_told, same_told, &mut place);
        if self.planted != Planted::NoOrder {
            self.flights.ahead(id, &mut place.ahead);
        }
        let progress = Arc::<Progress>::default();
        self.flights
            .begin(id, Arc::clone(&progress), Instant::default(), false);
        self.truth.insert(id, self.cells.clone());
        self.children.push(Child {
            id,
            kind,
            mappings: self.mappings,
            pages,
            sent: Vec::new(),
            dirty,
            progress,
            place,
            delivered: false,
            cut_off: false,
        });
    }

    fn encode(&mut self, index: usize) {
        let child = &mut self.children[index];
        let Some((page, cell)) = child.pages.get(child.sent.len()).copied() else {
            child.progress.pass_all();
            return;
        };
        let address = START + page * PAGE_LEN;
        let mut body = vec![0; PAGE_LEN];
        if self.planted == Planted::OldEnter {
            self.shadow.newest.store(child.id.increment, Ordering::Relaxed);
        }
        let shorter = match child.kind {
            Kind::Full => None,
            Kind::Incremental { .. } => self
                .shadow
                .send(&child.place, address, &contents(&cell), &mut body),
        };
        let sent = match shorter {
            Some(len) => {
                self.differences += 1;
                Sent::Difference(body[..len].to_vec())
            }
            None => Sent::Whole(cell),
        };
        child.sent.push((page, sent));
        child.progress.pass(address + 1);
    }

    fn deliver(&mut self, index: usize) -> Result<(), String> {
        let child = &mut self.children[index];
        if child.sent.len() < child.pages.len() || child.delivered || child.cut_off {
            return Ok(());
        }
        child.delivered = true;
        let sent = core::mem::take(&mut child.sent);
        child.pages.clear();
        self.spare
            .whole
            .push((child.id, child.kind, child.mappings, sent));
        self.apply()
    }

    fn apply(&mut self) -> Result<(), String> {
        loop {
            let spare = &mut self.spare;
            let ready = |(id, kind, ..): &Whole| spare.newest >= Some(*id) || spare.fits(*id, *kind);
            let ready: Vec<usize> = (0..spare.whole.len())
                .filter(|index| ready(&spare.whole[*index]))
                .collect();
            let Some(index) = ready.into_iter().min_by_key(|index| spare.whole[*index].0) else {
                return Ok(());
            };
            let (id, _, mappings, sent) = spare.whole.swap_remove(index);
            spare.acknowledged.insert(id);
            if spare.newest >= Some(id) {
                continue;
            }
            let anew = [0, 1].map(|half| spare.mappings[half] != mappings[half]);
            for (page, cell) in spare.cells.iter_mut().enumerate() {
                if anew[half(page)] {
                    *cell = Cell::default();
                }
            }
            for (page, sent) in sent {
                match sent {
                    Sent::Whole(cell) => spare.cells[page] = cell,
                    Sent::Difference(_) if anew[half(page)] => {
                        return Err(format!("{id} has a difference to page {page}, which is new"));
                    }
                    Sent::Difference(bytes) => {
                        let mut had = contents(&spare.cells[page]);
                        Difference::new(&bytes).unwrap().apply(&mut had);
                        for (at, word) in WORDS.iter().zip(&mut spare.cells[page]) {
                            *word = u64::from_le_bytes(had[*at..at + 8].try_into().unwrap());
                        }
                    }
                }
            }
            spare.newest = Some(id);
            spare.mappings = mappings;
            if spare.cells != self.truth[&id] {
                return Err(format!("the spare differs at {id}"));
            }
        }
    }

    fn end(&mut self, index: usize, outcome: Outcome) {
        let child = &self.children[index];
        let held = self.spare.acknowledged.contains(&child.id);
        if outcome == Outcome::Kept && (!held || child.cut_off || !child.delivered) {
            return;
        }
        let child = self.children.swap_remove(index);
        self.spare
            .whole
            .retain(|(id, ..)| *id != child.id || outcome == Outcome::Kept);
        if outcome == Outcome::Lost {
            self.dirty.extend(&child.dirty);
        }
        self.flights.end(child.id, outcome);
        if outcome == Outcome::Lost {
            match self.planted {
                Planted::KeepsAtLoss => {}
                Planted::VoidTooLate => self.late += 1,
                _ => self.shadow.void(),
            }
        }
    }

    fn other_spare(&mut self) {
        self.spare = Spare::new();
        self.children.iter_mut().for_each(|child| child.cut_off = true);
        if self.planted != Planted::OneEpoch {
            self.shadow.void();
        }
        self.flights.renew(false);
        self.flights.renew(true);
    }

    fn step(&mut self, dice: &mut Dice) -> Result<(), String> {
        let index = dice.roll(self.children.len());
        match dice.roll(40) {
            // A few pages are written to all the time.
            0..7 => self.write(dice.roll(PAGES / 3), dice),
            7..9 => self.write(dice.roll(PAGES), dice),
            9..13 => self.take(true),
            13 if dice.roll(20) == 0 => self.take(false),
            14 if dice.roll(40) == 0 => self.other_spare(),
            15 if dice.roll(20) == 0 => self.map_anew(dice.roll(2)),
            16 => match dice.roll(3) {
                0 => self.memory.set_frames(dice.roll(4)),
                1 => self.memory.set_frames(1000),
                _ if dice.roll(20) == 0 => self.shadow.give_back(),
                _ => {}
            },
            17 if self.late > 0 => {
                self.late -= 1;
                self.shadow.void();
            }
            _ if self.children.is_empty() => {}
            18 if dice.roll(16) == 0 => self.end(index, Outcome::Lost),
            19 if self.children[index].progress.is_doomed() => self.end(index, Outcome::Lost),
            20..23 => self.deliver(index)?,
            23..27 => self.end(index, Outcome::Kept),
            _ => (0..=dice.roll(3)).for_each(|_| self.encode(index)),
        }
        Ok(())
    }

    /// Without further losses, everything ends, and one more increment brings the spare up to date.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..2 * NCON {
            for index in (0..self.children.len()).rev() {
                while self.children[index].sent.len() < self.children[index].pages.len() {
                    self.encode(index);
                }
                self.deliver(index)?;
                let child = &self.children[index];
                let outcome = if child.progress.is_doomed() || child.cut_off {
                    Outcome::Lost
                } else {
                    Outcome::Kept
                };
                self.end(index, outcome);
            }
        }
        if let Some(child) = self.children.first() {
            return Err(format!("{} hangs", child.id));
        }
        self.take(true);
        while self.children[0].sent.len() < self.children[0].pages.len() {
            self.encode(0);
        }
        self.deliver(0)?;
        if self.spare.cells == self.cells {
            Ok(())
        } else {
            Err("the spare is not up to date".into())
        }
    }
}

/// Runs the world of `seed`. Returns how many differences there were.
fn run(planted: Planted, memory: &'static HostMemory, seed: u64) -> Result<usize, String> {
    memory.set_frames(1000);
    let (mut dice, mut world) = (Dice::new(seed), World::new(planted, memory));
    for _ in 0..600 {
        world.step(&mut dice)?;
    }
    world.settle()?;
    Ok(world.differences)
}

#[test]
fn the_spare_is_never_in_a_state_that_the_master_was_not_in() {
    HostMachine::install();
    let memory = HostMemory::new(8);
    let mut differences = 0;
    for seed in 0..1000 {
        differences +=
            run(Planted::Nothing, memory, seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    assert!(differences > 20_000, "{differences} differences show little");
}

#[test]
fn what_is_planted_is_found() {
    HostMachine::install();
    let memory = HostMemory::new(8);
    let all = [
        Planted::KeepsAtLoss,
        Planted::VoidTooLate,
        Planted::NoOrder,
        Planted::OldEnter,
        Planted::KeepsAtMapping,
        Planted::OneEpoch,
    ];
    for planted in all {
        let found = (0..2000).find_map(|seed| run(planted, memory, seed).err().map(|error| (seed, error)));
        let (seed, error) = found.unwrap_or_else(|| panic!("{planted:?} was not found"));
        std::println!("{planted:?}: seed {seed}: {error}");
    }
}

fn id(increment: u64) -> CheckpointId {
    CheckpointId {
        generation: 1,
        increment,
    }
}

fn place(shadow: &Shadow, increment: u64) -> Place {
    let mut place = Place::default();
    let base = increment - 1;
    shadow.begin(id(increment), Kind::Incremental { base }, true, &mut place);
    place
}

#[test]
fn a_page_is_sent_whole_once_and_then_as_a_difference() {
    HostMachine::install();
    let memory = HostMemory::new(8);
    let shadow = Shadow::new(memory, PLACES);
    let mut body = vec![0; PAGE_LEN];
    assert_eq!(
        shadow.send(&place(&shadow, 1), START, &contents(&[1, 0, 0]), &mut body),
        None
    );
    assert_eq!(
        shadow.send(&place(&shadow, 2), START, &contents(&[2, 0, 0]), &mut body),
        Some(12)
    );
    assert_eq!(body[..12], [0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        shadow.send(&place(&shadow, 3), START, &contents(&[2, 0, 0]), &mut body),
        Some(0)
    );
    // Another page of other contents: too different, and then the same.
    assert_eq!(
        shadow.send(&place(&shadow, 4), START, &[9; PAGE_LEN], &mut body),
        None
    );
    assert_eq!(
        shadow.send(&place(&shadow, 5), START, &[9; PAGE_LEN], &mut body),
        Some(0)
    );
}

#[test]
fn frames_are_bounded_and_given_back() {
    HostMachine::install();
    let memory = HostMemory::new(64);
    let before = memory.frames();
    let shadow = Shadow::new(memory, PLACES);
    let mut body = vec![0; PAGE_LEN];
    let first = place(&shadow, 1);
    for page in 0..200 {
        shadow.send(&first, START + page * PAGE_LEN, &contents(&[1, 2, 3]), &mut body);
    }
    assert_eq!(before - memory.frames(), PLACES);
    shadow.give_back();
    assert_eq!(memory.frames(), before);
    // Without frames there is no entry, and without pages no shadow.
    memory.set_frames(0);
    let second = place(&shadow, 2);
    shadow.send(&second, START, &contents(&[1, 2, 3]), &mut body);
    assert_eq!(
        shadow.send(&place(&shadow, 3), START, &contents(&[1, 2, 3]), &mut body),
        None
    );
    memory.set_frames(before);
    let off = Shadow::new(memory, 0);
    off.send(&place(&off, 1), START, &contents(&[1, 2, 3]), &mut body);
    assert_eq!(
        off.send(&place(&off, 2), START, &contents(&[1, 2, 3]), &mut body),
        None
    );
}

#[test]
fn what_was_not_sent_for_long_makes_room() {
    HostMachine::install();
    let memory = HostMemory::new(64);
    let shadow = Shadow::new(memory, WAYS);
    let mut body = vec![0; PAGE_LEN];
    let send = |increment, page: usize, body: &mut [u8]| {
        shadow.send(
            &place(&shadow, increment),
            START + page * PAGE_LEN,
            &contents(&[7; 3]),
            body,
        )
    };
    for page in 0..WAYS {
        assert_eq!(send(1, page, &mut body), None);
    }
    // No place is free, and none is stale.
    assert_eq!(send(2, 100, &mut body), None);
    assert_eq!(send(3, 100, &mut body), None);
    assert_eq!(send(3, 0, &mut body), Some(0));
    assert_eq!(send(10, 100, &mut body), None);
    assert_eq!(send(11, 100, &mut body), Some(0));
    assert_eq!(send(11, 0, &mut body), Some(0));
    assert_eq!(send(11, 1, &mut body), None);
}

//! A spare takes checkpoints in, sound and damaged, whole and cut off, in some order, with frames enough or not. Its window is
//! always what the applied ones make of it, as a model of a few lines says; and what comes of a takeover never panics.
#![no_main]

use std::collections::BTreeMap;
use std::sync::OnceLock;

use allocator_api2::boxed::Box;
use hs_core::checkpoint::{CheckpointId, Kind};
use hs_core::class::{Class, ClassId};
use hs_core::format::{Content, Decoder, Header, Item, Limits, Tables};
use hs_core::host::{HostMachine, HostMemory};
use hs_core::image::{Image, ImageConfig, ImageError, Progress};
use hs_core::platform::{CheckpointMemory, Cptctl, PAGE_LEN, PageRange};
use hs_core::registry::descriptor::{self, Descriptor, DescriptorKind};
use hs_core::registry::signal::{self, SignalAction};
use hs_core::registry::thread::{self, Worker};
use hs_core::restore::restore;
use hs_core::role::Term;
use hs_core_fuzz::{Choices, Page, damage, encode, mend, page};
use libfuzzer_sys::fuzz_target;

const WINDOW_PAGES: usize = 64;
const FRAMES: usize = 4 * WINDOW_PAGES;
const STREAMS: usize = 4;
const APPLICATION: u64 = 7;

type Pages = BTreeMap<usize, Page>;

/// A memory, and a library's state that lay in it once.
struct Stage {
    memory: &'static HostMemory,
    pages: Pages,
    areas: Vec<PageRange>,
    workers: Vec<Worker>,
    descriptors: Vec<Descriptor>,
    signals: Vec<SignalAction>,
}

fn worker(_: usize) {}

/// Made once: a memory of the host is never given back.
fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        HostMachine::install();
        let memory = HostMemory::new(WINDOW_PAGES);
        hs_core::start(memory).expect("the library starts on fresh memory");
        let class = Class::create(ClassId(1), 2 * PAGE_LEN).expect("a small class");
        // Something in it, so that its lists are not empty.
        core::mem::forget(Box::new_in([1_u8; 100], class));
        thread::register(worker, 5).expect("a first worker");
        let local = "10.77.0.10:6379".parse().expect("an address");
        let kind = DescriptorKind::TcpListener { local, backlog: 16 };
        descriptor::register(Descriptor { number: 3, kind }).expect("a first descriptor");
        let mut areas = [PageRange::new(0, 1).expect("a valid range"); 16];
        let count = memory.cptctl(Cptctl::Installed(&mut areas)).expect("a query");
        Stage {
            memory,
            pages: contents(memory),
            areas: areas[..count].to_vec(),
            workers: thread::workers(),
            descriptors: descriptor::descriptors(),
            signals: signal::actions(),
        }
    })
}

fn contents(memory: &HostMemory) -> Pages {
    memory
        .pages()
        .into_iter()
        .map(|(address, page)| (address, *page))
        .collect()
}

/// What a spare should hold.
#[derive(Default)]
struct Model {
    /// With its term: that of a damaged one may be a later one than the others'.
    newest: Option<(Term, CheckpointId)>,
    areas: Vec<PageRange>,
    pages: Pages,
}

impl Model {
    /// Applies a checkpoint that the image says it has applied.
    fn apply(&mut self, id: CheckpointId, bytes: &[u8], window: PageRange) {
        let term = Header::peek(bytes).expect("an applied checkpoint is sound").term;
        if self.newest >= Some((term, id)) {
            return;
        }
        let mut decoder = Decoder::new(limits(window));
        let mut rest = bytes;
        let mut pages = Pages::new();
        while let Some(item) = decoder.next(&mut rest).expect("an applied checkpoint is sound") {
            match item {
                Item::Areas(areas) => {
                    let kept = |address: &usize| {
                        let area = self.areas.iter().find(|area| area.contains(*address));
                        area.is_some_and(|area| areas.contains(area))
                    };
                    for address in areas.iter().flat_map(|area| area.iter_pages()) {
                        let had = self.pages.get(&address).filter(|_| kept(&address));
                        pages.insert(address, had.copied().unwrap_or([0; PAGE_LEN]));
                    }
                    self.areas = areas;
                }
                Item::Run(range, Content::Zero) => {
                    pages.extend(range.iter_pages().map(|address| (address, [0; PAGE_LEN])));
                }
                Item::Difference { page, difference } => {
                    difference.apply(pages.get_mut(&page).expect("a page of an area"));
                }
                Item::Bytes { page, offset, bytes } => {
                    let page = pages.get_mut(&page).expect("a page of an area");
                    page[offset..offset + bytes.len()].copy_from_slice(bytes);
                }
                _ => {}
            }
        }
        self.pages = pages;
        self.newest = Some((term, id));
    }
}

fn limits(window: PageRange) -> Limits {
    Limits {
        window,
        threads: 64,
        descriptors: 64,
        signals: 5,
        areas: 1024,
        pages: WINDOW_PAGES as u64,
    }
}

/// A checkpoint that fits on the newest one or on an earlier one, as the choices say, and perhaps damaged.
fn next(
    stage: &Stage,
    model: &Model,
    last: CheckpointId,
    choices: &mut Choices<'_>,
) -> (CheckpointId, Vec<u8>) {
    let window = stage.memory.window();
    let full = last.generation == 0 || choices.of(6) == 0;
    let id = if full {
        CheckpointId {
            generation: last.generation + 1,
            increment: 0,
        }
    } else {
        CheckpointId {
            increment: last.increment + 1,
            ..last
        }
    };
    let mut areas = if choices.of(4) > 0 {
        model.areas.clone()
    } else {
        stage.areas.clone()
    };
    if areas.is_empty() {
        areas.clone_from(&stage.areas);
    }
    match choices.of(8) {
        0 => drop(areas.pop()),
        1 => {
            let end = areas.last().map_or(window.start(), |area| area.end()) + choices.of(3) * PAGE_LEN;
            let more = PageRange::new(end, 1 + choices.of(5)).filter(|more| window.encloses(*more));
            areas.extend(more);
        }
        _ => {}
    }
    let mut pages = Vec::new();
    for address in areas.iter().flat_map(|area| area.iter_pages()) {
        if !full && choices.of(3) > 0 {
            continue;
        }
        let had = model.pages.get(&address);
        let mut contents = match (choices.of(4), had, stage.pages.get(&address)) {
            (0 | 1, Some(had), _) => *had,
            (0..=2, _, Some(library)) => *library,
            _ => page(choices.byte()),
        };
        for _ in 0..choices.of(3) {
            let (at, byte) = (choices.wide() % PAGE_LEN, choices.byte());
            contents[at] = byte;
        }
        pages.push((address, contents));
    }
    let registered = choices.of(5) > 0;
    let (workers, descriptors, signals) = match registered {
        true => (&stage.workers[..], &stage.descriptors[..], &stage.signals[..]),
        false => Default::default(),
    };
    let header = Header {
        build_id: HostMachine::BUILD_ID,
        application: APPLICATION,
        term: Term::FIRST,
        id,
        kind: if full {
            Kind::Full
        } else {
            Kind::Incremental {
                base: last
                    .increment
                    .saturating_sub(choices.of(3).saturating_sub(1) as u64),
            }
        },
        window_start: window.start() as u64,
        window_pages: window.pages() as u64,
        threads: workers.len() as u32,
        descriptors: descriptors.len() as u32,
        signals: signals.len() as u32,
        areas: areas.len() as u32,
        pages: pages.len() as u64,
    };
    let tables = Tables {
        threads: workers,
        descriptors,
        signals,
        areas: &areas,
    };
    // A difference to what is not there now and then.
    let old = |address: usize| (!full).then(|| model.pages.get(&address).copied().unwrap_or([1; PAGE_LEN]));
    let mut bytes = encode(&header, &tables, &pages, old, choices);
    if choices.of(3) == 0 {
        damage(&mut bytes, choices);
    }
    if choices.of(8) > 0 {
        mend(&mut bytes);
    }
    (id, bytes)
}

fuzz_target!(|input: &[u8]| {
    let stage = stage();
    let (memory, window) = (stage.memory, stage.memory.window());
    memory.reset();
    memory.set_frames(FRAMES);
    let mut image = Image::new(
        memory,
        ImageConfig {
            build_id: HostMachine::BUILD_ID,
            application: APPLICATION,
            term: Term::FIRST,
            streams: STREAMS,
        },
    );
    let mut choices = Choices(input);
    let mut model = Model::default();
    let mut last = CheckpointId {
        generation: 0,
        increment: 0,
    };
    // Those that are on their way, and how much of each was fed.
    let mut sent: BTreeMap<CheckpointId, (Vec<u8>, usize)> = BTreeMap::new();
    for _ in 0..24 {
        if choices.is_used_up() {
            break;
        }
        if sent.is_empty() || choices.of(3) == 0 {
            let (id, bytes) = next(stage, &model, last, &mut choices);
            if image.begin(id).is_ok() {
                sent.insert(id, (bytes, 0));
                last = id;
            }
            continue;
        }
        let index = choices.of(sent.len());
        let Some((id, (bytes, fed))) = sent.iter().nth(index).map(|(id, stream)| (*id, stream.clone()))
        else {
            continue;
        };
        if choices.of(12) == 0 {
            image.abandon(id);
            sent.remove(&id);
            continue;
        }
        let end = if choices.flip() {
            bytes.len()
        } else {
            (fed + choices.wide()).min(bytes.len())
        };
        // Scarce now and then; what is in use is not counted.
        let plenty = choices.of(5) > 0;
        let frames = memory.frames();
        if !plenty {
            memory.set_frames(choices.of(12));
        }
        let lent = frames as isize - memory.frames() as isize;
        let outcome = image.feed(id, &bytes[fed..end]);
        memory.set_frames((memory.frames() as isize + lent) as usize);
        sent.entry(id).and_modify(|stream| stream.1 = end);
        match outcome {
            Ok(Progress::More) => {}
            Ok(Progress::Complete { acknowledge, refused }) => {
                for (refused, error) in refused {
                    sent.remove(&refused);
                    note_broken(&mut model, error);
                }
                for applied in acknowledge {
                    let (bytes, _) = sent.remove(&applied).expect("it was sent");
                    model.apply(applied, &bytes, window);
                }
            }
            Err(error) => {
                sent.remove(&id);
                note_broken(&mut model, error);
            }
        }
        assert_eq!(image.newest(), model.newest.map(|(_, id)| id));
        assert!(
            contents(memory) == model.pages,
            "the window is not what was applied"
        );
    }
    drop(sent);
    image.abandon_all();
    let used = model.pages.len();
    assert_eq!(memory.frames() + used, FRAMES, "frames were lost");
    if let Ok(restored) = restore(image) {
        assert_eq!(Some((restored.term, restored.id)), model.newest);
        for worker in &restored.workers {
            let _ = worker.run();
        }
    }
});

/// What is left of a window where a checkpoint broke off.
fn note_broken(model: &mut Model, error: ImageError) {
    if matches!(error, ImageError::Broken(_)) {
        *model = Model::default();
    }
}

//! The Hot Spare library on the real window: classes, and a checkpoint's whole life on one machine.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use allocator_api2::alloc::{Allocator, Layout};
use allocator_api2::vec::Vec as ClassVec;
use hs_core::checkpoint::{
    CheckpointId, CheckpointPipe, Checkpointer, CheckpointerConfig, Compression, Flags, Kind, PipeError,
    PipeWriter,
};
use hs_core::class::{Class, ClassId};
use hs_core::image::{Image, ImageConfig, Progress};
use hs_core::platform::{CheckpointMemory, Cptctl, Machine, Outcome, PageRange, View};
use hs_core::policy::Choice;
use hs_core::role::Term;
use hs_core::roots::{self, RootId};
use hs_core::sync::{Mutex, Signal};

use crate::checkpoints::{Flag, fork};
use crate::memory::window_pages;
use crate::random::Random;
use crate::{Context, Verdict, check};

const APPLICATION: u64 = u64::from_be_bytes(*b"hs-ktest");

/// Unmaps all of the window that is installed, so that the library can start anew.
pub(crate) fn clear_window(context: &Context) -> Result<(), String> {
    // First: the signal thread may be about to look.
    hs_core::stop();
    let mut ranges = alloc::vec![window_pages(0, 1); 512];
    let count = context
        .guest
        .cptctl(Cptctl::Installed(&mut ranges))
        .map_err(|error| format!("{error}"))?;
    let ranges: Vec<PageRange> = ranges[..count].to_vec();
    context
        .guest
        .cptctl(Cptctl::PurgeAll)
        .map_err(|error| format!("purge: {error}"))?;
    ranges
        .iter()
        .try_for_each(|range| context.guest.unmap(*range))
        .map_err(|error| format!("unmap: {error}"))
}

/// A class against a model that remembers what each block holds, while checkpoints freeze its pages.
pub(crate) fn class(context: &Context) -> Verdict {
    let mut random = Random::new(context.seed);
    hs_core::start(context.guest).map_err(|error| format!("start: {error}"))?;
    let class = Class::create(ClassId(1), 64 << 10).map_err(|error| format!("create: {error}"))?;
    let mut blocks: Vec<(*mut u8, Layout, u8)> = Vec::new();
    let mut checkpoints = 0;
    let mut children = Vec::new();
    let go = Flag::new();
    go.set(context.guest);
    for step in 0..20_000_usize {
        if blocks.len() < 300 && !random.once_in(3) {
            let bound = if random.once_in(40) { 40_000 } else { 700 };
            let layout = Layout::from_size_align(1 + random.below(bound), 1 << random.below(7))
                .map_err(|error| format!("{error}"))?;
            let block = class
                .allocate(layout)
                .map_err(|_| "the class has no memory left")?;
            let fill = step as u8;
            let address = block.cast::<u8>().as_ptr();
            check!(
                (address as usize).is_multiple_of(layout.align()),
                "a block of {layout:?} at {address:p} is not aligned"
            );
            // SAFETY: a block of that length, ours.
            unsafe { address.write_bytes(fill, layout.size()) };
            blocks.push((address, layout, fill));
        } else if !blocks.is_empty() {
            let (address, layout, fill) = blocks.swap_remove(random.below(blocks.len()));
            // SAFETY: as above.
            let bytes = unsafe { core::slice::from_raw_parts(address, layout.size()) };
            check!(
                bytes.iter().all(|byte| *byte == fill),
                "a block of {layout:?} was overwritten"
            );
            if let Some(block) = core::ptr::NonNull::new(address) {
                // SAFETY: allocated from this class with this layout.
                unsafe { class.deallocate(block, layout) };
            }
        }
        if random.once_in(200) {
            if children.len() == 4 {
                let oldest: Flag = children.remove(0);
                check!(oldest.wait(context.guest), "a child did not come to its end");
            }
            let child = fork(context, View::Whole, &go, |_| Outcome::Kept);
            children.push(child.map_err(|error| format!("cptfork: {error}"))?);
            checkpoints += 1;
        }
    }
    for child in children {
        check!(child.wait(context.guest), "a child did not come to its end");
    }
    let statistics = class.statistics();
    check!(
        statistics.blocks == blocks.len(),
        "{} blocks are counted, {} in use",
        statistics.blocks,
        blocks.len()
    );
    clear_window(context)?;
    Ok(format!(
        "{} bytes in {} areas, {checkpoints} checkpoints",
        statistics.total_bytes, statistics.areas
    ))
}

/// A pipe into a buffer.
struct Tape {
    bytes: Mutex<Vec<u8>>,
}

struct TapeWriter(&'static Tape);

impl CheckpointPipe for Tape {
    fn open(&self, _: CheckpointId, _: Kind) -> Result<Box<dyn PipeWriter>, PipeError> {
        self.bytes.lock().clear();
        Ok(Box::new(TapeWriter(&TAPE)))
    }

    fn cancel(&self, _: CheckpointId) {}
}

impl PipeWriter for TapeWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), PipeError> {
        self.0.bytes.lock().extend_from_slice(bytes);
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), PipeError> {
        Ok(())
    }
}

static TAPE: Tape = Tape {
    bytes: Mutex::new(Vec::new()),
};
static ENDED: Signal = Signal::new();

/// Numbers in a class, and a checkpointer of them onto a tape.
pub(crate) struct Scene {
    pub(crate) checkpointer: Checkpointer,
    pub(crate) numbers: ClassVec<u64, Class>,
}

impl Scene {
    pub(crate) fn new(context: &Context, numbers_len: usize) -> Result<Scene, String> {
        hs_core::start(context.guest).map_err(|error| format!("start: {error}"))?;
        let class = Class::create(ClassId(7), numbers_len * 8).map_err(|error| format!("create: {error}"))?;
        let mut numbers = ClassVec::new_in(class);
        let mut random = Random::new(context.seed);
        numbers.extend((0..numbers_len).map(|_| random.next()));
        roots::set(RootId::APPLICATION, numbers.as_ptr() as usize).map_err(|error| format!("{error}"))?;
        let config = CheckpointerConfig {
            application: APPLICATION,
            term: Term::FIRST,
            ncon: 2,
            choice: Choice::Auto,
            shadow_pages: 256,
            compression: Compression::None,
            ended: &ENDED,
        };
        let checkpointer = Checkpointer::new(context.guest, &TAPE, config);
        checkpointer.spare_joined();
        Ok(Scene {
            checkpointer,
            numbers,
        })
    }

    /// Takes a checkpoint and waits until it is on the tape.
    pub(crate) fn checkpoint(&self, flags: Flags) -> Result<(CheckpointId, Vec<u8>), String> {
        Ok((self.checkpoint_only(flags)?, self.tape()))
    }

    /// As [`checkpoint`](Self::checkpoint), and leaves it there.
    pub(crate) fn checkpoint_only(&self, flags: Flags) -> Result<CheckpointId, String> {
        let taken = self.checkpointer.checkpoint(flags, || ());
        taken.map_err(|error| format!("checkpoint: {error}"))
    }

    /// Takes the newest checkpoint off the tape.
    pub(crate) fn tape(&self) -> Vec<u8> {
        core::mem::take(&mut *TAPE.bytes.lock())
    }
}

pub(crate) fn image(context: &Context) -> Image {
    let guest = context.guest;
    let config = ImageConfig {
        build_id: guest.build_id(),
        application: APPLICATION,
        term: Term::FIRST,
        streams: 2,
    };
    Image::new(guest, config)
}

/// Feeds a checkpoint in pieces; whether it was taken whole.
pub(crate) fn feed(image: &mut Image, id: CheckpointId, bytes: &[u8]) -> Result<bool, String> {
    image.begin(id).map_err(|error| format!("begin: {error}"))?;
    let mut whole = false;
    for piece in bytes.chunks(1_400) {
        match image.feed(id, piece) {
            Ok(Progress::More) => {}
            Ok(Progress::Complete { .. }) => whole = true,
            Err(error) => return Err(format!("{error}")),
        }
    }
    if !whole {
        image.abandon(id);
    }
    Ok(whole)
}

/// A checkpoint of the real window, damaged in every kind of place, is refused each time and leaves the window as it was.
pub(crate) fn damaged_checkpoint(context: &Context) -> Verdict {
    let scene = Scene::new(context, 2_000)?;
    let (id, tape) = scene.checkpoint(Flags::empty())?;
    drop(scene);
    clear_window(context)?;
    let frames_before = kernel::mem::frames::available();
    let mut random = Random::new(context.seed);
    let mut image = image(context);
    // Every bit of the first bytes, where the headers are, then anywhere.
    let places = (0..256 * 8).chain((0..300).map(|_| random.below(tape.len() * 8)));
    let mut refused = 0;
    let mut damaged = tape.clone();
    for bit in places.collect::<Vec<_>>() {
        damaged[bit / 8] ^= 1 << (bit % 8);
        match feed(&mut image, id, &damaged) {
            Ok(false) | Err(_) => refused += 1,
            Ok(true) => return Err(format!("with bit {bit} flipped it was taken")),
        }
        damaged[bit / 8] ^= 1 << (bit % 8);
        check!(image.newest().is_none(), "a damaged checkpoint was applied");
    }
    for _ in 0..100 {
        let len = random.below(tape.len());
        check!(
            feed(&mut image, id, &tape[..len]) == Ok(false),
            "cut off at {len} bytes it was taken"
        );
    }
    let mut ranges = [window_pages(0, 1)];
    check!(
        context.guest.cptctl(Cptctl::Installed(&mut ranges)) == Ok(0),
        "a damaged checkpoint installed ranges"
    );
    check!(
        feed(&mut image, id, &tape) == Ok(true),
        "the undamaged one was refused"
    );
    hs_core::restore::restore(image).map_err(|error| format!("restore: {error}"))?;
    hs_core::signal::resume();
    clear_window(context)?;
    let frames_after = kernel::mem::frames::available();
    check!(
        frames_after + 8 >= frames_before,
        "{} frames are missing",
        frames_before - frames_after
    );
    Ok(format!(
        "{refused} damaged checkpoints of {} bytes refused",
        tape.len()
    ))
}

/// Full and incremental checkpoints, then the memory is gone, then it is back at the same addresses.
pub(crate) fn restore(context: &Context) -> Verdict {
    let mut scene = Scene::new(context, 20_000)?;
    let mut random = Random::new(context.seed);
    let mut tapes = alloc::vec![scene.checkpoint(Flags::empty())?];
    for _ in 0..20 {
        for _ in 0..50 {
            let index = random.below(scene.numbers.len());
            scene.numbers[index] = random.next();
        }
        tapes.push(scene.checkpoint(Flags::INCREMENTAL)?);
    }
    let increment_bytes = tapes[1..].iter().map(|(_, tape)| tape.len()).sum::<usize>() / (tapes.len() - 1);
    let full_bytes = tapes[0].1.len();
    let expected: Vec<u64> = scene.numbers.iter().copied().collect();
    // What comes after the last checkpoint is lost.
    scene.numbers[0] = !scene.numbers[0];
    core::mem::forget(scene.numbers);
    clear_window(context)?;
    let mut image = image(context);
    for (id, tape) in &tapes {
        check!(feed(&mut image, *id, tape)?, "checkpoint {id} is not whole");
        check!(image.newest() == Some(*id), "checkpoint {id} was not applied");
    }
    let restored = hs_core::restore::restore(image).map_err(|error| format!("restore: {error}"))?;
    hs_core::signal::resume();
    check!(
        restored.id == tapes[tapes.len() - 1].0,
        "restored {}",
        restored.id
    );
    let address = roots::get(RootId::APPLICATION).ok_or("the root is gone")?;
    // SAFETY: the root of the restored state: that many numbers, which nothing changes now.
    let numbers = unsafe {
        core::slice::from_raw_parts(core::ptr::with_exposed_provenance::<u64>(address), expected.len())
    };
    check!(
        numbers == expected.as_slice(),
        "the restored memory is not what was checkpointed"
    );
    let class = Class::find(ClassId(7)).ok_or("the class is gone")?;
    let block = class
        .allocate(Layout::new::<[u8; 1_000]>())
        .map_err(|_| "the restored class gives no memory")?;
    // SAFETY: allocated just now.
    unsafe { class.deallocate(block.cast(), Layout::new::<[u8; 1_000]>()) };
    clear_window(context)?;
    Ok(format!(
        "full {full_bytes} bytes, increments {increment_bytes} bytes on average"
    ))
}

/// A variable that is checkpointed, with an initial value.
#[unsafe(link_section = ".ldata.ktest")]
static COUNTER: AtomicU64 = AtomicU64::new(7);
/// As a C library's: in the section of its zeros, and longer than a page.
#[unsafe(link_section = ".lbss.ktest")]
static TABLE: [AtomicU64; 1_000] = [const { AtomicU64::new(0) }; 1_000];

/// Reads the first of them.
pub(crate) fn counter() -> u64 {
    COUNTER.load(Ordering::Relaxed)
}

/// Checkpointed variables have their initial values when the library starts, and come back with a checkpoint.
pub(crate) fn statics(context: &Context) -> Verdict {
    let scene = Scene::new(context, 100)?;
    check!(
        COUNTER.load(Ordering::Relaxed) == 7,
        "the initial value was not loaded"
    );
    check!(
        TABLE.iter().all(|word| word.load(Ordering::Relaxed) == 0),
        "the zeros were not"
    );
    let mut tapes = alloc::vec![scene.checkpoint(Flags::empty())?];
    COUNTER.store(8, Ordering::Relaxed);
    TABLE[0].store(1, Ordering::Relaxed);
    TABLE[999].store(2, Ordering::Relaxed);
    tapes.push(scene.checkpoint(Flags::INCREMENTAL)?);
    // What comes after the last checkpoint is lost.
    COUNTER.store(9, Ordering::Relaxed);
    TABLE[500].store(3, Ordering::Relaxed);
    core::mem::forget(scene.numbers);
    clear_window(context)?;
    let mut image = image(context);
    for (id, tape) in &tapes {
        check!(feed(&mut image, *id, tape)?, "checkpoint {id} is not whole");
    }
    hs_core::restore::restore(image).map_err(|error| format!("restore: {error}"))?;
    let found = COUNTER.load(Ordering::Relaxed);
    check!(found == 8, "the counter is {found} and not 8");
    for (index, word) in TABLE.iter().enumerate() {
        let (found, expected) = (
            word.load(Ordering::Relaxed),
            match index {
                0 => 1,
                999 => 2,
                _ => 0,
            },
        );
        check!(found == expected, "word {index} is {found} and not {expected}");
    }
    let pages = context.guest.statics().map_or(0, |statics| statics.range.pages());
    clear_window(context)?;
    hs_core::start(context.guest).map_err(|error| format!("start: {error}"))?;
    check!(
        COUNTER.load(Ordering::Relaxed) == 7,
        "a second start did not load the initial value"
    );
    clear_window(context)?;
    Ok(format!("{pages} pages of variables"))
}

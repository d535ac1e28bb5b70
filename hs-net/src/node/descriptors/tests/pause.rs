//! Seeks and reads against checkpoints: what a checkpoint's records say agrees with the memory that is in it.

use std::boxed::Box;
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Instant;

use allocator_api2::boxed::Box as ClassBox;
use hs_core::checkpoint::{
    CheckpointId, CheckpointPipe, Checkpointer, CheckpointerConfig, Compression, Flags, Kind, PipeError,
    PipeWriter,
};
use hs_core::class::{Class, ClassId};
use hs_core::host::HostMemory;
use hs_core::image::{Image, ImageConfig};
use hs_core::platform::{FileHandle, Files};
use hs_core::restore::restore;
use hs_core::role::Term;

use super::*;
use crate::sim::Random;

const FILES: usize = 3;
const LEN_BYTES: u64 = 1000;

/// What was taken, each as a spare would get it.
static TAKEN: Mutex<BTreeMap<CheckpointId, Vec<u8>>> = Mutex::new(BTreeMap::new());
pub(super) static ENDED: Signal = Signal::new();

fn taken() -> MutexGuard<'static, BTreeMap<CheckpointId, Vec<u8>>> {
    TAKEN.lock().unwrap()
}

/// A spare that keeps everything.
struct Keeping;

struct Kept(CheckpointId, Vec<u8>);

impl CheckpointPipe for Keeping {
    fn open(&self, id: CheckpointId, _: Kind) -> Result<Box<dyn PipeWriter>, PipeError> {
        Ok(Box::new(Kept(id, Vec::new())))
    }

    fn cancel(&self, _: CheckpointId) {}
}

impl PipeWriter for Kept {
    fn write(&mut self, bytes: &[u8]) -> Result<(), PipeError> {
        self.1.extend_from_slice(bytes);
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), PipeError> {
        taken().insert(self.0, self.1);
        Ok(())
    }
}

pub(super) fn begin_checkpoints(node: &'static Node, memory: &'static HostMemory) {
    taken().clear();
    let config = CheckpointerConfig {
        application: 7,
        term: Term::FIRST,
        ncon: 4,
        choice: Choice::Incremental,
        shadow_pages: 64,
        compression: Compression::None,
        ended: &ENDED,
    };
    let checkpointer = Checkpointer::new(memory, &Keeping, config);
    checkpointer.spare_joined();
    node.checkpointer.call_once(|| checkpointer);
}

/// Takes one that its spare has when this returns.
fn checkpoint(node: &Node) {
    node.checkpoint(Flags::INCREMENTAL).unwrap();
}

/// What a spare finds after so many checkpoints: the recorded offsets, and the words in the memory at `words`.
fn restored(
    memory: &'static HostMemory,
    checkpoints: &[(CheckpointId, Vec<u8>)],
    words: usize,
) -> [[u64; FILES]; 2] {
    memory.reset();
    let mut image = Image::new(
        memory,
        ImageConfig {
            build_id: HostMachine::BUILD_ID,
            application: 7,
            term: Term::FIRST,
            streams: 8,
        },
    );
    for (id, bytes) in checkpoints {
        image.begin(*id).unwrap();
        image.feed(*id, bytes).unwrap();
    }
    let restored = restore(image).unwrap();
    let mut recorded = [0; FILES];
    for descriptor in restored.descriptors {
        let DescriptorKind::File { offset, .. } = descriptor.kind else {
            panic!("{descriptor:?}");
        };
        recorded[(descriptor.number - FIRST_NUMBER) as usize] = offset;
    }
    let pages = memory.pages();
    let noted = core::array::from_fn(|index| {
        let address = words + 8 * index;
        let (start, page) = pages
            .iter()
            .find(|(start, page)| (*start..*start + page.len()).contains(&address))
            .expect("the words' page is in the checkpoint");
        u64::from_le_bytes(page[address - start..][..8].try_into().unwrap())
    });
    [recorded, noted]
}

/// Some files, registered, and words that note their offsets, in checkpointable memory.
fn noted(session: &Session) -> (Descriptors, &'static mut [u64; FILES], usize) {
    let table = serving(session);
    begin_checkpoints(table.node, session.memory());
    let class = Class::create(ClassId(1), 4096).unwrap();
    let words: &'static mut [u64; FILES] = ClassBox::leak(ClassBox::new_in([0; FILES], class));
    for index in 0..FILES {
        let number = table.open(&std::format!("F{index}"), RW).unwrap();
        table.truncate(number, LEN_BYTES).unwrap();
        table.register_file(number).unwrap();
    }
    let address = words.as_ptr().addr();
    (table, words, address)
}

/// What the application's lock guards.
struct State {
    words: &'static mut [u64; FILES],
    /// How many seeks and reads there were since the last checkpoint.
    done: usize,
    over: bool,
}

/// Threads that seek and read under the application's lock, against a thread that takes checkpoints under it: the children
/// encode while the offsets go on. Each checkpoint, restored on its own, has the offsets that its memory notes.
#[test]
fn offsets_agree_with_the_memory_of_the_same_checkpoint() {
    const CHECKPOINTS: usize = 40;
    for seed in 0..3 {
        let session = Session::start(64);
        let _disk = Disk::new();
        let (table, words, address) = noted(&session);
        let state = Mutex::new(State {
            words,
            done: 0,
            over: false,
        });
        let worked = Condvar::new();
        thread::scope(|scope| {
            for thread in 0..3 {
                let (state, worked) = (&state, &worked);
                scope.spawn(move || {
                    let mut random = Random(seed << 8 | thread);
                    loop {
                        let mut state = state.lock().unwrap();
                        if state.over {
                            return;
                        }
                        state.done += 1;
                        worked.notify_all();
                        let index = random.below(FILES as u64) as usize;
                        let number = FIRST_NUMBER + index as u32;
                        if random.chance(500) {
                            let to = Seek::Set(random.below(LEN_BYTES));
                            state.words[index] = table.seek(number, to).unwrap();
                        } else {
                            let mut bytes = [0; 64];
                            state.words[index] += table.read(number, &mut bytes).unwrap() as u64;
                        }
                    }
                });
            }
            for _ in 0..CHECKPOINTS {
                let checkpointer = table.node.checkpointer.get().unwrap();
                loop {
                    let seen = ENDED.seen();
                    if checkpointer.free_slots() > 0 {
                        break;
                    }
                    ENDED.wait(seen, None);
                }
                let idle = |state: &mut State| state.done < 5;
                let mut whole = worked.wait_while(state.lock().unwrap(), idle).unwrap();
                whole.done = 0;
                let _ = table.node.checkpoint(Flags::INCREMENTAL | Flags::ASYNC);
            }
            let mut state = state.lock().unwrap();
            state.over = true;
            drop(state);
            // Children end in any order.
            loop {
                let seen = ENDED.seen();
                if table.node.status().in_flight == 0 {
                    break;
                }
                ENDED.wait(seen, None);
            }
        });
        let checkpoints: Vec<_> = core::mem::take(&mut *taken()).into_iter().collect();
        assert!(checkpoints.len() > 10, "{} checkpoints", checkpoints.len());
        let mut different = 0;
        let mut last = [0; FILES];
        for count in 1..=checkpoints.len() {
            let [recorded, noted] = restored(session.memory(), &checkpoints[..count], address);
            assert_eq!(recorded, noted, "seed {seed}, after {count} checkpoints");
            different += usize::from(recorded != last);
            last = recorded;
        }
        assert!(
            different > checkpoints.len() / 2,
            "the offsets have moved between checkpoints"
        );
    }
}

/// The same comparison finds an application that notes its offsets too late.
#[test]
fn a_note_that_comes_after_the_checkpoint_is_found() {
    let session = Session::start(64);
    let _disk = Disk::new();
    let (table, words, address) = noted(&session);
    words[0] = table.seek(3, Seek::Set(10)).unwrap();
    checkpoint(table.node);
    let late = table.seek(3, Seek::Set(20)).unwrap();
    checkpoint(table.node);
    words[0] = late;
    let checkpoints: Vec<_> = core::mem::take(&mut *taken()).into_iter().collect();
    let agree = |count| {
        let [recorded, noted] = restored(session.memory(), &checkpoints[..count], address);
        recorded == noted
    };
    assert!(agree(1));
    assert!(!agree(2));
}

/// Files whose reads wait until they are let go.
struct Slow {
    files: HostFiles,
    reads: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Files for Slow {
    fn mount(&self) -> Result<(), FileError> {
        self.files.mount()
    }

    fn open(&self, path: &FilePath, mode: FileMode) -> Result<FileHandle, FileError> {
        self.files.open(path, mode)
    }

    fn exists(&self, path: &FilePath) -> Result<bool, FileError> {
        self.files.exists(path)
    }

    fn close(&self, file: FileHandle) -> Result<(), FileError> {
        self.files.close(file)
    }

    fn read_at(&self, file: FileHandle, offset: u64, into: &mut [u8]) -> Result<usize, FileError> {
        let mut reads = self.reads.lock().unwrap();
        reads.0 += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(reads, |(_, free)| !*free).unwrap());
        self.files.read_at(file, offset, into)
    }

    fn write_at(&self, file: FileHandle, offset: u64, bytes: &[u8]) -> Result<(), FileError> {
        self.files.write_at(file, offset, bytes)
    }

    fn len_bytes(&self, file: FileHandle) -> Result<u64, FileError> {
        self.files.len_bytes(file)
    }

    fn truncate(&self, file: FileHandle, len_bytes: u64) -> Result<(), FileError> {
        self.files.truncate(file, len_bytes)
    }

    fn sync(&self, file: FileHandle) -> Result<(), FileError> {
        self.files.sync(file)
    }

    fn remove(&self, path: &FilePath) -> Result<(), FileError> {
        self.files.remove(path)
    }
}

/// No pause waits for a disk, and what a call has not returned has not happened. Other calls on that file wait: they find
/// it done.
#[test]
fn a_checkpoint_during_a_read_has_the_offset_before_it() {
    let session = Session::start(64);
    let disk = Disk::new();
    let slow: &'static Slow = Box::leak(Box::new(Slow {
        files: HostFiles::new(disk.directory.clone()),
        reads: Mutex::default(),
        changed: Condvar::new(),
    }));
    HostMachine::install().set_files(Some(slow));
    let (table, words, address) = noted(&session);
    words[0] = table.seek(3, Seek::Set(10)).unwrap();
    thread::scope(|scope| {
        let read = scope.spawn(move || {
            let mut bytes = [0; 64];
            table.read(3, &mut bytes).unwrap()
        });
        let reads = slow.reads.lock().unwrap();
        drop(slow.changed.wait_while(reads, |(count, _)| *count == 0).unwrap());
        // Would never return, if the pause waited for the read.
        checkpoint(table.node);
        let told = scope.spawn(move || table.tell(3).unwrap());
        let closed = scope.spawn(move || table.close(4).unwrap());
        closed.join().unwrap();
        slow.reads.lock().unwrap().1 = true;
        slow.changed.notify_all();
        assert_eq!(read.join().unwrap(), 64);
        assert_eq!(told.join().unwrap(), 74);
    });
    words[0] = table.tell(3).unwrap();
    checkpoint(table.node);
    let checkpoints: Vec<_> = core::mem::take(&mut *taken()).into_iter().collect();
    for (count, offset) in [(1, 10), (2, 74)] {
        let [recorded, noted] = restored(session.memory(), &checkpoints[..count], address);
        assert_eq!((recorded[0], noted[0]), (offset, offset));
    }
}

/// How much of a pause the table takes: printed, and bounded loosely, for what else runs here.
#[test]
fn a_hundred_moved_files_are_soon_refreshed() {
    let session = Session::start(64);
    let _disk = Disk::new();
    std::fs::write(_disk.directory.join("A"), [0; 100]).unwrap();
    let table = serving(&session);
    let count = hs_core::DESCRIPTORS_MAX.min(100) as u32;
    for number in FIRST_NUMBER..FIRST_NUMBER + count {
        assert_eq!(table.open("A", FileMode::READ), Ok(number));
        table.register_file(number).unwrap();
    }
    let mut spent = Vec::new();
    for round in 1..50 {
        for number in FIRST_NUMBER..FIRST_NUMBER + count {
            table.seek(number, Seek::Set(round)).unwrap();
        }
        let begun = Instant::now();
        drop(table.node.quiesce());
        let moved = begun.elapsed();
        let begun = Instant::now();
        drop(table.node.quiesce());
        spent.push((moved, begun.elapsed()));
    }
    spent.sort();
    std::println!("{count} moved files, and none: {:?}", spent[spent.len() / 2]);
    assert!(spent[0].0 < Duration::from_millis(1), "{:?}", spent[0]);
}

//! Who waits for a checkpoint of what was written, who must not, and what is said when it comes to nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use hs_core::checkpoint::CheckpointError;
use hs_core::host::VolatileFiles;
use hs_core::registry::thread::register;

use super::pause::{ENDED, begin_checkpoints};
use super::*;

/// A node that serves from files in memory, whose changes wait.
fn withheld(session: &Session) -> (Descriptors, &'static VolatileFiles) {
    let files: &'static VolatileFiles = Box::leak(Box::new(VolatileFiles::new()));
    HostMachine::install().set_files(Some(files));
    let table = serving(session);
    table.node.withhold_files(true);
    (table, files)
}

fn release(table: Descriptors) {
    let tail = table.table().files_tail();
    table.node.release_files(tail);
}

#[test]
fn what_is_written_is_seen_here_before_it_is_on_the_disk() {
    let session = Session::start(64);
    let (table, files) = withheld(&session);
    let file = table.open("A", RW).unwrap();
    table.write(file, b"0123456789").unwrap();
    table.truncate(file, 8).unwrap();
    table.seek(file, Seek::Set(6)).unwrap();
    let mut bytes = [0xff; 4];
    assert_eq!(table.read(file, &mut bytes), Ok(2));
    assert_eq!((&bytes[..2], table.len_bytes(file)), (&b"67"[..], Ok(8)));
    table.close(file).unwrap();
    table.remove("A").unwrap();
    let missing = FileError::NotFound(path("A"));
    assert_eq!(
        table.open("A", FileMode::READ),
        Err(DescriptorError::Open(missing))
    );
    let file = table.open("A", RW).unwrap();
    assert_eq!(table.len_bytes(file), Ok(0));
    assert!(!table.write_back(files));
    assert_eq!(files.contents(&path("A")), None);
    table.write(file, b"new").unwrap();
    release(table);
    while table.write_back(files) {}
    assert_eq!(files.contents(&path("A")).as_deref(), Some(&b"new"[..]));
}

#[test]
fn a_sync_takes_a_checkpoint_and_waits_until_it_is_kept() {
    let session = Session::start(64);
    let (table, files) = withheld(&session);
    begin_checkpoints(table.node, session.memory());
    let file = table.open("A", RW).unwrap();
    table.write(file, b"abc").unwrap();
    thread::scope(|scope| {
        let synced = scope.spawn(move || table.sync(file));
        loop {
            let seen = ENDED.seen();
            let status = table.node.status();
            if status.taken > 0 && status.in_flight == 0 {
                break;
            }
            ENDED.wait(seen, None);
        }
        assert!(!synced.is_finished());
        assert_eq!(files.contents(&path("A")), None);
        release(table);
        assert_eq!(synced.join().unwrap(), Ok(()));
    });
    assert_eq!(files.contents(&path("A")).as_deref(), Some(&b"abc"[..]));
    // Nothing waits: nothing is taken.
    let taken = table.node.status().taken;
    assert_eq!(table.sync(file), Ok(()));
    assert_eq!(table.node.status().taken, taken);
}

#[test]
fn a_sync_inside_the_gate_says_so() {
    let session = Session::start(64);
    let (table, files) = withheld(&session);
    begin_checkpoints(table.node, session.memory());
    let file = table.open("A", RW).unwrap();
    table.write(file, b"abc").unwrap();
    let inside = table.node.gate().enter();
    let error = DescriptorError::NotCommitted(file, CheckpointError::InsideGate);
    assert_eq!(table.sync(file), Err(error));
    drop(inside);
    assert_eq!(files.contents(&path("A")), None);
    // Whoever goes alone waits for nobody.
    table.node.withhold_files(false);
    assert_eq!(table.sync(file), Ok(()));
    assert_eq!(files.contents(&path("A")).as_deref(), Some(&b"abc"[..]));
}

fn nothing(_: usize) {}

#[test]
fn a_write_without_room_waits_for_a_checkpoint() {
    let session = Session::start(64);
    let (table, files) = withheld(&session);
    let file = table.open("A", RW).unwrap();
    let long = [7; QUEUE_LEN * 2 / 3];
    table.write(file, &long).unwrap();
    assert_eq!(table.write(file, &[0; QUEUE_LEN]), Err(DescriptorError::TooMuch));
    // A program's only worker would wait for itself.
    assert_eq!(table.write(file, &long), Err(DescriptorError::NoRoom));
    register(nothing, 1).unwrap();
    register(nothing, 2).unwrap();
    let inside = table.node.gate().enter();
    assert_eq!(table.write(file, &long), Err(DescriptorError::NoRoomInside));
    drop(inside);
    assert_eq!(table.tell(file), Ok(long.len() as u64));
    thread::scope(|scope| {
        let seen = table.node.signal().seen();
        let written = scope.spawn(move || table.write(file, &long));
        // It asks for one.
        while !table.node.checkpoint_wanted.load(Ordering::SeqCst) {
            table.node.signal().wait(seen, None);
        }
        release(table);
        assert_eq!(written.join().unwrap(), Ok(()));
    });
    assert_eq!(table.len_bytes(file), Ok(2 * long.len() as u64));
    assert_eq!(files.contents(&path("A")).as_deref(), Some(&long[..]));
}

#[test]
fn a_change_that_failed_is_told_once_to_the_next_call() {
    let session = Session::start(64);
    let (table, files) = withheld(&session);
    let (file, other) = (table.open("A", RW).unwrap(), table.open("B", RW).unwrap());
    release(table);
    while table.write_back(files) {}
    table.write(file, b"abc").unwrap();
    table.write(other, b"abc").unwrap();
    release(table);
    // Written and synced, and then the disk fails.
    files.fail_after(Some(1));
    while table.write_back(files) {}
    files.fail_after(None);
    let failed = |number| Err(DescriptorError::File(number, FileError::Device));
    // The first was written, and not synced.
    assert_eq!(table.write(file, b"def"), failed(file));
    assert_eq!(table.write(file, b"def"), Ok(()));
    // The second is not there.
    assert_eq!(table.len_bytes(other), Ok(0));
    assert_eq!(table.close(other), failed(other));
    release(table);
    while table.write_back(files) {}
    assert_eq!(files.contents(&path("A")).as_deref(), Some(&b"abcdef"[..]));
}

#[test]
fn where_nothing_waits_a_call_says_what_the_disk_says() {
    let session = Session::start(64);
    let (table, files) = withheld(&session);
    table.node.withhold_files(false);
    let file = table.open("A", RW).unwrap();
    table.write(file, b"abc").unwrap();
    assert_eq!(files.contents(&path("A")).as_deref(), Some(&b"abc"[..]));
    files.fail_after(Some(0));
    let failed = Err(DescriptorError::File(file, FileError::Device));
    assert_eq!(table.write(file, b"def"), failed);
    files.fail_after(None);
    assert_eq!((table.tell(file), table.len_bytes(file)), (Ok(3), Ok(3)));
    assert_eq!(table.write(file, b"ghi"), Ok(()));
    assert_eq!(files.contents(&path("A")).as_deref(), Some(&b"abcghi"[..]));
}

#[test]
fn an_asynchronous_file_waits_for_nothing() {
    let session = Session::start(64);
    let (table, files) = withheld(&session);
    let waits = table.open("A", RW).unwrap();
    let file = table.open("B", RW | FileMode::ASYNC).unwrap();
    table.register_file(file).unwrap();
    for number in [waits, file] {
        table.write(number, b"abc").unwrap();
        table.truncate(number, 2).unwrap();
    }
    assert_eq!(files.contents(&path("A")), None);
    assert_eq!(files.contents(&path("B")).as_deref(), Some(&b"ab"[..]));
    assert_eq!((table.tell(file), table.len_bytes(file)), (Ok(3), Ok(2)));
    table.seek(file, Seek::Set(0)).unwrap();
    let mut bytes = [0; 3];
    assert_eq!(table.read(file, &mut bytes), Ok(2));
    assert_eq!(&bytes[..2], b"ab");
    // Only what is asynchronous is synced without a checkpoint.
    assert_eq!(table.sync(file), Ok(()));
    let table = takeover(&session, table);
    assert_eq!(table.mode(file), Ok(RW | FileMode::ASYNC));
    // A file some of whose changes wait does not overtake them.
    let table = {
        table.node.withhold_files(true);
        table
    };
    let number = table.open("A", RW).unwrap();
    table.write(number, b"z").unwrap();
    table.close(number).unwrap();
    let number = table.open("A", RW | FileMode::ASYNC).unwrap();
    table.write(number, b"y").unwrap();
    assert_eq!(table.read(number, &mut bytes), Ok(1));
    assert_eq!(&bytes[..1], b"b");
}

/// Threads that read, write and sync one file, beside the writer thread and spares that come and go: nobody waits for ever, and
/// every byte is there.
#[test]
fn calls_on_one_file_take_turns() {
    const ROUNDS: usize = 300;
    let session = Session::start(64);
    let (table, files) = withheld(&session);
    let file = table.open("A", RW | FileMode::APPEND).unwrap();
    let at_work = AtomicUsize::new(2);
    let at_work = &at_work;
    thread::scope(|scope| {
        for asynchronous in [false, true] {
            scope.spawn(move || {
                let mode = match asynchronous {
                    true => RW | FileMode::ASYNC,
                    false => RW,
                };
                let own = table.open(if asynchronous { "B" } else { "C" }, mode).unwrap();
                for _ in 0..ROUNDS {
                    table.write(file, b"x").unwrap();
                    table.write(own, b"y").unwrap();
                    let mut bytes = [0; 8];
                    table.seek(file, Seek::Set(0)).unwrap();
                    let count = table.read(file, &mut bytes).unwrap();
                    assert!(bytes[..count].iter().all(|byte| *byte == b'x'));
                    table.tell(own).unwrap();
                }
                at_work.fetch_sub(1, Ordering::SeqCst);
            });
        }
        scope.spawn(move || {
            // As long as somebody may wait for it; not for ever, if somebody has failed.
            for round in (0..1000 * ROUNDS).take_while(|_| at_work.load(Ordering::SeqCst) > 0) {
                table.node.withhold_files(round % 3 > 0);
                release(table);
                table.write_back(files);
                let _ = table.len_bytes(file);
            }
        });
    });
    table.node.withhold_files(false);
    assert_eq!(table.sync(file), Ok(()));
    assert_eq!(files.contents(&path("A")), Some(std::vec![b'x'; 2 * ROUNDS]));
    for name in ["B", "C"] {
        assert_eq!(
            files.contents(&path(name)),
            Some(std::vec![b'y'; ROUNDS]),
            "{name}"
        );
    }
}

//! The files of a real disk. Each test mounts it afresh, and leaves no file of its own behind.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use hs_core::platform::{CheckpointMemory, FileError, FileHandle, Files, Machine, PAGE_LEN, Priority};
use hs_core::registry::descriptor::{FileMode, FilePath};
use hs_core::sync::Signal;

use crate::memory::window_pages;
use crate::random::Random;
use crate::{Context, Verdict, check};

const BOTH: FileMode = FileMode::READ.union(FileMode::WRITE);

type Disk = &'static dyn Files;

fn said(error: FileError) -> String {
    format!("{error}")
}

fn path(text: &str) -> Result<FilePath, String> {
    FilePath::new(text).map_err(|error| format!("{text}: {error}"))
}

/// The files, mounted afresh, without those of `names`.
fn mounted(context: &Context, names: &[&str]) -> Result<Disk, String> {
    let files = context.guest.files().ok_or_else(|| said(FileError::NoDisk))?;
    files.mount().map_err(said)?;
    for name in names {
        match files.remove(&path(name)?) {
            Ok(()) | Err(FileError::NotFound(_)) => {}
            Err(error) => return Err(said(error)),
        }
    }
    Ok(files)
}

fn whole(files: Disk, file: FileHandle) -> Result<Vec<u8>, String> {
    let len = files.len_bytes(file).map_err(said)? as usize;
    // One byte more than there are.
    let mut bytes = vec![0; len + 1];
    let read = files.read_at(file, 0, &mut bytes).map_err(said)?;
    check!(read == len, "{read} bytes were read of a file of {len}");
    bytes.truncate(len);
    Ok(bytes)
}

/// Written, read, made longer and shorter, mounted afresh, removed.
pub(crate) fn life_of_a_file(context: &Context) -> Verdict {
    const NAME: &str = "KTEST/LIFE.TXT";
    let files = mounted(context, &[NAME])?;
    let name = path(NAME)?;
    let file = files.open(&name, BOTH).map_err(said)?;
    files.write_at(file, 0, b"the first line\n").map_err(said)?;
    files.write_at(file, 15, b"the second\n").map_err(said)?;
    files.write_at(file, 4, b"FIRST").map_err(said)?;
    check!(
        whole(files, file)? == b"the FIRST line\nthe second\n",
        "it reads as {:?}",
        String::from_utf8_lossy(&whole(files, file)?)
    );
    files.sync(file).map_err(said)?;
    files.write_at(file, 26, b"never synced").map_err(said)?;

    files.mount().map_err(said)?;
    check!(
        files.len_bytes(file) == Err(FileError::NotOpen),
        "it is open behind a mount"
    );
    let file = files.open(&name, BOTH).map_err(said)?;
    check!(
        whole(files, file)? == b"the FIRST line\nthe second\n",
        "mounted afresh it is not as it was synced"
    );
    files.truncate(file, 9).map_err(said)?;
    check!(
        whole(files, file)? == b"the FIRST",
        "it was not cut off where it should be"
    );
    files.close(file).map_err(said)?;

    files.mount().map_err(said)?;
    let file = files.open(&name, FileMode::READ).map_err(said)?;
    check!(
        whole(files, file)? == b"the FIRST",
        "closed and mounted afresh it is another"
    );
    files.close(file).map_err(said)?;
    files.remove(&name).map_err(said)?;
    files.mount().map_err(said)?;
    check!(
        files.open(&name, FileMode::READ) == Err(FileError::NotFound(name)),
        "removed, it is still there"
    );
    Ok(String::new())
}

/// What cannot be is refused by name.
pub(crate) fn refusals(context: &Context) -> Verdict {
    let files = mounted(context, &["ONE.TXT"])?;
    let one = path("ONE.TXT")?;
    let file = files.open(&one, FileMode::WRITE).map_err(said)?;
    let refused = [
        files
            .open(&path("NONE.TXT")?, FileMode::READ)
            .map_or_else(said, |_| String::new()),
        files
            .open(&one, FileMode::READ)
            .map_or_else(said, |_| String::new()),
        files
            .read_at(file, 0, &mut [0])
            .map_or_else(said, |_| String::new()),
        files
            .write_at(file, 1, b"x")
            .map_or_else(said, |()| String::new()),
        files.remove(&one).map_or_else(said, |()| String::new()),
    ];
    for (refused, word) in refused
        .iter()
        .zip(["NONE.TXT", "ONE.TXT", "opened", "offset", "ONE.TXT"])
    {
        check!(refused.contains(word), "{refused:?} does not speak of {word}");
    }
    files.close(file).map_err(said)?;
    files.remove(&one).map_err(said)?;
    Ok(String::new())
}

/// Two threads, each with a file of its own: neither sees anything of the other.
pub(crate) fn two_threads(context: &Context) -> Verdict {
    const NAMES: [&str; 2] = ["LEFT.BIN", "RIGHT.BIN"];
    static DONE: Signal = Signal::new();
    let files = mounted(context, &NAMES)?;
    let ended = Arc::new(AtomicU32::new(0));
    let failures = Arc::new(hs_core::sync::Mutex::new(Vec::new()));
    for (index, name) in NAMES.into_iter().enumerate() {
        let (ended, failures, seed) = (ended.clone(), failures.clone(), context.seed + index as u64);
        let body = move || {
            if let Err(error) = reads_what_it_writes(files, name, seed) {
                failures.lock().push(format!("{name}: {error}"));
            }
            ended.fetch_add(1, Ordering::SeqCst);
            DONE.raise();
        };
        context
            .guest
            .spawn("files", Priority::Normal, Box::new(body))
            .map_err(|error| format!("{error}"))?;
    }
    loop {
        let seen = DONE.seen();
        if ended.load(Ordering::SeqCst) == 2 {
            break;
        }
        DONE.wait(seen, None);
    }
    let failures = failures.lock();
    check!(failures.is_empty(), "{}", failures.join("; "));
    for name in NAMES {
        files.remove(&path(name)?).map_err(said)?;
    }
    Ok(String::new())
}

fn reads_what_it_writes(files: Disk, name: &str, seed: u64) -> Result<(), String> {
    let mut random = Random::new(seed);
    let mut model: Vec<u8> = Vec::new();
    let file = files.open(&path(name)?, BOTH).map_err(said)?;
    for round in 0..60 {
        let at = random.below(model.len() + 1);
        let bytes: Vec<u8> = (0..random.below(3000)).map(|_| random.next() as u8).collect();
        files.write_at(file, at as u64, &bytes).map_err(said)?;
        model.resize(model.len().max(at + bytes.len()), 0);
        model[at..at + bytes.len()].copy_from_slice(&bytes);
        if round % 20 == 0 {
            files.sync(file).map_err(said)?;
        }
        check!(
            whole(files, file)? == model,
            "in round {round} it reads otherwise"
        );
    }
    files.close(file).map_err(said)
}

/// What is written from the checkpoint window is what lay there at that moment, and what is read arrives there.
pub(crate) fn window(context: &Context) -> Verdict {
    let files = mounted(context, &["WINDOW.BIN"])?;
    let range = window_pages(0, 1);
    context
        .guest
        .map(range)
        .map_err(|error| format!("map: {error}"))?;
    // SAFETY: just mapped, and nobody else's.
    let page = unsafe { &mut *core::ptr::with_exposed_provenance_mut::<[u8; PAGE_LEN]>(range.start()) };
    let outcome = (|| {
        let file = files.open(&path("WINDOW.BIN")?, BOTH).map_err(said)?;
        page.fill(0x5a);
        files.write_at(file, 0, page).map_err(said)?;
        page.fill(0xee);
        files.sync(file).map_err(said)?;
        files.mount().map_err(said)?;
        let file = files.open(&path("WINDOW.BIN")?, BOTH).map_err(said)?;
        let read = files.read_at(file, 0, page).map_err(said)?;
        check!(
            read == PAGE_LEN && page.iter().all(|&byte| byte == 0x5a),
            "what was written later has gone to the disk"
        );
        files.close(file).map_err(said)?;
        files.remove(&path("WINDOW.BIN")?).map_err(said)
    })();
    context
        .guest
        .unmap(range)
        .map_err(|error| format!("unmap: {error}"))?;
    outcome.map(|()| String::new())
}

/// How long it takes to write a file to the disk for good, to read it, and to sync a line that was added.
pub(crate) fn speed(context: &Context) -> Verdict {
    const LEN: usize = 1 << 20;
    const LINES: u64 = 20;
    let files = mounted(context, &["SPEED.BIN"])?;
    let name = path("SPEED.BIN")?;
    let mut random = Random::new(context.seed);
    let bytes: Vec<u8> = (0..LEN).map(|_| random.next() as u8).collect();
    let now = || context.guest.now();
    let rate = |us: u128| LEN as u128 / us.max(1);

    let begun = now();
    let file = files.open(&name, BOTH).map_err(said)?;
    files.write_at(file, 0, &bytes).map_err(said)?;
    files.sync(file).map_err(said)?;
    let write_us = now().since(begun).as_micros();
    files.close(file).map_err(said)?;

    let begun = now();
    files.mount().map_err(said)?;
    let mount_us = now().since(begun).as_micros();
    let begun = now();
    let file = files.open(&name, BOTH).map_err(said)?;
    let mut read = vec![0; LEN];
    let len = files.read_at(file, 0, &mut read).map_err(said)?;
    let read_us = now().since(begun).as_micros();
    check!(len == LEN && read == bytes, "it is not what was written");

    let begun = now();
    for line in 0..LINES {
        files
            .write_at(file, LEN as u64 + line * 32, b"one more line of thirty-two byt\n")
            .map_err(said)?;
        files.sync(file).map_err(said)?;
    }
    let line_us = now().since(begun).as_micros() / u128::from(LINES);
    files.close(file).map_err(said)?;
    files.remove(&name).map_err(said)?;
    Ok(format!(
        "1 MiB written and synced at {} MB/s, read at {} MB/s, mounted in {mount_us} us, a line synced in {line_us} us",
        rate(write_us),
        rate(read_us)
    ))
}

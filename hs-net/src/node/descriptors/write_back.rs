//! From the write queue to the disk: when changes are made there, by whom, and who waits for that.
//!
//! ```text
//!                     ┌ withheld: the calling thread appends and goes on ─ pause ─ Kept ─> release ─> writer thread ─> disk
//! write, truncate, ───┤
//! remove, open        └ not withheld: the calling thread appends, makes it on the disk, and hears what came of it
//! ```
//!
//! The pair thread only moves a mark and wakes the writer thread: no heartbeat waits for a disk. Nor does a pause: whoever
//! is at the disk has the disk's lock, and takes the table's for moments.
//!
//! A change is forgotten when the disk has synced it. Where nothing is withheld that is put off until a sync, a close, or
//! half a queue.

use hs_core::checkpoint::{CheckpointError, Flags};
use hs_core::platform::{FileError, Files, Instant, Priority};
use hs_core::registry::descriptor::FilePath;
use hs_core::registry::thread;
use hs_core::sync;

use super::Descriptors;
use super::disk::Disk;
use super::error::DescriptorError;
use super::table::{Open, Table};
use crate::node::turn::KEEP_STEP;
use crate::node::{KEEP_LIMIT, Node};
use crate::writes::{Change, Room, Tail};

impl Table {
    /// What a checkpoint covers of the changes of files that is taken now.
    pub(in crate::node) fn files_tail(&self) -> Tail {
        self.pending.tail()
    }

    /// Whether there are changes of files that wait, behind `covered`.
    pub(in crate::node) fn has_changes_behind(&self, covered: Option<Tail>) -> bool {
        let waiting = covered.unwrap_or(self.pending.released());
        self.pending.is_withheld() && self.pending.tail() > waiting
    }
}

impl Node {
    /// The spare has a checkpoint that covers the changes of files before `tail`. Wakes the writer thread, and waits for nobody but
    /// who has the table.
    pub(in crate::node) fn release_files(&self, tail: Tail) {
        self.descriptors.lock().pending.release(tail);
        self.files_released();
    }

    /// Whether changes of files wait for their checkpoint. Where nobody could take over they do not, and what has waited goes
    /// to the disk.
    pub(in crate::node) fn withhold_files(&self, withheld: bool) {
        self.descriptors.lock().pending.withhold(withheld);
        self.files_released();
    }

    fn files_released(&self) {
        self.write_back.raise();
        self.files_moved.notify_all();
    }

    /// Starts the thread that makes changes of files on the disk, if there is one.
    pub(in crate::node) fn begin_write_back(&'static self) {
        let Some(files) = self.setup.machine.files() else {
            return;
        };
        self.spawn("files", Priority::Normal, move || {
            loop {
                let seen = self.write_back.seen();
                if self.descriptors.lock().pending.is_under_way() {
                    self.mount();
                }
                if !self.descriptors().write_back(files) {
                    self.write_back.wait(seen, None);
                }
            }
        });
    }
}

impl Descriptors {
    /// One round of the writer thread: makes some changes and syncs them. Returns whether there may be more.
    pub(super) fn write_back(&self, files: &dyn Files) -> bool {
        let mut disk = self.node.disk.lock();
        if !self.table().pending.is_under_way() {
            self.close_idle(files, &mut disk);
            return false;
        }
        let made = self.make_some(files, &mut disk, None);
        debug_assert!(made.is_none_or(|made| made.is_ok()), "nobody waits for it here");
        self.sync_made(files, &mut disk);
        true
    }

    /// Makes all changes that may be made, and syncs them.
    pub(super) fn flush(&self, files: &dyn Files, disk: &mut Disk) {
        while self.make_some(files, disk, None).is_some() {}
        self.sync_made(files, disk);
    }

    /// Makes some changes that may be made. Returns `None` if there are none, or what was the matter with the first bad one
    /// from `mine` on; others are noted.
    fn make_some(
        &self,
        files: &dyn Files,
        disk: &mut Disk,
        mine: Option<Tail>,
    ) -> Option<Result<(), FileError>> {
        let mut batch = core::mem::take(&mut disk.batch);
        let Some(end) = self.table().pending.batch(&mut batch) else {
            disk.batch = batch;
            return None;
        };
        let mut outcome = Ok(());
        for (at, record) in batch.changes() {
            let path = FilePath::new(record.path).expect("the queue has the paths of open files");
            if let Err(error) = disk.apply(files, &path, &record.change) {
                match mine {
                    Some(mine) if at >= mine => outcome = outcome.and(Err(error)),
                    _ => disk.fail(&path, error),
                }
            }
        }
        disk.batch = batch;
        self.table().pending.note_applied(end);
        Some(outcome)
    }

    /// Syncs what was made, and forgets it.
    fn sync_made(&self, files: &dyn Files, disk: &mut Disk) {
        let made = self.table().pending.applied();
        disk.sync(files);
        self.table().pending.forget(made);
        // What fails while these are told is told the next time.
        for _ in 0..disk.failures() {
            let Some((path, error)) = disk.take_failure() else {
                break;
            };
            log::error!("file {}: a change did not reach the disk: {error}", path.as_str());
            self.measure(files, disk, &path, Some(error));
        }
        self.node.files_moved.notify_all();
    }

    /// A change was not made: the file's length is what the disk says, and what waits.
    fn measure(&self, files: &dyn Files, disk: &mut Disk, path: &FilePath, error: Option<FileError>) {
        let on_disk = disk.len_bytes(files, path, false).unwrap_or(0);
        let mut table = self.table();
        let len_bytes = table.pending.len_bytes(path, on_disk);
        for file in table.files_at(path) {
            file.len_bytes = len_bytes;
            file.failed = error.or(file.failed);
        }
    }

    /// Closes on the disk what is open no more here.
    fn close_idle(&self, files: &dyn Files, disk: &mut Disk) {
        while let Some(idle) = {
            let mut table = self.table();
            disk.paths().find(|path| table.files_at(path).next().is_none())
        } {
            disk.close(files, &idle);
        }
    }

    /// Appends a change. Returns its place.
    pub(super) fn push(
        &self,
        table: &mut Table,
        path: &FilePath,
        change: Change<'_>,
    ) -> Result<Tail, DescriptorError> {
        let at = table.pending.tail();
        match table.pending.push(path, change)? {
            Room::Enough => Ok(at),
            Room::Later => Err(DescriptorError::NoRoom),
            Room::Never => Err(DescriptorError::TooMuch),
        }
    }

    /// Makes the change at `mine` on the disk, unless it waits: the caller has had the disk since before it was appended.
    pub(super) fn settle(&self, disk: &mut Disk, mine: Tail) -> Result<(), FileError> {
        let files = self.files()?;
        let mut outcome = Ok(());
        while let Some(made) = self.make_some(files, disk, Some(mine)) {
            outcome = outcome.and(made);
        }
        if self.table().pending.is_half_full() {
            self.sync_made(files, disk);
        }
        outcome
    }

    /// What came of a change that was made at once.
    pub(super) fn made(
        &self,
        disk: &mut Disk,
        path: &FilePath,
        made: Result<(), FileError>,
    ) -> Result<(), FileError> {
        if made.is_err() {
            self.measure(self.files()?, disk, path, None);
        }
        made
    }

    /// As [`with_room`](Self::with_room), for what looks at the disk in any case.
    pub(super) fn with_disk<R>(
        &self,
        mut with: impl FnMut(&mut Disk) -> Result<R, DescriptorError>,
    ) -> Result<R, DescriptorError> {
        self.with_room(|disk| disk.map(&mut with).transpose())
    }

    /// Runs `with`, again with the disk when it returns nothing, and again when there may be room for changes if there was none.
    pub(super) fn with_room<R>(
        &self,
        mut with: impl FnMut(Option<&mut Disk>) -> Result<Option<R>, DescriptorError>,
    ) -> Result<R, DescriptorError> {
        let give_up_at = self.node.machine().now() + KEEP_LIMIT;
        let mut disk = None;
        loop {
            let head = self.table().pending.head();
            match with(disk.as_deref_mut()) {
                Ok(Some(result)) => return Ok(result),
                Ok(None) => disk = Some(self.node.disk.lock()),
                Err(DescriptorError::NoRoom) => {
                    let files = self.files().map_err(DescriptorError::Open)?;
                    let mut held = disk.take().unwrap_or_else(|| self.node.disk.lock());
                    self.flush(files, &mut held);
                    drop(held);
                    self.await_room(head, give_up_at)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns when there is more room than when the queue's head was at `head`, or something is about to make some.
    fn await_room(&self, head: Tail, give_up_at: Instant) -> Result<(), DescriptorError> {
        let node = self.node;
        let mut table = self.table();
        while table.pending.head() == head && table.pending.is_stuck() {
            if sync::gate().is_inside() {
                return Err(DescriptorError::NoRoomInside);
            }
            let status = node.checkpointer.get().map(|checkpointer| checkpointer.status());
            let in_flight = status.is_some_and(|status| status.in_flight > 0);
            // A program's only worker waits for itself.
            let alone = thread::workers().len() <= 1 && !in_flight;
            if alone || node.machine().now() >= give_up_at {
                return Err(DescriptorError::NoRoom);
            }
            node.want_checkpoint();
            node.files_moved.wait(&mut table, Some(give_up_at));
        }
        Ok(())
    }

    /// Returns when everything written to the file so far is on the disk. What no checkpoint covers yet is covered by one that
    /// this call takes: as for [`Node::checkpoint`], the application's state must be whole, the service stack let go of, and the
    /// calling thread outside the gate. If nothing waits, none is taken.
    ///
    /// # Errors
    /// It is not open, not a file, the disk failed or was full, now or when an earlier change was due; or no checkpoint
    /// has covered what was written for [`KEEP_LIMIT`].
    pub fn sync(&self, number: u32) -> Result<(), DescriptorError> {
        let files = self
            .files()
            .map_err(|error| DescriptorError::File(number, error))?;
        let waiting = {
            let mut table = self.when_sound(number)?;
            let path = table.file(number)?.path;
            table.pending.holds(&path).then(|| table.pending.tail())
        };
        if let Some(tail) = waiting {
            self.commit(number, tail)?;
        }
        self.flush(files, &mut self.node.disk.lock());
        self.when_sound(number).map(drop)
    }

    /// Returns when the changes before `tail` may be made on the disk.
    fn commit(&self, number: u32, tail: Tail) -> Result<(), DescriptorError> {
        let node = self.node;
        let give_up_at = node.machine().now() + KEEP_LIMIT;
        while self.table().pending.released() < tail {
            let seen = node.application.seen();
            let taken = node.checkpoint(Flags::INCREMENTAL);
            let now = node.machine().now();
            match taken {
                // The spare's word is with the pair thread, or it is about to say that there is no spare.
                Ok(_) | Err(CheckpointError::NoSpare) if now < give_up_at => {
                    node.look_what_is_kept();
                    let mut table = self.table();
                    if table.pending.released() < tail {
                        node.files_moved.wait(&mut table, Some(now + KEEP_STEP));
                    }
                }
                Ok(_) => return Err(DescriptorError::NotCommitted(number, CheckpointError::NoSpare)),
                Err(error) if error == CheckpointError::InsideGate || now >= give_up_at => {
                    return Err(DescriptorError::NotCommitted(number, error));
                }
                Err(_) => node.application.wait(seen, Some(now + KEEP_STEP)),
            }
        }
        Ok(())
    }

    /// Before a file is closed here: where nothing waits, what was written is on the disk when it is.
    pub(super) fn flush_for_close(&self, number: u32) -> Result<(), DescriptorError> {
        let mut table = self.table();
        let is_file = matches!(table.open(number)?, Open::File(_));
        let withheld = table.pending.is_withheld();
        drop(table);
        // Whoever has the disk is not waited for.
        if is_file
            && !withheld
            && let Ok(files) = self.files()
            && let Some(mut disk) = self.node.disk.try_lock()
        {
            self.flush(files, &mut disk);
        }
        Ok(())
    }
}

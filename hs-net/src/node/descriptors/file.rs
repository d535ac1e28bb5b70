//! What an application does with files. Changes go through the write queue: see [`write_back`](super::write_back).

use hs_core::platform::FileError;
use hs_core::registry::descriptor::{FileMode, FilePath};
use hs_core::sync::MutexGuard;

use super::Descriptors;
use super::disk::Disk;
use super::error::DescriptorError;
use super::table::{Open, OpenFile, Table};
use crate::writes::{Change, Tail};

/// Longest file of FAT, in bytes.
const FILE_LEN_MAX: u64 = u32::MAX as u64;

/// Where an offset is counted from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seek {
    /// The start of the file.
    Set(u64),
    /// Where the offset is.
    Cur(i64),
    /// The end of the file.
    End(i64),
}

/// Whether a file opened so may be changed.
fn writes(mode: FileMode) -> bool {
    mode.intersects(FileMode::WRITE | FileMode::APPEND)
}

/// What a call that changes a file makes of it.
struct Plan<'a> {
    change: Change<'a>,
    /// The offset afterwards.
    offset: u64,
}

impl Descriptors {
    /// Opens a file. One to be written is made if it is not there. The offset is 0.
    ///
    /// # Errors
    /// The path is none, the file cannot be had, too many descriptors are open, or its making finds no room among the changes
    /// that wait.
    pub fn open(&self, path: &str, mode: FileMode) -> Result<u32, DescriptorError> {
        let path = FilePath::new(path)?;
        if mode.contains(FileMode::ASYNC) {
            log::info!(
                "file {} is asynchronous: its changes do not wait for their checkpoint",
                path.as_str()
            );
        }
        self.with_disk(|disk| {
            self.open_with(|_| {
                let (file, made) = self.open_file(disk, path, mode)?;
                if let Some(made) = made {
                    self.settle(disk, made).map_err(DescriptorError::Open)?;
                }
                Ok(Open::File(file))
            })
        })
    }

    /// Opens the file here; what is open on the disk is looked after there. If that has put its making into the queue, it
    /// says where.
    pub(super) fn open_file(
        &self,
        disk: &mut Disk,
        path: FilePath,
        mode: FileMode,
    ) -> Result<(OpenFile, Option<Tail>), DescriptorError> {
        let files = self.files().map_err(DescriptorError::Open)?;
        if !mode.intersects(FileMode::READ | FileMode::WRITE | FileMode::APPEND) {
            return Err(DescriptorError::Open(FileError::WrongMode));
        }
        let busy = |other: &mut OpenFile| writes(other.mode) || writes(mode);
        if self.table().files_at(&path).any(busy) {
            return Err(DescriptorError::Open(FileError::Busy(path)));
        }
        let waiting = self.table().pending.existence(&path);
        let on_disk = disk.len_bytes(files, &path, writes(mode));
        let (is_there, len_bytes) = match (on_disk, waiting) {
            (Ok(len_bytes), waiting) => (waiting.unwrap_or(true), len_bytes),
            (Err(FileError::NotFound(_)), waiting) => (waiting.unwrap_or(false), 0),
            (Err(error), _) => return Err(DescriptorError::Open(error)),
        };
        let mut made = None;
        if !is_there {
            if !writes(mode) {
                return Err(DescriptorError::Open(FileError::NotFound(path)));
            }
            if mode.contains(FileMode::ASYNC) && waiting.is_none() {
                let made = disk.apply(files, &path, &Change::Create);
                made.map_err(DescriptorError::Open)?;
            } else {
                made = Some(self.push(&mut self.table(), &path, Change::Create)?);
            }
        }
        let file = OpenFile {
            path,
            mode,
            offset: 0,
            len_bytes: self.table().pending.len_bytes(&path, len_bytes),
            busy: false,
            failed: None,
        };
        Ok((file, made))
    }

    /// Removes a file that is not open.
    ///
    /// # Errors
    /// The path is none, the file cannot be removed, or its removal finds no room among the changes that wait.
    pub fn remove(&self, path: &str) -> Result<(), DescriptorError> {
        let path = FilePath::new(path)?;
        let files = self.files().map_err(DescriptorError::Open)?;
        self.with_disk(|disk| {
            if self.table().files_at(&path).next().is_some() {
                return Err(DescriptorError::Open(FileError::Busy(path)));
            }
            let waiting = self.table().pending.existence(&path);
            match (waiting, disk.len_bytes(files, &path, false)) {
                (Some(true), _) | (None, Ok(_)) => {}
                (Some(false), _) => return Err(DescriptorError::Open(FileError::NotFound(path))),
                (None, Err(error)) => return Err(DescriptorError::Open(error)),
            }
            let made = self.push(&mut self.table(), &path, Change::Remove)?;
            self.settle(disk, made).map_err(DescriptorError::Open)
        })
    }

    /// The table, at a moment at which no call is at work on the file `number`.
    pub(super) fn when_idle(&self, number: u32) -> Result<MutexGuard<'static, Table>, DescriptorError> {
        let mut table = self.table();
        while table.file(number)?.busy {
            self.node.descriptor_idle.wait(&mut table, None);
        }
        Ok(table)
    }

    /// As [`when_idle`](Self::when_idle), unless there is a failure that the application has not heard of.
    pub(super) fn when_sound(&self, number: u32) -> Result<MutexGuard<'static, Table>, DescriptorError> {
        let mut table = self.when_idle(number)?;
        match table.file(number)?.failed.take() {
            Some(error) => Err(DescriptorError::File(number, error)),
            None => Ok(table),
        }
    }

    /// Reads from the offset on and moves it. Returns how many bytes; 0 at the end of the file and behind it.
    ///
    /// # Errors
    /// It is not open, not a file, not to be read, or the disk failed.
    pub fn read(&self, number: u32, into: &mut [u8]) -> Result<usize, DescriptorError> {
        // Before the file is taken: whoever has the disk never waits for a file.
        let mut disk = self.node.disk.lock();
        let file = {
            let mut table = self.when_sound(number)?;
            let file = table.file(number)?;
            if file.offset > file.len_bytes {
                return Ok(0);
            }
            if !file.mode.contains(FileMode::READ) {
                return Err(DescriptorError::File(number, FileError::WrongMode));
            }
            file.busy = true;
            *file
        };
        let rest = usize::try_from(file.len_bytes - file.offset).unwrap_or(usize::MAX);
        let count = into.len().min(rest);
        let into = &mut into[..count];
        let found = self
            .files()
            .and_then(|files| disk.read(files, &file.path, file.offset, into));
        // Nothing reaches the disk in between.
        let mut table = self.table();
        table.pending.overlay(&file.path, file.offset, into);
        drop(disk);
        if let Ok(file) = table.file(number) {
            file.busy = false;
        }
        if found.is_ok() {
            table.move_to(number, file.offset + count as u64);
        }
        drop(table);
        self.node.descriptor_idle.notify_all();
        found.map_err(|error| DescriptorError::File(number, error))?;
        Ok(count)
    }

    /// Makes the change that `plan` has for a file that no call is at work on.
    fn change<'a>(
        &self,
        number: u32,
        plan: impl Fn(&OpenFile) -> Result<Option<Plan<'a>>, FileError>,
    ) -> Result<(), DescriptorError> {
        let failed = |error| DescriptorError::File(number, error);
        self.with_room(|disk| {
            let mut table = self.when_sound(number)?;
            let file = *table.file(number)?;
            let Some(Plan { change, offset }) = plan(&file).map_err(failed)? else {
                return Ok(Some(()));
            };
            let withheld = table.pending.is_withheld();
            let asynchronous = file.mode.contains(FileMode::ASYNC);
            let disk = match disk {
                Some(disk) => disk,
                // Whoever makes changes on the disk has it before the table.
                None if asynchronous || !withheld => return Ok(None),
                None => {
                    self.push(&mut table, &file.path, change)?;
                    table.note_change(number, &change, offset);
                    return Ok(Some(()));
                }
            };
            if asynchronous && !table.pending.holds(&file.path) {
                // Nothing of it is in the queue: it may overtake that.
                table.file(number)?.busy = true;
                drop(table);
                let made = self
                    .files()
                    .and_then(|files| disk.apply(files, &file.path, &change));
                let mut table = self.table();
                table.file(number)?.busy = false;
                if made.is_ok() {
                    table.note_change(number, &change, offset);
                }
                drop(table);
                self.node.descriptor_idle.notify_all();
                return self.made(disk, &file.path, made).map_err(failed).map(Some);
            }
            let made = self.push(&mut table, &file.path, change)?;
            table.note_change(number, &change, offset);
            drop(table);
            let settled = self.settle(disk, made);
            if settled.is_err() {
                // As a call that did not return, but for what is written.
                self.table().move_to(number, file.offset);
            }
            self.made(disk, &file.path, settled).map_err(failed).map(Some)
        })
    }

    /// Writes all of `bytes` from the offset on, or at the end of a file opened with [`FileMode::APPEND`], and moves the
    /// offset behind it. If the offset lies behind the end, zeroes fill the gap.
    ///
    /// # Errors
    /// It is not open, not a file, not to be written, or an earlier change of it did not reach the disk. Where nothing waits
    /// for checkpoints: the disk is full or failed, and part of it may be written. Where changes wait: there is no room for it, and no
    /// checkpoint has made any.
    pub fn write(&self, number: u32, bytes: &[u8]) -> Result<(), DescriptorError> {
        self.change(number, |file| {
            let offset = match file.mode.contains(FileMode::APPEND) {
                true => file.len_bytes,
                false => file.offset,
            };
            let end = offset.saturating_add(bytes.len() as u64);
            if !writes(file.mode) {
                return Err(FileError::WrongMode);
            }
            if end > FILE_LEN_MAX {
                return Err(FileError::TooLong);
            }
            Ok(Some(Plan {
                change: Change::Write { offset, bytes },
                offset: end,
            }))
        })
    }

    /// Moves the offset and returns where it is. It may lie behind the end.
    ///
    /// # Errors
    /// It is not open, not a file, or the offset would be before its start.
    pub fn seek(&self, number: u32, to: Seek) -> Result<u64, DescriptorError> {
        let mut table = self.when_idle(number)?;
        let file = table.file(number)?;
        let (offset, by) = match to {
            Seek::Set(offset) => (Some(offset), 0),
            Seek::Cur(by) => (file.offset.checked_add_signed(by), by),
            Seek::End(by) => (file.len_bytes.checked_add_signed(by), by),
        };
        let offset = offset.ok_or(DescriptorError::NoSuchOffset { number, by })?;
        table.move_to(number, offset);
        Ok(offset)
    }

    /// Where the offset is.
    ///
    /// # Errors
    /// It is not open, or not a file.
    pub fn tell(&self, number: u32) -> Result<u64, DescriptorError> {
        Ok(self.when_idle(number)?.file(number)?.offset)
    }

    /// How long the file is, in bytes, with what waits for a checkpoint.
    ///
    /// # Errors
    /// It is not open, or not a file.
    pub fn len_bytes(&self, number: u32) -> Result<u64, DescriptorError> {
        Ok(self.when_idle(number)?.file(number)?.len_bytes)
    }

    /// Makes the file `len_bytes` long: cuts it off, or fills it up with zeroes. The offset stays.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn truncate(&self, number: u32, len_bytes: u64) -> Result<(), DescriptorError> {
        self.change(number, |file| {
            if len_bytes == file.len_bytes {
                return Ok(None);
            }
            if !writes(file.mode) {
                return Err(FileError::WrongMode);
            }
            if len_bytes > FILE_LEN_MAX {
                return Err(FileError::TooLong);
            }
            Ok(Some(Plan {
                change: Change::SetLen(len_bytes),
                offset: file.offset,
            }))
        })
    }

    /// How the file was opened.
    ///
    /// # Errors
    /// It is not open, or not a file.
    pub fn mode(&self, number: u32) -> Result<FileMode, DescriptorError> {
        Ok(self.when_idle(number)?.file(number)?.mode)
    }

    /// The file's path.
    ///
    /// # Errors
    /// It is not open, or not a file.
    pub fn path(&self, number: u32) -> Result<FilePath, DescriptorError> {
        Ok(self.when_idle(number)?.file(number)?.path)
    }
}

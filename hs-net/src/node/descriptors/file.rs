//! What an application does with files.

use hs_core::platform::{FileError, Files};
use hs_core::registry::descriptor::{FileMode, FilePath};

use super::Descriptors;
use super::error::DescriptorError;
use super::table::{Open, OpenFile};

/// Longest file of FAT, in bytes.
const FILE_LEN_MAX: u64 = u32::MAX as u64;
/// Zeroes are written in pieces of so many bytes.
const ZEROES: [u8; 512] = [0; 512];

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

impl Descriptors {
    /// Opens a file. One to be written is made if it is not there. The offset is 0.
    ///
    /// # Errors
    /// The path is none, the file cannot be had, or too many descriptors are open.
    pub fn open(&self, path: &str, mode: FileMode) -> Result<u32, DescriptorError> {
        let path = FilePath::new(path)?;
        self.open_with(|_| {
            let opened = self.files().and_then(|files| files.open(&path, mode));
            let handle = opened.map_err(DescriptorError::Open)?;
            Ok(Open::File(OpenFile {
                path,
                mode,
                handle,
                offset: 0,
                busy: false,
            }))
        })
    }

    /// Removes a file that is not open.
    ///
    /// # Errors
    /// The path is none, or the file cannot be removed.
    pub fn remove(&self, path: &str) -> Result<(), DescriptorError> {
        let path = FilePath::new(path)?;
        let removed = self.files().and_then(|files| files.remove(&path));
        removed.map_err(DescriptorError::Open)
    }

    /// Runs `with` on a file that no call is at work on, under the table's lock.
    fn when_idle<R>(&self, number: u32, with: impl FnOnce(&mut OpenFile) -> R) -> Result<R, DescriptorError> {
        let mut table = self.table();
        loop {
            match table.open(number)? {
                Open::File(file) if file.busy => {}
                Open::File(file) => return Ok(with(file)),
                Open::Lost(error) => return Err(DescriptorError::Lost(number, *error)),
                Open::Pending | Open::Udp { .. } | Open::Listener => {
                    let wanted = "a file";
                    return Err(DescriptorError::WrongKind { number, wanted });
                }
            }
            self.node.descriptor_idle.wait(&mut table, None);
        }
    }

    /// Runs `work`, which returns the offset afterwards, without the table's lock; other calls on this file wait.
    fn work<R>(
        &self,
        number: u32,
        work: impl FnOnce(&dyn Files, OpenFile) -> Result<(R, u64), FileError>,
    ) -> Result<R, DescriptorError> {
        let file = self.when_idle(number, |file| {
            file.busy = true;
            *file
        })?;
        let worked = self.files().and_then(|files| work(files, file));
        let mut table = self.table();
        if let Ok(Open::File(file)) = table.open(number) {
            file.busy = false;
        }
        if let Ok((_, offset)) = &worked {
            table.move_to(number, *offset);
        }
        drop(table);
        self.node.descriptor_idle.notify_all();
        match worked {
            Ok((result, _)) => Ok(result),
            Err(error) => Err(DescriptorError::File(number, error)),
        }
    }

    /// Reads from the offset on and moves it. Returns how many bytes; 0 at the end of the file and behind it.
    ///
    /// # Errors
    /// It is not open, not a file, not to be read, or the disk failed.
    pub fn read(&self, number: u32, into: &mut [u8]) -> Result<usize, DescriptorError> {
        self.work(number, |files, file| {
            if file.offset > files.len_bytes(file.handle)? {
                return Ok((0, file.offset));
            }
            let count = files.read_at(file.handle, file.offset, into)?;
            Ok((count, file.offset + count as u64))
        })
    }

    /// Writes all of `bytes` from the offset on, or at the end of a file opened with [`FileMode::APPEND`], and moves the
    /// offset behind it. If the offset lies behind the end, zeroes fill the gap.
    ///
    /// # Errors
    /// It is not open, not a file, not to be written, or the disk is full or failed: part of it may be written then.
    pub fn write(&self, number: u32, bytes: &[u8]) -> Result<(), DescriptorError> {
        self.work(number, |files, file| {
            let len_bytes = files.len_bytes(file.handle)?;
            let offset = match file.mode.contains(FileMode::APPEND) {
                true => len_bytes,
                false => file.offset,
            };
            lengthen(files, file, len_bytes, offset)?;
            files.write_at(file.handle, offset, bytes)?;
            Ok(((), offset + bytes.len() as u64))
        })
    }

    /// Moves the offset and returns where it is. It may lie behind the end.
    ///
    /// # Errors
    /// It is not open, not a file, or the offset would be before its start.
    pub fn seek(&self, number: u32, to: Seek) -> Result<u64, DescriptorError> {
        let by = match to {
            Seek::Set(_) => 0,
            Seek::Cur(by) | Seek::End(by) => by,
        };
        let found = self.work(number, |files, file| {
            let to = match to {
                Seek::Set(offset) => Some(offset),
                Seek::Cur(by) => file.offset.checked_add_signed(by),
                Seek::End(by) => files.len_bytes(file.handle)?.checked_add_signed(by),
            };
            // Refused outside: the offset stays.
            Ok((to, to.unwrap_or(file.offset)))
        })?;
        found.ok_or(DescriptorError::NoSuchOffset { number, by })
    }

    /// Where the offset is.
    ///
    /// # Errors
    /// It is not open, or not a file.
    pub fn tell(&self, number: u32) -> Result<u64, DescriptorError> {
        self.when_idle(number, |file| file.offset)
    }

    /// How long the file is, in bytes.
    ///
    /// # Errors
    /// It is not open, not a file, or the disk failed.
    pub fn len_bytes(&self, number: u32) -> Result<u64, DescriptorError> {
        self.work(number, |files, file| {
            Ok((files.len_bytes(file.handle)?, file.offset))
        })
    }

    /// Makes the file `len_bytes` long: cuts it off, or fills it up with zeroes. The offset stays.
    ///
    /// # Errors
    /// It is not open, not a file, not to be written, or the disk is full or failed.
    pub fn truncate(&self, number: u32, len_bytes: u64) -> Result<(), DescriptorError> {
        self.work(number, |files, file| {
            let now = files.len_bytes(file.handle)?;
            match len_bytes < now {
                true => files.truncate(file.handle, len_bytes)?,
                false => lengthen(files, file, now, len_bytes)?,
            }
            Ok(((), file.offset))
        })
    }

    /// Returns when everything written to the file is on the disk.
    ///
    /// # Errors
    /// It is not open, not a file, or the disk failed.
    pub fn sync(&self, number: u32) -> Result<(), DescriptorError> {
        self.work(number, |files, file| Ok((files.sync(file.handle)?, file.offset)))
    }

    /// How the file was opened.
    ///
    /// # Errors
    /// It is not open, or not a file.
    pub fn mode(&self, number: u32) -> Result<FileMode, DescriptorError> {
        self.when_idle(number, |file| file.mode)
    }

    /// The file's path.
    ///
    /// # Errors
    /// It is not open, or not a file.
    pub fn path(&self, number: u32) -> Result<FilePath, DescriptorError> {
        self.when_idle(number, |file| file.path)
    }
}

/// Fills a file of `len_bytes` up with zeroes until it has `to`.
fn lengthen(files: &dyn Files, file: OpenFile, mut len_bytes: u64, to: u64) -> Result<(), FileError> {
    if to > FILE_LEN_MAX {
        return Err(FileError::TooLong);
    }
    while len_bytes < to {
        let count = (to - len_bytes).min(ZEROES.len() as u64);
        files.write_at(file.handle, len_bytes, &ZEROES[..count as usize])?;
        len_bytes += count;
    }
    Ok(())
}

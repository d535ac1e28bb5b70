//! The table itself: which numbers are open, as what, and what of it is registered. No I/O, no waiting.

use core::net::SocketAddrV4;

use hs_core::DESCRIPTORS_MAX;
use hs_core::platform::FileError;
use hs_core::registry::descriptor::{self, Change, Descriptor, DescriptorKind, FileMode, FilePath, UdpFlags};

use super::error::{DescriptorError, ReopenError};
use super::pending::Pending;
use crate::service::UNBOUND;
use crate::writes::Change as FileChange;

/// The lowest number that is given out: 0 to 2 are never, so that nobody takes them for a terminal.
pub const FIRST_NUMBER: u32 = 3;

/// An open file.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenFile {
    pub(super) path: FilePath,
    pub(super) mode: FileMode,
    /// Where the next read or write is.
    pub(super) offset: u64,
    /// How long it is, with what waits in the write queue.
    pub(super) len_bytes: u64,
    /// A call is at the disk with it: others wait. Set only by who has the disk, who hence finds nobody else there.
    pub(super) busy: bool,
    /// Why an earlier change of it did not reach the disk, if nobody was told yet.
    pub(super) failed: Option<FileError>,
}

/// What a UDP socket's record says: its own address, and its peer's.
pub(super) type Addresses = (SocketAddrV4, Option<SocketAddrV4>);

/// What is open under a number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Open {
    /// It is being opened or closed.
    Pending,
    File(OpenFile),
    Udp {
        /// As recorded, if it is registered.
        recorded: Addresses,
    },
    Listener,
    Lost(ReopenError),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    open: Open,
    /// With these flags, which are empty for all but UDP sockets.
    registered: Option<UdpFlags>,
}

/// The table of one node. Lies outside checkpointable memory: the records bring it back.
#[derive(Debug)]
pub(in crate::node) struct Table {
    entries: [Option<Entry>; DESCRIPTORS_MAX],
    /// The changes of files that wait.
    pub(super) pending: Pending,
}

fn index_of(number: u32) -> Option<usize> {
    let index = number.checked_sub(FIRST_NUMBER)? as usize;
    (index < DESCRIPTORS_MAX).then_some(index)
}

/// What a socket's record says, of what it is and what was asked of it.
pub(super) fn asked((local, peer): Addresses, flags: UdpFlags) -> Addresses {
    let local = match flags.contains(UdpFlags::GETNAME) {
        true => local,
        false => UNBOUND,
    };
    (local, peer.filter(|_| flags.contains(UdpFlags::GETPEER)))
}

impl Table {
    pub(in crate::node) const fn new() -> Self {
        Self {
            entries: [None; DESCRIPTORS_MAX],
            pending: Pending::new(),
        }
    }

    fn entry(&mut self, number: u32) -> Result<&mut Entry, DescriptorError> {
        index_of(number)
            .and_then(|index| Option::as_mut(&mut self.entries[index]))
            .filter(|entry| !matches!(entry.open, Open::Pending))
            .ok_or(DescriptorError::NotOpen(number))
    }

    /// What is open under `number`.
    pub(super) fn open(&mut self, number: u32) -> Result<&mut Open, DescriptorError> {
        Ok(&mut self.entry(number)?.open)
    }

    /// The file `number`.
    pub(super) fn file(&mut self, number: u32) -> Result<&mut OpenFile, DescriptorError> {
        match self.open(number)? {
            Open::File(file) => Ok(file),
            Open::Lost(error) => Err(DescriptorError::Lost(number, *error)),
            Open::Pending | Open::Udp { .. } | Open::Listener => {
                let wanted = "a file";
                Err(DescriptorError::WrongKind { number, wanted })
            }
        }
    }

    /// The file `number` was changed: it is as long as that makes it, and its offset is `offset`.
    pub(super) fn note_change(&mut self, number: u32, change: &FileChange<'_>, offset: u64) {
        if let Ok(file) = self.file(number) {
            file.len_bytes = change.len_after(file.len_bytes);
        }
        self.move_to(number, offset);
    }

    /// All that is open of the file at `path`.
    pub(super) fn files_at(&mut self, path: &FilePath) -> impl Iterator<Item = &mut OpenFile> {
        self.entries.iter_mut().flatten().filter_map(move |entry| {
            let Open::File(file) = &mut entry.open else {
                return None;
            };
            (file.path == *path).then_some(file)
        })
    }

    /// Takes the lowest free number, for something that is then opened.
    pub(super) fn reserve(&mut self) -> Result<u32, DescriptorError> {
        let free = self.entries.iter().position(Option::is_none);
        let index = free.ok_or(DescriptorError::TooMany)?;
        self.entries[index] = Some(Entry {
            open: Open::Pending,
            registered: None,
        });
        Ok(FIRST_NUMBER + index as u32)
    }

    /// What a reserved number is for; or nothing, and it is free again.
    pub(super) fn fill(&mut self, number: u32, open: Option<Open>) {
        if let Some(index) = index_of(number) {
            self.entries[index] = open.map(|open| Entry {
                open,
                registered: None,
            });
        }
    }

    /// Deregisters `number`, if it is registered, and keeps the number for [`fill`](Table::fill). Returns what it was.
    pub(super) fn empty(&mut self, number: u32) -> Result<Open, DescriptorError> {
        if self.entry(number)?.registered.is_some() {
            self.deregister(number)?;
        }
        Ok(core::mem::replace(&mut self.entry(number)?.open, Open::Pending))
    }

    /// Moves the offset of the file `number`, and with it that of its record.
    pub(super) fn move_to(&mut self, number: u32, offset: u64) {
        let Ok(entry) = self.entry(number) else { return };
        let Open::File(file) = &mut entry.open else { return };
        if file.offset == offset {
            return;
        }
        file.offset = offset;
        if entry.registered.is_some() {
            enter(number, Change::Offset(offset));
        }
    }

    /// Registers `number` as `kind`.
    pub(super) fn register(&mut self, number: u32, kind: DescriptorKind) -> Result<(), DescriptorError> {
        self.entry(number)?;
        descriptor::register(Descriptor { number, kind })?;
        self.note(number, kind);
        Ok(())
    }

    /// Enters what was opened again under its number, where its record is already.
    pub(super) fn restore(&mut self, number: u32, kind: DescriptorKind, open: Open) -> bool {
        let known = index_of(number).is_some();
        self.fill(number, Some(open));
        self.note(number, kind);
        known
    }

    /// A record of `number` is there.
    fn note(&mut self, number: u32, kind: DescriptorKind) {
        let Ok(entry) = self.entry(number) else { return };
        entry.registered = Some(match kind {
            DescriptorKind::Udp { local, peer, flags } => {
                if let Open::Udp { recorded } = &mut entry.open {
                    *recorded = (local, peer);
                }
                flags
            }
            DescriptorKind::File { .. } | DescriptorKind::TcpListener { .. } => UdpFlags::empty(),
        });
    }

    /// Deregisters `number`; what is open under it stays open.
    pub(super) fn deregister(&mut self, number: u32) -> Result<(), DescriptorError> {
        self.entry(number)?;
        descriptor::deregister(number)?;
        self.entry(number)?.registered = None;
        Ok(())
    }

    /// The addresses of the UDP socket `number` are these now: its record says so too, if that was asked for.
    pub(super) fn note_addresses(&mut self, number: u32, now: Addresses) {
        let Ok(entry) = self.entry(number) else { return };
        let (Open::Udp { recorded }, Some(flags)) = (&mut entry.open, entry.registered) else {
            return;
        };
        let now = asked(now, flags);
        if flags.contains(UdpFlags::CPTREFRESH) && core::mem::replace(recorded, now) != now {
            enter(number, Change::Addresses(now.0, now.1));
        }
    }
}

/// Enters a change into the record of a registered number.
fn enter(number: u32, change: Change) {
    // An application may have deregistered it by its record. And without a library there is no checkpoint.
    let _ = descriptor::change(number, change);
}

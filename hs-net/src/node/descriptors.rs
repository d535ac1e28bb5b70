//! The descriptor table: files, UDP sockets and TCP listeners of an application, under numbers that a restore keeps.
//!
//! ```text
//! number ──> table (here) ─┬─ file: path, mode, offset ──> write queue ──> the machine's files
//!   │                      ├─ UDP socket ──> the service stack, where the number is noted too
//!   │                      └─ TCP listener ──> the service stack
//!   └ registered: a record in the library area (hs_core::registry::descriptor), and so in each checkpoint
//! ```
//!
//! A number is the lowest free one from [`FIRST_NUMBER`] on. What is not registered is gone after a takeover; what is
//! registered is opened again under its number, before the service's address is announced:
//!
//! - a **file** by its path, mode and offset, on the volume that was mounted afresh; nothing is cut off. Names are of eight
//!   and three letters.
//! - a **UDP socket** is found in the restored stack, with the datagrams that wait in it, and is bound and connected as its
//!   record says: see [`UdpFlags`]. What no flag asked for is not brought back: without `GETNAME` it is bound to
//!   nothing, without `GETPEER` connected to nobody. `GETPEER` of a socket that is not connected is no error.
//! - a **TCP listener** is found there too. Listeners without a descriptor, of
//!   [`Service::listen`](crate::service::Service::listen), come back in any case.
//!
//! What cannot be opened again does not stop a takeover: the number is *lost*, its calls fail and say why, and it
//! can be closed. Its record stays until then, so that the next takeover tries again.
//!
//! **Agreement.** A record is brought up to date when what it is of changes, under the table's lock, which a checkpoint's pause holds:
//! records agree with the memory of the same checkpoint, and the pause has nothing to ask for. (The thesis asks its kernel at the
//! checkpoint, while the application goes on.) An offset moves
//! under that lock when a read or write is done, and never while the disk is at work, so that no pause waits for a disk. Hence
//! a checkpoint during a call shows it not yet begun, or done. That agrees with a thread that has not returned from its call.
//! It is for the application to take its checkpoints
//! at moments at which what its calls have returned is noted in its memory, as with all its state.
//!
//! **Commit.** The disk is not taken back at a takeover. So where a spare could take over, a change of a file (a write, a
//! new length, the making of a file, its removal) waits for the checkpoint that covers it, as frames do: it is appended to the
//! [write queue](crate::writes), which lies in checkpointable memory, in the same breath in which the offset moves, and a
//! thread of its own makes it on the disk when the spare has that checkpoint. The next master makes what it finds in the
//! restored queue, again if the dead one had: afterwards the disk has what the restored state has written, each byte once.
//! Until then reads and lengths show the disk as it will be. What the application has read, written or seen thus never depends on
//! how far the writer thread is.
//!
//! - A write returns at once. That the disk was full, or failed, is then told by the next read, write, change of length, sync or
//!   close of that descriptor, once; if none is open any more, by the log alone. The change is lost, and so is no other. Space is not
//!   set aside beforehand: the volume cannot say cheaply how much there is.
//! - [`sync`](Descriptors::sync) returns when what was written is on the disk. For that it takes a checkpoint if one is needed: as
//!   with [`Node::checkpoint`], the application's state must be whole when it is called. An application that only wants its file to
//!   agree with its memory has no need of it.
//! - [`QUEUE_LEN`] bytes may wait. A call that finds no room waits for a checkpoint, at most [`KEEP_LIMIT`](super::KEEP_LIMIT), or
//!   is refused where nobody but its own thread could take one.
//! - Without a spare everything is made at once, by the calling thread, which hears of errors. After
//!   `hs.restore` the disk may be ahead of the restored state, unless a file of checkpoints is a sink that is required: then changes
//!   wait for that too.
//! - [`FileMode::ASYNC`](hs_core::registry::descriptor::FileMode::ASYNC) opts a file out, as the log says: its changes are made
//!   at once, and what was written since the checkpoint is there after a takeover, behind the offset.
//!
//! **Locks.** The service stack's lock comes before the disk's, that before the table's, and that before the allocation lock. Calls
//! on sockets and listeners take the service stack's: let go of a [`ServiceGuard`](super::ServiceGuard) first, also
//! before a sync. Two calls on one file come one after the other.
//!
//! Closing a registered descriptor deregisters it: its number may be another's at once.
//!
//! Deliberately absent: `dup`, descriptors of single connections (those are named by the stack, and are reset at a takeover),
//! blocking reads of sockets: the application sleeps on [`Node::signal`].

mod disk;
mod error;
mod file;
mod pending;
mod restore;
mod socket;
mod table;
#[cfg(test)]
mod tests;
mod write_back;

use core::net::SocketAddrV4;

use hs_core::platform::{FileError, Files};
use hs_core::registry::descriptor::{DescriptorKind, UdpFlags};
use hs_core::sync::MutexGuard;

pub(super) use self::disk::Disk;
pub use self::error::{DescriptorError, ReopenError};
pub use self::file::Seek;
pub use self::pending::{FILES_CLASS, QUEUE_LEN};
pub use self::table::FIRST_NUMBER;
pub(super) use self::table::Table;
use self::table::{Open, OpenFile, asked};
use super::Node;
use crate::service::UdpError;

/// The descriptor table of a node. See the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct Descriptors {
    node: &'static Node,
}

impl Node {
    /// The descriptor table.
    pub fn descriptors(&'static self) -> Descriptors {
        Descriptors { node: self }
    }
}

impl Descriptors {
    fn table(&self) -> MutexGuard<'static, Table> {
        self.node.descriptors.lock()
    }

    fn files(&self) -> Result<&'static dyn Files, FileError> {
        self.node.files().ok_or(FileError::NoDisk)
    }

    /// Runs `open` for a number that is reserved meanwhile, without the table's lock.
    fn open_with(
        &self,
        open: impl FnOnce(u32) -> Result<Open, DescriptorError>,
    ) -> Result<u32, DescriptorError> {
        let number = self.table().reserve()?;
        let opened = open(number);
        self.table().fill(number, opened.as_ref().ok().copied());
        opened.map(|_| number)
    }

    /// Closes a descriptor. What was written to a file goes to the disk, with its checkpoint if it waits for that; what waits in a
    /// socket is thrown away; connections that a listener has accepted go on. A registered one is deregistered.
    ///
    /// # Errors
    /// It is not open; or the disk failed, and it is closed all the same.
    pub fn close(&self, number: u32) -> Result<(), DescriptorError> {
        self.flush_for_close(number)?;
        let open = {
            let mut table = self.table();
            while let Open::File(OpenFile { busy: true, .. }) = table.open(number)? {
                self.node.descriptor_idle.wait(&mut table, None);
            }
            table.empty(number)?
        };
        let closed = match open {
            Open::Pending | Open::Lost(_) => Ok(()),
            Open::File(file) => {
                let failed = file.failed.map(|error| DescriptorError::File(number, error));
                failed.map_or(Ok(()), Err)
            }
            Open::Udp { .. } => {
                let closed = self.node.service().udp_close(number);
                closed.map_err(|error| DescriptorError::Udp(number, error))
            }
            Open::Listener => {
                self.node.service().unlisten(number);
                Ok(())
            }
        };
        self.table().fill(number, None);
        self.node.descriptor_idle.notify_all();
        // What is open on the disk for nobody is closed there.
        self.node.write_back.raise();
        closed
    }

    /// Registers an open file: it comes back after a takeover. The thesis's `hs_fdreg_filefd`; the path is known here.
    ///
    /// # Errors
    /// It is not open, not a file, or registered already.
    pub fn register_file(&self, number: u32) -> Result<(), DescriptorError> {
        let mut table = self.table();
        match *table.open(number)? {
            // A call may be at work: the offset is the one before, and is moved when it is done.
            Open::File(OpenFile {
                path, mode, offset, ..
            }) => table.register(number, DescriptorKind::File { path, mode, offset }),
            Open::Lost(error) => Err(DescriptorError::Lost(number, error)),
            Open::Pending | Open::Udp { .. } | Open::Listener => {
                let wanted = "a file";
                Err(DescriptorError::WrongKind { number, wanted })
            }
        }
    }

    /// Registers a UDP socket with what `flags` ask of it: now, and with `CPTREFRESH` as it is at each checkpoint. The thesis's
    /// `hs_fdreg_sockudp4`.
    ///
    /// # Errors
    /// It is not open, not a UDP socket, or registered already.
    pub fn register_udp(&self, number: u32, flags: UdpFlags) -> Result<(), DescriptorError> {
        self.expect_udp(number)?;
        let service = self.node.service();
        let addresses = || Ok((service.udp_name(number)?, service.udp_peer(number)?));
        let found = addresses().map_err(|error: UdpError| DescriptorError::Udp(number, error))?;
        let (local, peer) = asked(found, flags);
        self.table()
            .register(number, DescriptorKind::Udp { local, peer, flags })
    }

    /// Registers a TCP listener. The thesis's `hs_fdreg_socktcp4_listen`.
    ///
    /// # Errors
    /// It is not open, not a listener, or registered already.
    pub fn register_listener(&self, number: u32) -> Result<(), DescriptorError> {
        let service = self.node.service();
        let mut table = self.table();
        let listens_on = service.listens_on(number);
        match (table.open(number)?, listens_on) {
            (Open::Lost(error), _) => Err(DescriptorError::Lost(number, *error)),
            (Open::Listener, Some((port, backlog))) => {
                let local = SocketAddrV4::new(service.address(), port);
                let backlog = u32::try_from(backlog).unwrap_or(u32::MAX);
                table.register(number, DescriptorKind::TcpListener { local, backlog })
            }
            _ => {
                let wanted = "a TCP listener";
                Err(DescriptorError::WrongKind { number, wanted })
            }
        }
    }

    /// Deregisters a descriptor: it will not come back after a takeover. Closing it stays the application's. The thesis's
    /// `hs_fd_deregister`.
    ///
    /// # Errors
    /// It is not open, or not registered.
    pub fn deregister(&self, number: u32) -> Result<(), DescriptorError> {
        self.table().deregister(number)
    }
}

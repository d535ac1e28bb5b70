//! The descriptor table: files, UDP sockets and TCP listeners of an application, under numbers that a restore keeps.
//!
//! ```text
//! number ──> table (here) ─┬─ file: path, mode, offset ──> the machine's files
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
//! a checkpoint during a call shows it not yet begun: the offset before, whatever of the buffer is filled or of the file
//! is written. That agrees with a thread that has not returned from its call. It is for the application to take its checkpoints
//! at moments at which what its calls have returned is noted in its memory, as with all its state.
//!
//! The file itself is on the disk of the pair and is not taken back: what was written since the checkpoint is
//! there after a takeover, behind the offset. An application that writes the same again at the same place does not
//! notice; one that appends may find it twice. Withholding writes until the spare knows of them is not there yet.
//!
//! **Locks.** The service stack's lock comes before the table's, and that before the allocation lock. Calls on sockets and
//! listeners take the service stack's: let go of a [`ServiceGuard`](super::ServiceGuard) first. Two calls on one file come
//! one after the other.
//!
//! Closing a registered descriptor deregisters it: its number may be another's at once.
//!
//! Deliberately absent: `dup`, descriptors of single connections (those are named by the stack, and are reset at a takeover),
//! blocking reads of sockets: the application sleeps on [`Node::signal`].

mod error;
mod file;
mod restore;
mod socket;
mod table;
#[cfg(test)]
mod tests;

use core::net::SocketAddrV4;

use hs_core::platform::{FileError, Files};
use hs_core::registry::descriptor::{DescriptorKind, UdpFlags};
use hs_core::sync::MutexGuard;

pub use self::error::{DescriptorError, ReopenError};
pub use self::file::Seek;
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
        self.node.machine().files().ok_or(FileError::NoDisk)
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

    /// Closes a descriptor. What was written to a file is on the disk afterwards; what waits in a socket is thrown away;
    /// connections that a listener has accepted go on. A registered one is deregistered.
    ///
    /// # Errors
    /// It is not open; or the disk failed, and it is closed all the same.
    pub fn close(&self, number: u32) -> Result<(), DescriptorError> {
        let open = {
            let mut table = self.table();
            while let Open::File(OpenFile { busy: true, .. }) = table.open(number)? {
                self.node.descriptor_idle.wait(&mut table, None);
            }
            table.empty(number)?
        };
        let closed = match open {
            Open::Pending | Open::Lost(_) => Ok(()),
            Open::File(file) => self
                .files()
                .and_then(|files| files.close(file.handle))
                .map_err(|error| DescriptorError::File(number, error)),
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

//! Opening what the records of a restored library name, at a takeover.

use core::net::SocketAddrV4;

use hs_core::platform::FileError;
use hs_core::registry::descriptor::{Descriptor, DescriptorKind, FileMode, FilePath};

use super::Descriptors;
use super::error::{DescriptorError, ReopenError};
use super::table::Open;
use crate::service::{Service, UdpError};

impl Descriptors {
    /// Opens again what `records` name, under their numbers, with sockets and listeners in the restored `service`. What it
    /// holds for descriptors that were not registered is closed there. What cannot be opened is lost, and logged.
    pub(in crate::node) fn restore(&self, records: &[Descriptor], service: &mut Service) {
        if let Err(error) = self.table().pending.adopt() {
            log::error!("changes of files that waited are lost: {error}");
        }
        let is_kept = |number| records.iter().any(|record| record.number == number);
        service.udp_retain(is_kept);
        service.listeners_retain(is_kept);
        // First of all: a socket's port may be another's by now.
        for record in records {
            if let DescriptorKind::Udp { local, .. } = record.kind
                && service
                    .udp_name(record.number)
                    .is_ok_and(|name| name.port() != local.port())
            {
                // It is open: it has a name.
                let _ = service.udp_close(record.number);
            }
        }
        for &Descriptor { number, kind } in records {
            let opened = match kind {
                DescriptorKind::File { path, mode, offset } => self
                    .reopen_file(path, mode, offset)
                    .map_err(|error| ReopenError::File(reason(error))),
                DescriptorKind::Udp { local, peer, .. } => {
                    reopen_udp(service, number, local, peer).map_err(ReopenError::Udp)
                }
                DescriptorKind::TcpListener { local, backlog } => match service.listens_on(number) {
                    Some(_) => Ok(Open::Listener),
                    None => service
                        .listen_for(Some(number), local.port(), backlog as usize)
                        .map(|()| Open::Listener)
                        .map_err(ReopenError::Listen),
                },
            };
            let open = opened.unwrap_or_else(|error| {
                log::warn!("descriptor {number} is lost: {error} ({kind:?})");
                Open::Lost(error)
            });
            let known = self.table().restore(number, kind, open);
            self.note_addresses(service, number);
            if !known {
                log::warn!("descriptor {number} is beyond the table: nobody can reach what it names");
            }
        }
    }

    /// Nothing is written here: what waits in the restored queue is made afterwards, and is seen as made before that.
    fn reopen_file(&self, path: FilePath, mode: FileMode, offset: u64) -> Result<Open, DescriptorError> {
        let (mut file, _) = self.open_file(&mut self.node.disk.lock(), path, mode)?;
        if file.len_bytes < offset {
            log::warn!(
                "file {} has only {} bytes, its offset is {offset}: somebody else has cut it off",
                path.as_str(),
                file.len_bytes
            );
        }
        file.offset = offset;
        Ok(Open::File(file))
    }
}

/// Why a file could not be opened, in the words of files.
fn reason(error: DescriptorError) -> FileError {
    match error {
        DescriptorError::Open(error) => error,
        // It is not there, and could not be made for want of room among the changes that wait.
        _ => FileError::Full,
    }
}

/// Opens a socket, unless it is open as it should be, and binds and connects it.
fn reopen_udp(
    service: &mut Service,
    number: u32,
    local: SocketAddrV4,
    peer: Option<SocketAddrV4>,
) -> Result<Open, UdpError> {
    if service.udp_name(number).is_err() {
        service.udp_open(number)?;
        if local.port() != 0 {
            service.udp_bind(number, local.port())?;
        }
    }
    service.udp_connect(number, peer)?;
    Ok(Open::Udp {
        recorded: (local, peer),
    })
}

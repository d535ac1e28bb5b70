//! Descriptors: which files, UDP sockets and TCP listeners the application had open, under which numbers.
//!
//! A record says how to open a thing again, as in the thesis's chapter 3.5.3: a file by its path, mode and offset, a socket
//! by its addresses. All records have one length, so that a damaged one cannot shift those behind it; the thesis's
//! are as long as their paths.
//!
//! ```text
//! number u32 │ kind u8 │ flags u8 │ length of the path u8 │ 0 │ offset u64
//! local address, port │ peer's address, port │ backlog u32 │ path, filled up with zeroes [64]
//! ```
//!
//! The library keeps these records, sends them with each checkpoint and gives them back after a restore. The things
//! themselves are opened, registered and opened again by the descriptor table of `hs-net`, which is what applications use. It
//! enters what changes when it changes ([`change`]), under a lock that a checkpoint takes, so that they agree with the memory of the
//! same checkpoint: the thesis asks its kernel while the application goes on, and may find a later state.

#[cfg(test)]
pub(crate) mod tests;

use alloc::vec::Vec;
use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};

use bitflags::bitflags;

use crate::library::{self, Library, NotStarted};

/// Longest path, in bytes.
pub const PATH_LEN_MAX: usize = 64;

/// Length of a record, in the library area and in a checkpoint.
pub(crate) const RECORD_LEN: usize = HEAD_LEN + PATH_LEN_MAX;
/// Of a record, all but the path: what may change while it is registered lies here.
pub(crate) const HEAD_LEN: usize = 32;

pub(crate) type Record = [u8; RECORD_LEN];

const FILE: u8 = 1;
const UDP: u8 = 2;
const TCP_LISTENER: u8 = 3;

/// Flag of a UDP socket that is connected, beside its [`UdpFlags`].
const HAS_PEER: u8 = 1;

bitflags! {
    /// How a file was opened.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct FileMode: u8 {
        /// To be read.
        const READ = 1;
        /// To be written.
        const WRITE = 2;
        /// Each write goes to its end.
        const APPEND = 4;
        /// Its changes reach the disk at once, rather than with the checkpoint that covers them: after a takeover the disk
        /// may be ahead of the application. The thesis's asynchronous mode.
        const ASYNC = 8;
    }
}

bitflags! {
    /// What is asked of a UDP socket and brought back at a restore.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct UdpFlags: u8 {
        /// Its own address: it is bound to the same after a restore. The thesis's `HSFD_UDP4_GETNAME`.
        const GETNAME = 2;
        /// Its peer's address: it is connected to the same after a restore, if it was connected at all. The thesis's
        /// `HSFD_UDP4_GETPEER`.
        const GETPEER = 4;
        /// They are those at each checkpoint, not only those when it is registered. The thesis's `HSFD_UDP4_CPTREFRESH`.
        const CPTREFRESH = 8;
    }
}

/// Path of a file from the root of its file system, of names of eight and three letters: `LOGS/TODAY.TXT`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FilePath {
    len: u8,
    /// Behind the path: zeroes.
    bytes: [u8; PATH_LEN_MAX],
}

/// Why a path is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathError {
    /// It has more than [`PATH_LEN_MAX`] bytes.
    TooLong {
        /// How many it has.
        len_bytes: usize,
    },
    /// The name that begins at this byte is not of eight and three letters, digits or ``!#$%&'()-@^_`{}~``.
    NotAName {
        /// Which byte.
        at: usize,
    },
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathError::TooLong { len_bytes } => {
                write!(f, "the path has {len_bytes} bytes, more than {PATH_LEN_MAX}")
            }
            PathError::NotAName { at } => write!(
                f,
                "the path's name at byte {at} is not one of at most eight letters, a point and three letters"
            ),
        }
    }
}

impl FilePath {
    /// The path `text`. Small letters become capitals, as in the file system.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn new(text: &str) -> Result<Self, PathError> {
        let len_bytes = text.len();
        if len_bytes > PATH_LEN_MAX {
            return Err(PathError::TooLong { len_bytes });
        }
        let mut at = 0;
        for name in text.split('/') {
            if !is_name(name) {
                return Err(PathError::NotAName { at });
            }
            at += name.len() + 1;
        }
        let mut bytes = [0; PATH_LEN_MAX];
        bytes[..len_bytes].copy_from_slice(text.as_bytes());
        bytes.make_ascii_uppercase();
        Ok(Self {
            len: len_bytes as u8,
            bytes,
        })
    }

    /// It as text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("a path is of letters")
    }
}

/// Whether `name` is one of eight and three letters.
fn is_name(name: &str) -> bool {
    let is_of = |part: &str, len_max: usize| {
        let letters = part
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'()-@^_`{}~".contains(&byte));
        letters && (1..=len_max).contains(&part.len())
    };
    match name.split_once('.') {
        Some((base, extension)) => is_of(base, 8) && is_of(extension, 3),
        None => is_of(name, 8),
    }
}

impl fmt::Debug for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// What is open.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DescriptorKind {
    /// A file. The thesis's `hs_fdreg_filefd`.
    File {
        /// Which.
        path: FilePath,
        /// How it was opened.
        mode: FileMode,
        /// Where the next read or write is, in bytes from its start.
        offset: u64,
    },
    /// A UDP socket. The thesis's `hs_fdreg_sockudp4`.
    Udp {
        /// The address that it is to be bound to; port 0 if to none.
        local: SocketAddrV4,
        /// The address that it is to be connected to, if to any.
        peer: Option<SocketAddrV4>,
        /// What was asked of it.
        flags: UdpFlags,
    },
    /// A TCP socket that listens. The thesis's `hs_fdreg_socktcp4_listen`.
    TcpListener {
        /// The address that it listens on.
        local: SocketAddrV4,
        /// Most connections that may wait for the application.
        backlog: u32,
    },
}

/// A registered descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Descriptor {
    /// The number that the application knows it by; it is the same after a restore.
    pub number: u32,
    /// What is open under it.
    pub kind: DescriptorKind,
}

fn number_of(record: &Record) -> u32 {
    u32::from_le_bytes(record[..4].try_into().expect("four bytes"))
}

fn put_address(record: &mut [u8], address: SocketAddrV4) {
    record[..4].copy_from_slice(&address.ip().octets());
    record[4..6].copy_from_slice(&address.port().to_le_bytes());
}

fn address_of(record: &[u8]) -> SocketAddrV4 {
    let [a, b, c, d, low, high] = record[..6].try_into().expect("six bytes");
    SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_le_bytes([low, high]))
}

impl Descriptor {
    /// Its record.
    pub(crate) fn to_record(self) -> Record {
        let mut record = [0; RECORD_LEN];
        record[..4].copy_from_slice(&self.number.to_le_bytes());
        match self.kind {
            DescriptorKind::File { path, mode, offset } => {
                record[4] = FILE;
                record[5] = mode.bits();
                record[6] = path.len;
                record[8..16].copy_from_slice(&offset.to_le_bytes());
                record[32..].copy_from_slice(&path.bytes);
            }
            DescriptorKind::Udp { local, peer, flags } => {
                record[4] = UDP;
                record[5] = flags.bits();
                put_address(&mut record[16..22], local);
                if let Some(peer) = peer {
                    record[5] |= HAS_PEER;
                    put_address(&mut record[22..28], peer);
                }
            }
            DescriptorKind::TcpListener { local, backlog } => {
                record[4] = TCP_LISTENER;
                put_address(&mut record[16..22], local);
                record[28..32].copy_from_slice(&backlog.to_le_bytes());
            }
        }
        record
    }

    /// The descriptor of `record`, if it is one: each descriptor has one record only.
    pub(crate) fn of_record(record: &Record) -> Option<Self> {
        let number = number_of(record);
        let kind = match record[4] {
            FILE => {
                let path = record[32..].get(..usize::from(record[6]))?;
                DescriptorKind::File {
                    path: FilePath::new(core::str::from_utf8(path).ok()?).ok()?,
                    mode: FileMode::from_bits(record[5])?,
                    offset: u64::from_le_bytes(record[8..16].try_into().expect("eight bytes")),
                }
            }
            UDP => DescriptorKind::Udp {
                local: address_of(&record[16..22]),
                peer: (record[5] & HAS_PEER != 0).then(|| address_of(&record[22..28])),
                flags: UdpFlags::from_bits(record[5] & !HAS_PEER)?,
            },
            TCP_LISTENER => DescriptorKind::TcpListener {
                local: address_of(&record[16..22]),
                backlog: u32::from_le_bytes(record[28..32].try_into().expect("four bytes")),
            },
            _ => return None,
        };
        let descriptor = Self { number, kind };
        (descriptor.to_record() == *record).then_some(descriptor)
    }
}

/// The first of `descriptors` whose number an earlier one has.
pub(crate) fn repeated(descriptors: &[Descriptor]) -> Option<usize> {
    (1..descriptors.len()).find(|index| {
        let number = descriptors[*index].number;
        descriptors[..*index]
            .iter()
            .any(|earlier| earlier.number == number)
    })
}

/// Why a descriptor was not registered, updated or deregistered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DescriptorError {
    /// The library was not started.
    NotStarted,
    /// The table is full.
    TooMany,
    /// A descriptor of this number is registered: update or deregister it.
    Registered(u32),
    /// No descriptor of this number is registered.
    NotRegistered(u32),
}

impl From<NotStarted> for DescriptorError {
    fn from(_: NotStarted) -> Self {
        Self::NotStarted
    }
}

impl fmt::Display for DescriptorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DescriptorError::NotStarted => NotStarted.fmt(f),
            DescriptorError::TooMany => {
                write!(f, "the table of {} descriptors is full", library::DESCRIPTORS_MAX)
            }
            DescriptorError::Registered(number) => {
                write!(
                    f,
                    "descriptor {number} is registered already: update or deregister it"
                )
            }
            DescriptorError::NotRegistered(number) => write!(f, "descriptor {number} is not registered"),
        }
    }
}

/// Registers a descriptor, to be found again after a restore. The thesis's family `hs_fdreg_*`.
///
/// # Errors
/// The library was not started, the table is full, or a descriptor of this number is registered.
pub fn register(descriptor: Descriptor) -> Result<(), DescriptorError> {
    library::with(|library| {
        let (_, records, _) = library.records();
        if records
            .iter()
            .any(|record| number_of(record) == descriptor.number)
        {
            return Err(DescriptorError::Registered(descriptor.number));
        }
        match library.tables_mut().push_descriptor(descriptor.to_record()) {
            true => Ok(()),
            false => Err(DescriptorError::TooMany),
        }
    })?
}

/// Replaces what is registered under the descriptor's number: after a file was read or written, say.
///
/// # Errors
/// The library was not started, or no descriptor of this number is registered.
pub fn update(descriptor: Descriptor) -> Result<(), DescriptorError> {
    with_index(descriptor.number, |library, index| {
        *library.tables_mut().descriptor_mut(index) = descriptor.to_record();
    })
}

/// What of a registered descriptor has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// A file's offset.
    Offset(u64),
    /// A UDP socket's own address, and its peer's.
    Addresses(SocketAddrV4, Option<SocketAddrV4>),
}

impl Change {
    /// Enters it into a record of the kind that has it.
    fn apply(self, record: &mut [u8]) {
        match (self, record[4]) {
            (Change::Offset(offset), FILE) => record[8..16].copy_from_slice(&offset.to_le_bytes()),
            (Change::Addresses(local, peer), UDP) => {
                put_address(&mut record[16..22], local);
                record[22..28].fill(0);
                record[5] &= !HAS_PEER;
                if let Some(peer) = peer {
                    put_address(&mut record[22..28], peer);
                    record[5] |= HAS_PEER;
                }
            }
            _ => {}
        }
    }
}

/// Enters a change into the record of `number`; one that its kind does not have changes nothing. No record is read, and only what has
/// changed is written.
///
/// # Errors
/// The library was not started, or no descriptor of this number is registered.
pub fn change(number: u32, change: Change) -> Result<(), DescriptorError> {
    with_index(number, |library, index| {
        change.apply(library.descriptor_head_mut(index))
    })
}

/// Deregisters the descriptor of this number; closing it stays the application's. The thesis's `hs_fd_deregister`.
///
/// # Errors
/// The library was not started, or no descriptor of this number is registered.
pub fn deregister(number: u32) -> Result<(), DescriptorError> {
    with_index(number, |library, index| {
        library.tables_mut().remove_descriptor(index)
    })
}

fn with_index(number: u32, with: impl FnOnce(&mut Library, usize)) -> Result<(), DescriptorError> {
    library::with(|library| {
        let index = library
            .records()
            .1
            .iter()
            .position(|record| number_of(record) == number)
            .ok_or(DescriptorError::NotRegistered(number))?;
        with(library, index);
        Ok(())
    })?
}

/// The registered descriptors, in the order of their registration.
pub fn descriptors() -> Vec<Descriptor> {
    library::with(|library| library.descriptors().collect()).unwrap_or_default()
}

//! A few named words in the library area: where to find things again after a restore, without a global pointer.
//!
//! A [`Root<T>`] keeps a value that lies in a class. Its tag is stored beside the address and compared when it is taken, so
//! that no address is read as what it is not. Builds are compared before a checkpoint is accepted, so the type is the same one.
//!
//! ```
//! use hs_core::roots::{Root, RootId};
//!
//! struct Game { score: u64 }
//! const GAME: Root<Game> = Root::new(RootId::APPLICATION);
//! // A fresh master:      GAME.keep(game)?    with a `&'static mut Game` that lies in a class
//! // and then on both:    let game = GAME.take()?;
//! ```
//!
//! Plain words ([`set`], [`get`]) are for libraries that know what to make of an address.

use core::any::TypeId;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::library::{self, Library, NotStarted, ROOTS_MAX, RootEntry};
use crate::raw;

/// Names a root.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RootId(u8);

impl RootId {
    /// The service stack of `hs-net`.
    pub const SERVICE: RootId = RootId(0);
    /// What the application keeps.
    pub const APPLICATION: RootId = RootId(1);

    /// The changes of files of `hs-net` that wait.
    pub const FILES: RootId = RootId(2);

    /// Root `index`; the first eight are for the libraries, the others the application's own. `None` if there are not
    /// so many.
    pub const fn new(index: u8) -> Option<Self> {
        if (index as usize) < ROOTS_MAX {
            Some(Self(index))
        } else {
            None
        }
    }
}

impl fmt::Display for RootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "root {}", self.0)
    }
}

/// Sets a root to a plain word.
///
/// # Errors
/// The library was not started.
pub fn set(root: RootId, value: usize) -> Result<(), NotStarted> {
    let entry = RootEntry {
        value,
        tag: 0,
        len_bytes: 0,
    };
    library::with(|library| library.tables_mut().set_root(usize::from(root.0), entry))
}

/// The root's value, or `None` if it was never set (or the library never started). Of a typed one, the address.
pub fn get(root: RootId) -> Option<usize> {
    library::with(|library| library.tables().root(usize::from(root.0)))
        .ok()
        .flatten()
        .map(|entry| entry.value)
}

/// Why a root does not keep a value, or does not give it out. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RootError {
    /// The library was not started.
    NotStarted,
    /// The value does not lie in a class: it would be lost.
    NotInClass {
        /// Its address.
        address: usize,
    },
    /// Another root keeps the value, or a part of it, or what it is part of: both could be taken after a restore.
    Overlaps(RootId),
    /// A registered worker has the value, or a part of it, as its argument.
    Worker(RootId),
    /// A registered restore hook has the value, or a part of it, as its argument, and may still look at it.
    Hook(RootId),
    /// Nothing is kept there.
    Empty(RootId),
    /// What is kept there is of another type, or a plain word.
    WrongType(RootId),
    /// It was taken already; it can be taken again after the next restore.
    Taken(RootId),
}

impl From<NotStarted> for RootError {
    fn from(_: NotStarted) -> Self {
        Self::NotStarted
    }
}

impl fmt::Display for RootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RootError::NotStarted => NotStarted.fmt(f),
            RootError::NotInClass { address } => write!(
                f,
                "{address:#x} does not lie in a class, and would be lost: allocate what a root keeps in one"
            ),
            RootError::Overlaps(root) => write!(f, "{root} keeps the value already, or a part of it"),
            RootError::Worker(root) => write!(f, "what {root} keeps is the argument of a registered worker"),
            RootError::Hook(root) => write!(
                f,
                "what {root} keeps is the argument of a registered restore hook"
            ),
            RootError::Empty(root) => write!(f, "{root} keeps nothing"),
            RootError::WrongType(root) => write!(f, "{root} keeps a value of another type"),
            RootError::Taken(root) => write!(f, "{root} was taken already"),
        }
    }
}

/// Which roots were taken since the library state was started or adopted: outside checkpointable memory, because whoever took one
/// is gone after a restore.
static TAKEN: AtomicU32 = AtomicU32::new(0);

const _: () = assert!(ROOTS_MAX <= u32::BITS as usize);

/// Another library state begins.
pub(crate) fn forget_taken() {
    TAKEN.store(0, Ordering::SeqCst);
}

/// A root that keeps a `T`.
pub struct Root<T> {
    id: RootId,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Root<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Root<T> {}

impl<T> fmt::Debug for Root<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Root").field(&self.id).finish()
    }
}

impl<T: Send + 'static> Root<T> {
    /// The root `id`, as one that keeps a `T`.
    pub const fn new(id: RootId) -> Self {
        Self { id, of: PhantomData }
    }

    /// Keeps `value`, which lies in a class, in place of what was kept. It is had again by [`take`](Self::take), here or after
    /// a restore.
    ///
    /// # Errors
    /// See [`RootError`].
    pub fn keep(self, value: &'static mut T) -> Result<(), RootError> {
        let address = raw::expose(value);
        library::with(|library| {
            if !lies_in_area::<T>(library, address) {
                return Err(RootError::NotInClass { address });
            }
            let entry = RootEntry {
                value: address,
                tag: tag::<T>(),
                len_bytes: size_of::<T>(),
            };
            let others = (0..ROOTS_MAX).filter(|other| *other != self.index());
            let mut set = others.filter_map(|other| Some((other, library.tables().root(other)?)));
            if let Some((other, _)) = set.find(|(_, other)| overlap(*other, entry)) {
                return Err(RootError::Overlaps(RootId(other as u8)));
            }
            library.tables_mut().set_root(self.index(), entry);
            TAKEN.fetch_and(!self.bit(), Ordering::SeqCst);
            Ok(())
        })?
    }

    /// The value that is kept: once, until the next restore.
    ///
    /// # Errors
    /// See [`RootError`].
    pub fn take(self) -> Result<&'static mut T, RootError> {
        let address = library::with(|library| {
            let entry = library
                .tables()
                .root(self.index())
                .ok_or(RootError::Empty(self.id))?;
            if entry.tag != tag::<T>() {
                return Err(RootError::WrongType(self.id));
            }
            let address = entry.value;
            if !lies_in_area::<T>(library, address) {
                return Err(RootError::NotInClass { address });
            }
            let mut workers = library.workers();
            if workers.any(|worker| worker.argument().wrapping_sub(address) < entry.len_bytes) {
                return Err(RootError::Worker(self.id));
            }
            let mut restored = library.restore_arguments();
            if restored.any(|argument| argument.wrapping_sub(address) < entry.len_bytes) {
                return Err(RootError::Hook(self.id));
            }
            if TAKEN.fetch_or(self.bit(), Ordering::SeqCst) & self.bit() != 0 {
                return Err(RootError::Taken(self.id));
            }
            Ok(address)
        })??;
        Ok(raw::reclaim(address))
    }

    fn index(self) -> usize {
        usize::from(self.id.0)
    }

    fn bit(self) -> u32 {
        1 << self.id.0
    }
}

/// Whether two roots keep the same bytes.
fn overlap(one: RootEntry, other: RootEntry) -> bool {
    let typed = one.tag != 0 && other.tag != 0;
    let end = |root: RootEntry| root.value.saturating_add(root.len_bytes);
    typed && one.value < end(other) && other.value < end(one)
}

fn lies_in_area<T>(library: &Library, address: usize) -> bool {
    address.is_multiple_of(align_of::<T>()) && library.tables().lies_in_class(address, size_of::<T>())
}

/// Tells the type apart from all others of the same build; never 0.
fn tag<T: 'static>() -> u64 {
    /// FNV-1a: what is hashed is a hash itself.
    struct Fnv(u64);
    impl Hasher for Fnv {
        fn finish(&self) -> u64 {
            self.0
        }

        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
    }
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    TypeId::of::<T>().hash(&mut hasher);
    (size_of::<T>(), align_of::<T>()).hash(&mut hasher);
    hasher.finish().max(1)
}

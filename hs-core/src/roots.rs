//! A few named words in the library area: where to find things again after a restore.
//!
//! A root is most often the address of something that lies in a class.

use crate::library::{self, NotStarted, ROOTS_MAX};

/// Names a root.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RootId(u8);

impl RootId {
    /// The service stack of `hs-net`.
    pub const SERVICE: RootId = RootId(0);
    /// What the application keeps.
    pub const APPLICATION: RootId = RootId(1);

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

/// Sets a root.
///
/// # Errors
/// The library was not started.
pub fn set(root: RootId, value: usize) -> Result<(), NotStarted> {
    library::with(|library| library.tables_mut().set_root(usize::from(root.0), value))
}

/// The root's value, or `None` if it was never set (or the library never started).
pub fn get(root: RootId) -> Option<usize> {
    library::with(|library| library.tables().root(usize::from(root.0)))
        .ok()
        .flatten()
}

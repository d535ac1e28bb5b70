//! SQLite itself: the bundled amalgamation, freestanding, with all of its state in checkpointable memory.
//!
//! ```text
//! connections, statements, caches, journals   heap class, by SQLITE_CONFIG_MALLOC     heap.rs
//! the database file, page by page             data class                              volume.rs, behind vfs.rs
//! SQLite's variables                          the checkpointed section (a guest's C flags and the kernel's linker script)
//! the machine: clock, chance                  not checkpointed; asked anew each time
//! ```
//! So a checkpoint that is taken between two calls into SQLite holds it whole, open transactions included.
//!
//! SQLite is compiled without threads (`SQLITE_THREADSAFE=0`): one thread at a time may be inside. The guest has one worker;
//! host tests hold the library's session.
//!
//! This module and those under it are the only unsafe code of the package.

mod connection;
mod heap;
mod vfs;
pub mod volume;
mod watch;

use core::ffi::{CStr, c_int};
use core::fmt;
use core::ptr::NonNull;

use allocator_api2::boxed::Box;
use hs_core::class::Class;
use libsqlite3_sys as ffi;

pub use self::connection::{Connection, SqlError, Statement, Step};
use self::volume::Volume;
pub use self::watch::set_breather;

/// Name of the database file.
const DATABASE: &CStr = c"main.db";

/// Longest text, blob or row of SQLite's, in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Most columns of a table or a result.
pub const COLUMNS_MAX: usize = 500;

/// SQLite refused something before there was any SQL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EngineError {
    /// SQLite's result code.
    pub code: i32,
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: any number will do; the text is a constant.
        let text = unsafe { CStr::from_ptr(ffi::sqlite3_errstr(self.code)) };
        let text = text.to_str().unwrap_or("unknown error");
        write!(f, "SQLite cannot start: {text} ({})", self.code)
    }
}

fn checked(code: c_int) -> Result<(), EngineError> {
    if code == ffi::SQLITE_OK {
        Ok(())
    } else {
        Err(EngineError { code })
    }
}

/// SQLite, started, with an empty database. It lies in checkpointable memory and is the same after a restore.
#[derive(Debug)]
pub struct Engine {
    volume: NonNull<Volume<Class>>,
    vfs: NonNull<ffi::sqlite3_vfs>,
}

// SAFETY: whoever has the engine may use it from any thread, one at a time: it is not `Sync`, nor are connections.
unsafe impl Send for Engine {}

impl Engine {
    /// Starts SQLite with its heap in `heap` and a database of at most `database_bytes_max` in `data`.
    ///
    /// # Errors
    /// There is no memory, or SQLite was started before and not ended.
    pub fn start(
        heap: Class,
        heap_bytes_max: usize,
        data: Class,
        database_bytes_max: usize,
    ) -> Result<Self, EngineError> {
        let out_of_memory = EngineError {
            code: ffi::SQLITE_NOMEM,
        };
        let volume = Volume::new(data, database_bytes_max);
        let volume = Box::leak(Box::try_new_in(volume, heap).map_err(|_| out_of_memory)?);
        let volume = NonNull::from(volume);
        let vfs = Box::leak(Box::try_new_in(vfs::new(volume), heap).map_err(|_| out_of_memory)?);
        let vfs = NonNull::from(vfs);
        heap::use_class(heap)?;
        // SAFETY: SQLite is configured; the VFS stays where it is for as long as the engine.
        unsafe {
            vfs::offer(vfs);
            checked(ffi::sqlite3_initialize())?;
            ffi::sqlite3_hard_heap_limit64(i64::try_from(heap_bytes_max).unwrap_or(i64::MAX));
        }
        Ok(Self { volume, vfs })
    }

    /// A connection of its own to the database.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn connect(&self) -> Result<Connection, EngineError> {
        Connection::open(DATABASE)
    }

    /// Lets `with` look at the database file.
    pub fn volume<R>(&self, with: impl FnOnce(&mut Volume<Class>) -> R) -> R {
        // SAFETY: it lives as long as the engine; nobody is inside of SQLite, which is called by this thread alone, so this is
        // the only reference.
        with(unsafe { &mut *self.volume.as_ptr() })
    }

    /// Draws SQLite's random numbers from this machine's entropy from now on: two machines must not go on with the same.
    pub fn reseed(&self) {
        // SAFETY: no bytes are asked for.
        unsafe { ffi::sqlite3_randomness(0, core::ptr::null_mut()) };
    }
}

impl Drop for Engine {
    /// Ends SQLite. All connections have been closed.
    fn drop(&mut self) {
        // SAFETY: nothing of SQLite's is in use any more; the two boxes were leaked by `start` from the class that is still set.
        unsafe {
            ffi::sqlite3_vfs_unregister(self.vfs.as_ptr());
            ffi::sqlite3_shutdown();
            if let Some(heap) = heap::class() {
                drop(Box::from_raw_in(self.vfs.as_ptr(), heap));
                drop(Box::from_raw_in(self.volume.as_ptr(), heap));
            }
        }
    }
}

/// SQLite's own word on whether a text ends with a statement's end.
#[cfg(test)]
pub(crate) fn is_complete(text: &str) -> bool {
    let text = alloc::ffi::CString::new(text).expect("no zero bytes");
    // SAFETY: text that ends with a zero; the function has no state.
    unsafe { ffi::sqlite3_complete(text.as_ptr()) != 0 }
}

#[cfg(test)]
mod tests;

//! Connections and statements: SQLite's C interface without its sharp edges.

use alloc::string::String;
use core::ffi::{CStr, c_int};
use core::ptr::{self, NonNull};
use core::slice;

use hs_core::platform::Instant;
use hs_core::sync::machine;
use libsqlite3_sys as ffi;

use super::{COLUMNS_MAX, EngineError, VALUE_BYTES_MAX, checked, watch};

unsafe extern "C" {
    /// Not among the crate's declarations.
    fn sqlite3_close_v2(connection: *mut ffi::sqlite3) -> c_int;
}

/// Longest message that is passed on, in bytes: it may quote a statement.
const MESSAGE_BYTES_MAX: usize = 1_000;

/// What SQLite says is wrong with a statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SqlError {
    /// SQLite's primary result code.
    pub code: i32,
    /// In its words.
    pub message: String,
    /// Where in the statement, if it knows; in bytes.
    pub at: Option<usize>,
}

/// A connection to the database. Closed when dropped: what it has not committed is rolled back then, or when the last of its
/// statements is dropped.
#[derive(Debug)]
pub struct Connection {
    raw: NonNull<ffi::sqlite3>,
}

// SAFETY: a connection may be used from any thread, one at a time: it is not `Sync`.
unsafe impl Send for Connection {}

impl Connection {
    pub(super) fn open(name: &CStr) -> Result<Self, EngineError> {
        let mut raw = ptr::null_mut();
        let flags = ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_CREATE;
        // SAFETY: a name that ends with a zero, and a place for the connection.
        let code = unsafe { ffi::sqlite3_open_v2(name.as_ptr(), &raw mut raw, flags, ptr::null()) };
        // Even one that could not be opened is to be closed.
        let raw = NonNull::new(raw).ok_or(EngineError {
            code: ffi::SQLITE_NOMEM,
        })?;
        let mut connection = Self { raw };
        checked(code)?;
        connection.settle()?;
        Ok(connection)
    }

    fn settle(&mut self) -> Result<(), EngineError> {
        let raw = self.raw.as_ptr();
        // SAFETY: an open connection; the options take these arguments.
        unsafe {
            // No statement may damage the file.
            let (on, nowhere) = (1 as c_int, ptr::null_mut::<c_int>());
            checked(ffi::sqlite3_db_config(
                raw,
                ffi::SQLITE_DBCONFIG_DEFENSIVE,
                on,
                nowhere,
            ))?;
            ffi::sqlite3_limit(raw, ffi::SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX as c_int);
            ffi::sqlite3_limit(raw, ffi::SQLITE_LIMIT_SQL_LENGTH, VALUE_BYTES_MAX as c_int);
            ffi::sqlite3_limit(raw, ffi::SQLITE_LIMIT_COLUMN, COLUMNS_MAX as c_int);
            // VACUUM attaches one.
            ffi::sqlite3_limit(raw, ffi::SQLITE_LIMIT_ATTACHED, 1);
            ffi::sqlite3_progress_handler(raw, watch::OPERATIONS, Some(watch::progress), ptr::null_mut());
        }
        // Memory is neither written in halves nor lost by a power cut: the checkpoint is whole.
        for pragma in [c"PRAGMA journal_mode=MEMORY", c"PRAGMA synchronous=OFF"] {
            let prepared = self
                .prepare(pragma)
                .map_err(|error| EngineError { code: error.code })?;
            let Some(mut statement) = prepared.0 else { continue };
            let until = Instant::from_micros(u64::MAX);
            while statement
                .step(until)
                .map_err(|error| EngineError { code: error.code })?
                == Step::Row
            {}
        }
        Ok(())
    }

    /// Compiles the first statement of `sql`, and says how many bytes it took; `None` if there are only spaces and comments.
    ///
    /// # Errors
    /// It is not SQL, or names what is not there.
    pub fn prepare(&mut self, sql: &CStr) -> Result<(Option<Statement>, usize), SqlError> {
        let (mut raw, mut tail) = (ptr::null_mut(), ptr::null());
        let len = c_int::try_from(sql.to_bytes_with_nul().len()).unwrap_or(c_int::MAX);
        // SAFETY: an open connection, and text of that length with its zero.
        let code = unsafe {
            ffi::sqlite3_prepare_v3(
                self.raw.as_ptr(),
                sql.as_ptr(),
                len,
                0,
                &raw mut raw,
                &raw mut tail,
            )
        };
        if code != ffi::SQLITE_OK {
            // SAFETY: an open connection.
            return Err(unsafe { error_of(self.raw.as_ptr(), code) });
        }
        let used = if tail.is_null() {
            sql.count_bytes()
        } else {
            tail.addr() - sql.as_ptr().addr()
        };
        Ok((NonNull::new(raw).map(|raw| Statement { raw }), used))
    }

    /// Whether no transaction is open.
    pub fn is_autocommit(&self) -> bool {
        // SAFETY: an open connection.
        unsafe { ffi::sqlite3_get_autocommit(self.raw.as_ptr()) != 0 }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: open, and used no more; statements that are left keep what they need.
        unsafe { sqlite3_close_v2(self.raw.as_ptr()) };
    }
}

/// # Safety
/// `raw` is a connection whose newest call has failed with `code`.
unsafe fn error_of(raw: *mut ffi::sqlite3, code: c_int) -> SqlError {
    // SAFETY: the caller's promise; the message is read before the next call.
    let (message, at) = unsafe {
        (
            CStr::from_ptr(ffi::sqlite3_errmsg(raw)),
            ffi::sqlite3_error_offset(raw),
        )
    };
    let bytes = message.to_bytes();
    let bytes = &bytes[..bytes.len().min(MESSAGE_BYTES_MAX)];
    SqlError {
        code: code & 0xff,
        message: String::from_utf8_lossy(bytes).into_owned(),
        at: usize::try_from(at).ok(),
    }
}

/// What a step came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A row can be looked at.
    Row,
    /// There are no more.
    Done,
}

/// A compiled statement, perhaps half executed. Dropped, it ends.
#[derive(Debug)]
pub struct Statement {
    raw: NonNull<ffi::sqlite3_stmt>,
}

// SAFETY: as for `Connection`.
unsafe impl Send for Statement {}

impl Statement {
    /// Executes it up to the next row. It is interrupted if that takes until `ends`.
    ///
    /// # Errors
    /// What went wrong; it has ended then.
    pub fn step(&mut self, ends: Instant) -> Result<Step, SqlError> {
        watch::begin(machine().now(), ends);
        // SAFETY: a statement.
        match unsafe { ffi::sqlite3_step(self.raw.as_ptr()) } {
            ffi::SQLITE_ROW => Ok(Step::Row),
            ffi::SQLITE_DONE => Ok(Step::Done),
            // SAFETY: the statement's connection, which has failed just now.
            code => Err(unsafe { error_of(ffi::sqlite3_db_handle(self.raw.as_ptr()), code) }),
        }
    }

    /// Gives the parameter of this number, from 1 on, a text.
    ///
    /// # Errors
    /// There is none, or no memory.
    pub fn bind(&self, number: usize, text: &str) -> Result<(), EngineError> {
        let len = c_int::try_from(text.len()).map_err(|_| EngineError {
            code: ffi::SQLITE_TOOBIG,
        })?;
        // SAFETY: a statement, and text of that length, which SQLite copies.
        checked(unsafe {
            ffi::sqlite3_bind_text(
                self.raw.as_ptr(),
                number as c_int,
                text.as_ptr().cast(),
                len,
                ffi::SQLITE_TRANSIENT(),
            )
        })
    }

    /// Columns of its rows; 0 if it is one without.
    pub fn columns(&self) -> usize {
        // SAFETY: a statement.
        usize::try_from(unsafe { ffi::sqlite3_column_count(self.raw.as_ptr()) }).unwrap_or(0)
    }

    /// The name of a column.
    pub fn name(&self, column: usize) -> &[u8] {
        // SAFETY: a statement; the name lives until the next call for it, which no one makes who has this borrow.
        unsafe {
            let name = ffi::sqlite3_column_name(self.raw.as_ptr(), column as c_int);
            if name.is_null() {
                return &[];
            }
            CStr::from_ptr(name).to_bytes()
        }
    }

    /// The row's value in a column as text, up to a zero byte in it; `None` for NULL.
    pub fn text(&mut self, column: usize) -> Option<&[u8]> {
        // SAFETY: a statement with a row; the text lives until the next call, which the borrow excludes. It is as long as SQLite
        // says after it was asked for the text.
        let bytes = unsafe {
            let text = ffi::sqlite3_column_text(self.raw.as_ptr(), column as c_int);
            if text.is_null() {
                return None;
            }
            let len = ffi::sqlite3_column_bytes(self.raw.as_ptr(), column as c_int);
            slice::from_raw_parts(text, usize::try_from(len).unwrap_or(0))
        };
        let end = bytes.iter().position(|byte| *byte == 0);
        Some(&bytes[..end.unwrap_or(bytes.len())])
    }

    /// Whether the row's value in a column is a number.
    pub fn is_number(&self, column: usize) -> bool {
        // SAFETY: a statement with a row.
        let kind = unsafe { ffi::sqlite3_column_type(self.raw.as_ptr(), column as c_int) };
        matches!(kind, ffi::SQLITE_INTEGER | ffi::SQLITE_FLOAT)
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        // SAFETY: a statement that is used no more.
        unsafe { ffi::sqlite3_finalize(self.raw.as_ptr()) };
    }
}

//! The file system that SQLite sees: one file, the [`Volume`]; the machine's clock and its chance.
//!
//! Journals and temporary tables are kept in SQLite's heap (`journal_mode=memory`, `SQLITE_TEMP_STORE=3`), so that no other file
//! is ever opened; whoever asks for one is refused.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::{size_of, zeroed};
use core::ptr::{self, NonNull};
use core::slice;
use core::sync::atomic::{AtomicPtr, Ordering};

use hs_core::class::Class;
use hs_core::sync::machine;
use libsqlite3_sys as ffi;

use super::DATABASE;
use super::volume::{Lock, Volume};

/// The Julian day of 1 January 1970, in milliseconds.
const EPOCH_MS: i64 = 210_866_760_000_000;

/// What SQLite makes room for in each connection.
#[repr(C)]
struct OpenFile {
    base: ffi::sqlite3_file,
    volume: NonNull<Volume<Class>>,
    held: Lock,
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// What SQLite is to register when it starts. Not checkpointed: a restored SQLite has been started.
static OFFERED: AtomicPtr<ffi::sqlite3_vfs> = AtomicPtr::new(ptr::null_mut());

/// Makes `vfs` the file system of the SQLite that is started next.
pub(super) fn offer(vfs: NonNull<ffi::sqlite3_vfs>) {
    OFFERED.store(vfs.as_ptr(), Ordering::Relaxed);
}

/// What SQLite calls when it starts.
#[unsafe(no_mangle)]
extern "C" fn sqlite3_os_init() -> c_int {
    let vfs = OFFERED.load(Ordering::Relaxed);
    if vfs.is_null() {
        return ffi::SQLITE_ERROR;
    }
    // SAFETY: offered by the engine, which keeps it for longer than SQLite runs.
    unsafe { ffi::sqlite3_vfs_register(vfs, 1) }
}

/// What SQLite calls when it ends.
#[unsafe(no_mangle)]
extern "C" fn sqlite3_os_end() -> c_int {
    ffi::SQLITE_OK
}

/// The file system whose one file is `volume`.
pub(super) fn new(volume: NonNull<Volume<Class>>) -> ffi::sqlite3_vfs {
    // SAFETY: integers, pointers and optional functions: zero is a value of each.
    let empty: ffi::sqlite3_vfs = unsafe { zeroed() };
    ffi::sqlite3_vfs {
        iVersion: 2,
        szOsFile: size_of::<OpenFile>() as c_int,
        mxPathname: 64,
        zName: c"hotspare".as_ptr(),
        pAppData: volume.as_ptr().cast(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTimeInt64: Some(current_time),
        ..empty
    }
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite's arguments: a VFS of ours, a name that ends with a zero or none, and room for an `OpenFile`.
    unsafe {
        // Nothing is to be closed where nothing was opened.
        (*file).pMethods = ptr::null();
        let is_database = !name.is_null() && CStr::from_ptr(name) == DATABASE;
        if !is_database || flags & ffi::SQLITE_OPEN_MAIN_DB == 0 {
            return ffi::SQLITE_CANTOPEN;
        }
        let Some(volume) = NonNull::new((*vfs).pAppData.cast::<Volume<Class>>()) else {
            return ffi::SQLITE_CANTOPEN;
        };
        file.cast::<OpenFile>().write(OpenFile {
            base: ffi::sqlite3_file {
                pMethods: &raw const METHODS,
            },
            volume,
            held: Lock::None,
        });
        if !flags_out.is_null() {
            *flags_out = flags;
        }
    }
    ffi::SQLITE_OK
}

/// The parts of an open file.
///
/// # Safety
/// `file` is one that `open` has filled in, and no other reference to it or its volume is in use: SQLite calls from one thread,
/// and nothing of ours calls back into SQLite.
unsafe fn parts<'a>(file: *mut ffi::sqlite3_file) -> (&'a mut Volume<Class>, &'a mut Lock) {
    // SAFETY: the caller's promise.
    let file = unsafe { &mut *file.cast::<OpenFile>() };
    // SAFETY: the engine keeps the volume for longer than any connection.
    (unsafe { file.volume.as_mut() }, &mut file.held)
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite's open file.
    let (volume, held) = unsafe { parts(file) };
    *held = volume.unlock(*held, Lock::None);
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, into: *mut c_void, len: c_int, offset: i64) -> c_int {
    let (Ok(len), Ok(offset)) = (usize::try_from(len), usize::try_from(offset)) else {
        return ffi::SQLITE_IOERR_READ;
    };
    // SAFETY: SQLite's open file, and its buffer of that length.
    let ((volume, _), into) = unsafe { (parts(file), slice::from_raw_parts_mut(into.cast::<u8>(), len)) };
    let count = volume.read(offset, into);
    if count == len {
        return ffi::SQLITE_OK;
    }
    into[count..].fill(0);
    ffi::SQLITE_IOERR_SHORT_READ
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    len: c_int,
    offset: i64,
) -> c_int {
    let (Ok(len), Ok(offset)) = (usize::try_from(len), usize::try_from(offset)) else {
        return ffi::SQLITE_IOERR_WRITE;
    };
    // SAFETY: SQLite's open file, and its buffer of that length.
    let ((volume, _), from) = unsafe { (parts(file), slice::from_raw_parts(from.cast::<u8>(), len)) };
    match volume.write(offset, from) {
        Ok(()) => ffi::SQLITE_OK,
        Err(_) => ffi::SQLITE_FULL,
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, len: i64) -> c_int {
    // SAFETY: SQLite's open file.
    let (volume, _) = unsafe { parts(file) };
    match usize::try_from(len) {
        Ok(len_bytes) => {
            volume.truncate(len_bytes);
            ffi::SQLITE_OK
        }
        Err(_) => ffi::SQLITE_IOERR_TRUNCATE,
    }
}

unsafe extern "C" fn sync(_: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    // SAFETY: SQLite's open file and its place for the size.
    unsafe {
        let (volume, _) = parts(file);
        *size = i64::try_from(volume.len_bytes()).unwrap_or(i64::MAX);
    }
    ffi::SQLITE_OK
}

const fn lock_of(number: c_int) -> Lock {
    match number {
        ffi::SQLITE_LOCK_NONE => Lock::None,
        ffi::SQLITE_LOCK_SHARED => Lock::Shared,
        ffi::SQLITE_LOCK_RESERVED => Lock::Reserved,
        ffi::SQLITE_LOCK_PENDING => Lock::Pending,
        _ => Lock::Exclusive,
    }
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, wanted: c_int) -> c_int {
    // SAFETY: SQLite's open file.
    let (volume, held) = unsafe { parts(file) };
    let wanted = lock_of(wanted);
    *held = volume.lock(*held, wanted);
    if *held >= wanted {
        ffi::SQLITE_OK
    } else {
        ffi::SQLITE_BUSY
    }
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, wanted: c_int) -> c_int {
    // SAFETY: SQLite's open file.
    let (volume, held) = unsafe { parts(file) };
    *held = volume.unlock(*held, lock_of(wanted));
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, result: *mut c_int) -> c_int {
    // SAFETY: SQLite's open file and its place for the result.
    unsafe {
        let (volume, _) = parts(file);
        *result = c_int::from(volume.is_reserved());
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn device_characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, _: *const c_char, _: c_int) -> c_int {
    ffi::SQLITE_IOERR_DELETE_NOENT
}

unsafe extern "C" fn access(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    _: c_int,
    result: *mut c_int,
) -> c_int {
    // SAFETY: SQLite's name, which ends with a zero, and its place for the result.
    unsafe { *result = c_int::from(CStr::from_ptr(name) == DATABASE) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_pathname(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    room: c_int,
    into: *mut c_char,
) -> c_int {
    // SAFETY: SQLite's name, which ends with a zero, and its buffer of `room` bytes.
    unsafe {
        let name = CStr::from_ptr(name).to_bytes_with_nul();
        if name.len() > usize::try_from(room).unwrap_or(0) {
            return ffi::SQLITE_CANTOPEN;
        }
        ptr::copy_nonoverlapping(name.as_ptr().cast(), into, name.len());
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn randomness(_: *mut ffi::sqlite3_vfs, len: c_int, into: *mut c_char) -> c_int {
    // SAFETY: SQLite's buffer of that length.
    let into = unsafe { slice::from_raw_parts_mut(into.cast::<u8>(), usize::try_from(len).unwrap_or(0)) };
    for part in into.chunks_mut(8) {
        part.copy_from_slice(&machine().random_u64().to_le_bytes()[..part.len()]);
    }
    len
}

/// Nobody waits inside of SQLite.
unsafe extern "C" fn sleep(_: *mut ffi::sqlite3_vfs, _: c_int) -> c_int {
    0
}

unsafe extern "C" fn current_time(_: *mut ffi::sqlite3_vfs, time_ms: *mut i64) -> c_int {
    let since_1970_ms = i64::try_from(machine().wall_clock().as_millis()).unwrap_or(i64::MAX - EPOCH_MS);
    // SAFETY: SQLite's place for the time.
    unsafe { *time_ms = EPOCH_MS + since_1970_ms };
    ffi::SQLITE_OK
}

//! SQLite's allocator: a class.
//!
//! A class wants to know a block's length when it is freed, C does not say it: it stands before the block, in as many bytes as
//! keep the alignment. SQLite is told of the rounding to powers of two and uses all of it.

use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use core::ptr::{self, NonNull};

use allocator_api2::alloc::Allocator;
use hs_core::class::Class;
use libsqlite3_sys as ffi;

use super::{EngineError, checked};

/// Before each block: how long it is.
const HEADER_BYTES: usize = size_of::<usize>();

struct Heap(UnsafeCell<Option<Class>>);

// SAFETY: written only while SQLite is not in use (`use_class`); all else reads.
unsafe impl Sync for Heap {}

/// Where SQLite's memory comes from. Checkpointed, as SQLite's own variables are.
#[cfg_attr(feature = "guest", unsafe(link_section = ".ldata.sqlite_heap"))]
static HEAP: Heap = Heap(UnsafeCell::new(None));

/// The class, if there is one.
pub(super) fn class() -> Option<Class> {
    // SAFETY: see `Heap`.
    unsafe { *HEAP.0.get() }
}

/// Makes SQLite, which is not in use, take its memory from `class`.
pub(super) fn use_class(class: Class) -> Result<(), EngineError> {
    let methods = ffi::sqlite3_mem_methods {
        xMalloc: Some(malloc),
        xFree: Some(free),
        xRealloc: Some(realloc),
        xSize: Some(size),
        xRoundup: Some(roundup),
        xInit: Some(init),
        xShutdown: Some(shutdown),
        pAppData: ptr::null_mut(),
    };
    // SAFETY: SQLite copies the methods, and refuses them while it is in use.
    checked(unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, &raw const methods) })?;
    // SAFETY: SQLite is not in use.
    unsafe { *HEAP.0.get() = Some(class) };
    Ok(())
}

fn layout(len_bytes: usize) -> Option<Layout> {
    Layout::from_size_align(len_bytes.checked_add(HEADER_BYTES)?, HEADER_BYTES).ok()
}

unsafe extern "C" fn malloc(len_bytes: c_int) -> *mut c_void {
    allocate(len_bytes).map_or(ptr::null_mut(), |block| block.as_ptr().cast())
}

fn allocate(len_bytes: c_int) -> Option<NonNull<u8>> {
    let len_bytes = usize::try_from(len_bytes).ok()?;
    let block = class()?.allocate(layout(len_bytes)?).ok()?.cast::<u8>();
    // SAFETY: the block begins with room for a word, and is aligned for one.
    unsafe {
        block.cast::<usize>().write(len_bytes);
        Some(block.add(HEADER_BYTES))
    }
}

/// # Safety
/// `block` came from `allocate` and was not freed.
unsafe fn len_bytes(block: NonNull<u8>) -> usize {
    // SAFETY: the header is before it.
    unsafe { block.sub(HEADER_BYTES).cast::<usize>().read() }
}

unsafe extern "C" fn free(block: *mut c_void) {
    let Some(block) = NonNull::new(block.cast::<u8>()) else {
        return;
    };
    // SAFETY: SQLite gives back what it was given, once.
    unsafe {
        if let (Some(class), Some(layout)) = (class(), layout(len_bytes(block))) {
            class.deallocate(block.sub(HEADER_BYTES), layout);
        }
    }
}

unsafe extern "C" fn realloc(old: *mut c_void, len: c_int) -> *mut c_void {
    let Some(block) = NonNull::new(old.cast::<u8>()) else {
        // SAFETY: as `malloc`.
        return unsafe { malloc(len) };
    };
    let Some(new) = allocate(len) else {
        return ptr::null_mut();
    };
    // SAFETY: both blocks are as long as their headers say; SQLite gives `old` up if this succeeds.
    unsafe {
        let common = len_bytes(block).min(len_bytes(new));
        ptr::copy_nonoverlapping(block.as_ptr(), new.as_ptr(), common);
        free(old);
    }
    new.as_ptr().cast()
}

unsafe extern "C" fn size(block: *mut c_void) -> c_int {
    NonNull::new(block.cast::<u8>()).map_or(0, |block| {
        // SAFETY: SQLite asks only for what it was given.
        c_int::try_from(unsafe { len_bytes(block) }).unwrap_or(c_int::MAX)
    })
}

/// What a block of so many bytes really has room for: a class's blocks are powers of two.
unsafe extern "C" fn roundup(len_bytes: c_int) -> c_int {
    usize::try_from(len_bytes)
        .ok()
        .and_then(|len| len.checked_add(HEADER_BYTES)?.checked_next_power_of_two())
        .and_then(|block| c_int::try_from(block - HEADER_BYTES).ok())
        .unwrap_or(len_bytes)
}

unsafe extern "C" fn init(_: *mut c_void) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn shutdown(_: *mut c_void) {}

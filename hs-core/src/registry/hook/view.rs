//! What a child hook sees: the memory as it was when it was frozen, as numbers and bytes at addresses.
//!
//! Numbers and not values of any type: what lies at an address now need not have been there when the memory was frozen, and
//! not every pattern of bits is a value of every type.

use alloc::boxed::Box;
use core::cell::RefCell;

use crate::platform::{Frozen, FrozenError, PAGE_LEN, PageRange};

/// The frozen memory.
pub struct FrozenView<'a> {
    frozen: &'a dyn Frozen,
    newest: RefCell<Newest>,
}

/// The page that was looked at last: hooks read one word after the other.
struct Newest {
    address: Option<usize>,
    bytes: Box<[u8; PAGE_LEN]>,
}

/// A number, of which every pattern of bits is one.
pub trait Number: sealed::OfBytes {}

mod sealed {
    pub trait OfBytes: Copy {
        fn of_bytes(
            read: impl FnOnce(&mut [u8]) -> Result<(), super::FrozenError>,
        ) -> Result<Self, super::FrozenError>;
    }
}

macro_rules! numbers {
    ($($number:ty),+) => {$(
        impl Number for $number {}

        impl sealed::OfBytes for $number {
            fn of_bytes(read: impl FnOnce(&mut [u8]) -> Result<(), FrozenError>) -> Result<Self, FrozenError> {
                let mut bytes = [0; size_of::<$number>()];
                read(&mut bytes)?;
                Ok(Self::from_ne_bytes(bytes))
            }
        }
    )+};
}

numbers!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize, f32, f64);

impl<'a> FrozenView<'a> {
    pub(super) fn new(frozen: &'a dyn Frozen) -> Self {
        let newest = Newest {
            address: None,
            bytes: Box::new([0; PAGE_LEN]),
        };
        Self {
            frozen,
            newest: RefCell::new(newest),
        }
    }

    /// The number that was at `address`.
    ///
    /// # Errors
    /// A page of it is not in the view, or the checkpoint was cancelled.
    pub fn read<N: Number>(&self, address: usize) -> Result<N, FrozenError> {
        N::of_bytes(|bytes| self.copy(address, bytes))
    }

    /// Copies the bytes that were at `address`.
    ///
    /// # Errors
    /// As [`read`](Self::read); `into` may be filled in part.
    pub fn copy(&self, address: usize, into: &mut [u8]) -> Result<(), FrozenError> {
        let mut newest = self.newest.borrow_mut();
        let mut done = 0;
        while done < into.len() {
            let at = address
                .checked_add(done)
                .ok_or(FrozenError::OutsideView(usize::MAX / PAGE_LEN * PAGE_LEN))?;
            let (page, offset) = (at / PAGE_LEN * PAGE_LEN, at % PAGE_LEN);
            if newest.address != Some(page) {
                newest.address = None;
                self.frozen.copy_page(page, &mut newest.bytes)?;
                newest.address = Some(page);
            }
            let len = (PAGE_LEN - offset).min(into.len() - done);
            into[done..done + len].copy_from_slice(&newest.bytes[offset..offset + len]);
            done += len;
        }
        Ok(())
    }

    /// The thesis's `CPT_QUERY`: see [`Frozen::dirty`].
    pub fn dirty(&self, buffer: &mut [PageRange]) -> usize {
        self.frozen.dirty(buffer)
    }
}

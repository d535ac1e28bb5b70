//! What a checkpoint holds, staged until it is whole.
//!
//! Pages and the bodies of differences lie in frames that the memory gives for it, not on the heap: there may be as much of
//! them as the window is long.

use alloc::vec::Vec;

use super::ImageError;
use crate::format::Difference;
use crate::platform::{CheckpointMemory, PAGE_LEN, PageRange, StagedPage};

/// Pages of a checkpoint, as they came in.
pub(super) enum Piece {
    /// The page at this address.
    Page(usize, StagedPage),
    /// What is different in the page at this address.
    Difference(usize, Body),
    /// These are zero.
    Zero(PageRange),
}

/// Where a difference is staged.
#[derive(Clone, Copy)]
pub(super) struct Body {
    frame: u32,
    offset: u16,
    len: u16,
}

/// All pieces of a checkpoint.
#[derive(Default)]
pub(super) struct Pieces {
    list: Vec<Piece>,
    /// The bodies of differences, one behind the other; none reaches from one frame into the next.
    bodies: Vec<StagedPage>,
    /// Bytes in use of the last.
    used: usize,
}

impl Pieces {
    pub(super) fn list(&self) -> &[Piece] {
        &self.list
    }

    /// The pieces, in the order in which they came. The bodies stay.
    pub(super) fn take_list(&mut self) -> Vec<Piece> {
        core::mem::take(&mut self.list)
    }

    pub(super) fn add_zero(&mut self, range: PageRange) -> Result<(), ImageError> {
        self.add(Piece::Zero(range))
    }

    /// Part of a page, which comes in order.
    pub(super) fn add_bytes(
        &mut self,
        memory: &dyn CheckpointMemory,
        page: usize,
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), ImageError> {
        if offset == 0 {
            let staged = memory.stage().ok_or(ImageError::OutOfMemory)?;
            self.add(Piece::Page(page, staged))?;
        }
        let Some(Piece::Page(_, staged)) = self.list.last_mut() else {
            unreachable!("a page's bytes come in order");
        };
        staged[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn add_difference(
        &mut self,
        memory: &dyn CheckpointMemory,
        page: usize,
        difference: Difference<'_>,
    ) -> Result<(), ImageError> {
        let bytes = difference.as_bytes();
        if self.bodies.is_empty() || self.used + bytes.len() > PAGE_LEN {
            let staged = memory.stage().ok_or(ImageError::OutOfMemory)?;
            self.bodies.try_reserve(1).map_err(|_| ImageError::OutOfMemory)?;
            self.bodies.push(staged);
            self.used = 0;
        }
        let frame = self.bodies.len() - 1;
        let body = Body {
            frame: frame as u32,
            offset: self.used as u16,
            len: bytes.len() as u16,
        };
        self.bodies[frame][self.used..self.used + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
        self.add(Piece::Difference(page, body))
    }

    /// A difference that was staged.
    pub(super) fn difference(&self, body: Body) -> Difference<'_> {
        let bytes = &self.bodies[body.frame as usize][usize::from(body.offset)..][..usize::from(body.len)];
        Difference::new(bytes).expect("it was sound when it was staged")
    }

    fn add(&mut self, piece: Piece) -> Result<(), ImageError> {
        self.list.try_reserve(1).map_err(|_| ImageError::OutOfMemory)?;
        self.list.push(piece);
        Ok(())
    }
}

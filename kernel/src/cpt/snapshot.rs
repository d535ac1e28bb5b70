//! One live child: its address space, and the frames that it holds.
//!
//! What it may look at is noted span by span ([`super::span`]). Its page tables hold the frames that are its own (copies of
//! pages that the parent wrote to since) and those that it borrows: a page that it looked at through its own address
//! space and that the parent has not written to yet is the parent's frame, without a hold.

use hs_core::platform::{ChildBody, EndedHook, FrozenError, View};
use kernel_core::scan::Entries;
use x86_64::PhysAddr;
use x86_64::structures::paging::PageTableFlags as Flags;

use super::Other;
use super::settle::FRAME;
use super::span::Epoch;
use crate::mem::frames::{self, Batch, PhysFrame};
use crate::mem::paging::{self, Root};

/// In an entry of a child: the frame is the parent's.
const BORROWED: Flags = Flags::BIT_10;

/// No frame was left for one of the child's tables.
pub(super) struct NoTable;

/// A live child.
pub(super) struct Snapshot {
    /// What it runs, until it does.
    pub(super) body: Option<ChildBody>,
    /// Told when it is gone.
    pub(super) ended: Option<EndedHook>,
    /// Why its last look through its own address space could not be granted.
    pub(super) failed: Option<FrozenError>,
    /// Its address space.
    pub(super) root: Root,
    /// Of its `cptfork`.
    pub(super) epoch: Epoch,
    pub(super) view: View,
    /// What it has of the window beside the installed ranges.
    pub(super) other: Other,
    /// Dirty pages found so far: all, once every span is settled.
    pub(super) dirty_pages: u32,
    /// Ranges of its dirty list, once it has asked for it.
    pub(super) dirty_ranges: Option<u32>,
    /// Frames set aside for it that are not used yet.
    reserved: u32,
    /// Of these, some in hand: they are fetched several at a time.
    in_hand: Batch,
    /// Memory ran dry: it holds nothing any more.
    pub(super) cancelled: bool,
}

// Made in the pause: what is larger is copied by a call.
const _: () = assert!(size_of::<Option<Snapshot>>() <= 128);

impl Snapshot {
    /// A child in `root` that holds nothing yet and has nothing to do. `reserved` frames were set aside for it.
    pub(super) fn new(root: Root, epoch: Epoch, view: View, other: Other, reserved: usize) -> Self {
        Snapshot {
            body: None,
            ended: None,
            failed: None,
            root,
            epoch,
            view,
            other,
            dirty_pages: 0,
            dirty_ranges: None,
            reserved: reserved as u32,
            in_hand: Batch::EMPTY,
            cancelled: false,
        }
    }

    /// The frame of its own that the child holds for the page at `address`.
    pub(super) fn held(&self, address: usize) -> Option<PhysFrame> {
        // SAFETY: the state's lock is held by whoever can reach a snapshot.
        let entry = unsafe { self.root.entry(address) }?;
        let own = entry.flags().contains(Flags::PRESENT) && !entry.flags().contains(BORROWED);
        own.then(|| PhysFrame::at(entry.addr().as_u64()))
    }

    /// A frame out of what was set aside for this child, or a free one.
    pub(super) fn take_frame(&mut self) -> Option<PhysFrame> {
        if let Some(frame) = self.in_hand.pop() {
            return Some(frame);
        }
        if self.reserved > 0 {
            self.in_hand = frames::allocate_reserved(self.reserved as usize);
            self.reserved -= self.in_hand.len() as u32;
        }
        self.in_hand.pop().or_else(frames::allocate)
    }

    /// The entry of a frame of its own.
    pub(super) fn entry_for(frame: PhysFrame) -> u64 {
        frame.address() | (Flags::PRESENT | Flags::NO_EXECUTE).bits()
    }

    /// The child's page table for the span that begins at `start`.
    pub(super) fn table(&mut self, start: usize) -> Result<&'static mut Entries, NoTable> {
        let root = self.root;
        // SAFETY: the state's lock is held by whoever can reach a snapshot.
        if let Some(entries) = unsafe { root.entries(start) } {
            return Ok(entries);
        }
        let mut source = || self.take_frame();
        // SAFETY: as above.
        unsafe { root.entry_or_create(start, &mut source) }.map_err(|_| NoTable)?;
        // SAFETY: as above.
        unsafe { root.entries(start) }.ok_or(NoTable)
    }

    fn map(&mut self, address: usize, frame: PhysFrame, flags: Flags) -> Result<(), NoTable> {
        let root = self.root;
        let mut source = || self.take_frame();
        // SAFETY: as in `held`.
        let entry = unsafe { root.entry_or_create(address, &mut source) }.map_err(|_| NoTable)?;
        debug_assert!(entry.is_unused() || entry.flags().contains(BORROWED));
        entry.set_addr(
            PhysAddr::new(frame.address()),
            Flags::PRESENT | Flags::NO_EXECUTE | flags,
        );
        Ok(())
    }

    /// Gives the child `frame`, with a hold on it, as its page at `address`.
    pub(super) fn give(&mut self, address: usize, frame: PhysFrame) -> Result<(), NoTable> {
        self.map(address, frame, Flags::empty())
    }

    /// Lets the child look at the parent's `frame` as its page at `address`.
    pub(super) fn lend(&mut self, address: usize, frame: PhysFrame) -> Result<(), NoTable> {
        self.map(address, frame, BORROWED)
    }

    /// Takes the page at `address` out of the child's address space. Of a frame of its own it had a hold, which is now the
    /// caller's.
    pub(super) fn take_back(&mut self, address: usize) -> Option<PhysFrame> {
        let own = self.held(address);
        // SAFETY: as in `held`.
        if let Some(entry) = unsafe { self.root.entry(address) }
            && !entry.is_unused()
        {
            entry.set_unused();
            if paging::current() == self.root {
                paging::flush(address);
            }
        }
        own
    }

    /// Lets go of what it has in the span that begins at `start`: frames of its own, and the table.
    pub(super) fn release_span(&mut self, start: usize) {
        // SAFETY: the state's lock is held by whoever can reach a snapshot. No CPU walks these tables meanwhile, and the
        // child's next access faults because its TLB is dropped when it is switched to, or by the caller.
        unsafe {
            if let Some(entries) = self.root.entries(start) {
                for entry in entries
                    .iter_mut()
                    .filter(|entry| **entry & Flags::PRESENT.bits() != 0)
                {
                    if *entry & BORROWED.bits() == 0 {
                        frames::release(PhysFrame::at(*entry & FRAME));
                    }
                    *entry = 0;
                }
            }
            self.root.free_table(start);
        }
    }

    /// Lets go of what is left when it has nothing in any span: its upper tables, and what is set aside.
    pub(super) fn release(&mut self) {
        // SAFETY: as in `release_span`.
        unsafe { self.root.free_window_tables() };
        while let Some(frame) = self.in_hand.pop() {
            frames::release(frame);
        }
        frames::unreserve(core::mem::take(&mut self.reserved) as usize);
    }
}

//! Snapshots that are copies: a ready buffer for each that may live at once, used in turn.

use std::collections::VecDeque;
use std::ops::Range;

use anyhow::{Context, Result, bail};

use crate::memory::Memory;
use crate::sys::map::{Mapping, PAGE_LEN};

/// The copied pages of one checkpoint.
struct Copies {
    buffer: Mapping,
    /// Page numbers, in the order in which they stand in the buffer.
    runs: Vec<Range<usize>>,
    used_bytes: usize,
}

/// The buffers, those in use first to last and those free.
pub(super) struct CopyRing {
    held: VecDeque<Copies>,
    free: Vec<Copies>,
}

impl CopyRing {
    /// Buffers for `alive` snapshots of the memory's dirty pages.
    pub(super) fn new(memory: &Memory, alive: usize) -> Result<Self> {
        let make = |_| -> Result<Copies> {
            Ok(Copies {
                buffer: Mapping::ready_buffer(memory.dirty().len() * PAGE_LEN)
                    .context("no room for copies")?,
                runs: Vec::with_capacity(memory.dirty().len()),
                used_bytes: 0,
            })
        };
        Ok(Self {
            held: VecDeque::with_capacity(alive),
            free: (0..alive).map(make).collect::<Result<_>>()?,
        })
    }

    /// Begins a snapshot.
    pub(super) fn begin(&mut self) -> Result<()> {
        let mut copies = self
            .free
            .pop()
            .context("more snapshots at once than there are buffers")?;
        copies.runs.clear();
        copies.used_bytes = 0;
        self.held.push_back(copies);
        Ok(())
    }

    /// Copies the pages `run` of `memory` into the newest snapshot.
    pub(super) fn add(&mut self, memory: &Memory, run: Range<usize>) -> Result<()> {
        let copies = self.held.back_mut().context("no snapshot was begun")?;
        let part = run.start * PAGE_LEN..run.end * PAGE_LEN;
        if part.len() > copies.buffer.len_bytes() - copies.used_bytes {
            bail!(
                "more pages count as modified than were ({})",
                memory.dirty().len()
            );
        }
        copies
            .buffer
            .copy_from(copies.used_bytes, memory.mapping(), part.clone());
        copies.used_bytes += part.len();
        copies.runs.push(run);
        Ok(())
    }

    /// Gives up the oldest snapshot.
    pub(super) fn let_go(&mut self) -> Result<()> {
        let copies = self.held.pop_front().context("no snapshot to give up")?;
        self.free.push(copies);
        Ok(())
    }

    /// Copies `page` of the oldest snapshot, if it holds it.
    pub(super) fn copy_page(&self, page: usize, into: &mut [u8; PAGE_LEN]) -> Result<bool> {
        let copies = self.held.front().context("no snapshot to look at")?;
        let mut before = 0;
        for run in &copies.runs {
            if run.contains(&page) {
                copies.buffer.read((before + page - run.start) * PAGE_LEN, into);
                return Ok(true);
            }
            before += run.len();
        }
        Ok(false)
    }
}

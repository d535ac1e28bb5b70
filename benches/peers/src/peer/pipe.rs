//! The thesis's synchronous checkpoint: written into a local pipe in the pause, by the application itself.
//!
//! A thread empties the other end, as in the thesis; on one processor a thread costs less than a process. The pipe is as wide
//! as an ordinary user may make it. It writes everything, or where an experiment wants only the modified pages, those that
//! `PAGEMAP_SCAN` finds: nobody tells an application for nothing what it modified. Deliberately absent: `vmsplice`, which hands
//! over the pages themselves; later writes would show in them.

use std::io::{PipeReader, PipeWriter, Read};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};

use super::pagemap_scan::Tracker;
use super::{Contents, Peer};
use crate::memory::Memory;
use crate::sys::map::PAGE_LEN;
use crate::sys::process::{part, widen_pipe, write_parts};

/// What an ordinary user may ask for (`/proc/sys/fs/pipe-max-size`).
const PIPE_LEN: usize = 1 << 20;

pub(super) struct PipePeer<'m> {
    memory: &'m Memory,
    /// Where only what is modified is written.
    tracker: Option<Tracker<'m>>,
    parts: Vec<libc::iovec>,
    bytes: usize,
    pipe: Option<PipeWriter>,
    /// What the reader has read of each checkpoint: all of it.
    arrived: Receiver<Vec<u8>>,
    reader: Option<JoinHandle<()>>,
    last: Vec<u8>,
}

impl<'m> PipePeer<'m> {
    pub(super) fn new(memory: &'m Memory, contents: Contents) -> Result<Self> {
        let (tracker, pages) = match contents {
            Contents::Everything => (None, memory.pages()),
            Contents::Modified => (Some(Tracker::new(memory)?), memory.dirty().len()),
        };
        let bytes = pages * PAGE_LEN;
        let (reader, pipe) = std::io::pipe().context("pipe")?;
        // As it is otherwise; slower, not wrong.
        let _ = widen_pipe(&pipe, PIPE_LEN);
        let (arrives, arrived) = channel();
        let reader = thread::Builder::new()
            .stack_size(256 << 10)
            .spawn(move || empty(reader, bytes, &arrives))
            .context("no thread to read the pipe")?;
        Ok(Self {
            memory,
            tracker,
            parts: Vec::with_capacity(memory.dirty().len()),
            bytes,
            pipe: Some(pipe),
            arrived,
            reader: Some(reader),
            last: Vec::new(),
        })
    }
}

/// Reads checkpoints of `bytes` each until the writer is gone. Tests keep what was read.
fn empty(mut pipe: PipeReader, bytes: usize, arrives: &Sender<Vec<u8>>) {
    let mut chunk = vec![0; PIPE_LEN];
    loop {
        let mut kept = Vec::new();
        let mut missing = bytes;
        while missing > 0 {
            let wanted = missing.min(chunk.len());
            match pipe.read(&mut chunk[..wanted]) {
                Ok(len) if len > 0 => {
                    if cfg!(test) {
                        kept.extend_from_slice(&chunk[..len]);
                    }
                    missing -= len;
                }
                _ => return,
            }
        }
        if arrives.send(kept).is_err() {
            return;
        }
    }
}

impl Peer for PipePeer<'_> {
    fn checkpoint(&mut self) -> Result<()> {
        let pipe = self.pipe.as_ref().context("the pipe is closed")?;
        let (address, parts) = (self.memory.mapping().address(), &mut self.parts);
        parts.clear();
        let mut add = |run: Range<usize>| {
            parts.push(part(address + run.start * PAGE_LEN, run.len() * PAGE_LEN));
            Ok(())
        };
        match &mut self.tracker {
            Some(tracker) => tracker.take(add)?,
            None => add(0..self.memory.pages())?,
        }
        write_parts(pipe, parts).context("nothing can be written into the pipe")
    }

    fn settle(&mut self) -> Result<()> {
        self.last = self.arrived.recv().context("the pipe's reader is gone")?;
        Ok(())
    }

    fn let_go(&mut self) -> Result<()> {
        Ok(())
    }

    fn copy_page(&mut self, page: usize, into: &mut [u8; PAGE_LEN]) -> Result<bool> {
        let nth = match self.tracker {
            Some(_) => self.memory.dirty().binary_search(&page).ok(),
            None => Some(page),
        };
        if let Some(nth) = nth {
            into.copy_from_slice(&self.last[nth * PAGE_LEN..][..PAGE_LEN]);
        }
        Ok(nth.is_some())
    }

    fn bytes(&self) -> u64 {
        self.bytes as u64
    }
}

impl Drop for PipePeer<'_> {
    fn drop(&mut self) {
        self.pipe = None;
        if let Some(reader) = self.reader.take() {
            // It ends when the pipe does; that it did so by a panic was printed.
            let _ = reader.join();
        }
    }
}

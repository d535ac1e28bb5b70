//! `fork()`: the child has the memory as it was, and pages are copied when the parent writes to them.
//!
//! The process is small, and its buffers are kept out of children; nothing but the measured memory is worth a word. The child
//! blocks on a pipe while the parent writes, as one that waits for a slow network does.

use std::collections::VecDeque;

use anyhow::{Context, Result, bail};

use super::Peer;
use crate::memory::Memory;
use crate::sys::map::{HUGE_LEN, PAGE_LEN};
use crate::sys::process::{Child, Pipes};

/// What the memory is like when it forks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Plain,
    Wired,
    Huge,
}

pub(super) struct ForkPeer<'m> {
    memory: &'m Memory,
    kind: Kind,
    pipes: Option<Pipes>,
    children: VecDeque<Child>,
}

impl<'m> ForkPeer<'m> {
    pub(super) fn new(memory: &'m Memory, kind: Kind) -> Result<Self> {
        match kind {
            Kind::Plain => {}
            Kind::Wired => memory
                .mapping()
                .wire()
                .context("memory cannot be wired (mlock; see ulimit -l)")?,
            Kind::Huge => {
                memory.collapse()?;
                let (huge, fitting) = (memory.in_huge_pages()?, memory.mapping().len_bytes() / HUGE_LEN);
                if huge != fitting * HUGE_LEN {
                    bail!(
                        "only {} of {fitting} huge pages are there (AnonHugePages)",
                        huge / HUGE_LEN
                    );
                }
            }
        }
        Ok(Self {
            memory,
            kind,
            pipes: None,
            children: VecDeque::new(),
        })
    }
}

impl Peer for ForkPeer<'_> {
    fn prepare(&mut self) -> Result<()> {
        if self.kind == Kind::Huge {
            self.memory.collapse()?;
        }
        self.pipes = Some(Pipes::new().context("pipe")?);
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        let pipes = self.pipes.take().context("a checkpoint that was not prepared")?;
        self.children.push_back(Child::fork(pipes).context("fork")?);
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        let child = self.children.back_mut().context("no child to wait for")?;
        child.settle().context("the child did not begin")
    }

    fn let_go(&mut self) -> Result<()> {
        let child = self.children.pop_front().context("no child to end")?;
        child.end().context("the child did not end well")
    }

    fn copy_page(&mut self, page: usize, into: &mut [u8; PAGE_LEN]) -> Result<bool> {
        let child = self.children.front_mut().context("no child to ask")?;
        child
            .copy_page(self.memory.mapping().address() + page * PAGE_LEN, into)
            .context("the child did not answer")?;
        Ok(true)
    }

    fn bytes(&self) -> u64 {
        self.memory.mapping().len_bytes() as u64
    }
}

impl Drop for ForkPeer<'_> {
    fn drop(&mut self) {
        if self.kind == Kind::Wired {
            // Wired for longer than asked would only be seen by the next peer, which measures the same.
            let _ = self.memory.mapping().unwire();
        }
    }
}

//! How the next checkpoint is taken, foretold from how much the last ones found modified.
//!
//! ```text
//! modified pages    0 …… COPY_PAGES_MAX ……………………………… FULL_SHARE_PERCENT of the installed … all
//!                   copy │                incremental                │                full
//! ```
//!
//! The thesis asks two questions in its chapter 6 and answers them for its own machine only: the "limit below which it is
//! better to do checkpointing in application context (no fork())", and the "dirty percentage limit after which it is better
//! to write full checkpoints instead of deltas". It then regrets that "we do not know the amount of dirty pages before
//! making the decision to checkpoint using cptfork()". Nor do we; but an application that takes checkpoints by the hundred
//! writes about as much between two of them as it did before.
//!
//! Both guesses err on the side that costs little. A copy that turns out larger than foretold is a long pause, so the
//! *largest* of the last few counts must be small. A full checkpoint that turns out needless sends all memory, whereas an
//! incremental one of nearly everything is hardly worse than a full one; so the *smallest* count that is remembered must be
//! nearly all.
//!
//! Deliberately absent: a clock. What each way costs is measured by the benchmark, not by the application that waits.

#[cfg(test)]
mod tests;

/// Modified pages up to which they are copied within the pause: the thesis's limit for "application context".
///
/// Its evidence is the benchmark experiment `policy` (`cargo xtask bench --only policy`; 4 MiB, TCG, a writer that rewrites
/// all of it before the child has sent anything; medians of five runs, which lie within 3 % of each other):
///
/// ```text
/// modified pages         1      4      8     16     64
/// stall of copy, us   14.9   17.4   25.1   33.2   92.8    all but 1 of it in the pause
/// stall of lazy, us   16.1   19.0   28.9   43.3    119    of it in the pause: 3 to 5
/// ```
///
/// A copy costs less in all, but at once. `lazy`'s longest interruption is the first write into a span, with up to eight
/// copies: about as long as the pause of a copy of eight. So up to there a copy is shorter by every measure. The thesis guessed
/// "perhaps only a page of memory or so", and that from "the range of tens of kilobytes" on a child is better: this is 32 KiB.
pub const COPY_PAGES_MAX: usize = 8;

/// Modified pages in percent of the installed ones from which all are sent: the thesis's limit for "full checkpoints
/// instead of deltas". In the same experiment `full` stalls the writer as long as `lazy` from 60 % on, within the noise; what
/// differs is the child's work, and that is alike from 95 % on (1.44 against 1.41 ms). There a generation of its own, which
/// needs no other checkpoint, costs nothing.
pub const FULL_SHARE_PERCENT: usize = 95;

/// Counts that are remembered.
pub const EPOCHS: usize = 8;

/// Newest counts of which the largest must be small for a copy; and fewest that must be known for a full checkpoint.
const RECENT: usize = 4;

/// What the policy may choose from: the option `hs.checkpoint`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Choice {
    /// Whatever the last checkpoints speak for.
    #[default]
    Auto,
    /// Always [`Way::Copy`].
    Copy,
    /// Always [`Way::Incremental`].
    Incremental,
    /// Always [`Way::Full`].
    Full,
}

/// A way to take a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// What was modified, copied in the pause: nothing is frozen, no write faults.
    Copy,
    /// What was modified, frozen.
    Incremental,
    /// Everything, frozen: a generation of its own.
    Full,
}

/// Remembers how many pages the last checkpoints found modified, and chooses the next one's way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    choice: Choice,
    /// The newest count is the one before `next`; a ring.
    dirty_pages: [usize; EPOCHS],
    next: usize,
    known: usize,
}

impl Policy {
    /// A policy that knows of no checkpoint yet.
    pub const fn new(choice: Choice) -> Self {
        Self {
            choice,
            dirty_pages: [0; EPOCHS],
            next: 0,
            known: 0,
        }
    }

    /// A checkpoint found so many pages modified since the one before it. Those before which no epoch lies (the first, one
    /// for another spare) say nothing of the next and are not to be told.
    pub const fn record(&mut self, dirty_pages: usize) {
        self.dirty_pages[self.next] = dirty_pages;
        self.next = (self.next + 1) % EPOCHS;
        if self.known < EPOCHS {
            self.known += 1;
        }
    }

    /// The way for a checkpoint of `installed_pages` pages. Without anything remembered: incremental.
    pub fn choose(&self, installed_pages: usize) -> Way {
        match self.choice {
            Choice::Copy => Way::Copy,
            Choice::Incremental => Way::Incremental,
            Choice::Full => Way::Full,
            Choice::Auto => self.foretell(installed_pages),
        }
    }

    /// Whether the way is the policy's own choice, so that it may fall back on another.
    pub const fn is_free(&self) -> bool {
        matches!(self.choice, Choice::Auto)
    }

    fn foretell(&self, installed_pages: usize) -> Way {
        let Some(most) = self.newest_first().take(RECENT).max() else {
            return Way::Incremental;
        };
        if most <= COPY_PAGES_MAX {
            return Way::Copy;
        }
        let least = self.newest_first().min().unwrap_or(0);
        let enough = installed_pages.saturating_mul(FULL_SHARE_PERCENT).div_ceil(100);
        if self.known >= RECENT && least >= enough {
            Way::Full
        } else {
            Way::Incremental
        }
    }

    /// The newest count.
    pub fn newest(&self) -> Option<usize> {
        self.newest_first().next()
    }

    fn newest_first(&self) -> impl Iterator<Item = usize> {
        (1..=self.known).map(|age| self.dirty_pages[(self.next + EPOCHS - age) % EPOCHS])
    }
}

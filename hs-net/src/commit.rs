//! Output commit: no frame that a client could act upon leaves before the spare has the state that it was made from.
//!
//! The service stack only appends to a [`CommitQueue`]. A checkpoint notes the queue's tail in its pause ([`Marks`]); when the
//! spare has acknowledged it, frames up to there are released, in order. So a client never sees state that could be lost, its
//! connection can go on from the checkpoint that the spare holds, and a master that is cut off from its spare is mute.
//!
//! ```text
//!  stack ──> │ sent │ released, to the card │ covered by a checkpoint in flight │ not covered yet │ <── tail
//!                                                                └ marks ┘
//! ```
//!
//! Output is withheld as soon as a spare could take over, and no earlier: while it fetches its first full checkpoint the master
//! speaks freely. When the spare has that, withholding begins, and the first checkpoint taken from then on *arms* the spare
//! (its chunks say so): what was said before lies behind it. A spare that was never armed has nothing to take over.
//!
//! When to take a checkpoint is a matter of who waits. As soon as something waits (a frame, or a change that the application
//! told of) and nothing is in flight, one is taken: that is the least latency. While one is in flight, what comes is gathered
//! for the next, which is taken when that is acknowledged, or after [`GATHER`] or [`DIRTY_PAGES_MAX`] in any case: that is
//! batching under load, and the pipeline.
//!
//! Deliberately absent: a second place for frames that are not withheld; a service that opted out has a queue of its own in
//! the service stack.

mod marks;
mod queue;

use core::str::FromStr;

pub use self::marks::{DIRTY_PAGES_MAX, Due, GATHER, Marks};
pub use self::queue::{CommitQueue, Tail};

/// Whether what a service says waits for its checkpoint. Read from the words `sync` and `async`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Commit {
    /// It waits: nothing that a client was told is ever lost.
    #[default]
    Sync,
    /// It goes out at once: the thesis's asynchronous mode. A client may see what a takeover takes back, so its connections
    /// are reset then.
    Async,
}

/// The word was neither `sync` nor `async`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeitherSyncNorAsync;

impl FromStr for Commit {
    type Err = NeitherSyncNorAsync;

    fn from_str(word: &str) -> Result<Self, NeitherSyncNorAsync> {
        match word {
            "sync" => Ok(Commit::Sync),
            "async" => Ok(Commit::Async),
            _ => Err(NeitherSyncNorAsync),
        }
    }
}

//! The end of a process, as soon as it is there.
//!
//! Whoever waits for a child takes its status away, and there is one who does: the thread that reads all that a guest writes, which may
//! be long. So this one looks at the status and leaves it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use anyhow::{Context, Result};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus};

/// Waits for the end of `process` on a thread of its own, and calls `at_end` then. The receiver hears, or is cut off, when the
/// status was seen: only then may the process be waited for.
///
/// # Errors
/// There is no room for a thread.
pub(crate) fn watch(
    name: &str,
    process: OwnedFd,
    at_end: impl FnOnce(&WaitIdStatus) + Send + 'static,
) -> Result<Receiver<()>> {
    let (looked, seen) = mpsc::channel();
    thread::Builder::new()
        .name(format!("watch-{name}"))
        .spawn(move || {
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            let status = loop {
                match rustix::process::waitid(WaitId::PidFd(process.as_fd()), look) {
                    Err(rustix::io::Errno::INTR) => {}
                    other => break other,
                }
            };
            let _ = looked.send(());
            if let Ok(Some(status)) = status {
                at_end(&status);
            }
        })
        .context("cannot start a thread")?;
    Ok(seen)
}

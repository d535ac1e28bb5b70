//! Where figures and words for a person go.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::LazyLock;
use std::time::Instant;

use anyhow::{Context, Result};
use hs_core::event::Event;

use crate::sys::machine;

/// When the first words were said.
static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The two ways out of the program.
pub(crate) struct Channel {
    events: File,
    log: File,
    /// A serial line: what was written is let out before anything is measured again.
    is_line: bool,
}

impl Channel {
    /// Events to standard output, the log to standard error.
    ///
    /// # Errors
    /// They are not there.
    pub(crate) fn standard() -> Result<Self> {
        let (events, log) = (std::io::stdout(), std::io::stderr());
        Ok(Self {
            events: events
                .as_fd()
                .try_clone_to_owned()
                .context("no standard output")?
                .into(),
            log: log
                .as_fd()
                .try_clone_to_owned()
                .context("no standard error")?
                .into(),
            is_line: false,
        })
    }

    /// Events to the serial line `events`, the log to `log`.
    pub(crate) fn line(events: File, log: File) -> Self {
        Self {
            events,
            log,
            is_line: true,
        }
    }

    /// Says `event`.
    ///
    /// # Errors
    /// Nobody can hear it.
    pub(crate) fn say(&mut self, event: &Event) -> Result<()> {
        let mut line = serde_json::to_string(event).context("an event without words")?;
        line.push('\n');
        self.events
            .write_all(line.as_bytes())
            .context("cannot write events")?;
        if self.is_line {
            machine::drain(&self.events).context("cannot drain the events")?;
        }
        Ok(())
    }

    /// Tells a person something, and when. That nobody reads it stops no measurement.
    pub(crate) fn log(&mut self, words: &str) {
        let line = format!("peers {:7.1} s: {words}\n", BEGUN.elapsed().as_secs_f64());
        let _ = self.log.write_all(line.as_bytes());
        if self.is_line {
            let _ = machine::drain(&self.log);
        }
    }
}

//! Runs the commands of a step, while [`Steps`] shows how it gets on. What a command wrote is shown only when it failed.

use std::collections::VecDeque;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::accel::Choice;
use crate::command::{bare_words, words};
use crate::events;
use crate::steps::Steps;

/// Lines kept of what a command wrote.
const LINES_MAX: usize = 2000;
/// Of these, lines shown when it failed.
const SHOWN_MAX: usize = 150;

/// The process group of the command that runs now.
type Current = Arc<Mutex<Option<Pid>>>;

/// Runs steps.
pub(super) struct Runner {
    accel: Choice,
    steps: Steps,
    current: Current,
}

impl Runner {
    /// A runner that ends what it started when a signal ends it.
    ///
    /// # Errors
    /// Signals cannot be caught.
    pub(super) fn new(accel: Choice) -> Result<Runner> {
        let current = Current::default();
        let to_end = current.clone();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                if let Some(group) = *to_end.lock().expect("nothing panics while it is held") {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                eprintln!("stopped by signal {signal}");
                std::process::exit(128 + signal);
            }
        });
        Ok(Runner {
            accel,
            steps: Steps::new(),
            current,
        })
    }

    /// What runs the guests.
    pub(super) fn accel(&self) -> Choice {
        self.accel
    }

    /// Settles what runs the guests.
    pub(super) fn set_accel(&mut self, accel: Choice) {
        self.accel = accel;
    }

    /// A step begins.
    pub(super) fn begin(&mut self, number: usize, count: usize, name: &str, shows: &str) {
        self.steps.begin(number, count, name, shows);
    }

    /// Keeps a word for the line that ends the step.
    pub(super) fn note(&mut self, words: &str) {
        self.steps.note(words);
    }

    /// A step ends; whether it passed.
    pub(super) fn end(&mut self, name: &str, outcome: &Result<()>) -> bool {
        self.steps.end(name, outcome);
        outcome.is_ok()
    }

    /// Runs `command` for at most `limit` and returns what it wrote, both outputs mixed.
    ///
    /// # Errors
    /// It cannot be started, fails, or takes too long; the message holds the end of what it wrote.
    pub(super) fn run(&mut self, mut command: Command, limit: Duration) -> Result<String> {
        self.steps.print(&format!("        $ {}", words(&command)));
        let said = bare_words(&command);
        command
            .env("CARGO_TERM_COLOR", "never")
            .env("CARGO_TERM_PROGRESS_WHEN", "never");
        let (output, input) = std::io::pipe()?;
        command
            .stdin(Stdio::null())
            .stdout(input.try_clone()?)
            .stderr(input)
            .process_group(0);
        let mut child = command.spawn().with_context(|| format!("cannot start {said}"))?;
        drop(command); // its end of the pipe
        *self.current.lock().expect("nothing panics while it is held") = Some(Pid::from_child(&child));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || events::lines(output, |line| drop(sender.send(line.to_owned()))));

        let begun = Instant::now();
        let mut kept: VecDeque<String> = VecDeque::new();
        let mut late = false;
        loop {
            match lines.recv_timeout(Duration::from_millis(200)) {
                Ok(line) => {
                    self.steps.tell(&line);
                    if kept.len() == LINES_MAX {
                        kept.pop_front();
                    }
                    kept.push_back(line);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if !late && begun.elapsed() >= limit {
                late = true;
                let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            }
            self.steps.tick();
        }
        let status = child.wait()?;
        *self.current.lock().expect("nothing panics while it is held") = None;
        let shown = || {
            let skipped = kept.len().saturating_sub(SHOWN_MAX);
            kept.iter()
                .skip(skipped)
                .map(|line| format!("    {line}"))
                .collect::<Vec<_>>()
                .join("\n")
        };
        if late {
            bail!("{said} took longer than {} s\n{}", limit.as_secs(), shown());
        }
        if !status.success() {
            bail!("{said} failed: {status}\n{}", shown());
        }
        Ok(kept.into_iter().collect::<Vec<_>>().join("\n"))
    }
}

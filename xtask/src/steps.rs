//! Shows a person how a long command gets on, step by step.
//!
//! With a terminal a line that moves; without one, plain lines: the beginning of each step, a word now and then while it
//! takes long, its end.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// Without a terminal, a word on a long step so often.
const WORD_PERIOD: Duration = Duration::from_secs(30);

/// The steps of one command.
pub(crate) struct Steps {
    bar: Option<ProgressBar>,
    begun: Instant,
    worded: Instant,
    heading: String,
    notes: Vec<String>,
    newest: String,
}

impl Steps {
    /// Nothing has begun.
    pub(crate) fn new() -> Steps {
        Steps {
            bar: None,
            begun: Instant::now(),
            worded: Instant::now(),
            heading: String::new(),
            notes: Vec::new(),
            newest: String::new(),
        }
    }

    /// A step begins.
    pub(crate) fn begin(&mut self, number: usize, count: usize, name: &str, shows: &str) {
        self.begun = Instant::now();
        self.worded = self.begun;
        self.notes.clear();
        self.newest.clear();
        self.heading = format!("[{number:2}/{count}] {name}: {shows}");
        if std::io::stdout().is_terminal() {
            let style = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg:.dim}")
                .expect("it is a template");
            let bar = ProgressBar::new_spinner()
                .with_style(style)
                .with_prefix(self.heading.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            self.bar = Some(bar);
        } else {
            self.print(&self.heading);
        }
    }

    /// Keeps a word for the line that ends the step.
    pub(crate) fn note(&mut self, words: &str) {
        self.notes.push(words.to_owned());
    }

    /// Prints a line.
    pub(crate) fn print(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => {
                println!("{line}");
                let _ = std::io::stdout().flush();
            }
        }
    }

    /// Does something that prints lines of its own.
    pub(crate) fn aside<T>(&self, act: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(act),
            None => act(),
        }
    }

    /// The newest word on how the step gets on.
    pub(crate) fn tell(&mut self, word: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(word.to_owned());
        }
        word.clone_into(&mut self.newest);
    }

    /// Time goes by: without a terminal the newest word is printed now and then.
    pub(crate) fn tick(&mut self) {
        if self.bar.is_none() && self.worded.elapsed() >= WORD_PERIOD {
            self.worded = Instant::now();
            let seconds = self.begun.elapsed().as_secs_f64();
            self.print(&format!("        … {seconds:.0} s: {}", self.newest));
        }
    }

    /// A step ends: prints how, and returns how long it took.
    pub(crate) fn end(&mut self, name: &str, outcome: &Result<()>) -> Duration {
        let took = self.begun.elapsed();
        let seconds = took.as_secs_f64();
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            println!("{}", self.heading);
        }
        let notes: String = self.notes.iter().map(|note| format!(", {note}")).collect();
        match outcome {
            Ok(()) => println!("        ok {name} ({seconds:.1} s){notes}"),
            Err(error) => println!("        FAILED {name} ({seconds:.1} s){notes}\n{error:#}"),
        }
        let _ = std::io::stdout().flush();
        took
    }
}

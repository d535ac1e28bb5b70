//! What the process inside the namespace tells the one outside: a line of JSON each, on an inherited pipe.
//!
//! So what was measured is outside at once, and is written even if the inside is killed a moment later.

use std::fs::File;
use std::io::Write;

use anyhow::Result;
use figures::row::{Row, Rows};
use serde::{Deserialize, Serialize};

use crate::accel::Accelerator;
use crate::events;

/// One thing told.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "few at a time, each read once and gone")]
pub(super) enum Word {
    /// The guests run on this.
    Accelerator(Accelerator),
    /// Something was measured.
    Row(Row),
    /// Something is missing, was refused, or failed.
    Problem(String),
    /// A phase is over.
    Phase {
        /// Its name.
        name: String,
        /// How long it took.
        seconds: f64,
    },
}

/// Where words go.
pub(super) struct Teller(File);

impl Teller {
    /// Words go into this pipe.
    pub(super) fn new(pipe: File) -> Teller {
        Teller(pipe)
    }

    /// Tells `word`.
    ///
    /// # Errors
    /// Nobody listens any more.
    pub(super) fn tell(&mut self, word: &Word) -> Result<()> {
        let mut line = serde_json::to_vec(word)?;
        line.push(b'\n');
        Ok(self.0.write_all(&line)?)
    }
}

/// All that was told.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Heard {
    pub(super) accelerator: Option<Accelerator>,
    pub(super) rows: Rows,
    pub(super) problems: Vec<String>,
    pub(super) phases: Vec<(String, f64)>,
}

impl Heard {
    /// Takes one word in.
    pub(super) fn hear(&mut self, word: Word) {
        match word {
            Word::Accelerator(accelerator) => self.accelerator = Some(accelerator),
            Word::Row(row) => self.rows.push(row),
            Word::Problem(problem) => self.problems.push(problem),
            Word::Phase { name, seconds } => self.phases.push((name, seconds)),
        }
    }

    /// Takes in all that comes out of `pipe`, until its other end is closed.
    pub(super) fn listen(mut self, pipe: File) -> Heard {
        events::lines(pipe, |line| match serde_json::from_str(line) {
            Ok(word) => self.hear(word),
            // Cut off by the death of the teller.
            Err(_) => self
                .problems
                .push(format!("a word from inside was not understood: {line}")),
        });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use figures::row::Accel;
    use hs_core::figure::Figure;

    #[test]
    fn what_is_told_inside_is_heard_outside() {
        let (output, input) = std::io::pipe().unwrap();
        let mut teller = Teller::new(File::from(std::os::fd::OwnedFd::from(input)));
        let row = Row {
            figure: Figure {
                experiment: "fig6-1".into(),
                series: "lazy".into(),
                x: 4.0,
                ..Figure::default()
            },
            accel: Accel::Tcg,
        };
        for word in [
            Word::Accelerator(Accelerator::Tcg),
            Word::Row(row.clone()),
            Word::Problem("none".into()),
            Word::Phase {
                name: "guest".into(),
                seconds: 1.5,
            },
        ] {
            teller.tell(&word).unwrap();
        }
        teller.0.write_all(b"{\"Row\":").unwrap();
        drop(teller);
        let heard = Heard::default().listen(File::from(std::os::fd::OwnedFd::from(output)));
        assert_eq!(heard.accelerator, Some(Accelerator::Tcg));
        assert_eq!(heard.rows.iter().collect::<Vec<_>>(), [&row]);
        assert_eq!(heard.phases, [("guest".to_owned(), 1.5)]);
        assert_eq!(heard.problems.len(), 2, "{:?}", heard.problems);
    }
}

//! Listens to a measuring program: figures become rows, everything else that matters becomes a note of a problem.

use anyhow::Result;
use figures::row::{Accel, Row};
use hs_core::event::Event;

use super::told::Word;
use crate::events::{self, Line};
use crate::steps::Steps;

/// Lines without meaning that are reported of one program; more would only hide the first.
const GARBLED_MAX: usize = 3;

/// What listens to one program.
pub(super) struct Ear<'a> {
    /// The program, for a person.
    name: &'a str,
    accel: Accel,
    steps: &'a mut Steps,
    /// Where rows and problems go.
    tell: &'a mut dyn FnMut(Word) -> Result<()>,
    figures: usize,
    garbled: usize,
    /// Why it ended, in its own words.
    last_words: Option<String>,
}

impl<'a> Ear<'a> {
    /// Listens to `name`, which measures on `accel`.
    pub(super) fn new(
        name: &'a str,
        accel: Accel,
        steps: &'a mut Steps,
        tell: &'a mut dyn FnMut(Word) -> Result<()>,
    ) -> Ear<'a> {
        Ear {
            name,
            accel,
            steps,
            tell,
            figures: 0,
            garbled: 0,
            last_words: None,
        }
    }

    /// Takes a line in.
    ///
    /// # Errors
    /// Nobody takes what was heard.
    pub(super) fn hear(&mut self, line: Line) -> Result<()> {
        let name = self.name;
        match line {
            Line::Event(Event::Figure(figure)) => {
                self.figures += 1;
                self.steps.tell(&events::in_words(&figure));
                (self.tell)(Word::Row(Row {
                    figure: *figure,
                    accel: self.accel,
                }))
            }
            Line::Event(Event::Refused { what, why }) => {
                // A refused command line is the last that is heard.
                if what == "options" {
                    self.last_words = Some(why.clone());
                }
                (self.tell)(Word::Problem(format!("{name}: refused {what}: {why}")))
            }
            Line::Event(Event::Exit { why }) => {
                self.last_words = Some(why);
                Ok(())
            }
            Line::Event(_) => Ok(()),
            Line::Garbled(line) => {
                self.garbled += 1;
                if self.garbled > GARBLED_MAX {
                    return Ok(());
                }
                (self.tell)(Word::Problem(format!(
                    "{name}: said what is no event: {}",
                    line.escape_debug()
                )))
            }
        }
    }

    /// Time goes by.
    pub(super) fn tick(&mut self) {
        self.steps.tick();
    }

    /// The steps that are shown.
    pub(super) fn steps(&mut self) -> &mut Steps {
        self.steps
    }

    /// Notes how much was heard for the step's end.
    pub(super) fn note(&mut self) {
        self.steps.note(&format!("{} figures", self.figures));
    }

    /// How many figures were heard.
    pub(super) fn figures(&self) -> usize {
        self.figures
    }

    /// Why it ended, in its own words.
    pub(super) fn last_words(&self) -> &str {
        self.last_words.as_deref().unwrap_or("it did not say why")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a stand-in program says, a line each.
    const SCRIPT: &str = concat!(
        r#"{"event":"booted","build_id":"ab","memory_mib":2800,"boot_us":100}"#,
        "\n",
        r#"{"event":"refused","what":"series linux-uffd-wp","why":"not permitted"}"#,
        "\n",
        r#"{"event":"figure","experiment":"size-1pct","series":"lazy","x":4.0,"x_unit":"MiB","pause_us":{"p50":1.0,"p99":2.0,"max":3.0},"#,
        r#""stall_us":9.0,"stall_spread_us":{"min":8.0,"max":9.5},"pause_spread_us":{"min":1.0,"max":1.0},"runs":3,"bytes":4096}"#,
        "\n",
        r#"{"event":"figure","experiment":"size-1pct","series":"lazy","x":null}"#,
        "\nnoise\nnoise\nnoise\n",
        r#"{"event":"exit","why":"done"}"#,
        "\n",
    );

    #[test]
    fn a_script_of_events_becomes_rows_and_problems() {
        let (mut steps, mut words) = (Steps::new(), Vec::new());
        let mut tell = |word| {
            words.push(word);
            Ok(())
        };
        let mut ear = Ear::new("guest", Accel::Tcg, &mut steps, &mut tell);
        events::lines(SCRIPT.as_bytes(), |line| ear.hear(events::parse(line)).unwrap());
        assert_eq!((ear.figures(), ear.last_words()), (1, "done"));
        let problems: Vec<&String> = words
            .iter()
            .filter_map(|word| match word {
                Word::Problem(problem) => Some(problem),
                _ => None,
            })
            .collect();
        assert_eq!(problems.len(), 1 + GARBLED_MAX, "{problems:?}");
        assert!(problems[0].contains("guest") && problems[0].contains("linux-uffd-wp"));
        assert!(problems[1].contains("null"));
        let rows: Vec<&Row> = words
            .iter()
            .filter_map(|word| match word {
                Word::Row(row) => Some(row),
                _ => None,
            })
            .collect();
        assert_eq!(
            (rows.len(), rows[0].accel, rows[0].figure.bytes),
            (1, Accel::Tcg, 4096)
        );
    }
}

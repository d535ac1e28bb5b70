//! The rows of `results.json`: what was measured, and on what.

use std::cmp::Ordering;
use std::fmt;

use hs_core::figure::Figure;
use serde::{Deserialize, Serialize};

/// What a row was measured on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// A guest in software emulation.
    Tcg,
    /// A guest on hardware virtualisation.
    Kvm,
    /// No guest: the host itself. For reference only, never part of a ratio.
    Native,
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Accel::Tcg => "tcg",
            Accel::Kvm => "kvm",
            Accel::Native => "native",
        })
    }
}

/// One row: a figure as its program told it, and what it was measured on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The figure. Its fields are the row's own.
    #[serde(flatten)]
    pub figure: Figure,
    /// What it was measured on.
    pub accel: Accel,
}

/// All rows of a run, in the order in which they came.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Rows(Vec<Row>);

impl Rows {
    /// Reads `results.json`.
    ///
    /// # Errors
    /// It is no array of rows; the error says where.
    pub fn from_json(text: &str) -> Result<Rows, serde_json::Error> {
        let rows: Vec<Row> = serde_json::from_str(text)?;
        let mut all = Rows::default();
        rows.into_iter().for_each(|row| all.push(row));
        Ok(all)
    }

    /// As `results.json` holds them: an array, a row a line.
    ///
    /// # Panics
    /// Never: a row has nothing that JSON cannot say.
    pub fn to_json(&self) -> String {
        let lines: Vec<String> = self
            .0
            .iter()
            .map(|row| serde_json::to_string(row).expect("a row is numbers and names"))
            .collect();
        if lines.is_empty() {
            return "[]\n".into();
        }
        format!("[\n{}\n]\n", lines.join(",\n"))
    }

    /// Adds a row. One that says the same point again replaces the older.
    pub fn push(&mut self, row: Row) {
        let same = |old: &&mut Row| {
            let (old, new) = (&old.figure, &row.figure);
            (&old.experiment, &old.series, old.x) == (&new.experiment, &new.series, new.x)
        };
        match self.0.iter_mut().filter(|old| old.accel == row.accel).find(same) {
            Some(old) => *old = row,
            None => self.0.push(row),
        }
    }

    /// Every row.
    pub fn iter(&self) -> impl Iterator<Item = &Row> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the guests ran on, if any row came from one.
    pub fn guest_accel(&self) -> Option<Accel> {
        self.0
            .iter()
            .map(|row| row.accel)
            .find(|accel| *accel != Accel::Native)
    }

    /// The figures of an experiment, of the guests or (`native`) of the host.
    pub fn of(&self, experiment: &str, native: bool) -> Vec<&Figure> {
        self.0
            .iter()
            .filter(|row| row.figure.experiment == experiment && (row.accel == Accel::Native) == native)
            .map(|row| &row.figure)
            .collect()
    }

    /// One point that a guest measured.
    pub fn at(&self, experiment: &str, series: &str, x: f64) -> Option<&Figure> {
        self.of(experiment, false)
            .into_iter()
            .find(|figure| figure.series == series && figure.x == x)
    }
}

/// The x of all `figures`, ascending, each once. What is no number is left out.
pub fn positions(figures: &[&Figure]) -> Vec<f64> {
    let mut all: Vec<f64> = figures
        .iter()
        .map(|figure| figure.x)
        .filter(|x| x.is_finite())
        .collect();
    all.sort_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    all.dedup();
    all
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use hs_core::event::Event;
    use hs_core::figure::{Pause, Spread};

    /// A figure with this pause and stall, in microseconds.
    pub(crate) fn figure(experiment: &str, series: &str, x: f64, pause_us: f64, stall_us: f64) -> Figure {
        Figure {
            experiment: experiment.into(),
            series: series.into(),
            x,
            x_unit: "MiB".into(),
            pause_us: Pause {
                p50: pause_us,
                p99: pause_us * 2.0,
                max: pause_us * 3.0,
            },
            stall_us,
            stall_spread_us: Spread {
                min: stall_us * 0.9,
                max: stall_us * 1.2,
            },
            pause_spread_us: Spread {
                min: pause_us * 0.8,
                max: pause_us * 1.1,
            },
            runs: 5,
            bytes: (x * 1_048_576.0) as u64,
            ..Figure::default()
        }
    }

    /// Rows on TCG.
    pub(crate) fn rows(figures: impl IntoIterator<Item = Figure>) -> Rows {
        let mut rows = Rows::default();
        for figure in figures {
            rows.push(Row {
                figure,
                accel: Accel::Tcg,
            });
        }
        rows
    }

    #[test]
    fn a_row_is_the_events_fields_and_accel() {
        let line = r#"{"event":"figure","experiment":"size-10pct","series":"lazy","x":4.0,"x_unit":"MiB",
            "pause_us":{"p50":5.5,"p99":6.0,"max":7.0},"stall_us":20.0,"stall_spread_us":{"min":19.0,"max":21.0},
            "pause_spread_us":{"min":5.0,"max":6.0},"runs":5,"bytes":425984,"faults":13.0}"#;
        let Event::Figure(figure) = serde_json::from_str(line).unwrap() else {
            panic!("it is a figure");
        };
        let mut rows = Rows::default();
        rows.push(Row {
            figure: *figure,
            accel: Accel::Tcg,
        });
        let value: serde_json::Value = serde_json::from_str(&rows.to_json()).unwrap();
        let row = value[0].as_object().unwrap();
        assert_eq!(row["accel"], "tcg");
        assert_eq!(row["pause_us"]["p99"], 6.0);
        assert_eq!(row["faults"], 13.0);
        assert!(
            !row.contains_key("event") && !row.contains_key("user_s"),
            "{row:?}"
        );
        assert_eq!(Rows::from_json(&rows.to_json()).unwrap(), rows);
    }

    #[test]
    fn no_rows_are_an_empty_array() {
        assert_eq!(
            Rows::from_json(&Rows::default().to_json()).unwrap(),
            Rows::default()
        );
        assert!(Rows::from_json("{}").is_err());
    }

    #[test]
    fn a_point_said_again_replaces_the_older_but_not_the_hosts() {
        let mut all = rows([figure("e", "lazy", 4.0, 1.0, 2.0)]);
        all.push(Row {
            figure: figure("e", "lazy", 4.0, 9.0, 9.0),
            accel: Accel::Native,
        });
        all.push(Row {
            figure: figure("e", "lazy", 4.0, 3.0, 4.0),
            accel: Accel::Tcg,
        });
        assert_eq!(all.iter().count(), 2);
        assert_eq!(all.at("e", "lazy", 4.0).unwrap().pause_us.p50, 3.0);
        assert_eq!(all.of("e", true)[0].pause_us.p50, 9.0);
        assert_eq!(all.guest_accel(), Some(Accel::Tcg));
    }

    #[test]
    fn positions_are_ascending_and_once() {
        let figures = [16.0, 4.0, f64::NAN, 16.0].map(|x| figure("e", "lazy", x, 1.0, 1.0));
        assert_eq!(positions(&figures.iter().collect::<Vec<_>>()), [4.0, 16.0]);
    }
}

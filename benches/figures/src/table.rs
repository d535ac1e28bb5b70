//! Tables: as Markdown for the report, as aligned columns for a terminal.

use std::fmt::Write;

use hs_core::figure::Figure;

use crate::experiment::Experiment;
use crate::quantity::{Quantity, Value, rounded};
use crate::ratio::Ratio;
use crate::row::{Rows, positions};
use crate::series::{Side, order, ordered, side};
use crate::thesis;

/// A table of words.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    /// The headings of its columns.
    pub head: Vec<String>,
    /// Its rows; each has as many cells as the head.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    fn new(head: &[&str]) -> Table {
        Table {
            head: head.iter().map(|word| (*word).into()).collect(),
            rows: Vec::new(),
        }
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let mut line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        };
        line(&self.head);
        line(&self.head.iter().map(|_| "---".into()).collect::<Vec<_>>());
        self.rows.iter().for_each(|row| line(row));
        text
    }

    /// In aligned columns, for a terminal.
    pub fn aligned(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().chain([&self.head]).map(|row| &row[column]);
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut text = String::new();
        for row in [&self.head].into_iter().chain(&self.rows) {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        }
        text
    }
}

/// The ratios against their goals.
pub fn of_ratios(ratios: &[Ratio]) -> Table {
    let mut table = Table::new(&["", "goal", "measured", "", "from"]);
    for ratio in ratios {
        table.rows.push(vec![
            ratio.what.clone(),
            ratio.goal_words(),
            ratio.value_words(),
            ratio.verdict_words(),
            ratio.basis().into(),
        ]);
    }
    table
}

/// One of the thesis's tables: its own rows, then ours, then Linux's; the host's own at the end.
pub fn of_thesis_table(rows: &Rows, experiment: &Experiment) -> Table {
    let mut table = Table::new(&[
        "",
        "series",
        "user (s)",
        "system (s)",
        "wall (s)",
        "faults",
        "wall, × the side's least",
    ]);
    let thesis = thesis::figures(experiment.name);
    let groups: [(Option<Side>, Vec<&Figure>); 4] = [
        (Some(Side::Thesis), thesis.iter().collect()),
        (Some(Side::Ours), sided(rows, experiment, Side::Ours)),
        (Some(Side::Linux), sided(rows, experiment, Side::Linux)),
        (None, by_series(rows.of(experiment.name, true))),
    ];
    for (side, figures) in groups {
        let wall = |figure: &Figure| Quantity::Wall.of(figure).map(|value| value.middle);
        let least = figures
            .iter()
            .filter_map(|figure| wall(figure))
            .fold(f64::INFINITY, f64::min);
        for figure in figures {
            let times = wall(figure).filter(|_| least > 0.0).map(|wall| wall / least);
            table.rows.push(vec![
                side.map_or("Linux, natively", Side::name).into(),
                figure.series.trim_start_matches("thesis: ").into(),
                optional(figure.user_s),
                optional(figure.system_s),
                cell(Quantity::Wall.of(figure)),
                optional(figure.faults),
                optional(times),
            ]);
        }
    }
    table
}

/// Figures of one side, references counted as ours.
fn sided<'a>(rows: &'a Rows, experiment: &Experiment, wanted: Side) -> Vec<&'a Figure> {
    let mut all = by_series(rows.of(experiment.name, false));
    all.retain(|figure| (side(&figure.series) == Side::Linux) == (wanted == Side::Linux));
    all
}

fn by_series(mut figures: Vec<&Figure>) -> Vec<&Figure> {
    figures.sort_by_key(|figure| order(&figure.series));
    figures
}

fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| "–".into(), rounded)
}

/// One quantity of an experiment: a row a series, a column an x. `None` if nobody measured it.
pub fn of_quantity(rows: &Rows, experiment: &Experiment, quantity: Quantity, native: bool) -> Option<Table> {
    let figures = rows.of(experiment.name, native);
    let xs = positions(&figures);
    let mut table = Table::new(&[experiment.x_label]);
    table.head.extend(xs.iter().map(|x| rounded(*x)));
    for series in ordered(figures.iter().map(|figure| figure.series.as_str())) {
        let value = |x: &f64| {
            let figure = figures
                .iter()
                .find(|figure| figure.series == series && figure.x == *x);
            figure.and_then(|figure| quantity.of(figure))
        };
        let values: Vec<Option<Value>> = xs.iter().map(value).collect();
        if values.iter().any(Option::is_some) {
            let mut row = vec![series.to_owned()];
            row.extend(values.into_iter().map(cell));
            table.rows.push(row);
        }
    }
    (!table.rows.is_empty()).then_some(table)
}

/// One figure by itself: a row a quantity, of those that it has.
pub fn of_figure(figure: &Figure) -> Table {
    const QUANTITIES: [Quantity; 13] = [
        Quantity::Pause,
        Quantity::PauseP99,
        Quantity::PauseMax,
        Quantity::Stall,
        Quantity::LostThroughput,
        Quantity::Faults,
        Quantity::Contents,
        Quantity::Headers,
        Quantity::Child,
        Quantity::Processor,
        Quantity::Rate,
        Quantity::Latency,
        Quantity::LatencyP99,
    ];
    let mut table = Table::new(&["", &figure.series]);
    for quantity in QUANTITIES {
        if let Some(Value { middle, spread }) = quantity.of(figure) {
            // One run has none.
            let spread = spread.filter(|_| figure.runs > 1);
            let value = cell(Some(Value { middle, spread }));
            table.rows.push(vec![quantity.label().into(), value]);
        }
    }
    table
}

/// A value with its spread.
fn cell(value: Option<Value>) -> String {
    match value {
        None => "–".into(),
        Some(Value { middle, spread: None }) => rounded(middle),
        Some(Value {
            middle,
            spread: Some(spread),
        }) => format!(
            "{} ({} … {})",
            rounded(middle),
            rounded(spread.min),
            rounded(spread.max)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::find;
    use crate::ratio::ratios;
    use crate::row::tests::{figure, rows};

    #[test]
    fn absent_points_are_dashes_and_absent_quantities_no_table() {
        let rows = rows([
            figure("size-1pct", "linux-fork", 4.0, 100.0, 200.0),
            figure("size-1pct", "lazy", 4.0, 5.0, 20.0),
            figure("size-1pct", "lazy", 64.0, 6.0, f64::NAN),
        ]);
        let experiment = find("size-1pct").unwrap();
        let pauses = of_quantity(&rows, experiment, Quantity::Pause, false).unwrap();
        assert_eq!(pauses.head, ["memory (MiB)", "4", "64"]);
        assert_eq!(pauses.rows[0], ["lazy", "5 (4 … 5.50)", "6 (4.80 … 6.60)"]);
        assert_eq!(pauses.rows[1], ["linux-fork", "100 (80 … 110)", "–"]);
        let stalls = of_quantity(&rows, experiment, Quantity::Stall, false).unwrap();
        assert_eq!(stalls.rows[0][2], "–");
        assert_eq!(of_quantity(&rows, experiment, Quantity::Faults, false), None);
        assert_eq!(of_quantity(&rows, experiment, Quantity::Pause, true), None);
    }

    #[test]
    fn the_thesis_stands_beside_ours_and_linux() {
        let measured = |series: &str, wall_s| Figure {
            wall_s: Some(wall_s),
            ..figure("table3-2", series, 16.0, 0.0, 0.0)
        };
        let rows = rows([
            Figure {
                wall_spread_s: Some(hs_core::figure::Spread { min: 0.4, max: 0.6 }),
                ..measured("linux-share", 0.5)
            },
            measured("share", 0.1),
            measured("cow", 0.4),
        ]);
        let table = of_thesis_table(&rows, find("table3-2").unwrap());
        let column = |index: usize| {
            table
                .rows
                .iter()
                .map(|row| row[index].as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            column(1),
            ["copy-on-write", "share", "drop", "cow", "share", "linux-share"]
        );
        assert_eq!(column(0)[2..6], ["thesis", "Hotspare", "Hotspare", "Linux"]);
        assert_eq!(column(6)[3..], ["4", "1", "1"]);
        assert_eq!(column(5)[0], "169005");
        assert_eq!(column(2)[3], "–");
        assert_eq!(column(4)[3..], ["0.4", "0.1", "0.5 (0.4 … 0.6)"]);
    }

    #[test]
    fn a_figure_by_itself_shows_what_it_has() {
        let measured = Figure {
            faults: Some(13.0),
            header_bytes: Some(302),
            lost_throughput: Some(0.125),
            cpu_share: Some(0.5),
            ..figure("run", "pipe", 4096.0, 5.0, 20.0)
        };
        let text = of_figure(&measured).aligned();
        for (label, value) in [
            ("pause, median (µs)", "5 (4 … 5.50)"),
            ("pause, longest (µs)", "15"),
            ("throughput lost (%)", "12.5"),
            ("faults of one checkpoint", "13"),
            ("headers of one checkpoint (bytes)", "302"),
            ("busy share of the processor (%)", "50"),
        ] {
            let mut lines = text.lines();
            assert!(
                lines.any(|line| line.starts_with(label) && line.ends_with(value)),
                "{label} {value} in\n{text}"
            );
        }
        assert!(
            text.contains("pipe") && !text.contains("life of the child"),
            "{text}"
        );
        let once = of_figure(&Figure { runs: 1, ..measured });
        assert_eq!(once.rows[0][1], "5");
    }

    #[test]
    fn both_forms_hold_every_cell() {
        let table = of_ratios(&ratios(&Rows::default(), |_| true));
        assert_eq!(table.markdown().lines().count(), table.rows.len() + 2);
        for line in table.markdown().lines() {
            assert_eq!(line.matches('|').count(), 6, "{line}");
        }
        let aligned = table.aligned();
        assert_eq!(aligned.lines().count(), table.rows.len() + 1);
        assert!(
            aligned.contains("missing") && aligned.contains("≤ 0.5"),
            "{aligned}"
        );
    }
}

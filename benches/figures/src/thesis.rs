//! The thesis's own numbers of tables 3-1 to 3-3, measured on a 2.0 GHz Pentium 4 under NetBSD.
//!
//! Absolute times of that machine say nothing about ours; the ratios within a table do.

use hs_core::figure::Figure;

/// What every series of the thesis begins with.
const MARK: &str = "thesis: ";

/// Experiment, series, user, system and wall time of the whole run in seconds, faults where the thesis has them.
type Entry = (&'static str, &'static str, f64, f64, f64, Option<f64>);
const ENTRIES: &[Entry] = &[
    ("table3-1", "wired", 0.09, 22.76, 24.93, None),
    ("table3-1", "not wired", 0.05, 0.25, 1.71, None),
    ("table3-2", "copy-on-write", 0.28, 3.02, 3.53, Some(169_005.0)),
    ("table3-2", "share", 0.08, 0.08, 0.22, Some(6089.0)),
    ("table3-2", "drop", 0.07, 0.09, 0.24, Some(6089.0)),
    ("table3-3", "share", 0.03, 10.19, 15.79, None),
    ("table3-3", "drop", 0.06, 1.09, 1.23, None),
];

/// Whether a series is the thesis's.
pub fn is_series(series: &str) -> bool {
    series.starts_with(MARK)
}

/// The thesis's rows of `experiment`; none where it is not one of its tables.
pub fn figures(experiment: &str) -> Vec<Figure> {
    let of = ENTRIES.iter().filter(|entry| entry.0 == experiment);
    of.map(|&(experiment, series, user_s, system_s, wall_s, faults)| Figure {
        experiment: experiment.into(),
        series: format!("{MARK}{series}"),
        user_s: Some(user_s),
        system_s: Some(system_s),
        wall_s: Some(wall_s),
        faults,
        ..Figure::default()
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{EXPERIMENTS, Shape};

    #[test]
    fn every_table_has_its_rows_and_no_figure_has() {
        for experiment in EXPERIMENTS {
            let rows = figures(experiment.name);
            assert_eq!(
                rows.is_empty(),
                experiment.shape != Shape::Table,
                "{}",
                experiment.name
            );
            assert!(rows.iter().all(|row| is_series(&row.series)));
        }
    }
}

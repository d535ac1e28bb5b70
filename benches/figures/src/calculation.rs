//! The thesis's calculation behind its figures 6-3 and 6-4: how often contents fit through a link of 100 Mbit/s in a second.
//!
//! As there, nothing else counts: no headers, no acknowledgements, and the share of modified pages stays the same however often
//! a checkpoint is taken. Beside it stands what was measured.

use hs_core::figure::Figure;

use crate::row::{Accel, Row, Rows};

/// The link, in bits in a second.
pub const LINK_BIT_PER_S: f64 = 100e6;

const PAGE_LEN: u64 = 4096;
const MIB_PAGES: u64 = (1 << 20) / PAGE_LEN;

/// Figure 6-3: sizes in MiB at 10 % dirty.
const SIZES_MIB: [u64; 6] = [1, 2, 5, 10, 20, 50];
const SHARE_PERCENT: u64 = 10;
/// Figure 6-4: shares of dirty pages in percent at 10 MiB.
const SHARES_PERCENT: [u64; 6] = [1, 5, 10, 25, 50, 100];
const SIZE_MIB: u64 = 10;

/// Adds the calculated series of those figures that are `asked` for.
pub fn add(rows: &mut Rows, asked: impl Fn(&str) -> bool, accel: Accel) {
    if asked("fig6-3") {
        for mib in SIZES_MIB {
            pair(
                rows,
                "fig6-3",
                (mib, "MiB"),
                mib * MIB_PAGES,
                SHARE_PERCENT,
                accel,
            );
        }
    }
    if asked("fig6-4") {
        for percent in SHARES_PERCENT {
            pair(
                rows,
                "fig6-4",
                (percent, "% dirty"),
                SIZE_MIB * MIB_PAGES,
                percent,
                accel,
            );
        }
    }
}

/// An incremental and a full checkpoint of `pages`.
fn pair(rows: &mut Rows, experiment: &str, (x, x_unit): (u64, &str), pages: u64, percent: u64, accel: Accel) {
    // As the guest and the peers round: up.
    let dirty = (pages * percent).div_ceil(100);
    for (series, pages) in [("calculated-incremental", dirty), ("calculated-full", pages)] {
        let bytes = pages * PAGE_LEN;
        let figure = Figure {
            experiment: experiment.into(),
            series: series.into(),
            x: x as f64,
            x_unit: x_unit.into(),
            bytes,
            rate_per_s: Some(LINK_BIT_PER_S / 8.0 / bytes as f64),
            ..Figure::default()
        };
        rows.push(Row { figure, accel });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_checkpoint_of_10_mib_fits_once_and_a_little() {
        let mut rows = Rows::default();
        add(&mut rows, |_| true, Accel::Tcg);
        let rate = |experiment, series, x| rows.at(experiment, series, x).unwrap().rate_per_s.unwrap();
        assert!((rate("fig6-3", "calculated-full", 10.0) - 1.192).abs() < 0.001);
        assert!((rate("fig6-3", "calculated-incremental", 10.0) - 11.92).abs() < 0.01);
        assert_eq!(
            rate("fig6-4", "calculated-incremental", 100.0),
            rate("fig6-4", "calculated-full", 1.0)
        );
        assert_eq!(rows.iter().count(), 2 * (SIZES_MIB.len() + SHARES_PERCENT.len()));
    }

    #[test]
    fn nothing_is_added_unasked() {
        let mut rows = Rows::default();
        add(&mut rows, |name| name == "fig6-1", Accel::Tcg);
        assert!(rows.is_empty());
    }
}

//! From what a run of the benchmark measured to what a person reads: ratios against their goals, tables, plots, the report.
//!
//! ```text
//!  event lines -> Row -> Rows -> ratio      the goals, reached or missed
//!                             -> table      ours, Linux and the thesis side by side; each figure's data
//!                             -> plot       one drawing of each figure, as SVG and as PNG
//!                             -> report     all that in report.md
//! ```
//! Pure: rows in, text and pixels out. So it is tested without a guest, and old results can be drawn again. What there is to
//! measure, under which name and by whom, stands in [`experiment`]. Deliberately absent: files, processes, a clock,
//! and fonts of the host (the font is a crate's, so that a figure looks the same everywhere).
#![forbid(unsafe_code)]

pub mod calculation;
pub mod distribution;
pub mod experiment;
pub mod plot;
pub mod quantity;
pub mod ratio;
pub mod report;
pub mod row;
pub mod series;
pub mod table;
pub mod thesis;

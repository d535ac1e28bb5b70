//! A figure of bars: the wall time of each series of one of the thesis's tables, the thesis's own among them.
//!
//! Bars lie, so that names have room; the axis is logarithmic, and each bar carries its number, and a thin line from its least
//! run to its greatest. The thesis's machine was
//! another: what to compare is how far apart the bars of one side lie.

use plotters::prelude::*;

use super::DrawError;
use super::axis::Axis;
use super::canvas::{FAINT, GRID, INK, Pen, Picture, Side, refused};
use crate::experiment::{Experiment, Plot};
use crate::quantity::{Value, rounded};
use crate::row::Rows;
use crate::series::{self, order, side};
use crate::thesis;

const NAMES_WIDTH: f64 = 250.0;
const PLOT_TOP: f64 = 56.0;
/// Room to the right of the longest bar, for its number.
const NUMBER_ROOM: f64 = 64.0;
/// Half the height of the ends of a spread's line.
const CAP: f64 = 3.0;
/// Share of its row that a bar fills.
const FILL: f64 = 0.62;

/// One bar.
struct Bar {
    name: String,
    side: series::Side,
    value: Value,
}

/// The whole figure.
pub(super) struct Bars {
    title: String,
    subtitle: String,
    label: &'static str,
    axis: Axis,
    bars: Vec<Bar>,
}

impl Bars {
    /// What `plot` shows of `rows`; `None` if no row of ours or Linux's is among it.
    pub(super) fn new(rows: &Rows, experiment: &Experiment, plot: &Plot) -> Option<Bars> {
        let thesis = thesis::figures(experiment.name);
        let measured = rows.of(experiment.name, false);
        let mut bars: Vec<Bar> = thesis
            .iter()
            .chain(measured)
            .filter_map(|figure| {
                Some(Bar {
                    name: figure.series.clone(),
                    side: side(&figure.series),
                    value: plot.quantity.of(figure)?,
                })
            })
            .filter(|bar| bar.value.middle > 0.0)
            .collect();
        if bars.iter().all(|bar| bar.side == series::Side::Thesis) {
            return None;
        }
        bars.sort_by(|a, b| (a.side, order(&a.name)).cmp(&(b.side, order(&b.name))));
        let values: Vec<f64> = bars
            .iter()
            .flat_map(|bar| bar.value.ends().into_iter().chain([bar.value.middle]))
            .filter(|value| *value > 0.0)
            .collect();
        let accel = rows
            .guest_accel()
            .map(|accel| format!("guests on {accel}; "))
            .unwrap_or_default();
        let lines = if bars.iter().any(|bar| bar.value.spread.is_some()) {
            "; lines from the least run to the greatest"
        } else {
            ""
        };
        Some(Bars {
            title: experiment.title.into(),
            subtitle: format!("{accel}the thesis's machine was another: compare within a colour{lines}"),
            label: plot.quantity.label(),
            axis: Axis::log_for_bars(&values),
            bars,
        })
    }
}

const fn colour(side: series::Side) -> RGBColor {
    match side {
        series::Side::Ours => RGBColor(0, 114, 178),
        series::Side::Linux => RGBColor(213, 94, 0),
        series::Side::Thesis => RGBColor(120, 120, 120),
        series::Side::Reference => RGBColor(0, 158, 115),
    }
}

impl Picture for Bars {
    fn paint<DB: DrawingBackend>(&self, pen: &Pen<'_, DB>) -> Result<(), DrawError> {
        pen.write(&self.title, (16.0, 20.0), 18.0, INK, Side::Left)?;
        pen.write(&self.subtitle, (16.0, 42.0), 12.5, FAINT, Side::Left)?;
        let inner = pen.area.margin(
            pen.pixels(PLOT_TOP),
            0,
            pen.pixels(NAMES_WIDTH),
            pen.pixels(NUMBER_ROOM),
        );
        let count = self.bars.len() as f64;
        let mut chart = ChartBuilder::on(&inner)
            .margin_bottom(pen.pixels(8.0))
            .x_label_area_size(pen.pixels(50.0))
            .build_cartesian_2d(self.axis.clone(), 0.0..count)
            .map_err(refused)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .bold_line_style(GRID.stroke_width(pen.pixels(1.0) as u32))
            .axis_style(FAINT.stroke_width(pen.pixels(1.0) as u32))
            .set_all_tick_mark_size(pen.pixels(4.0))
            .label_style(pen.words(13.0, INK))
            .axis_desc_style(pen.words(14.0, INK))
            .x_desc(self.label)
            .draw()
            .map_err(refused)?;
        let at = |value: f64, row: f64| {
            // Rows are counted from the top.
            pen.units(chart.backend_coord(&(self.axis.place(value), count - row)))
        };
        for (index, bar) in self.bars.iter().enumerate() {
            let middle = index as f64 + 0.5;
            let (right, top) = at(bar.value.middle, middle - FILL / 2.0);
            let (_, bottom) = at(bar.value.middle, middle + FILL / 2.0);
            let left = NAMES_WIDTH;
            let y = (top + bottom) / 2.0;
            pen.block((left, top), (right, bottom), colour(bar.side))?;
            let [(low, _), (high, _)] = bar.value.ends().map(|end| at(end, middle));
            if bar.value.spread.is_some() {
                pen.line(&[(low, y), (high, y)], INK, 1.2, false)?;
                for x in [low, high] {
                    pen.line(&[(x, y - CAP), (x, y + CAP)], INK, 1.2, false)?;
                }
            }
            let end = high.max(right);
            pen.write(&rounded(bar.value.middle), (end + 6.0, y), 13.0, INK, Side::Left)?;
            let name = match bar.side {
                series::Side::Ours => format!("Hotspare: {}", bar.name),
                _ => bar.name.clone(),
            };
            pen.write(&name, (left - 10.0, y), 13.0, INK, Side::Right)?;
        }
        Ok(())
    }
}

//! A figure of how many values lie where, with lines at some of them.

use plotters::prelude::*;

use super::axis::Axis;
use super::canvas::{FAINT, GRID, INK, Pen, Picture, Side, refused, render};
use super::{DrawError, Drawing};
use crate::distribution::{Bar, Distribution};
use crate::quantity::rounded;

const PLOT_TOP: f64 = 78.0;
const BLUE: RGBColor = RGBColor(0, 114, 178);

/// What is said beside the bars.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// Over it all.
    pub title: &'a str,
    /// Below that.
    pub subtitle: &'a str,
    /// What is counted, with its unit.
    pub label: &'a str,
}

struct Histogram<'a> {
    words: Words<'a>,
    bars: Vec<Bar>,
    marks: Vec<(&'static str, f64)>,
    values: Axis,
    counts: Axis,
}

/// Draws `values` as bars, with lines at their median, 99th percentile and maximum; `None` if there are none.
///
/// # Errors
/// The plotting library or the encoder refuses.
pub fn histogram(values: &Distribution, words: Words<'_>) -> Result<Option<Drawing>, DrawError> {
    let bars = values.bars();
    let (Some(first), Some(last)) = (bars.first(), bars.last()) else {
        return Ok(None);
    };
    let counts: Vec<f64> = bars.iter().map(|bar| bar.count as f64).collect();
    let marks = [
        ("median", values.percentile(50.0)),
        ("p99", values.percentile(99.0)),
        ("max", values.max()),
    ];
    let picture = Histogram {
        words,
        marks: marks
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect(),
        values: Axis::log(&[first.from, last.to]),
        counts: Axis::linear(&counts),
        bars,
    };
    render(&picture).map(Some)
}

impl Picture for Histogram<'_> {
    fn paint<DB: DrawingBackend>(&self, pen: &Pen<'_, DB>) -> Result<(), DrawError> {
        pen.write(self.words.title, (16.0, 20.0), 18.0, INK, Side::Left)?;
        pen.write(self.words.subtitle, (16.0, 42.0), 12.5, FAINT, Side::Left)?;
        let inner = pen.area.margin(pen.pixels(PLOT_TOP), 0, 0, pen.pixels(24.0));
        let mut chart = ChartBuilder::on(&inner)
            .margin_bottom(pen.pixels(8.0))
            .x_label_area_size(pen.pixels(50.0))
            .y_label_area_size(pen.pixels(64.0))
            .build_cartesian_2d(self.values.clone(), self.counts.clone())
            .map_err(refused)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID.stroke_width(pen.pixels(1.0) as u32))
            .axis_style(FAINT.stroke_width(pen.pixels(1.0) as u32))
            .set_all_tick_mark_size(pen.pixels(4.0))
            .label_style(pen.words(13.0, INK))
            .axis_desc_style(pen.words(14.0, INK))
            .x_desc(self.words.label)
            .y_desc("kills")
            .draw()
            .map_err(refused)?;
        let at = |value: f64, count: f64| {
            pen.units(chart.backend_coord(&(self.values.place(value), self.counts.place(count))))
        };
        for bar in self.bars.iter().filter(|bar| bar.count > 0) {
            let (left, top) = at(bar.from, bar.count as f64);
            let (right, bottom) = at(bar.to, 0.0);
            pen.block((left + 1.0, top), (right - 1.0, bottom), BLUE)?;
        }
        let (_, bottom) = at(self.bars[0].from, 0.0);
        for (index, (name, value)) in self.marks.iter().enumerate() {
            let (x, _) = at(*value, 0.0);
            // One below the other: they may lie close together.
            let y = PLOT_TOP - 14.0 + 16.0 * index as f64;
            pen.line(&[(x, y), (x, bottom)], INK, 1.2, true)?;
            let side = if x > super::canvas::WIDTH / 2.0 {
                Side::Right
            } else {
                Side::Left
            };
            let beside = if side == Side::Right { x - 6.0 } else { x + 6.0 };
            pen.write(
                &format!("{name} {}", rounded(*value)),
                (beside, y),
                13.0,
                INK,
                side,
            )?;
        }
        Ok(())
    }
}

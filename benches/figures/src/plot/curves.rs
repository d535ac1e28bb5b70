//! A figure of curves: each series a line with a mark at each point, and a bar from its least run to its greatest.

use plotters::prelude::*;

use super::DrawError;
use super::axis::Axis;
use super::canvas::{FAINT, GRID, INK, Pen, Picture, Side, WIDTH, refused};
use crate::experiment::{Experiment, Plot};
use crate::quantity::Value;
use crate::row::{Rows, positions};
use crate::series::{ABOVE_FLUSH, Style, ordered, style};

/// Room for the legend, to the right of the data.
const LEGEND_WIDTH: f64 = 200.0;
const LEGEND_TOP: f64 = 74.0;
const LEGEND_STEP: f64 = 23.0;
const PLOT_TOP: f64 = 56.0;
/// Half the width of the ends of a spread's bar.
const CAP: f64 = 2.5;

/// Most points on a logarithmic x axis that are written beside it.
const TICKS_MAX: usize = 8;
/// From where on the y axis is logarithmic: so many times lies the greatest value above the least.
const LOG_FROM: f64 = 8.0;

/// How many times the greatest of `values` lies above the least.
fn span(values: &[f64]) -> f64 {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    values.iter().copied().fold(0.0, f64::max) / least
}

/// One line.
struct Curve {
    name: String,
    style: Style,
    points: Vec<(f64, Value)>,
}

/// The whole figure.
pub(super) struct Curves {
    title: String,
    subtitle: String,
    x_label: &'static str,
    y_label: &'static str,
    x: Axis,
    y: Axis,
    curves: Vec<Curve>,
}

impl Curves {
    /// What `plot` shows of `rows`; `None` if that is nothing.
    pub(super) fn new(rows: &Rows, experiment: &Experiment, plot: &Plot) -> Option<Curves> {
        let figures = rows.of(experiment.name, false);
        let names = ordered(figures.iter().map(|figure| figure.series.as_str()));
        let names = names.into_iter().filter(|name| *name != ABOVE_FLUSH);
        let mut curves = Vec::new();
        for name in names {
            let mut points: Vec<(f64, Value)> = figures
                .iter()
                .filter(|figure| figure.series == name && figure.x.is_finite())
                .filter_map(|figure| Some((figure.x, plot.quantity.of(figure)?)))
                // What has no place on a logarithmic axis: noise around nothing.
                .filter(|(x, value)| value.middle > 0.0 && (!experiment.x_log || *x > 0.0))
                .collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            if !points.is_empty() {
                curves.push(Curve {
                    name: name.into(),
                    style: style(name, curves.len()),
                    points,
                });
            }
        }
        if curves.is_empty() {
            return None;
        }
        let shown = || curves.iter().flat_map(|curve| &curve.points);
        let xs: Vec<f64> = positions(&figures)
            .into_iter()
            .filter(|x| shown().any(|point| point.0 == *x))
            .collect();
        let ys: Vec<f64> = shown()
            .flat_map(|(_, value)| value.ends().into_iter().chain([value.middle]))
            .filter(|y| *y > 0.0)
            .collect();
        let measured = || figures.iter().map(|figure| figure.runs).filter(|runs| *runs > 0);
        let runs = match (measured().min(), measured().max()) {
            (Some(least), Some(most)) if least == most => format!("medians of {least} runs"),
            (Some(least), Some(most)) => format!("medians of {least} to {most} runs"),
            _ => "calculated".into(),
        };
        let bars = if shown().any(|(_, value)| value.spread.is_some()) {
            "; bars from the least run to the greatest"
        } else {
            ""
        };
        let accel = rows
            .guest_accel()
            .map(|accel| format!("guests on {accel}; "))
            .unwrap_or_default();
        Some(Curves {
            title: experiment.title.into(),
            subtitle: format!("{accel}{runs}{bars}"),
            x_label: experiment.x_label,
            y_label: plot.quantity.label(),
            x: match experiment.x_log {
                true if xs.len() <= TICKS_MAX => Axis::log_at(&xs),
                true => Axis::log(&xs),
                false => Axis::linear(&xs),
            },
            y: if span(&ys) < LOG_FROM {
                Axis::linear(&ys)
            } else {
                Axis::log(&ys)
            },
            curves,
        })
    }

    fn legend<DB: DrawingBackend>(&self, pen: &Pen<'_, DB>) -> Result<(), DrawError> {
        let left = WIDTH - LEGEND_WIDTH + 14.0;
        for (index, curve) in self.curves.iter().enumerate() {
            let y = LEGEND_TOP + index as f64 * LEGEND_STEP;
            self.stroke(pen, &[(left, y), (left + 32.0, y)], &curve.style)?;
            pen.mark((left + 16.0, y), &curve.style)?;
            pen.write(&curve.name, (left + 40.0, y), 13.0, INK, Side::Left)?;
        }
        Ok(())
    }

    fn stroke<DB: DrawingBackend>(
        &self,
        pen: &Pen<'_, DB>,
        points: &[(f64, f64)],
        style: &Style,
    ) -> Result<(), DrawError> {
        let width = if style.bold { 2.8 } else { 1.5 };
        pen.line(points, colour(style), width, style.dashed)
    }
}

fn colour(style: &Style) -> RGBColor {
    RGBColor(style.colour.0, style.colour.1, style.colour.2)
}

impl Picture for Curves {
    fn paint<DB: DrawingBackend>(&self, pen: &Pen<'_, DB>) -> Result<(), DrawError> {
        pen.write(&self.title, (16.0, 20.0), 18.0, INK, Side::Left)?;
        pen.write(&self.subtitle, (16.0, 42.0), 12.5, FAINT, Side::Left)?;
        let data = pen
            .area
            .margin(pen.pixels(PLOT_TOP), 0, 0, pen.pixels(LEGEND_WIDTH));
        let mut chart = ChartBuilder::on(&data)
            .margin(pen.pixels(10.0))
            .x_label_area_size(pen.pixels(50.0))
            .y_label_area_size(pen.pixels(78.0))
            .build_cartesian_2d(self.x.clone(), self.y.clone())
            .map_err(refused)?;
        chart
            .configure_mesh()
            .bold_line_style(GRID.stroke_width(pen.pixels(1.0) as u32))
            .axis_style(FAINT.stroke_width(pen.pixels(1.0) as u32))
            .set_all_tick_mark_size(pen.pixels(4.0))
            .label_style(pen.words(13.0, INK))
            .axis_desc_style(pen.words(14.0, INK))
            .x_desc(self.x_label)
            .y_desc(self.y_label)
            .draw()
            .map_err(refused)?;
        let at = |x: f64, y: f64| pen.units(chart.backend_coord(&(self.x.place(x), self.y.place(y))));
        // What the figure is about is drawn last, on top.
        let (bold, plain): (Vec<&Curve>, Vec<&Curve>) =
            self.curves.iter().partition(|curve| curve.style.bold);
        for curve in plain.into_iter().chain(bold) {
            let points: Vec<(f64, f64)> = curve
                .points
                .iter()
                .map(|(x, value)| at(*x, value.middle))
                .collect();
            if points.len() > 1 {
                self.stroke(pen, &points, &curve.style)?;
            }
            for (x, value) in &curve.points {
                let Some(spread) = value.spread.filter(|spread| self.y.shows(spread.max)) else {
                    continue;
                };
                let ((left, low), (_, high)) = (at(*x, spread.min), at(*x, spread.max));
                pen.line(&[(left, low), (left, high)], colour(&curve.style), 1.2, false)?;
                for y in [low, high] {
                    pen.line(
                        &[(left - CAP, y), (left + CAP, y)],
                        colour(&curve.style),
                        1.2,
                        false,
                    )?;
                }
            }
            for point in points {
                pen.mark(point, &curve.style)?;
            }
        }
        self.legend(pen)
    }
}

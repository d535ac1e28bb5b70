//! One drawing of each figure: curves with the spread of their runs, or bars, as SVG and as PNG.
//!
//! Both come from the same strokes (`canvas`), so they show the same. The legend stands beside the data, never over it.

mod axis;
mod bars;
mod canvas;
mod curves;
mod histogram;

use std::fmt;

pub use self::histogram::{Words, histogram};

use crate::experiment::{Experiment, Plot, Shape};
use crate::row::Rows;

/// A figure, drawn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Drawing {
    /// As SVG.
    pub svg: String,
    /// As PNG.
    pub png: Vec<u8>,
}

/// Why a figure could not be drawn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DrawError {
    /// The plotting library refused, in its words.
    Plot(String),
    /// The picture could not be encoded.
    Png(String),
}

impl fmt::Display for DrawError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DrawError::Plot(why) => write!(f, "the plotting library refused: {why}"),
            DrawError::Png(why) => write!(f, "the picture cannot be encoded: {why}"),
        }
    }
}

impl std::error::Error for DrawError {}

/// Draws `plot` of `experiment`; `None` if nothing that it shows was measured.
///
/// # Errors
/// The plotting library or the encoder refuses.
pub fn draw(rows: &Rows, experiment: &Experiment, plot: &Plot) -> Result<Option<Drawing>, DrawError> {
    match experiment.shape {
        Shape::Table => bars::Bars::new(rows, experiment, plot).map(|bars| canvas::render(&bars)),
        Shape::Curves => curves::Curves::new(rows, experiment, plot).map(|curves| canvas::render(&curves)),
    }
    .transpose()
}

#[cfg(test)]
mod tests;

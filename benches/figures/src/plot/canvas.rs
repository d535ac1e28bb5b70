//! Strokes and words on an area, whatever it becomes: SVG text, or pixels.
//!
//! Everything is measured in units, a unit being a pixel of the SVG. The PNG is drawn four times as large and halved, which
//! smooths the edges that the library draws without smoothing.

use std::sync::Once;

use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

use super::{DrawError, Drawing};
use crate::series::{Mark, Style};

/// Size of a figure, in units.
pub(super) const WIDTH: f64 = 960.0;
/// Size of a figure, in units.
pub(super) const HEIGHT: f64 = 560.0;
/// The family of all words. An SVG's reader takes its own, a PNG has the one that is registered under this name.
pub(super) const FONT: &str = "sans-serif";
/// Colour of words.
pub(super) const INK: RGBColor = RGBColor(40, 40, 40);
/// Colour of what stands back.
pub(super) const FAINT: RGBColor = RGBColor(110, 110, 110);
/// Colour of the grid.
pub(super) const GRID: RGBColor = RGBColor(226, 226, 226);

/// Pixels of the drawn picture for a unit, and of these, how many become one.
const PNG_SCALE: f64 = 4.0;
const SMOOTHING: usize = 2;

/// Something that can be drawn with a [`Pen`].
pub(super) trait Picture {
    /// Draws it.
    fn paint<DB: DrawingBackend>(&self, pen: &Pen<'_, DB>) -> Result<(), DrawError>;
}

/// Draws `picture` twice.
///
/// # Errors
/// The library or the encoder refuses.
pub(super) fn render(picture: &impl Picture) -> Result<Drawing, DrawError> {
    static FONT_REGISTERED: Once = Once::new();
    FONT_REGISTERED.call_once(|| {
        // It is a sound font, so that it is not refused; were it, the first word would be, with a reason.
        let _ = register_font(FONT, FontStyle::Normal, dejavu::sans::regular());
    });
    let mut svg = String::new();
    paint(
        picture,
        SVGBackend::with_string(&mut svg, (WIDTH as u32, HEIGHT as u32)),
        1.0,
    )?;
    let (width, height) = ((WIDTH * PNG_SCALE) as usize, (HEIGHT * PNG_SCALE) as usize);
    let mut pixels = vec![255u8; width * height * 3];
    let backend = BitMapBackend::with_buffer(&mut pixels, (width as u32, height as u32));
    paint(picture, backend, PNG_SCALE)?;
    Ok(Drawing {
        svg,
        png: encode(
            &shrunk(&pixels, width, height),
            width / SMOOTHING,
            height / SMOOTHING,
        )?,
    })
}

fn paint<DB: DrawingBackend>(picture: &impl Picture, backend: DB, scale: f64) -> Result<(), DrawError> {
    let area = backend.into_drawing_area();
    area.fill(&WHITE).map_err(refused)?;
    picture.paint(&Pen { area: &area, scale })?;
    area.present().map_err(refused)
}

pub(super) fn refused(error: impl std::fmt::Display) -> DrawError {
    DrawError::Plot(error.to_string())
}

/// Each square of pixels as one, its mean.
fn shrunk(pixels: &[u8], width: usize, height: usize) -> Vec<u8> {
    let mut small = Vec::with_capacity(pixels.len() / SMOOTHING / SMOOTHING);
    for row in 0..height / SMOOTHING {
        for column in 0..width / SMOOTHING {
            for channel in 0..3 {
                let mut sum = 0;
                for y in 0..SMOOTHING {
                    let begin = ((row * SMOOTHING + y) * width + column * SMOOTHING) * 3 + channel;
                    sum += (0..SMOOTHING)
                        .map(|x| usize::from(pixels[begin + x * 3]))
                        .sum::<usize>();
                }
                small.push((sum / (SMOOTHING * SMOOTHING)) as u8);
            }
        }
    }
    small
}

fn encode(pixels: &[u8], width: usize, height: usize) -> Result<Vec<u8>, DrawError> {
    let failed = |error: png::EncodingError| DrawError::Png(error.to_string());
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(pixels).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

/// Which side of a word stands at its point.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Its left end.
    Left,
    /// Its right end.
    Right,
}

/// Draws in units.
pub(super) struct Pen<'a, DB: DrawingBackend> {
    pub(super) area: &'a DrawingArea<DB, Shift>,
    pub(super) scale: f64,
}

impl<DB: DrawingBackend> Pen<'_, DB> {
    /// Units as pixels.
    pub(super) fn pixels(&self, units: f64) -> i32 {
        (units * self.scale).round() as i32
    }

    /// Pixels as units.
    pub(super) fn units(&self, (x, y): (i32, i32)) -> (f64, f64) {
        (f64::from(x) / self.scale, f64::from(y) / self.scale)
    }

    fn point(&self, (x, y): (f64, f64)) -> (i32, i32) {
        (self.pixels(x), self.pixels(y))
    }

    /// The style of words of `size` units.
    pub(super) fn words(&self, size: f64, colour: RGBColor) -> TextStyle<'static> {
        let mut style = TextStyle::from((FONT, size * self.scale).into_font());
        style.color = colour.to_backend_color();
        style
    }

    /// Writes `text` with its middle line at `at`.
    pub(super) fn write(
        &self,
        text: &str,
        at: (f64, f64),
        size: f64,
        colour: RGBColor,
        side: Side,
    ) -> Result<(), DrawError> {
        let side = match side {
            Side::Left => HPos::Left,
            Side::Right => HPos::Right,
        };
        let style = self.words(size, colour).pos(Pos::new(side, VPos::Center));
        // The library centres the line with its gap below; a word looks centred a little lower.
        let at = self.point((at.0, at.1 + size * 0.12));
        self.area.draw_text(text, &style, at).map_err(refused)
    }

    /// A line through `points`, `width` units thick.
    pub(super) fn line(
        &self,
        points: &[(f64, f64)],
        colour: RGBColor,
        width: f64,
        dashed: bool,
    ) -> Result<(), DrawError> {
        let points: Vec<(i32, i32)> = points.iter().map(|point| self.point(*point)).collect();
        let style = colour.stroke_width(self.pixels(width).max(1) as u32);
        if dashed {
            let (dash, gap) = (self.pixels(7.0), self.pixels(4.0));
            let path = DashedPathElement::new(points, dash, gap, style);
            self.area.draw(&path).map_err(refused)
        } else {
            self.area.draw(&PathElement::new(points, style)).map_err(refused)
        }
    }

    /// A full rectangle between two corners.
    pub(super) fn block(&self, from: (f64, f64), to: (f64, f64), colour: RGBColor) -> Result<(), DrawError> {
        let block = Rectangle::new([self.point(from), self.point(to)], colour.filled());
        self.area.draw(&block).map_err(refused)
    }

    /// The mark of `style` around `at`.
    pub(super) fn mark(&self, at: (f64, f64), style: &Style) -> Result<(), DrawError> {
        let (red, green, blue) = style.colour;
        let colour = RGBColor(red, green, blue);
        let radius = if style.bold { 4.5 } else { 3.8 };
        let (x, y) = at;
        match style.mark {
            Mark::Dot => self
                .area
                .draw(&Circle::new(self.point(at), self.pixels(radius), colour.filled())),
            Mark::Ring => {
                let full = Circle::new(self.point(at), self.pixels(radius + 0.6), colour.filled());
                let hole = Circle::new(self.point(at), self.pixels(radius - 1.2), WHITE.filled());
                self.area.draw(&full).and_then(|()| self.area.draw(&hole))
            }
            Mark::Triangle => {
                let (half, up) = (radius * 1.15, radius * 1.2);
                let corners = [(x - half, y + up * 0.8), (x + half, y + up * 0.8), (x, y - up)];
                let corners = corners.map(|corner| self.point(corner)).to_vec();
                self.area.draw(&Polygon::new(corners, colour.filled()))
            }
            Mark::Square => {
                let half = radius * 0.9;
                let corners = [(x - half, y - half), (x + half, y + half)].map(|corner| self.point(corner));
                self.area.draw(&Rectangle::new(corners, colour.filled()))
            }
            Mark::Cross => {
                let half = radius * 0.95;
                for tilt in [1.0, -1.0] {
                    self.line(
                        &[(x - half, y - half * tilt), (x + half, y + half * tilt)],
                        colour,
                        1.8,
                        false,
                    )?;
                }
                Ok(())
            }
        }
        .map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_pixels_become_their_mean() {
        let mut pixels = vec![0u8; 4 * 2 * 3];
        // Of the left square one pixel is white, the right square is wholly so.
        pixels[..3].fill(255);
        for at in [2, 3, 6, 7] {
            pixels[at * 3..at * 3 + 3].fill(255);
        }
        assert_eq!(shrunk(&pixels, 4, 2), [63, 63, 63, 255, 255, 255]);
    }
}

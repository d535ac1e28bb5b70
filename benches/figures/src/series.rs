//! The series there are: whose they are, in which order they stand, and how they are drawn.
//!
//! One place, so that a series looks the same in every figure. Ours are lines with full dots, Linux's have open and other
//! marks; the colours are those of Okabe and Ito, which the colour-blind can tell apart.

use crate::thesis;

/// Whose work a series measures.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Side {
    /// This system's.
    Ours,
    /// A way that Linux offers.
    Linux,
    /// A number that the thesis has.
    Thesis,
    /// Calculated, or a bound to measure against.
    Reference,
}

impl Side {
    /// As a table says it.
    pub const fn name(self) -> &'static str {
        match self {
            Side::Ours => "Hotspare",
            Side::Linux => "Linux",
            Side::Thesis => "thesis",
            Side::Reference => "reference",
        }
    }
}

/// The mark at each point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// A full dot.
    Dot,
    /// A ring.
    Ring,
    /// A full triangle.
    Triangle,
    /// A full square.
    Square,
    /// A cross.
    Cross,
}

/// How a series is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Style {
    /// Red, green, blue.
    pub colour: (u8, u8, u8),
    /// At each point.
    pub mark: Mark,
    /// Whether the line is broken: what is calculated, or a bound.
    pub dashed: bool,
    /// Whether the line is thick: what the figure is about.
    pub bold: bool,
}

const BLACK: (u8, u8, u8) = (0, 0, 0);
const GREY: (u8, u8, u8) = (120, 120, 120);
const BLUE: (u8, u8, u8) = (0, 114, 178);
const SKY: (u8, u8, u8) = (86, 180, 233);
const GREEN: (u8, u8, u8) = (0, 158, 115);
const ORANGE: (u8, u8, u8) = (230, 159, 0);
const VERMILION: (u8, u8, u8) = (213, 94, 0);
const PURPLE: (u8, u8, u8) = (204, 121, 167);
const BROWN: (u8, u8, u8) = (140, 86, 60);
const RASPBERRY: (u8, u8, u8) = (190, 30, 90);
const OLIVE: (u8, u8, u8) = (150, 150, 30);

/// The pause of `lazy` less the flush beside it, round by round: an input of a ratio, and no curve beside the others.
pub const ABOVE_FLUSH: &str = "lazy-above-flush";

/// Known series in the order in which they stand: name, colour, mark, dashed, bold.
type Known = (&'static str, (u8, u8, u8), Mark, bool, bool);
const KNOWN: &[Known] = &[
    ("lazy", BLUE, Mark::Dot, false, true),
    ("eager", SKY, Mark::Dot, false, false),
    ("faults", GREEN, Mark::Dot, false, false),
    ("copy", VERMILION, Mark::Dot, false, false),
    ("full", ORANGE, Mark::Dot, false, false),
    ("null", BLUE, Mark::Dot, false, true),
    ("pipe", BLACK, Mark::Ring, false, false),
    ("cow", SKY, Mark::Dot, false, false),
    ("share", BLUE, Mark::Dot, false, true),
    ("drop", GREEN, Mark::Dot, false, false),
    ("checkpoint-lazy", VERMILION, Mark::Dot, false, true),
    ("checkpoint-plain", ORANGE, Mark::Dot, false, false),
    ("tlb-flush", GREY, Mark::Cross, true, false),
    ("raw-link", GREY, Mark::Cross, true, false),
    ("acknowledged", BLUE, Mark::Dot, false, true),
    ("udp-echo", GREY, Mark::Cross, true, false),
    ("measured-incremental", BLUE, Mark::Dot, false, true),
    ("measured-full", VERMILION, Mark::Dot, false, true),
    ("calculated-incremental", BLUE, Mark::Ring, true, false),
    ("calculated-full", VERMILION, Mark::Ring, true, false),
    ("linux-fork", VERMILION, Mark::Triangle, false, false),
    ("linux-fork-wired", BROWN, Mark::Triangle, false, false),
    ("linux-fork-thp", ORANGE, Mark::Triangle, false, false),
    ("linux-soft-dirty", OLIVE, Mark::Square, false, false),
    ("linux-pagemap-scan", PURPLE, Mark::Square, false, false),
    ("linux-segv", BLACK, Mark::Cross, false, false),
    ("linux-uffd-wp", RASPBERRY, Mark::Square, false, false),
    ("linux-pipe", GREY, Mark::Ring, false, false),
    ("linux-cow", VERMILION, Mark::Triangle, false, false),
    ("linux-share", ORANGE, Mark::Triangle, false, false),
    ("linux-drop", PURPLE, Mark::Triangle, false, false),
];

/// Whose `series` is.
pub fn side(series: &str) -> Side {
    if series.starts_with("linux-") {
        Side::Linux
    } else if thesis::is_series(series) {
        Side::Thesis
    } else if matches!(series, "tlb-flush" | "raw-link" | "udp-echo") || series.starts_with("calculated-") {
        Side::Reference
    } else {
        Side::Ours
    }
}

/// Where `series` stands among others: known ones first, in their order, then the others by name.
pub fn order(series: &str) -> (usize, &str) {
    let place = KNOWN.iter().position(|known| known.0 == series);
    (place.unwrap_or(KNOWN.len()), series)
}

/// How `series` is drawn. A series that is not known takes a look by its place among those (`stranger`).
pub fn style(series: &str, stranger: usize) -> Style {
    const COLOURS: [(u8, u8, u8); 5] = [BLUE, VERMILION, GREEN, PURPLE, ORANGE];
    const MARKS: [Mark; 3] = [Mark::Dot, Mark::Square, Mark::Triangle];
    match KNOWN.iter().find(|known| known.0 == series) {
        Some(&(_, colour, mark, dashed, bold)) => Style {
            colour,
            mark,
            dashed,
            bold,
        },
        None => Style {
            colour: COLOURS[stranger % COLOURS.len()],
            mark: MARKS[stranger / COLOURS.len() % MARKS.len()],
            dashed: side(series) == Side::Reference,
            bold: false,
        },
    }
}

/// The names among `all`, each once, in their order.
pub fn ordered<'a>(all: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = all.into_iter().collect();
    names.sort_by_key(|name| order(name));
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_come_first_and_strangers_last() {
        assert_eq!(
            ordered(["zebra", "linux-fork", "eager", "lazy", "eager", "ape"]),
            ["lazy", "eager", "linux-fork", "ape", "zebra"]
        );
    }

    #[test]
    fn sides_are_told_by_name() {
        assert_eq!(side("lazy"), Side::Ours);
        assert_eq!(side("linux-anything"), Side::Linux);
        assert_eq!(side("calculated-full"), Side::Reference);
        assert_eq!(side("thesis: wired"), Side::Thesis);
    }

    #[test]
    fn no_two_series_of_one_figure_look_the_same() {
        let one = ["lazy", "eager", "faults", "tlb-flush", "copy", "full", "pipe"];
        let linux: Vec<&str> = KNOWN
            .iter()
            .map(|known| known.0)
            .filter(|name| {
                side(name) == Side::Linux && !matches!(*name, "linux-cow" | "linux-share" | "linux-drop")
            })
            .collect();
        let together: Vec<Style> = one.iter().chain(&linux).map(|name| style(name, 0)).collect();
        for (index, style) in together.iter().enumerate() {
            assert!(!together[..index].contains(style), "{style:?}");
        }
    }
}

use super::*;
use crate::experiment::{EXPERIMENTS, find};
use crate::row::Rows;
use crate::row::tests::{figure, rows};
use hs_core::figure::{Figure, Spread};

/// A spread of runs, some of which were disturbed.
fn around(middle: f64) -> Spread {
    Spread {
        min: middle * 0.9,
        max: middle * 1.4,
    }
}

/// A made-up run of every experiment: what a full one gives, in shape.
fn made_up() -> Rows {
    let mut all = Vec::new();
    for experiment in EXPERIMENTS {
        let name = experiment.name;
        let xs: &[f64] = match name {
            "fig6-1" => &[256.0, 512.0, 1024.0, 2048.0, 4096.0, 6144.0, 9216.0],
            "fig6-2" => &[1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 95.0, 100.0],
            "fig6-3" => &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0],
            "fig6-4" => &[1.0, 5.0, 10.0, 25.0, 50.0, 100.0],
            "snapshots" => &[1.0, 2.0, 4.0, 8.0],
            _ if name.starts_with("table") => &[16.0],
            _ => &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0],
        };
        let series: &[&str] = match name {
            "table3-1" => &["eager", "lazy", "linux-fork", "linux-fork-wired"],
            "table3-2" => &["cow", "share", "drop", "linux-cow", "linux-share", "linux-drop"],
            "table3-3" => &["share", "drop", "linux-share", "linux-drop"],
            "fig6-3" | "fig6-4" => &[
                "calculated-incremental",
                "calculated-full",
                "measured-incremental",
                "measured-full",
            ],
            "replication" => &["lazy", "raw-link"],
            "checkpoint" => &["checkpoint-lazy", "checkpoint-plain", "tlb-flush"],
            "policy" => &["copy", "lazy", "full"],
            "program" => &["null", "pipe"],
            _ => &[
                "lazy",
                "eager",
                "faults",
                "tlb-flush",
                "linux-fork",
                "linux-fork-wired",
                "linux-fork-thp",
                "linux-soft-dirty",
                "linux-pagemap-scan",
                "linux-segv",
                "linux-uffd-wp",
                "linux-pipe",
            ],
        };
        for (place, series) in series.iter().enumerate() {
            for x in xs {
                let pause =
                    4.0 * (place as f64 + 1.0).powf(1.7) + x.powf(0.2 * place as f64 * 0.4) * place as f64;
                let mut point = figure(name, series, *x, pause, pause * 2.5);
                if name.starts_with("table") {
                    let wall_s = 0.02 * 3f64.powi(place as i32);
                    point = Figure {
                        wall_s: Some(wall_s),
                        wall_spread_s: Some(around(wall_s)),
                        ..figure(name, series, *x, 0.0, 0.0)
                    };
                }
                if name.starts_with("fig6-3") || name.starts_with("fig6-4") || name == "replication" {
                    let rate_per_s = 100.0 / x / (place as f64 + 1.0);
                    point.rate_per_s = Some(rate_per_s);
                    point.rate_spread_per_s = Some(around(rate_per_s));
                }
                all.push(point);
            }
        }
    }
    rows(all)
}

/// The words of an SVG, and whether every element that it opens is closed.
fn words_of(svg: &str) -> Vec<String> {
    let (mut open, mut words) = (Vec::new(), Vec::new());
    let mut rest = svg;
    while let Some(begin) = rest.find('<') {
        let text = rest[..begin].trim();
        if !text.is_empty() {
            words.push(text.replace("&apos;", "'"));
        }
        let end = begin + rest[begin..].find('>').expect("a tag ends");
        let tag = &rest[begin + 1..end];
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed in order");
        } else if !tag.starts_with(['?', '!']) && !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap());
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "left open: {open:?}");
    words
}

#[test]
fn every_plot_of_a_whole_run_is_drawn_with_its_labels() {
    let rows = made_up();
    for experiment in EXPERIMENTS {
        for plot in experiment.plots {
            let drawing = draw(&rows, experiment, plot).unwrap().expect(plot.file);
            let words = words_of(&drawing.svg);
            let has = |word: &str| words.iter().any(|other| other == word);
            assert!(has(experiment.title), "{}: {words:?}", plot.file);
            assert!(has(plot.quantity.label()), "{}: {words:?}", plot.file);
            for row in rows.of(experiment.name, false) {
                assert!(
                    words.iter().any(|word| word.contains(&row.series)),
                    "{}: {}",
                    plot.file,
                    row.series
                );
            }
            if experiment.shape == Shape::Curves {
                assert!(has(experiment.x_label), "{}: {words:?}", plot.file);
            }
            let explained = words.iter().any(|word| word.contains("from the least run"));
            assert!(explained, "{}: {words:?}", plot.file);
            let mut reader = png::Decoder::new(std::io::Cursor::new(&drawing.png))
                .read_info()
                .unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            let info = reader.next_frame(&mut pixels).unwrap();
            assert_eq!((info.width, info.height), (1920, 1120));
            assert!(pixels.iter().any(|byte| *byte != 255), "it is blank");
            // To look at them: FIGURES_OUT=DIRECTORY cargo test -p figures.
            if let Some(directory) = std::env::var_os("FIGURES_OUT") {
                let file = std::path::Path::new(&directory).join(plot.file);
                std::fs::write(file.with_extension("svg"), &drawing.svg).unwrap();
                std::fs::write(file.with_extension("png"), &drawing.png).unwrap();
            }
        }
    }
}

#[test]
fn nothing_measured_is_no_drawing() {
    for experiment in EXPERIMENTS {
        for plot in experiment.plots {
            assert_eq!(
                draw(&Rows::default(), experiment, plot),
                Ok(None),
                "{}",
                plot.file
            );
        }
    }
}

#[test]
fn odd_points_are_left_out_and_single_ones_drawn() {
    let experiment = find("size-1pct").unwrap();
    let rows = rows([
        figure("size-1pct", "lazy", 4.0, 5.0, -2.0),
        figure("size-1pct", "lazy", 0.0, 5.0, 2.0),
        figure("size-1pct", "linux-fork", f64::NAN, 5.0, 2.0),
        figure("size-1pct", "linux-fork", 4.0, f64::NAN, f64::INFINITY),
        figure("size-1pct", "new-one", 4.0, 5.0, 1e300),
    ]);
    let pause = draw(&rows, experiment, &experiment.plots[0]).unwrap().unwrap();
    let words = words_of(&pause.svg);
    assert!(words.iter().any(|word| word == "new-one") && !words.iter().any(|word| word == "linux-fork"));
    assert!(draw(&rows, experiment, &experiment.plots[1]).unwrap().is_some());
}

#[test]
fn a_histogram_shows_its_words_and_marks() {
    use crate::distribution::Distribution;
    let words = Words {
        title: "Pauses",
        subtitle: "of 500 kills",
        label: "pause (ms)",
    };
    let values = Distribution::new((1..=500).map(|kill| 4.0 + f64::from(kill % 37) * 0.4));
    let drawing = histogram(&values, words).unwrap().unwrap();
    for text in [
        "Pauses",
        "of 500 kills",
        "pause (ms)",
        "median",
        "p99",
        "max",
        "kills",
    ] {
        assert!(drawing.svg.contains(text), "{text}");
    }
    assert!(drawing.png.len() > 1000);
    assert!(histogram(&Distribution::default(), words).unwrap().is_none());
    // One value alone has a bar too.
    assert!(histogram(&Distribution::new([5.0]), words).unwrap().is_some());
}

//! What a run leaves: `results.json`, a drawing of each figure, `report.md`, and the main tables on the terminal.

use std::fs;
use std::path::Path;

use anyhow::{Context, Error, Result};
use figures::experiment::{EXPERIMENTS, Experiment, Shape};
use figures::ratio::ratios;
use figures::report::{self, Circumstances};
use figures::row::Rows;
use figures::{plot, table};

use super::phase::is_asked;

/// Makes `out` ready.
///
/// # Errors
/// It cannot be made, or not be written into; the message names it.
pub(super) fn prepare(out: &Path) -> Result<()> {
    let name = || format!("--out {}: cannot write there", out.display());
    fs::create_dir_all(out).with_context(name)?;
    // Before hours of measuring, not after.
    let probe = out.join(".probe");
    fs::write(&probe, "")
        .and_then(|()| fs::remove_file(&probe))
        .with_context(name)
}

/// Writes everything below `out` and prints the main tables.
///
/// # Errors
/// `results.json` or `report.md` cannot be written. A figure that cannot be drawn is a problem that the report tells.
pub(super) fn write(
    out: &Path,
    rows: &Rows,
    only: &[String],
    mut circumstances: Circumstances,
) -> Result<()> {
    put(&out.join("results.json"), rows.to_json().as_bytes())?;
    let asked = |name: &str| is_asked(only, name);
    let ratios = ratios(rows, asked);
    let drawn = draw(out, rows, asked, &mut circumstances.problems);
    let text = report::markdown(rows, &ratios, asked, &drawn, &circumstances);
    put(&out.join("report.md"), text.as_bytes())?;

    println!();
    if !ratios.is_empty() {
        println!("{}", table::of_ratios(&ratios).aligned());
    }
    for experiment in EXPERIMENTS.iter().filter(|experiment| asked(experiment.name)) {
        print_table(rows, experiment);
    }
    if !circumstances.problems.is_empty() {
        println!("missing or refused:");
        for problem in &circumstances.problems {
            println!("  {}", problem.lines().next().unwrap_or_default());
        }
        println!();
    }
    let phases: Vec<String> = circumstances
        .phases
        .iter()
        .map(|(name, seconds)| format!("{name} {seconds:.0} s"))
        .collect();
    println!("phases: {}", phases.join(", "));
    println!(
        "{}: report.md, results.json, {} figures",
        out.display(),
        drawn.len()
    );
    Ok(())
}

fn print_table(rows: &Rows, experiment: &Experiment) {
    if experiment.shape == Shape::Table && !rows.of(experiment.name, false).is_empty() {
        println!(
            "{}\n{}",
            experiment.title,
            table::of_thesis_table(rows, experiment).aligned()
        );
    }
}

/// Draws what there is, and removes what an earlier run left of the others: it would be taken for this one's.
fn draw(
    out: &Path,
    rows: &Rows,
    asked: impl Fn(&str) -> bool,
    problems: &mut Vec<String>,
) -> Vec<&'static str> {
    let mut drawn = Vec::new();
    for experiment in EXPERIMENTS {
        for plot in experiment.plots {
            let [svg, png] = ["svg", "png"].map(|suffix| out.join(format!("{}.{suffix}", plot.file)));
            // Mostly there is none.
            let _ = (fs::remove_file(&svg), fs::remove_file(&png));
            if !asked(experiment.name) {
                continue;
            }
            let outcome = plot::draw(rows, experiment, plot)
                .map_err(Error::from)
                .and_then(|drawing| {
                    let Some(drawing) = drawing else { return Ok(false) };
                    put(&svg, drawing.svg.as_bytes())?;
                    put(&png, &drawing.png)?;
                    Ok(true)
                });
            match outcome {
                Ok(true) => drawn.push(plot.file),
                Ok(false) => {}
                Err(error) => problems.push(format!("{} could not be drawn: {error:#}", plot.file)),
            }
        }
    }
    drawn
}

/// Writes a file.
///
/// # Errors
/// It cannot be written; the message names it.
pub(super) fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use figures::row::{Accel, Row};
    use hs_core::figure::{Figure, Pause};
    use std::path::PathBuf;

    /// An empty directory, and a run with one row.
    fn ground(name: &str) -> (PathBuf, Rows) {
        let out = std::env::temp_dir().join(format!("hotspare-{name}-{}", std::process::id()));
        prepare(&out).unwrap();
        let mut rows = Rows::default();
        rows.push(Row {
            figure: Figure {
                experiment: "size-1pct".into(),
                series: "lazy".into(),
                x: 4.0,
                pause_us: Pause {
                    p50: 5.0,
                    p99: 6.0,
                    max: 7.0,
                },
                ..Figure::default()
            },
            accel: Accel::Tcg,
        });
        (out, rows)
    }

    #[test]
    fn a_figure_that_cannot_be_drawn_is_a_problem_that_the_report_tells() {
        let (out, rows) = ground("undrawn");
        // Where a file should be.
        fs::create_dir(out.join("size-1pct-pause.svg")).unwrap();
        write(&out, &rows, &["size-1pct".into()], Circumstances::default()).unwrap();
        let read = Rows::from_json(&fs::read_to_string(out.join("results.json")).unwrap()).unwrap();
        let report = fs::read_to_string(out.join("report.md")).unwrap();
        fs::remove_dir_all(&out).unwrap();
        assert_eq!(read, rows);
        assert!(
            report.contains("- size-1pct-pause could not be drawn"),
            "{report}"
        );
        assert!(!report.contains("](size-1pct-pause.svg)"), "{report}");
    }

    #[test]
    fn a_run_leaves_its_own_files_and_no_others() {
        let (out, rows) = ground("bench");
        fs::write(out.join("policy-pause.svg"), "an earlier run's").unwrap();
        write(&out, &rows, &["size-1pct".into()], Circumstances::default()).unwrap();
        let mut names: Vec<String> = fs::read_dir(&out)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let read = Rows::from_json(&fs::read_to_string(out.join("results.json")).unwrap()).unwrap();
        fs::remove_dir_all(&out).unwrap();
        assert_eq!(
            names,
            [
                "report.md",
                "results.json",
                "size-1pct-pause.png",
                "size-1pct-pause.svg"
            ]
        );
        assert_eq!(read, rows);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let error = prepare(Path::new("/proc/nowhere")).unwrap_err();
        assert!(format!("{error:#}").contains("--out /proc/nowhere"), "{error:#}");
    }
}

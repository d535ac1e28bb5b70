//! `report.md`: what a person reads first after a run.
//!
//! It opens with the ratios, because a ratio within one run is what an emulated machine can honestly say; then the thesis's
//! tables, then every figure with its data.

use std::fmt::Write;

use crate::experiment::{EXPERIMENTS, Experiment, Shape};
use crate::quantity::Quantity;
use crate::ratio::Ratio;
use crate::row::Rows;
use crate::table;

/// How a run came about: for a person who wants to repeat it, or to know what to think of it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Circumstances {
    /// When, as a person writes it.
    pub date: String,
    /// The command line.
    pub command: String,
    /// Whether the runs were fewer and shorter.
    pub quick: bool,
    /// The host: processor and kernel.
    pub host: String,
    /// The emulator and its accelerator.
    pub emulator: String,
    /// The kernel of the Linux guest; `None` if there was none.
    pub linux: Option<String>,
    /// Each phase and how long it took, in seconds.
    pub phases: Vec<(String, f64)>,
    /// What is missing, was refused, or ended otherwise than it should have.
    pub problems: Vec<String>,
}

/// What a figure is about. What nobody measured is left out, here and below.
const MAIN: [Quantity; 7] = [
    Quantity::Pause,
    Quantity::Stall,
    Quantity::LostThroughput,
    Quantity::Rate,
    Quantity::Throughput,
    Quantity::Latency,
    Quantity::Wall,
];
/// What is folded away behind it.
const MORE: [Quantity; 8] = [
    Quantity::PauseP99,
    Quantity::PauseMax,
    Quantity::LatencyP99,
    Quantity::Faults,
    Quantity::Contents,
    Quantity::Headers,
    Quantity::Child,
    Quantity::Processor,
];
/// What stands in the tables of the host's own rows, also folded.
const NATIVE: [Quantity; 2] = [Quantity::Pause, Quantity::Stall];

/// Writes the report. `drawn` are the files of the drawings that there are, without their suffixes.
pub fn markdown(
    rows: &Rows,
    ratios: &[Ratio],
    asked: impl Fn(&str) -> bool,
    drawn: &[&str],
    circumstances: &Circumstances,
) -> String {
    let mut text = String::from("# Checkpoints, measured\n\n");
    opening(&mut text, rows, ratios);
    problems(&mut text, circumstances);
    how(&mut text, circumstances);
    for experiment in EXPERIMENTS.iter().filter(|experiment| asked(experiment.name)) {
        section(&mut text, rows, experiment, drawn);
    }
    text
}

fn opening(text: &mut String, rows: &Rows, ratios: &[Ratio]) {
    text.push_str("## Against the best peer\n\n");
    if ratios.is_empty() {
        text.push_str("None of the experiments that the ratios are made of was asked for.\n\n");
        return;
    }
    let accel = rows
        .guest_accel()
        .map_or_else(|| "nothing".into(), |accel| accel.to_string());
    let count = |verdict: &str| ratios.iter().filter(|ratio| ratio.verdict() == verdict).count();
    let _ = writeln!(
        text,
        "Two guests on the same machine ({accel}), one after the other in one run: {} goals reached, {} missed, {} missing.\n",
        count("reached"),
        count("missed"),
        count("missing"),
    );
    let _ = writeln!(text, "{}", table::of_ratios(ratios).markdown());
}

fn problems(text: &mut String, circumstances: &Circumstances) {
    if circumstances.problems.is_empty() {
        return;
    }
    text.push_str("## Missing or refused\n\n");
    for problem in &circumstances.problems {
        // A log's lines stay below their point.
        let _ = writeln!(text, "- {}", problem.replace('\n', "\n  "));
    }
    text.push('\n');
}

fn how(text: &mut String, circumstances: &Circumstances) {
    let Circumstances {
        date,
        command,
        quick,
        host,
        emulator,
        linux,
        phases,
        ..
    } = circumstances;
    let linux = linux.as_deref().unwrap_or("none: its series are missing");
    let runs = if *quick {
        "quick: fewer runs and points than a full one"
    } else {
        "full"
    };
    let _ = writeln!(
        text,
        "## The run\n\n\
         | | |\n| --- | --- |\n\
         | date | {date} |\n| command | `{command}` |\n| runs | {runs} |\n| host | {host} |\n| machine | {emulator} |\n| Linux guest | {linux} |\n"
    );
    if !phases.is_empty() {
        let parts: Vec<String> = phases
            .iter()
            .map(|(name, seconds)| format!("{name} {seconds:.0} s"))
            .collect();
        let _ = writeln!(text, "Phases: {}.\n", parts.join(", "));
    }
    text.push_str(
        "*Pause*: the application stands still at the checkpoint call; for peers that copy, including the copy of the dirty pages \
         into a ready buffer. *Stall*: what one checkpoint takes from the writer in all: the pause, and by how much the next \
         writes of the same pages take longer while the snapshot is held. Before each measured checkpoint of ours and each measured \
         flush the dirty set is written and flushed a few times, so that the emulator's TLB has the size that it needs for it. \
         Times are in microseconds of the guest's clock: on \
         an emulated processor they say little by themselves, ratios between guests of one run do. Each number is the median over runs, \
         in parentheses the least and the greatest run: where these lie far apart, something interfered. \
         Series that begin with `linux-` are ways of Linux in the same machine; the same programs were also run natively, \
         which is marked so and part of no ratio. `results.json` has every row.\n\n",
    );
}

fn section(text: &mut String, rows: &Rows, experiment: &Experiment, drawn: &[&str]) {
    let _ = writeln!(text, "## {}\n\n{}\n", experiment.title, experiment.note);
    for plot in experiment.plots.iter().filter(|plot| drawn.contains(&plot.file)) {
        let _ = writeln!(
            text,
            "![{}: {}]({}.svg)\n",
            experiment.title,
            plot.quantity.label(),
            plot.file
        );
    }
    if experiment.shape == Shape::Table {
        let _ = writeln!(text, "{}", table::of_thesis_table(rows, experiment).markdown());
        return;
    }
    let tables = |quantities: &[Quantity], native: bool| -> String {
        let table = |quantity: &Quantity| {
            let table = table::of_quantity(rows, experiment, *quantity, native)?;
            Some(format!(
                "**{}**\n\n{}\n",
                heading(*quantity, native),
                table.markdown()
            ))
        };
        quantities.iter().filter_map(table).collect()
    };
    let main = tables(&MAIN, false);
    let more = tables(&MORE, false) + &tables(&NATIVE, true);
    if main.is_empty() && more.is_empty() {
        text.push_str("Nothing was measured.\n\n");
        return;
    }
    text.push_str(&main);
    if !more.is_empty() {
        let _ = writeln!(
            text,
            "<details><summary>More of it</summary>\n\n{more}</details>\n"
        );
    }
}

fn heading(quantity: Quantity, native: bool) -> String {
    let label = quantity.label();
    if native {
        format!("{label}, natively on the host")
    } else {
        label.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ratio::ratios;
    use crate::row::tests::{figure, rows};
    use crate::row::{Accel, Row};

    fn circumstances() -> Circumstances {
        Circumstances {
            date: "2026-01-02T03:04:05 UTC".into(),
            command: "cargo xtask bench --quick".into(),
            quick: true,
            host: "a processor, Linux 6.18".into(),
            emulator: "QEMU 7.2, tcg".into(),
            linux: None,
            phases: vec![("guest".into(), 30.4)],
            problems: vec!["no Linux kernel:\nno network".into()],
        }
    }

    #[test]
    fn it_opens_with_the_ratios_and_says_what_is_missing() {
        let rows = rows([figure("size-1pct", "lazy", 4.0, 5.0, 20.0)]);
        let asked = |name: &str| name == "size-1pct";
        let text = markdown(
            &rows,
            &ratios(&rows, asked),
            asked,
            &["size-1pct-pause"],
            &circumstances(),
        );
        let opening = text.lines().nth(2).unwrap();
        assert_eq!(opening, "## Against the best peer");
        for part in [
            "0 goals reached, 0 missed, 3 missing",
            "- no Linux kernel:\n  no network\n",
            "`cargo xtask bench --quick`",
            "none: its series are missing",
            "quick",
            "guest 30 s",
            "(size-1pct-pause.svg)",
            "| lazy | 5 (4 … 5.50) |",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(
            !text.contains("size-1pct-stall.svg") && !text.contains("Figure 6-1"),
            "{text}"
        );
    }

    #[test]
    fn what_only_some_rows_have_is_shown_where_they_have_it() {
        let whole = hs_core::figure::Figure {
            header_bytes: Some(302),
            lost_throughput: Some(0.125),
            cpu_share: Some(0.75),
            ..figure("program", "null", 5.0, 5.0, 20.0)
        };
        let tell = |figure| {
            markdown(
                &rows([figure]),
                &[],
                |name| name == "program",
                &[],
                &circumstances(),
            )
        };
        let text = tell(whole);
        for part in [
            "**throughput lost (%)**",
            "**headers of one checkpoint (bytes)**",
            "**busy share of the processor (%)**",
            "| null | 12.5 |",
            "| null | 302 |",
            "| null | 75 |",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let text = tell(figure("program", "null", 5.0, 5.0, 20.0));
        assert!(
            !text.contains("lost by the writer") && !text.contains("headers of"),
            "{text}"
        );
    }

    #[test]
    fn the_hosts_own_rows_stand_apart() {
        let mut all = rows([figure("fig6-1", "lazy", 4.0, 5.0, 20.0)]);
        all.push(Row {
            figure: figure("fig6-1", "linux-fork", 4.0, 7.0, 8.0),
            accel: Accel::Native,
        });
        let text = markdown(&all, &[], |name| name == "fig6-1", &[], &circumstances());
        let native = text.find("natively on the host**").unwrap();
        assert!(text.find("| linux-fork |").unwrap() > native, "{text}");
    }

    #[test]
    fn an_empty_run_has_a_report_too() {
        let all = |_: &str| true;
        let text = markdown(
            &Rows::default(),
            &ratios(&Rows::default(), all),
            all,
            &[],
            &Circumstances::default(),
        );
        assert!(
            text.contains("Nothing was measured.") && text.contains("24 missing"),
            "{text}"
        );
        assert!(text.contains("| thesis | wired |"), "{text}");
    }
}

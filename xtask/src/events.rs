//! Reading a guest: its event channel (one JSON object a line) and its log (text).
//!
//! A guest may be broken in any way: lines are bounded, and one that means nothing is reported, not fatal.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex};
use std::thread;

use hs_core::event::Event;
use hs_core::figure::Figure;

/// Longest line read as one; what is longer is cut there.
const LINE_LEN_MAX: u64 = 64 * 1024;

/// A line of the event channel.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Line {
    /// An event.
    Event(Event),
    /// Something else, as it came.
    Garbled(String),
}

/// Reads one line.
pub(crate) fn parse(line: &str) -> Line {
    serde_json::from_str(line).map_or_else(|_| Line::Garbled(line.to_owned()), Line::Event)
}

/// A figure in a line, for a person who watches.
pub(crate) fn in_words(figure: &Figure) -> String {
    let Figure {
        experiment,
        series,
        x,
        x_unit,
        ..
    } = figure;
    let measured = |value: f64| (value != 0.0).then_some(value);
    let parts = [
        (measured(figure.pause_us.p50), "us pause"),
        (measured(figure.stall_us), "us stall"),
        (figure.wall_s, "s in all"),
        (figure.latency_us.map(|latency| latency.p50), "us latency"),
        (figure.rate_per_s, "in a second"),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter_map(|(value, unit)| Some(format!("{:.1} {unit}", (*value)?)))
        .collect();
    format!("{experiment} {series} at {x} {x_unit}: {}", parts.join(", "))
}

/// Calls `each` with each line of `source`, without its end and with what is not UTF-8 replaced, until it ends.
pub(crate) fn lines(source: impl Read, mut each: impl FnMut(&str)) {
    let mut source = BufReader::new(source);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut source).take(LINE_LEN_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_end_matches(['\n', '\r']);
                if !text.is_empty() {
                    each(text);
                }
            }
        }
    }
}

/// The newest lines of a guest's log.
#[derive(Clone, Default)]
pub(crate) struct Tail {
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl Tail {
    /// How many lines are kept.
    const LINES_MAX: usize = 60;

    /// Follows `log` in a thread of its own until it ends, and calls `each` with each line.
    pub(crate) fn follow(
        log: impl Read + Send + 'static,
        each: impl Fn(&str) + Send + 'static,
    ) -> (Tail, thread::JoinHandle<()>) {
        let tail = Tail::default();
        let kept = tail.clone();
        let follower = thread::spawn(move || {
            lines(log, |line| {
                each(line);
                let mut lines = kept.lines.lock().expect("nothing panics while it is held");
                if lines.len() == Self::LINES_MAX {
                    lines.pop_front();
                }
                lines.push_back(line.to_owned());
            });
        });
        (tail, follower)
    }

    /// The newest lines, each indented, oldest first.
    pub(crate) fn text(&self) -> String {
        let lines = self.lines.lock().expect("nothing panics while it is held");
        if lines.is_empty() {
            return "    (its log is empty)".into();
        }
        lines
            .iter()
            .map(|line| format!("    {line}"))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hs_core::role::{Role, Term};

    #[test]
    fn what_a_guest_writes_is_what_the_host_reads() {
        for event in [
            Event::Role {
                role: Role::Spare,
                term: Term::FIRST,
            },
            Event::Ready,
            Event::Takeover {
                cause: "heartbeat".into(),
                detect_us: 1,
                restore_us: 2,
                announce_us: 3,
            },
        ] {
            assert_eq!(parse(&serde_json::to_string(&event).unwrap()), Line::Event(event));
        }
    }

    #[test]
    fn a_figure_is_told_by_what_it_measured() {
        let mut figure = Figure {
            experiment: "fig6-3".into(),
            series: "measured-full".into(),
            x: 10.0,
            x_unit: "MiB".into(),
            rate_per_s: Some(1.25),
            ..Figure::default()
        };
        assert_eq!(
            in_words(&figure),
            "fig6-3 measured-full at 10 MiB: 1.2 in a second"
        );
        figure.pause_us.p50 = 5.0;
        assert_eq!(
            in_words(&figure),
            "fig6-3 measured-full at 10 MiB: 5.0 us pause, 1.2 in a second"
        );
    }

    #[test]
    fn nonsense_is_reported_as_it_came() {
        for line in ["", "{", r#"{"event":"unheard-of"}"#, "null"] {
            assert_eq!(parse(line), Line::Garbled(line.into()));
        }
    }

    #[test]
    fn lines_are_bounded_and_never_fail() {
        let mut source = vec![b'x'; 100_000];
        source.extend(b"\r\n\xff\n\nlast");
        let mut seen = Vec::new();
        lines(&source[..], |line| seen.push(line.to_owned()));
        assert_eq!(
            seen.iter().map(String::len).collect::<Vec<_>>(),
            [65536, 34464, 3, 4]
        );
    }

    #[test]
    fn the_tail_keeps_the_newest_lines() {
        let log: String = (0..100).map(|number| format!("line {number}\n")).collect();
        let (tail, follower) = Tail::follow(std::io::Cursor::new(log), |_| {});
        follower.join().unwrap();
        let text = tail.text();
        assert!(
            text.starts_with("    line 40\n") && text.ends_with("    line 99"),
            "{text}"
        );
    }
}

//! The words that the program understands, on its command line or after ` -- ` on the kernel's.
//!
//! Whatever it does not understand is refused by name: a benchmark that measured something else than was asked would be worse
//! than none.

use std::fmt;

use crate::experiment::{EXPERIMENTS, Experiment};
use crate::peer::Series;

/// What is asked.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Words {
    /// Fewer runs, fewer rounds, not the largest sizes.
    pub(crate) quick: bool,
    /// Show what there is, measure nothing.
    pub(crate) list: bool,
    /// Largest memory in MiB, if there is a limit.
    pub(crate) mem_max_mib: Option<u32>,
    only: Vec<&'static str>,
    series: Vec<Series>,
}

/// A word that is not understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum WordError {
    /// There is no such word.
    Unknown(String),
    /// There is no experiment of this name.
    NoExperiment(String),
    /// There is no series of this name.
    NoSeries(String),
    /// Not a size in MiB.
    NoSize(String),
}

impl fmt::Display for WordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WordError::Unknown(word) => write!(
                f,
                "unknown word {word}; expected quick, only=EXPERIMENT, series=NAME, mem-max-mib=N or list"
            ),
            WordError::NoExperiment(name) => {
                let names: Vec<_> = EXPERIMENTS.iter().map(|experiment| experiment.name).collect();
                write!(f, "only={name}: there are {}", names.join(", "))
            }
            WordError::NoSeries(name) => {
                let names: Vec<_> = Series::ALL.iter().map(|series| series.name()).collect();
                write!(f, "series={name}: there are {}", names.join(", "))
            }
            WordError::NoSize(size) => write!(f, "mem-max-mib={size}: expected a size in MiB, from 1"),
        }
    }
}

impl Words {
    /// Understands `words`.
    ///
    /// # Errors
    /// The first that is not understood.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, WordError> {
        let mut parsed = Self::default();
        for word in words {
            match word.split_once('=') {
                None if word == "quick" => parsed.quick = true,
                None if word == "list" => parsed.list = true,
                Some(("only", name)) => {
                    let found = EXPERIMENTS.iter().find(|experiment| experiment.name == name);
                    let experiment = found.ok_or_else(|| WordError::NoExperiment(name.into()))?;
                    parsed.only.push(experiment.name);
                }
                Some(("series", name)) => {
                    let found = Series::ALL.into_iter().find(|series| series.name() == name);
                    parsed
                        .series
                        .push(found.ok_or_else(|| WordError::NoSeries(name.into()))?);
                }
                Some(("mem-max-mib", size)) => {
                    let mib = size.parse().ok().filter(|mib| *mib > 0);
                    parsed.mem_max_mib = Some(mib.ok_or_else(|| WordError::NoSize(size.into()))?);
                }
                _ => return Err(WordError::Unknown(word)),
            }
        }
        Ok(parsed)
    }

    /// Whether `experiment` is to be run.
    pub(crate) fn wants(&self, experiment: &Experiment) -> bool {
        self.only.is_empty() || self.only.contains(&experiment.name)
    }

    /// Whether `series` is to be measured.
    pub(crate) fn wants_series(&self, series: Series) -> bool {
        self.series.is_empty() || self.series.contains(&series)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Words, WordError> {
        Words::parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn words_are_understood() {
        let words = parse("quick only=fig6-1 only=table3-3 series=linux-fork mem-max-mib=64").unwrap();
        assert!(words.quick && !words.list);
        assert_eq!(words.mem_max_mib, Some(64));
        let wanted: Vec<_> = EXPERIMENTS
            .iter()
            .filter(|experiment| words.wants(experiment))
            .collect();
        assert_eq!(
            wanted
                .iter()
                .map(|experiment| experiment.name)
                .collect::<Vec<_>>(),
            ["table3-3", "fig6-1"]
        );
        assert!(words.wants_series(Series::Fork) && !words.wants_series(Series::ForkThp));
        assert!(
            EXPERIMENTS
                .iter()
                .all(|experiment| Words::default().wants(experiment))
        );
    }

    #[test]
    fn bad_words_are_refused_by_name() {
        for (line, named) in [
            ("quik", "unknown word quik; expected quick, only="),
            ("quick=1", "unknown word quick=1"),
            ("only=fig6-9", "only=fig6-9: there are table3-1, table3-2"),
            ("series=fork", "series=fork: there are linux-fork, "),
            ("mem-max-mib=much", "mem-max-mib=much: expected a size"),
            ("mem-max-mib=0", "mem-max-mib=0: expected a size"),
        ] {
            let refused = parse(line).unwrap_err().to_string();
            assert!(refused.starts_with(named), "{refused}");
        }
    }
}

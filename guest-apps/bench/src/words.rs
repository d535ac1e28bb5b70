//! The words behind ` -- ` on the kernel's command line: what the program is to measure.
//!
//! ```text
//! [quick] [only=NAME[,NAME…]]…              the experiments of a guest alone, or these of them
//! pair [quick] [only=NAME[,NAME…]]…         those that need a pair
//! [pair] run KNOB=VALUE…                    the thesis's test program once, with its knobs (its table 6-1)
//! ```
//!
//! A misspelt word must not be a word without effect: whatever is unknown, malformed, repeated or does not go with another is
//! refused by name.

mod knobs;
#[cfg(test)]
mod tests;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

pub use knobs::{Freeze, Knobs, Sink};

use crate::experiment::Experiment;

/// What the program is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Orders {
    /// Run experiments.
    Experiments {
        /// Which, in the order in which they run.
        chosen: Vec<Experiment>,
        /// With few runs, for a first look.
        quick: bool,
        /// As a node of a pair.
        pair: bool,
    },
    /// Run the thesis's test program once.
    Run {
        /// Its knobs.
        knobs: Knobs,
        /// As a node of a pair.
        pair: bool,
    },
}

impl Orders {
    /// Whether it is done as a node of a pair.
    pub const fn pair(&self) -> bool {
        match self {
            Orders::Experiments { pair, .. } | Orders::Run { pair, .. } => *pair,
        }
    }

    /// Reads the words.
    ///
    /// # Errors
    /// The first word that is not right.
    pub fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Result<Self, WordError> {
        let (mut pair, mut quick, mut run) = (false, false, false);
        let mut only: Vec<Experiment> = Vec::new();
        let mut knobs = Knobs::default();
        let mut set: Vec<&str> = Vec::new();
        for word in words {
            let once = match word {
                "pair" => Some(&mut pair),
                "quick" => Some(&mut quick),
                "run" => Some(&mut run),
                _ => None,
            };
            if let Some(flag) = once {
                if core::mem::replace(flag, true) {
                    return Err(WordError::Repeated(word.to_string()));
                }
                continue;
            }
            let (name, value) = word
                .split_once('=')
                .ok_or_else(|| WordError::Unknown(word.to_string()))?;
            if name == "only" {
                for name in value.split(',') {
                    let experiment = Experiment::find(name);
                    only.push(experiment.ok_or_else(|| WordError::NoExperiment(name.to_string()))?);
                }
                continue;
            }
            if set.contains(&name) {
                return Err(WordError::Repeated(name.to_string()));
            }
            knobs.set(word, name, value)?;
            set.push(name);
        }
        if run {
            return match (quick, only.first()) {
                (true, _) => Err(WordError::NotWithRun("quick")),
                (false, Some(_)) => Err(WordError::NotWithRun("only")),
                (false, None) => knobs.checked(pair).map(|knobs| Orders::Run { knobs, pair }),
            };
        }
        match set.first() {
            Some(knob) => Err(WordError::OnlyWithRun((*knob).to_string())),
            None => choose(only, pair).map(|chosen| Orders::Experiments { chosen, quick, pair }),
        }
    }
}

/// The experiments that run: those named, or all that can.
fn choose(only: Vec<Experiment>, pair: bool) -> Result<Vec<Experiment>, WordError> {
    match only.iter().find(|experiment| experiment.needs_pair() != pair) {
        Some(wrong) if pair => return Err(WordError::NotInPair(*wrong)),
        Some(wrong) => return Err(WordError::NeedsPair(*wrong)),
        None => {}
    }
    let named = |experiment: &Experiment| only.is_empty() || only.contains(experiment);
    Ok(Experiment::ALL
        .into_iter()
        .filter(|experiment| experiment.needs_pair() == pair && named(experiment))
        .collect())
}

/// A word that is not right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WordError {
    /// It is no word of this program.
    Unknown(String),
    /// It is there twice.
    Repeated(String),
    /// No experiment is called so.
    NoExperiment(String),
    /// The experiment takes a pair.
    NeedsPair(Experiment),
    /// The experiment runs in a guest alone.
    NotInPair(Experiment),
    /// The knob means something to `run` alone.
    OnlyWithRun(String),
    /// The word means nothing to `run`.
    NotWithRun(&'static str),
    /// The sink takes a pair.
    SinkNeedsPair,
    /// A pair's run has the link as its sink.
    SinkNotInPair(Sink),
    /// In a pair the kernel is told this by another option, before there is a node.
    SaidOtherwise {
        /// The knob.
        knob: &'static str,
        /// The option.
        option: &'static str,
    },
    /// More regions than pages.
    NoPageForRegion {
        /// Regions asked for.
        regions: usize,
        /// Pages of all of them.
        pages: usize,
    },
    /// The knob's value is not of the kind that it takes.
    Malformed {
        /// The knob.
        knob: &'static str,
        /// What it was given.
        value: String,
        /// What it takes.
        takes: &'static str,
    },
}

impl fmt::Display for WordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WordError::Unknown(word) => write!(
                f,
                "{word:?} is no word of bench: there are pair, quick, only=NAME, and run with {}",
                knobs::NAMES
            ),
            WordError::Repeated(word) => write!(f, "{word} is given twice"),
            WordError::NoExperiment(name) => {
                write!(f, "no experiment is called {name:?}: there are")?;
                Experiment::ALL.iter().try_for_each(|known| write!(f, " {known}"))
            }
            WordError::NeedsPair(experiment) => {
                write!(f, "{experiment} takes a pair: say pair, on both nodes")
            }
            WordError::NotInPair(experiment) => {
                write!(f, "{experiment} runs in a guest alone: leave pair out")
            }
            WordError::OnlyWithRun(knob) => write!(f, "{knob}= is a knob of run: say run"),
            WordError::NotWithRun(word) => {
                write!(f, "{word} is for the experiments, and run is none of them")
            }
            WordError::SinkNeedsPair => f.write_str("sink=link takes a pair: say pair, on both nodes"),
            WordError::SinkNotInPair(sink) => {
                write!(
                    f,
                    "sink={}: a pair's checkpoints go to its link: sink=link",
                    sink.name()
                )
            }
            WordError::SaidOtherwise { knob, option } => {
                write!(f, "{knob}=: a pair's node is told this by {option}=, before --")
            }
            WordError::NoPageForRegion { regions, pages } => {
                write!(f, "regions={regions}: more than the {pages} pages of mem-kib")
            }
            WordError::Malformed { knob, value, takes } => {
                write!(f, "{knob}={value}: {knob} takes {takes}")
            }
        }
    }
}

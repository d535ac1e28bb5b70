//! The knobs of the thesis's test program, its table 6-1.

use alloc::string::ToString;

use hs_core::checkpoint::Compression;
use hs_core::policy::Choice;
use hs_core::{CLASSES_MAX, DESCRIPTORS_MAX, SIGNALS_MAX, THREADS_MAX};

use super::WordError;

/// Their names, for whoever misspelt one.
pub(super) const NAMES: &str = "mem-kib=, regions=, descriptors=, threads=, signals=, dirty-pct=, contiguity=, \
     interval-ms=, checkpoints=, sink=null|pipe|link, mode=lazy|eager|faults|plain, way=auto|copy|incremental|full, shadow-mib=, compress=none|lz4";

/// Where the checkpoints go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sink {
    /// Nowhere: they are encoded and counted.
    Null,
    /// Into a bounded pipe that another thread reads empty; the caller waits for it. The thesis's synchronous case.
    Pipe,
    /// To the spare, over the cluster link.
    Link,
}

impl Sink {
    const ALL: [Sink; 3] = [Sink::Null, Sink::Pipe, Sink::Link];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Sink::Null => "null",
            Sink::Pipe => "pipe",
            Sink::Link => "link",
        }
    }
}

/// How checkpoints freeze: the kernel's `Cptfork`, which the host does not know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freeze {
    /// In constant time.
    Lazy,
    /// By a walk over every entry.
    Eager,
    /// With faults that record what is modified.
    Faults,
    /// Not at all: everything is copied, without the kernel's support.
    Plain,
}

impl Freeze {
    /// All of them.
    pub const ALL: [Freeze; 4] = [Freeze::Lazy, Freeze::Eager, Freeze::Faults, Freeze::Plain];

    /// The word for it, and the name of its series.
    pub const fn name(self) -> &'static str {
        match self {
            Freeze::Lazy => "lazy",
            Freeze::Eager => "eager",
            Freeze::Faults => "faults",
            Freeze::Plain => "plain",
        }
    }
}

/// The knobs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Knobs {
    /// Memory of all regions together, in KiB.
    pub memory_kib: usize,
    /// Classes that it is divided among.
    pub regions: usize,
    /// Registered descriptors. Each makes every checkpoint 96 bytes longer.
    pub descriptors: usize,
    /// Registered worker threads: 16 bytes each.
    pub threads: usize,
    /// Registered signals: 16 bytes each.
    pub signals: usize,
    /// Share of the pages that is modified between two checkpoints.
    pub dirty_percent: usize,
    /// Pages of a run of modified pages.
    pub contiguity: usize,
    /// Longest time from one checkpoint to the next, if it can be: the program sleeps for what its own work leaves of it.
    /// 0: it never sleeps.
    pub interval_ms: u64,
    /// Checkpoints taken.
    pub checkpoints: usize,
    /// Where they go.
    pub sink: Sink,
    /// How they are frozen. `None`: as the kernel was told.
    pub freeze: Option<Freeze>,
    /// What the policy may choose from.
    pub way: Choice,
    /// Memory for copies of pages that differences are made to, in MiB. 0: all pages are sent whole.
    pub shadow_mib: usize,
    /// How pages that are sent whole are compressed.
    pub compression: Compression,
}

impl Default for Knobs {
    /// The thesis's figure 6-2 at 10 %: 4 MiB in four regions, without its second of sleep.
    fn default() -> Self {
        Knobs {
            memory_kib: 4096,
            regions: 4,
            descriptors: 0,
            threads: 0,
            signals: 0,
            dirty_percent: 10,
            contiguity: 4,
            interval_ms: 0,
            checkpoints: 100,
            sink: Sink::Null,
            freeze: None,
            way: Choice::Auto,
            shadow_mib: 0,
            compression: Compression::None,
        }
    }
}

/// Most memory: 1 GiB.
const MEMORY_KIB_MAX: usize = 1 << 20;
/// Most regions: each is a class, and a pair's node has some of its own.
const REGIONS_MAX: usize = 60;
/// Most threads: a pair's node registers the one that measures.
const WORKERS_MAX: usize = 127;
// The bounds as they are told.
const _: () = {
    assert!(REGIONS_MAX < CLASSES_MAX && WORKERS_MAX < THREADS_MAX);
    assert!(DESCRIPTORS_MAX == 128 && SIGNALS_MAX == 5);
};
const CONTIGUITY_MAX: usize = MEMORY_KIB_MAX / 4;
const INTERVAL_MS_MAX: usize = 60_000;
const SHADOW_MIB_MAX: usize = 256;
const CHECKPOINTS_MAX: usize = 1_000_000;

impl Knobs {
    /// Pages of all regions together.
    pub const fn pages(&self) -> usize {
        self.memory_kib / 4
    }

    /// Sets the knob `name`; `word` is all of it.
    pub(super) fn set(&mut self, word: &str, name: &str, value: &str) -> Result<(), WordError> {
        let number = |knob, most: usize, least: usize, takes| {
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            digits
                .then(|| value.parse().ok())
                .flatten()
                .filter(|number| (least..=most).contains(number))
                .ok_or_else(|| malformed(knob, value, takes))
        };
        match name {
            "mem-kib" => {
                const TAKES: &str = "KiB, whole pages of 4, from 4 to 1048576";
                let kib = number("mem-kib", MEMORY_KIB_MAX, 4, TAKES)?;
                if kib % 4 != 0 {
                    return Err(malformed("mem-kib", value, TAKES));
                }
                self.memory_kib = kib;
            }
            "regions" => self.regions = number("regions", REGIONS_MAX, 1, "a number from 1 to 60")?,
            "descriptors" => {
                self.descriptors = number("descriptors", DESCRIPTORS_MAX, 0, "a number from 0 to 128")?;
            }
            "threads" => self.threads = number("threads", WORKERS_MAX, 0, "a number from 0 to 127")?,
            "signals" => {
                let takes = "a number from 0 to 5, for there are no more signals";
                self.signals = number("signals", SIGNALS_MAX, 0, takes)?;
            }
            "dirty-pct" => self.dirty_percent = number("dirty-pct", 100, 0, "percent, from 0 to 100")?,
            "contiguity" => {
                self.contiguity = number("contiguity", CONTIGUITY_MAX, 1, "pages, from 1 to 262144")?;
            }
            "interval-ms" => {
                let takes = "milliseconds, from 0 to 60000";
                self.interval_ms = number("interval-ms", INTERVAL_MS_MAX, 0, takes)? as u64;
            }
            "checkpoints" => {
                self.checkpoints = number("checkpoints", CHECKPOINTS_MAX, 1, "a number from 1 to 1000000")?;
            }
            "sink" => {
                let known = Sink::ALL.into_iter().find(|sink| sink.name() == value);
                self.sink = known.ok_or_else(|| malformed("sink", value, "null, pipe or link"))?;
            }
            "mode" => {
                let known = Freeze::ALL.into_iter().find(|freeze| freeze.name() == value);
                self.freeze =
                    Some(known.ok_or_else(|| malformed("mode", value, "lazy, eager, faults or plain"))?);
            }
            "way" => {
                self.way = match value {
                    "auto" => Choice::Auto,
                    "copy" => Choice::Copy,
                    "incremental" => Choice::Incremental,
                    "full" => Choice::Full,
                    _ => return Err(malformed("way", value, "auto, copy, incremental or full")),
                };
            }
            "shadow-mib" => {
                self.shadow_mib = number("shadow-mib", SHADOW_MIB_MAX, 0, "MiB, from 0 to 256")?;
            }
            "compress" => {
                self.compression = match value {
                    "none" => Compression::None,
                    "lz4" => Compression::Lz4,
                    _ => return Err(malformed("compress", value, "none or lz4")),
                };
            }
            _ => return Err(WordError::Unknown(word.to_string())),
        }
        Ok(())
    }

    /// Whether they go with each other and, or not, with a pair.
    pub(super) fn checked(self, pair: bool) -> Result<Self, WordError> {
        match (self.sink, pair) {
            (Sink::Link, false) => return Err(WordError::SinkNeedsPair),
            (Sink::Null | Sink::Pipe, true) => return Err(WordError::SinkNotInPair(self.sink)),
            _ => {}
        }
        let said = [
            (self.freeze.is_some(), "mode", "hs.cptfork"),
            (self.way != Choice::Auto, "way", "hs.checkpoint"),
            (self.shadow_mib != 0, "shadow-mib", "hs.shadow-mib"),
            (self.compression != Compression::None, "compress", "hs.compress"),
        ];
        if let Some((_, knob, option)) = said.into_iter().find(|(said, ..)| *said && pair) {
            return Err(WordError::SaidOtherwise { knob, option });
        }
        if self.regions > self.pages() {
            return Err(WordError::NoPageForRegion {
                regions: self.regions,
                pages: self.pages(),
            });
        }
        Ok(self)
    }
}

fn malformed(knob: &'static str, value: &str, takes: &'static str) -> WordError {
    WordError::Malformed {
        knob,
        value: value.to_string(),
        takes,
    }
}

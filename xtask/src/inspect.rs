//! `cargo xtask inspect FILE`: what is in a checkpoint file, for a person.
//!
//! A file holds checkpoints one behind the other, each as it goes over the channel. They are decoded as a spare does it, within
//! the window that each one's own header names. What comes before damage is shown, and then where it is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use hs_core::format::{CheckpointId, Content, DecodeError, Decoder, Header, Item, Kind, Limits};
use hs_core::platform::{PAGE_LEN, PageRange};
use hs_core::registry::descriptor::{Descriptor, DescriptorKind};
use hs_core::registry::signal::{Disposition, SignalAction, SignalMask};
use hs_core::registry::thread::Worker;

use crate::disk;

/// Most of each kind of record that is decoded: far more than any library has.
const RECORDS_MAX: u32 = 1 << 16;

/// Options of `inspect`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The file: one checkpoint or several, one behind the other. DISK:FILE is a file on a pair's disk, as in
    /// target/pair/disk.img:HSCPT0.CPT.
    file: PathBuf,
}

/// Shows the file. Damage makes it fail, after all that comes before.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let name = options.file.display();
    let bytes = bytes_of(&options.file).with_context(|| format!("cannot read {name}"))?;
    let found = read(&bytes);
    for checkpoint in &found.checkpoints {
        println!("{}", checkpoint.words());
    }
    let Some(damage) = found.damage else {
        let count = found.checkpoints.len();
        println!(
            "{name}: {} bytes, {}, all sound",
            bytes.len(),
            counted(count, "checkpoint")
        );
        return Ok(ExitCode::SUCCESS);
    };
    eprintln!("error: {name}: {damage}");
    Ok(ExitCode::FAILURE)
}

/// What the file holds, which may lie on a disk.
fn bytes_of(file: &Path) -> Result<Vec<u8>> {
    if let Some((disk, path)) = file.to_str().and_then(|name| name.rsplit_once(':'))
        && !file.exists()
    {
        return disk::contents(&File::open(disk)?, path);
    }
    Ok(std::fs::read(file)?)
}

/// All of a file, up to where it is damaged.
struct Found {
    checkpoints: Vec<Checkpoint>,
    damage: Option<String>,
}

/// Runs of one content.
#[derive(Clone, Copy, Default)]
struct Share {
    runs: u64,
    pages: u64,
    /// In the file, with all headers.
    bytes: u64,
}

/// One checkpoint, as far as it was read.
struct Checkpoint {
    /// Where in the file it begins.
    at: usize,
    header: Header,
    workers: Vec<Worker>,
    descriptors: Vec<Descriptor>,
    signals: Vec<SignalAction>,
    areas: Vec<PageRange>,
    /// Kinds and lengths of sections that are not known.
    skipped: Vec<(u8, u32)>,
    shares: BTreeMap<Content, Share>,
    /// Its length, if it is whole and undamaged.
    total_bytes: Option<u64>,
}

fn read(bytes: &[u8]) -> Found {
    let mut found = Found {
        checkpoints: Vec::new(),
        damage: None,
    };
    if bytes.is_empty() {
        found.damage = Some("it is empty".into());
    }
    let mut at = 0;
    while at < bytes.len() && found.damage.is_none() {
        let number = found.checkpoints.len() + 1;
        match read_one(bytes, at, &mut found.checkpoints) {
            Ok(end) => at = end,
            Err((offset, error)) => {
                found.damage = Some(format!(
                    "checkpoint {number}, which begins at byte {at}, is damaged at byte {}: {error}",
                    at as u64 + offset
                ));
            }
        }
    }
    found
}

/// Reads the checkpoint at byte `at` of the file. Returns where it ends; or how far into it the damage is, and what.
fn read_one(bytes: &[u8], at: usize, checkpoints: &mut Vec<Checkpoint>) -> Result<usize, (u64, DecodeError)> {
    let mut rest = &bytes[at..];
    let header = Header::peek(rest).map_err(|error| (0, error))?;
    let window = header.window().ok_or((0, DecodeError::WrongWindow))?;
    let mut decoder = Decoder::new(Limits {
        window,
        threads: RECORDS_MAX,
        descriptors: RECORDS_MAX,
        signals: RECORDS_MAX,
        areas: RECORDS_MAX,
        pages: window.pages() as u64,
    });
    checkpoints.push(Checkpoint {
        at,
        header,
        workers: Vec::new(),
        descriptors: Vec::new(),
        signals: Vec::new(),
        areas: Vec::new(),
        skipped: Vec::new(),
        shares: BTreeMap::new(),
        total_bytes: None,
    });
    let checkpoint = checkpoints.last_mut().expect("just put there");
    let (mut position, mut content) = (0, None);
    loop {
        let item = match decoder.next(&mut rest) {
            Ok(Some(item)) => item,
            Ok(None) => return Err((decoder.position(), DecodeError::Truncated)),
            Err(error) => return Err((decoder.position(), error)),
        };
        if matches!(item, Item::Run(..)) {
            content = None;
        }
        let ended = checkpoint.note(item, &mut content);
        if let Some(content) = content {
            checkpoint.shares.entry(content).or_default().bytes += decoder.position() - position;
        }
        position = decoder.position();
        if ended {
            return Ok(bytes.len() - rest.len());
        }
    }
}

impl Checkpoint {
    /// Takes an item down; `content` is that of the run that it belongs to. Whether it is the end.
    fn note(&mut self, item: Item<'_>, content: &mut Option<Content>) -> bool {
        match item {
            Item::Header(_) | Item::Difference { .. } | Item::Bytes { .. } => {}
            Item::Threads(workers) => self.workers = workers,
            Item::Descriptors(descriptors) => self.descriptors = descriptors,
            Item::Signals(signals) => self.signals = signals,
            Item::Areas(areas) => self.areas = areas,
            Item::Skipped { kind, len_bytes } => self.skipped.push((kind, len_bytes)),
            Item::Run(range, found) => {
                *content = Some(found);
                let share = self.shares.entry(found).or_default();
                share.runs += 1;
                share.pages += range.pages() as u64;
            }
            Item::End { total_bytes } => {
                *content = None;
                self.total_bytes = Some(total_bytes);
                return true;
            }
        }
        false
    }

    fn words(&self) -> String {
        let mut words = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut words);
        words
    }

    fn write(&self, words: &mut String) -> std::fmt::Result {
        let header = &self.header;
        let kind = match header.kind {
            Kind::Full => "full".to_owned(),
            Kind::Incremental { base } => {
                let base = CheckpointId {
                    increment: base,
                    ..header.id
                };
                format!("incremental, onto {base} or later")
            }
        };
        writeln!(words, "checkpoint {} at byte {}: {kind}", header.id, self.at)?;
        let build: String = header.build_id.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(words, "  build        {build}")?;
        writeln!(words, "  application  {:#x}", header.application)?;
        writeln!(words, "  term         {}", header.term)?;
        if let Some(window) = header.window() {
            writeln!(
                words,
                "  window       {window} ({})",
                counted(window.pages(), "page")
            )?;
        }
        self.write_tables(words)?;
        self.write_memory(words)?;
        for (kind, len_bytes) in &self.skipped {
            writeln!(words, "  section {kind}   unknown and skipped, {len_bytes} bytes")?;
        }
        match self.total_bytes {
            Some(bytes) => writeln!(words, "  checksum     right, over {bytes} bytes"),
            None => writeln!(words, "  checksum     not reached"),
        }
    }

    fn write_tables(&self, words: &mut String) -> std::fmt::Result {
        writeln!(words, "  threads      {}", self.header.threads)?;
        for worker in &self.workers {
            writeln!(
                words,
                "    function {:#x}, argument {:#x}",
                worker.function(),
                worker.argument()
            )?;
        }
        writeln!(words, "  descriptors  {}", self.header.descriptors)?;
        for descriptor in &self.descriptors {
            writeln!(
                words,
                "    {:<4} {}",
                descriptor.number,
                kind_words(&descriptor.kind)
            )?;
        }
        writeln!(words, "  signals      {}", self.header.signals)?;
        for action in &self.signals {
            let (signal, mask) = (action.signal(), mask_words(action.mask()));
            let done = match action.disposition() {
                Disposition::Default => "ends the node".to_owned(),
                Disposition::Ignore => "ignored".to_owned(),
                Disposition::Handler => format!("handler {:#x}, mask {mask}", action.handler()),
            };
            let blocked = if action.is_blocked() { ", blocked" } else { "" };
            let pending = if action.is_pending() { ", waits" } else { "" };
            writeln!(words, "    {signal:<4} {done}{blocked}{pending}")?;
        }
        writeln!(words, "  areas        {}", self.header.areas)?;
        for area in &self.areas {
            writeln!(words, "    {area} ({})", counted(area.pages(), "page"))?;
        }
        Ok(())
    }

    fn write_memory(&self, words: &mut String) -> std::fmt::Result {
        let pages = self.header.pages;
        writeln!(words, "  memory       {}", counted(pages as usize, "page"))?;
        for (content, share) in &self.shares {
            let name = match content {
                Content::Zero => "zero",
                Content::Raw => "raw",
                Content::Difference => "difference",
                Content::Lz4 => "lz4",
            };
            writeln!(
                words,
                "    {name:<10} {:>8} in {}, {} bytes, {}",
                counted(share.pages as usize, "page"),
                counted(share.runs as usize, "run"),
                share.bytes,
                percent(share.bytes, share.pages * PAGE_LEN as u64),
            )?;
        }
        Ok(())
    }
}

fn kind_words(kind: &DescriptorKind) -> String {
    match kind {
        DescriptorKind::File { path, mode, offset } => {
            let modes = flag_words(mode.iter_names());
            format!("file {}, {modes}, at byte {offset}", path.as_str())
        }
        DescriptorKind::Udp { local, peer, flags } => {
            let to = peer.map(|peer| format!(" to {peer}")).unwrap_or_default();
            format!("udp {local}{to}, {}", flag_words(flags.iter_names()))
        }
        DescriptorKind::TcpListener { local, backlog } => {
            format!("tcp listener {local}, backlog {backlog}")
        }
    }
}

/// The names of flags, small.
fn flag_words<F>(flags: impl Iterator<Item = (&'static str, F)>) -> String {
    let names: Vec<String> = flags.map(|(name, _)| name.to_lowercase()).collect();
    if names.is_empty() {
        return "no flags".into();
    }
    names.join("+")
}

fn mask_words(mask: SignalMask) -> String {
    if mask.is_empty() {
        return "none".into();
    }
    let names: Vec<&str> = mask.iter_names().map(|(name, _)| name).collect();
    names.join("+")
}

/// How long it is in the file, of the pages that it stands for.
fn percent(bytes: u64, of: u64) -> String {
    format!("{:.1} % of the pages", bytes as f64 / of.max(1) as f64 * 100.0)
}

fn counted(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

#[cfg(test)]
mod tests;

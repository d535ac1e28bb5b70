//! What says that the master has failed: signs, and how they are combined.
//!
//! The thesis registers one function (`hs_detreg`) and offers two, an ICMP echo (`hs_detping4`) and a file (`hs_detfile`). Here a
//! *sign* is one of these, or the pair's own heartbeats, and signs may be combined: `any(icmp,file:FAIL)` fails as soon as one
//! does, `all(heartbeat,icmp)` when both have.
//!
//! The thesis contradicts itself on what its function returns: by its manual page 0 as long as the master is thought alive, by
//! its chapter 4.2 until it returns 0 for failure. [`Liveness`] says it in words.
//!
//! Pure logic; `hs-net` asks the signs. Deliberately absent: `not`, counts and times. A user's function can do all that.

#[cfg(test)]
mod tests;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::registry::descriptor::{FilePath, PathError};

/// Most signs in one detection.
pub const SIGNS_MAX: usize = 8;

/// Most levels of `any` and `all`.
pub const DEPTH_MAX: usize = 4;

/// What a sign says of the master.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Liveness {
    /// It lives, as far as can be seen.
    Alive,
    /// It has failed.
    Failed,
}

/// One way to see whether the master lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sign {
    /// Silence on both networks.
    Heartbeat,
    /// No echo from the master's machine address on the service network. The thesis's `hs_det_ping4`.
    Icmp,
    /// A file of this path is there. The thesis's `hs_det_file`.
    File(FilePath),
    /// The registered function says so.
    User,
}

impl Sign {
    /// It in a word.
    pub const fn name(self) -> &'static str {
        match self {
            Sign::Heartbeat => "heartbeat",
            Sign::Icmp => "icmp",
            Sign::File(_) => "file",
            Sign::User => "user",
        }
    }
}

/// Signs, combined.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Detection {
    /// One sign.
    Sign(Sign),
    /// The master has failed as soon as one of these says so.
    Any(Vec<Detection>),
    /// The master has failed when all of these say so.
    All(Vec<Detection>),
}

/// Why a detection is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DetectionError {
    /// This is no sign.
    UnknownSign(String),
    /// The path of `file:` is none.
    Path(String, PathError),
    /// Nothing is combined.
    Empty(&'static str),
    /// A bracket is missing, or something stands behind the last one.
    Brackets(String),
    /// It has more than [`SIGNS_MAX`] signs.
    TooManySigns,
    /// It has more than [`DEPTH_MAX`] levels.
    TooDeep,
}

impl fmt::Display for DetectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DetectionError::UnknownSign(word) => write!(
                f,
                "{word:?} is none of heartbeat, icmp, file:PATH, user, any(…) and all(…)"
            ),
            DetectionError::Path(path, error) => write!(f, "file:{path}: {error}"),
            DetectionError::Empty(what) => write!(f, "{what}() combines nothing"),
            DetectionError::Brackets(rest) => write!(f, "the brackets do not match at {rest:?}"),
            DetectionError::TooManySigns => write!(f, "there are more than {SIGNS_MAX} signs"),
            DetectionError::TooDeep => write!(f, "any and all are nested more than {DEPTH_MAX} deep"),
        }
    }
}

impl From<Sign> for Detection {
    fn from(sign: Sign) -> Self {
        Self::Sign(sign)
    }
}

impl Detection {
    /// Fails as soon as one of `parts` does.
    pub fn any(parts: impl IntoIterator<Item = Detection>) -> Self {
        Self::Any(parts.into_iter().collect())
    }

    /// Fails when all of `parts` have.
    pub fn all(parts: impl IntoIterator<Item = Detection>) -> Self {
        Self::All(parts.into_iter().collect())
    }

    /// Reads what [`Display`](fmt::Display) writes, the value of `hs.detect`. No blanks; a path has no brackets here.
    ///
    /// # Errors
    /// See [`DetectionError`].
    pub fn parse(text: &str) -> Result<Self, DetectionError> {
        let mut rest = text;
        let detection = parse(&mut rest, 0)?;
        if !rest.is_empty() {
            return Err(DetectionError::Brackets(rest.to_string()));
        }
        detection.check()?;
        Ok(detection)
    }

    /// Holds it against its limits: what was put together in code may be beyond them.
    ///
    /// # Errors
    /// It combines nothing somewhere, or is too large.
    pub fn check(&self) -> Result<(), DetectionError> {
        self.check_depth(0)?;
        if self.signs().len() > SIGNS_MAX {
            return Err(DetectionError::TooManySigns);
        }
        Ok(())
    }

    fn check_depth(&self, depth: usize) -> Result<(), DetectionError> {
        let (name, parts) = match self {
            Detection::Sign(_) => return Ok(()),
            Detection::Any(parts) => ("any", parts),
            Detection::All(parts) => ("all", parts),
        };
        if depth == DEPTH_MAX {
            return Err(DetectionError::TooDeep);
        }
        if parts.is_empty() {
            return Err(DetectionError::Empty(name));
        }
        parts.iter().try_for_each(|part| part.check_depth(depth + 1))
    }

    /// Its signs, from left to right.
    pub fn signs(&self) -> Vec<Sign> {
        let mut signs = Vec::new();
        self.collect(&mut signs);
        signs
    }

    fn collect(&self, signs: &mut Vec<Sign>) {
        match self {
            Detection::Sign(sign) => signs.push(*sign),
            Detection::Any(parts) | Detection::All(parts) => {
                parts.iter().for_each(|part| part.collect(signs));
            }
        }
    }

    /// Why the master counts as failed, in a word, if it does: the sign that says so, or `all`. `said` holds what each of the
    /// [signs](Self::signs) says; one that is missing there says that the master lives.
    pub fn verdict(&self, said: &[Liveness]) -> Option<&'static str> {
        self.verdict_of(&mut said.iter())
    }

    fn verdict_of<'a>(&self, said: &mut impl Iterator<Item = &'a Liveness>) -> Option<&'static str> {
        match self {
            Detection::Sign(sign) => (said.next() == Some(&Liveness::Failed)).then_some(sign.name()),
            // All parts are asked, as each takes what its signs say.
            Detection::Any(parts) => {
                let causes: Vec<_> = parts.iter().map(|part| part.verdict_of(said)).collect();
                causes.into_iter().flatten().next()
            }
            Detection::All(parts) => {
                let causes: Vec<_> = parts.iter().map(|part| part.verdict_of(said)).collect();
                match causes[..] {
                    [only] => only,
                    // Of nothing at all nobody says that it has failed.
                    [] => None,
                    _ => causes.iter().all(Option::is_some).then_some("all"),
                }
            }
        }
    }
}

impl fmt::Display for Detection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, parts) = match self {
            Detection::Sign(Sign::File(path)) => return write!(f, "file:{}", path.as_str()),
            Detection::Sign(sign) => return f.write_str(sign.name()),
            Detection::Any(parts) => ("any", parts),
            Detection::All(parts) => ("all", parts),
        };
        write!(f, "{name}(")?;
        for (index, part) in parts.iter().enumerate() {
            write!(f, "{}{part}", if index == 0 { "" } else { "," })?;
        }
        f.write_str(")")
    }
}

/// Takes one detection from the front of `rest`.
fn parse(rest: &mut &str, depth: usize) -> Result<Detection, DetectionError> {
    let end = rest.find(['(', ')', ',']).unwrap_or(rest.len());
    let (word, behind) = rest.split_at(end);
    let (name, make) = match word {
        "any" => ("any", Detection::Any as fn(Vec<Detection>) -> Detection),
        "all" => ("all", Detection::All as fn(Vec<Detection>) -> Detection),
        _ => {
            *rest = behind;
            return sign(word).map(Detection::Sign);
        }
    };
    let Some(mut inside) = behind.strip_prefix('(') else {
        return Err(DetectionError::Brackets(rest.to_string()));
    };
    if depth == DEPTH_MAX {
        return Err(DetectionError::TooDeep);
    }
    if inside.starts_with(')') {
        return Err(DetectionError::Empty(name));
    }
    let mut parts = Vec::new();
    loop {
        if parts.len() == SIGNS_MAX {
            return Err(DetectionError::TooManySigns);
        }
        parts.push(parse(&mut inside, depth + 1)?);
        if let Some(next) = inside.strip_prefix(',') {
            inside = next;
        } else if let Some(next) = inside.strip_prefix(')') {
            *rest = next;
            return Ok(make(parts));
        } else {
            return Err(DetectionError::Brackets(inside.to_string()));
        }
    }
}

fn sign(word: &str) -> Result<Sign, DetectionError> {
    match word {
        "heartbeat" => Ok(Sign::Heartbeat),
        "icmp" => Ok(Sign::Icmp),
        "user" => Ok(Sign::User),
        _ => {
            let Some(path) = word.strip_prefix("file:") else {
                return Err(DetectionError::UnknownSign(word.to_string()));
            };
            let parsed = FilePath::new(path);
            parsed
                .map(Sign::File)
                .map_err(|error| DetectionError::Path(path.to_string(), error))
        }
    }
}

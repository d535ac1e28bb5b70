//! Power cuts at named points of the checkpoint path, for tests: `hs.fault=POINT:COUNT`.
//!
//! A death at a random moment seldom falls between two steps that follow each other closely, and it is there that a promise is
//! kept or broken. A node that was told a [`Fault`] ends at the `COUNT`-th time that it passes the point: at once, without a word,
//! as a machine does whose power is cut. Its exit status is one of its own ([`Exit::Fault`]), which counts as a machine's death.
//!
//! | point | of a | when |
//! |---|---|---|
//! | `checkpoint-frozen` | master | the memory is frozen, and the application still stands still |
//! | `child-started` | master | the child begins to look at what was frozen |
//! | `chunk-first-sent` | master | the first chunk of a checkpoint is in the channel |
//! | `chunk-last-sent` | master | the last one is: the checkpoint is sealed |
//! | `kept-heard` | master | the spare has said that it has the checkpoint; nothing is released yet |
//! | `output-released` | master | frames are released; none of them is on the card |
//! | `output-sent` | master | they are on the card |
//! | `image-complete` | spare | a checkpoint is applied, and not acknowledged |
//! | `kept-said` | spare | the acknowledgement is in the channel |
//! | `takeover-decided` | spare | the master counts as dead |
//! | `takeover-restored` | spare | memory, library and stack are in place |
//! | `takeover-announced` | spare | the service's address is announced |
//!
//! A point that is passed costs one load of a static variable where nothing was told. Deliberately absent: any other way to fail
//! than to be gone. Damaged and lost frames are a wire's to make.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::platform::Exit;
use crate::role::Role;
use crate::sync::machine;

/// A point of the checkpoint path: see the table [above](self).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Point {
    /// `checkpoint-frozen`
    CheckpointFrozen,
    /// `child-started`
    ChildStarted,
    /// `chunk-first-sent`
    ChunkFirstSent,
    /// `chunk-last-sent`
    ChunkLastSent,
    /// `kept-heard`
    KeptHeard,
    /// `output-released`
    OutputReleased,
    /// `output-sent`
    OutputSent,
    /// `image-complete`
    ImageComplete,
    /// `kept-said`
    KeptSaid,
    /// `takeover-decided`
    TakeoverDecided,
    /// `takeover-restored`
    TakeoverRestored,
    /// `takeover-announced`
    TakeoverAnnounced,
}

impl Point {
    /// All of them, in the order in which a checkpoint passes them.
    pub const ALL: [Point; 12] = [
        Point::CheckpointFrozen,
        Point::ChildStarted,
        Point::ChunkFirstSent,
        Point::ChunkLastSent,
        Point::KeptHeard,
        Point::OutputReleased,
        Point::OutputSent,
        Point::ImageComplete,
        Point::KeptSaid,
        Point::TakeoverDecided,
        Point::TakeoverRestored,
        Point::TakeoverAnnounced,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Point::CheckpointFrozen => "checkpoint-frozen",
            Point::ChildStarted => "child-started",
            Point::ChunkFirstSent => "chunk-first-sent",
            Point::ChunkLastSent => "chunk-last-sent",
            Point::KeptHeard => "kept-heard",
            Point::OutputReleased => "output-released",
            Point::OutputSent => "output-sent",
            Point::ImageComplete => "image-complete",
            Point::KeptSaid => "kept-said",
            Point::TakeoverDecided => "takeover-decided",
            Point::TakeoverRestored => "takeover-restored",
            Point::TakeoverAnnounced => "takeover-announced",
        }
    }

    /// Which node passes it.
    pub const fn role(self) -> Role {
        match self {
            Point::CheckpointFrozen
            | Point::ChildStarted
            | Point::ChunkFirstSent
            | Point::ChunkLastSent
            | Point::KeptHeard
            | Point::OutputReleased
            | Point::OutputSent => Role::Master,
            Point::ImageComplete
            | Point::KeptSaid
            | Point::TakeoverDecided
            | Point::TakeoverRestored
            | Point::TakeoverAnnounced => Role::Spare,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a node is to end, and at which passage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The point.
    pub point: Point,
    /// The passage, counted from 1.
    pub count: u32,
}

/// Why words are no fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultError {
    /// There is no colon between a point and a count.
    NoCount,
    /// No point is named so.
    UnknownPoint,
    /// The count is no number from 1 to 4294967295.
    BadCount,
}

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultError::NoCount => {
                f.write_str("a fault is a point, a colon and a count, such as kept-heard:20")
            }
            FaultError::UnknownPoint => {
                f.write_str("no point is named so; there are")?;
                for (index, point) in Point::ALL.iter().enumerate() {
                    write!(f, "{} {point}", if index == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            FaultError::BadCount => f.write_str("the count of a fault is a number from 1 to 4294967295"),
        }
    }
}

impl core::error::Error for FaultError {}

impl Fault {
    /// Reads `POINT:COUNT`.
    ///
    /// # Errors
    /// See [`FaultError`].
    pub fn parse(text: &str) -> Result<Fault, FaultError> {
        let (name, count) = text.split_once(':').ok_or(FaultError::NoCount)?;
        let point = Point::ALL
            .into_iter()
            .find(|point| point.name() == name)
            .ok_or(FaultError::UnknownPoint)?;
        let digits = count.bytes().all(|byte| byte.is_ascii_digit());
        let count = digits.then(|| count.parse().ok()).flatten();
        match count {
            Some(count @ 1..) => Ok(Fault { point, count }),
            _ => Err(FaultError::BadCount),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.point, self.count)
    }
}

/// Passages that are left until the end: the point's number, counted from 1, above the count. 0: nothing was told, or all is over.
struct Fuse(AtomicU64);

impl Fuse {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    fn set(&self, fault: Fault) {
        let word = (fault.point as u64 + 1) << 32 | u64::from(fault.count);
        self.0.store(word, Ordering::Relaxed);
    }

    /// Whether it burns down with this passage of `point`.
    fn burns_down(&self, point: Point) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        if left >> 32 != point as u64 + 1 {
            return false;
        }
        // Several threads may pass at once: one of them is the last.
        let passed = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| match word as u32 {
                0 => None,
                1 => Some(0),
                _ => Some(word - 1),
            });
        passed.is_ok_and(|word| word as u32 == 1)
    }
}

static FUSE: Fuse = Fuse::new();

/// This machine is to end so. A later call replaces an earlier one.
pub fn arm(fault: Fault) {
    FUSE.set(fault);
}

/// `point` is passed: it may be the end.
pub fn passed(point: Point) {
    if FUSE.burns_down(point) {
        machine().exit(Exit::Fault);
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_end_comes_at_the_counted_passage_and_at_no_other(
            armed in prop::sample::select(&Point::ALL[..]),
            count in 1_u32..40,
            passages in prop::collection::vec(prop::sample::select(&Point::ALL[..]), 0..400),
        ) {
            let fuse = Fuse::new();
            fuse.set(Fault { point: armed, count });
            let mut met = 0;
            for point in passages {
                met += u32::from(point == armed);
                prop_assert_eq!(fuse.burns_down(point), point == armed && met == count);
            }
        }

        #[test]
        fn what_is_shown_is_read_back(point in prop::sample::select(&Point::ALL[..]), count in 1_u32..) {
            let fault = Fault { point, count };
            prop_assert_eq!(Fault::parse(&fault.to_string()), Ok(fault));
        }
    }

    #[test]
    fn without_orders_no_point_is_an_end() {
        assert!(Point::ALL.into_iter().all(|point| !Fuse::new().burns_down(point)));
    }

    #[test]
    fn the_table_above_lists_each_point_once_with_its_node() {
        let source = include_str!("fault.rs");
        for point in Point::ALL {
            let line = std::format!("//! | `{point}` | {} |", point.role());
            assert_eq!(source.matches(&line).count(), 1, "{line}");
        }
    }

    #[test]
    fn what_is_no_fault_is_refused() {
        for (text, error) in [
            ("kept-heard", FaultError::NoCount),
            ("", FaultError::NoCount),
            ("kept:1", FaultError::UnknownPoint),
            (":1", FaultError::UnknownPoint),
            ("kept-heard:", FaultError::BadCount),
            ("kept-heard:0", FaultError::BadCount),
            ("kept-heard:+1", FaultError::BadCount),
            ("kept-heard:4294967296", FaultError::BadCount),
        ] {
            assert_eq!(Fault::parse(text), Err(error), "{text}");
        }
        assert!(
            FaultError::UnknownPoint
                .to_string()
                .ends_with("takeover-restored, takeover-announced")
        );
    }
}

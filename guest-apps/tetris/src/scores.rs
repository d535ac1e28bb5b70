//! The best scores, and how they stand in their file: a line each, best first.
//!
//! ```text
//! 12300 41 5 2026-11-25          points, lines, level, day
//! ```

use core::fmt::{self, Write};

/// How many are kept.
pub const SCORES_MAX: usize = 10;

/// More than the file ever has.
pub const FILE_BYTES_MAX: usize = 1024;

/// A day, UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Day {
    /// Year.
    pub year: u16,
    /// Month, from 1.
    pub month: u8,
    /// Day of the month, from 1.
    pub day: u8,
}

impl Day {
    /// The day of a moment so many seconds after 1970 began.
    pub fn of(seconds: u64) -> Self {
        // Days are counted from 1 March 0000, where a year ends with its leap day (H. Hinnant, civil_from_days).
        let days = seconds / 86_400 + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        Self {
            year: (era * 400 + year_of_era + u64::from(month <= 2)) as u16,
            month: month as u8,
            day: (day_of_year - (153 * march_month + 2) / 5 + 1) as u8,
        }
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// A finished game.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Score {
    /// Points.
    pub points: u64,
    /// Rows that were cleared.
    pub lines: u32,
    /// The level that was reached.
    pub level: u32,
    /// When.
    pub day: Day,
}

impl Score {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let mut word = || words.next();
        let score = Self {
            points: word()?.parse().ok()?,
            lines: word()?.parse().ok()?,
            level: word()?.parse().ok()?,
            day: {
                let mut parts = word()?.split('-');
                Day {
                    year: parts.next()?.parse().ok()?,
                    month: parts.next()?.parse().ok()?,
                    day: parts.next()?.parse().ok()?,
                }
            },
        };
        Some(score)
    }
}

/// The best scores there were, best first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scores {
    best: [Score; SCORES_MAX],
    len: u8,
    on_disk: bool,
}

impl Scores {
    /// None yet, and kept nowhere but here.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a file holds. A line that is no score is left out.
    pub fn of_file(text: &[u8]) -> Self {
        let mut scores = Self {
            on_disk: true,
            ..Self::default()
        };
        let lines = text.split(|byte| *byte == b'\n');
        let lines = lines.filter_map(|line| core::str::from_utf8(line).ok());
        for score in lines.filter_map(Score::parse) {
            scores.add(score);
        }
        scores
    }

    /// Writes the file; returns how many bytes.
    pub fn to_file(&self, into: &mut [u8; FILE_BYTES_MAX]) -> usize {
        let mut file = File { bytes: into, len: 0 };
        for score in self.best() {
            let Score {
                points,
                lines,
                level,
                day,
            } = score;
            // The longest file there can be fits.
            let _ = writeln!(file, "{points} {lines} {level} {day}");
        }
        file.len
    }

    /// Whether there is a file.
    pub fn are_on_disk(&self) -> bool {
        self.on_disk
    }

    /// The file is there no more.
    pub fn lose_disk(&mut self) {
        self.on_disk = false;
    }

    /// They, best first.
    pub fn best(&self) -> &[Score] {
        &self.best[..usize::from(self.len)]
    }

    /// Adds a game, if it is among the best. Of two equal ones the earlier stays in front.
    pub fn add(&mut self, score: Score) -> bool {
        let rank = self
            .best()
            .iter()
            .take_while(|better| better.points >= score.points)
            .count();
        if rank == SCORES_MAX || score.points == 0 {
            return false;
        }
        self.len = (self.len + 1).min(SCORES_MAX as u8);
        self.best[rank..usize::from(self.len)].rotate_right(1);
        self.best[rank] = score;
        true
    }
}

struct File<'a> {
    bytes: &'a mut [u8; FILE_BYTES_MAX],
    len: usize,
}

impl Write for File<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let place = self
            .bytes
            .get_mut(self.len..self.len + text.len())
            .ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn days_are_counted_as_calendars_do() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (4_107_542_399, "2100-02-28"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(std::format!("{}", Day::of(seconds)), day);
        }
    }

    #[test]
    fn what_is_no_score_is_left_out() {
        let scores = Scores::of_file(b"300 3 1 2026-11-25\nnonsense\n\xff\xfe\n1 2\n500 5 1 2026-11-24");
        let points: Vec<u64> = scores.best().iter().map(|score| score.points).collect();
        assert_eq!(points, [500, 300]);
    }

    proptest! {
        /// Against a sorted list; and what is written is read again, at the largest too.
        #[test]
        fn the_best_are_kept(points in prop::collection::vec(prop_oneof![0u64..5, any::<u64>()], 0..40)) {
            let mut scores = Scores::of_file(b"");
            let mut model: Vec<(u64, u32)> = Vec::new();
            for (lines, points) in (u32::MAX - 50..).zip(points) {
                let score = Score { points, lines, level: u32::MAX, day: Day::of(1 << 30) };
                let before = model.clone();
                if points > 0 {
                    model.push((points, lines));
                }
                model.sort_by_key(|(points, _)| core::cmp::Reverse(*points));
                model.truncate(SCORES_MAX);
                prop_assert_eq!(scores.add(score), model != before);
            }
            let found: Vec<_> = scores.best().iter().map(|score| (score.points, score.lines)).collect();
            prop_assert_eq!(found, model);
            let mut file = [0; FILE_BYTES_MAX];
            let len = scores.to_file(&mut file);
            prop_assert_eq!(Scores::of_file(&file[..len]), scores);
        }
    }
}

//! The time of a file as FAT has it: a date, and two-second steps.

use embedded_sdmmc::Timestamp;

const DAY_S: u64 = 86_400;

/// The date `seconds` after the beginning of 1970, UTC. FAT begins in 1980 and ends with 2107, `embedded-sdmmc` after 2097:
/// what is outside becomes the first or last moment inside.
pub(super) fn timestamp(seconds: u64) -> Timestamp {
    // From 1 January 1980 to 31 December 2097.
    let seconds = seconds.clamp(315_532_800, 4_039_372_799);
    let (mut day, second) = (seconds / DAY_S, seconds % DAY_S);
    let mut year = 1970;
    while day >= days_in_year(year) {
        day -= days_in_year(year);
        year += 1;
    }
    let mut month = 0;
    while day >= days_in_month(year, month) {
        day -= days_in_month(year, month);
        month += 1;
    }
    Timestamp {
        year_since_1970: (year - 1970) as u8,
        zero_indexed_month: month as u8,
        zero_indexed_day: day as u8,
        hours: (second / 3600) as u8,
        minutes: (second / 60 % 60) as u8,
        seconds: (second % 60) as u8,
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in_year(year: u64) -> u64 {
    365 + u64::from(is_leap(year))
}

fn days_in_month(year: u64, month: usize) -> u64 {
    const DAYS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    DAYS[month] + u64::from(month == 1 && is_leap(year))
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn moments_that_are_known() {
        for (seconds, text) in [
            (0, "1980-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_709_251_199, "2024-02-29 23:59:59"),
            (u64::MAX, "2097-12-31 23:59:59"),
        ] {
            assert_eq!(timestamp(seconds).to_string(), text);
        }
    }
}

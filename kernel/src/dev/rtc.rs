//! The wall clock: the CMOS real-time clock, read once at boot.
//!
//! From then on the time-stamp counter carries it on. The clock counts in UTC (QEMU's default) and whole
//! seconds, so the wall clock is up to a second late. Its registers are BCD or binary, 12 or 24 hours, as
//! status register B says.

use core::fmt;

/// The registers that make up a moment, as they stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registers {
    /// Register 0.
    pub second: u8,
    /// Register 2.
    pub minute: u8,
    /// Register 4; bit 7 is p.m. in 12-hour mode.
    pub hour: u8,
    /// Register 7, from 1.
    pub day: u8,
    /// Register 8, from 1.
    pub month: u8,
    /// Register 9, in the century.
    pub year: u8,
    /// Register 0x32 of PC hardware; not there on some machines.
    pub century: u8,
    /// Register 0xb: how to read the others.
    pub status_b: u8,
}

/// The registers hold no date.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoDate(pub Registers);

impl fmt::Display for NoDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the real-time clock holds no date: {:02x?}", self.0)
    }
}

const STATUS_B_24_HOURS: u8 = 1 << 1;
const STATUS_B_BINARY: u8 = 1 << 2;
const HOUR_PM: u8 = 1 << 7;

impl Registers {
    /// Seconds since 1970, UTC.
    ///
    /// # Errors
    /// A register holds no such number.
    pub fn unix_seconds(self) -> Result<u64, NoDate> {
        let binary = self.status_b & STATUS_B_BINARY != 0;
        let number = |register: u8| match register {
            _ if binary => Some(u64::from(register)),
            _ if register & 0xf > 9 || register >> 4 > 9 => None,
            _ => Some(u64::from(register >> 4) * 10 + u64::from(register & 0xf)),
        };
        let decoded = || {
            let twelve_hours = self.status_b & STATUS_B_24_HOURS == 0;
            let hour = if twelve_hours {
                let hour = number(self.hour & !HOUR_PM).filter(|hour| (1..=12).contains(hour))?;
                hour % 12 + if self.hour & HOUR_PM != 0 { 12 } else { 0 }
            } else {
                number(self.hour).filter(|&hour| hour < 24)?
            };
            // A machine without the century register, or with nonsense in it, lives in this one.
            let century = number(self.century)
                .filter(|century| (20..=22).contains(century))
                .unwrap_or(20);
            let year = century * 100 + number(self.year).filter(|&year| year < 100)?;
            let month = number(self.month).filter(|month| (1..=12).contains(month))?;
            let day = number(self.day).filter(|&day| (1..=days_in(year, month)).contains(&day))?;
            let minute = number(self.minute).filter(|&minute| minute < 60)?;
            let second = number(self.second).filter(|&second| second < 60)?;
            Some(((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
        };
        decoded().ok_or(NoDate(self))
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let years: u64 = (1970..year).map(|year| 365 + u64::from(is_leap(year))).sum();
    let months: u64 = (1..month).map(|month| days_in(year, month)).sum();
    years + months + day - 1
}

/// Reads the clock: time since 1970, UTC, in whole seconds. Takes up to 2 ms while the clock is at work. A
/// clock without a date is logged, and it is 1970.
#[cfg(not(test))]
pub fn read() -> core::time::Duration {
    use x86_64::instructions::port::Port;

    /// Set for up to 2 ms each second, while the registers change.
    const STATUS_A_UPDATING: u8 = 1 << 7;
    /// Port accesses take more than 0.1 µs each, so this is longer than any update.
    const TRIES: usize = 20_000;

    fn register(index: u8) -> u8 {
        // SAFETY: the CMOS index and data ports; only this function uses them, and only at boot. (Bit 7 of
        // the index would mask NMIs.)
        unsafe {
            Port::<u8>::new(0x70).write(index);
            Port::<u8>::new(0x71).read()
        }
    }

    let registers = || {
        // Should it be stuck in an update, then what is read is judged by `unix_seconds` all the same.
        (0..TRIES).find(|_| register(0xa) & STATUS_A_UPDATING == 0);
        Registers {
            second: register(0),
            minute: register(2),
            hour: register(4),
            day: register(7),
            month: register(8),
            year: register(9),
            century: register(0x32),
            status_b: register(0xb),
        }
    };
    // An update may begin right behind the look at status A: two readings that agree saw none.
    let mut last = registers();
    for _ in 0..4 {
        let next = registers();
        if next == last {
            break;
        }
        last = next;
    }
    let seconds = last.unix_seconds().unwrap_or_else(|error| {
        log::warn!("{error}");
        0
    });
    core::time::Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: Registers = Registers {
        second: 5,
        minute: 4,
        hour: 3,
        day: 2,
        month: 1,
        year: 0x26,
        century: 0x20,
        status_b: 2,
    };

    #[test]
    fn moments_that_are_known() {
        let at = |registers: Registers| registers.unix_seconds().unwrap();
        assert_eq!(at(PLAIN), 1_767_323_045);
        assert_eq!(
            at(Registers {
                year: 26,
                century: 20,
                status_b: 6,
                ..PLAIN
            }),
            1_767_323_045
        );
        let midnight = Registers {
            second: 0,
            minute: 0,
            hour: 0,
            day: 1,
            month: 1,
            year: 0,
            century: 0x20,
            status_b: 2,
        };
        assert_eq!(at(midnight), 946_684_800);
        assert_eq!(
            at(Registers {
                month: 2,
                day: 0x29,
                ..midnight
            }),
            951_782_400
        );
        assert_eq!(
            at(Registers {
                century: 0,
                ..midnight
            }),
            946_684_800
        );
    }

    #[test]
    fn twelve_hours() {
        let at = |hour| {
            Registers {
                hour,
                status_b: 0,
                ..PLAIN
            }
            .unix_seconds()
            .map(|seconds| seconds / 3600 % 24)
        };
        assert_eq!(at(0x12), Ok(0));
        assert_eq!(at(0x92), Ok(12));
        assert_eq!(at(0x11), Ok(11));
        assert_eq!(at(0x91), Ok(23));
        assert!(at(0).is_err());
        assert!(at(0x13).is_err());
    }

    #[test]
    fn no_date_is_refused() {
        for bad in [
            Registers {
                second: 0x60,
                ..PLAIN
            },
            Registers {
                minute: 0x0a,
                ..PLAIN
            },
            Registers { hour: 0x24, ..PLAIN },
            Registers { day: 0, ..PLAIN },
            Registers {
                day: 0x29,
                month: 2,
                ..PLAIN
            },
            Registers { month: 0x13, ..PLAIN },
            Registers { year: 0xff, ..PLAIN },
        ] {
            assert_eq!(bad.unix_seconds(), Err(NoDate(bad)));
        }
    }

    proptest! {
        #[test]
        fn registers_never_panic(bytes: [u8; 8]) {
            let [second, minute, hour, day, month, year, century, status_b] = bytes;
            let _ = Registers { second, minute, hour, day, month, year, century, status_b }.unix_seconds();
        }

        #[test]
        fn each_day_is_one_longer_than_the_last(year in 1970u64..2200, month in 1u64..=12, day in 1u64..=31) {
            prop_assume!(day <= days_in(year, month));
            let next = if day < days_in(year, month) { (year, month, day + 1) }
                else if month < 12 { (year, month + 1, 1) } else { (year + 1, 1, 1) };
            prop_assert_eq!(days_since_1970(next.0, next.1, next.2), days_since_1970(year, month, day) + 1);
        }
    }
}

//! Integers as Redis reads and writes them.

/// The longest that an `i64` is in decimal: `-9223372036854775808`.
pub const DECIMAL_LEN_MAX: usize = 20;

/// Reads a decimal integer as strictly as Redis's `string2ll`: no blanks, no plus, no leading zeros, no
/// `-0`, nothing behind it.
pub fn parse(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() < DECIMAL_LEN_MAX => {}
        _ => return None,
    }
    digits.iter().try_fold(0_i64, |value, &digit| {
        if !digit.is_ascii_digit() {
            return None;
        }
        let digit = i64::from(digit - b'0');
        let value = value.checked_mul(10)?;
        // Below zero from the start: the smallest integer has no positive counterpart.
        if negative {
            value.checked_sub(digit)
        } else {
            value.checked_add(digit)
        }
    })
}

/// An integer in decimal, without the heap.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    digits: [u8; DECIMAL_LEN_MAX],
    start: usize,
}

impl Decimal {
    /// Writes `value`.
    pub fn new(value: i64) -> Self {
        let mut decimal = Self::unsigned(value.unsigned_abs());
        if value < 0 {
            decimal.start -= 1;
            decimal.digits[decimal.start] = b'-';
        }
        decimal
    }

    /// Writes `value`, which may lie beyond `i64`.
    pub fn unsigned(mut value: u64) -> Self {
        let mut digits = [0; DECIMAL_LEN_MAX];
        let mut start = DECIMAL_LEN_MAX;
        loop {
            start -= 1;
            digits[start] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                return Self { digits, start };
            }
        }
    }

    /// Its characters.
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn written_integers_read_back(value: i64) {
            let decimal = Decimal::new(value);
            let text = value.to_string();
            prop_assert_eq!(decimal.as_bytes(), text.as_bytes());
            prop_assert_eq!(parse(decimal.as_bytes()), Some(value));
        }

        #[test]
        fn unsigned_integers_are_written_whole(value: u64) {
            let decimal = Decimal::unsigned(value);
            let text = value.to_string();
            prop_assert_eq!(decimal.as_bytes(), text.as_bytes());
        }

        #[test]
        fn only_the_canonical_form_is_read(text in "[-+ 0-9a]{0,24}") {
            let canonical = text.parse::<i64>().ok().filter(|value| value.to_string() == text);
            prop_assert_eq!(parse(text.as_bytes()), canonical);
        }
    }

    #[test]
    fn the_edges_are_exact() {
        for (text, expected) in [
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("99999999999999999999", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("00", None),
        ] {
            assert_eq!(parse(String::from(text).as_bytes()), expected, "{text}");
        }
    }
}

//! The line that a client says first.

use core::fmt;
use core::str::FromStr;

/// What a client wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// To send so many bytes.
    Sink {
        /// How many.
        len_bytes: u64,
    },
    /// To get so many bytes of a pattern.
    Source {
        /// How many.
        len_bytes: u64,
        /// Of which pattern.
        seed: u64,
    },
    /// To get back what it sends.
    Echo,
}

/// Why a line is no order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OrderError;

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("say `sink LEN`, `source LEN SEED` or `echo`, with numbers below 2^64")
    }
}

impl Order {
    /// Reads a line, without its end.
    ///
    /// # Errors
    /// It is none of the three.
    pub fn parse(line: &[u8]) -> Result<Order, OrderError> {
        fn number(word: Option<&str>) -> Result<u64, OrderError> {
            word.and_then(|word| u64::from_str(word).ok()).ok_or(OrderError)
        }
        let line = core::str::from_utf8(line).map_err(|_| OrderError)?;
        let mut words = line.split_ascii_whitespace();
        let order = match words.next() {
            Some("sink") => Order::Sink {
                len_bytes: number(words.next())?,
            },
            Some("source") => Order::Source {
                len_bytes: number(words.next())?,
                seed: number(words.next())?,
            },
            Some("echo") => Order::Echo,
            _ => return Err(OrderError),
        };
        match words.next() {
            None => Ok(order),
            Some(_) => Err(OrderError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_orders_are_understood_and_no_other_line() {
        for (line, order) in [
            ("sink 0", Ok(Order::Sink { len_bytes: 0 })),
            (
                "source 12 7\r",
                Ok(Order::Source {
                    len_bytes: 12,
                    seed: 7,
                }),
            ),
            ("echo", Ok(Order::Echo)),
            ("", Err(OrderError)),
            ("sink", Err(OrderError)),
            ("sink -1", Err(OrderError)),
            ("sink 18446744073709551616", Err(OrderError)),
            ("source 1", Err(OrderError)),
            ("echo 1", Err(OrderError)),
            ("discard", Err(OrderError)),
        ] {
            assert_eq!(Order::parse(line.as_bytes()), order, "{line}");
        }
        assert_eq!(Order::parse(b"\xff"), Err(OrderError));
    }
}

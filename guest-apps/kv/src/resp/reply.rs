//! Writes replies.

use core::fmt;

use super::output::{Full, Output};
use crate::Memory;
use crate::number::Decimal;
use crate::quota::Quota;

/// A place in the output to go back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark(usize);

/// Writes into one client's output.
#[derive(Debug)]
pub struct Reply<'a, A: Memory> {
    output: &'a mut Output<A>,
    quota: &'a mut Quota,
}

/// Text on one line: line ends become blanks and those at the end are left out, as Redis does it.
struct OneLine<'a, 'b, A: Memory> {
    reply: &'a mut Reply<'b, A>,
    /// Line ends that will be blanks if anything follows.
    held_back: usize,
}

impl<A: Memory> fmt::Write for OneLine<'_, '_, A> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (index, piece) in text.split(['\r', '\n']).enumerate() {
            self.held_back += usize::from(index > 0);
            if !piece.is_empty() {
                for _ in 0..core::mem::take(&mut self.held_back) {
                    self.reply.raw(b" ").map_err(|Full| fmt::Error)?;
                }
                self.reply.raw(piece.as_bytes()).map_err(|Full| fmt::Error)?;
            }
        }
        Ok(())
    }
}

/// Counts what would be written.
struct Count(usize);

impl fmt::Write for Count {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

/// Writes as it is.
struct Verbatim<'a, 'b, A: Memory>(&'a mut Reply<'b, A>);

impl<A: Memory> fmt::Write for Verbatim<'_, '_, A> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.raw(text.as_bytes()).map_err(|Full| fmt::Error)
    }
}

/// All of these fail when there is no memory for the reply. What was written of it before then stands
/// until it is [taken back](Reply::take_back).
impl<'a, A: Memory> Reply<'a, A> {
    /// Writes behind what `output` holds.
    pub fn new(output: &'a mut Output<A>, quota: &'a mut Quota) -> Self {
        Self { output, quota }
    }

    /// Where the next reply begins.
    pub fn mark(&self) -> Mark {
        Mark(self.output.len())
    }

    /// Takes back all that was written since.
    pub fn take_back(&mut self, mark: Mark) {
        self.output.truncate(mark.0, self.quota);
    }

    /// Makes sure that `bytes` more can be written.
    ///
    /// # Errors
    /// They cannot.
    pub fn reserve(&mut self, bytes: usize) -> Result<(), Full> {
        self.output.reserve(bytes, self.quota)
    }

    /// Bytes as they are: what the caller knows to be a reply.
    ///
    /// # Errors
    /// No memory.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.output.append(bytes, self.quota)
    }

    fn number(&mut self, kind: u8, value: i64) -> Result<(), Full> {
        self.raw(&[kind])?;
        self.raw(Decimal::new(value).as_bytes())?;
        self.raw(b"\r\n")
    }

    fn line(&mut self, kind: u8, text: impl fmt::Display) -> Result<(), Full> {
        self.raw(&[kind])?;
        let mut line = OneLine {
            reply: self,
            held_back: 0,
        };
        fmt::write(&mut line, format_args!("{text}")).map_err(|fmt::Error| Full)?;
        self.raw(b"\r\n")
    }

    /// `+text`. Line ends in it become blanks, those at its end go.
    ///
    /// # Errors
    /// No memory.
    pub fn simple(&mut self, text: impl fmt::Display) -> Result<(), Full> {
        self.line(b'+', text)
    }

    /// `+OK`.
    ///
    /// # Errors
    /// No memory.
    pub fn ok(&mut self) -> Result<(), Full> {
        self.raw(b"+OK\r\n")
    }

    /// `-text`, beginning with its code: `ERR …`. Line ends in it become blanks, those at its end go.
    ///
    /// # Errors
    /// No memory.
    pub fn error(&mut self, text: impl fmt::Display) -> Result<(), Full> {
        self.line(b'-', text)
    }

    /// `:value`.
    ///
    /// # Errors
    /// No memory.
    pub fn integer(&mut self, value: i64) -> Result<(), Full> {
        self.number(b':', value)
    }

    /// The number of something.
    ///
    /// # Errors
    /// No memory.
    pub fn count(&mut self, count: usize) -> Result<(), Full> {
        self.integer(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// A bulk string.
    ///
    /// # Errors
    /// No memory.
    pub fn bulk(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.number(b'$', bytes.len() as i64)?;
        self.raw(bytes)?;
        self.raw(b"\r\n")
    }

    /// A bulk string of formatted text. It is formatted twice and must come out the same.
    ///
    /// # Errors
    /// No memory.
    pub fn bulk_text(&mut self, text: impl fmt::Display) -> Result<(), Full> {
        let mut count = Count(0);
        fmt::write(&mut count, format_args!("{text}")).map_err(|fmt::Error| Full)?;
        self.number(b'$', count.0 as i64)?;
        fmt::write(&mut Verbatim(self), format_args!("{text}")).map_err(|fmt::Error| Full)?;
        self.raw(b"\r\n")
    }

    /// Null, as a bulk string.
    ///
    /// # Errors
    /// No memory.
    pub fn null(&mut self) -> Result<(), Full> {
        self.raw(b"$-1\r\n")
    }

    /// A bulk string, or null.
    ///
    /// # Errors
    /// No memory.
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) -> Result<(), Full> {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// The beginning of an array: `len` replies follow.
    ///
    /// # Errors
    /// No memory.
    pub fn array(&mut self, len: usize) -> Result<(), Full> {
        self.number(b'*', i64::try_from(len).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use allocator_api2::alloc::Global;

    #[test]
    fn replies_look_as_the_protocol_says() {
        let mut quota = Quota::new(1 << 20);
        let mut output = Output::new(Global);
        let mut reply = Reply::new(&mut output, &mut quota);
        reply.simple("PONG").unwrap();
        reply
            .error(format_args!("ERR {} and {}", "a\r\nb", "c\n"))
            .unwrap();
        reply.integer(i64::MIN).unwrap();
        reply.bulk(b"a\r\n\0").unwrap();
        reply.null().unwrap();
        reply.array(2).unwrap();
        reply.bulk_text(format_args!("{}-{}", 1, 22)).unwrap();
        let mark = reply.mark();
        reply.count(7).unwrap();
        reply.take_back(mark);
        reply.bulk_or_null(None).unwrap();
        let expected: &[u8] = b"+PONG\r\n-ERR a  b and c\r\n:-9223372036854775808\r\n$4\r\na\r\n\0\r\n$-1\r\n*2\r\n$4\r\n1-22\r\n$-1\r\n";
        assert_eq!(output.front(), expected);
    }
}

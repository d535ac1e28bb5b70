//! RESP2, Redis's protocol: requests in ([`Request`]), replies out ([`Reply`] into an [`Output`]).
//!
//! ```text
//! request   *2\r\n$3\r\nGET\r\n$1\r\nk\r\n      an array of bulk strings, or a line of words: GET k\r\n
//! replies   +OK\r\n   -ERR why\r\n   :42\r\n   $5\r\nhello\r\n   $-1\r\n (null)   *2\r\n… (array)
//! ```
//!
//! Redis looks for the carriage return and skips whatever byte follows it; so does this parser.

mod inline;
mod output;
mod reply;
mod request;

pub use output::{CHUNK_BYTES, Full, Output};
pub use reply::{Mark, Reply};
pub use request::{LINE_LEN_MAX, Progress, ProtocolError, Request};

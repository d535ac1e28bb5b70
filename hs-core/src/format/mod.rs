//! The form of a checkpoint on its way from master to spare.
//!
//! ```text
//! preamble   "HSCP" │ version u16 │ length of the header u16
//! header     postcard: build, application, term, generation, increment, what it needs, window, counts
//! sections   kind u8 │ flags u8 │ 0 u16 │ length u32 │ body …
//!   threads    function u64, argument u64                                       each
//!   descriptors  96 bytes, see the registry's module                          each
//!   signals    number u32, mask u32, handler u64                                each
//!   areas      first page u64, pages u64 (page numbers from the window's start) each, ascending
//!   pages      runs: first page u32 │ pages u16 │ content u8 │ 0 u8, then for each page, if content is
//!              0  nothing: it is zero             1  the page itself
//!              2  length u16, what is different   3  length u16, an LZ4 block
//!              as many such sections as it takes; pages ascending over all of them
//!   end        length of everything u64 │ CRC-32 of everything before it u32
//! ```
//!
//! `docs/checkpoint-format.md` says it byte by byte. Integers are little-endian. Threads, descriptors, signals and areas come once each,
//! in this order, before the pages. A section of unknown
//! kind is skipped if its flags have no [`REQUIRED`] bit. A stream has no length up front: zero pages are found only when
//! the child looks at them, and it looks at each page once.
//!
//! A difference is to the page as the spare will have it when the checkpoint is applied: only its sender knows that, so that
//! no full checkpoint has one.
//!
//! Encoding copies each page once, into a buffer, and allocates nothing. Decoding is a state machine that takes bytes as
//! they come; every count and length is checked against a limit before anything is allocated for it.

mod decode;
mod difference;
mod encode;
mod error;
mod header;
mod item;
mod limits;
mod packing;
mod section;
mod tables;
#[cfg(test)]
mod tests;

pub use decode::Decoder;
pub use difference::{Difference, bring_up_to_date};
pub use encode::{BUFFER_BYTES, Encoder, Form};
pub use error::DecodeError;
pub use header::{CheckpointId, FORMAT_VERSION, Header, Kind};
pub use item::Item;
pub use limits::Limits;
pub use packing::{Compression, Packer};
pub use section::{Content, REQUIRED};
pub use tables::Tables;

//! The languages of terminals: what they send, and what they understand.

mod keyboard;
mod telnet;

pub use keyboard::{Key, Keyboard};
pub use telnet::{HELLO, Heard, Telnet};

//! The terminal beside the machine: what a person types there, and sees.

use crate::sync::Signal;

/// A terminal. Ctrl-C is not among its bytes: it is a signal.
pub trait Console: Sync {
    /// Takes what was typed; returns how many bytes. Never sleeps.
    fn receive(&self, into: &mut [u8]) -> usize;

    /// Shows `bytes` as they are, control sequences among them.
    fn send(&self, bytes: &[u8]);

    /// Raises `signal` whenever something was typed.
    fn notify(&self, signal: &'static Signal);
}

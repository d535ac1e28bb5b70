//! Benchmarks that need no guest.

//! A key-value server that outlives its machine.
#![no_std]

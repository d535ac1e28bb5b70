//! Tests of the kernel on the real machine.
#![no_std]
#![no_main]

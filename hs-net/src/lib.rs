//! The pair on the network.
#![no_std]
#![deny(unsafe_code)]

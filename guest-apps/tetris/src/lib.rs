//! Tetris that outlives its machine: the thesis's first example (chapter 5.2.1), played over TCP.
//!
//! This library is the game's logic alone, without I/O or a clock of its own. [`game`] knows the rules, [`screen`] what a
//! player sees of them, [`terminal`] the languages of terminals, [`viewer`] and [`table`] the players, [`scores`] the best
//! of them. The guest's `main.rs` joins it with the kernel and the network.
//!
//! There is one game, and everybody who is connected sees it and plays it, through a takeover too. All of it is one value of a
//! fixed size, which lies in a class.
//!
//! Deliberately absent: several games at once, holding a piece, names beside the scores.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod game;
pub mod options;
pub mod scores;
pub mod screen;
pub mod table;
pub mod terminal;
pub mod viewer;

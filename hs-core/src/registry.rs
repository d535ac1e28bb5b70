//! What the application registers so that a restore can bring it back.
//!
//! Registries lie in the library area of the window and travel with it; checkpoints list them in sections of their own
//! as well, so that a checkpoint can be judged without its memory.

pub mod thread;

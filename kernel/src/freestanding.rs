//! What the precompiled `core` expects of a C library: `memcpy` and its kin.

core::arch::global_asm!(include_str!("freestanding.s"));

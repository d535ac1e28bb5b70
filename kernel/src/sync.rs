//! The kernel's own lock, for what interrupt handlers touch too.

use core::ops::{Deref, DerefMut};

use x86_64::instructions::interrupts;

use crate::thread;

/// A spin lock that keeps interrupts off while it is held, so that a handler on the same CPU never finds
/// it taken. Whoever holds one must not touch the checkpoint window: a fault there would need locks of
/// this kind.
pub struct IrqMutex<T> {
    inner: spin::Mutex<T>,
}

/// Proof that an [`IrqMutex`] is held.
pub struct IrqGuard<'a, T> {
    // Dropped before `enabled` is looked at: see `drop`.
    guard: Option<spin::MutexGuard<'a, T>>,
    enabled: bool,
}

impl<T> IrqMutex<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        Self {
            inner: spin::Mutex::new(value),
        }
    }

    /// Takes the lock.
    pub fn lock(&self) -> IrqGuard<'_, T> {
        let enabled = interrupts::are_enabled();
        interrupts::disable();
        IrqGuard {
            guard: Some(self.inner.lock()),
            enabled,
        }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<IrqGuard<'_, T>> {
        let enabled = interrupts::are_enabled();
        interrupts::disable();
        let guard = self.inner.try_lock();
        if guard.is_none() && enabled {
            interrupts::enable();
        }
        Some(IrqGuard {
            guard: Some(guard?),
            enabled,
        })
    }
}

impl<T> Drop for IrqGuard<'_, T> {
    fn drop(&mut self) {
        self.guard = None;
        if self.enabled {
            interrupts::enable();
            thread::switch_point();
        }
    }
}

impl<T> Deref for IrqGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard
            .as_ref()
            .expect("the guard is there until it is dropped")
    }
}

impl<T> DerefMut for IrqGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard
            .as_mut()
            .expect("the guard is there until it is dropped")
    }
}

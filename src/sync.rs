//! What threads share is built from here: the one door for locks.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A mutex without poisoning: a panic ends the process (`panic = "abort"`), so nobody meets a half-done state.
#[derive(Debug, Default)]
pub struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

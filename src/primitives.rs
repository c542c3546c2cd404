//! The locks and atomics of group commit: those of the system, or, in a build with `--cfg loom`,
//! those of loom, which tries every order in which threads can meet on them.

#[cfg(not(all(test, loom)))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[cfg(not(all(test, loom)))]
pub(crate) use parking_lot::{Condvar, Mutex};

#[cfg(all(test, loom))]
pub(crate) use self::modelled::{AtomicBool, AtomicU64, Condvar, Mutex, Ordering};

#[cfg(all(test, loom))]
mod modelled {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    /// loom's mutex with the face of `parking_lot`.
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    /// What a lock gives; empty only while its thread waits.
    pub(crate) struct Guard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> Guard<'_, T> {
            Guard(Some(self.0.lock().unwrap()))
        }
    }

    impl<T> std::ops::Deref for Guard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_ref().unwrap()
        }
    }

    impl<T> std::ops::DerefMut for Guard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().unwrap()
        }
    }

    /// loom's condition variable with the face of `parking_lot`.
    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(loom::sync::Condvar::new())
        }

        pub(crate) fn wait<T>(&self, guard: &mut Guard<'_, T>) {
            let inner = guard.0.take().unwrap();
            guard.0 = Some(self.0.wait(inner).unwrap());
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}

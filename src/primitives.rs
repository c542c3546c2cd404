//! The locks, atomics and gates of group commit: those of the system, or, in a build with
//! `--cfg loom`, those of loom, which tries every order in which threads can meet on them.

#[cfg(all(target_os = "linux", not(all(test, loom))))]
pub(crate) use self::futex::Gate;

#[cfg(not(all(target_os = "linux", not(all(test, loom)))))]
pub(crate) use self::portable::Gate;

#[cfg(not(all(test, loom)))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[cfg(not(all(test, loom)))]
pub(crate) use parking_lot::Mutex;

#[cfg(all(test, loom))]
pub(crate) use self::modelled::{AtomicBool, AtomicU64, Mutex, Ordering};

/// The gate of the system: threads that wake up take no lock, so that a crowd which is let through
/// does not queue up behind one.
#[cfg(all(target_os = "linux", not(all(test, loom))))]
mod futex {
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::thread::futex;

    use crate::planted::{Bug, planted};

    /// Where threads wait until it is opened the next time. Whoever is about to wait notes what the
    /// gate shows first: an opening in between is then never missed.
    #[derive(Debug, Default)]
    pub(crate) struct Gate(AtomicU32);

    impl Gate {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        /// What the gate shows now.
        pub(crate) fn look(&self) -> u32 {
            self.0.load(Ordering::Acquire)
        }

        /// Waits until the gate was opened since it showed `seen`, and this thread let through.
        pub(crate) fn wait(&self, seen: u32) {
            while self.look() == seen {
                // Woken, interrupted, or opened meanwhile: the loop tells them apart.
                let _why = futex::wait(&self.0, futex::Flags::PRIVATE, seen, None);
            }
        }

        /// Opens the gate. Nobody who is asleep notices before a `wake_…`.
        pub(crate) fn open(&self) {
            self.0.fetch_add(1, Ordering::AcqRel);
        }

        /// Lets one of those through who wait at the open gate.
        pub(crate) fn wake_one(&self) {
            if !planted(Bug::WakeUpLost) {
                futex::wake(&self.0, futex::Flags::PRIVATE, 1).ok();
            }
        }

        /// Lets everybody through who waits at the open gate.
        pub(crate) fn wake_all(&self) {
            futex::wake(&self.0, futex::Flags::PRIVATE, i32::MAX.unsigned_abs()).ok();
        }
    }
}

/// The same gate on a lock and a condition variable: for other systems, and for loom.
#[cfg(not(all(target_os = "linux", not(all(test, loom)))))]
mod portable {
    #[cfg(all(test, loom))]
    use super::modelled::{Condvar, Mutex};
    #[cfg(not(all(test, loom)))]
    use parking_lot::{Condvar, Mutex};

    /// As the gate of the system.
    pub(crate) struct Gate {
        opened: Mutex<u32>,
        changed: Condvar,
    }

    impl Gate {
        pub(crate) fn new() -> Self {
            Self { opened: Mutex::new(0), changed: Condvar::new() }
        }

        pub(crate) fn look(&self) -> u32 {
            *self.opened.lock()
        }

        pub(crate) fn wait(&self, seen: u32) {
            let mut opened = self.opened.lock();
            while *opened == seen {
                self.changed.wait(&mut opened);
            }
        }

        pub(crate) fn open(&self) {
            let mut opened = self.opened.lock();
            *opened = opened.wrapping_add(1);
        }

        pub(crate) fn wake_one(&self) {
            self.changed.notify_one();
        }

        pub(crate) fn wake_all(&self) {
            self.changed.notify_all();
        }
    }
}

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

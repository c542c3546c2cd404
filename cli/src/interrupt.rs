//! What ends a command from outside: Ctrl-C, a request to terminate, a terminal that is gone.
//!
//! Owns: which signals these are, and that long work meets them where it can say what it leaves. Does
//! not own: what it leaves; and `bench` and `payload` have more to do, and see to it by themselves.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_default, register_usize};

/// All of them, but for a terminal that is gone where `nohup` has that ignored.
pub(crate) fn signals() -> impl Iterator<Item = i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let is_ignored = ignored >> (SIGHUP - 1) & 1 == 1;
    [SIGTERM, SIGINT].into_iter().chain((!is_ignored).then_some(SIGHUP))
}

/// What becomes of these signals while long work asks for them.
pub(crate) struct Interruption {
    /// The first one that came; zero for none.
    asked: Arc<AtomicUsize>,
    /// Whether one ends the process at once: nobody asks, or it is the second one.
    at_once: Arc<AtomicBool>,
}

impl Interruption {
    /// Begins to take note of them, until [`Self::over`]. None if that is not possible.
    pub(crate) fn watch() -> Option<&'static Self> {
        static WATCHED: OnceLock<Option<Interruption>> = OnceLock::new();
        let watched = WATCHED.get_or_init(|| Self::register().ok()).as_ref()?;
        watched.at_once.store(false, Ordering::Relaxed);
        Some(watched)
    }

    fn register() -> io::Result<Self> {
        let asked = Arc::new(AtomicUsize::new(0));
        let at_once = Arc::new(AtomicBool::new(false));
        for signal in signals() {
            register_conditional_default(signal, Arc::clone(&at_once))?;
            register(signal, Arc::clone(&at_once))?;
            let number = usize::try_from(signal).unwrap_or(usize::MAX);
            register_usize(signal, Arc::clone(&asked), number)?;
        }
        Ok(Self { asked, at_once })
    }

    /// The signal that came.
    pub(crate) fn asked(&self) -> Option<i32> {
        let signal = i32::try_from(self.asked.load(Ordering::Relaxed)).ok();
        signal.filter(|&signal| signal > 0)
    }

    /// From now on nobody asks.
    pub(crate) fn over(&self) {
        self.at_once.store(true, Ordering::Relaxed);
    }
}

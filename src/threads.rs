//! The threads of this process, shared by every log in it.
//!
//! Owns: threads, whose turn it is, and when. Does not own: what there is to do (`log::background`).
//! Each kind of work has a desk with its own few threads, so that a slow sync keeps neither space from
//! being made ready nor a watchdog from looking. The first log that wants them starts the threads, and
//! they end with the last one.
//!
//! Invariant: one thread at a time works for one log at one desk, and nobody does once
//! [`Member::leave`] has returned.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread::ThreadId;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::clock::Moment;

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Desk {
    /// Checkpoints.
    Maintain,
    /// Space and spares.
    Prepare,
    /// Syncs for callbacks and intervals, and full buffers.
    Flush,
    /// Syncs that do not come back.
    Watch,
}

const DESKS: [(Desk, &str, usize); 4] = [
    (Desk::Maintain, "indelible-maintenance", 1),
    (Desk::Prepare, "indelible-preparer", 1),
    (Desk::Flush, "indelible-flusher", 4),
    (Desk::Watch, "indelible-watchdog", 1),
];

/// Somebody who has work done at desks.
pub(crate) trait Work: Send + Sync {
    /// Does what there is to do, because somebody asked or because it is time. Returns after how
    /// long it is to be called without being asked.
    fn work(&self, desk: Desk, asked: bool) -> Option<Duration>;
}

/// The desks of one process.
struct Office {
    process: u32,
    desks: [Counter; 4],
}

/// One desk.
struct Counter {
    name: &'static str,
    threads_max: usize,
    queue: Mutex<Queue>,
    /// There is something to do, or nobody is left.
    wake: Condvar,
    /// A thread is done with somebody.
    done: Condvar,
}

#[derive(Default)]
struct Queue {
    next: u64,
    clients: HashMap<u64, Client>,
    ready: VecDeque<u64>,
    due: BTreeSet<(Moment, u64)>,
    threads: usize,
    idle: usize,
}

struct Client {
    work: Weak<dyn Work>,
    asked: bool,
    queued: bool,
    /// Who is at work for it.
    by: Option<ThreadId>,
    due: Option<Moment>,
}

/// Whoever joined, until it leaves.
pub(crate) struct Member {
    office: Arc<Office>,
    /// Its number at each desk it wants.
    numbers: [Option<u64>; 4],
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("numbers", &self.numbers).finish_non_exhaustive()
    }
}

/// The office of this process: a forked child has none of its parent's threads.
fn office() -> Arc<Office> {
    static OFFICE: Mutex<Option<Arc<Office>>> = Mutex::new(None);
    let process = std::process::id();
    let mut office = OFFICE.lock();
    match &*office {
        Some(ours) if ours.process == process => Arc::clone(ours),
        _ => {
            let desks = DESKS.map(|(_, name, threads_max)| Counter::new(name, threads_max));
            Arc::clone(office.insert(Arc::new(Office { process, desks })))
        }
    }
}

impl Member {
    /// Joins at some desks, without any work yet: from here on each has a thread.
    ///
    /// # Errors
    /// A thread that is needed cannot be started; then it has not joined.
    pub(crate) fn join(desks: &[Desk]) -> io::Result<Self> {
        let mut member = Self { office: office(), numbers: [None; 4] };
        for &desk in desks {
            let joined = Counter::join(&member.office, desk);
            match joined {
                Ok(number) => {
                    if let Some(place) = member.numbers.get_mut(desk as usize) {
                        *place = Some(number);
                    }
                }
                Err(error) => {
                    member.leave();
                    return Err(error);
                }
            }
        }
        Ok(member)
    }

    /// Has `work` called at each desk, as if it had asked.
    pub(crate) fn begin(&self, work: &Weak<dyn Work>) {
        for (counter, number) in self.office.desks.iter().zip(self.numbers) {
            if let Some(number) = number {
                counter.begin(number, work);
            }
        }
    }

    /// Asks for work at a desk. Costs a short lock, and no thread switch if it was asked already.
    pub(crate) fn ask(&self, desk: Desk) {
        if let Some(number) = self.numbers.get(desk as usize).copied().flatten() {
            Counter::ask(&self.office, desk, number);
        }
    }

    /// Leaves every desk, and waits for whoever is at work for it there; not for the calling thread
    /// if that is one of them.
    pub(crate) fn leave(&self) {
        for (counter, number) in self.office.desks.iter().zip(self.numbers) {
            if let Some(number) = number {
                counter.leave(number);
            }
        }
    }
}

impl Office {
    fn counter(&self, desk: Desk) -> &Counter {
        let [maintain, prepare, flush, watch] = &self.desks;
        match desk {
            Desk::Maintain => maintain,
            Desk::Prepare => prepare,
            Desk::Flush => flush,
            Desk::Watch => watch,
        }
    }
}

impl Counter {
    fn new(name: &'static str, threads_max: usize) -> Self {
        let (wake, done) = (Condvar::new(), Condvar::new());
        Self { name, threads_max, queue: Mutex::default(), wake, done }
    }

    fn join(office: &Arc<Office>, desk: Desk) -> io::Result<u64> {
        let mut queue = office.counter(desk).queue.lock();
        if queue.threads == 0 {
            Self::start(office, desk, &mut queue)?;
        }
        queue.next += 1;
        let number = queue.next;
        let work = Weak::<Gone>::new();
        queue
            .clients
            .insert(number, Client { work, asked: false, queued: false, by: None, due: None });
        Ok(number)
    }

    fn begin(&self, number: u64, work: &Weak<dyn Work>) {
        let mut queue = self.queue.lock();
        if let Some(client) = queue.clients.get_mut(&number) {
            client.work = Weak::clone(work);
        }
        queue.ask(number);
        self.wake.notify_one();
    }

    fn start(office: &Arc<Office>, desk: Desk, queue: &mut Queue) -> io::Result<()> {
        let worker = Arc::clone(office);
        let name = office.counter(desk).name.to_owned();
        std::thread::Builder::new()
            .name(name)
            .spawn(move || worker.counter(desk).serve(desk))
            .map(|_detached| queue.threads += 1)
    }

    fn ask(office: &Arc<Office>, desk: Desk, number: u64) {
        let counter = office.counter(desk);
        let mut queue = counter.queue.lock();
        if !queue.ask(number) {
            return;
        }
        if queue.ready.len() > queue.idle && queue.threads < counter.threads_max {
            // One thread there is; another one only helps.
            Self::start(office, desk, &mut queue).ok();
        }
        counter.wake.notify_one();
    }

    fn leave(&self, number: u64) {
        let mut queue = self.queue.lock();
        let this = std::thread::current().id();
        queue.leave(number);
        while queue
            .clients
            .get(&number)
            .is_some_and(|client| client.by.is_some_and(|by| by != this))
        {
            self.done.wait(&mut queue);
        }
        queue.forget(number);
        if queue.clients.is_empty() {
            self.wake.notify_all();
        }
    }

    /// What each thread does.
    fn serve(&self, desk: Desk) {
        let this = std::thread::current().id();
        let mut queue = self.queue.lock();
        while let Some((number, work, asked)) = self.next(&mut queue, this) {
            let again = MutexGuard::unlocked(&mut queue, || {
                // A panic has been reported by the panic hook, and to the log by its alarm; it must
                // not end the thread of all the others.
                let work = || work.upgrade().and_then(|work| work.work(desk, asked));
                catch_unwind(AssertUnwindSafe(work)).unwrap_or(None)
            });
            queue.done(number, again);
            self.done.notify_all();
        }
        queue.threads -= 1;
    }

    /// Waits for something to do; nothing once nobody is left.
    fn next(
        &self,
        queue: &mut MutexGuard<'_, Queue>,
        this: ThreadId,
    ) -> Option<(u64, Weak<dyn Work>, bool)> {
        loop {
            if queue.clients.is_empty() {
                return None;
            }
            queue.ripen();
            if let Some(next) = queue.take(this) {
                return Some(next);
            }
            queue.idle += 1;
            match queue.due.first().map(|(due, _)| due.until()) {
                Some(nap) => {
                    self.wake.wait_for(queue, nap);
                }
                None => self.wake.wait(queue),
            }
            queue.idle -= 1;
        }
    }
}

impl Queue {
    /// Whether somebody has to be woken for it.
    fn ask(&mut self, number: u64) -> bool {
        let Some(client) = self.clients.get_mut(&number) else { return false };
        client.asked = true;
        if client.queued || client.by.is_some() {
            return false;
        }
        client.queued = true;
        self.ready.push_back(number);
        true
    }

    /// Has everybody whose time has come take their turn.
    fn ripen(&mut self) {
        while let Some(&(due, number)) = self.due.first() {
            if !due.until().is_zero() {
                return;
            }
            self.due.pop_first();
            if let Some(client) = self.clients.get_mut(&number) {
                client.due = None;
                if !client.queued {
                    client.queued = true;
                    self.ready.push_back(number);
                }
            }
        }
    }

    fn take(&mut self, by: ThreadId) -> Option<(u64, Weak<dyn Work>, bool)> {
        let number = self.ready.pop_front()?;
        let client = self.clients.get_mut(&number)?;
        client.queued = false;
        client.by = Some(by);
        if let Some(due) = client.due.take() {
            self.due.remove(&(due, number));
        }
        Some((number, Weak::clone(&client.work), std::mem::take(&mut client.asked)))
    }

    fn done(&mut self, number: u64, again: Option<Duration>) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        client.by = None;
        if client.asked {
            client.queued = true;
            self.ready.push_back(number);
        } else if let Some(due) = again.and_then(|nap| Moment::now().after(nap)) {
            client.due = Some(due);
            self.due.insert((due, number));
        }
    }

    /// From here on nobody begins to work for it.
    fn leave(&mut self, number: u64) {
        self.ready.retain(|ready| *ready != number);
        if let Some(client) = self.clients.get_mut(&number) {
            client.work = Weak::<Gone>::new();
            client.queued = true;
            if let Some(due) = client.due.take() {
                self.due.remove(&(due, number));
            }
        }
    }

    fn forget(&mut self, number: u64) {
        self.leave(number);
        self.clients.remove(&number);
    }
}

/// Somebody who is not there yet, or who is gone.
struct Gone;

impl Work for Gone {
    fn work(&self, _desk: Desk, _asked: bool) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    struct Counting {
        calls: AtomicUsize,
        told: mpsc::Sender<bool>,
        again: Option<Duration>,
    }

    impl Work for Counting {
        fn work(&self, _desk: Desk, asked: bool) -> Option<Duration> {
            self.calls.fetch_add(1, Ordering::SeqCst);
            self.told.send(asked).unwrap();
            assert!(self.calls.load(Ordering::SeqCst) != 2, "the second call panics");
            self.again
        }
    }

    fn counting(again: Option<Duration>) -> (Arc<Counting>, mpsc::Receiver<bool>) {
        let (told, tells) = mpsc::channel();
        (Arc::new(Counting { calls: AtomicUsize::new(0), told, again }), tells)
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_panic_ends_neither_the_thread_nor_the_client() {
        let (work, tells) = counting(None);
        let weak: Weak<dyn Work> = Arc::<Counting>::downgrade(&work);
        let member = Member::join(&[Desk::Flush]).unwrap();
        member.begin(&weak);
        for _ in 0..3 {
            assert!(tells.recv_timeout(LONG).unwrap());
            member.ask(Desk::Flush);
        }
        member.ask(Desk::Maintain);
        member.leave();
        let calls = work.calls.load(Ordering::SeqCst);
        member.ask(Desk::Flush);
        assert_eq!(work.calls.load(Ordering::SeqCst), calls);
    }

    #[test]
    fn time_comes_without_being_asked() {
        let (work, tells) = counting(Some(Duration::from_millis(1)));
        work.calls.store(2, Ordering::SeqCst);
        let weak: Weak<dyn Work> = Arc::<Counting>::downgrade(&work);
        let member = Member::join(&[Desk::Watch]).unwrap();
        member.begin(&weak);
        assert!(tells.recv_timeout(LONG).unwrap());
        assert!(!tells.recv_timeout(LONG).unwrap());
        assert!(!tells.recv_timeout(LONG).unwrap());
        member.leave();
    }
}

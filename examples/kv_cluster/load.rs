//! The clients of a run: keep a window of commands in flight and note what is acknowledged.
//!
//! Owns: sending, sending again under the same identifier until an answer comes, what each command
//! saw and when. Does not own: which node dies when (`run`). They write no further than their quota,
//! which the run raises step by step.
//!
//! Client `c` of three sends entries `c`, `c + 3` and so on. While all nodes are up each client talks
//! to another node, so that a node which does not know that it has been deposed would be noticed.

use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::failure::{Outcome, Why};
use crate::history::Seen;
use crate::input::Input;
use crate::net::dial;
use crate::protocol::{CLIENT_GREETING, Reply, Request, push_frame, read_frame, write_frame};

/// After this long without an answer an entry is sent again; after twice as long once more, and so
/// on.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_DOUBLINGS_MAX: u32 = 4;
/// After this long without any answer another node is tried.
const PATIENCE: Duration = Duration::from_millis(1_500);
const CLIENTS: usize = 3;
const DIAL: Duration = Duration::from_millis(250);

/// What the run and its clients share.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Entries may be sent up to here.
    pub(crate) quota: u64,
    /// Nodes to talk to, best first.
    pub(crate) targets: Vec<String>,
    pub(crate) acknowledged: u64,
    /// Log index at which each entry was acknowledged.
    pub(crate) index_of: Vec<Option<u64>>,
    /// Nanoseconds from the first sending of an entry to its acknowledgement.
    pub(crate) latency: Histogram<u64>,
    /// The longest time without an acknowledgement while entries were in flight.
    pub(crate) longest_pause: Duration,
    pub(crate) sent_again: u64,
    /// When the run began, and when anybody got an answer last.
    pub(crate) started: Instant,
    progress: Instant,
    /// Everything that was acknowledged, in this order.
    pub(crate) seen: Vec<Seen>,
    in_flight: [usize; CLIENTS],
    pub(crate) stop: bool,
}

impl Ledger {
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.iter().sum()
    }
}

#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) ledger: Arc<Mutex<Ledger>>,
    threads: Vec<JoinHandle<()>>,
}

pub(crate) fn histogram() -> Outcome<Histogram<u64>> {
    Histogram::new_with_bounds(1_000, 600_000_000_000, 3).why(|| "no histogram")
}

impl Load {
    pub(crate) fn start(input: &Input, entries: u64, window: u64, now: Instant) -> Outcome<Self> {
        let count = usize::try_from(entries).why(|| "too many entries")?;
        let ledger = Arc::new(Mutex::new(Ledger {
            quota: 0,
            targets: Vec::new(),
            acknowledged: 0,
            index_of: vec![None; count],
            latency: histogram()?,
            longest_pause: Duration::ZERO,
            sent_again: 0,
            started: now,
            progress: now,
            seen: Vec::new(),
            in_flight: [0; CLIENTS],
            stop: false,
        }));
        let window = usize::try_from(window).unwrap_or(usize::MAX).div_ceil(CLIENTS);
        let start = |number: usize| {
            let (said, heard) = mpsc::channel();
            let mut worker = Worker {
                number,
                ledger: Arc::clone(&ledger),
                input: input.clone(),
                window,
                connection: None,
                connections: 0,
                said,
                heard,
                next: number as u64,
                pending: BTreeMap::new(),
                progress: now,
            };
            thread::spawn(move || while worker.turn() {})
        };
        Ok(Self { threads: (0..CLIENTS).map(start).collect(), ledger })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ledger.lock().stop = true;
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

struct Pending {
    first: Instant,
    /// When to send it again.
    due: Instant,
    /// Times it has been sent again.
    again: u32,
}

/// An answer, or the end, of the connection with this number.
type Heard = (u64, Option<Reply>);

struct Worker {
    number: usize,
    ledger: Arc<Mutex<Ledger>>,
    input: Input,
    window: usize,
    connection: Option<TcpStream>,
    /// Number of the present connection.
    connections: u64,
    said: Sender<Heard>,
    heard: Receiver<Heard>,
    next: u64,
    pending: BTreeMap<u64, Pending>,
    /// When the last acknowledgement came, or the first entry after a time with nothing to do left.
    progress: Instant,
}

impl Worker {
    fn turn(&mut self) -> bool {
        let quota = {
            let mut ledger = self.ledger.lock();
            self.report(&mut ledger);
            if ledger.stop {
                return false;
            }
            ledger.quota
        };
        if self.connection.is_none() && !self.connect() {
            thread::sleep(Duration::from_millis(10));
            return true;
        }
        self.send(quota);
        self.listen();
        let now = Instant::now();
        if !self.pending.is_empty() && now - self.progress > PATIENCE {
            // This node does not get anywhere; perhaps another one does.
            self.hang_up();
            self.progress = now;
        }
        true
    }

    fn connect(&mut self) -> bool {
        let target = {
            let mut ledger = self.ledger.lock();
            let target = ledger.targets.first().cloned();
            // The next attempt, should this one fail or end, goes elsewhere.
            if !ledger.targets.is_empty() {
                ledger.targets.rotate_left(1);
            }
            target
        };
        let Some(stream) = target.and_then(|address| dial(&address, DIAL).ok()) else {
            return false;
        };
        let opened = (|| {
            let mut writer = &stream;
            stream.set_write_timeout(Some(PATIENCE))?;
            write_frame(&mut writer, CLIENT_GREETING)?;
            stream.try_clone()
        })();
        let Ok(reader) = opened else { return false };
        self.connections += 1;
        let (number, said) = (self.connections, self.said.clone());
        thread::spawn(move || {
            let mut reader = BufReader::with_capacity(64 * 1024, reader);
            while let Ok(bytes) = read_frame(&mut reader) {
                let Ok(reply) = Reply::from_bytes(&bytes) else {
                    break;
                };
                if said.send((number, Some(reply))).is_err() {
                    return;
                }
            }
            let _run_may_have_ended = said.send((number, None));
        });
        self.connection = Some(stream);
        let now = Instant::now();
        for pending in self.pending.values_mut() {
            (pending.due, pending.again) = (now, 0);
        }
        true
    }

    fn hang_up(&mut self) {
        if let Some(stream) = self.connection.take() {
            let _gone_already = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Sends what is due again, then new entries as far as window and quota allow.
    fn send(&mut self, quota: u64) {
        let now = Instant::now();
        let mut buffer = Vec::new();
        let mut again = 0;
        for (entry, pending) in &mut self.pending {
            if pending.due <= now {
                pending.again += 1;
                pending.due = now + RETRY * (1 << pending.again.min(RETRY_DOUBLINGS_MAX));
                again += 1;
                let request = Request::Submit(self.input.command(*entry));
                push_frame(&mut buffer, &request.to_bytes());
            }
        }
        if self.pending.is_empty() {
            self.progress = now;
        }
        while self.pending.len() < self.window && self.next < quota {
            let request = Request::Submit(self.input.command(self.next));
            push_frame(&mut buffer, &request.to_bytes());
            self.pending.insert(self.next, Pending { first: now, due: now + RETRY, again: 0 });
            self.next += CLIENTS as u64;
        }
        if again > 0 {
            self.ledger.lock().sent_again += again;
        }
        if let Some(stream) = &mut self.connection
            && !buffer.is_empty()
        {
            let sent = stream.write_all(&buffer).is_ok();
            self.report(&mut self.ledger.lock());
            if !sent {
                self.hang_up();
            }
        }
    }

    fn listen(&mut self) {
        let Ok(first) = self.heard.recv_timeout(Duration::from_millis(5)) else {
            return;
        };
        let mut heard = vec![first];
        while let Ok(more) = self.heard.try_recv() {
            heard.push(more);
        }
        let now = Instant::now();
        let ledger = Arc::clone(&self.ledger);
        let mut ledger = ledger.lock();
        for (number, reply) in heard {
            match reply {
                // An answer is an answer, whichever connection it came on.
                Some(Reply::Done { id, index, value }) => {
                    self.acknowledge(&mut ledger, id, (index, value), now);
                }
                Some(Reply::Refused { id, .. }) => {
                    let entry = Input::entry_of(id);
                    if let Some(pending) = entry.and_then(|entry| self.pending.get_mut(&entry)) {
                        pending.due = now + Duration::from_millis(20);
                    }
                }
                None if number == self.connections => self.hang_up(),
                Some(_) | None => {}
            }
        }
        self.report(&mut ledger);
    }

    fn report(&self, ledger: &mut Ledger) {
        if let Some(count) = ledger.in_flight.get_mut(self.number) {
            *count = self.pending.len();
        }
    }

    fn acknowledge(
        &mut self,
        ledger: &mut Ledger,
        id: u64,
        (index, value): (u64, Option<String>),
        now: Instant,
    ) {
        let Some(entry) = Input::entry_of(id) else {
            return;
        };
        let Some(pending) = self.pending.remove(&entry) else {
            return;
        };
        // Time in which this client had nothing in flight, or another one got answers, is no pause.
        let since = self.progress.max(ledger.progress);
        ledger.longest_pause = ledger.longest_pause.max(now.saturating_duration_since(since));
        (self.progress, ledger.progress) = (now, now);
        let nanos = u64::try_from((now - pending.first).as_nanos()).unwrap_or(u64::MAX);
        ledger.latency.saturating_record(nanos);
        ledger.acknowledged += 1;
        let slot = usize::try_from(entry).ok().and_then(|entry| ledger.index_of.get_mut(entry));
        if let Some(slot) = slot {
            *slot = Some(index);
        }
        let begun = pending.first - ledger.started;
        ledger.seen.push(Seen { entry, begun, returned: now - ledger.started, value });
    }
}

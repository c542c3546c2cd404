//! Tickets: how a caller learns that its batch is durable.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::error::Result;
use crate::log::shared::Shared;
use crate::log::writer::Written;
use crate::options::Durability;

/// Stands for a written batch. Dropping it changes nothing and causes no sync.
///
/// A ticket can be waited for, called back on, or awaited; each has the log sync if need be, except
/// that under [`Durability::Interval`] callbacks and futures complete with the next interval.
#[derive(Clone)]
pub struct Ticket {
    shared: Arc<Shared>,
    written: Written,
}

impl Ticket {
    pub(crate) fn new(shared: &Arc<Shared>, written: Written) -> Self {
        Self { shared: Arc::clone(shared), written }
    }

    /// Number of the batch; batches are numbered in the order they were written.
    pub fn sequence(&self) -> u64 {
        self.written.sequence
    }

    /// Index the next entry got after this batch.
    pub fn next(&self) -> u64 {
        self.written.next
    }

    /// Whether the batch is durable. Costs no I/O.
    pub fn is_durable(&self) -> bool {
        self.shared.syncer.durable() >= self.written.sequence
    }

    /// Waits until the batch is durable, syncing if nobody else does.
    ///
    /// # Errors
    ///
    /// [`Poisoned`](crate::Error::Poisoned) or [`Io`](crate::Error::Io) if a sync failed: whether
    /// the batch survives is unknown then, until the log is reopened.
    pub fn wait(&self) -> Result<()> {
        self.shared.wait_durable(self.written.sequence)
    }

    /// Calls back once, when the batch is durable or a failure has made that impossible. Callbacks
    /// run in the order of their batches, on a thread of the log or of a caller that syncs; they
    /// must not block. A batch that is durable already calls back before this returns, unless
    /// another thread is just calling others back: then it takes its turn after them. One that
    /// panics poisons the log; those after it are called all the same.
    pub fn on_durable(self, callback: impl FnOnce(Result<()>) + Send + 'static) {
        let shared = &self.shared;
        let sequence = self.written.sequence;
        if let Err(forked) = shared.dir.not_forked() {
            // Nobody else is there to call it.
            return callback(Err(forked));
        }
        if !shared.syncer.register(sequence, Box::new(callback), || shared.not_poisoned()) {
            shared.syncer.call_back();
        } else if shared.poison.get().is_some() {
            // Since it was registered, so perhaps after everybody else was told.
            shared.call_back();
        } else if matches!(shared.options.durability, Durability::Interval(_)) {
            // The next interval comes by itself.
        } else if shared.options.background {
            shared.signals.wake_flusher();
        } else if shared.wait_durable(sequence).is_err() {
            // No thread of the log will sync for it, so this one did.
            shared.call_back();
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("sequence", &self.sequence())
            .field("next", &self.next())
            .field("durable", &self.is_durable())
            .finish()
    }
}

impl IntoFuture for Ticket {
    type Output = Result<()>;
    type IntoFuture = Completion;

    fn into_future(self) -> Completion {
        Completion { ticket: Some(self), outcome: Arc::default() }
    }
}

/// Completes when a batch is durable. Works on any executor.
#[derive(Debug)]
pub struct Completion {
    ticket: Option<Ticket>,
    outcome: Arc<Mutex<Outcome>>,
}

#[derive(Debug, Default)]
struct Outcome {
    result: Option<Result<()>>,
    waker: Option<Waker>,
}

impl Future for Completion {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.outcome.lock().waker = Some(context.waker().clone());
        if let Some(ticket) = self.ticket.take() {
            let outcome = Arc::clone(&self.outcome);
            ticket.on_durable(move |result| {
                let waker = {
                    let mut outcome = outcome.lock();
                    outcome.result = Some(result);
                    outcome.waker.take()
                };
                if let Some(waker) = waker {
                    waker.wake();
                }
            });
        }
        match self.outcome.lock().result.clone() {
            Some(result) => Poll::Ready(result),
            None => Poll::Pending,
        }
    }
}

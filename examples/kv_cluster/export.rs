//! The figures of a node's log for Prometheus, at an address of its own (feature `prometheus`).
//!
//! Owns: publishing them from a thread of its own, as the node's loop waits in syncs, and a sync that
//! hangs is what somebody wants to hear of. Does not own: their names (`indelible::Publisher`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use indelible::{Log, Publisher};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use omnipaxos::util::NodeId;
use parking_lot::Mutex;

use crate::failure::{Outcome, Why};

const EVERY: Duration = Duration::from_millis(250);
/// Bounds of buckets, in seconds.
const SECONDS: [f64; 14] =
    [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];
const ENTRIES: [f64; 8] = [1.0, 2.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0];

/// The log whose figures are published; none while the node has none open.
#[derive(Debug, Clone, Default)]
pub(crate) struct Export {
    log: Arc<Mutex<Option<Log>>>,
}

impl Export {
    /// Serves `/metrics` at an address.
    pub(crate) fn serve(&self, id: NodeId, address: &str) -> Outcome<()> {
        let address: SocketAddr = address.parse().why(|| format!("`{address}` is no IP:PORT"))?;
        let exporter = PrometheusBuilder::new()
            .with_http_listener(address)
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .and_then(|it| {
                it.set_buckets_for_metric(Matcher::Suffix("_entries".to_owned()), &ENTRIES)
            });
        exporter.and_then(PrometheusBuilder::install).why(|| format!("cannot serve {address}"))?;
        let (log, mut publisher) = (Arc::clone(&self.log), Publisher::new(format!("node-{id}")));
        thread::spawn(move || {
            loop {
                // Held meanwhile: a log that is about to be closed and opened again has no other user.
                if let Some(log) = &*log.lock() {
                    publisher.publish(log);
                }
                thread::sleep(EVERY);
            }
        });
        Ok(())
    }

    /// Publishes the figures of this log from now on.
    pub(crate) fn show(&self, log: Option<&Log>) {
        *self.log.lock() = log.cloned();
    }
}

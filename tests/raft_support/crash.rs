//! Power cuts at every I/O call of a random history of steps, for the store of any host.
//!
//! A store writes each step as one batch of one ordered stream. So whatever a power cut leaves must
//! be what some prefix of the history left, and no shorter one than was acknowledged: no vote,
//! purge boundary or acknowledged entry is ever lost, and no truncated entry comes back.

use std::fmt::Debug;
use std::sync::Arc;

use indelible::io::sim::{Moment, Persistence, SimDisk};
use indelible::{Log, Options};

/// Steps in one history.
const STEPS: usize = 24;

/// A store, and what can be done with it.
pub(crate) trait Subject: Sized {
    type Step: Debug;

    fn open(log: Log) -> Self;

    /// A step that makes sense now.
    async fn choose(&mut self, random: &mut Random) -> Self::Step;

    /// Takes a step. `Some(true)`: it is acknowledged as durable; `None`: the disk failed.
    async fn take(&mut self, step: &Self::Step) -> Option<bool>;

    /// Everything a host finds on a log when it starts, as text.
    async fn found(log: &Log) -> String;
}

/// A small generator of numbers; the same seed gives the same ones.
pub(crate) struct Random(u64);

impl Random {
    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn options() -> Options {
    Options::new().background(false).tiny_segments(8 * 1024)
}

/// Explores one history; any failure names its seed and the call. Returns how often the power was
/// cut.
pub(crate) async fn explore<S: Subject>(seed: u64) -> u64 {
    let log = Log::in_memory(&options()).unwrap();
    let (mut store, mut random) = (S::open(log.clone()), Random(seed));
    let (mut steps, mut history) = (Vec::new(), vec![S::found(&log).await]);
    for _ in 0..STEPS {
        let step = store.choose(&mut random).await;
        store.take(&step).await.unwrap();
        steps.push(step);
        history.push(S::found(&log).await);
    }

    let (disk, mut store) = start::<S>(seed);
    let first = disk.calls() + 1;
    for step in &steps {
        store.take(step).await.unwrap();
    }
    let calls = first..=disk.calls();
    for call in calls.clone() {
        for moment in [Moment::Before, Moment::Within] {
            let what = format!("seed {seed}, call {call}, {moment:?}, steps {steps:?}");
            cut::<S>(seed, call, moment, &steps, &history, &what).await;
        }
    }
    calls.end() - calls.start()
}

fn start<S: Subject>(seed: u64) -> (SimDisk, S) {
    let disk = SimDisk::new(seed);
    let log = Log::create_in(Arc::new(disk.clone()), &options()).unwrap();
    let store = S::open(log.clone());
    log.sync().unwrap();
    (disk, store)
}

async fn cut<S: Subject>(
    seed: u64,
    call: u64,
    moment: Moment,
    steps: &[S::Step],
    history: &[String],
    what: &str,
) {
    let (disk, mut store) = start::<S>(seed);
    disk.crash_at_call(call, moment);
    let (mut acknowledged, mut reached) = (0, 0);
    for (before, step) in steps.iter().enumerate() {
        reached = before + 1;
        match store.take(step).await {
            Some(true) => acknowledged = reached,
            Some(false) => {}
            None => break,
        }
    }
    drop(store);
    let chances = (0..3).map(|chance| Persistence::Random(seed ^ call ^ (chance << 40)));
    for persistence in [Persistence::Nothing, Persistence::Everything].into_iter().chain(chances) {
        let after = disk.crash_with(persistence);
        let (log, _) = Log::open_in(Arc::new(after.clone()), &options())
            .unwrap_or_else(|error| panic!("{what}, {persistence:?}: {error}"));
        let found = S::found(&log).await;
        let allowed = history.get(acknowledged..=reached).unwrap();
        assert!(allowed.contains(&found), "{what}, {persistence:?}: found {found}");
        // What was found is what every later start finds.
        log.sync().unwrap();
        drop(log);
        let again = after.crash_with(Persistence::Nothing);
        let (log, _) = Log::open_in(Arc::new(again), &options()).unwrap();
        assert_eq!(S::found(&log).await, found, "{what}, {persistence:?}, once more");
    }
}

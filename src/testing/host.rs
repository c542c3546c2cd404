//! Power cuts at every I/O call of a random history of steps, for the store of any host.
//!
//! A store writes each step as one batch of one ordered stream. So whatever a power cut leaves must
//! be what some prefix of the history left, and no shorter one than was acknowledged: no vote,
//! purge boundary or acknowledged entry is ever lost, and no truncated entry comes back.

#![expect(
    async_fn_in_trait,
    reason = "tests await them on the spot, whether they are `Send` or not"
)]

use std::fmt::Debug;
use std::sync::Arc;

use crate::io::sim::{Moment, Persistence, SimDisk};
use crate::{Log, Options};

/// Steps in one history.
const STEPS: usize = 24;

/// A kind of store, and what can be done with it. Implemented by a marker type of the test.
pub trait Subject {
    /// The store.
    type Store;
    /// Something that its host does to it.
    type Step: Debug;

    /// The store on a log.
    fn open(log: Log) -> Self::Store;

    /// A step that makes sense now.
    async fn choose(store: &mut Self::Store, random: &mut Random) -> Self::Step;

    /// Takes a step. `Some(true)`: it is acknowledged as durable; `None`: the disk failed.
    async fn take(store: &mut Self::Store, step: &Self::Step) -> Option<bool>;

    /// Everything a host finds on a log when it starts, as text.
    async fn found(log: &Log) -> String;
}

/// A small generator of numbers; the same seed gives the same ones.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A number below `limit`, which must not be 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn options() -> Options {
    Options::new().background(false).tiny_segments(8 * 1024)
}

/// Explores one history. Returns how often the power was cut.
///
/// # Errors
///
/// What was wrong, with the seed and the call that show it again.
pub async fn explore<S: Subject>(seed: u64) -> Result<u64, String> {
    let log = Log::in_memory(&options()).map_err(|error| error.to_string())?;
    let (mut store, mut random) = (S::open(log.clone()), Random(seed));
    let (mut steps, mut history) = (Vec::new(), vec![S::found(&log).await]);
    for _ in 0..STEPS {
        let step = S::choose(&mut store, &mut random).await;
        if S::take(&mut store, &step).await.is_none() {
            return Err(format!("seed {seed}: {step:?} is refused"));
        }
        steps.push(step);
        history.push(S::found(&log).await);
    }

    let (disk, mut store) = start::<S>(seed).map_err(|error| error.to_string())?;
    let first = disk.calls() + 1;
    for step in &steps {
        if S::take(&mut store, step).await.is_none() {
            return Err(format!("seed {seed}: {step:?} is refused the second time"));
        }
    }
    let calls = first..=disk.calls();
    for call in calls.clone() {
        for moment in [Moment::Before, Moment::Within] {
            cut::<S>(seed, call, moment, &steps, &history).await.map_err(|what| {
                format!("seed {seed}, call {call}, {moment:?}: {what}; {steps:?}")
            })?;
        }
    }
    Ok(calls.end() - calls.start())
}

fn start<S: Subject>(seed: u64) -> crate::Result<(SimDisk, S::Store)> {
    let disk = SimDisk::new(seed);
    let log = Log::create_in(Arc::new(disk.clone()), &options())?;
    let store = S::open(log.clone());
    log.sync()?;
    Ok((disk, store))
}

/// Takes the steps, cuts the power at one call, and holds what is left against the history.
async fn cut<S: Subject>(
    seed: u64,
    call: u64,
    moment: Moment,
    steps: &[S::Step],
    history: &[String],
) -> Result<(), String> {
    let (disk, mut store) = start::<S>(seed).map_err(|error| error.to_string())?;
    disk.crash_at_call(call, moment);
    let (mut acknowledged, mut reached) = (0, 0);
    for (before, step) in steps.iter().enumerate() {
        reached = before + 1;
        match S::take(&mut store, step).await {
            Some(true) => acknowledged = reached,
            Some(false) => {}
            None => break,
        }
    }
    drop(store);
    let allowed = history.get(acknowledged..=reached).unwrap_or_default();
    let chances = (0..3).map(|chance| Persistence::Random(seed ^ call ^ (chance << 40)));
    for persistence in [Persistence::Nothing, Persistence::Everything].into_iter().chain(chances) {
        let opened = |disk: &SimDisk| Log::open_in(Arc::new(disk.clone()), &options());
        let failed = |error: crate::Error| format!("{persistence:?}: {error}");
        let after = disk.crash_with(persistence);
        let (log, _) = opened(&after).map_err(failed)?;
        let found = S::found(&log).await;
        if !allowed.contains(&found) {
            return Err(format!("{persistence:?}: found {found}"));
        }
        // What was found is what every later start finds.
        log.sync().map_err(failed)?;
        drop(log);
        let (log, _) = opened(&after.crash_with(Persistence::Nothing)).map_err(failed)?;
        let again = S::found(&log).await;
        if again != found {
            return Err(format!("{persistence:?}: found {found}, and then {again}"));
        }
    }
    Ok(())
}

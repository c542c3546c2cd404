//! The run: a cluster, a load, kills, restarts, and what can be said at the end.
//!
//! Owns: the frame around what happens; every wait has an end. Does not own: what happens (`acts`),
//! whom a kill hits (`kills`), processes (`cluster`), the load (`load`), the verdict (`check`,
//! `history`), the words (`report`), the page (`page`).

mod acts;
mod disks;
mod rot;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use omnipaxos::util::NodeId;
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::args::{RunChoices, Start};
use crate::check::{Verdict, check};
use crate::client;
use crate::cluster::{Cluster, Restart};
use crate::failure::{Failure, Outcome, Why};
use crate::history;
use crate::input::Input;
use crate::kills::Dice;
use crate::load::{Ledger, Load, histogram};
use crate::page::Page;
use crate::protocol::{Dump, Reply, Request, Status};
use crate::report::Report;
use crate::timeline::Timeline;

/// Longest wait for anything, as long as nothing moves.
const STALL: Duration = Duration::from_secs(30);
/// Least entries between two kills.
const SHARE_MIN: u64 = 100;
/// Least entries where something happens to the disk of a node: so many fill some segments.
const SHARE_OF_A_DISK: u64 = 4_000;
/// What an act may take beside kills, in seconds.
const ACT_SECONDS: u64 = 60;

/// Where the logs are, and whether they stay.
enum Place {
    Chosen(PathBuf),
    Temporary(TempDir),
}

impl Place {
    fn new(chosen: Option<&Path>) -> Outcome<Self> {
        let Some(dir) = chosen else {
            let dir = tempfile::Builder::new().prefix("kv_cluster-").tempdir();
            return Ok(Self::Temporary(dir.why(|| "cannot create a temporary directory")?));
        };
        std::fs::create_dir_all(dir)
            .why(|| format!("cannot create the directory {}", dir.display()))
            .map_err(|failure| failure.hint("choose a directory you may write to: --dir"))?;
        let mut inside = std::fs::read_dir(dir).why(|| format!("cannot read {}", dir.display()))?;
        if inside.next().is_some() {
            return Err(Failure::new(format!("{} is not empty", dir.display()))
                .hint("a run starts a new cluster: choose an empty or new directory"));
        }
        Ok(Self::Chosen(dir.to_owned()))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Chosen(dir) => dir,
            Self::Temporary(dir) => dir.path(),
        }
    }

    /// Keeps a temporary directory after a failure, for a look at it.
    fn keep(self) -> PathBuf {
        match self {
            Self::Chosen(dir) => dir,
            Self::Temporary(dir) => dir.keep(),
        }
    }
}

/// Runs, reports, and says whether nothing was lost.
pub(crate) fn run(mut choices: RunChoices) -> Outcome<bool> {
    let disks = choices.disks();
    let least = SHARE_MIN * (choices.disturbances() + 2) + SHARE_OF_A_DISK * disks;
    let raised = choices.entries < least;
    choices.entries = choices.entries.max(least);
    let input = Input::load(choices.input.as_deref())?;
    let place = Place::new(choices.dir.as_deref())?;
    // Snapshots trim the log; where a disk is to be disturbed, there has to be something on it, however
    // often a slow machine has clients send their entries again.
    let never = choices.entries.saturating_mul(100);
    let snapshot_every = if disks > 0 { never } else { (choices.entries / 20).clamp(200, 5_000) };
    let store = choices.durability.store();
    let mut cluster = Cluster::new(place.path(), store, snapshot_every, choices.metrics)?;
    for id in (1..=3).filter(|id| choices.wants_disk(*id)) {
        cluster.mount(id, choices.seed.wrapping_add(id), choices.only_fills(id))?;
    }
    let timeout = choices.timeout.unwrap_or_else(|| {
        let acts = choices.disturbances() - choices.kills;
        120 + 4 * choices.kills + choices.entries / 200 + ACT_SECONDS * acts
    });
    let started = Instant::now();
    let report = Report::new(choices.quiet, started);
    if raised {
        report.say(&format!("{} entries, to have some between kills", choices.entries));
    }
    report.say(&format!(
        "3 nodes, logs in {}, {} lines of {} bytes, seed {}, durability {}",
        place.path().display(),
        input.lines(),
        input.mean_bytes(),
        choices.seed,
        if store.always { "always" } else { "barrier" },
    ));
    let load = Load::start(&input, choices.entries, choices.window, started)?;
    let timeline = Timeline::start(cluster.addresses(), started);
    let mut run = Run {
        dice: Dice(choices.seed),
        ledger: Arc::clone(&load.ledger),
        deadline: started + Duration::from_secs(timeout),
        kept: choices.dir.is_some(),
        choices,
        cluster,
        input,
        report,
        forgotten: 0,
    };
    let good = run.all().unwrap_or_else(|failure| {
        run.explain(&failure);
        false
    });
    drop(load);
    run.draw(timeline, good)?;
    drop(run);
    if !good && matches!(place, Place::Temporary(_)) {
        eprintln!("the logs stay in {}", place.keep().display());
    }
    Ok(good)
}

struct Run {
    dice: Dice,
    ledger: Arc<Mutex<Ledger>>,
    deadline: Instant,
    choices: RunChoices,
    cluster: Cluster,
    input: Input,
    report: Report,
    /// The logs stay when the run is over.
    kept: bool,
    /// Restarts after which a node knew less than it had told.
    forgotten: u64,
}

impl Run {
    fn all(&mut self) -> Outcome<bool> {
        for id in [1, 2, 3] {
            self.cluster.start(id, Start::New)?;
        }
        for id in [1, 2, 3] {
            self.cluster.await_answer(id, Instant::now())?;
        }
        self.await_leader()?;
        let started = Instant::now();
        let undisturbed = self.undisturbed()?;
        self.ledger.lock().latency = histogram()?;
        self.disturbed(undisturbed)?;
        let writing = started.elapsed();
        self.await_acknowledged(self.choices.entries)?;
        self.report.wrote(self.choices.entries, writing, &self.ledger.lock());
        let mut verdict = self.verdict()?;
        // A node that forgot what it told its peers differs from them, whatever its entries.
        verdict.diverged += self.forgotten;
        let explained = self.explained();
        self.look_inside()?;
        self.report.summary(&verdict, self.forgotten);
        Ok(verdict.lost == 0 && verdict.diverged == 0 && explained)
    }

    /// Whether all that clients saw can be explained by commands that act one at a time.
    fn explained(&self) -> bool {
        let ledger = self.ledger.lock();
        match history::check(&ledger.seen, &self.input) {
            Ok(keys) => {
                let count = ledger.seen.len();
                self.report.fact(format!(
                    "history:       {count} commands on {keys} keys, linearizable as seen by their \
                     clients"
                ));
                true
            }
            Err(why) => {
                self.report.fact(format!("FOUND: the history is not linearizable: {why}"));
                false
            }
        }
    }

    /// Says how to see what is in a log: in that of the node that has trimmed least.
    fn look_inside(&mut self) -> Outcome<()> {
        let statuses = self.cluster.survey();
        let longest = statuses.iter().min_by_key(|status| status.compacted);
        if self.kept {
            self.cluster.keep()?;
        }
        match longest.map(|status| self.cluster.log_of(status.id)) {
            Some(log) if self.kept => self.report.fact(format!(
                "look inside:   indelible dump '{}' --decode=omnipaxos --payload '{} decode'",
                log.display(),
                std::env::current_exe().unwrap_or_else(|_| "kv_cluster".into()).display()
            )),
            _ => self.report.say("--dir DIR would keep the logs, to be looked into"),
        }
        Ok(())
    }

    fn draw(&self, timeline: Timeline, good: bool) -> Outcome<()> {
        let lanes = timeline.finish();
        let Some(path) = &self.choices.html else { return Ok(()) };
        let ledger = self.ledger.lock();
        let facts = self.report.facts();
        let title = if good { "kv_cluster: nothing lost" } else { "kv_cluster: FAILED" };
        let page = Page {
            title: title.to_owned(),
            facts: &facts,
            seen: &ledger.seen,
            lanes: &lanes,
            events: &self.report.events(),
            end: ledger.started.elapsed(),
        };
        std::fs::write(path, page.render()).why(|| format!("cannot write {}", path.display()))
    }

    /// The first part of the entries, with every node up: what the numbers are when nothing goes
    /// wrong.
    fn undisturbed(&mut self) -> Outcome<u64> {
        let part = self.choices.entries / if self.choices.disturbances() == 0 { 1 } else { 4 };
        let syncs = |statuses: &[Status]| statuses.iter().map(|s| s.syncs).collect::<Vec<_>>();
        let before = syncs(&self.cluster.survey());
        let started = Instant::now();
        self.ledger.lock().quota = part;
        self.await_acknowledged(part)?;
        let took = started.elapsed();
        let after = syncs(&self.cluster.survey());
        let per_node: Vec<u64> =
            before.iter().zip(&after).map(|(b, a)| a.saturating_sub(*b)).collect();
        self.report.undisturbed(part, took, &self.ledger.lock(), &per_node);
        Ok(part)
    }

    fn note_restart(&mut self, restart: &Restart) {
        if let Some(forgotten) = &restart.forgotten {
            self.forgotten += 1;
            self.report.say(&format!("FORGOTTEN by node {}: {forgotten}", restart.status.id));
        }
    }

    /// Stops every node at once, starts them from their logs, and compares what they hold.
    fn verdict(&mut self) -> Outcome<Verdict> {
        let everyone = self.cluster.running();
        self.cluster.survey();
        self.cluster.kill(&everyone)?;
        self.report
            .say("all entries acknowledged; all nodes killed; checking what their logs hold");
        let started = Instant::now();
        for id in &everyone {
            self.cluster.start(*id, Start::Again)?;
        }
        for id in &everyone {
            let restart = self.cluster.await_answer(*id, started)?;
            self.note_restart(&restart);
            self.report.recovered(&restart, None);
        }
        let index_of = std::mem::take(&mut self.ledger.lock().index_of);
        let end = index_of.iter().flatten().max().map_or(0, |index| index + 1);
        self.await_applied(&everyone, usize::try_from(end).unwrap_or(usize::MAX))?;
        self.report.checked(started.elapsed());
        let mut dumps: Vec<(NodeId, Dump)> = Vec::new();
        loop {
            dumps.clear();
            for id in &everyone {
                let address = self.cluster.address(*id);
                match client::ask(&address, &Request::Dump, STALL)? {
                    Reply::Dump(dump) => dumps.push((*id, dump)),
                    _ => return Err(Failure::new(format!("node {id} gave no dump"))),
                }
            }
            // A follower may be about to apply entries that were decided again just now.
            let lengths: Vec<usize> = dumps.iter().map(|(_, dump)| dump.history.len()).collect();
            let level = lengths.iter().min() == lengths.iter().max();
            if level || started.elapsed() > STALL {
                return Ok(check(&dumps, &self.input, &index_of));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Commands acknowledged, and in flight.
    fn progress(&self) -> (u64, usize) {
        let ledger = self.ledger.lock();
        (ledger.acknowledged, ledger.in_flight())
    }

    fn await_acknowledged(&mut self, goal: u64) -> Outcome<()> {
        let (mut since, mut last, mut look) = (Instant::now(), 0, Instant::now());
        loop {
            let (acknowledged, in_flight) = self.progress();
            if acknowledged >= goal {
                return Ok(());
            }
            if acknowledged > last {
                (since, last) = (Instant::now(), acknowledged);
            }
            self.within_bounds(since, &format!("acknowledgement {goal} (now {acknowledged})"))?;
            if look.elapsed() > Duration::from_secs(1) {
                look = Instant::now();
                self.cluster.check_all_alive()?;
                self.report.progress(acknowledged, self.choices.entries, in_flight);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Waits until the load has taken up its new quota; it may be through with it already.
    fn await_in_flight(&mut self, quota: u64) -> Outcome<()> {
        let started = Instant::now();
        loop {
            let (acknowledged, in_flight) = self.progress();
            if in_flight > 0 || acknowledged >= quota {
                return Ok(());
            }
            self.within_bounds(started, "entries in flight")?;
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    fn await_applied(&mut self, ids: &[NodeId], goal: usize) -> Outcome<()> {
        let started = Instant::now();
        let there = |status: &Status| !ids.contains(&status.id) || status.applied >= goal;
        loop {
            let statuses = self.cluster.survey();
            if statuses.len() >= ids.len() && statuses.iter().all(there) {
                return Ok(());
            }
            self.cluster.check_all_alive()?;
            self.within_bounds(started, &format!("nodes {ids:?} to apply {goal} entries"))?;
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn await_leader(&mut self) -> Outcome<()> {
        let started = Instant::now();
        while self.leader().is_none() {
            self.within_bounds(started, "a leader")?;
            std::thread::sleep(Duration::from_millis(10));
        }
        self.prefer_leader();
        Ok(())
    }

    /// The node that says it leads; the one of the highest round if several do.
    fn leader(&mut self) -> Option<NodeId> {
        let running = self.cluster.running();
        self.leader_among(&running)
    }

    fn leader_among(&mut self, ids: &[NodeId]) -> Option<NodeId> {
        let statuses = self.cluster.survey_of(ids);
        let leaders = statuses.iter().filter(|status| status.role == "leader");
        leaders.max_by_key(|status| status.oath.promise).map(|status| status.id)
    }

    /// Tells the load where to go: mostly to the leader, now and then to somebody else.
    fn prefer_leader(&mut self) {
        let leader = self.leader();
        let mut ids: Vec<NodeId> = self.cluster.members.nodes.keys().copied().collect();
        ids.sort_by_key(|id| Some(*id) != leader);
        if leader.is_some() && self.dice.below(4) == 0 {
            ids.rotate_left(1);
        }
        let targets = ids.iter().map(|id| self.cluster.address(*id)).collect();
        self.ledger.lock().targets = targets;
    }

    fn within_bounds(&self, since: Instant, what: &str) -> Outcome<()> {
        if Instant::now() > self.deadline {
            return Err(Failure::new(format!("out of time, waiting for {what}"))
                .hint("--timeout SECONDS allows more"));
        }
        if since.elapsed() > STALL {
            return Err(Failure::new(format!("the cluster hangs: {STALL:?} without {what}")));
        }
        Ok(())
    }

    /// After a failure: what every node says.
    fn explain(&mut self, failure: &Failure) {
        eprintln!("{failure}");
        for id in self.cluster.running() {
            eprintln!("{}", client::describe(id, &self.cluster.address(id)));
            eprint!("{}", crate::cluster::tail(&self.cluster.errors_of(id)));
        }
        let acknowledged = self.ledger.lock().acknowledged;
        eprintln!("acknowledged {acknowledged}, not checked");
    }
}

//! The run: a cluster, a load, kills, restarts, and what can be said at the end.
//!
//! Owns: the order of events; every wait has an end. Does not own: whom a kill hits (`kills`),
//! processes (`cluster`), the load (`load`), the verdict (`check`), the words (`report`).

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
use crate::input::Input;
use crate::kills::{Dice, Kill, Kind, choose, plan};
use crate::load::{Ledger, Load, histogram};
use crate::protocol::{Dump, Reply, Request, Status};
use crate::report::Report;

/// Longest wait for anything, as long as nothing moves.
const STALL: Duration = Duration::from_secs(30);
/// Least entries between two kills.
const SHARE_MIN: u64 = 100;

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
    let least = SHARE_MIN * (choices.kills + 2);
    let raised = choices.entries < least;
    choices.entries = choices.entries.max(least);
    let input = Input::load(choices.input.as_deref())?;
    let place = Place::new(choices.dir.as_deref())?;
    let snapshot_every = (choices.entries / 20).clamp(200, 5_000);
    let cluster = Cluster::new(place.path(), choices.store, snapshot_every)?;
    let timeout = choices
        .timeout
        .unwrap_or_else(|| Duration::from_secs(60 + 4 * choices.kills + choices.entries / 200));
    let report = Report::new(choices.quiet);
    if raised {
        report.say(&format!("{} entries, to have some between kills", choices.entries));
    }
    report.say(&format!(
        "3 nodes, logs in {}, {} lines of {} bytes, seed {}, durability {}",
        place.path().display(),
        input.lines(),
        input.mean_bytes(),
        choices.seed,
        if choices.store.always { "always" } else { "barrier" },
    ));
    let load = Load::start(input.clone(), choices.entries, choices.window)?;
    let mut run = Run {
        dice: Dice(choices.seed),
        ledger: Arc::clone(&load.ledger),
        deadline: Instant::now() + timeout,
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
        self.report.summary(&verdict, self.forgotten);
        Ok(verdict.lost == 0 && verdict.diverged == 0)
    }

    /// The first part of the entries, with every node up: what the numbers are when nothing goes
    /// wrong.
    fn undisturbed(&mut self) -> Outcome<u64> {
        let whole = self.choices.kills == 0 && !self.choices.reconfigure;
        let part = if whole { self.choices.entries } else { self.choices.entries / 4 };
        let syncs = |statuses: &[Status]| statuses.iter().map(|s| s.syncs).collect::<Vec<_>>();
        let before = syncs(&self.cluster.survey());
        let started = Instant::now();
        self.ledger.lock().quota = part;
        self.await_acknowledged(part)?;
        let took = started.elapsed();
        let after = syncs(&self.cluster.survey());
        let per_node: Vec<u64> =
            before.iter().zip(&after).map(|(b, a)| a.saturating_sub(*b)).collect();
        Report::undisturbed(part, took, &self.ledger.lock(), &per_node);
        Ok(part)
    }

    fn disturbed(&mut self, done: u64) -> Outcome<()> {
        let plan = plan(&mut self.dice, self.choices.kills);
        let steps = plan.len() as u64 + 1;
        let share = (self.choices.entries - done) / steps.max(1);
        let half = plan.len() / 2;
        let mut killed = 0;
        for (step, kind) in plan.iter().enumerate() {
            let base = done + share * step as u64;
            if self.choices.reconfigure && step == half {
                self.ledger.lock().quota = base + share / 4;
                self.replace_a_node()?;
            }
            killed += self.kill_and_restart(*kind, killed, base, share)?;
        }
        self.ledger.lock().quota = self.choices.entries;
        if self.choices.reconfigure && plan.is_empty() {
            self.replace_a_node()?;
        }
        self.await_acknowledged(self.choices.entries)
    }

    /// Lets entries `base..base + share` be written, kills in the midst of them, waits a little,
    /// restarts, and holds each victim against what it had let others see.
    fn kill_and_restart(&mut self, kind: Kind, killed: u64, base: u64, share: u64) -> Outcome<u64> {
        let members: Vec<NodeId> = self.cluster.members.nodes.keys().copied().collect();
        let leader = self.leader();
        let victims = choose(&mut self.dice, kind, &members, leader);
        let survey = self.cluster.survey();
        let moment = base + share * self.dice.below(60) / 100 + 1;
        self.ledger.lock().quota = moment;
        self.await_acknowledged(moment)?;
        self.ledger.lock().quota = base + share;
        self.await_in_flight(base + share)?;
        std::thread::sleep(Duration::from_micros(self.dice.below(1_000)));
        self.cluster.kill(&victims)?;
        let (acknowledged, in_flight) = {
            let ledger = self.ledger.lock();
            (ledger.acknowledged, ledger.in_flight)
        };
        std::thread::sleep(Duration::from_millis(self.dice.below(400)));
        // Whatever others have seen of the victims by now, they have seen before their death.
        self.cluster.survey();
        let goal = survey.iter().map(|status| status.applied).max().unwrap_or(0);
        let started = Instant::now();
        for id in &victims {
            self.cluster.start(*id, Start::Again)?;
        }
        let mut restarts = Vec::new();
        for id in &victims {
            restarts.push(self.cluster.await_answer(*id, started)?);
        }
        self.await_applied(&victims, goal)?;
        let caught_up = started.elapsed();
        for restart in &restarts {
            self.note_restart(restart);
        }
        let count = victims.len() as u64;
        self.report.kill(&Kill {
            number: killed + count,
            of: self.choices.kills,
            victims,
            leader,
            acknowledged,
            in_flight,
            restarts,
            caught_up,
        });
        self.prefer_leader();
        Ok(count)
    }

    fn note_restart(&mut self, restart: &Restart) {
        if let Some(forgotten) = &restart.forgotten {
            self.forgotten += 1;
            self.report.say(&format!("FORGOTTEN by node {}: {forgotten}", restart.status.id));
        }
    }

    /// Kills a node for good and puts a new one into its place, by a stop sign; kills and restarts
    /// one more in the midst of it.
    fn replace_a_node(&mut self) -> Outcome<()> {
        let started = Instant::now();
        let old = self.dice.pick(&[1, 2, 3]).unwrap_or(3);
        let new = 4;
        self.cluster.start(new, Start::Join)?;
        self.cluster.await_answer(new, started)?;
        self.cluster.survey();
        self.cluster.kill(&[old])?;
        let address = self.cluster.address(new);
        let next = self.cluster.members.replacing(old, new, &address)?;
        let request = Request::Replace { old, new, address };
        let survivors: Vec<NodeId> =
            self.cluster.members.nodes.keys().copied().filter(|id| *id != old).collect();
        let mut asked = Instant::now();
        let mut turn = 0;
        let reached = |statuses: &[Status]| {
            let there =
                |status: &&Status| status.members.config >= next.config && status.role != "joining";
            statuses.iter().filter(there).count() == next.nodes.len()
        };
        while !reached(&self.cluster.survey()) {
            self.within_bounds(started, "the change of configuration")?;
            // A stop sign proposed to a node that loses touch with its leader is lost: ask again,
            // elsewhere.
            if asked.elapsed() > Duration::from_millis(500) || turn == 0 {
                let id = survivors.get(turn % survivors.len().max(1)).copied().unwrap_or(new);
                let address = self.cluster.address(id);
                let _asked_again_later = client::ask(&address, &request, Duration::from_secs(1));
                if turn == 0 {
                    self.kill_in_between(&[survivors.as_slice(), &[new]].concat())?;
                }
                (asked, turn) = (Instant::now(), turn + 1);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.cluster.members = next;
        self.report.replaced(old, new, &self.cluster.members.to_string(), started.elapsed());
        self.prefer_leader();
        Ok(())
    }

    fn kill_in_between(&mut self, candidates: &[NodeId]) -> Outcome<()> {
        std::thread::sleep(Duration::from_millis(self.dice.below(60)));
        let Some(victim) = self.dice.pick(candidates) else {
            return Ok(());
        };
        self.cluster.kill(&[victim])?;
        self.cluster.survey();
        let started = Instant::now();
        self.cluster.start(victim, Start::Again)?;
        let restart = self.cluster.await_answer(victim, started)?;
        self.note_restart(&restart);
        self.report.recovered(&restart, None);
        self.report
            .say(&format!("node {victim} killed and restarted while the configuration changes"));
        Ok(())
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
                match client::ask(&address, &Request::Dump, Duration::from_secs(10))? {
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

    fn await_acknowledged(&mut self, goal: u64) -> Outcome<()> {
        let (mut since, mut last, mut look) = (Instant::now(), 0, Instant::now());
        loop {
            let (acknowledged, in_flight) = {
                let ledger = self.ledger.lock();
                (ledger.acknowledged, ledger.in_flight)
            };
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
            let (acknowledged, in_flight) = {
                let ledger = self.ledger.lock();
                (ledger.acknowledged, ledger.in_flight)
            };
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
        let statuses = self.cluster.survey();
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

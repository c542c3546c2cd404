//! Repair: what an operator may decide when recovery refuses, and refill, which makes it good again.
//!
//! Owns: saying what would be done and lost ([`plan`]), doing it ([`apply`]), and putting missing
//! entries back ([`refill`]). Does not own: finding damage (`inspect`), or any loss that is not
//! stated first.
//!
//! A repair cuts nothing off that is readable. Entries that are not are marked as missing (frames of
//! the kind Hole), so that what follows keeps its indexes; the log then opens only with
//! [`Options::allow_holes`](crate::Options::allow_holes) until they were refilled.
//!
//! Of a side file that is lost the bytes cannot be had again, unless they were zeros. If an open would
//! refuse it, it is written anew with its length: the log opens then, and whoever reads the cell is
//! refused, because the checksum there is that of what was lost. A snapshot that is lost never looks as
//! if there had been none.
//!
//! What is copied is checked as it is read: a medium may give other bytes than when the plan was made.
//!
//! Steps of [`apply`], with the lock held: (0) a copy of every file that will change, in
//! `repair-<n>`, (1) files under a wrong name get theirs back, and side files are written, (2) if the
//! tail is damaged, a new tail under a number of its own, (3) both slots, with the missing entries
//! counted, (4) rebuilt sealed segments in place of the damaged ones, (5) the damaged tail is removed.
//! The commit point is (3). A crash before it leaves the log as it was, with junk, but for (1); a crash
//! after it leaves damaged segments in a log that says it is incomplete, and another repair goes on
//! from there.

mod from_peer;
mod plan;
mod preview;
mod rebuild;
mod refill;
mod salvage;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::from_peer::{FromPeer, RefillError, Refusal, refill_from};
pub use self::preview::{preview, preview_repaired};
#[cfg(feature = "testing")]
pub use self::refill::refill_in;
pub use self::refill::{Refilled, missing, refill};
pub use crate::state::LOST_BATCHES;

use self::plan::Work;
use crate::directory::Dir;
use crate::error::{Error, Result};
use crate::inspect::misnamed::{Misnamed, misnamed, view};
use crate::inspect::scene::Scene;
use crate::inspect::{Progress, os_door};
use crate::io::Lock;
use crate::io::os::OsDirectory;
use crate::recovery::observe::Files;

/// How many `repair-<n>` directories are looked for.
const KEPT_MAX: u32 = 10_000;

/// What a repair would do.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Plan {
    /// Why nothing can be done here, if so. The rest is empty then.
    pub obstacle: Option<Obstacle>,
    /// What would be done, in this order.
    pub steps: Vec<Step>,
    /// What would be lost, or is lost already.
    pub losses: Vec<Loss>,
}

impl Plan {
    /// Whether there is nothing to be done. Something may be lost all the same.
    pub fn is_empty(&self) -> bool {
        self.obstacle.is_none() && self.steps.is_empty()
    }
}

/// Why a log cannot be repaired.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Obstacle {
    /// The checkpoint is unreadable.
    Checkpoint(Error),
    /// The tail segment is not there.
    Tail(Error),
    /// The metadata file is an older copy: there are batches that its checkpoint excludes.
    Stale(Error),
    /// A file beside the segments is one of another log.
    OfAnother(Error),
    /// Something else stands under the name of a file of the log.
    NotAFile(Error),
    /// Several files claim to be one segment.
    Ambiguous {
        /// The segment's number.
        number: u64,
    },
}

impl Obstacle {
    /// What an open returns, where it returns an error.
    pub fn error(&self) -> Option<&Error> {
        match self {
            Self::Checkpoint(error)
            | Self::Tail(error)
            | Self::Stale(error)
            | Self::OfAnother(error)
            | Self::NotAFile(error) => Some(error),
            Self::Ambiguous { .. } => None,
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint(error) => write!(
                f,
                "{error}\nWhat this node promised is summarised only there: a batch can be \
                 committed in the slots alone, so no walk over the segments proves that nothing \
                 is missing. An older copy of the file would be refused, or forget what was \
                 promised since: rebuild the node as a new member."
            ),
            Self::Tail(error) => write!(
                f,
                "{error}\nIt is the newest segment: entries, promises and votes that no other \
                 file holds. Rebuild the node as a new member."
            ),
            Self::Stale(error) => write!(
                f,
                "{error}\nAn earlier copy of the metadata file was put back. What this node promised \
                 since may be summarised only in the one that is gone: rebuild the node as a new \
                 member."
            ),
            Self::OfAnother(error) => write!(
                f,
                "{error}\nIt is a segment of another log. Move it back to where it came from: an open \
                 removes what it does not need."
            ),
            Self::NotAFile(error) => write!(
                f,
                "{error}\nWith the file back under its name there may be nothing to repair. If it is \
                 gone, move this away, and plan again: a repair replaces only files."
            ),
            Self::Ambiguous { number } => write!(
                f,
                "there are several files of segment {number}; move those away that do not belong \
                 to this log"
            ),
        }
    }
}

/// One step of a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A segment gets the name back that its header states.
    Rename {
        /// The file.
        segment: String,
        /// Its name.
        to: String,
    },
    /// A segment is written anew, with entries marked as missing; none, if only its header, table
    /// or footer is wrong.
    Rebuild {
        /// The file.
        segment: String,
        /// The entries.
        missing: Vec<Range<u64>>,
    },
    /// A segment that is not there is written anew, all its entries marked as missing.
    Recreate {
        /// Its number.
        number: u64,
        /// The entries.
        missing: Range<u64>,
    },
    /// What is left of the tail goes to a new segment, with entries marked as missing.
    ReplaceTail {
        /// The damaged file.
        segment: String,
        /// The number of the new one.
        number: u64,
        /// The entries.
        missing: Vec<Range<u64>>,
    },
    /// A side file is written anew, with zeros for its bytes. If that is what they were
    /// ([`Plan::losses`] tells), it is as before; else the log opens with it, and a read of the cell is
    /// refused as [`Error::Damaged`] until something else is attached there.
    SideFile {
        /// The file.
        file: String,
        /// A cell that refers to it.
        cell: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rename { segment, to } => {
                write!(f, "rename {segment} to {to}, as its header has it")
            }
            Self::Rebuild { segment, missing } if missing.is_empty() => {
                write!(f, "write {segment} anew: every entry is readable, its table or header not")
            }
            Self::Rebuild { segment, missing } => {
                write!(f, "write {segment} anew and mark entries {} as missing", list(missing))
            }
            Self::Recreate { number, missing } => write!(
                f,
                "write segment {number} anew and mark entries {}..{} as missing",
                missing.start, missing.end
            ),
            Self::ReplaceTail { segment, number, missing } => {
                write!(f, "go on in a new tail, segment {number}, with what is left of {segment}")?;
                if missing.is_empty() {
                    return Ok(());
                }
                write!(f, ", and mark entries {} as missing", list(missing))
            }
            Self::SideFile { file, cell } => write!(
                f,
                "write {file} anew, as long as the cell {cell} says and filled with zeros"
            ),
        }
    }
}

/// Something that is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// Entries that had been acknowledged. A peer or a backup may have them.
    Entries(Vec<Range<u64>>),
    /// Entries that are readable, and that a missing segment may have replaced: which version
    /// counts cannot be told. A peer or a backup may have them.
    Replaceable(Vec<Range<u64>>),
    /// Batches that are known to have been durable, and are not whole; see [`LOST_BATCHES`].
    Batches(Range<u64>),
    /// This batch and any after it, if there were any: what would tell is gone with them, in a tail
    /// that was cut short, or that cannot be read on either side of the checkpoint's place; see
    /// [`LOST_BATCHES`].
    Unknown(u64),
    /// What a cell refers to. A read of it is refused; it never looks as if there were nothing.
    SideFile {
        /// The file.
        file: String,
        /// A cell that refers to it.
        cell: String,
    },
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entries(ranges) => write!(
                f,
                "entries {}: acknowledged by this node. Those that were decided or committed are \
                 with its peers, and can be refilled",
                list(ranges)
            ),
            Self::Replaceable(ranges) => write!(
                f,
                "entries {}: readable, but given up, because a missing segment may have replaced \
                 them, and a stale entry is worse than a missing one. They can be refilled as well",
                list(ranges)
            ),
            Self::Batches(range) => write!(
                f,
                "batches {}..{}, in whole or in part: acknowledged by this node. Each can have \
                 carried entries, and state: a promise, a vote, an accepted round, a decided \
                 index. If it did, this node forgets that, and must not take part as if it \
                 remembered: let it rejoin as a new member unless you know better",
                range.start, range.end
            ),
            Self::Unknown(first) => write!(
                f,
                "batches from {first} on, if there were any: what would tell is unreadable too. Each \
                 can have carried a promise, a vote, an accepted round or a decided index that was \
                 acknowledged, so this node must not take part as if it remembered: let it rejoin \
                 as a new member unless you know better"
            ),
            Self::SideFile { file, cell } => write!(
                f,
                "what the cell {cell} refers to, {file}: a read of it is refused. If it was a \
                 snapshot, the entries it replaced are gone with it: bring the file back from a \
                 backup, or rebuild the node from its peers"
            ),
        }
    }
}

fn list(ranges: &[Range<u64>]) -> String {
    const SHOWN: usize = 8;
    let mut out: Vec<String> =
        ranges.iter().take(SHOWN).map(|range| format!("{}..{}", range.start, range.end)).collect();
    if ranges.len() > SHOWN {
        out.push(format!("and {} more ranges", ranges.len() - SHOWN));
    }
    out.join(", ")
}

/// What a repair of the log in a directory would do and lose. Changes nothing, takes no lock.
///
/// # Errors
/// [`Error::Missing`], [`Error::UnsupportedVersion`], [`Error::UnsupportedFeature`],
/// [`Error::Io`]; [`Error::Damaged`] if the checkpoint is not that of these segments.
pub fn plan(path: impl AsRef<Path>) -> Result<Plan> {
    plan_with(path, &mut |_| ())
}

/// As [`plan`], with the bytes of segments that were looked at.
///
/// # Errors
/// As [`plan`].
pub fn plan_with(path: impl AsRef<Path>, progress: &mut dyn FnMut(Progress)) -> Result<Plan> {
    let path = path.as_ref();
    plan_of(&Dir::read_only(Arc::new(os_door(path)?), path), progress)
}

/// What a repair of a log through any I/O door would do and lose.
///
/// # Errors
/// As [`plan`].
#[cfg(feature = "testing")]
pub fn plan_in(directory: Arc<dyn crate::io::Directory>) -> Result<Plan> {
    plan_of(&Dir::read_only(directory, ""), &mut |_| ())
}

fn plan_of(dir: &Dir, progress: &mut dyn FnMut(Progress)) -> Result<Plan> {
    let misnamed = misnamed(dir)?;
    let dir = &view(dir, &misnamed);
    Ok(with_names(&Work::of(dir, &Scene::of(dir)?, progress)?.plan, &misnamed))
}

/// A plan that begins with giving files their names back.
fn with_names(plan: &Plan, misnamed: &[Misnamed]) -> Plan {
    let mut plan = plan.clone();
    if plan.obstacle.is_none() {
        let step = |it: &Misnamed| {
            let (segment, to) = (it.found.to_string(), it.right.to_string());
            Step::Rename { segment, to }
        };
        plan.steps.splice(0..0, misnamed.iter().map(step));
    }
    plan
}

/// Repairs the log in a directory: does what [`plan`] says, and keeps a copy of every file it
/// changes in the directory `repair-<n>` below. Returns what was done and where the copies are;
/// with nothing to do, nothing is touched.
///
/// # Errors
/// As [`plan`]; [`Error::Locked`]; [`Error::Damaged`] if there is an obstacle, or, with the reason
/// `Unsteady`, if the medium gives other bytes than when the repair was planned: then another repair
/// goes on from there; [`Error::DiskFull`], [`Error::TooLarge`] if a segment with its marks does not
/// fit.
pub fn apply(path: impl AsRef<Path>) -> Result<(Plan, Option<PathBuf>)> {
    Repair::prepare(path, &mut |_| ())?.carry_out(&mut |_| ())
}

/// Repairs a log through any I/O door, and keeps copies through another one, in an empty directory.
///
/// # Errors
/// As [`apply`].
#[cfg(feature = "testing")]
pub fn apply_in(
    directory: Arc<dyn crate::io::Directory>,
    kept: Arc<dyn crate::io::Directory>,
) -> Result<Plan> {
    let repair = Repair::of(Dir::new(directory, ""), &mut |_| ())?;
    repair.apply(|| Ok(Some(Dir::new(kept, ""))), &mut |_| ())
}

/// A repair that was planned and not carried out yet. Nobody else can open the log meanwhile.
#[derive(Debug)]
pub struct Repair {
    dir: Dir,
    /// Files under a wrong name; all else was planned as if they had theirs.
    misnamed: Vec<Misnamed>,
    /// The directory as if they had.
    seen: Dir,
    scene: Scene,
    work: Work,
    /// The renames, and what the work is.
    plan: Plan,
    _lock: Box<dyn Lock>,
}

impl Repair {
    /// Locks the log in a directory and plans its repair. Changes nothing. Progress counts bytes of
    /// segments that were looked at.
    ///
    /// # Errors
    /// As [`plan`]; [`Error::Locked`].
    pub fn prepare(path: impl AsRef<Path>, progress: &mut dyn FnMut(Progress)) -> Result<Self> {
        let path = path.as_ref();
        Self::of(Dir::new(Arc::new(os_door(path)?), path), progress)
    }

    fn of(dir: Dir, progress: &mut dyn FnMut(Progress)) -> Result<Self> {
        // The file of the lock is not left where there is no log.
        if !Files::list(&dir)?.any() {
            return Err(Error::Missing { path: dir.path().to_path_buf() });
        }
        let lock = dir.lock()?;
        let misnamed = misnamed(&dir)?;
        let seen = view(&dir, &misnamed);
        let scene = Scene::of(&seen)?;
        let work = Work::of(&seen, &scene, progress)?;
        let plan = with_names(&work.plan, &misnamed);
        Ok(Self { dir, misnamed, seen, scene, work, plan, _lock: lock })
    }

    /// What would be done and lost.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Does it. Returns as [`apply`]. Progress counts bytes of segments that were copied and written.
    ///
    /// # Errors
    /// As [`apply`].
    pub fn carry_out(self, progress: &mut dyn FnMut(Progress)) -> Result<(Plan, Option<PathBuf>)> {
        let mut kept = None;
        let path = self.dir.path().to_path_buf();
        let keep = || {
            let dir = kept_in(&path)?;
            kept = Some(dir.path().to_path_buf());
            Ok(Some(dir))
        };
        let plan = self.apply(keep, progress)?;
        Ok((plan, kept))
    }

    fn apply(
        self,
        kept: impl FnOnce() -> Result<Option<Dir>>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Plan> {
        let Self { dir, misnamed, seen, scene, work, plan, _lock } = self;
        if let Some(error) = plan.obstacle.as_ref().and_then(Obstacle::error) {
            return Err(error.clone());
        }
        if plan.obstacle.is_some() || plan.steps.is_empty() {
            return Ok(plan);
        }
        let mut tally = Tally::new(progress, work.bytes(&seen, &scene));
        if !work.plan.steps.is_empty()
            && let Some(kept) = kept()?
        {
            work.keep(&seen, &scene, &kept, &mut tally)?;
            // Makes the name of their directory durable before anything changes.
            dir.sync()?;
        }
        for it in &misnamed {
            dir.rename(&it.found.to_string(), &it.right.to_string())?;
        }
        if !misnamed.is_empty() {
            // Makes the names durable before anything else changes. A crash before it leaves some of
            // them wrong, and another repair goes on from there.
            dir.sync()?;
        }
        if !work.plan.steps.is_empty() {
            work.carry_out(&dir, scene, &mut tally)?;
        }
        Ok(plan)
    }
}

/// How many bytes of how many were copied and written.
pub(super) struct Tally<'a> {
    progress: &'a mut dyn FnMut(Progress),
    so_far: Progress,
}

impl<'a> Tally<'a> {
    fn new(progress: &'a mut dyn FnMut(Progress), total: u64) -> Self {
        Self { progress, so_far: Progress { done: 0, total } }
    }

    /// So many more are done.
    fn add(&mut self, bytes: u64) {
        self.so_far.done = self.so_far.done.saturating_add(bytes);
        (self.progress)(self.so_far);
    }
}

/// A new directory for the files that a repair changes.
fn kept_in(path: &Path) -> Result<Dir> {
    for number in 1..KEPT_MAX {
        let kept = path.join(format!("repair-{number}"));
        if OsDirectory::open(&kept).is_err() {
            let door = OsDirectory::create(&kept)?;
            return Ok(Dir::new(Arc::new(door), kept));
        }
    }
    Err(Error::AlreadyExists { path: path.join(format!("repair-{KEPT_MAX}")) })
}

//! The recovery table: from what was seen to what is done, nothing else.
//!
//! 1. [`Seen`] holds what was read: what there is of files, and the numbers of batches that frames and
//!    headers state. Nothing in it is a conclusion.
//! 2. Two columns follow from the numbers. Between *torn* and *acknowledged*: with `n` the batch after
//!    the last whole one, a header of `n` or a later batch means that something was begun after it; one
//!    that states `n` as durable means that it was acknowledged. And whether the checkpoint is older
//!    than the log: a frame stands where it says that none can be.
//! 3. Every combination of columns is matched by exactly one row.
//!
//! Tests enumerate the columns and the numbers. The table with its reasons is in docs/RECOVERY.md, and
//! a test reads it there.

use crate::planted::{Bug, planted};
use crate::segment::walk::Evidence;

/// What the metadata file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetadataFact {
    Absent,
    /// Both slots, or the length, are wrong.
    Unreadable,
    /// A newer version, or a feature this build does not know.
    Unsupported,
    /// Written by a `create` that did not get to its end.
    Creating,
    /// Written by a close: nothing may be after it.
    Clean,
    /// Written while the log was in use.
    Open,
}

/// Which segment files there are, compared with those the checkpoint names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentsFact {
    None,
    SomeMissing,
    /// All are there, and one that decides which entries of others count is not what its name says.
    Misnamed,
    /// As `Present`, and one beside them has the header of another log.
    OfAnother,
    /// All of them, or any at all where no checkpoint names them.
    Present,
}

/// What the tail segment says up to the last whole batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TailFact {
    /// There is no readable header of the right generation, or not the last frame before the
    /// checkpoint's place.
    Unreadable,
    /// The frames contradict the checkpoint.
    Contradicts,
    /// Whole batches lead from the checkpoint's place to some end.
    Readable,
}

/// What headers after that end say, where frames may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterFact {
    /// There is no header of a later batch.
    Nothing,
    /// There are some, and none states that the batch at the end was durable.
    Later,
    /// One states that the batch which cannot be read at the end was durable.
    Durable,
}

/// What stands where the checkpoint says that no frame can be: after a close, after its reach, in
/// a segment that a checkpoint would name before anything in it was acknowledged, in a log that is
/// only being created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BeyondFact {
    Nothing,
    Frames,
}

/// Whether the side files that state cells refer to are there, with the right length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SideFilesFact {
    SomeMissing,
    Present,
}

/// A segment that was searched after the last whole batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Searched {
    /// Where its frames can end at the latest: the checkpoint's reach, or the end of the file. Nothing
    /// for a segment that no checkpoint names and that does not follow on.
    pub(crate) limit: Option<u64>,
    /// The batch that it begins with, by its header.
    pub(crate) first_sequence: u64,
    /// What the headers in it state, of batches after the last whole one.
    pub(crate) found: Evidence,
}

impl Searched {
    /// What all of them state; the end is that of the last frame in a segment of the log.
    pub(crate) fn all(searched: &[Self]) -> Evidence {
        searched.iter().fold(Evidence::default(), |all, one| {
            let end = if one.limit.is_some() { one.found.end } else { 0 };
            all.merge(Evidence { end, ..one.found })
        })
    }
}

/// What was seen of a log.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) metadata: MetadataFact,
    pub(crate) segments: SegmentsFact,
    pub(crate) tail: TailFact,
    /// The last whole batch; that of the checkpoint, where the tail cannot be read.
    pub(crate) sequence: u64,
    pub(crate) searched: Vec<Searched>,
    /// The batch of a frame where a checkpoint that counts none after its own excludes any: at the
    /// place of a close, or anywhere in a log that is being created.
    pub(crate) excluded: Option<u64>,
    pub(crate) side_files: SideFilesFact,
}

impl Seen {
    /// The columns of the table.
    pub(crate) fn facts(&self) -> Facts {
        let next = self.sequence.saturating_add(1);
        let found = Searched::all(&self.searched);
        let after = match found {
            found if found.durable >= next => AfterFact::Durable,
            found if found.newest >= next => AfterFact::Later,
            _ => AfterFact::Nothing,
        };
        let beyond = self.beyond().map_or(BeyondFact::Nothing, |_| BeyondFact::Frames);
        let Self { metadata, segments, tail, side_files, .. } = *self;
        Facts { metadata, segments, tail, after, beyond, side_files }
    }

    /// The batch of a frame that stands where the checkpoint says that there can be none.
    pub(crate) fn beyond(&self) -> Option<u64> {
        if planted(Bug::OlderMetadataBelieved) {
            return None;
        }
        let next = self.sequence.saturating_add(1);
        let clean = self.metadata == MetadataFact::Clean;
        let is_older = |segment: &&Searched| {
            let found = segment.found;
            let acknowledged = found.durable >= segment.first_sequence;
            // INV-6: a checkpoint names a segment before any batch in it is acknowledged, and that of
            // a close every segment there is.
            let unnamed = acknowledged || clean && found.newest >= next;
            // INV-5: no frame ends after the reach, so a newer checkpoint had let this one.
            segment.limit.map_or(unnamed, |limit| found.end > limit)
        };
        let creating = self.metadata == MetadataFact::Creating;
        let stray = self.excluded.filter(|&found| creating || found >= next);
        self.searched.iter().find(is_older).map(|segment| segment.found.newest).or(stray)
    }
}

/// Everything that decides: the columns of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) metadata: MetadataFact,
    pub(crate) segments: SegmentsFact,
    pub(crate) tail: TailFact,
    pub(crate) after: AfterFact,
    pub(crate) beyond: BeyondFact,
    pub(crate) side_files: SideFilesFact,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Return `Missing`: there never was a log here.
    NoLog,
    /// Return `Damaged`: the metadata file is gone or unreadable.
    RefuseMetadata,
    /// Return `UnsupportedVersion` or `UnsupportedFeature`.
    RefuseVersion,
    /// Return `Damaged`: a segment is gone, is not what its name says, or is another log's.
    RefuseSegment,
    /// Return `Damaged`: the metadata file is older than the log.
    RefuseOlder,
    /// Return `Damaged`: the tail is not what was acknowledged.
    RefuseTail,
    /// Return `Damaged`: a side file is gone.
    RefuseSideFile,
    /// Create the first segment: nothing was ever acknowledged.
    FinishCreate,
    /// Go on where the close left off.
    OpenClean,
    /// Go on after the last batch.
    OpenRecovered,
    /// Go on after the last whole batch, and report what was dropped.
    OpenTorn,
}

/// One row: a pattern of facts, each any of a list, and its decision.
pub(crate) struct Row {
    #[cfg_attr(not(test), expect(dead_code, reason = "the test looks it up in the documents"))]
    pub(crate) name: &'static str,
    metadata: &'static [MetadataFact],
    segments: &'static [SegmentsFact],
    tail: &'static [TailFact],
    after: &'static [AfterFact],
    beyond: &'static [BeyondFact],
    side_files: &'static [SideFilesFact],
    pub(crate) decision: Decision,
}

const ANY_SEGMENTS: &[SegmentsFact] = &[
    SegmentsFact::None,
    SegmentsFact::SomeMissing,
    SegmentsFact::Misnamed,
    SegmentsFact::OfAnother,
    SegmentsFact::Present,
];
/// None of them another log's.
const OWN: &[SegmentsFact] =
    &[SegmentsFact::None, SegmentsFact::SomeMissing, SegmentsFact::Misnamed, SegmentsFact::Present];
const NOT_ALL: &[SegmentsFact] =
    &[SegmentsFact::None, SegmentsFact::SomeMissing, SegmentsFact::Misnamed];
const ALL: &[SegmentsFact] = &[SegmentsFact::Present];
const ANY_TAIL: &[TailFact] = &[TailFact::Unreadable, TailFact::Contradicts, TailFact::Readable];
const BAD_TAIL: &[TailFact] = &[TailFact::Unreadable, TailFact::Contradicts];
const GOOD_TAIL: &[TailFact] = &[TailFact::Readable];
const ANY_AFTER: &[AfterFact] = &[AfterFact::Nothing, AfterFact::Later, AfterFact::Durable];
const ANY_BEYOND: &[BeyondFact] = &[BeyondFact::Nothing, BeyondFact::Frames];
const NOTHING: &[BeyondFact] = &[BeyondFact::Nothing];
const FRAMES: &[BeyondFact] = &[BeyondFact::Frames];
const ANY_SIDE_FILES: &[SideFilesFact] = &[SideFilesFact::SomeMissing, SideFilesFact::Present];
const IN_USE: &[MetadataFact] = &[MetadataFact::Clean, MetadataFact::Open];

/// Matches everything.
const ANY: Row = Row {
    name: "",
    metadata: &[],
    segments: ANY_SEGMENTS,
    tail: ANY_TAIL,
    after: ANY_AFTER,
    beyond: ANY_BEYOND,
    side_files: ANY_SIDE_FILES,
    decision: Decision::RefuseMetadata,
};

/// A log in use with all its segments, a tail that can be read, and nothing beyond it.
const SOUND: Row = Row { segments: ALL, tail: GOOD_TAIL, beyond: NOTHING, ..ANY };

/// The table.
///
/// Whoever reads it from the top: without metadata nothing is believed (R1 to R4). A log that is
/// being created has nothing to lose, unless there are frames (R5, R6), or segments of another log
/// (R17): an open removes what it does not need, and those are not ours. Then no frame may be where the
/// checkpoint excludes it (R8): one that is older may name segments that went since, which is why that
/// comes before every segment has to be there (R7). The tail has to lead to some end (R9), and nothing after that end may say that more was durable (R10), nor that anything came
/// after a close (R11). What is left opens, if its side files are there (R12 to R16).
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "R1",
        metadata: &[MetadataFact::Absent],
        segments: &[SegmentsFact::None],
        decision: Decision::NoLog,
        ..ANY
    },
    Row {
        name: "R2",
        metadata: &[MetadataFact::Absent],
        segments: &[
            SegmentsFact::SomeMissing,
            SegmentsFact::Misnamed,
            SegmentsFact::OfAnother,
            SegmentsFact::Present,
        ],
        decision: Decision::RefuseMetadata,
        ..ANY
    },
    Row {
        name: "R3",
        metadata: &[MetadataFact::Unreadable],
        decision: Decision::RefuseMetadata,
        ..ANY
    },
    Row {
        name: "R4",
        metadata: &[MetadataFact::Unsupported],
        decision: Decision::RefuseVersion,
        ..ANY
    },
    Row {
        name: "R5",
        metadata: &[MetadataFact::Creating],
        segments: OWN,
        beyond: NOTHING,
        decision: Decision::FinishCreate,
        ..ANY
    },
    Row {
        name: "R6",
        metadata: &[MetadataFact::Creating],
        segments: OWN,
        beyond: FRAMES,
        decision: Decision::RefuseOlder,
        ..ANY
    },
    Row {
        name: "R7",
        metadata: IN_USE,
        segments: NOT_ALL,
        beyond: NOTHING,
        decision: Decision::RefuseSegment,
        ..ANY
    },
    Row {
        name: "R8",
        metadata: IN_USE,
        segments: OWN,
        beyond: FRAMES,
        decision: Decision::RefuseOlder,
        ..ANY
    },
    Row { name: "R9", metadata: IN_USE, tail: BAD_TAIL, decision: Decision::RefuseTail, ..SOUND },
    Row {
        name: "R10",
        metadata: IN_USE,
        after: &[AfterFact::Durable],
        decision: Decision::RefuseTail,
        ..SOUND
    },
    Row {
        name: "R11",
        metadata: &[MetadataFact::Clean],
        after: &[AfterFact::Later],
        decision: Decision::RefuseTail,
        ..SOUND
    },
    Row {
        name: "R12",
        metadata: &[MetadataFact::Clean],
        after: &[AfterFact::Nothing],
        side_files: &[SideFilesFact::SomeMissing],
        decision: Decision::RefuseSideFile,
        ..SOUND
    },
    Row {
        name: "R13",
        metadata: &[MetadataFact::Open],
        after: &[AfterFact::Nothing, AfterFact::Later],
        side_files: &[SideFilesFact::SomeMissing],
        decision: Decision::RefuseSideFile,
        ..SOUND
    },
    Row {
        name: "R14",
        metadata: &[MetadataFact::Clean],
        after: &[AfterFact::Nothing],
        side_files: &[SideFilesFact::Present],
        decision: Decision::OpenClean,
        ..SOUND
    },
    Row {
        name: "R15",
        metadata: &[MetadataFact::Open],
        after: &[AfterFact::Nothing],
        side_files: &[SideFilesFact::Present],
        decision: Decision::OpenRecovered,
        ..SOUND
    },
    Row {
        name: "R16",
        metadata: &[MetadataFact::Open],
        after: &[AfterFact::Later],
        side_files: &[SideFilesFact::Present],
        decision: Decision::OpenTorn,
        ..SOUND
    },
    Row {
        name: "R17",
        metadata: &[MetadataFact::Creating, MetadataFact::Clean, MetadataFact::Open],
        segments: &[SegmentsFact::OfAnother],
        decision: Decision::RefuseSegment,
        ..ANY
    },
];

impl Row {
    fn matches(&self, facts: Facts) -> bool {
        self.metadata.contains(&facts.metadata)
            && self.segments.contains(&facts.segments)
            && self.tail.contains(&facts.tail)
            && self.after.contains(&facts.after)
            && self.beyond.contains(&facts.beyond)
            && self.side_files.contains(&facts.side_files)
    }
}

/// What is done about what was seen. There is always exactly one row for it; were there none, the log
/// is refused.
pub(crate) fn decide(seen: &Seen) -> Decision {
    let facts = seen.facts();
    ROWS.iter().find(|row| row.matches(facts)).map_or(Decision::RefuseMetadata, |row| row.decision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_of_observations_has_exactly_one_row() {
        use MetadataFact as M;
        let metadata = [M::Absent, M::Unreadable, M::Unsupported, M::Creating, M::Clean, M::Open];
        let mut all = Vec::new();
        for metadata in metadata {
            for &segments in ANY_SEGMENTS {
                for &tail in ANY_TAIL {
                    for &after in ANY_AFTER {
                        for &beyond in ANY_BEYOND {
                            all.extend(ANY_SIDE_FILES.iter().map(|&side_files| Facts {
                                metadata,
                                segments,
                                tail,
                                after,
                                beyond,
                                side_files,
                            }));
                        }
                    }
                }
            }
        }
        assert_eq!(all.len(), 1080);
        let mut used = vec![0; ROWS.len()];
        for facts in all {
            let rows: Vec<_> = (0..ROWS.len()).filter(|&row| ROWS[row].matches(facts)).collect();
            assert_eq!(rows.len(), 1, "{facts:?} is matched by {rows:?}");
            used[rows[0]] += 1;
        }
        assert!(used.iter().all(|&times| times > 0), "a row that matches nothing: {used:?}");
    }

    fn seen(metadata: MetadataFact, searched: Vec<Searched>, excluded: Option<u64>) -> Seen {
        let (segments, side_files) = (SegmentsFact::Present, SideFilesFact::Present);
        let (tail, sequence) = (TailFact::Readable, SEQUENCE);
        Seen { metadata, segments, tail, sequence, searched, excluded, side_files }
    }

    /// The last whole batch.
    const SEQUENCE: u64 = 5;

    /// Every combination of numbers around those that decide, in the tail and in a segment after it.
    #[test]
    fn acknowledged_batch_is_never_torn_whatever_the_numbers() {
        let numbers = || SEQUENCE - 1..=SEQUENCE + 2;
        let ends = [0, 100, 101];
        let mut counts = [0; 3];
        for (durable, newest) in numbers().flat_map(|one| numbers().map(move |two| (one, two))) {
            for end in ends {
                let found = Evidence { durable, newest, end };
                for limit in [Some(100), None] {
                    for first_sequence in numbers() {
                        let searched = vec![Searched { limit, first_sequence, found }];
                        let past = limit.is_some() && end > 100
                            || limit.is_none() && durable >= first_sequence;
                        let open = decide(&seen(MetadataFact::Open, searched.clone(), None));
                        let expected = match () {
                            () if past => Decision::RefuseOlder,
                            () if durable > SEQUENCE => Decision::RefuseTail,
                            () if newest > SEQUENCE => Decision::OpenTorn,
                            () => Decision::OpenRecovered,
                        };
                        assert_eq!(open, expected, "{searched:?}");
                        let clean = decide(&seen(MetadataFact::Clean, searched.clone(), None));
                        assert_ne!(clean, Decision::OpenTorn, "{searched:?}");
                        if newest > SEQUENCE || durable > SEQUENCE || past {
                            assert_ne!(clean, Decision::OpenClean, "{searched:?}");
                        }
                        counts[0] += usize::from(open == Decision::OpenTorn);
                        counts[1] += usize::from(open == Decision::RefuseTail);
                        counts[2] += usize::from(open == Decision::RefuseOlder);
                    }
                }
            }
        }
        assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
    }

    #[test]
    fn frame_that_a_checkpoint_excludes_says_that_it_is_older() {
        let decision = |metadata, excluded| decide(&seen(metadata, Vec::new(), excluded));
        assert_eq!(decision(MetadataFact::Creating, None), Decision::FinishCreate);
        assert_eq!(decision(MetadataFact::Creating, Some(1)), Decision::RefuseOlder);
        assert_eq!(decision(MetadataFact::Clean, Some(SEQUENCE)), Decision::OpenClean);
        assert_eq!(decision(MetadataFact::Clean, Some(SEQUENCE + 1)), Decision::RefuseOlder);
    }

    #[test]
    fn documented_table_is_the_one_in_force() {
        let text = include_str!("../../docs/RECOVERY.md");
        for row in ROWS {
            let cell = format!("| {} |", row.name);
            let line = text.lines().find(|line| line.starts_with(&cell));
            let line = line.unwrap_or_else(|| panic!("docs/RECOVERY.md lacks row {}", row.name));
            let decision = format!("`{:?}`", row.decision);
            assert!(line.contains(&decision), "{} should decide {decision}: {line}", row.name);
        }
        let documented = text.lines().filter(|line| line.starts_with("| R")).count();
        assert_eq!(documented, ROWS.len());
    }
}

//! The recovery table: from what was observed to what is done, nothing else.
//!
//! Every combination of observations is matched by exactly one row; a test enumerates them. The
//! table with its reasons is in docs/RECOVERY.md, and the same test reads it there.

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
    /// Written by a close: nothing may be behind it.
    Clean,
    /// Written while the log was in use.
    Open,
}

/// Which segment files there are, compared with those the checkpoint names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentsFact {
    None,
    SomeMissing,
    /// All of them, or any at all where no checkpoint names them.
    Present,
}

/// What the tail segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TailFact {
    /// There is no readable header of the right generation.
    Unreadable,
    /// A frame before the checkpoint's place is unreadable, or the frames contradict it.
    Contradicts,
    /// Whole batches to the end, and nothing of this generation behind.
    Whole,
    /// The end is unreadable or unfinished; nothing shows that it was ever acknowledged.
    Torn,
    /// A frame is unreadable that later bytes show to have been acknowledged.
    Acknowledged,
}

/// Whether the side files that state cells refer to are there, with the right length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SideFilesFact {
    SomeMissing,
    Present,
}

/// Everything that decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) metadata: MetadataFact,
    pub(crate) segments: SegmentsFact,
    pub(crate) tail: TailFact,
    pub(crate) side_files: SideFilesFact,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Answer `Missing`: there never was a log here.
    NoLog,
    /// Answer `Damaged`: the metadata file is gone or unreadable.
    RefuseMetadata,
    /// Answer `UnsupportedVersion` or `UnsupportedFeature`.
    RefuseVersion,
    /// Answer `Damaged`: a segment is gone.
    RefuseSegment,
    /// Answer `Damaged`: the tail is not what was acknowledged.
    RefuseTail,
    /// Answer `Damaged`: a side file is gone.
    RefuseSideFile,
    /// Create the first segment: nothing was ever acknowledged.
    FinishCreate,
    /// Go on where the close left off.
    OpenClean,
    /// Go on behind the last batch.
    OpenRecovered,
    /// Go on behind the last whole batch, and report what was dropped.
    OpenTorn,
}

/// One row: a pattern of facts, where `None` matches any, and its decision.
pub(crate) struct Row {
    #[cfg_attr(not(test), expect(dead_code, reason = "the test looks it up in the documents"))]
    pub(crate) name: &'static str,
    metadata: &'static [MetadataFact],
    segments: &'static [SegmentsFact],
    tail: &'static [TailFact],
    side_files: &'static [SideFilesFact],
    pub(crate) decision: Decision,
}

const ANY_SEGMENTS: &[SegmentsFact] =
    &[SegmentsFact::None, SegmentsFact::SomeMissing, SegmentsFact::Present];
const NOT_ALL: &[SegmentsFact] = &[SegmentsFact::None, SegmentsFact::SomeMissing];
const ALL: &[SegmentsFact] = &[SegmentsFact::Present];
const ANY_TAIL: &[TailFact] = &[
    TailFact::Unreadable,
    TailFact::Contradicts,
    TailFact::Whole,
    TailFact::Torn,
    TailFact::Acknowledged,
];
const BAD_TAIL: &[TailFact] =
    &[TailFact::Unreadable, TailFact::Contradicts, TailFact::Acknowledged];
const ANY_SIDE_FILES: &[SideFilesFact] = &[SideFilesFact::SomeMissing, SideFilesFact::Present];

/// The table.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "R1",
        metadata: &[MetadataFact::Absent],
        segments: &[SegmentsFact::None],
        tail: ANY_TAIL,
        side_files: ANY_SIDE_FILES,
        decision: Decision::NoLog,
    },
    Row {
        name: "R2",
        metadata: &[MetadataFact::Absent],
        segments: &[SegmentsFact::SomeMissing, SegmentsFact::Present],
        tail: ANY_TAIL,
        side_files: ANY_SIDE_FILES,
        decision: Decision::RefuseMetadata,
    },
    Row {
        name: "R3",
        metadata: &[MetadataFact::Unreadable],
        segments: ANY_SEGMENTS,
        tail: ANY_TAIL,
        side_files: ANY_SIDE_FILES,
        decision: Decision::RefuseMetadata,
    },
    Row {
        name: "R4",
        metadata: &[MetadataFact::Unsupported],
        segments: ANY_SEGMENTS,
        tail: ANY_TAIL,
        side_files: ANY_SIDE_FILES,
        decision: Decision::RefuseVersion,
    },
    Row {
        name: "R5",
        metadata: &[MetadataFact::Creating],
        segments: NOT_ALL,
        tail: ANY_TAIL,
        side_files: ANY_SIDE_FILES,
        decision: Decision::FinishCreate,
    },
    Row {
        name: "R6",
        metadata: &[MetadataFact::Creating],
        segments: ALL,
        tail: ANY_TAIL,
        side_files: ANY_SIDE_FILES,
        decision: Decision::FinishCreate,
    },
    Row {
        name: "R7",
        metadata: &[MetadataFact::Clean, MetadataFact::Open],
        segments: NOT_ALL,
        tail: ANY_TAIL,
        side_files: ANY_SIDE_FILES,
        decision: Decision::RefuseSegment,
    },
    Row {
        name: "R8",
        metadata: &[MetadataFact::Clean, MetadataFact::Open],
        segments: ALL,
        tail: BAD_TAIL,
        side_files: ANY_SIDE_FILES,
        decision: Decision::RefuseTail,
    },
    Row {
        name: "R9",
        metadata: &[MetadataFact::Clean],
        segments: ALL,
        tail: &[TailFact::Torn],
        side_files: ANY_SIDE_FILES,
        decision: Decision::RefuseTail,
    },
    Row {
        name: "R10",
        metadata: &[MetadataFact::Clean],
        segments: ALL,
        tail: &[TailFact::Whole],
        side_files: &[SideFilesFact::SomeMissing],
        decision: Decision::RefuseSideFile,
    },
    Row {
        name: "R11",
        metadata: &[MetadataFact::Open],
        segments: ALL,
        tail: &[TailFact::Whole, TailFact::Torn],
        side_files: &[SideFilesFact::SomeMissing],
        decision: Decision::RefuseSideFile,
    },
    Row {
        name: "R12",
        metadata: &[MetadataFact::Clean],
        segments: ALL,
        tail: &[TailFact::Whole],
        side_files: &[SideFilesFact::Present],
        decision: Decision::OpenClean,
    },
    Row {
        name: "R13",
        metadata: &[MetadataFact::Open],
        segments: ALL,
        tail: &[TailFact::Whole],
        side_files: &[SideFilesFact::Present],
        decision: Decision::OpenRecovered,
    },
    Row {
        name: "R14",
        metadata: &[MetadataFact::Open],
        segments: ALL,
        tail: &[TailFact::Torn],
        side_files: &[SideFilesFact::Present],
        decision: Decision::OpenTorn,
    },
];

impl Row {
    fn matches(&self, facts: Facts) -> bool {
        self.metadata.contains(&facts.metadata)
            && self.segments.contains(&facts.segments)
            && self.tail.contains(&facts.tail)
            && self.side_files.contains(&facts.side_files)
    }
}

/// The row for these facts. There is always exactly one; were there none, the log is refused.
pub(crate) fn decide(facts: Facts) -> Decision {
    ROWS.iter().find(|row| row.matches(facts)).map_or(Decision::RefuseMetadata, |row| row.decision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_of_observations_has_exactly_one_row() {
        use MetadataFact as M;
        let metadata = [M::Absent, M::Unreadable, M::Unsupported, M::Creating, M::Clean, M::Open];
        let mut combinations = 0;
        let mut used = vec![0; ROWS.len()];
        for metadata in metadata {
            for &segments in ANY_SEGMENTS {
                for &tail in ANY_TAIL {
                    for &side_files in ANY_SIDE_FILES {
                        let facts = Facts { metadata, segments, tail, side_files };
                        let rows: Vec<_> =
                            (0..ROWS.len()).filter(|&row| ROWS[row].matches(facts)).collect();
                        assert_eq!(rows.len(), 1, "{facts:?} is matched by {rows:?}");
                        used[rows[0]] += 1;
                        combinations += 1;
                    }
                }
            }
        }
        assert_eq!(combinations, 180);
        assert!(used.iter().all(|&times| times > 0), "a row that matches nothing: {used:?}");
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

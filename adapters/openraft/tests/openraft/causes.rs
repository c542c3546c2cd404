//! What a log refuses keeps its cause on the way through the errors of both hosts.

#![expect(clippy::disallowed_methods, reason = "loses a file behind the engine's back")]

use std::error::Error as _;
use std::io;
use std::sync::Arc;

use indelible::io::sim::{Fault, Op, Repeat, SimDisk};
use indelible::{Error, Log, repair};
use indelible_openraft::v010::Failure;
use openraft_09::storage::{RaftLogReader as _, RaftLogStorage as _};
use openraft_09::{StorageError, Vote};
use openraft_010::storage::{RaftLogReader as _, RaftLogStorage as _};
use openraft_010::type_config::alias::VoteOf;
use tempfile::TempDir;

use super::kv_010::Types;
use super::{open_in, small, v09, v010};

/// The log's own error in one of openraft 0.10.
fn cause_of(error: &io::Error) -> &Error {
    error.get_ref().and_then(|inner| inner.downcast_ref()).unwrap()
}

/// Whether an error of openraft 0.9, which keeps causes as text, says what the log said.
fn says(error: &StorageError<u64>, cause: &Error) -> bool {
    let mut said = error.to_string();
    let mut at = error.source();
    while let Some(below) = at {
        said.push_str(&below.to_string());
        at = below.source();
    }
    said.contains(&cause.to_string())
}

/// A log of several segments, of which a repair had to give up one.
async fn repaired() -> TempDir {
    let directory = TempDir::new().unwrap();
    let log = open_in(directory.path());
    let mut store = v09::Store::open(log.clone()).unwrap();
    v09::append(&mut store, 1, 0..1500).await.unwrap();
    log.close().unwrap();
    let path = directory.path().join("log");
    let mut files = std::fs::read_dir(&path).unwrap().map(|file| file.unwrap().path());
    let is_second = |file: &std::path::PathBuf| {
        file.file_name().unwrap().to_str().unwrap().starts_with("0000000000000002-")
    };
    std::fs::remove_file(files.find(is_second).unwrap()).unwrap();
    repair::apply(&path).unwrap();
    directory
}

#[tokio::test]
async fn missing_entries_are_named_by_both_hosts() {
    let directory = repaired().await;
    let path = directory.path().join("log");
    let error = Log::open(&path, &small()).unwrap_err();
    assert!(matches!(error, Error::Incomplete { .. }), "{error}");
    let as_the_host_has_it = io::Error::from(Failure::from(error));
    assert!(matches!(cause_of(&as_the_host_has_it), Error::Incomplete { .. }));

    let (log, _) = Log::open(&path, &small().allow_holes(true)).unwrap();
    let missing = repair::missing(&path).unwrap()[0].clone();
    let hole = log.entry(missing.start).unwrap_err();
    assert!(matches!(hole, Error::Hole { .. }), "{hole}");
    let mut store = v09::Store::open(log.clone()).unwrap();
    for range in [missing.start..missing.start + 1, 0..1500] {
        let error = store.try_get_log_entries(range.clone()).await.unwrap_err();
        assert!(says(&error, &hole), "{error}");
    }
    let error = store.limited_get_log_entries(missing.start, 1500).await.unwrap_err();
    assert!(says(&error, &hole), "{error}");
    let mut store = v010::Store::open(log).unwrap();
    let error = store.try_get_log_entries(missing.clone()).await.unwrap_err();
    assert!(matches!(cause_of(&error), Error::Hole { .. }), "{error}");
    let error = store.limited_get_log_entries(missing.start, 1500).await.unwrap_err();
    assert!(matches!(cause_of(&error), Error::Hole { .. }), "{error}");
}

#[tokio::test]
async fn poisoned_log_is_named_by_both_hosts() {
    let disk = SimDisk::new(1);
    let log = Log::create_in(Arc::new(disk.clone()), &small()).unwrap();
    let mut store = v09::Store::open(log.clone()).unwrap();
    let mut later = v010::Store::open(log.clone()).unwrap();
    v09::append(&mut store, 1, 0..3).await.unwrap();
    disk.fail_next(Op::Sync, Fault::Io, Repeat::Once);
    store.save_vote(&Vote::new(2, 0)).await.unwrap_err();
    let poisoned = log.append(b"more").unwrap_err();
    assert!(matches!(poisoned, Error::Poisoned { .. }), "{poisoned}");
    let error = store.save_vote(&Vote::new(3, 0)).await.unwrap_err();
    assert!(says(&error, &poisoned), "{error}");
    let error = v09::append(&mut store, 1, 3..4).await.unwrap_err();
    assert!(says(&error, &poisoned), "{error}");
    let vote = VoteOf::<Types>::new(3, 0);
    let error = later.save_vote(&vote).await.unwrap_err();
    assert!(matches!(cause_of(&error), Error::Poisoned { .. }), "{error}");
    let error = v010::append(&mut later, 1, 3..4).await.unwrap_err();
    assert!(matches!(cause_of(&error), Error::Poisoned { .. }), "{error}");
}

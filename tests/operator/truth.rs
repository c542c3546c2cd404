//! What the tools see is what an open sees: random damage, and every tool beside a real open of a
//! copy, entry by entry.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use indelible::inspect::{EntrySeen, FrameSeen, Outcome, entries, frames, inspect, verify};
use indelible::repair::{FromPeer, RefillError, apply, refill_from};
use indelible::{Backup, Batch, CellValue, Damage, Error, Log, Verdict};

use super::{Random, build, cut, entry, flip, options, segments, zero};

type Shown = BTreeMap<u64, Option<Vec<u8>>>;

/// How many damaged logs are looked at.
const SEEDS: u64 = 150;

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        // Not what a repair kept.
        if file.file_name() != "lock" && file.file_type().unwrap().is_file() {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

/// A log that was killed: a checkpoint, and replaced entries and cells after it.
fn killed(path: &Path, live: &Path) {
    build(live);
    let (log, _) = Log::open(live, &options()).unwrap();
    for index in 150..165_u64 {
        log.append(format!("old entry {index}, of a leader that was deposed").as_bytes()).unwrap();
    }
    log.maintain().unwrap();
    let mut batch = Batch::new();
    batch.truncate(155).set("decided", b"new");
    for index in 155..170 {
        batch.append(format!("new entry {index}, of the leader that was elected").into_bytes());
    }
    log.commit(&batch).unwrap();
    log.append(b"the last one").unwrap();
    copy(live, path);
    drop(log);
}

/// Damages one or two places; those in the tail lie before its checkpoint as often as after it.
fn damage(path: &Path, seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let names = segments(path);
    for _ in 0..=random.below(2) {
        let name = &names[random.below(names.len())];
        let at = 4096 + random.below(60 * 1024) / 8 * 8;
        match random.below(11) {
            0 => zero(name, at, random.below(4096)),
            1 => flip(name, 64 * 1024 - 1 - random.below(64)),
            2 => flip(name, random.below(128)),
            3 => flip(&path.join("metadata"), random.below(8192)),
            4 => drop(fs::remove_file(name)),
            10 => cut(name, at),
            // The newest segment is the interesting one: mostly in front.
            5..=7 => flip(&names[names.len() - 1], 4096 + random.below(12 * 1024)),
            _ => flip(name, at),
        }
    }
}

/// The entries that the tools show.
fn shown(path: &Path) -> Result<Shown, Error> {
    let seen = entries(path)?;
    let bounds = seen.bounds();
    let mut shown = BTreeMap::new();
    let mut next = bounds.start;
    for seen in seen {
        let range = match seen? {
            EntrySeen::Entry { index, payload, packed } => {
                assert!(!packed);
                shown.insert(index, Some(payload));
                index..index + 1
            }
            EntrySeen::Missing { entries } | EntrySeen::Unreadable { entries, .. } => {
                shown.extend(entries.clone().map(|index| (index, None)));
                entries
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(range.start, next, "an index was skipped, or shown twice");
        next = range.end;
    }
    assert_eq!(next, bounds.end, "the end was skipped");
    Ok(shown)
}

/// What a file that was cut short held may have replaced what is left of it.
#[test]
fn a_file_cut_before_a_truncation_shows_no_replaced_entry() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("log");
    build(&path);
    let mut cuts = 0;
    for name in segments(&path) {
        let whole = fs::read(&name).unwrap();
        let deposed = b"a leader that was deposed";
        let Some(at) = whole.windows(deposed.len()).rposition(|it| it == deposed) else { continue };
        cut(&name, (at + deposed.len()).next_multiple_of(8));
        for (index, bytes) in shown(&path).unwrap() {
            assert!(bytes.is_none_or(|bytes| bytes == entry(index)), "{index} was replaced");
        }
        fs::write(&name, whole).unwrap();
        cuts += 1;
    }
    assert!(cuts > 2, "nothing was replaced in most segments");
}

#[test]
fn every_tool_sees_what_an_open_sees() {
    let place = tempfile::tempdir().unwrap();
    let sound = place.path().join("sound");
    killed(&sound, &place.path().join("live"));
    let truth = shown(&sound).unwrap();
    let holed = place.path().join("holed");
    copy(&sound, &holed);
    for name in &segments(&holed)[1..3] {
        fs::remove_file(name).unwrap();
    }
    apply(&holed).unwrap();
    let changed = place.path().join("changed");
    change(&sound, &changed);
    let other_truth = shown(&changed).unwrap();
    let (mut opened, mut refused, mut lost) = (0, 0, 0);
    let (mut refilled, mut copied, mut differ) = (0, 0, 0);
    for seed in 1..=SEEDS {
        let path = place.path().join(format!("log-{seed}"));
        copy(&sound, &path);
        damage(&path, seed);
        let other = place.path().join(format!("copy-{seed}"));
        copy(&path, &other);
        let seen = inspect(&path).unwrap();
        let backup = place.path().join(format!("backup-{seed}"));
        let copied_as = Backup::of_stopped(&path, &backup, false, &mut |_| ());
        if seed.is_multiple_of(3) {
            refilled += refill(&holed, &path, &truth, seed);
        }
        match Log::open(&other, &options()) {
            Err(error) => {
                refused += 1;
                let told = copied_as.expect_err("what an open refuses is copied").to_string();
                let told = told.replace(path.to_str().unwrap(), "");
                assert_eq!(told, error.to_string().replace(other.to_str().unwrap(), ""), "{seed}");
                assert!(!backup.exists(), "seed {seed}: something is left of a backup");
                let Outcome::Refuses(told) = &seen.outcome else {
                    panic!("seed {seed}: {error}, and inspect says {:?}", seen.outcome)
                };
                let told = told.to_string().replace(path.to_str().unwrap(), "");
                assert_eq!(told, error.to_string().replace(other.to_str().unwrap(), ""), "{seed}");
                let health = verify(&path, &mut |_| ()).unwrap();
                assert!(health.findings.iter().any(|it| it.meaning.is_loss()), "seed {seed}");
            }
            Ok((log, report)) => {
                opened += 1;
                let gone = see(&path, &log, seed, &truth);
                lost += gone;
                copied += check_backup(&backup, copied_as, &log, gone, seed);
                differ += compare(&path, &changed, &other_truth, seed);
                match (&seen.outcome, &report.verdict) {
                    (Outcome::Clean, Verdict::Clean)
                    | (Outcome::Recovers { .. }, Verdict::Recovered) => {}
                    (
                        Outcome::DropsTornTail { offset, .. },
                        Verdict::TornTail { offset: at, .. },
                    ) => {
                        assert_eq!(offset, at, "seed {seed}");
                    }
                    other => panic!("seed {seed}: {other:?}"),
                }
            }
        }
        fs::remove_dir_all(&path).unwrap();
        fs::remove_dir_all(&other).unwrap();
    }
    assert!(opened > 20 && refused > 20 && lost > 20, "{opened} opened, {refused} refused, {lost}");
    assert!(refilled > 100 && copied > 10, "{refilled} refilled, {copied} copied");
    assert!(differ > 0, "nothing differs");
}

/// Puts entries back from a damaged log: right ones, and no others.
fn refill(holed: &Path, from: &Path, truth: &Shown, seed: u64) -> u64 {
    let path = holed.with_file_name(format!("refilled-{seed}"));
    copy(holed, &path);
    let before = shown(&path).unwrap();
    let how = FromPeer::new().to(Some(150)).force(true);
    let done = match refill_from(&path, from, &how, &mut |_| ()) {
        Ok(done) => done,
        Err(RefillError::Log(error)) => {
            assert!(shown(from).is_err(), "seed {seed}: {error}");
            fs::remove_dir_all(&path).unwrap();
            return 0;
        }
        Err(error) => panic!("seed {seed}: {error}"),
    };
    assert!(done.stopped.is_none(), "seed {seed}: {done:?}");
    let (after, theirs) = (shown(&path).unwrap(), shown(from).unwrap());
    for (index, bytes) in &after {
        let known = before[index].is_some() || theirs.get(index).is_some_and(Option::is_some);
        assert_eq!(bytes.is_some(), known, "seed {seed}: entry {index}");
        assert!(bytes.is_none() || bytes == &truth[index], "seed {seed}: entry {index} is another");
        let put_back = done.put_back.iter().any(|range| range.contains(index));
        assert_eq!(put_back, before[index].is_none() && bytes.is_some(), "seed {seed}: {index}");
    }
    fs::remove_dir_all(&path).unwrap();
    done.filled
}

/// Whatever was copied is what an open has; nothing is, where an open lacks some of it.
fn check_backup(
    backup: &Path,
    copied: Result<Backup, Error>,
    log: &Log,
    gone: u64,
    seed: u64,
) -> u64 {
    match copied {
        Ok(_) => {
            assert_eq!(gone, 0, "seed {seed}: damage was copied");
            let (copy, _) = Log::open(backup, &options()).unwrap();
            assert_eq!((copy.first(), copy.next()), (log.first(), log.next()), "seed {seed}");
            assert_eq!(copy.cells(), log.cells(), "seed {seed}");
            for index in log.first()..log.next() {
                assert_eq!(copy.entry(index).unwrap(), log.entry(index).unwrap(), "seed {seed}");
            }
            drop(copy);
            fs::remove_dir_all(backup).unwrap();
            1
        }
        Err(error) => {
            assert!(matches!(error, Error::Damaged { .. }), "seed {seed}: {error}");
            let left = fs::read_dir(backup).unwrap().map(|file| file.unwrap().file_name());
            let left: Vec<_> = left.filter(|name| name != "lock").collect();
            assert!(left.is_empty(), "seed {seed}: {left:?} is left of a backup");
            fs::remove_dir_all(backup).unwrap();
            0
        }
    }
}

/// A log whose last entries are others.
fn change(sound: &Path, path: &Path) {
    copy(sound, path);
    let (log, _) = Log::open(path, &options()).unwrap();
    let mut batch = Batch::new();
    batch.truncate(160);
    for index in 160..170 {
        batch.append(format!("entry {index}, of another leader").into_bytes());
    }
    log.commit(&batch).unwrap();
    log.close().unwrap();
}

/// Compares a damaged log with another one: by the entries that both show, and no others.
fn compare(path: &Path, other: &Path, truth: &Shown, seed: u64) -> u64 {
    let compared = indelible::inspect::compare(path, other, (None, None), 16, &mut |_| ()).unwrap();
    let here = shown(path).unwrap();
    let both = |index: &u64| here[index].is_some() && truth.get(index).is_some_and(Option::is_some);
    let range = compared.entries.clone();
    let same = range.clone().filter(both).filter(|index| here[index] == truth[index]).count();
    assert_eq!(compared.same, same as u64, "seed {seed}");
    let differs = range.clone().filter(both).find(|index| here[index] != truth[index]);
    assert_eq!(compared.difference.as_ref().map(|it| it.index), differs, "seed {seed}");
    let unreadable: Vec<u64> = range.clone().filter(|index| here[index].is_none()).collect();
    let told: Vec<u64> = compared.unreadable[0].iter().flat_map(|(it, _)| it.clone()).collect();
    assert_eq!(told, unreadable, "seed {seed}");
    for compared in &compared.ranges {
        let [here, there] = compared.sums;
        let lacks = compared.entries.clone().any(|index| unreadable.contains(&index));
        assert_eq!(here.is_none(), lacks, "seed {seed}: {compared:?}");
        let inside = |index: &u64| compared.entries.contains(index);
        if !lacks && differs.as_ref().is_none_or(|index| index >= &compared.entries.end) {
            assert_eq!(here, there, "seed {seed}: {compared:?}");
        }
        if !lacks && differs.as_ref().is_some_and(inside) {
            assert_ne!(here, there, "seed {seed}: {compared:?}");
        }
    }
    u64::from(differs.is_some())
}

/// Holds what the tools show against an open log. Returns how many entries it could not read.
fn see(path: &Path, log: &Log, seed: u64, sound: &Shown) -> u64 {
    let state = inspect(path).unwrap().state.unwrap();
    assert_eq!((state.first, state.next), (log.first(), log.next()), "seed {seed}");
    let cells: Vec<(String, CellValue)> = log.cells().into_iter().collect();
    assert_eq!(state.cells, cells, "seed {seed}");
    let shown = shown(path).unwrap();
    let health = verify(path, &mut |_| ()).unwrap();
    let told = |index: u64| {
        health.findings.iter().any(|finding| match &finding.error {
            Error::Damaged { indexes: Some(range), .. } => range.contains(&index),
            _ => false,
        })
    };
    let mut live = BTreeMap::new();
    for seen in frames(path).unwrap() {
        if let FrameSeen::Frame { header, payload, live: true, .. } = seen.unwrap() {
            assert!(live.insert(header.index, payload).is_none(), "seed {seed}: {}", header.index);
        }
    }
    let mut unreadable = 0;
    for index in log.first()..log.next() {
        let tool = shown.get(&index).and_then(Option::as_deref);
        match log.entry(index) {
            Ok(bytes) => {
                assert_eq!(tool, Some(&*bytes), "seed {seed}: entry {index} by `entries`");
                let frame = live.get(&index).map(Vec::as_slice);
                assert_eq!(frame, Some(&*bytes), "seed {seed}: {index} by `frames`");
                assert!(!told(index), "seed {seed}: entry {index} by `verify`");
            }
            Err(Error::Damaged { .. }) => {
                unreadable += 1;
                // A tool may still find it, where an open does not look. Then it is the right one.
                if let Some(bytes) = tool {
                    assert!(
                        sound.get(&index) == Some(&Some(bytes.to_vec())),
                        "seed {seed}: {index}"
                    );
                } else {
                    assert!(
                        told(index),
                        "seed {seed}: entry {index} is lost, and verify is silent"
                    );
                }
                let loss = health.findings.iter().any(|finding| finding.meaning.is_loss());
                assert!(loss, "seed {seed}: {index}");
            }
            Err(error) => panic!("seed {seed}: entry {index}: {error}"),
        }
    }
    unreadable
}

/// What an open refuses is not copied: not a log with an older copy of its metadata file either.
#[test]
fn stopped_log_under_an_older_metadata_file_is_not_backed_up() {
    let directory = tempfile::tempdir().unwrap();
    let (path, to) = (directory.path().join("log"), directory.path().join("copy"));
    let (log, _) = Log::open_or_create(&path, &options()).unwrap();
    log.append(b"first").unwrap();
    log.close().unwrap();
    let older = fs::read(path.join("metadata")).unwrap();
    let (log, _) = Log::open(&path, &options()).unwrap();
    log.append(b"second").unwrap();
    drop(log);
    fs::write(path.join("metadata"), older).unwrap();
    let is_older = |error: &Error| {
        matches!(error, Error::Damaged { reason: Damage::MetadataOlder { .. }, .. })
    };
    let refused = Log::open(&path, &options()).err().unwrap();
    assert!(is_older(&refused), "{refused}");
    let copied = Backup::of_stopped(&path, &to, false, &mut |_| ()).err();
    assert!(copied.as_ref().is_some_and(is_older), "{copied:?}");
    assert!(!to.exists(), "nothing is left of it");
}

//! The reader in Python, written from docs/FORMAT.md alone, against the engine: golden and random
//! logs, healthy and damaged. Where they differ, the document or one of them is wrong.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and damages files behind the engine's back"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use indelible::{Batch, CellValue, Durability, Error, Log, Options, Verdict};

/// Random logs, each read as it is and with damage.
const SEEDS: u64 = 12;

fn options() -> Options {
    Options::new().segment_bytes(64 * 1024).background(false)
}

/// Numbers that look random and are the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        if file.file_name() != "lock" {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

/// What the reader says of a log: the first word, then everything by what it is about.
fn read(path: &Path) -> (String, BTreeMap<String, String>) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reader/read_log.py");
    let output = Command::new("python3").arg(script).arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut lines = text.lines();
    let first = lines.next().unwrap().to_owned();
    let about = |line: &str| {
        let (kind, rest) = line.split_once(' ').unwrap();
        let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
        match kind {
            "bounds" => ("bounds".to_owned(), format!("{name} {value}")),
            "cell" | "side" => (name.to_owned(), format!("{kind} {value}").trim_end().to_owned()),
            _ => (format!("entry {name}"), format!("{kind} {value}").trim_end().to_owned()),
        }
    };
    (first, lines.map(about).collect())
}

/// The same from the engine, which opens a copy.
fn open(path: &Path, copied: &Path) -> (String, BTreeMap<String, String>) {
    copy(path, copied);
    let (log, report) = match Log::open(copied, &options().allow_holes(true)) {
        Ok(opened) => opened,
        Err(Error::Missing { .. }) => return ("none".to_owned(), BTreeMap::new()),
        Err(Error::Damaged { .. }) => return ("refused".to_owned(), BTreeMap::new()),
        Err(Error::UnsupportedVersion { .. }) => return ("newer".to_owned(), BTreeMap::new()),
        Err(error) => panic!("{error}"),
    };
    let verdict = match report.verdict {
        Verdict::Created => "verdict creating",
        Verdict::Clean => "verdict clean",
        Verdict::Recovered => "verdict recovered",
        _ => "verdict torn",
    };
    let mut seen = BTreeMap::new();
    seen.insert("bounds".to_owned(), format!("{} {}", log.first(), log.next()));
    for (name, value) in log.cells() {
        let value = match value {
            CellValue::Inline(bytes) => format!("cell {}", hex(&bytes)).trim_end().to_owned(),
            CellValue::SideFile(file) => {
                let sound = log.side_file(&name).unwrap().unwrap().read_all().is_ok();
                let sound = if sound { "sound" } else { "damaged" };
                let id = file.file_name().replace(".side", "");
                format!("side {id} {} {sound}", file.length)
            }
        };
        seen.insert(name, value);
    }
    for index in log.first()..log.next() {
        let value = match log.entry(index) {
            Ok(bytes) => format!("entry {}", hex(&bytes)).trim_end().to_owned(),
            Err(Error::Hole { .. }) => "hole".to_owned(),
            Err(Error::Damaged { .. }) => "damaged".to_owned(),
            Err(error) => panic!("entry {index}: {error}"),
        };
        seen.insert(format!("entry {index}"), value);
    }
    (verdict.to_owned(), seen)
}

/// Reads a log in both ways. Returns what both say of it, and how many entries are damaged.
fn agree(path: &Path, context: &str) -> (String, usize) {
    let copied = path.with_extension("copy");
    let (said, of_reader) = read(path);
    let (opened, of_engine) = open(path, &copied);
    fs::remove_dir_all(&copied).unwrap();
    assert!(said.starts_with(&opened), "{context}: the reader says {said}, the engine {opened}");
    for (about, value) in &of_engine {
        let read = of_reader.get(about).map_or("nothing", String::as_str);
        let short = |text: &str| text.chars().take(60).collect::<String>();
        assert!(read == value, "{context}: {about}: {} or {}", short(read), short(value));
    }
    assert_eq!(of_reader.len(), of_engine.len(), "{context}");
    (opened, of_engine.values().filter(|value| *value == "damaged").count())
}

#[test]
fn golden_logs_are_read_alike() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    let place = tempfile::tempdir().unwrap();
    for directory in fs::read_dir(golden).unwrap() {
        let directory = directory.unwrap();
        let name = directory.file_name().into_string().unwrap();
        if name == "compressed" && !cfg!(feature = "lz4") {
            continue;
        }
        let path = place.path().join(&name);
        copy(&directory.path(), &path);
        assert_ne!(agree(&path, &name).0, "refused");
    }
    fs::create_dir(place.path().join("empty")).unwrap();
    assert_eq!(read(&place.path().join("empty")).0, "none");
}

/// A few hundred batches of everything a batch can have; closed, or killed.
fn write(path: &Path, random: &mut Random) {
    let live = path.with_extension("live");
    let options = options().durability(Durability::Always).checkpoint_bytes(16 * 1024);
    #[cfg(feature = "lz4")]
    let options = options.compress_above((random.below(2) == 0).then_some(100));
    let log = Log::create(&live, &options).unwrap();
    for round in 0..40 + random.below(120) {
        let mut batch = Batch::new();
        for _ in 0..=random.below(4) {
            let byte = u8::try_from(random.below(256)).unwrap();
            let longest = if random.below(12) == 0 { 20_000 } else { 900 };
            let length = random.below(longest);
            batch.append(vec![byte; length]);
        }
        match random.below(12) {
            0 => _ = batch.set("promise", round.to_le_bytes().to_vec()),
            1 => _ = batch.set(format!("cell.{}", random.below(5)), vec![7; random.below(300)]),
            2 => _ = batch.clear(format!("cell.{}", random.below(5))),
            3 => {
                let mut writer = log.side_file_writer().unwrap();
                std::io::Write::write_all(&mut writer, &vec![3; random.below(9000)]).unwrap();
                batch.attach("snapshot", writer.finish().unwrap());
            }
            4 | 5 => {
                let back = u64::try_from(random.below(30)).unwrap();
                let to = log.next().saturating_sub(back).max(log.first());
                log.commit(Batch::new().truncate(to)).unwrap();
            }
            6 if random.below(4) == 0 => {
                let to = (log.first() + u64::try_from(random.below(40)).unwrap()).min(log.next());
                log.commit(Batch::new().trim(to)).unwrap();
            }
            7 if random.below(8) == 0 => {
                log.commit(Batch::new().reset(log.next() + 5)).unwrap();
            }
            8 => log.maintain().unwrap(),
            _ => {}
        }
        log.commit(&batch).unwrap();
    }
    if random.below(3) == 0 {
        log.close().unwrap();
        copy(&live, path);
    } else {
        copy(&live, path);
        drop(log);
    }
    fs::remove_dir_all(&live).unwrap();
}

fn files(path: &Path, end: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(path).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> =
        all.filter(|file| file.extension().is_some_and(|found| found == end)).collect();
    files.sort();
    files
}

/// One bad place: mostly in the newest segment, which is the interesting one.
fn damage(path: &Path, random: &mut Random) {
    let segments = files(path, "seg");
    let any = &segments[random.below(segments.len())];
    let newest = &segments[segments.len() - 1];
    let (file, at) = match random.below(10) {
        0 => (path.join("metadata"), random.below(8192)),
        1 => return fs::remove_file(any).unwrap(),
        2 => (any.clone(), 64 * 1024 - 1 - random.below(64)),
        3 => (any.clone(), random.below(128)),
        4..=7 => (newest.clone(), 4096 + random.below(24 * 1024)),
        _ => (any.clone(), 4096 + random.below(60 * 1024)),
    };
    let mut bytes = fs::read(&file).unwrap();
    let end = (at + [1, 8, 512][random.below(3)]).min(bytes.len());
    bytes[at..end].iter_mut().for_each(|byte| *byte ^= 0x10);
    fs::write(&file, bytes).unwrap();
}

#[test]
fn random_logs_are_read_alike_healthy_and_damaged() {
    let place = tempfile::tempdir().unwrap();
    let (mut refused, mut damaged, mut torn) = (0, 0, 0);
    for seed in 1..=SEEDS {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let path = place.path().join(format!("log-{seed}"));
        write(&path, &mut random);
        let (verdict, lost) = agree(&path, &format!("seed {seed}"));
        assert!(verdict != "refused" && lost == 0, "seed {seed}: {verdict}");
        for round in 0..4 {
            let hurt = place.path().join(format!("hurt-{seed}-{round}"));
            copy(&path, &hurt);
            damage(&hurt, &mut random);
            let (verdict, lost) = agree(&hurt, &format!("seed {seed}, damage {round}"));
            refused += usize::from(verdict == "refused");
            torn += usize::from(verdict == "verdict torn");
            damaged += usize::from(lost > 0);
            fs::remove_dir_all(&hurt).unwrap();
        }
        fs::remove_dir_all(&path).unwrap();
    }
    assert!(refused > 5 && damaged > 5, "{refused} refused, {damaged} damaged, {torn} torn");
}

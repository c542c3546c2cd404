//! Commands in the documents: each names packages, targets, features and options that exist.
//!
//! A command is a line of a block, or code within a line, that begins with one of our programs. Those
//! of `indelible` are run as well, on a small log, but for the bench, which takes its time.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "a test fails by panicking, and reads the documents"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use indelible::{Batch, Log, Options};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every document, with its path from the root.
fn documents() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    let mut places = vec![root()];
    while let Some(place) = places.pop() {
        for entry in std::fs::read_dir(place).unwrap().map(Result::unwrap) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().unwrap().is_dir() && name != "target" && !name.starts_with('.') {
                places.push(entry.path());
            } else if name.ends_with(".md") && entry.file_type().unwrap().is_file() {
                paths.push(entry.path());
            }
        }
    }
    let named = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.strip_prefix(root()).unwrap().display().to_string(), text)
    };
    paths.into_iter().map(named).collect()
}

/// The commands of a document, each as its words.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, part) in text.split("```").enumerate() {
        if at % 2 == 1 {
            let shell = part.replace("\\\n", " ");
            found.extend(shell.lines().map(|line| line.trim().trim_start_matches("$ ").to_owned()));
        } else {
            // Code within a line may go on in the next one.
            found.extend(part.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    let words = |command: String| {
        let command = command.split(" #").next().unwrap_or_default().to_owned();
        let words = command.split_whitespace().map(str::to_owned);
        words.skip_while(|word| word.contains('=') && !word.starts_with('-')).collect::<Vec<_>>()
    };
    let ours = |words: &Vec<String>| {
        let (first, more) = (words.first().map(String::as_str), words.len() > 1);
        more && matches!(first, Some("cargo" | "indelible" | "explore" | "clusters"))
            || first.is_some_and(|first| first.starts_with("fuzz/") && first.ends_with(".sh"))
    };
    found.into_iter().map(words).filter(ours).collect()
}

/// What a workspace or a package outside of it has.
struct Packages(BTreeMap<String, Value>);

impl Packages {
    fn of(manifest: &Path) -> Self {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]);
        let said = cargo.arg(manifest).output().unwrap();
        assert!(said.status.success(), "{}", manifest.display());
        let said: Value = serde_json::from_slice(&said.stdout).unwrap();
        let packages = said["packages"].as_array().unwrap().iter();
        let named =
            |package: &Value| (package["name"].as_str().unwrap().to_owned(), package.clone());
        Self(packages.map(named).collect())
    }

    /// The package of a manifest.
    fn at(&self, manifest: &Path) -> Option<String> {
        let manifest = manifest.canonicalize().unwrap();
        let is_at =
            |package: &Value| package["manifest_path"].as_str().map(Path::new) == Some(&manifest);
        self.0.iter().find(|(_, package)| is_at(package)).map(|(name, _)| name.clone())
    }

    fn has_target(&self, package: &str, kind: &str, name: &str) -> bool {
        let targets = self.0.get(package).and_then(|package| package["targets"].as_array());
        targets.into_iter().flatten().any(|target| {
            target["name"] == name
                && target["kind"].as_array().unwrap().iter().any(|seen| seen == kind)
        })
    }

    fn has_feature(&self, package: &str, feature: &str) -> bool {
        let (package, feature) = feature.split_once('/').unwrap_or((package, feature));
        self.0.get(package).is_some_and(|package| package["features"].get(feature).is_some())
    }
}

/// What is wrong with a command of cargo's that is run in `place`.
fn wrong_with_cargo(place: &Path, words: &[String]) -> Option<String> {
    let words: Vec<_> = words.iter().map(String::as_str).filter(|word| *word != "[--").collect();
    let after = |flag: &str| {
        words.iter().position(|word| *word == flag).and_then(|at| words.get(at + 1)).copied()
    };
    if matches!(words.get(1), Some(&"add" | &"+stable" | &"fuzz" | &"--version")) {
        return None;
    }
    if words.get(1) == Some(&"install") {
        let place = after("--path").map(|place| root().join(place).join("Cargo.toml"));
        return place.filter(|place| !place.exists()).map(|place| format!("{}", place.display()));
    }
    let manifest = place.join(after("--manifest-path").unwrap_or("Cargo.toml"));
    if !manifest.exists() {
        return Some(format!("no {}", manifest.display()));
    }
    let packages = Packages::of(&manifest);
    let Some(package) = after("-p").map(str::to_owned).or_else(|| packages.at(&manifest)) else {
        return Some(format!("no package in {}", manifest.display()));
    };
    if !packages.0.contains_key(&package) {
        return Some(format!("no package {package}"));
    }
    for kind in ["bin", "example", "test", "bench"] {
        let name = after(&format!("--{kind}"));
        if let Some(name) = name.filter(|name| !packages.has_target(&package, kind, name)) {
            return Some(format!("{package} has no {kind} {name}"));
        }
    }
    let features = after("--features").unwrap_or_default().split(',');
    features
        .filter(|feature| !feature.is_empty())
        .find(|feature| !packages.has_feature(&package, feature))
        .map(|feature| format!("{package} has no feature {feature}"))
}

/// What a program of ours says of itself.
fn help(package: &str, program: &str, command: Option<&str>) -> Option<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["run", "--quiet", "-p", package, "--bin", program, "--"]);
    let said = cargo.args(command).arg("--help").output().unwrap();
    said.status.success().then(|| String::from_utf8_lossy(&said.stdout).into_owned())
}

/// What is wrong with a command of a program of ours: a subcommand or an option that it lacks.
fn wrong_with_options(words: &[String], help: &str) -> Option<String> {
    let known: BTreeSet<_> =
        help.split(|of: char| !of.is_alphanumeric() && of != '-' && of != '_').collect();
    let options =
        words.iter().map(|word| word.trim_matches(|of| matches!(of, '[' | ']' | '…' | '.')));
    let mut options = options.filter(|word| word.starts_with("--") && word.len() > 2);
    options
        .find(|word| !known.contains(word.split(['=', '[']).next().unwrap_or_default()))
        .map(|word| format!("no option {word}"))
}

#[test]
fn commands_in_the_documents_name_what_exists() {
    let mut helps: BTreeMap<Vec<String>, Option<String>> = BTreeMap::new();
    let (mut seen, mut wrong) = (0, Vec::new());
    for (document, text) in documents() {
        // A member's page is read where the member is.
        let place = root().join(&document);
        let place = place.ancestors().skip(1).find(|place| place.join("Cargo.toml").exists());
        for words in commands(&text) {
            seen += 1;
            let program = words.first().cloned().unwrap_or_default();
            let fault = match program.as_str() {
                "cargo" => wrong_with_cargo(place.unwrap(), &words),
                script if script.starts_with("fuzz/") => {
                    (!root().join(script).exists()).then(|| format!("no {script}"))
                }
                _ => {
                    let (package, command) = match program.as_str() {
                        "indelible" => ("indelible-cli", words.get(1).cloned()),
                        _ => ("indelible-lab", None),
                    };
                    let key =
                        [Some(program.clone()), command.clone()].into_iter().flatten().collect();
                    let said = helps
                        .entry(key)
                        .or_insert_with(|| help(package, &program, command.as_deref()));
                    match said {
                        Some(said) => wrong_with_options(&words, said),
                        None => Some("no such command".to_owned()),
                    }
                }
            };
            wrong.extend(fault.map(|fault| format!("{document}: {}: {fault}", words.join(" "))));
        }
    }
    assert!(seen > 60, "{seen} commands were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The commands of `indelible` in a document that can be run: without the options that a synopsis has
/// in brackets, and not where only the name of a command is mentioned.
fn runnable(text: &str) -> Vec<Vec<String>> {
    let mut found = commands(text);
    for words in &mut found {
        let mut depth = 0;
        words.retain(|word| {
            depth += word.matches('[').count();
            let outside = depth == 0;
            depth -= word.matches(']').count();
            outside
        });
    }
    let runs = |words: &Vec<String>| {
        let whole = words.len() > 2 || words.get(1).is_some_and(|word| word == "man");
        words[0] == "indelible" && words[1] != "bench" && whole
    };
    found.into_iter().filter(runs).collect()
}

/// Two small logs of one group, and what stands for the names in a document.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for name in ["log", "peer"] {
            let log = Log::create(place.path(name), &Options::new()).unwrap();
            let mut batch = Batch::new();
            batch.append(b"entry").set("omnipaxos.decided", 1_u64.to_le_bytes().to_vec());
            log.commit(&batch).unwrap();
            log.close().unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn word(&self, word: &str) -> String {
        match word {
            "DIR" | "A" => self.path("log"),
            "PEER" | "B" => self.path("peer"),
            "DEST" | "FILE" => self.path("new"),
            "SHELL" => "bash".to_owned(),
            own if own.starts_with("/var/lib/") => self.path("log"),
            other if other.starts_with("/mnt/") => self.path("peer"),
            other => other.to_owned(),
        }
    }
}

#[test]
fn commands_of_the_operator_run_as_they_stand_in_the_documents() {
    let (mut wrong, mut names) = (Vec::new(), BTreeSet::new());
    for (document, text) in documents() {
        for words in runnable(&text) {
            let place = Place::new();
            let mut cargo = Command::new(env!("CARGO"));
            cargo.current_dir(root()).args(["run", "--quiet", "-p", "indelible-cli", "--"]);
            cargo.args(words.iter().skip(1).map(|word| place.word(word)));
            let said = cargo.output().unwrap();
            if !said.status.success() {
                let stderr = String::from_utf8_lossy(&said.stderr);
                wrong.push(format!("{document}: {}: {stderr}", words.join(" ")));
            }
            names.insert(words[1].clone());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let all = [
        "backup",
        "compare",
        "completions",
        "dump",
        "inspect",
        "man",
        "refill",
        "repair",
        "verify",
    ];
    assert!(names.iter().map(String::as_str).eq(all), "{names:?}");
}

#[test]
fn wrong_commands_are_noticed() {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for wrong in [
        "cargo bench --bench sync_strategies",
        "cargo test -p indelible-nothing",
        "cargo test --features sqlite",
        "cargo run -p indelible-lab --bin nothing",
        "cargo install --path tools",
    ] {
        assert!(wrong_with_cargo(&root(), &words(wrong)).is_some(), "{wrong}");
    }
    let fault = wrong_with_options(&words("explore --sweeps rot"), "Usage: explore [--sweep S]");
    assert_eq!(fault.as_deref(), Some("no option --sweeps"));
    let found =
        commands("Run `cargo test\n-p x`, or\n```sh\nA=1 explore --sweep \\\n  rot # long\n```\n");
    assert_eq!(found, [words("cargo test -p x"), words("explore --sweep rot")]);
    let text = "`indelible dump DIR [--from --to]`, `indelible verify`, or `indelible bench DIR`";
    assert_eq!(runnable(text), [words("indelible dump DIR")]);
}

//! The rules of the house that a machine can check. Each says what to do about it.

#![expect(clippy::unwrap_used, clippy::string_slice, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` with this ending, build products left out.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for path in entries.map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(files(&path, ending));
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(PathBuf, String)> {
    let sources: Vec<_> = files(root(), ".rs")
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path, text)
        })
        .collect();
    assert!(sources.len() > 50, "only {} source files found", sources.len());
    sources
}

fn assert_none(offenders: &[String], advice: &str) {
    assert!(offenders.is_empty(), "{advice}:\n  {}", offenders.join("\n  "));
}

#[test]
fn every_file_says_what_it_owns() {
    let offenders: Vec<_> = sources()
        .iter()
        .filter(|(_, text)| {
            let opens = ["//!", "#![no_main]", "#![doc = include_str!"];
            !opens.iter().any(|opening| text.starts_with(opening))
        })
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert_none(&offenders, "open the file with `//!`: what it owns, what it does not");
}

#[test]
fn no_file_is_too_long() {
    const LINES_MAX: usize = 800;
    let offenders: Vec<_> = sources()
        .iter()
        .filter(|(_, text)| text.lines().count() > LINES_MAX)
        .map(|(path, text)| format!("{}: {} lines", path.display(), text.lines().count()))
        .collect();
    assert_none(&offenders, "more than 800 lines: does it own one thing?");
}

#[test]
fn unsafe_lives_in_one_file() {
    let word = concat!("unsafe", " ");
    let block = concat!("unsafe", " {");
    let offenders: Vec<_> = sources()
        .iter()
        .filter(|(path, text)| {
            // A fork is unsafe to call.
            !path.ends_with("src/io/map.rs")
                && !path.ends_with("tests/directory/main.rs")
                && !path.ends_with("groups/tests/forked.rs")
                // So is what opens this.
                && !path.ends_with("tests/support/os_door.rs")
                // Pages are reclaimed by address.
                && !path.ends_with("lab/tests/real_disk/reclaimed.rs")
                // The kernel is told where memory is.
                && !path.ends_with("benches/io_uring.rs")
                && text.lines().any(|line| {
                    let code = line.trim_start();
                    !code.starts_with("//")
                        && (code.contains(block)
                            || code.starts_with(&format!("{word}fn"))
                            || code.starts_with(&format!("{word}impl")))
                })
        })
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert_none(&offenders, "move it to src/io/map.rs, or do without");
}

#[test]
fn only_the_door_touches_the_file_system() {
    let calls = ["std::fs", "OpenOptions::new("];
    let allowed = ["src/io/os.rs", "src/io/os"];
    let offenders: Vec<_> = sources()
        .iter()
        .filter(|(path, _)| {
            path.starts_with(root().join("src"))
                && !allowed.iter().any(|allowed| path.starts_with(root().join(allowed)))
        })
        .flat_map(|(path, text)| {
            text.lines()
                .enumerate()
                .filter(|(_, line)| !line.trim_start().starts_with("//"))
                .filter(|(_, line)| calls.iter().any(|call| line.contains(call)))
                .map(|(at, _)| format!("{}:{}", path.display(), at + 1))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_none(&offenders, "go through the I/O door (src/io/mod.rs)");
}

#[test]
fn every_sync_says_what_it_makes_durable() {
    let engine = ["src/log", "src/directory", "src/recovery"];
    let mut syncs = 0;
    let mut offenders = Vec::new();
    for (path, text) in sources() {
        if !engine.iter().any(|part| path.starts_with(root().join(part))) {
            continue;
        }
        let lines: Vec<_> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let call = line.contains("dir.sync()") || line.contains(".sync(");
            if !call || line.trim_start().starts_with("//") || line.contains("fn ") {
                continue;
            }
            syncs += 1;
            let before = lines[at.saturating_sub(8)..at].join("\n");
            if !before.contains("durable") {
                offenders.push(format!("{}:{}", path.display(), at + 1));
            }
        }
    }
    assert!(syncs >= 8, "only {syncs} syncs found: has the check gone blind?");
    assert_none(&offenders, "say what it makes durable and what a crash before it would lose");
}

/// What a kind of frame means stands in one place; who else names one writes it.
#[test]
fn only_one_file_tells_what_a_frame_means() {
    const MEANING: &str = "src/format/kind.rs";
    /// The payload of cells, and the encoders.
    const OTHERS: [&str; 4] = [
        "src/format/cell.rs",
        "src/log/writer/frames.rs",
        "src/repair/rebuild.rs",
        "src/segment/witness.rs",
    ];
    let kinds = ["Entry", "Set", "Clear", "Attach", "Truncate", "Trim", "Reset", "Hole", "Witness"];
    let named = |line: &str| {
        let code = line.trim_start();
        !code.starts_with("//") && kinds.iter().any(|kind| code.contains(&format!("Kind::{kind}")))
    };
    let mut meant = 0;
    let mut offenders = Vec::new();
    for (path, text) in sources() {
        let Ok(place) = path.strip_prefix(root()) else { continue };
        let is_code = place.starts_with("src") || place.starts_with("cli/src");
        if !is_code || place.starts_with("src/format/tests") {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (at, line) in code.lines().enumerate().filter(|(_, line)| named(line)) {
            if place == Path::new(MEANING) {
                meant += 1;
            } else if !OTHERS.iter().any(|other| place == Path::new(other)) {
                offenders.push(format!("{}:{}: {}", place.display(), at + 1, line.trim()));
            }
        }
    }
    assert!(meant >= kinds.len(), "only {meant} kinds have a meaning: has the check gone blind?");
    let advice = "ask for the effect of the frame (src/format/kind.rs, `inspect::EffectSeen`)";
    assert_none(&offenders, advice);
}

#[test]
fn nothing_is_left_to_be_done() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    let offenders: Vec<_> = sources()
        .iter()
        .filter(|(_, text)| words.iter().any(|word| text.contains(word)))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert_none(&offenders, "do it, or say in an issue why not");
}

/// What a document says outside of blocks of code.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// Whether a heading of a document has this anchor.
fn has_anchor(text: &str, anchor: &str) -> bool {
    let kept = |of: char| of.is_alphanumeric() || of == ' ' || of == '-' || of == '_';
    let of_heading = |heading: &str| -> String {
        heading.to_lowercase().chars().filter(|of| kept(*of)).collect::<String>().replace(' ', "-")
    };
    let text = prose(text);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| line.trim_matches(['#', ' '])).any(|line| of_heading(line) == anchor)
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut documents = files(&root().join("docs"), ".md");
    documents.extend(files(root(), ".md").into_iter().filter(|path| path.parent() == Some(root())));
    let mut links = 0;
    let mut offenders = Vec::new();
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        let text = prose(&text);
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap_or_default();
            if target.contains("://") {
                continue;
            }
            links += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = document.parent().unwrap().join(path);
            let path = if target.starts_with('#') { document.clone() } else { path };
            let has = |text: String| anchor.is_empty() || has_anchor(&text, anchor);
            if !path.is_dir()
                && !fs::read(&path).is_ok_and(|text| has(String::from_utf8_lossy(&text).into()))
            {
                offenders.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(links > 10, "only {links} links found: has the check gone blind?");
    assert_none(&offenders, "there is no such file, or no such heading in it");
}

/// What is assumed of the medium has numbers in docs/RECOVERY.md; the code that relies on one cites it.
#[test]
fn assumptions_that_are_cited_are_made() {
    let page = fs::read_to_string(root().join("docs/RECOVERY.md")).unwrap();
    let mut cited = 0;
    let mut offenders = Vec::new();
    for (path, text) in sources() {
        for (at, line) in
            text.lines().enumerate().filter(|(_, line)| line.contains("RECOVERY.md, M"))
        {
            let after = line.split_once("RECOVERY.md, ").map_or("", |(_, after)| after);
            let words = after.split(|byte: char| !byte.is_ascii_alphanumeric());
            for number in words.filter(|word| word.starts_with('M') && word.len() == 2) {
                cited += 1;
                if !page.contains(&format!("- **{number} ")) {
                    offenders.push(format!("{}:{}: {number}", path.display(), at + 1));
                }
            }
        }
    }
    assert!(cited >= 4, "only {cited} citations found: has the check gone blind?");
    assert_none(&offenders, "number what is assumed in docs/RECOVERY.md");
}

#[test]
fn readme_states_two_commands_and_the_check_runs_one_of_them() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let commands: Vec<_> = readme
        .lines()
        .filter(|line| line.starts_with("cargo run") || line.starts_with("cargo test"))
        .collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    let check = fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(check.contains("grep -m1 '^cargo test' README.md"));
}

/// What recovery cannot notice is said once, in the same words, wherever somebody may look for it.
#[test]
fn what_cannot_be_told_from_a_torn_end_is_said_in_one_sentence() {
    let words = |text: &str| {
        let lines = text.lines().map(|line| line.trim().trim_start_matches("///"));
        lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
    };
    let read = |path: &str| words(&fs::read_to_string(root().join(path)).unwrap());
    let sentence = indelible::Verdict::UNNOTICED;
    let pages = ["README.md", "docs/DESIGN.md", "docs/RECOVERY.md", "docs/OPERATIONS.md"];
    let said =
        ["torn_inspect.txt", "torn_verify.txt"].map(|it| format!("cli/tests/cli/snapshots/{it}"));
    for page in pages.into_iter().chain(said.iter().map(String::as_str)) {
        assert!(read(page).contains(sentence), "{page} should say: {sentence}");
    }
    let verdict = read("src/recovery/mod.rs");
    let (documented, _) = verdict.split_once(" TornTail {").unwrap();
    assert!(documented.ends_with(sentence), "the page of the verdict should say: {sentence}");
}

/// The texts in the code of a file: string literals outside tests, and those of errors.
fn texts(tokens: TokenStream, found: &mut Vec<String>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(mark) if mark.as_char() == '#' => {
                let inner = tokens.next_if(|it| matches!(it, TokenTree::Punct(_)));
                let Some(TokenTree::Group(attribute)) = tokens.next() else { continue };
                let attribute = attribute.stream();
                let said = attribute.to_string();
                if said.starts_with("error") {
                    texts(attribute, found);
                } else if inner.is_none() && said.replace(' ', "") == "cfg(test)" {
                    let is_end = |token: &TokenTree| match token {
                        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                        TokenTree::Punct(mark) => mark.as_char() == ';',
                        _ => false,
                    };
                    let _item = tokens.find(is_end);
                }
            }
            TokenTree::Group(group) => texts(group.stream(), found),
            TokenTree::Literal(literal) => {
                let text = syn::parse_str::<syn::LitStr>(&literal.to_string());
                found.extend(text.ok().map(|text| text.value()));
            }
            _ => {}
        }
    }
}

/// The parts of a text that are always the same, in words, if they are more than one word.
fn fixed_parts(text: &str) -> Vec<String> {
    let text = text.replace("{{", "").replace("}}", "");
    let parts = text.split('{').enumerate().map(|(nth, part)| match part.split_once('}') {
        Some((_, after)) if nth > 0 => after,
        _ => part,
    });
    let words = |part: &str| part.split_whitespace().collect::<Vec<_>>().join(" ");
    parts.map(words).filter(|part| part.contains(' ')).collect()
}

#[test]
fn every_message_of_the_command_line_stands_in_a_snapshot() {
    /// What is drawn, measured, and said by the clock: other tests look at parts of these.
    const APART: [&str; 3] = ["cli/src/page.rs", "cli/src/progress.rs", "cli/src/bench"];
    /// What nothing that an engine wrote brings about, but for a moment while it does.
    const NEVER: [&str; 2] = ["no live entries", "was durable"];
    /// Errors, findings and plans that the commands print.
    const PRINTED: [&str; 7] = [
        "src/error.rs",
        "src/format/error.rs",
        "src/inspect/cells.rs",
        "src/inspect/verify.rs",
        "src/repair/from_peer.rs",
        "src/repair/mod.rs",
        "groups/src/envelope.rs",
    ];
    let snapshots = files(&root().join("cli/tests/cli/snapshots"), ".txt");
    let snapshots = snapshots.into_iter().map(|path| fs::read_to_string(path).unwrap());
    // As roff has it in the manual.
    let words =
        |text: String| text.replace("\\-", "-").split_whitespace().collect::<Vec<_>>().join(" ");
    let shown = snapshots.map(words).collect::<Vec<_>>().join("\n");
    let (mut parts, mut offenders) = (0, Vec::new());
    for (path, text) in sources() {
        let place = path.strip_prefix(root()).unwrap();
        let is_said = place.starts_with("cli/src") && !APART.iter().any(|it| place.starts_with(it));
        if !is_said && !PRINTED.iter().any(|it| place == Path::new(it)) {
            continue;
        }
        let mut found = Vec::new();
        texts(text.parse().unwrap(), &mut found);
        for part in found.iter().flat_map(|text| fixed_parts(text)) {
            parts += 1;
            if !shown.contains(&part) && !NEVER.contains(&part.as_str()) {
                offenders.push(format!("{}: {part}", place.display()));
            }
        }
    }
    assert!(parts > 300, "only {parts} texts found: has the check gone blind?");
    assert_none(&offenders, "have a test of cli/tests compare it with a snapshot");
}

/// What `verify` says that a damage means is what the operator looks up, in the same words.
#[cfg(feature = "tools")]
#[test]
fn each_meaning_of_a_damage_is_a_row_for_the_operator() {
    use indelible::inspect::Meaning as M;
    let meanings =
        [M::Redundant, M::Dead, M::Blocking, M::Entries, M::State, M::Checkpoint, M::SideFile];
    let meanings = meanings.into_iter().chain([M::Displaced, M::Unsupported]);
    let meanings = meanings.map(|it| it.to_string());
    let page = fs::read_to_string(root().join("docs/OPERATIONS.md")).unwrap();
    let (_, table) =
        page.split_once("| meaning | what is lost | what to do |\n|---|---|---|\n").unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let rows: Vec<_> = rows.filter_map(|row| row.split(" | ").next()?.strip_prefix("| ")).collect();
    assert_eq!(rows.len(), meanings.clone().count(), "{rows:?}");
    for (meaning, row) in meanings.zip(rows) {
        let rest = meaning.strip_prefix(row);
        let whole = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([';', ':', ',']));
        assert!(whole, "docs/OPERATIONS.md has {row:?} where verify says {meaning:?}");
    }
}

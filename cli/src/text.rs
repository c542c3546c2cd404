//! Numbers, bytes and findings as text for people.

use std::ffi::OsStr;
use std::fmt::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use indelible::inspect::{Finding, InUse, Meaning, StateSeen, Verification};

use crate::Failure;
use crate::exit::Exit;

/// Logs below a directory that are looked at, to name one.
const FEW: usize = 64;

/// Bytes in the largest unit that keeps the number above one.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = "KiB";
    for larger in UNITS.into_iter().skip(1) {
        if tenths < 10 * 1024 {
            break;
        }
        tenths /= 1024;
        unit = larger;
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// First and last number of a range, or the only one.
pub(crate) fn numbers(range: &Range<u64>) -> String {
    let last = range.end.saturating_sub(1);
    if range.start == last { last.to_string() } else { format!("{}-{last}", range.start) }
}

/// A count and its noun.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// Bytes as text if they all print, else in hexadecimal; cut at `limit`.
pub(crate) fn preview(bytes: &[u8], limit: usize) -> String {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control));
    match text {
        Some(text) if text.chars().count() <= limit => format!("{text:?}"),
        Some(text) => format!("{:?}...", text.chars().take(limit).collect::<String>()),
        None => {
            let shown = hex(bytes.get(..limit / 2).unwrap_or(bytes));
            if bytes.len() > limit / 2 { format!("{shown}...") } else { shown }
        }
    }
}

/// Text over lines of so many columns, all of which but the first are indented; so is whatever stands
/// before the first.
pub(crate) fn wrapped(text: &str, indent: usize, columns: usize) -> String {
    let (mut out, mut column) = (String::new(), indent);
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if column > indent && column + 1 + width > columns {
            let _infallible = write!(out, "\n{:indent$}", "");
            column = indent;
        } else if column > indent {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _infallible = write!(out, "{byte:02x}");
    }
    out
}

/// Sixteen bytes a line, as `xxd` does.
pub(crate) fn hex_lines(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (nth, line) in bytes.chunks(16).enumerate() {
        let pairs: Vec<String> = line.chunks(2).map(hex).collect();
        let text: String = line
            .iter()
            .map(|&byte| if byte.is_ascii_graphic() || byte == b' ' { byte.into() } else { '.' })
            .collect();
        let _infallible = writeln!(out, "    {:06x}  {:39}  {text}", nth * 16, pairs.join(" "));
    }
    out
}

/// Ranges as text; of many, the first.
pub(crate) fn ranges(ranges: &[Range<u64>]) -> String {
    const SHOWN: usize = 8;
    let first = ranges.iter().take(SHOWN).map(|range| format!("{}..{}", range.start, range.end));
    let mut shown: Vec<String> = first.collect();
    if ranges.len() > SHOWN {
        shown.push(format!("and {} more ranges", ranges.len() - SHOWN));
    }
    shown.join(", ")
}

/// Refuses a range that ends before it begins.
pub(crate) fn check_range(from: Option<u64>, to: Option<u64>) -> Result<(), Failure> {
    match (from, to) {
        (Some(from), Some(to)) if from >= to => Err(Failure::Refused(
            format!("--from {from} is not before --to {to}: there is nothing between them"),
            Some("indexes are half-open: --from 5 --to 7 shows 5 and 6"),
            Exit::Usage,
        )),
        _ => Ok(()),
    }
}

/// Whether a directory holds the file that makes it a log.
pub(crate) fn holds_log(path: &Path) -> bool {
    path.join("metadata").is_file()
}

/// Whether a file here has a name that files of a log have, though the one that makes it a log may be
/// lost.
fn holds_files_of_log(path: &Path) -> bool {
    let is_one = |name: PathBuf| {
        let end = name.extension().and_then(OsStr::to_str).unwrap_or_default();
        let stem = name.file_stem().and_then(OsStr::to_str).unwrap_or_default();
        let is_numbered = stem.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        is_numbered && ["seg", "side", "spare", "tmp"].contains(&end)
    };
    let files = std::fs::read_dir(path).into_iter().flatten().flatten();
    holds_log(path) || files.map(|entry| entry.file_name().into()).any(is_one)
}

/// Whether both paths lead to one directory.
fn are_same(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    real(a).is_some_and(|a| real(b) == Some(a))
}

/// Refuses one directory in the place of two.
pub(crate) fn refuse_same(a: &Path, b: &Path) -> Result<(), Failure> {
    if !are_same(a, b) {
        return Ok(());
    }
    let said = format!("{} and {} are one directory", a.display(), b.display());
    let advice = "name the directories of two logs; nothing was changed";
    Err(Failure::Refused(said, Some(advice), Exit::Usage))
}

/// Refuses to write a file, which it might replace, among those of the log that was given, if one was,
/// or of any other.
pub(crate) fn refuse_in_log(file: &Path, log: Option<&Path>) -> Result<(), Failure> {
    let refuse = |why: &str, advice| {
        let said = format!("cannot write {}: {why}", file.display());
        Err(Failure::Refused(said, Some(advice), Exit::Usage))
    };
    if file.is_symlink() && !file.exists() {
        let advice = "name the file itself; nothing was written";
        return refuse("it is a link to a file that is not there", advice);
    }
    // What a link leads to is what would be written.
    let real = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf());
    let parent = real.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    if log.is_some_and(|log| are_same(log, parent)) || holds_files_of_log(parent) {
        let advice = "choose another directory; nothing was written";
        return refuse("it would be among the files of a log", advice);
    }
    Ok(())
}

/// A directory right below this one that holds a log.
pub(crate) fn log_below(path: &Path) -> Option<PathBuf> {
    let below = std::fs::read_dir(path).ok()?.flatten().map(|entry| entry.path());
    let mut logs: Vec<PathBuf> = below.filter(|path| holds_log(path)).take(FEW).collect();
    logs.sort();
    logs.into_iter().next()
}

/// Whether the log is open somewhere, in words.
pub(crate) fn in_use(use_now: InUse) -> String {
    match use_now {
        InUse::No => "no".to_owned(),
        InUse::Yes(Some(pid)) => format!("yes, by process {pid}"),
        InUse::Yes(None) => "yes".to_owned(),
        InUse::Unknown(Some(pid)) => format!("unknown; process {pid} opened it last"),
        _ => "unknown".to_owned(),
    }
}

/// A finding: what, then what it means.
pub(crate) fn finding(found: &Finding, seen: &Verification, state: Option<&StateSeen>) -> String {
    let mut out = format!("  {}\n", found.error);
    if let Some(cell) = &found.cell {
        let what = crate::groups::refers_to(cell).map(|what| format!(": {what}"));
        let _infallible =
            writeln!(out, "    the cell {cell} refers to it{}", what.unwrap_or_default());
    }
    let _infallible = writeln!(out, "    {}", meaning(found, seen, state));
    out
}

/// What a finding means; to groups, if the file is one of their own.
pub(crate) fn meaning(found: &Finding, seen: &Verification, state: Option<&StateSeen>) -> String {
    let lost = seen.findings.iter().filter_map(|it| it.cell.as_deref());
    let cell = found.cell.as_deref().filter(|_| found.meaning == Meaning::SideFile);
    let told = cell.and_then(|cell| crate::groups::side_file_lost(cell, lost, state));
    told.map_or_else(|| found.meaning.to_string(), |told| format!("{told}; see `repair --plan`"))
}

#[cfg(test)]
mod tests {
    use super::{hex_lines, preview, size, wrapped};

    #[test]
    fn lines_are_broken_between_words_and_hang() {
        assert_eq!(wrapped("one two three", 2, 11), "one two\n  three");
        assert_eq!(wrapped("longer-than-that x", 2, 6), "longer-than-that\n  x");
        assert_eq!(wrapped("", 2, 6), "");
    }

    #[test]
    fn sizes_have_one_decimal() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1024), "1.0 KiB");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(64 << 20), "64.0 MiB");
        assert_eq!(size(u64::MAX), "16777215.9 TiB");
    }

    #[test]
    fn bytes_that_do_not_print_are_hexadecimal() {
        assert_eq!(preview(b"abc", 10), "\"abc\"");
        assert_eq!(preview(b"abcdef", 3), "\"abc\"...");
        assert_eq!(preview(&[0, 255, 1], 4), "00ff...");
        assert_eq!(hex_lines(b"ab\0"), format!("    000000  {:39}  ab.\n", "6162 00"));
    }
}

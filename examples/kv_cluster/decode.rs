//! Commands of a log as text, for `indelible dump --decode=omnipaxos --payload`.
//!
//! Owns: one line out for each line in. Does not own: what a command is (`kv`).

use std::io::{BufRead, Write};

use crate::bytes::In;
use crate::failure::{Outcome, Why};
use crate::kv::Command;

/// Reads a command per line, in hexadecimal, and writes a line for each at once.
pub(crate) fn lines(from: impl BufRead, mut to: impl Write) -> Outcome<()> {
    for line in from.lines() {
        let line = line.why(|| "cannot read")?;
        let shown =
            describe(line.trim()).unwrap_or_else(|| "no command of this program".to_owned());
        writeln!(to, "{shown}").and_then(|()| to.flush()).why(|| "cannot write")?;
    }
    Ok(())
}

fn describe(hex: &str) -> Option<String> {
    let digits: Vec<u32> = hex.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let bytes: Vec<u8> = pairs
        .iter()
        .map(|[high, low]| u8::try_from(high * 16 + low))
        .collect::<Result<_, _>>()
        .ok()?;
    let mut read = In::new(&bytes);
    let command = Command::decode(&mut read).ok()?;
    read.end().ok()?;
    Some(match command {
        Command::Put { id, key, value } => format!("#{id} put {key:?} = {value:?}"),
        Command::Look { id, key } => format!("#{id} look {key:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_and_rubbish_is_named() {
        let put = Command::Put { id: 7, key: "ink".into(), value: "black".into() };
        let hex = put.to_bytes().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let mut shown = Vec::new();
        lines(format!("{hex}\nabc\nzz\n\n").as_bytes(), &mut shown).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.first(), Some(&"#7 put \"ink\" = \"black\""));
        assert_eq!(lines.iter().filter(|line| line.starts_with("no command")).count(), 3);
    }
}

//! What a run writes: the lines of a text, over and over, and reads in between.
//!
//! Owns: which command entry `i` is, so that the end of a run can say what every node should hold.
//! Does not own: whether they do (`check`).

use std::path::Path;

use crate::failure::{Failure, Outcome, Why};
use crate::kv::Command;

/// The text that comes along.
const TEXT: &str = include_str!("input.txt");
/// Longest line taken as one entry.
const LINE_BYTES_MAX: usize = 1 << 15;
/// Every so many-th command is a read.
const READ_EVERY: u64 = 4;
/// How many writes back the key of a read is, at most. Odd, so that every key has its turn.
const READ_BACK: u64 = 5;

#[derive(Debug, Clone)]
pub(crate) struct Input {
    lines: Vec<String>,
}

impl Input {
    pub(crate) fn load(path: Option<&Path>) -> Outcome<Self> {
        let text = match path {
            None => TEXT.to_owned(),
            Some(path) => {
                let bytes =
                    std::fs::read(path).why(|| format!("cannot read {}", path.display()))?;
                String::from_utf8_lossy(&bytes).into_owned()
            }
        };
        let lines: Vec<String> =
            text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
        if lines.is_empty() {
            return Err(Failure::new("the input has no lines"));
        }
        if lines.iter().any(|line| line.len() > LINE_BYTES_MAX) {
            return Err(Failure::new("the input has a line of more than 32 KiB"));
        }
        Ok(Self { lines })
    }

    pub(crate) fn lines(&self) -> usize {
        self.lines.len()
    }

    /// Mean length of a line in bytes.
    pub(crate) fn mean_bytes(&self) -> usize {
        self.lines.iter().map(String::len).sum::<usize>() / self.lines.len().max(1)
    }

    /// Entry `i`. Writes take line after line, round and round; the key is the line's number, and no
    /// value is written twice to a key. Reads look at a key that was written lately.
    pub(crate) fn command(&self, entry: u64) -> Command {
        let (id, reads) = (entry + 1, (entry + 1) / READ_EVERY);
        let (count, write) = (self.lines.len() as u64, entry - reads);
        let key = |write: u64| format!("line {}", write % count + 1);
        if id % READ_EVERY == 0 {
            let back = reads % READ_BACK + 1;
            return Command::Look { id, key: key(write.saturating_sub(back)) };
        }
        let text = usize::try_from(write % count).ok().and_then(|line| self.lines.get(line));
        let value = format!("{} [{}]", text.map_or("", String::as_str), write / count);
        Command::Put { id, key: key(write), value }
    }

    /// The entry that a command's identifier stands for.
    pub(crate) fn entry_of(id: u64) -> Option<u64> {
        id.checked_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_fourth_command_reads_what_another_writes_and_no_value_comes_twice() {
        let input = Input { lines: vec!["same".to_owned(), "same".to_owned()] };
        let (mut written, mut keys, mut read) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for entry in 0..400 {
            match input.command(entry) {
                Command::Put { key, value, .. } => {
                    keys.insert(key.clone());
                    assert!(written.insert((key, value)), "entry {entry}");
                }
                Command::Look { key, .. } => {
                    assert_eq!(entry % 4, 3);
                    read.insert(key);
                }
            }
        }
        assert_eq!((written.len(), keys.len()), (300, 2));
        assert_eq!(keys, read);
    }
}

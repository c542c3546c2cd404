//! What a run writes: the lines of a text, over and over.
//!
//! Owns: which command entry `i` is, so that the end of a run can say what every node should hold.
//! Does not own: whether they do (`check`).

use std::path::Path;

use crate::failure::{Failure, Outcome, Why};
use crate::kv::Command;

/// The text that comes along.
const TEXT: &str = include_str!("input.txt");
/// Longest line taken as one entry.
const LINE_BYTES_MAX: usize = 1 << 20;

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
            return Err(Failure::new("the input has a line of more than 1 MiB"));
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

    /// Entry `i`: line `i`, counted round and round; its key is the line's number.
    pub(crate) fn command(&self, entry: u64) -> Command {
        let count = self.lines.len() as u64;
        let (pass, line) = (entry / count, entry % count);
        let text = usize::try_from(line).ok().and_then(|line| self.lines.get(line));
        Command::Put {
            id: entry + 1,
            key: format!("line {}", line + 1),
            value: format!("{} [{pass}]", text.map_or("", String::as_str)),
        }
    }

    /// The entry that a command's identifier stands for.
    pub(crate) fn entry_of(id: u64) -> Option<u64> {
        id.checked_sub(1)
    }
}

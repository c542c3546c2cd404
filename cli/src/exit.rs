//! What the exit code of every command says.
//!
//! Owns: the table. It is printed by `--help` and in the manual page, and docs/OPERATIONS.md repeats
//! it; a test compares them.

use std::process::ExitCode;

use indelible::Error;

use crate::text::wrapped;

/// Columns of the table, and of the codes in it.
const COLUMNS: usize = 78;
const INDENT: usize = 7;

/// How a command ended. Where it judges a log, this is the state of the log afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Sound,
    Torn,
    Usage,
    Damaged,
    Unreadable,
    Interrupted,
}

impl Exit {
    pub(crate) const ALL: [Self; 6] =
        [Self::Sound, Self::Torn, Self::Usage, Self::Damaged, Self::Unreadable, Self::Interrupted];

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Sound => 0,
            Self::Torn => 1,
            // As the parser of the command line has it.
            Self::Usage => 2,
            Self::Damaged => 3,
            Self::Unreadable => 4,
            // As shells have it for a program that Ctrl-C ended.
            Self::Interrupted => 130,
        }
    }

    /// The worse of two judgements of one log.
    pub(crate) fn or_worse(self, other: Self) -> Self {
        let rank = |exit: Self| match exit {
            Self::Sound => 0,
            Self::Torn => 1,
            Self::Unreadable => 2,
            _ => 3,
        };
        if rank(other) > rank(self) { other } else { self }
    }

    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Sound => {
                "sound: everything that counts is readable, and the command did its work"
            }
            Self::Torn => {
                "a torn end, which the next open drops; nothing shows that it was acknowledged \
                 (inspect, verify, repair)"
            }
            Self::Usage => "the command line is wrong; nothing was done",
            Self::Damaged => {
                "damaged: something is unreadable, missing, or (compare, refill) not the same in \
                 both logs"
            }
            Self::Unreadable => {
                "could not be done: no log, in use, an unknown version, no space, nothing to compare, \
                 or an error of the system"
            }
            Self::Interrupted => "interrupted",
        }
    }

    /// The code of a call that failed.
    pub(crate) fn of(error: &Error) -> Self {
        match error {
            Error::Damaged { .. } | Error::Incomplete { .. } | Error::Hole { .. } => Self::Damaged,
            _ => Self::Unreadable,
        }
    }

    /// The table as text, one line a code.
    pub(crate) fn table() -> String {
        let meaning = |exit: &Self| wrapped(exit.meaning(), INDENT, COLUMNS);
        let line = |exit: &Self| format!("{:>5}  {}\n", exit.code(), meaning(exit));
        Self::ALL.iter().map(line).collect()
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn the_operations_page_has_the_same_table() {
        let page = include_str!("../docs/OPERATIONS.md");
        for exit in Exit::ALL {
            let row = format!("| {} | {} |", exit.code(), exit.meaning());
            assert!(page.contains(&row), "docs/OPERATIONS.md lacks\n{row}");
        }
    }
}

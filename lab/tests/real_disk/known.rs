//! What the parent knows of a log from the lines of its children, and what it holds them to.
//!
//! An open must find what was acknowledged, or that and the one operation that was begun; it then
//! is an acknowledgement itself. Whether an error was to be expected is for the lane to say.

use crate::oracle::{BATCH_MAX, Contents, Op};

/// The log as far as it was acknowledged, and what became of everything else.
#[derive(Debug, Default)]
pub(crate) struct Known {
    contents: Contents,
    begun: Option<Op>,
    /// First number that was never used for an entry.
    pub(crate) number: u64,
    /// There is a log: an open said so.
    pub(crate) exists: bool,
    /// It was closed, and nothing happened to it since.
    closed: bool,
    /// Operations acknowledged, opens that said what they found, torn tails among them.
    pub(crate) acknowledged: u64,
    pub(crate) opens: u64,
    pub(crate) torn: u64,
    /// Opens that found the operation that was begun; opens that did not.
    pub(crate) whole: u64,
    pub(crate) absent: u64,
    /// Operations that a full disk refused.
    pub(crate) refused: u64,
    /// Logs that failed and were found poisoned.
    pub(crate) poisoned: u64,
}

/// A line that ends the life of a child before its time, by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The open answered with this variant of the error.
    Refused(String, String),
    /// The log failed with it.
    Failed(String, String),
    /// A side file could not be made; the log is as it was.
    Unattached(String, String),
    /// What was durable could not be read.
    Blind(String, String),
}

impl Trouble {
    /// The variant of the error.
    pub(crate) fn kind(&self) -> &str {
        let (Self::Refused(kind, _)
        | Self::Failed(kind, _)
        | Self::Unattached(kind, _)
        | Self::Blind(kind, _)) = self;
        kind
    }

    /// What the error says.
    pub(crate) fn text(&self) -> &str {
        let (Self::Refused(_, text)
        | Self::Failed(_, text)
        | Self::Unattached(_, text)
        | Self::Blind(_, text)) = self;
        text
    }
}

impl Known {
    /// Takes in one line.
    ///
    /// # Errors
    /// The promise that was broken.
    pub(crate) fn hear(&mut self, line: &str) -> Result<Option<Trouble>, String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (kind, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let (kind, text) = (kind.to_owned(), text.to_owned());
        match word {
            "open" => self.opened(rest)?,
            "do" => {
                self.closed = false;
                // Numbers are used up even if the operation is never seen again.
                self.number += BATCH_MAX;
                self.begun = Some(rest.parse().map_err(|()| format!("{line:?} is no operation"))?);
            }
            "ok" => {
                self.contents.apply(self.begun.take().ok_or("an answer to nothing")?);
                self.acknowledged += 1;
            }
            "full" => {
                let op = self.begun.take().ok_or("an answer to nothing")?;
                // A truncation below the last segment begins a new one.
                if !op.needs_space() && !matches!(op, Op::Truncate { .. }) {
                    return Err(format!("refused on a full disk, though it needs no space: {op}"));
                }
                self.refused += 1;
            }
            "unattached" => {
                self.begun = None;
                self.refused += u64::from(kind == "DiskFull");
                return Ok(Some(Trouble::Unattached(kind, text)));
            }
            "closed" => self.closed = true,
            "poisoned" => self.poisoned += 1,
            "shut" => {}
            "refused" => return Ok(Some(Trouble::Refused(kind, text))),
            "failed" => return Ok(Some(Trouble::Failed(kind, text))),
            "blind" | "unreadable" => return Ok(Some(Trouble::Blind(kind, text))),
            _ => return Err(line.to_owned()),
        }
        Ok(None)
    }

    fn opened(&mut self, found: &str) -> Result<(), String> {
        self.opens += 1;
        self.exists = true;
        let numbers: Vec<u64> = found.split(' ').map_while(|word| word.parse().ok()).collect();
        let &[first, next, digest, torn] = &numbers[..] else { return Err(found.to_owned()) };
        self.torn += torn;
        if torn > 0 && self.closed {
            return Err("a tail is called torn after a close".to_owned());
        }
        self.closed = false;
        let begun = self.begun.take();
        if digest == self.contents.digest() {
            self.absent += u64::from(begun.is_some());
            return Ok(());
        }
        let before = format!("{}..{}", self.contents.first(), self.contents.next());
        let Some(op) = begun else {
            return Err(format!("found {first}..{next}, acknowledged was {before}, nothing begun"));
        };
        self.contents.apply(op);
        if digest != self.contents.digest() {
            return Err(format!("found {first}..{next}, neither {before} nor that and {op}"));
        }
        self.whole += 1;
        Ok(())
    }

    /// Whether the last child came to its end.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Counts from here on, of the same log.
    pub(crate) fn count_anew(&mut self) {
        (self.acknowledged, self.opens, self.torn) = (0, 0, 0);
        (self.whole, self.absent, self.refused, self.poisoned) = (0, 0, 0, 0);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.opens += other.opens;
        self.torn += other.torn;
        self.whole += other.whole;
        self.absent += other.absent;
        self.refused += other.refused;
        self.poisoned += other.poisoned;
    }

    /// The totals that every lane prints.
    pub(crate) fn totals(&self) -> String {
        format!(
            "{} operations acknowledged, all found by {} opens; of those begun {} were whole and \
             {} absent; {} torn tails",
            self.acknowledged, self.opens, self.whole, self.absent, self.torn
        )
    }
}

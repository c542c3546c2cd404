//! What a read hands out: entries in memory of the reader's own, in each peer's cheapest form.
//!
//! Owns: the forms that more than one peer has. Some peers answer with a vector an entry, some with
//! a few buffers that hold many, some with counted references into a cache of theirs; stores that
//! only lend their values have them copied into one buffer, which is the cheapest a host can do with
//! them. None is made to convert its answer into somebody else's form while the clock runs.

use std::hint::black_box;

/// Entries that stay what they are whatever the peer does next.
pub trait Owned {
    /// How many entries there are.
    fn len(&self) -> usize;

    /// Shows each entry in order.
    fn each(&self, look: &mut dyn FnMut(&[u8]));
}

/// What a look at every entry saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub entries: usize,
    pub bytes: usize,
}

impl Seen {
    /// Takes an entry in: its length and its first byte, so that a form which has to find its
    /// entries finds them, and a lazy one fetches them.
    pub fn look(&mut self, entry: &[u8]) {
        black_box(entry.first());
        self.entries += 1;
        self.bytes += entry.len();
    }

    /// Looks at every entry of an answer.
    pub fn all(owned: &dyn Owned) -> Self {
        let mut seen = Self::default();
        owned.each(&mut |entry| seen.look(entry));
        seen
    }
}

/// Entries copied into one buffer by the reader.
#[derive(Default)]
pub struct Joined {
    bytes: Vec<u8>,
    /// Where each entry ends in the buffer.
    ends: Vec<usize>,
}

impl Joined {
    pub fn with_capacity(entries: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(entries) }
    }

    /// A buffer of `count` entries that lie in it without anything between them.
    pub fn packed(bytes: Vec<u8>, entry_bytes: usize) -> Self {
        let ends = (1..=bytes.len() / entry_bytes).map(|nth| nth * entry_bytes).collect();
        Self { bytes, ends }
    }

    pub fn push(&mut self, entry: &[u8]) {
        self.bytes.extend_from_slice(entry);
        self.ends.push(self.bytes.len());
    }
}

impl Owned for Joined {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn each(&self, look: &mut dyn FnMut(&[u8])) {
        let mut start = 0;
        for &end in &self.ends {
            look(&self.bytes[start..end]);
            start = end;
        }
    }
}

/// A value an entry: vectors, or whatever a peer counts references to.
impl<T: AsRef<[u8]>> Owned for Vec<T> {
    fn len(&self) -> usize {
        self.len()
    }

    fn each(&self, look: &mut dyn FnMut(&[u8])) {
        for entry in self {
            look(entry.as_ref());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_shows_the_same_entries() {
        let mut joined = Joined::default();
        joined.push(b"one");
        joined.push(b"");
        joined.push(b"three");
        let vectors = vec![b"one".to_vec(), Vec::new(), b"three".to_vec()];
        assert_eq!(Seen::all(&joined), Seen { entries: 3, bytes: 8 });
        assert_eq!(Seen::all(&joined), Seen::all(&vectors));
        let packed = Joined::packed(b"aabbcc".to_vec(), 2);
        assert_eq!(Seen::all(&packed), Seen { entries: 3, bytes: 6 });
    }
}

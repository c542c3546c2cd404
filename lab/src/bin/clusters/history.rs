//! What was ever seen decided, and what the clients were told.

/// The decided log as the outside world saw it. An index that was seen once never changes.
#[derive(Debug, Default)]
pub(crate) struct History {
    decided: Vec<u64>,
}

impl History {
    /// A node shows the values it has decided from an index on.
    pub(crate) fn seen(&mut self, node: u64, from: usize, values: &[u64]) -> Result<(), String> {
        for (index, &value) in (from..).zip(values) {
            match self.decided.get(index) {
                Some(&known) if known != value => {
                    return Err(format!(
                        "node {node} decided {value} at {index}, where {known} was decided before"
                    ));
                }
                Some(_) => {}
                None if index == self.decided.len() => self.decided.push(value),
                None => {
                    let next = self.decided.len();
                    return Err(format!("node {node} shows index {index}, nobody has seen {next}"));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.decided.len()
    }

    /// No value was decided twice: each is proposed once.
    pub(crate) fn check_unique(&self) -> Result<(), String> {
        let mut values = self.decided.clone();
        values.sort_unstable();
        values.dedup();
        if values.len() == self.decided.len() {
            Ok(())
        } else {
            Err("a value was decided twice".to_owned())
        }
    }

    pub(crate) fn value(&self, index: u64) -> Option<u64> {
        self.decided.get(usize::try_from(index).ok()?).copied()
    }
}

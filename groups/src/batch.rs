//! Batches that span groups.

use std::borrow::Cow;

use indelible::Batch;

/// Changes of any number of groups that become durable together or not at all, in the order they
/// were added: what a split, a merge, or the move of a replica needs.
///
/// ```
/// # use indelible::Batch;
/// # use indelible_groups::{GroupBatch, Groups, GroupsOptions};
/// # fn main() -> indelible::Result<()> {
/// let groups = Groups::in_memory(&GroupsOptions::new())?;
/// groups.create_group(1)?;
/// let mut moved = Batch::new();
/// moved.append(b"the upper half of the keys");
/// let mut split = GroupBatch::new();
/// split.create(2).change(2, &moved).remove(1);
/// groups.commit(&split)?;
/// assert_eq!(groups.ids(), [2]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct GroupBatch<'a> {
    pub(crate) steps: Vec<(u64, Step<'a>)>,
}

/// What is asked of one group.
#[derive(Debug, Clone)]
pub(crate) enum Step<'a> {
    Create,
    Remove,
    Change(Cow<'a, Batch<'a>>),
}

impl<'a> GroupBatch<'a> {
    /// A batch that changes nothing yet.
    pub const fn new() -> Self {
        Self { steps: Vec::new() }
    }

    /// Begins a group, which must not exist.
    pub fn create(&mut self, group: u64) -> &mut Self {
        self.push(group, Step::Create)
    }

    /// Drops a group with all that it holds. It must exist.
    pub fn remove(&mut self, group: u64) -> &mut Self {
        self.push(group, Step::Remove)
    }

    /// Changes a group as this batch says.
    pub fn change(&mut self, group: u64, batch: &'a Batch<'a>) -> &mut Self {
        self.push(group, Step::Change(Cow::Borrowed(batch)))
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    fn push(&mut self, group: u64, step: Step<'a>) -> &mut Self {
        self.steps.push((group, step));
        self
    }
}

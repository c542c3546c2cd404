//! A chain of values that is cloned at no cost: what readers see is one, and the next is built beside
//! it.
//!
//! Owns: sharing between a chain and its clones. A change copies the path to the value, at most a few
//! dozen values however long the chain is, and nothing where no clone is left. Does not own: what is in
//! it.
//!
//! Values have slots, numbered in the order in which they came. A tree of nodes that are as wide as
//! [`WIDTH`] leads to them, digit by digit; what is in no use any more is cut off it at once, so that a
//! value that was taken out is referred to by nobody.

use std::sync::Arc;

/// Slots of a leaf, and children of any other node.
const WIDTH: usize = 32;

/// Values in a row.
#[derive(Debug)]
pub(crate) struct Chain<T> {
    root: Arc<Node<T>>,
    /// Levels above the leaves.
    height: u32,
    /// Slot of the first value, and exclusive end.
    first: usize,
    end: usize,
}

#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "both are arrays of one pointer each, for most values"
)]
enum Node<T> {
    Leaf([Option<T>; WIDTH]),
    Inner([Option<Arc<Node<T>>>; WIDTH]),
}

impl<T> Node<T> {
    fn new(height: u32) -> Self {
        match height {
            0 => Self::Leaf([const { None }; WIDTH]),
            _ => Self::Inner([const { None }; WIDTH]),
        }
    }
}

/// How many slots there are below a node.
fn slots(height: u32) -> usize {
    WIDTH.saturating_pow(height + 1)
}

/// Which child of a node leads to a slot.
fn child(slot: usize, height: u32) -> usize {
    slot / WIDTH.saturating_pow(height) % WIDTH
}

impl<T> Clone for Chain<T> {
    fn clone(&self) -> Self {
        Self { root: Arc::clone(&self.root), ..*self }
    }
}

impl<T: Clone> Chain<T> {
    pub(crate) fn new() -> Self {
        Self { root: Arc::new(Node::new(0)), height: 0, first: 0, end: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.end - self.first
    }

    /// The `nth` value.
    #[inline]
    pub(crate) fn get(&self, nth: usize) -> Option<&T> {
        let slot = self.first.checked_add(nth).filter(|&slot| slot < self.end)?;
        let (mut node, mut height) = (&*self.root, self.height);
        loop {
            match node {
                Node::Leaf(values) => return values.get(child(slot, 0))?.as_ref(),
                Node::Inner(children) => node = children.get(child(slot, height))?.as_deref()?,
            }
            height -= 1;
        }
    }

    #[inline]
    pub(crate) fn front(&self) -> Option<&T> {
        self.get(0)
    }

    #[inline]
    pub(crate) fn back(&self) -> Option<&T> {
        self.get(self.len().checked_sub(1)?)
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + Clone {
        (0..self.len()).filter_map(|nth| self.get(nth))
    }

    /// How many values come before the first that is not `before`; those that are come first.
    pub(crate) fn partition_point(&self, before: impl Fn(&T) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle).is_some_and(&before) { low = middle + 1 } else { high = middle }
        }
        low
    }

    pub(crate) fn push_back(&mut self, value: T) {
        if self.end == slots(self.height) {
            let old = std::mem::replace(&mut self.root, Arc::new(Node::new(self.height + 1)));
            self.height += 1;
            if let Some(place) = self.child_mut(0, self.height) {
                *place = Some(old);
            }
        }
        if let Some(place) = self.slot_mut(self.end) {
            *place = Some(value);
            self.end += 1;
        }
    }

    /// Puts a value in place of the first one.
    pub(crate) fn replace_front(&mut self, value: T) {
        self.replace(self.first, value);
    }

    /// Puts a value in place of the last one.
    pub(crate) fn replace_back(&mut self, value: T) {
        self.replace(self.end.saturating_sub(1), value);
    }

    fn replace(&mut self, slot: usize, value: T) {
        if let Some(place) = self.slot_mut(slot).filter(|place| place.is_some()) {
            *place = Some(value);
        }
    }

    pub(crate) fn pop_back(&mut self) -> Option<T> {
        let slot = self.end.checked_sub(1).filter(|&slot| slot >= self.first)?;
        let value = self.slot_mut(slot)?.take();
        self.end = slot;
        self.cut_off(slot, slot);
        value
    }

    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let slot = (self.first < self.end).then_some(self.first)?;
        let value = self.slot_mut(slot)?.take();
        self.first += 1;
        self.cut_off(slot, slot + 1);
        value
    }

    /// Cuts off the largest part of the tree with `slot` in it that nothing is in, now that all
    /// slots on one side of `border` are empty.
    fn cut_off(&mut self, slot: usize, border: usize) {
        if self.first == self.end {
            *self = Self::new();
            return;
        }
        let levels = 1..=self.height;
        if let Some(height) = levels.rev().find(|&it| border.is_multiple_of(slots(it - 1)))
            && let Some(part) = self.child_mut(slot, height)
        {
            *part = None;
        }
    }

    fn slot_mut(&mut self, slot: usize) -> Option<&mut Option<T>> {
        let (mut node, mut height) = (Arc::make_mut(&mut self.root), self.height);
        loop {
            match node {
                Node::Leaf(values) => return values.get_mut(child(slot, 0)),
                Node::Inner(children) => {
                    let below = height - 1;
                    let next = children.get_mut(child(slot, height))?;
                    node = Arc::make_mut(next.get_or_insert_with(|| Arc::new(Node::new(below))));
                    height = below;
                }
            }
        }
    }

    /// What leads to a slot from the node of this height above it.
    fn child_mut(&mut self, slot: usize, above: u32) -> Option<&mut Option<Arc<Node<T>>>> {
        let (mut node, mut height) = (Arc::make_mut(&mut self.root), self.height);
        loop {
            let Node::Inner(children) = node else { return None };
            let next = children.get_mut(child(slot, height))?;
            if height == above {
                return Some(next);
            }
            node = Arc::make_mut(next.as_mut()?);
            height -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// How many nodes a chain does not share with another one.
    fn own_nodes<T>(chain: &Chain<T>, other: &Chain<T>) -> usize {
        fn seen<T>(node: &Arc<Node<T>>, seen_by: &mut Vec<*const Node<T>>) {
            seen_by.push(Arc::as_ptr(node));
            if let Node::Inner(children) = &**node {
                children.iter().flatten().for_each(|child| seen(child, seen_by));
            }
        }
        let (mut of_one, mut of_other) = (Vec::new(), Vec::new());
        seen(&chain.root, &mut of_one);
        seen(&other.root, &mut of_other);
        of_other.sort_unstable();
        of_one.iter().filter(|node| of_other.binary_search(node).is_err()).count()
    }

    #[test]
    fn chain_is_a_deque() {
        let (mut chain, mut deque) = (Chain::new(), VecDeque::new());
        let mut random = 7_u64;
        for step in 0..20_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step | 1);
            let before = (chain.clone(), deque.clone());
            // Long times in which it grows, and others in which it becomes empty.
            let grows = if step / 4000 % 2 == 0 { 5 } else { 2 };
            match random >> 60 {
                0..=1 => assert_eq!(chain.pop_back(), deque.pop_back()),
                2..=8 if grows == 2 => assert_eq!(chain.pop_front(), deque.pop_front()),
                _ if grows == 5 || random >> 60 > 12 => {
                    chain.push_back(step * 4);
                    deque.push_back(step * 4);
                }
                _ => {}
            }
            if let Some((first, last)) = deque.front().copied().zip(deque.back().copied()) {
                chain.replace_front(first | 1);
                deque.front_mut().map(|it| *it = first | 1).unwrap();
                chain.replace_back(last | 2);
                deque.back_mut().map(|it| *it = last | 2).unwrap();
            }
            assert_eq!(chain.len(), deque.len());
            assert_eq!((chain.front(), chain.back()), (deque.front(), deque.back()));
            if step % 97 == 0 {
                assert!(chain.iter().eq(&deque) && before.0.iter().eq(&before.1));
                let middle = deque.get(deque.len() / 2).copied().unwrap_or_default();
                let found = chain.partition_point(|&it| it < middle);
                assert_eq!(found, deque.partition_point(|&it| it < middle));
            }
        }
    }

    /// What a change costs is a path, and what was taken out is gone.
    #[test]
    fn change_copies_a_path_however_long_the_chain_is() {
        for (values, most) in [(10, 1), (100_000, 4)] {
            let mut chain = Chain::new();
            (0..values).for_each(|value| chain.push_back(Arc::new(value)));
            for change in [
                (|chain| chain.push_back(Arc::new(0))) as fn(&mut Chain<Arc<u32>>),
                |chain| drop(chain.pop_back()),
                |chain| drop(chain.pop_front()),
            ] {
                let before = chain.clone();
                change(&mut chain);
                let copied = own_nodes(&chain, &before);
                assert!(copied <= most, "{copied} nodes of {values} values");
            }
            let first = chain.pop_front().unwrap();
            assert_eq!(Arc::strong_count(&first), 1);
        }
    }
}

use alloc::collections::{BTreeSet, VecDeque};

/// The last so many values that were seen: a new one takes the place of the oldest.
#[derive(Debug, Clone)]
pub struct Recent<T> {
    most: usize,
    values: BTreeSet<T>,
    /// The same, oldest first.
    order: VecDeque<T>,
}

impl<T: Ord + Clone> Recent<T> {
    /// Nothing yet, and at most so many values.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, values: BTreeSet::new(), order: VecDeque::new() }
    }

    /// Whether this value is among them.
    #[must_use]
    pub fn has(&self, value: &T) -> bool {
        self.values.contains(value)
    }

    /// Adds a value, if it is not among them.
    pub fn add(&mut self, value: T) {
        if !self.values.insert(value.clone()) {
            return;
        }
        self.order.push_back(value);
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let mut recent = Recent::new(2);
        [1, 2, 1, 3].into_iter().for_each(|value| recent.add(value));
        assert_eq!([1, 2, 3].map(|value| recent.has(&value)), [false, true, true]);
        assert_eq!((recent.values.len(), recent.order.len()), (2, 2));
    }
}

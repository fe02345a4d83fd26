use crate::dice::Dice;
use std::collections::VecDeque;

/// Something that a replica has handed to its disk.
#[derive(Debug, Clone)]
enum Write {
    Append { id: u64, record: Vec<u8> },
    Rewrite(Vec<Vec<u8>>),
}

/// A host's disk: what is handed to it is durable after a while, in order. A crash loses what is not,
/// except for a part that got there before the power went.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    durable: Vec<Vec<u8>>,
    /// Being written; durable together.
    in_flight: Vec<Write>,
    waiting: VecDeque<Write>,
}

impl Disk {
    pub(crate) fn append(&mut self, id: u64, record: Vec<u8>) {
        self.waiting.push_back(Write::Append { id, record });
    }

    pub(crate) fn rewrite(&mut self, records: Vec<Vec<u8>>) {
        self.waiting.push_back(Write::Rewrite(records));
    }

    /// Starts to write all that waits, if nothing is being written; says whether it did.
    pub(crate) fn start(&mut self) -> bool {
        if self.waiting.is_empty() || !self.in_flight.is_empty() {
            return false;
        }
        self.in_flight = self.waiting.drain(..).collect();
        true
    }

    /// What was being written is durable; gives back the last id among it.
    pub(crate) fn finish(&mut self) -> Option<u64> {
        let mut last = None;
        for write in self.in_flight.drain(..) {
            match write {
                Write::Append { id, record } => {
                    self.durable.push(record);
                    last = Some(id);
                }
                Write::Rewrite(records) => self.durable = records,
            }
        }
        last
    }

    /// The power goes. Some of what was being written may have got there: the contract lets a
    /// rewrite be carried out by appending, so it too can be cut off in the middle.
    pub(crate) fn crash(&mut self, dice: &mut Dice) {
        let written = dice.index(self.in_flight.len() + 1);
        for write in self.in_flight.drain(..).take(written) {
            match write {
                Write::Append { record, .. } => self.durable.push(record),
                Write::Rewrite(records) if dice.chance(500) => self.durable = records,
                Write::Rewrite(records) => {
                    let kept = dice.index(records.len() + 1);
                    let is_whole = kept == records.len();
                    self.durable.extend(records.into_iter().take(kept));
                    if !is_whole {
                        break;
                    }
                }
            }
        }
        self.in_flight.clear();
        self.waiting.clear();
    }

    /// The disk is replaced by an empty one.
    pub(crate) fn lose(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn records(&self) -> Vec<Vec<u8>> {
        self.durable.clone()
    }

    /// Whether all that was handed to it is durable.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// Records on it.
    pub(crate) fn len(&self) -> usize {
        self.durable.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durable_in_order_and_a_crash_keeps_a_prefix() {
        let mut disk = Disk::default();
        disk.append(1, vec![1]);
        assert!(disk.start());
        disk.append(2, vec![2]);
        assert!(!disk.start(), "one write at a time");
        assert_eq!(disk.finish(), Some(1));
        assert!(disk.start());
        assert_eq!(disk.finish(), Some(2));
        disk.rewrite(vec![vec![3], vec![4]]);
        disk.append(3, vec![5]);
        assert!(disk.start());
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut crashed = Disk {
                durable: disk.durable.clone(),
                in_flight: disk.in_flight.clone(),
                waiting: VecDeque::new(),
            };
            crashed.crash(&mut Dice::new(seed));
            seen.insert(crashed.records().concat());
        }
        let expected =
            [vec![1, 2], vec![1, 2, 3], vec![1, 2, 3, 4], vec![1, 2, 3, 4, 5], vec![3, 4], vec![3, 4, 5]];
        assert_eq!(seen, expected.into_iter().collect());
    }
}

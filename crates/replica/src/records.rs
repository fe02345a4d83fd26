//! What the engine writes to disk: the protocol's records as they come, and now and then the state
//! at a stable checkpoint with the records that are still needed, in place of all before.

use crate::MAX_PAGE_BYTES;
use crate::checkpoints::Checkpoint;
use crate::execution::StateError;
use crate::pages::PageTree;
use alloc::vec::Vec;
use althing_types::{DecodeError, Digest, Seq, decode, encode};
use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

/// A piece of a snapshot holds pages up to about this many bytes.
const PIECE_BYTES: usize = 16 * MAX_PAGE_BYTES;

/// One record on disk.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum EngineRecord {
    /// A record of the protocol's.
    Protocol(Vec<u8>),
    /// The start of a rewrite: a snapshot of the state at a checkpoint.
    Snapshot {
        /// The checkpoint; 0 for the initial state, which has no pages.
        seq: Seq,
        /// The digest of its state.
        state: Digest,
        /// How many pages it has.
        pages: u32,
    },
    /// Some of the snapshot's pages, ascending.
    Pages(Vec<(u32, Vec<u8>)>),
    /// The end of a rewrite: from here on, it stands for all that came before it. A rewrite that
    /// was cut off thus changes nothing.
    SnapshotEnd,
}

/// Why what was on disk can't be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// A record is none of the engine's.
    #[error("record {index} can not be read: {error}")]
    Unreadable {
        /// The record's place, from 0.
        index: usize,
        /// Why.
        error: DecodeError,
    },
    /// Records come in an order in which the engine never writes them.
    #[error("record {index} is out of place")]
    OutOfPlace {
        /// The record's place, from 0.
        index: usize,
    },
    /// A snapshot lacks pages.
    #[error("the snapshot of {seq} has {actual} pages instead of {expected}")]
    Incomplete {
        /// The checkpoint.
        seq: Seq,
        /// Pages there.
        actual: usize,
        /// Pages that it should have.
        expected: u32,
    },
    /// A snapshot's pages don't have its digest.
    #[error("the snapshot of {seq} has the digest {actual} instead of {expected}")]
    Digest {
        /// The checkpoint.
        seq: Seq,
        /// The digest of its pages.
        actual: Digest,
        /// The digest that it should have.
        expected: Digest,
    },
    /// A snapshot is intact but is no state of this service.
    #[error("the snapshot of {seq} can not be installed: {error}")]
    State {
        /// The checkpoint.
        seq: Seq,
        /// Why.
        error: StateError,
    },
}

/// Decodes one record.
///
/// # Errors
/// When it is no record of the engine's.
pub fn decode_record(bytes: &[u8]) -> Result<EngineRecord, DecodeError> {
    // Records are written by this replica itself, so their length is bounded by what was written.
    decode(bytes, usize::MAX)
}

/// The records that stand for `stable` and the protocol's `records`, and for nothing before.
pub(crate) fn rewrite(stable: Option<(Seq, &Checkpoint)>, records: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let pages = stable.map(|(_, checkpoint)| checkpoint.tree.pages()).unwrap_or_default();
    let mut rewritten = alloc::vec![encode(&EngineRecord::Snapshot {
        seq: stable.map_or(Seq(0), |(seq, _)| seq),
        state: stable.map_or(Digest::NULL, |(_, checkpoint)| checkpoint.state),
        pages: u32::try_from(pages.len()).expect("the page tree has fewer than 2^32 pages"),
    })];
    let (mut piece, mut bytes) = (Vec::new(), 0);
    for (index, page) in pages {
        if bytes + page.len() > PIECE_BYTES {
            rewritten.push(encode(&EngineRecord::Pages(core::mem::take(&mut piece))));
            bytes = 0;
        }
        bytes += page.len() + size_of::<u64>();
        piece.push((index, page.to_vec()));
    }
    if !piece.is_empty() {
        rewritten.push(encode(&EngineRecord::Pages(piece)));
    }
    rewritten.extend(records.into_iter().map(|record| encode(&EngineRecord::Protocol(record))));
    rewritten.push(encode(&EngineRecord::SnapshotEnd));
    rewritten
}

/// What was on disk.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// The snapshot, verified; `None` for the initial state.
    pub(crate) stable: Option<(Seq, Checkpoint)>,
    /// The protocol's records since.
    pub(crate) records: Vec<Vec<u8>>,
    /// Whether it ends within a rewrite that was cut off. What is appended there would be taken for a
    /// part of that, so all has to be rewritten first.
    pub(crate) is_cut_off: bool,
}

/// A rewrite that is being read.
struct Rewrite {
    seq: Seq,
    state: Digest,
    expected: u32,
    tree: PageTree,
    actual: usize,
    records: Vec<Vec<u8>>,
}

/// Reads the records, oldest first.
pub(crate) fn recover(records: &[Vec<u8>]) -> Result<Recovered, RecordError> {
    let mut recovered = Recovered::default();
    let mut open: Option<Rewrite> = None;
    for (index, bytes) in records.iter().enumerate() {
        let record = decode_record(bytes).map_err(|error| RecordError::Unreadable { index, error })?;
        match (record, &mut open) {
            // A second start within a rewrite: the first was cut off.
            (EngineRecord::Snapshot { seq, state, pages }, _) => {
                open = Some(Rewrite {
                    seq,
                    state,
                    expected: pages,
                    tree: PageTree::default(),
                    actual: 0,
                    records: Vec::new(),
                });
            }
            (EngineRecord::Protocol(record), None) => recovered.records.push(record),
            (EngineRecord::Protocol(record), Some(rewrite)) => rewrite.records.push(record),
            (EngineRecord::Pages(pages), Some(rewrite)) => {
                rewrite.actual += pages.len();
                for (page, bytes) in pages {
                    rewrite.tree.set(page, bytes);
                }
            }
            (EngineRecord::SnapshotEnd, Some(_)) => {
                let rewrite = open.take().expect("the match says so");
                recovered = rewrite.finish()?;
            }
            (EngineRecord::Pages(_) | EngineRecord::SnapshotEnd, None) => {
                return Err(RecordError::OutOfPlace { index });
            }
        }
    }
    recovered.is_cut_off = open.is_some();
    Ok(recovered)
}

impl Rewrite {
    fn finish(mut self) -> Result<Recovered, RecordError> {
        let (seq, expected) = (self.seq, self.state);
        if self.actual != self.expected as usize {
            return Err(RecordError::Incomplete { seq, actual: self.actual, expected: self.expected });
        }
        let mut stable = None;
        if seq != Seq(0) {
            let actual = self.tree.refresh();
            if actual != expected {
                return Err(RecordError::Digest { seq, actual, expected });
            }
            stable = Some((seq, Checkpoint { state: expected, tree: self.tree }));
        }
        Ok(Recovered { stable, records: self.records, is_cut_off: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(pages: u32) -> Checkpoint {
        let mut tree = PageTree::default();
        for index in 0..pages {
            tree.set(index, alloc::vec![index as u8; MAX_PAGE_BYTES / 2]);
        }
        Checkpoint { state: tree.refresh(), tree }
    }

    fn protocol(byte: u8) -> Vec<u8> {
        encode(&EngineRecord::Protocol(alloc::vec![byte]))
    }

    #[test]
    fn a_rewrite_replaces_what_came_before_and_keeps_what_comes_after() {
        let own = checkpoint(100);
        let mut disk = alloc::vec![protocol(1), protocol(2)];
        disk.extend(rewrite(Some((Seq(8), &own)), alloc::vec![alloc::vec![3]]));
        disk.push(protocol(4));
        assert!(disk.iter().all(|record| record.len() <= PIECE_BYTES + MAX_PAGE_BYTES));
        let recovered = recover(&disk).unwrap();
        let (seq, stable) = recovered.stable.unwrap();
        assert_eq!((seq, stable.state), (Seq(8), own.state));
        assert_eq!(stable.tree.pages(), own.tree.pages());
        assert_eq!(recovered.records, [[3], [4]]);
    }

    #[test]
    fn a_rewrite_that_was_cut_off_changes_nothing() {
        let own = checkpoint(40);
        let whole = rewrite(Some((Seq(8), &own)), alloc::vec![alloc::vec![3]]);
        for cut in 0..whole.len() {
            let mut disk = alloc::vec![protocol(1)];
            disk.extend_from_slice(&whole[..cut]);
            let recovered = recover(&disk).unwrap();
            assert!(recovered.stable.is_none());
            assert_eq!(recovered.records, [[1]]);
            assert_eq!(recovered.is_cut_off, cut > 0);
            disk.extend_from_slice(&whole);
            assert_eq!(recover(&disk).unwrap().records, [[3]]);
        }
    }

    #[test]
    fn damage_is_named() {
        let own = checkpoint(40);
        let whole = rewrite(Some((Seq(8), &own)), Vec::new());
        let mut lost = whole.clone();
        lost.remove(1);
        assert!(matches!(recover(&lost), Err(RecordError::Incomplete { expected: 40, .. })));
        let mut changed = whole.clone();
        *changed[1].last_mut().unwrap() ^= 1;
        assert!(matches!(recover(&changed), Err(RecordError::Digest { seq: Seq(8), .. })));
        assert!(matches!(recover(&whole[1..]), Err(RecordError::OutOfPlace { index: 0 })));
        let garbage = [protocol(1), alloc::vec![9, 9]];
        assert!(matches!(recover(&garbage), Err(RecordError::Unreadable { index: 1, .. })));
    }

    #[test]
    fn the_initial_state_needs_no_pages() {
        let recovered = recover(&rewrite(None, alloc::vec![alloc::vec![5]])).unwrap();
        assert!(recovered.stable.is_none());
        assert_eq!(recovered.records, [[5]]);
    }
}

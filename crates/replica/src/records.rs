//! What the engine writes into the log: the protocol's records as they come, and now and then, in place
//! of all before, those that are still needed behind the name of a state that is on disk.

use crate::checkpoints::Checkpoint;
use crate::execution::StateError;
use crate::kept::KeptState;
use crate::membership::{Link, Membership, MembershipError};
use crate::storage::Segment;
use alloc::boxed::Box;
use alloc::vec::Vec;
use althing_types::{DecodeError, Digest, Epoch, Seq, decode, encode};
use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

/// One record in the log.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum EngineRecord {
    /// A record of the protocol's.
    Protocol(Vec<u8>),
    /// The first record of a log: the state to start from. Without it, that is the initial one.
    State(StateName),
    /// The epoch that the protocol's records are of. It comes before them; a group whose members do not
    /// change has none.
    Epoch(Box<EpochRecord>),
}

/// A state on disk.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct StateName {
    /// The checkpoint.
    pub seq: Seq,
    /// The digest of its state.
    pub state: Digest,
    /// The segments that hold its pages: what a later one says of a page holds.
    pub segments: Vec<Segment>,
}

/// The epoch that a replica is in.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct EpochRecord {
    /// Its members.
    pub membership: Membership,
    /// The checkpoint that it started from, and the digest of its state; `None` for the first epoch.
    pub start: Option<(Seq, Digest)>,
    /// The ends of epochs that this replica can prove to others.
    pub links: Vec<Link>,
    /// Whether this replica has no place in the next one.
    pub is_retired: bool,
    /// Whether it had lost its disk and did not vote yet when it came to this epoch. The protocol's own
    /// record of that comes after this one, and the power may fail in between.
    pub has_forgotten: bool,
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
    /// The records were written by the holder of another key.
    #[error(
        "the records are of epoch {epoch}, in which this replica's key has no place: start it with the key that it \
         had, or, where that was replaced, without these data"
    )]
    NoPlace {
        /// The epoch.
        epoch: Epoch,
    },
    /// No epoch is like this.
    #[error("the records are of epoch {epoch}, which can not be: {error}")]
    Membership {
        /// The epoch.
        epoch: Epoch,
        /// Why.
        error: MembershipError,
    },
    /// The records name another state than was found.
    #[error("the records name the state of {named}, and what was found is that of {found}")]
    WrongState {
        /// The checkpoint that is named; 0 for the initial state.
        named: Seq,
        /// The one that was found; 0 for none.
        found: Seq,
    },
    /// The pages on disk don't have their state's digest.
    #[error("the state of {seq} on disk has the digest {actual} instead of {expected}")]
    Digest {
        /// The checkpoint.
        seq: Seq,
        /// The digest of the pages.
        actual: Digest,
        /// The digest that they should have.
        expected: Digest,
    },
    /// The pages on disk are intact but are no state of this service.
    #[error("the state of {seq} on disk can not be installed: {error}")]
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

/// The records that stand for the state on disk, the epoch and the protocol's `records`, and for nothing
/// before.
pub(crate) fn rewrite(
    kept: Option<&KeptState>,
    epoch: Option<EpochRecord>,
    records: Vec<Vec<u8>>,
) -> Vec<Vec<u8>> {
    let name = |kept: &KeptState| {
        let segments = kept.segments().collect();
        EngineRecord::State(StateName { seq: kept.seq(), state: kept.state(), segments })
    };
    let head = kept.map(name).into_iter().chain(epoch.map(Box::new).map(EngineRecord::Epoch));
    let records = records.into_iter().map(EngineRecord::Protocol);
    head.chain(records).map(|record| encode(&record)).collect()
}

/// The state that the records of a log name. What is none of the engine's records names nothing: whoever
/// reads them all finds out.
pub(crate) fn named_state(records: &[Vec<u8>]) -> Option<StateName> {
    match decode_record(records.first()?) {
        Ok(EngineRecord::State(name)) => Some(name),
        _ => None,
    }
}

/// Whether the records of a log are read, and belong to the initial state.
pub(crate) fn names_nothing(records: &[Vec<u8>]) -> bool {
    let names_none =
        |record| matches!(decode_record(record), Ok(EngineRecord::Protocol(_) | EngineRecord::Epoch(_)));
    records.first().is_none_or(|record| names_none(record))
}

/// What was on disk.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// The state, verified; `None` for the initial one.
    pub(crate) stable: Option<(KeptState, Checkpoint)>,
    /// The epoch that the records are of, if they say so.
    pub(crate) epoch: Option<EpochRecord>,
    /// The protocol's records since.
    pub(crate) records: Vec<Vec<u8>>,
}

/// What the records of a log say.
pub(crate) struct Read {
    /// The state that they name.
    pub(crate) named: Option<StateName>,
    pub(crate) epoch: Option<EpochRecord>,
    /// The protocol's records.
    pub(crate) since: Vec<Vec<u8>>,
}

/// Reads the records, oldest first.
pub(crate) fn read(records: &[Vec<u8>]) -> Result<Read, RecordError> {
    let (mut named, mut epoch, mut since) = (None, None, Vec::new());
    for (index, bytes) in records.iter().enumerate() {
        match decode_record(bytes).map_err(|error| RecordError::Unreadable { index, error })? {
            EngineRecord::Protocol(record) => since.push(record),
            EngineRecord::State(name) if index == 0 => named = Some(name),
            EngineRecord::Epoch(record) if index == usize::from(named.is_some()) => epoch = Some(*record),
            EngineRecord::State(_) | EngineRecord::Epoch(_) => {
                return Err(RecordError::OutOfPlace { index });
            }
        }
    }
    Ok(Read { named, epoch, since })
}

/// Reads the records, oldest first, and verifies the state that was found for them.
pub(crate) fn recover(records: &[Vec<u8>], kept: Option<KeptState>) -> Result<Recovered, RecordError> {
    let Read { named, epoch, since } = read(records)?;
    let stable = match (named, kept) {
        (None, None) => None,
        (Some(name), Some(kept)) if name.seq == kept.seq() => Some(verified(&name, kept)?),
        (name, kept) => {
            let named = name.map_or(Seq(0), |name| name.seq);
            return Err(RecordError::WrongState { named, found: kept.map_or(Seq(0), |kept| kept.seq()) });
        }
    };
    Ok(Recovered { stable, epoch, records: since })
}

fn verified(name: &StateName, mut kept: KeptState) -> Result<(KeptState, Checkpoint), RecordError> {
    let checkpoint = kept.checkpoint();
    if checkpoint.state != name.state {
        let (seq, actual, expected) = (name.seq, checkpoint.state, name.state);
        return Err(RecordError::Digest { seq, actual, expected });
    }
    Ok((kept, checkpoint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EngineSettings;
    use crate::pages::PageTree;
    use althing_protocol::Settings;
    use althing_protocol::pbft::PbftSettings;
    use althing_types::ReplicaId;

    /// A state on disk, and the records that name it with these of the protocol's behind.
    fn kept(pages: u32, records: &[u8]) -> (KeptState, Vec<Vec<u8>>) {
        let mut tree = PageTree::default();
        for index in 0..pages {
            tree.set(index, alloc::vec![index as u8; 100]);
        }
        let checkpoint = Checkpoint { state: tree.refresh(), tree, is_hollow: false };
        let mut kept = KeptState::default();
        kept.advance(Seq(8), &checkpoint);
        let records = records.iter().map(|byte| alloc::vec![*byte]).collect();
        let rewritten = rewrite(Some(&kept), None, records);
        (kept, rewritten)
    }

    fn protocol(byte: u8) -> Vec<u8> {
        encode(&EngineRecord::Protocol(alloc::vec![byte]))
    }

    #[test]
    fn what_is_on_disk_is_the_state_and_the_records_since() {
        let (own, mut disk) = kept(100, &[3]);
        disk.push(protocol(4));
        assert_eq!(named_state(&disk).unwrap().segments.len(), 1);
        let recovered = recover(&disk, Some(own.clone())).unwrap();
        let (found, checkpoint) = recovered.stable.unwrap();
        assert_eq!((found.seq(), checkpoint.state), (Seq(8), own.state()));
        assert_eq!(recovered.records, [[3], [4]]);
    }

    #[test]
    fn damage_is_named() {
        let (own, disk) = kept(40, &[3]);
        let lost = RecordError::WrongState { named: Seq(8), found: Seq(0) };
        assert_eq!(recover(&disk, None).unwrap_err(), lost);
        let unnamed = RecordError::WrongState { named: Seq(0), found: Seq(8) };
        assert_eq!(recover(&disk[1..], Some(own.clone())).unwrap_err(), unnamed);
        let mut other = own.clone();
        let segment = own.segments().next().unwrap();
        other.read(segment);
        other.take((7, None));
        assert!(matches!(recover(&disk, Some(other)), Err(RecordError::Digest { seq: Seq(8), .. })));
        let twice = [disk.clone(), disk.clone()].concat();
        assert_eq!(recover(&twice, Some(own)).unwrap_err(), RecordError::OutOfPlace { index: 2 });
        let garbage = [protocol(1), alloc::vec![9, 9]];
        assert!(matches!(recover(&garbage, None), Err(RecordError::Unreadable { index: 1, .. })));
    }

    #[test]
    fn the_epoch_stands_before_the_records_that_are_of_it() {
        let settings = Settings::Pbft(PbftSettings::default());
        let (members, admins, first_primary) = (Vec::new(), Vec::new(), ReplicaId(0));
        let (epoch, engine) = (Epoch(3), EngineSettings::default());
        let is_one_machine = false;
        let membership =
            Membership { epoch, f: 0, members, admins, settings, first_primary, engine, is_one_machine };
        let start = Some((Seq(8), Digest([1; 32])));
        let links = Vec::new();
        let epoch = EpochRecord { membership, start, links, is_retired: false, has_forgotten: false };
        let (own, named) = kept(40, &[]);
        let records = rewrite(None, Some(epoch.clone()), alloc::vec![alloc::vec![5]]);
        assert!(names_nothing(&records) && named_state(&records).is_none());
        assert_eq!(recover(&records, None).unwrap().epoch, Some(epoch.clone()));
        let both = [named, records].concat();
        let recovered = recover(&both, Some(own)).unwrap();
        assert_eq!((recovered.epoch, recovered.records), (Some(epoch), alloc::vec![alloc::vec![5]]));
        let late = [protocol(1), both[1].clone()];
        assert_eq!(recover(&late, None).unwrap_err(), RecordError::OutOfPlace { index: 1 });
    }

    #[test]
    fn the_initial_state_needs_no_name() {
        let disk = rewrite(None, None, alloc::vec![alloc::vec![5]]);
        assert_eq!(named_state(&disk), None);
        let recovered = recover(&disk, None).unwrap();
        assert!(recovered.stable.is_none());
        assert_eq!(recovered.records, [[5]]);
    }
}

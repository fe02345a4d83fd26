//! What is left of a replica on a disk that somebody else may have written to.

use crate::epochs::{Memory, Place};
use crate::io::{Output, Report, StopReason};
use crate::membership::{Link, Membership};
use crate::records::{EpochRecord, Read, RecordError, read};
use crate::replica::Replica;
use crate::{KeptState, Service};
use alloc::vec::Vec;
use althing_crypto::{Domain, Keyring};
use althing_protocol::{Event, Protocol, Settings, SignedPart, Start};
use althing_types::{Digest, Epoch, Principal, Quorums, ReplicaId, Seq};

/// What [`open_to_recover`](crate::storage::open_to_recover) has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    /// The records, where a correct replica could have them with the state: the replica votes by them, in
    /// doubt. Without them it has lost what it said.
    pub records: Option<Vec<Vec<u8>>>,
    /// The pages: with records those of the state that they name, and else whatever could be read, to be
    /// compared with what others have.
    pub kept: Option<KeptState>,
}

/// An epoch that is proven from the one that a replica was configured with.
struct Office {
    me: ReplicaId,
    quorums: Quorums,
    keyring: Keyring,
    /// What its epoch agreed on; `None` where this replica's protocol still is what it started with.
    settings: Option<Settings>,
    /// The checkpoint that it started from.
    start: Option<(Seq, Digest)>,
    /// Whether the replica has no place in the one after it.
    is_retired: bool,
}

/// What was found, and is believed once others say that its epoch started from there.
pub(crate) struct Doubted {
    /// `None` where nothing was said in that epoch yet: that goes with any start.
    start: Option<(Seq, Digest)>,
    /// Whether it is that of one that knows all that it has said.
    memory: Memory,
    records: Vec<Vec<u8>>,
    kept: Option<KeptState>,
}

impl<P: Protocol, S: Service> Replica<P, S> {
    /// Whether this replica, had nobody else been at its disk, could have written these records, with this
    /// state: the epoch follows from the members that it is configured with, the state is the one that the
    /// group certifies for the last stable checkpoint, and whatever others are said to have signed they have.
    #[must_use]
    pub fn is_sound(&self, records: &[Vec<u8>], kept: Option<&mut KeptState>) -> bool {
        let Ok(Read { named, epoch, since }) = read(records) else { return false };
        let named = named.map(|name| (name.seq, name.state));
        let is_state = match (kept, named) {
            (None, None) => true,
            (Some(kept), Some((seq, state))) => seq > Seq(0) && kept.seq() == seq && kept.digest() == state,
            _ => false,
        };
        let is_new = epoch.is_none() && self.epoch() > Epoch(0);
        if is_new {
            // Who has been in a later epoch has a record of it; who has said nothing yet has none at all.
            return named.is_none() && since.is_empty();
        }
        let office = is_state.then(|| self.proven_office(epoch)).flatten();
        let Some(office) = office else { return false };
        if office.is_retired {
            // It says nothing any more but what it can prove.
            return since.is_empty();
        }
        if office
            .settings
            .as_ref()
            .map_or_else(|| self.protocol.is_witness(), |settings| settings.witnesses().contains(&office.me))
        {
            // No certificate is of what a witness keeps.
            return false;
        }
        // Nothing shows that a state from before the start is right. It is not gone by, and fetched anew.
        let named = named.filter(|(seq, _)| office.start.is_none_or(|(start, _)| *seq >= start));
        let is_signed = |part: &SignedPart| {
            let signer = Principal::Replica(part.signer);
            office.quorums.has(part.signer)
                && office.keyring.verify(signer, &part.proof, Domain::Protocol, &part.bytes)
        };
        let statements = if office.start.is_some() {
            let successor = office.settings.as_ref().and_then(|settings| {
                self.protocol.successor(office.me, office.quorums, settings, office.start)
            });
            successor.and_then(|successor| successor.statements(named, &since))
        } else {
            self.protocol.statements(named, &since)
        };
        statements.is_some_and(|parts| parts.iter().all(is_signed))
    }

    /// Whether what is on this replica's disk leads from epoch `known`, of whose group file it is started, to the
    /// one that it is in. Links are kept for so many epochs only; without them its disk is not believed, and
    /// others have none to show either.
    #[must_use]
    pub fn proves_its_epoch_from(&self, known: Epoch) -> bool {
        self.tenure.as_ref().is_none_or(|tenure| {
            let is_first = |link: &Link| link.epoch <= known;
            tenure.membership.epoch == known || tenure.links.first().is_some_and(is_first)
        })
    }

    fn first_office(&self, keyring: Keyring) -> Office {
        let (me, quorums) = (self.me, self.quorums);
        Office { me, quorums, keyring, settings: None, start: None, is_retired: false }
    }

    /// What this replica was in the epoch that a record tells of; `None` where nothing proves that record.
    fn proven_office(&self, record: Option<EpochRecord>) -> Option<Office> {
        let keyring = self.outbound.keyring.clone();
        let Some(tenure) = &self.tenure else {
            let first = self.first_office(keyring);
            return record.is_none().then_some(first);
        };
        let known = &tenure.membership;
        let Some(record) = record else {
            let first = self.first_office(keyring);
            return (known.epoch == Epoch(0)).then_some(first);
        };
        let (root, own) = (keyring.root(), keyring.identity());
        // Only others can say from where the epoch started that it was configured with.
        let said = record.start.filter(|_| known.epoch > Epoch(0));
        let (mut reached, mut start) = (known.clone(), said);
        let mut links = record.links.iter().filter(|link| link.epoch >= known.epoch);
        while reached.epoch < record.membership.epoch {
            let link = links.next()?;
            reached = link.follow(root, &reached)?;
            start = Some((link.seq, link.state));
        }
        // Who has retired before others said from where its epoch started never came to know that.
        let has_start = record.is_retired || start.is_some() == (reached.epoch > Epoch(0));
        let is_proven = reached == record.membership && start == record.start && has_start;
        let after = links.try_fold(reached.clone(), |reached, link| link.follow(root, &reached))?;
        let has_left = after.epoch > reached.epoch;
        let has_place = |membership: &Membership| membership.place_of(&own);
        let me = has_place(&reached)?;
        let is_retired = has_left && has_place(&after).is_none();
        if !is_proven || has_left != is_retired || record.is_retired != is_retired {
            return None;
        }
        let (quorums, keyring) = (reached.quorums(), reached.keyring(&keyring));
        let settings = Some(reached.settings);
        Some(Office { me, quorums, keyring, settings, start, is_retired })
    }

    /// What the protocol starts from; `None` where it does not start yet, or not any more.
    pub(crate) fn restore_in_doubt(
        &mut self,
        records: Vec<Vec<u8>>,
        kept: Option<KeptState>,
        outputs: &mut Vec<Output>,
    ) -> Result<Option<Start>, RecordError> {
        let known = self.epoch();
        let Read { epoch, since, .. } = read(&records)?;
        let has_forgotten = epoch.as_ref().is_some_and(|record| record.has_forgotten);
        let is_retired = epoch.as_ref().is_some_and(|record| record.is_retired);
        let record = epoch.filter(|record| record.membership.epoch == known);
        let start = record.and_then(|record| record.start);
        let has_to_ask = !is_retired && (start.is_some() || (records.is_empty() && known > Epoch(0)));
        match &mut self.tenure {
            Some(tenure) if has_to_ask => {
                let knows_all = self.protocol.knows_all(&since, has_forgotten);
                let memory = if knows_all { Memory::Whole } else { Memory::Lost };
                tenure.doubted = Some(Doubted { start, memory, records, kept });
                Ok(self.join(Memory::Lost, outputs))
            }
            _ => self.restore(&records, kept, true, outputs),
        }
    }

    /// Goes on from what was found on a doubted disk, if that is of an epoch that started from `start`.
    pub(crate) fn restore_if_it_starts_from(
        &mut self,
        start: (Seq, Digest),
        outputs: &mut Vec<Output>,
    ) -> bool {
        let is_it = |it: &mut Doubted| it.start.is_none_or(|found| found == start);
        let doubted = self.tenure.as_mut().and_then(|tenure| tenure.doubted.take_if(is_it));
        let Some(Doubted { start: found, records, kept, .. }) = doubted else { return false };
        if found.is_none() {
            self.enter_in_doubt(start, outputs);
            return true;
        }
        if let Some(tenure) = &mut self.tenure {
            tenure.place = Place::Member;
        }
        match self.restore(&records, kept, true, outputs) {
            Ok(start) => {
                self.events.extend(start.map(Event::Start));
                self.events.extend(self.is_to_stop.then_some(Event::HandOver));
                outputs.push(Output::Report(Report::Confirmed { seq: self.state.executed() }));
            }
            Err(error) => self.stop(StopReason::Records(error), outputs),
        }
        true
    }

    /// Takes part from the start of its epoch, where its disk says that it has said nothing there.
    fn enter_in_doubt(&mut self, start: (Seq, Digest), outputs: &mut Vec<Output>) {
        let Some(membership) = self.membership().cloned() else { return };
        self.enter(membership, self.me, Some(start), outputs);
        self.write_epoch(outputs);
        self.events.push_back(Event::Start(self.start_in_doubt()));
        self.events.extend(self.is_to_stop.then_some(Event::HandOver));
        outputs.push(Output::Report(Report::Confirmed { seq: self.state.executed() }));
    }

    /// What the protocol starts from in an epoch in which it has said nothing, as far as its disk tells.
    pub(crate) fn start_in_doubt(&self) -> Start {
        Start::Recovered {
            stable: self.state.executed(),
            executed: self.state.table().executed(),
            records: Vec::new(),
            is_closed: false,
            has_forgotten: false,
            is_doubtful: true,
        }
    }

    /// What was found on a doubted disk is worth its pages only, and that it is of no later epoch: says what its
    /// replica knew of what it had said there.
    pub(crate) fn give_up_doubted(&mut self) -> Option<Memory> {
        let Doubted { memory, kept, .. } = self.tenure.as_mut()?.doubted.take()?;
        if let Some(kept) = kept {
            self.salvage(kept);
        }
        Some(memory)
    }

    /// A state from a doubted disk that is not gone by: its pages may spare some of the next transfer.
    pub(crate) fn salvage(&mut self, kept: KeptState) {
        self.last_segment = kept.last_number();
        self.dropped_segments.extend(kept.segments().map(|segment| segment.number));
        self.salvaged = Some(kept.into_pages());
    }
}

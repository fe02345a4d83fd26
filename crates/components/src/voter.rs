use althing_types::ReplicaId;
use borsh::{BorshDeserialize, BorshSerialize};
use std::collections::{BTreeMap, BTreeSet};

/// How far past the last accepted event a [`Voter`] records copies, and how many accepted events it
/// remembers in order to recognise wrong copies that come late.
pub const VOTER_WINDOW: u64 = 64;

/// The bytes that the copies of one producer replica may take while they wait for agreement. The
/// next event in order is recorded even past it, or a replica could block itself.
const MAX_WAITING_BYTES: u64 = 1024 * 1024;

/// What became of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Recorded: it counts towards agreement.
    Recorded,
    /// Nothing new: this replica has delivered the same before, or the event is accepted already.
    Known,
    /// This replica has delivered something else for this event before; only the first one counts.
    Equivocation,
    /// Not recorded, because it lies too far ahead: deliver it again after events have been accepted.
    TooFarAhead,
    /// Not recorded, because the producer has no such replica.
    UnknownReplica,
}

impl Offer {
    /// Whether the copy need not be delivered again.
    #[must_use]
    pub fn is_settled(self) -> bool {
        self != Self::TooFarAhead
    }
}

/// Merges the copies of an event stream that the replicas of a group deliver, each on its own, into
/// the one stream that the group as a whole emitted.
///
/// Event `seq` is accepted once f + 1 different replicas have delivered equal bytes for it, and
/// after event `seq - 1`. All values delivered for it stand side by side, so that a wrong one never
/// delays the right one, however early it comes. Events are numbered from 1.
///
/// A voter is deterministic and has a canonical encoding, so that it can be part of a replicated
/// state. Its memory is bounded per replica, so that a liar can't use up what an honest one needs.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Voter {
    replicas: u16,
    threshold: u16,
    accepted: u64,
    waiting: BTreeMap<u64, Ballot>,
    waiting_bytes: Vec<u64>,
    past: BTreeMap<u64, Past>,
    equivocations: Vec<u64>,
    disagreements: Vec<u64>,
}

/// The values delivered for one event, each with the replicas that stand for it.
type Ballot = BTreeMap<Vec<u8>, BTreeSet<u16>>;

/// An accepted event: enough to recognise the copies that come after it.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct Past {
    digest: [u8; 32],
    /// Replicas that have delivered something, with what it hashes to.
    delivered: BTreeMap<u16, [u8; 32]>,
}

impl Voter {
    /// A voter on what a group of `replicas` emits, of which `faulty` may lie, whose next event has
    /// number `after + 1`.
    ///
    /// # Panics
    /// When `faulty` + 1 correct replicas can't exist.
    #[must_use]
    pub fn new(replicas: u16, faulty: u16, after: u64) -> Self {
        assert!(replicas > 2 * faulty, "{replicas} replicas of which {faulty} lie have no correct majority");
        Self {
            replicas,
            threshold: faulty + 1,
            accepted: after,
            waiting: BTreeMap::new(),
            waiting_bytes: vec![0; usize::from(replicas)],
            past: BTreeMap::new(),
            equivocations: vec![0; usize::from(replicas)],
            disagreements: vec![0; usize::from(replicas)],
        }
    }

    /// The number of the last accepted event.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// The number of a later event that f + 1 replicas agree on while the next one in order is
    /// missing: the earlier ones exist and have to be fetched.
    #[must_use]
    pub fn agreed_ahead(&self) -> Option<u64> {
        let ahead = self.waiting.range(self.accepted.saturating_add(2)..);
        ahead.filter(|(_, ballot)| self.winner(ballot).is_some()).map(|(&seq, _)| seq).next()
    }

    /// How often each replica has delivered two values for one event.
    #[must_use]
    pub fn equivocations(&self) -> &[u64] {
        &self.equivocations
    }

    /// For how many events each replica has delivered something else than was accepted.
    #[must_use]
    pub fn disagreements(&self) -> &[u64] {
        &self.disagreements
    }

    /// Whether this is a voter for a group of `replicas` with `faulty` liars and holds only what
    /// such a voter can hold: what was decoded from elsewhere has to be checked.
    #[must_use]
    pub fn is_consistent(&self, replicas: u16, faulty: u16) -> bool {
        let n = usize::from(replicas);
        let mut bytes = vec![0u64; n];
        for (&seq, ballot) in &self.waiting {
            if seq <= self.accepted || seq - self.accepted > VOTER_WINDOW {
                return false;
            }
            let mut seen = BTreeSet::new();
            for (value, supporters) in ballot {
                for &replica in supporters {
                    let Some(sum) = bytes.get_mut(usize::from(replica)) else {
                        return false;
                    };
                    *sum += value.len() as u64;
                    if !seen.insert(replica) {
                        return false;
                    }
                }
            }
        }
        self.replicas == replicas
            && self.threshold == faulty + 1
            && self.waiting_bytes == bytes
            && self.equivocations.len() == n
            && self.disagreements.len() == n
            && self.past.len() as u64 <= VOTER_WINDOW
            && self.past.keys().all(|&seq| seq <= self.accepted)
    }

    /// Takes the copy of event `seq` that `replica` delivered.
    pub fn offer(&mut self, replica: ReplicaId, seq: u64, value: &[u8]) -> Offer {
        if replica.0 >= self.replicas {
            return Offer::UnknownReplica;
        }
        if seq <= self.accepted {
            return self.offer_late(replica, seq, value);
        }
        if seq - self.accepted > VOTER_WINDOW {
            return Offer::TooFarAhead;
        }
        if let Some(ballot) = self.waiting.get(&seq)
            && let Some((first, _)) = ballot.iter().find(|(_, by)| by.contains(&replica.0))
        {
            if first == value {
                return Offer::Known;
            }
            return self.equivocated(replica);
        }
        let bytes = &mut self.waiting_bytes[usize::from(replica.0)];
        let length = value.len() as u64;
        if seq > self.accepted + 1 && *bytes + length > MAX_WAITING_BYTES {
            return Offer::TooFarAhead;
        }
        *bytes += length;
        let ballot = self.waiting.entry(seq).or_default();
        ballot.entry(value.to_vec()).or_default().insert(replica.0);
        Offer::Recorded
    }

    /// What a replica has delivered and was not accepted yet counts no longer: whoever had it may have another one
    /// by now, and would be two. It may deliver that again, or something else.
    pub fn forget(&mut self, replica: ReplicaId) {
        let Some(bytes) = self.waiting_bytes.get_mut(usize::from(replica.0)) else { return };
        *bytes = 0;
        for ballot in self.waiting.values_mut() {
            ballot.retain(|_, supporters| {
                supporters.remove(&replica.0);
                !supporters.is_empty()
            });
        }
        self.waiting.retain(|_, ballot| !ballot.is_empty());
    }

    /// Accepts the next event if it is agreed on, and returns its number and value.
    pub fn accept(&mut self) -> Option<(u64, Vec<u8>)> {
        let seq = self.accepted.checked_add(1)?;
        let value = self.winner(self.waiting.get(&seq)?)?.clone();
        let ballot = self.waiting.remove(&seq).expect("the winner stood in it");
        let mut past = Past { digest: digest(&value), delivered: BTreeMap::new() };
        for (other, supporters) in ballot {
            for replica in supporters {
                self.waiting_bytes[usize::from(replica)] -= other.len() as u64;
                past.delivered.insert(replica, digest(&other));
                if other != value {
                    self.disagreements[usize::from(replica)] += 1;
                }
            }
        }
        self.past.insert(seq, past);
        if self.past.len() as u64 > VOTER_WINDOW {
            self.past.pop_first();
        }
        self.accepted = seq;
        Some((seq, value))
    }

    /// Counts event `seq` as accepted if it is next: it has been agreed on elsewhere. Returns
    /// whether it was.
    pub(crate) fn skip(&mut self, seq: u64) -> bool {
        if self.accepted.checked_add(1) != Some(seq) {
            return false;
        }
        for (value, supporters) in self.waiting.remove(&seq).unwrap_or_default() {
            for replica in supporters {
                self.waiting_bytes[usize::from(replica)] -= value.len() as u64;
            }
        }
        self.accepted = seq;
        true
    }

    fn winner<'a>(&self, ballot: &'a Ballot) -> Option<&'a Vec<u8>> {
        // At most one value has f + 1 supporters as long as at most f replicas lie. With more
        // liars the order of the map still makes the choice the same at every replica.
        ballot
            .iter()
            .find(|(_, supporters)| supporters.len() >= usize::from(self.threshold))
            .map(|(value, _)| value)
    }

    fn offer_late(&mut self, replica: ReplicaId, seq: u64, value: &[u8]) -> Offer {
        let Some(past) = self.past.get_mut(&seq) else {
            return Offer::Known;
        };
        let copy = digest(value);
        match past.delivered.insert(replica.0, copy) {
            Some(first) if first != copy => {
                past.delivered.insert(replica.0, first);
                self.equivocated(replica)
            }
            Some(_) => Offer::Known,
            None => {
                if copy != past.digest {
                    self.disagreements[usize::from(replica.0)] += 1;
                }
                Offer::Known
            }
        }
    }

    fn equivocated(&mut self, replica: ReplicaId) -> Offer {
        let count = &mut self.equivocations[usize::from(replica.0)];
        *count = count.saturating_add(1);
        Offer::Equivocation
    }
}

fn digest(value: &[u8]) -> [u8; 32] {
    *blake3::hash(value).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use althing_types::{decode, encode};
    use proptest::prelude::*;

    fn accept_all(voter: &mut Voter) -> Vec<(u64, Vec<u8>)> {
        std::iter::from_fn(|| voter.accept()).collect()
    }

    #[test]
    fn a_wrong_first_value_never_blocks_the_right_one() {
        let mut voter = Voter::new(4, 1, 0);
        assert_eq!(voter.offer(ReplicaId(3), 1, b"wrong"), Offer::Recorded);
        assert_eq!(voter.offer(ReplicaId(0), 1, b"right"), Offer::Recorded);
        assert_eq!(voter.accept(), None);
        assert_eq!(voter.offer(ReplicaId(1), 1, b"right"), Offer::Recorded);
        assert_eq!(voter.accept(), Some((1, b"right".to_vec())));
        assert_eq!(voter.disagreements(), [0, 0, 0, 1]);
    }

    #[test]
    fn a_wrong_value_that_comes_late_is_counted_once() {
        let mut voter = Voter::new(4, 1, 0);
        voter.offer(ReplicaId(0), 1, b"right");
        voter.offer(ReplicaId(1), 1, b"right");
        assert_eq!(accept_all(&mut voter).len(), 1);
        assert_eq!(voter.offer(ReplicaId(2), 1, b"wrong"), Offer::Known);
        assert_eq!(voter.offer(ReplicaId(2), 1, b"wrong"), Offer::Known);
        assert_eq!(voter.disagreements(), [0, 0, 1, 0]);
        assert_eq!(voter.equivocations(), [0; 4]);
    }

    #[test]
    fn a_replica_has_one_copy_of_each_event_only() {
        let mut voter = Voter::new(4, 1, 0);
        voter.offer(ReplicaId(2), 1, b"a");
        assert_eq!(voter.offer(ReplicaId(2), 1, b"b"), Offer::Equivocation);
        assert_eq!(voter.offer(ReplicaId(2), 1, b"a"), Offer::Known);
        voter.offer(ReplicaId(0), 1, b"b");
        assert_eq!(voter.accept(), None);
        assert_eq!(voter.equivocations(), [0, 0, 1, 0]);
        assert_eq!(voter.offer(ReplicaId(4), 1, b"b"), Offer::UnknownReplica);
    }

    #[test]
    fn what_is_forgotten_counts_no_more_and_may_come_again() {
        let mut voter = Voter::new(4, 1, 0);
        for seq in [1, 2] {
            voter.offer(ReplicaId(3), seq, b"open");
        }
        voter.offer(ReplicaId(0), 2, b"open");
        voter.forget(ReplicaId(3));
        assert!(voter.is_consistent(4, 1));
        assert_eq!(voter.agreed_ahead(), None);
        voter.offer(ReplicaId(2), 1, b"open");
        assert_eq!(voter.accept(), None, "lies of different times");
        assert_eq!(voter.offer(ReplicaId(3), 1, b"shut"), Offer::Recorded);
        assert_eq!(voter.offer(ReplicaId(0), 1, b"shut"), Offer::Recorded);
        assert_eq!(voter.accept(), Some((1, b"shut".to_vec())));
        assert_eq!(voter.equivocations(), [0; 4]);
        voter.forget(ReplicaId(4));
    }

    #[test]
    fn what_one_replica_can_store_is_bounded() {
        let mut voter = Voter::new(4, 1, 0);
        let big = vec![7; 40_000];
        let recorded =
            (1..=1000).filter(|&seq| voter.offer(ReplicaId(3), seq, &big) == Offer::Recorded).count();
        assert_eq!(recorded, 26);
        assert_eq!(voter.offer(ReplicaId(0), 1, &big), Offer::Recorded);
        assert_eq!(voter.offer(ReplicaId(0), 64, &big), Offer::Recorded);
        assert_eq!(voter.offer(ReplicaId(0), 65, b"x"), Offer::TooFarAhead);
        assert_eq!(voter.offer(ReplicaId(0), u64::MAX, b"x"), Offer::TooFarAhead);
    }

    #[test]
    fn knows_when_earlier_events_have_to_be_fetched() {
        let mut voter = Voter::new(4, 1, 10);
        voter.offer(ReplicaId(0), 13, b"c");
        assert_eq!(voter.agreed_ahead(), None);
        voter.offer(ReplicaId(1), 13, b"c");
        assert_eq!(voter.agreed_ahead(), Some(13));
        assert_eq!(voter.accept(), None);
    }

    /// Which replica delivers what for which event.
    type Copy = (u16, u64, Vec<u8>);

    /// Deliveries of all replicas of a group with f liars, in any order and some of them twice.
    fn deliveries() -> impl Strategy<Value = (u16, u64, Vec<Copy>)> {
        (1u16..=3, 1u64..20).prop_flat_map(|(f, events)| {
            let n = 3 * f + 1;
            let honest = (f..n).flat_map(move |r| (1..=events).map(move |s| (r, s, right(s))));
            let lies =
                proptest::collection::vec((0..f, 0..=events + 1, any::<bool>()), 0..100).prop_map(|lies| {
                    let lie = |(r, s, true_): (u16, u64, bool)| {
                        (r, s, if true_ { right(s) } else { b"lie".to_vec() })
                    };
                    lies.into_iter().map(lie).collect::<Vec<_>>()
                });
            let honest: Vec<_> = honest.collect();
            lies.prop_flat_map(move |mut all| {
                all.extend(honest.iter().cloned());
                all.extend(honest.iter().step_by(3).cloned());
                (Just(f), Just(events), Just(all).prop_shuffle())
            })
        })
    }

    fn right(seq: u64) -> Vec<u8> {
        format!("event {seq}").into_bytes()
    }

    proptest! {
        #[test]
        fn any_order_of_copies_with_f_liars_yields_the_right_sequence((f, events, copies) in deliveries()) {
            let mut voter = Voter::new(3 * f + 1, f, 0);
            let mut accepted = Vec::new();
            for (replica, seq, value) in copies {
                voter.offer(ReplicaId(replica), seq, &value);
                accepted.extend(accept_all(&mut voter));
                prop_assert!(voter.is_consistent(3 * f + 1, f));
            }
            let expected: Vec<_> = (1..=events).map(|s| (s, right(s))).collect();
            prop_assert_eq!(accepted, expected);
            let honest = usize::from(f)..usize::from(3 * f + 1);
            prop_assert!(voter.equivocations()[honest.clone()].iter().all(|&c| c == 0));
            prop_assert!(voter.disagreements()[honest].iter().all(|&c| c == 0));
            let again: Voter = decode(&encode(&voter), usize::MAX).unwrap();
            prop_assert_eq!(again, voter);
        }
    }
}

//! One replica, and what it has said, executed and written down.

use crate::oracle::Order;
use althing_crypto::Proof;
use althing_protocol::zyzzyva::{Zyzzyva, ZyzzyvaMessage};
use althing_protocol::{Decision, Event, Evidence, PersistId, Replicable, Speculation, TimerId};
use althing_types::{ClientId, Digest, Instant, ReplicaId, RequestNumber, Seq, decode, encode};
use std::collections::{BTreeMap, VecDeque};

/// Where an instance ended, with what state, and who has signed that.
type Closed = (Seq, Digest, Vec<(ReplicaId, Proof)>);

/// One replica with the little that it needs around it.
pub(crate) struct Node {
    pub(crate) zyzzyva: Zyzzyva,
    /// What is final.
    pub(crate) decisions: Vec<Decision>,
    /// What it has executed beyond that.
    pub(crate) speculative: Vec<Decision>,
    /// What it has told clients of that, and of what became final since it entered its view.
    pub(crate) told: BTreeMap<Seq, Speculation>,
    /// What it has taken back last.
    pub(crate) former: Vec<Decision>,
    /// What it last said to hold a certificate for.
    pub(crate) certified: Option<Speculation>,
    /// What its instance goes on from.
    pub(crate) start: Option<(Seq, Digest)>,
    /// Its disk.
    pub(crate) records: Vec<Vec<u8>>,
    /// Records that are not on it yet.
    pub(crate) unsynced: VecDeque<(PersistId, Option<Vec<u8>>)>,
    pub(crate) timers: BTreeMap<TimerId, Instant>,
    /// The state transfer that it asked for last.
    pub(crate) fetching: Option<(Seq, Digest)>,
    /// What it has accused others of.
    pub(crate) evidence: Vec<Evidence>,
    /// Whom it has told to sign.
    pub(crate) told_to_sign: Vec<ClientId>,
    /// How its instance ended.
    pub(crate) closed: Option<Closed>,
}

impl Node {
    pub(crate) fn new(zyzzyva: Zyzzyva) -> Self {
        Self {
            zyzzyva,
            decisions: vec![],
            speculative: vec![],
            told: BTreeMap::new(),
            former: vec![],
            certified: None,
            start: None,
            records: vec![],
            unsynced: VecDeque::new(),
            timers: BTreeMap::new(),
            fetching: None,
            evidence: vec![],
            told_to_sign: vec![],
            closed: None,
        }
    }

    /// All that it has executed.
    pub(crate) fn order(&self) -> Order {
        self.decisions.iter().chain(&self.speculative).map(|decision| decision.digest).collect()
    }

    pub(crate) fn final_order(&self) -> Order {
        self.decisions.iter().map(|decision| decision.digest).collect()
    }

    pub(crate) fn execute(&mut self, decision: Decision) -> Event<ZyzzyvaMessage> {
        assert_eq!(decision.seq.0 as usize, self.decisions.len() + 1, "executed out of order");
        if let Some(first) = self.speculative.first() {
            assert_eq!((first.seq, first.digest), (decision.seq, decision.digest), "not what was speculated");
            self.speculative.remove(0);
        }
        let (seq, is_checkpoint) = (decision.seq, decision.is_checkpoint);
        self.decisions.push(decision);
        let state = is_checkpoint.then(|| state(&self.decisions));
        Event::Executed { seq, state }
    }
}

/// The digest of the state after these decisions: any injective function will do.
pub(crate) fn state(decisions: &[Decision]) -> Digest {
    let digests: Vec<_> = decisions.iter().map(|decision| decision.digest).collect();
    althing_crypto::hash("test state", &encode(&digests))
}

/// The last request of each client among these decisions.
pub(crate) fn last_requests(decisions: &[Decision]) -> Vec<(ClientId, RequestNumber)> {
    let requests = decisions.iter().flat_map(|decision| &decision.batch.requests);
    let last: BTreeMap<_, _> = requests.map(|request| (request.client, request.number)).collect();
    last.into_iter().collect()
}

/// The same instance, decoded.
pub(crate) fn restored(zyzzyva: &Zyzzyva) -> Zyzzyva {
    let mut restored: Zyzzyva = decode(&encode(zyzzyva), usize::MAX).expect("it encodes itself");
    restored.vouch();
    restored
}

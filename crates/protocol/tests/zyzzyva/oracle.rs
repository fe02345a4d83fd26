//! What clients may have decided, judged by what the replicas did, and not by any digest of theirs.

use althing_protocol::zyzzyva::Composition;
use althing_types::{Digest, Quorums, ReplicaId, View};
use std::collections::{BTreeMap, BTreeSet};

/// The batches from the first one on.
pub(crate) type Order = Vec<Digest>;

/// Decisions of clients and of replicas, and whether they contradict each other.
pub(crate) struct Oracle {
    quorums: Quorums,
    composition: Composition,
    /// Those that may say whatever makes a client decide.
    faulty: BTreeSet<ReplicaId>,
    speculated: BTreeMap<(View, Order), BTreeSet<ReplicaId>>,
    /// What each replica holds certificates for, the longest of each view.
    certified: BTreeMap<View, BTreeMap<ReplicaId, Order>>,
    /// The longest order that anybody has decided.
    pub(crate) decided: Order,
    pub(crate) contradictions: Vec<String>,
    /// How often what was speculated made a client decide.
    pub(crate) early: usize,
}

impl Oracle {
    pub(crate) fn new(quorums: Quorums, composition: Composition, faulty: &[ReplicaId]) -> Self {
        Self {
            quorums,
            composition,
            faulty: faulty.iter().copied().collect(),
            speculated: BTreeMap::new(),
            certified: BTreeMap::new(),
            decided: vec![],
            contradictions: vec![],
            early: 0,
        }
    }

    /// A replica answers clients after these batches. A client decides once all that it needs answer alike.
    pub(crate) fn on_speculated(&mut self, who: ReplicaId, view: View, order: Order) {
        let alike = self.speculated.entry((view, order.clone())).or_default();
        alike.insert(who);
        let is_alike = |id| alike.contains(&id) || self.faulty.contains(&id);
        let mut needed =
            self.quorums.replicas().filter(|id| self.composition.is_decisive(self.quorums, view, *id));
        if needed.all(is_alike) {
            self.early += 1;
            self.decide(&order, "all that a client needs speculated it");
        }
    }

    /// A replica tells clients that it holds a certificate. A client decides once an agreement quorum does.
    pub(crate) fn on_certified(&mut self, who: ReplicaId, view: View, order: Order) {
        if self.faulty.contains(&who) {
            return;
        }
        let of_view = self.certified.entry(view).or_default();
        of_view.insert(who, order);
        let covering = |order: &Order| {
            let covers = |(_, other): &(&ReplicaId, &Order)| other.starts_with(order);
            let holders: BTreeSet<_> = of_view.iter().filter(covers).map(|(who, _)| *who).collect();
            holders.union(&self.faulty).count()
        };
        let decided: Vec<Order> =
            of_view.values().filter(|order| covering(order) >= self.quorums.agreement()).cloned().collect();
        for order in decided {
            self.decide(&order, "a quorum holds certificates");
        }
    }

    /// A replica has executed these for good.
    pub(crate) fn on_final(&mut self, who: ReplicaId, order: &Order) {
        if !self.faulty.contains(&who) {
            self.decide(order, "it is final");
        }
    }

    fn decide(&mut self, order: &Order, why: &str) {
        let common = self.decided.len().min(order.len());
        if self.decided[..common] != order[..common] {
            self.contradictions.push(format!("{:?} was decided, and now {order:?}: {why}", self.decided));
        } else if order.len() > self.decided.len() {
            self.decided.clone_from(order);
        }
    }
}

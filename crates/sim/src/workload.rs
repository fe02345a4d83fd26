use crate::dice::Dice;
use crate::keys::{GroupKeys, elastic_client};
use crate::plan::Plan;
use crate::subject::Subject;
use crate::witness::labelled;
use althing_replica::membership::Membership;
use althing_replica::{Client, ClientConfig, OperationKind};
use althing_services::KvOperation;
use althing_types::{ClientId, RequestNumber};
use std::sync::Arc;

/// Operations that each correct client still has to complete once the faults have ended.
const AFTER_HEALING: u64 = 2;

/// A correct client, and what it does: one operation after the other on a few keys that it shares
/// with the other correct clients.
pub(crate) struct Worker {
    pub(crate) id: ClientId,
    pub(crate) client: Client,
    /// Tells its timer from earlier ones.
    pub(crate) generation: u64,
    pub(crate) completed: u64,
    /// How many it has to have completed in all, once the faults have ended.
    goal: Option<u64>,
    dice: Dice,
    keys: u64,
    made: u64,
    /// Values that it saw or wrote, to expect in a compare-and-swap.
    known: Vec<Option<Vec<u8>>>,
    /// By whose places it calls the replicas, in a group whose members change.
    pub(crate) membership: Option<Arc<Membership>>,
    /// Whether it changes the group instead.
    pub(crate) is_operator: bool,
}

impl Worker {
    pub(crate) fn new<X: Subject>(subject: &X, plan: &Plan, index: usize, dice: &mut Dice) -> Self {
        let id = ClientId(index as u64);
        let config = ClientConfig {
            client: id,
            keyring: match &plan.membership {
                None => GroupKeys::of_group(plan.quorums.n()).client(index).clone(),
                Some(_) => elastic_client(index),
            },
            quorums: plan.quorums,
            membership: plan.membership.as_deref().cloned(),
            limits: subject.limits(),
            auth: plan.auth,
            reads: plan.reads,
            answers: plan.answers,
            separate_bytes: plan.settings.separate_bytes,
            composition: plan.composition,
            witnesses: plan.settings.witnesses.clone(),
            retry: plan.retry,
            first_number: RequestNumber(1),
        };
        Self {
            id,
            client: subject.client(config),
            generation: 0,
            completed: 0,
            goal: None,
            dice: dice.fork(),
            keys: plan.keys,
            made: 0,
            known: vec![None],
            membership: plan.membership.clone(),
            is_operator: index == plan.clients,
        }
    }

    /// The faults have ended: a few more operations, to see that all works.
    pub(crate) fn wind_up(&mut self) {
        let extra = if self.is_operator { 0 } else { AFTER_HEALING };
        self.goal = Some(self.completed + extra + u64::from(self.client.outstanding().is_some()));
    }

    /// Whether it has done all that it had to do.
    pub(crate) fn is_done(&self) -> bool {
        self.goal.is_some_and(|goal| self.completed >= goal) && self.client.outstanding().is_none()
    }

    /// Takes down that the outstanding operation is complete.
    pub(crate) fn complete(&mut self, value: Option<Option<Vec<u8>>>) {
        self.completed += 1;
        self.known.extend(value);
    }

    /// The next operation, how to submit it, and the bytes to submit.
    pub(crate) fn next(&mut self) -> (KvOperation, OperationKind, Vec<u8>) {
        self.made += 1;
        let label = self.id.0 << 32 | self.made;
        let key = format!("k{}", self.dice.below(self.keys)).into_bytes();
        let value = format!("{}:{}", self.id, self.made).into_bytes();
        let expected = self.known[self.dice.index(self.known.len())].clone();
        let (operation, kind) = match self.dice.below(20) {
            0..7 => (KvOperation::Get { key }, OperationKind::ReadOnly),
            7..14 => (KvOperation::Put { key, value: value.clone() }, OperationKind::Ordered),
            14..19 => (KvOperation::Cas { key, expected, new: Some(value.clone()) }, OperationKind::Ordered),
            _ => (KvOperation::Delete { key }, OperationKind::Ordered),
        };
        if self.known.len() > 4 {
            self.known.drain(..2);
        }
        self.known.push(Some(value));
        let bytes = labelled(label, &operation.encode());
        (operation, kind, bytes)
    }
}

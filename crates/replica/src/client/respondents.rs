use super::AnswerPolicy;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_protocol::Answers;
use althing_types::{ClientId, Quorums, ReplicaId};

/// Whom a client asks to answer: as few as can convince it.
///
/// Clients start with different ones, so that the work is shared. Who lets a client wait, or tells it
/// something else than the others, is blamed, and those with the least blame are asked: each wait puts
/// somebody else in the place of who caused it.
#[derive(Debug)]
pub(super) struct Respondents {
    policy: AnswerPolicy,
    /// All replicas, those to ask first.
    order: Vec<ReplicaId>,
    /// How many it takes to make a tentative result final.
    agreement: usize,
    /// How many of them convince the client of one that is final.
    firmly: u16,
    blame: BTreeMap<ReplicaId, u32>,
}

impl Respondents {
    /// `enough` of the group's replicas convince the client of what they have executed for good.
    pub(super) fn new(policy: AnswerPolicy, client: ClientId, quorums: Quorums, enough: usize) -> Self {
        let mut order: Vec<_> = quorums.replicas().collect();
        order.rotate_left(usize::try_from(client.0 % quorums.n() as u64).expect("less than n"));
        let firmly = u16::try_from(enough).expect("no more than there are replicas");
        Self { policy, order, agreement: quorums.agreement(), firmly, blame: BTreeMap::new() }
    }

    /// Whom to ask in a first attempt.
    pub(super) fn answers(&self) -> Answers {
        match self.policy {
            AnswerPolicy::All => Answers::All,
            AnswerPolicy::Few => Answers::Few { asked: self.asked().to_vec(), firmly: self.firmly },
        }
    }

    pub(super) fn asked(&self) -> &[ReplicaId] {
        &self.order[..self.agreement]
    }

    /// How many of them answer where the execution is final in any case.
    pub(super) fn firmly(&self) -> usize {
        self.firmly.into()
    }

    /// Who gives the whole result in a first attempt.
    pub(super) fn first(&self) -> Option<ReplicaId> {
        self.order.first().copied()
    }

    /// These have failed the client once more.
    pub(super) fn blame(&mut self, failed: &[ReplicaId]) {
        for id in failed {
            *self.blame.entry(*id).or_default() += 1;
        }
        let blame = &self.blame;
        self.order.sort_by_key(|id| blame.get(id).copied().unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_share_the_replicas_out_and_turn_to_those_with_the_least_blame() {
        let quorums = Quorums::byzantine(4, 1).expect("four are enough");
        let respondents = |client| Respondents::new(AnswerPolicy::Few, ClientId(client), quorums, 2);
        let few = |ids: [u16; 3]| Answers::Few { asked: ids.map(ReplicaId).to_vec(), firmly: 2 };
        assert_eq!(respondents(4).answers(), few([0, 1, 2]));
        let mut respondents = respondents(u64::MAX);
        assert_eq!((respondents.answers(), respondents.first()), (few([3, 0, 1]), Some(ReplicaId(3))));
        respondents.blame(&[ReplicaId(0)]);
        assert_eq!(respondents.answers(), few([3, 1, 2]));
        respondents.blame(&[3, 1, 2].map(ReplicaId));
        assert_eq!(respondents.answers(), few([3, 1, 2]), "all alike");
        respondents.blame(&[ReplicaId(3)]);
        assert_eq!(respondents.answers(), few([1, 2, 0]));
        respondents.policy = AnswerPolicy::All;
        assert_eq!(respondents.answers(), Answers::All);
    }
}

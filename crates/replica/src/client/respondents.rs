use super::AnswerPolicy;
use alloc::vec::Vec;
use althing_protocol::Answers;
use althing_types::{ClientId, Quorums, ReplicaId};

/// Whom a client asks to answer: as few as can convince it, as long as these do.
///
/// Clients start with different ones, so that the work is shared. Who lets a client wait, or tells it
/// something else than the others, is replaced by those who answered then: each faulty replica costs a
/// client one wait, and another only once somebody else has failed it as well.
#[derive(Debug)]
pub(super) struct Respondents {
    policy: AnswerPolicy,
    /// As many as it takes to make a tentative result final.
    asked: Vec<ReplicaId>,
    /// How many of them convince the client of one that is final.
    firmly: u16,
}

impl Respondents {
    /// `enough` of the group's replicas convince the client of what they have executed for good.
    pub(super) fn new(policy: AnswerPolicy, client: ClientId, quorums: Quorums, enough: usize) -> Self {
        let n = quorums.n();
        let first = usize::try_from(client.0 % n as u64).expect("less than n");
        let replicas: Vec<_> = quorums.replicas().collect();
        let asked = (first..first + quorums.agreement()).map(|i| replicas[i % n]).collect();
        Self { policy, asked, firmly: u16::try_from(enough).expect("no more than there are replicas") }
    }

    /// Whom to ask in a first attempt.
    pub(super) fn answers(&self) -> Answers {
        match self.policy {
            AnswerPolicy::All => Answers::All,
            AnswerPolicy::Few => Answers::Few { asked: self.asked.clone(), firmly: self.firmly },
        }
    }

    /// Who gives the whole result in a first attempt.
    pub(super) fn first(&self) -> Option<ReplicaId> {
        self.asked.first().copied()
    }

    /// Asks these first from now on, who have answered when others had not; next, those whom it has not
    /// asked lately.
    pub(super) fn prefer(&mut self, convincing: &[ReplicaId], quorums: Quorums) {
        let rank = |id: &ReplicaId| (!convincing.contains(id), self.asked.contains(id));
        let mut replicas: Vec<_> = quorums.replicas().collect();
        replicas.sort_by_key(rank);
        replicas.truncate(self.asked.len());
        self.asked = replicas;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_share_the_replicas_out_and_keep_to_those_that_answer() {
        let quorums = Quorums::byzantine(4, 1).expect("four are enough");
        let respondents = |client| Respondents::new(AnswerPolicy::Few, ClientId(client), quorums, 2);
        let few = |ids: [u16; 3]| Answers::Few { asked: ids.map(ReplicaId).to_vec(), firmly: 2 };
        assert_eq!(respondents(4).answers(), few([0, 1, 2]));
        let mut respondents = respondents(u64::MAX);
        assert_eq!((respondents.answers(), respondents.first()), (few([3, 0, 1]), Some(ReplicaId(3))));
        respondents.prefer(&[0, 3].map(ReplicaId), quorums);
        assert_eq!(respondents.answers(), few([0, 3, 2]), "1 has failed it");
        respondents.prefer(&[0, 1, 2, 3].map(ReplicaId), quorums);
        assert_eq!(respondents.answers(), few([1, 0, 2]));
        respondents.policy = AnswerPolicy::All;
        assert_eq!(respondents.answers(), Answers::All);
    }
}

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
    asked: Vec<ReplicaId>,
}

impl Respondents {
    /// `enough` of the group's replicas convince the client.
    pub(super) fn new(policy: AnswerPolicy, client: ClientId, quorums: Quorums, enough: usize) -> Self {
        let n = quorums.n();
        let first = usize::try_from(client.0 % n as u64).expect("less than n");
        let replicas: Vec<_> = quorums.replicas().collect();
        Self { policy, asked: (first..first + enough).map(|i| replicas[i % n]).collect() }
    }

    /// Whom to ask in a first attempt.
    pub(super) fn answers(&self) -> Answers {
        match self.policy {
            AnswerPolicy::All => Answers::All,
            AnswerPolicy::Few => Answers::Only(self.asked.clone()),
        }
    }

    /// Who gives the whole result in a first attempt.
    pub(super) fn first(&self) -> Option<ReplicaId> {
        self.asked.first().copied()
    }

    /// Asks these from now on, who have answered when others had not.
    pub(super) fn replace(&mut self, convincing: Vec<ReplicaId>) {
        let enough = self.asked.len();
        self.asked = convincing;
        self.asked.truncate(enough);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_share_the_replicas_out_and_keep_to_those_that_answer() {
        let quorums = Quorums::byzantine(4, 1).expect("four are enough");
        let respondents = |client| Respondents::new(AnswerPolicy::Few, ClientId(client), quorums, 2);
        let only = |ids: &[u16]| Answers::Only(ids.iter().copied().map(ReplicaId).collect());
        assert_eq!(respondents(4).answers(), only(&[0, 1]));
        let mut respondents = respondents(u64::MAX);
        assert_eq!((respondents.answers(), respondents.first()), (only(&[3, 0]), Some(ReplicaId(3))));
        respondents.replace([1, 2, 0].map(ReplicaId).to_vec());
        assert_eq!(respondents.answers(), only(&[1, 2]));
        respondents.policy = AnswerPolicy::All;
        assert_eq!(respondents.answers(), Answers::All);
    }
}

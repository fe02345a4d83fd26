use super::{AnswerPolicy, ClientConfig};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_protocol::Answers;
use althing_types::ReplicaId;

/// Whom a client asks to answer: as few as can convince it.
///
/// Clients start with different ones, so that the work is shared. Who lets a client wait, or tells it
/// something else than the others, is blamed, and those with the least blame are asked. Who is to blame
/// can't always be known; so after each wait all are asked for a while, each time for twice as long. However
/// a faulty replica goes about it, it makes a client wait ever less often.
#[derive(Debug)]
pub(super) struct Respondents {
    policy: AnswerPolicy,
    /// All replicas that execute, those to ask first.
    order: Vec<ReplicaId>,
    /// How many it takes to make a tentative result final.
    agreement: usize,
    /// How many of them convince the client of one that is final.
    firmly: u16,
    blame: BTreeMap<ReplicaId, u32>,
    /// How many requests all are still asked to answer.
    wary: u32,
    /// For how many they will be after the next wait.
    next_wary: u32,
}

/// After the first wait, so many requests are answered by all.
const FIRST_WARY: u32 = 4;
const MOST_WARY: u32 = 1 << 16;

impl Respondents {
    /// Those of a client: replicas that execute.
    pub(super) fn new(config: &ClientConfig) -> Self {
        let quorums = config.quorums;
        let mut order: Vec<_> = quorums.replicas().filter(|id| config.executes(*id)).collect();
        let first = config.client.0 % order.len() as u64;
        order.rotate_left(usize::try_from(first).expect("less than there are"));
        let firmly = u16::try_from(config.enough_replies()).expect("no more than there are replicas");
        Self {
            policy: config.answers,
            // Where they are fewer, nothing is tentative.
            agreement: quorums.agreement().min(order.len()),
            order,
            firmly,
            blame: BTreeMap::new(),
            wary: 0,
            next_wary: FIRST_WARY,
        }
    }

    /// Whom to ask in the first attempt of another request.
    pub(super) fn next(&mut self) -> Answers {
        let is_wary = self.wary > 0;
        self.wary = self.wary.saturating_sub(1);
        match self.policy {
            AnswerPolicy::Few if !is_wary => {
                Answers::Few { asked: self.asked().to_vec(), firmly: self.firmly }
            }
            AnswerPolicy::Few | AnswerPolicy::All => Answers::All,
        }
    }

    /// The client has waited in vain.
    pub(super) fn beware(&mut self) {
        self.wary = self.next_wary;
        self.next_wary = (2 * self.next_wary).min(MOST_WARY);
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
    use crate::{Limits, ReadPolicy, RequestAuthKind};
    use althing_crypto::{Identity, Keyring};
    use althing_protocol::zyzzyva::Composition;
    use althing_types::{ClientId, GroupId, Principal, Quorums, RequestNumber};
    use core::time::Duration;

    fn config(client: u64, n: usize, witnesses: &[u16]) -> ClientConfig {
        let client = ClientId(client);
        let (me, identity) = (Principal::Client(client), Identity::from_secret_bytes(&[1; 64]));
        ClientConfig {
            client,
            keyring: Keyring::new(GroupId([0; 16]), me, identity, Vec::new(), BTreeMap::new()),
            quorums: Quorums::byzantine(n, (n - 1) / 3).expect("enough"),
            membership: None,
            limits: Limits::default(),
            auth: RequestAuthKind::Macs,
            reads: ReadPolicy::Ordered,
            answers: AnswerPolicy::Few,
            separate_bytes: 0,
            composition: Composition::Zyzzyva,
            witnesses: witnesses.iter().copied().map(ReplicaId).collect(),
            retry: Duration::from_secs(1),
            first_number: RequestNumber(1),
        }
    }

    #[test]
    fn nobody_asks_a_witness() {
        for client in 0..8 {
            let mut respondents = Respondents::new(&config(client, 4, &[1]));
            for _ in 0..4 {
                let Answers::Few { asked, firmly } = respondents.next() else { panic!("they are few") };
                assert!(asked.len() == 3 && firmly == 2 && !asked.contains(&ReplicaId(1)), "{asked:?}");
                respondents.blame(&asked[..1]);
            }
        }
        let few = Respondents::new(&config(0, 7, &[0, 6])).next();
        assert_eq!(few, Answers::Few { asked: [1, 2, 3, 4, 5].map(ReplicaId).to_vec(), firmly: 3 });
    }

    #[test]
    fn clients_share_the_replicas_out_and_turn_to_those_with_the_least_blame() {
        let respondents = |client| Respondents::new(&config(client, 4, &[]));
        let few = |ids: [u16; 3]| Answers::Few { asked: ids.map(ReplicaId).to_vec(), firmly: 2 };
        assert_eq!(respondents(4).next(), few([0, 1, 2]));
        let mut respondents = respondents(u64::MAX);
        assert_eq!((respondents.next(), respondents.first()), (few([3, 0, 1]), Some(ReplicaId(3))));
        respondents.blame(&[ReplicaId(0)]);
        assert_eq!(respondents.next(), few([3, 1, 2]));
        respondents.blame(&[3, 1, 2].map(ReplicaId));
        assert_eq!(respondents.next(), few([3, 1, 2]), "all alike");
        respondents.blame(&[ReplicaId(3)]);
        assert_eq!(respondents.next(), few([1, 2, 0]));
        for wary in [4, 8] {
            respondents.beware();
            (0..wary).for_each(|_| assert_eq!(respondents.next(), Answers::All));
            assert_eq!(respondents.next(), few([1, 2, 0]));
        }
        respondents.policy = AnswerPolicy::All;
        assert_eq!(respondents.next(), Answers::All);
    }
}

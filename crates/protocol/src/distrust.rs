use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use althing_types::{ClientId, Instant, ReplicaId};
use borsh::{BorshDeserialize, BorshSerialize};
use core::time::Duration;

/// The most clients whose MACs are no longer believed, and the most that one replica may name at once.
const MAX_DISTRUSTED: usize = 4096;
const MAX_NAMED: usize = 64;

/// How long a client is not believed the first time, in view timeouts, and how often that doubles.
const FIRST_TIMEOUTS: u32 = 64;
const MAX_DOUBLINGS: u32 = 8;

#[derive(Debug, Clone, Copy, BorshSerialize, BorshDeserialize)]
struct Sentence {
    until: Instant,
    times: u32,
}

/// Whose MACs this replica does not believe, and whose others don't.
#[derive(Debug, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct Distrust {
    sentences: BTreeMap<ClientId, Sentence>,
    named: BTreeMap<ReplicaId, BTreeSet<ClientId>>,
}

impl Distrust {
    /// Believes only signatures of this client for a while; says whether it was believed before.
    pub(crate) fn add(&mut self, now: Instant, client: ClientId, view_timeout: Duration) -> bool {
        let known = self.sentences.get(&client).copied();
        if known.is_some_and(|sentence| now < sentence.until) {
            return false;
        }
        // Whoever names clients that don't exist fills the set with them, and no further.
        if known.is_none() && self.sentences.len() >= MAX_DISTRUSTED {
            let earliest =
                self.sentences.iter().min_by_key(|(_, sentence)| sentence.until).map(|(id, _)| *id);
            earliest.map(|client| self.sentences.remove(&client));
        }
        let times = known.map_or(0, |sentence| (sentence.times + 1).min(MAX_DOUBLINGS));
        let until = now + view_timeout * FIRST_TIMEOUTS * 2u32.pow(times);
        self.sentences.insert(client, Sentence { until, times });
        true
    }

    /// Whether this client has to sign.
    pub(crate) fn has(&self, now: Instant, client: ClientId) -> bool {
        self.sentences.get(&client).is_some_and(|sentence| now < sentence.until)
    }

    /// All who have to sign.
    pub(crate) fn clients(&self, now: Instant) -> impl Iterator<Item = ClientId> + '_ {
        let have_to = self.sentences.iter().filter(move |(_, sentence)| now < sentence.until);
        have_to.map(|(client, _)| *client)
    }

    /// Of clients that were caught as many as may be named at once, each once.
    pub(crate) fn nameable(caught: &[ClientId]) -> Vec<ClientId> {
        let clients: BTreeSet<_> = caught.iter().copied().collect();
        clients.into_iter().take(MAX_NAMED).collect()
    }

    /// Takes down whom a replica has caught; gives back those that so many have named now.
    pub(crate) fn name(&mut self, from: ReplicaId, clients: &[ClientId], enough: usize) -> Vec<ClientId> {
        let clients: BTreeSet<_> = clients.iter().copied().take(MAX_NAMED).collect();
        self.named.insert(from, clients.clone());
        let is_named =
            |client: &ClientId| self.named.values().filter(|named| named.contains(client)).count() >= enough;
        let convicted: Vec<_> = clients.into_iter().filter(is_named).collect();
        for named in self.named.values_mut() {
            named.retain(|client| !convicted.contains(client));
        }
        convicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    #[test]
    fn trust_comes_back_each_time_later() {
        let mut distrust = Distrust::default();
        assert!(distrust.add(at(0), ClientId(1), SECOND) && !distrust.add(at(9), ClientId(1), SECOND));
        assert!(distrust.has(at(63), ClientId(1)) && !distrust.has(at(64), ClientId(1)));
        assert!(distrust.add(at(100), ClientId(1), SECOND));
        assert!(distrust.has(at(227), ClientId(1)) && !distrust.has(at(228), ClientId(1)));
        assert!(!distrust.has(at(0), ClientId(2)));
    }

    #[test]
    fn it_takes_enough_replicas_at_one_time_to_convict_a_client() {
        let mut distrust = Distrust::default();
        let mut name = |from, clients: &[u64]| {
            let clients: Vec<_> = clients.iter().copied().map(ClientId).collect();
            distrust.name(ReplicaId(from), &clients, 2)
        };
        assert_eq!(name(1, &[5, 6]), []);
        assert_eq!(name(1, &[5, 6]), [], "one counts once");
        assert_eq!(name(2, &[6, 7]), [ClientId(6)]);
        assert_eq!(name(3, &[6]), [], "that is done with");
        assert_eq!(name(3, &[5]), [ClientId(5)]);
    }

    #[test]
    fn inventing_clients_does_not_fill_the_memory() {
        let mut distrust = Distrust::default();
        let many: Vec<_> = (0..MAX_DISTRUSTED as u64 + 10).map(ClientId).collect();
        for client in &many {
            distrust.add(at(0), *client, SECOND);
        }
        distrust.name(ReplicaId(1), &many, 2);
        assert_eq!(
            (distrust.sentences.len(), distrust.named[&ReplicaId(1)].len()),
            (MAX_DISTRUSTED, MAX_NAMED)
        );
    }
}

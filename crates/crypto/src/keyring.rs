use crate::session::{Epoch, Epochs, KeySeed, Learned, NewKey, Pair};
use crate::{Authenticator, Hasher, Identity, Mac, Proof, PublicIdentity};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_types::{ClientId, Digest, GroupId, Instant, Principal, ReplicaId};
use core::time::Duration;
use x25519_dalek::{PublicKey, StaticSecret};

/// What kind of thing is authenticated, so that a proof for one kind means nothing for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// A replication protocol's message among replicas.
    Protocol,
    /// The engine's own messages among replicas.
    Engine,
    /// A client's request.
    Request,
    /// A client's query.
    Query,
    /// What a replica sends to a client.
    Reply,
    /// A command of the group's administrators to the group itself.
    Reconfigure,
    /// A replica's announcement of a key.
    Key,
    /// What a site tells another about the links between them.
    Link,
    /// A client's wish that replicas sign what they have speculated.
    Prove,
}

/// Announcements with numbers further ahead of the own clock than this are not believed: one that was signed for
/// a far time, while somebody had the replica, would stand in the way of all to come.
const MOST_AHEAD: Duration = Duration::from_secs(3600);

/// Where nobody says for how long keys are believed, they are for no longer than this.
const MOST_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Whether a MAC holds, and under which key of its maker's, by its number: 0 for one that was never announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// Under the key that I announced last.
    Good(u64),
    /// Under the one before: who made it does not know yet of the last.
    Outdated(u64),
    /// Under none that I hold.
    Bad,
}

impl Checked {
    /// The number of the maker's key, where the MAC holds.
    #[must_use]
    pub fn key(self) -> Option<u64> {
        match self {
            Self::Good(key) | Self::Outdated(key) => Some(key),
            Self::Bad => None,
        }
    }
}

/// One member's view of a group's keys: its own secret ones, everybody's public ones, and the
/// pairwise MAC keys that follow from both.
///
/// A MAC key of a pair follows from the two identities and from the last key that each side has
/// [announced](NewKey); a client announces none. Whoever has copied a pair's keys can make nothing of
/// them once either side has announced another, and the old one is [retired](Keyring::retire).
#[derive(Clone)]
pub struct Keyring {
    /// The group as its clients know it, whoever its members are: their signed requests are for that.
    root: GroupId,
    group: GroupId,
    me: Principal,
    identity: Identity,
    replicas: Vec<PublicIdentity>,
    clients: BTreeMap<ClientId, PublicIdentity>,
    /// Of the clients that share their keys with one of a lower id, which.
    owners: BTreeMap<ClientId, ClientId>,
    own: Epochs<StaticSecret>,
    /// What was announced for `own`.
    announcement: Option<NewKey>,
    lifetime_ms: u64,
    /// For how long those of others are believed at most.
    most_lifetime: Duration,
    /// What the others have announced.
    announced: BTreeMap<ReplicaId, NewKey>,
    pairs: BTreeMap<Principal, Pair>,
}

impl Keyring {
    /// The keyring of `me`, with the public keys of all replicas (by id) and of the clients.
    #[must_use]
    pub fn new(
        group: GroupId,
        me: Principal,
        identity: Identity,
        replicas: Vec<PublicIdentity>,
        clients: BTreeMap<ClientId, PublicIdentity>,
    ) -> Self {
        let own = identity.exchange();
        let pair = |other: Principal, public: &PublicIdentity| (other, Pair::new(own, public.exchange()));
        let replica_ids = (0u16..).map(|i| Principal::Replica(ReplicaId(i)));
        let mut pairs: BTreeMap<_, _> = replica_ids.zip(&replicas).map(|(id, key)| pair(id, key)).collect();
        // Clients talk to replicas only, so a client needs no keys with its fellows.
        if matches!(me, Principal::Replica(_)) {
            pairs.extend(clients.iter().map(|(id, key)| pair(Principal::Client(*id), key)));
        }
        let own = Epochs::of_identity(own.clone());
        Self {
            root: group,
            group,
            me,
            identity,
            replicas,
            owners: owners(&clients),
            clients,
            own,
            announcement: None,
            lifetime_ms: 0,
            most_lifetime: MOST_LIFETIME,
            announced: BTreeMap::new(),
            pairs,
        }
    }

    /// The keyring of the same member, now `me`, in the epoch that goes by the name of `group` and has these
    /// replicas. Nothing that was authenticated in one epoch is authentic in another, except what clients
    /// have signed: a request is the whole group's.
    ///
    /// The keys that were announced stay in use, so that nobody goes back to those of the identities. My own
    /// has an announcement for the new epoch at once; those of others are taken over, and counted from
    /// nothing again.
    #[must_use]
    pub fn in_epoch(&self, group: GroupId, me: Principal, replicas: Vec<PublicIdentity>) -> Self {
        if (self.group, self.me, &self.replicas) == (group, me, &replicas) {
            return self.clone();
        }
        let mut ring = Self::new(group, me, self.identity.clone(), replicas, self.clients.clone());
        (ring.root, ring.lifetime_ms, ring.most_lifetime) = (self.root, self.lifetime_ms, self.most_lifetime);
        for (id, public) in (0u16..).map(|i| Principal::Replica(ReplicaId(i))).zip(&ring.replicas) {
            let before = self.replicas.iter().position(|known| known == public);
            let before = before.and_then(|place| u16::try_from(place).ok()).map(ReplicaId);
            let before = before.and_then(|place| self.pairs.get(&Principal::Replica(place)));
            if let (Some(before), Some(pair)) = (before, ring.pairs.get_mut(&id)) {
                (pair.theirs, pair.has_ended) = (before.theirs.clone(), before.has_ended);
            }
        }
        if self.announcement.is_some() {
            ring.own = self.own.clone();
            ring.announce();
        }
        ring
    }

    /// The group as its clients know it, whoever its members are.
    #[must_use]
    pub fn root(&self) -> GroupId {
        self.root
    }

    /// The public keys of whose keyring this is.
    #[must_use]
    pub fn identity(&self) -> PublicIdentity {
        self.identity.public()
    }

    /// The group whose keys these are.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Whose keyring this is.
    #[must_use]
    pub fn me(&self) -> Principal {
        self.me
    }

    /// The public keys of `who`, if it belongs to the group.
    #[must_use]
    pub fn public(&self, who: Principal) -> Option<&PublicIdentity> {
        match who {
            Principal::Replica(id) => self.replicas.get(usize::from(id.0)),
            Principal::Client(id) => self.clients.get(&id),
        }
    }

    /// Whom a client belongs to: the first of all that have its keys. Sessions of one share them.
    #[must_use]
    pub fn owner(&self, client: ClientId) -> ClientId {
        self.owners.get(&client).copied().unwrap_or(client)
    }

    /// One MAC for each replica of the group, over `bytes`. My own place holds a MAC too.
    #[must_use]
    pub fn authenticate(&mut self, domain: Domain, bytes: &[u8]) -> Authenticator {
        let digest = self.digest(domain, bytes);
        let replicas = (0u16..).take(self.replicas.len()).map(|i| Principal::Replica(ReplicaId(i)));
        Authenticator(replicas.map(|to| self.mac_over(to, &digest).unwrap_or_default()).collect())
    }

    /// A MAC over `bytes` for `to` alone, or `None` where `to` is not of the group.
    #[must_use]
    pub fn mac(&mut self, to: Principal, domain: Domain, bytes: &[u8]) -> Option<Mac> {
        let digest = self.digest(domain, bytes);
        self.mac_over(to, &digest)
    }

    fn mac_over(&mut self, to: Principal, digest: &Digest) -> Option<Mac> {
        let place = (self.group, self.me, to);
        let pair = self.pairs.get_mut(&to)?;
        let theirs = pair.theirs.current;
        Some(pair.keys(place, &self.own.current, theirs).send.mac(digest))
    }

    /// Whether `from` made `mac` over `bytes` for me, and under which keys.
    #[must_use]
    pub fn check_mac(&mut self, from: Principal, mac: &Mac, domain: Domain, bytes: &[u8]) -> Checked {
        match self.keys_of_mac(from, mac, domain, bytes) {
            Some((own, theirs)) if own == self.own.current.counter => Checked::Good(theirs),
            Some((_, theirs)) => Checked::Outdated(theirs),
            None => Checked::Bad,
        }
    }

    /// What `who` says under their keys of lower numbers than this is believed no longer.
    #[must_use]
    pub fn believes_from(&self, who: Principal) -> u64 {
        let Some(pair) = self.pairs.get(&who) else { return 0 };
        if pair.has_ended {
            return pair.theirs.current.counter + 1;
        }
        pair.theirs.all().map(|key| key.counter).min().unwrap_or_default()
    }

    /// The numbers of my key and of theirs under which `from` made `mac`.
    fn keys_of_mac(
        &mut self,
        from: Principal,
        mac: &Mac,
        domain: Domain,
        bytes: &[u8],
    ) -> Option<(u64, u64)> {
        let (digest, place) = (self.digest(domain, bytes), (self.group, self.me, from));
        let pair = self.pairs.get_mut(&from).filter(|pair| !pair.has_ended)?;
        let theirs = [Some(pair.theirs.current), pair.theirs.previous.as_ref().map(|(epoch, _)| *epoch)];
        for own in self.own.all() {
            for their in theirs.into_iter().flatten() {
                if pair.keys(place, own, their).receive.mac(&digest) == *mac {
                    return Some((own.counter, their.counter));
                }
            }
        }
        None
    }

    /// Whether `from` made `mac` over `bytes` for me.
    #[must_use]
    pub fn verify_mac(&mut self, from: Principal, mac: &Mac, domain: Domain, bytes: &[u8]) -> bool {
        self.check_mac(from, mac, domain, bytes) != Checked::Bad
    }

    /// A proof of mine over `bytes` that anybody in the group can check and pass on.
    #[must_use]
    pub fn sign(&self, domain: Domain, bytes: &[u8]) -> Proof {
        self.identity.sign(&self.digest(domain, bytes).0)
    }

    /// Whether `from` made `proof` over `bytes`.
    #[must_use]
    pub fn verify(&self, from: Principal, proof: &Proof, domain: Domain, bytes: &[u8]) -> bool {
        self.public(from).is_some_and(|public| public.verify(proof, &self.digest(domain, bytes).0))
    }

    /// Takes a key of my own from secret randomness, and announces it. The number that it gets is the
    /// time, or follows the last one where the clock was set back.
    ///
    /// The key before it stays good for what is in flight, until it is [retired](Self::retire). The
    /// first one of a process has none before it: nobody was told to use the identity's own key.
    /// Others believe it for as long as `lifetime`.
    pub fn refresh(&mut self, now: Instant, seed: &KeySeed, lifetime: Duration) {
        self.lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        self.most_lifetime = lifetime;
        let next = Epoch { counter: now.0.max(self.own.current.counter + 1), key: seed.secret() };
        if self.announcement.is_some() {
            self.own.replace(now, next, None);
        } else {
            self.own = Epochs { current: next, previous: None, ends: None };
        }
        self.forget_derived();
        self.announce();
    }

    /// For how long keys of others are believed at most, whatever lifetime they are announced with. Until this
    /// is said it is as long as for my own, or a day where I announce none.
    pub fn bound_lifetimes(&mut self, most: Duration) {
        self.most_lifetime = most;
    }

    fn announce(&mut self) {
        let Principal::Replica(replica) = self.me else { return };
        let (counter, key) = (self.own.current.counter, PublicKey::from(&self.own.current.key).to_bytes());
        let (lifetime_ms, proof) = (self.lifetime_ms, Proof(Vec::new()));
        let mut new_key = NewKey { replica, counter, key, lifetime_ms, proof };
        new_key.proof = self.sign(Domain::Key, &new_key.signed_bytes());
        self.announcement = Some(new_key);
    }

    /// What I have announced last, if anything.
    #[must_use]
    pub fn announcement(&self) -> Option<&NewKey> {
        self.announcement.as_ref()
    }

    /// What `replica` has announced last, as far as I know.
    #[must_use]
    pub fn announced(&self, replica: ReplicaId) -> Option<&NewKey> {
        self.announced.get(&replica)
    }

    /// Takes an announcement that came from anybody.
    #[must_use]
    pub fn learn(&mut self, now: Instant, new_key: NewKey) -> Learned {
        let who = Principal::Replica(new_key.replica);
        let known = if who == self.me {
            self.own.current.counter
        } else {
            self.announced.get(&new_key.replica).map_or(0, |known| known.counter)
        };
        if new_key.counter <= known {
            return Learned::Known;
        }
        if new_key.counter > (now + MOST_AHEAD).0.max(known.saturating_add(1)) || new_key.counter == u64::MAX
        {
            return Learned::TooFarAhead;
        }
        if !self.verify(who, &new_key.proof, Domain::Key, &new_key.signed_bytes()) {
            return Learned::Forged;
        }
        if who == self.me {
            self.catch_up_with(now, new_key.counter);
            return Learned::Ahead;
        }
        if let Some(pair) = self.pairs.get_mut(&who) {
            let ends = now + Duration::from_millis(new_key.lifetime_ms).min(self.most_lifetime);
            let next = Epoch { counter: new_key.counter, key: new_key.key.into() };
            let has_ended = pair.has_ended || pair.theirs.ends.is_some_and(|ends| ends <= now);
            pair.theirs.replace(now, next, Some(ends));
            if has_ended {
                // It is not to be believed again for being the one before.
                pair.theirs.previous = None;
            }
            pair.has_ended = false;
            pair.keep(&self.own);
        }
        self.announced.insert(new_key.replica, new_key);
        Learned::New
    }

    /// Announces the key that I have once more, under a number that others take.
    fn catch_up_with(&mut self, now: Instant, counter: u64) {
        if self.announcement.is_some() {
            let Epoch { key, .. } = &self.own.current;
            let next = Epoch { counter: counter + 1, key: key.clone() };
            self.own.replace(now, next, None);
            self.forget_derived();
            self.announce();
        }
    }

    /// Drops the keys that were replaced as long ago as `grace`, mine and those of others, and believes no
    /// longer those of others whose lifetime is over.
    pub fn retire(&mut self, now: Instant, grace: Duration) {
        let is_own = self.own.retire(now, grace);
        for pair in self.pairs.values_mut() {
            pair.has_ended |= pair.theirs.ends.is_some_and(|ends| ends <= now);
            if pair.theirs.retire(now, grace) || is_own {
                pair.keep(&self.own);
            }
        }
    }

    /// Whether there is a key to be retired some time.
    #[must_use]
    pub fn is_retiring(&self) -> bool {
        let is_bounded = |pair: &Pair| pair.theirs.ends.is_some() || pair.theirs.previous.is_some();
        self.own.previous.is_some() || self.pairs.values().any(is_bounded)
    }

    fn forget_derived(&mut self) {
        for pair in self.pairs.values_mut() {
            pair.keep(&self.own);
        }
    }

    fn digest(&self, domain: Domain, bytes: &[u8]) -> Digest {
        digest_in(if domain == Domain::Request { self.root } else { self.group }, domain, bytes)
    }
}

/// The first client with the same keys, of all but the first.
fn owners(clients: &BTreeMap<ClientId, PublicIdentity>) -> BTreeMap<ClientId, ClientId> {
    let mut first = BTreeMap::new();
    let owned = clients.iter().filter_map(|(id, keys)| {
        let owner = *first.entry(keys.exchange_bytes()).or_insert(*id);
        (owner != *id).then_some((*id, owner))
    });
    owned.collect()
}

/// What is authenticated in place of `bytes`: it is of one group and one domain.
pub(crate) fn digest_in(group: GroupId, domain: Domain, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(match domain {
        Domain::Protocol => "althing protocol message",
        Domain::Engine => "althing engine message",
        Domain::Request => "althing request",
        Domain::Query => "althing query",
        Domain::Reply => "althing reply",
        Domain::Reconfigure => "althing reconfiguration",
        Domain::Key => "althing new key",
        Domain::Link => "althing link",
        Domain::Prove => "althing prove",
    });
    hasher.bytes(&group.0);
    hasher.bytes(bytes);
    hasher.finish()
}

#[cfg(test)]
#[path = "keyring_tests.rs"]
mod tests;

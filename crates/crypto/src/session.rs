//! Keys that last for a while: what a replica announces, and the MAC keys of a pair that follow.

use crate::Proof;
use crate::mac::MacKey;
use alloc::vec::Vec;
use althing_types::{GroupId, Instant, Principal, ReplicaId, encode};
use borsh::{BorshDeserialize, BorshSerialize};
use core::fmt;
use core::time::Duration;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// A replica's announcement of an X25519 key: from now on the MAC keys that it shares with others
/// follow from this one ("new-key", TOCS'02 §4.3.1).
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct NewKey {
    /// Whose key it is.
    pub replica: ReplicaId,
    /// Grows from one key of a replica to the next, over restarts too, so that no old one passes for
    /// a new one.
    pub counter: u64,
    /// The public key.
    pub key: [u8; 32],
    /// How long it is believed, from when it was heard of: who is kept from hearing of the next one does
    /// not believe this one for ever.
    pub lifetime_ms: u64,
    /// The replica's proof over [`NewKey::signed_bytes`].
    pub proof: Proof,
}

impl NewKey {
    /// What the replica signs.
    #[must_use]
    pub fn signed_bytes(&self) -> Vec<u8> {
        encode(&(self.replica, self.counter, self.key, self.lifetime_ms))
    }
}

/// Secret randomness for one key, wiped from memory when dropped.
#[derive(Clone)]
pub struct KeySeed(Zeroizing<[u8; 32]>);

impl From<[u8; 32]> for KeySeed {
    fn from(randomness: [u8; 32]) -> Self {
        Self(Zeroizing::new(randomness))
    }
}

impl fmt::Debug for KeySeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySeed(..)")
    }
}

impl KeySeed {
    pub(crate) fn secret(&self) -> StaticSecret {
        StaticSecret::from(*self.0)
    }

    /// Secret bytes that follow from it, others for each context and number.
    pub(crate) fn expand<const N: usize>(&self, context: &'static str, number: u64) -> Zeroizing<[u8; N]> {
        let mut bytes = Zeroizing::new([0; N]);
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&*self.0).update(&number.to_le_bytes());
        hasher.finalize_xof().fill(&mut *bytes);
        bytes
    }
}

/// What came of an announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// It is newer than what was known, and holds from now on.
    New,
    /// It is no newer than what is known.
    Known,
    /// Its number is that of a time that is far ahead.
    TooFarAhead,
    /// Nobody of the group has signed it.
    Forged,
    /// It is this replica's own, from a time when its clock was ahead: others take nothing of it until
    /// it announces a higher number.
    Ahead,
}

/// What is held of one side of a pair: `K` is a secret or a public key.
#[derive(Clone)]
pub(crate) struct Epochs<K> {
    pub(crate) current: Epoch<K>,
    /// The one before, and when it was replaced: good for what is in flight.
    pub(crate) previous: Option<(Epoch<K>, Instant)>,
    /// When the current one is no longer believed.
    pub(crate) ends: Option<Instant>,
}

/// A key, and the number under which it was announced; 0 for one that never was.
#[derive(Clone, Copy)]
pub(crate) struct Epoch<K> {
    pub(crate) counter: u64,
    pub(crate) key: K,
}

impl<K> Epochs<K> {
    pub(crate) fn of_identity(key: K) -> Self {
        Self { current: Epoch { counter: 0, key }, previous: None, ends: None }
    }

    pub(crate) fn replace(&mut self, now: Instant, next: Epoch<K>, ends: Option<Instant>) {
        self.ends = ends;
        let replaced = core::mem::replace(&mut self.current, next);
        self.previous = Some((replaced, now));
    }

    /// Drops the previous one, if it was replaced so long ago; whether it was.
    pub(crate) fn retire(&mut self, now: Instant, grace: Duration) -> bool {
        self.previous.take_if(|(_, replaced)| *replaced + grace <= now).is_some()
    }

    /// The current one, then the previous one.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Epoch<K>> {
        core::iter::once(&self.current).chain(self.previous.as_ref().map(|(epoch, _)| epoch))
    }
}

/// Both directions of a pair, under one key of each side.
#[derive(Clone)]
pub(crate) struct PairKeys {
    pub(crate) own: u64,
    pub(crate) theirs: u64,
    pub(crate) send: MacKey,
    pub(crate) receive: MacKey,
}

/// Another member, as one that MACs are shared with.
#[derive(Clone)]
pub(crate) struct Pair {
    /// Follows from the two identities alone.
    lasting: Zeroizing<[u8; 32]>,
    pub(crate) theirs: Epochs<PublicKey>,
    /// Whether their current key has been believed for as long as it may.
    pub(crate) has_ended: bool,
    /// What was derived so far, and is not retired: four at most.
    derived: Vec<PairKeys>,
}

impl Pair {
    pub(crate) fn new(own: &StaticSecret, theirs: &PublicKey) -> Self {
        Self {
            lasting: Zeroizing::new(own.diffie_hellman(theirs).to_bytes()),
            theirs: Epochs::of_identity(*theirs),
            has_ended: false,
            derived: Vec::new(),
        }
    }

    /// The keys of the pair under these keys of the two sides, derived at their first use.
    pub(crate) fn keys(
        &mut self,
        (group, me, other): (GroupId, Principal, Principal),
        own: &Epoch<StaticSecret>,
        theirs: Epoch<PublicKey>,
    ) -> &PairKeys {
        let is_it = |keys: &PairKeys| keys.own == own.counter && keys.theirs == theirs.counter;
        let place = self.derived.iter().position(is_it).unwrap_or_else(|| {
            let fresh = Zeroizing::new(own.key.diffie_hellman(&theirs.key).to_bytes());
            let derive = |from: (Principal, u64), to: (Principal, u64)| {
                let material = (*self.lasting, *fresh, group, from, to);
                MacKey::derive(&Zeroizing::new(encode(&material)))
            };
            let (mine, their) = ((me, own.counter), (other, theirs.counter));
            let (send, receive) = (derive(mine, their), derive(their, mine));
            self.derived.push(PairKeys { own: own.counter, theirs: theirs.counter, send, receive });
            self.derived.len() - 1
        });
        &self.derived[place]
    }

    /// Forgets what was derived from keys that are held no longer.
    pub(crate) fn keep(&mut self, own: &Epochs<StaticSecret>) {
        let theirs = &self.theirs;
        self.derived.retain(|keys| {
            own.all().any(|epoch| epoch.counter == keys.own)
                && theirs.all().any(|epoch| epoch.counter == keys.theirs)
        });
    }
}

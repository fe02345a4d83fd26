use crate::mac::MacKey;
use crate::{Authenticator, Hasher, Identity, Mac, Proof, PublicIdentity};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_types::{ClientId, Digest, GroupId, Principal, ReplicaId};

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
}

/// One member's view of a group's keys: its own secret ones, everybody's public ones, and the
/// pairwise MAC keys that follow from both.
#[derive(Clone)]
pub struct Keyring {
    group: GroupId,
    me: Principal,
    identity: Identity,
    replicas: Vec<PublicIdentity>,
    clients: BTreeMap<ClientId, PublicIdentity>,
    /// Keys for what I send, then for what I receive.
    pairs: BTreeMap<Principal, (MacKey, MacKey)>,
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
        let pair = |other: Principal, public: &PublicIdentity| {
            let secret = identity.shared_secret(public);
            let key = |from: Principal, to: Principal| {
                MacKey::derive(&althing_types::encode(&(*secret, group, from, to)))
            };
            (other, (key(me, other), key(other, me)))
        };
        let replica_ids = (0u16..).map(|i| Principal::Replica(ReplicaId(i)));
        let mut pairs: BTreeMap<_, _> = replica_ids.zip(&replicas).map(|(id, key)| pair(id, key)).collect();
        // Clients talk to replicas only, so a client needs no keys with its fellows.
        if matches!(me, Principal::Replica(_)) {
            pairs.extend(clients.iter().map(|(id, key)| pair(Principal::Client(*id), key)));
        }
        Self { group, me, identity, replicas, clients, pairs }
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

    /// One MAC for each replica of the group, over `bytes`. My own place holds a MAC too.
    #[must_use]
    pub fn authenticate(&self, domain: Domain, bytes: &[u8]) -> Authenticator {
        let digest = self.digest(domain, bytes);
        let macs = (0u16..).take(self.replicas.len()).map(|i| {
            let (send, _) = &self.pairs[&Principal::Replica(ReplicaId(i))];
            send.mac(&digest)
        });
        Authenticator(macs.collect())
    }

    /// A MAC over `bytes` for `to` alone, or `None` where `to` is not of the group.
    #[must_use]
    pub fn mac(&self, to: Principal, domain: Domain, bytes: &[u8]) -> Option<Mac> {
        let (send, _) = self.pairs.get(&to)?;
        Some(send.mac(&self.digest(domain, bytes)))
    }

    /// Whether `from` made `mac` over `bytes` for me.
    #[must_use]
    pub fn verify_mac(&self, from: Principal, mac: &Mac, domain: Domain, bytes: &[u8]) -> bool {
        self.pairs.get(&from).is_some_and(|(_, receive)| receive.mac(&self.digest(domain, bytes)) == *mac)
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

    fn digest(&self, domain: Domain, bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(match domain {
            Domain::Protocol => "althing protocol message",
            Domain::Engine => "althing engine message",
            Domain::Request => "althing request",
            Domain::Query => "althing query",
            Domain::Reply => "althing reply",
        });
        hasher.bytes(&self.group.0);
        hasher.bytes(bytes);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const R0: Principal = Principal::Replica(ReplicaId(0));
    const R1: Principal = Principal::Replica(ReplicaId(1));
    const C9: Principal = Principal::Client(ClientId(9));

    fn keyrings(group: u8) -> [Keyring; 3] {
        let identity = |i: u8| Identity::from_secret_bytes(&[i; 64]);
        let replicas: Vec<_> = [1, 2].map(|i| identity(i).public()).to_vec();
        let clients = BTreeMap::from([(ClientId(9), identity(3).public())]);
        let ring =
            |me, i| Keyring::new(GroupId([group; 16]), me, identity(i), replicas.clone(), clients.clone());
        [ring(R0, 1), ring(R1, 2), ring(C9, 3)]
    }

    #[test]
    fn each_receiver_checks_its_own_mac_and_no_other() {
        let [r0, r1, c9] = keyrings(0);
        let vector = c9.authenticate(Domain::Request, b"put");
        let (m0, m1) = (vector.mac_for(ReplicaId(0)).unwrap(), vector.mac_for(ReplicaId(1)).unwrap());
        assert!(r0.verify_mac(C9, m0, Domain::Request, b"put"));
        assert!(r1.verify_mac(C9, m1, Domain::Request, b"put"));
        assert!(!r1.verify_mac(C9, m0, Domain::Request, b"put"));
        assert!(!r0.verify_mac(C9, m0, Domain::Request, b"cas"));
        assert!(!r0.verify_mac(C9, m0, Domain::Reply, b"put"));
        assert!(!r0.verify_mac(R1, m0, Domain::Request, b"put"));
    }

    #[test]
    fn a_mac_can_not_be_reflected_to_its_maker() {
        let [r0, r1, _] = keyrings(0);
        let mac = r0.mac(R1, Domain::Protocol, b"vote").unwrap();
        assert!(r1.verify_mac(R0, &mac, Domain::Protocol, b"vote"));
        assert!(!r0.verify_mac(R1, &mac, Domain::Protocol, b"vote"));
    }

    #[test]
    fn a_proof_holds_in_its_own_group_and_domain_only() {
        let [r0, r1, _] = keyrings(0);
        let [_, other, _] = keyrings(1);
        let proof = r0.sign(Domain::Protocol, b"vote");
        assert!(r1.verify(R0, &proof, Domain::Protocol, b"vote"));
        assert!(!r1.verify(R1, &proof, Domain::Protocol, b"vote"));
        assert!(!r1.verify(R0, &proof, Domain::Engine, b"vote"));
        assert!(!other.verify(R0, &proof, Domain::Protocol, b"vote"));
        assert!(!r1.verify(R0, &Proof(Vec::new()), Domain::Protocol, b"vote"));
    }
}

use althing_crypto::{Identity, Keyring, PublicIdentity, hash};
use althing_replica::membership::Member;
use althing_types::{ClientId, GroupId, Principal, Quorums, ReplicaId, encode};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Clients in the directory of every simulated group.
pub(crate) const CLIENTS: u64 = 8;
const MOST_REPLICAS: usize = 16;

/// The keyrings of a group's members. They don't depend on the seed: making them takes longer than a
/// run.
#[derive(Clone)]
pub(crate) struct GroupKeys {
    replicas: Vec<Keyring>,
    clients: Vec<Keyring>,
}

impl GroupKeys {
    /// The keys of a group of `n` replicas.
    pub(crate) fn of_group(n: usize) -> &'static Self {
        static GROUPS: [OnceLock<GroupKeys>; MOST_REPLICAS + 1] = [const { OnceLock::new() }; 17];
        GROUPS[n].get_or_init(|| Self::make(n))
    }

    fn make(n: usize) -> Self {
        let quorums = Quorums::byzantine(n, 0).expect("a small group");
        let replicas: Vec<_> = quorums.replicas().map(Principal::Replica).collect();
        let clients: Vec<_> = (0..CLIENTS).map(|i| Principal::Client(ClientId(i))).collect();
        let public: Vec<_> = replicas.iter().map(|who| identity(*who).public()).collect();
        let directory: BTreeMap<_, _> =
            (0..CLIENTS).map(ClientId).map(|id| (id, identity(Principal::Client(id)).public())).collect();
        let ring =
            |who: &Principal| Keyring::new(ROOT, *who, identity(*who), public.clone(), directory.clone());
        Self { replicas: replicas.iter().map(ring).collect(), clients: clients.iter().map(ring).collect() }
    }

    pub(crate) fn replica(&self, id: ReplicaId) -> &Keyring {
        &self.replicas[usize::from(id.0)]
    }

    pub(crate) fn client(&self, index: usize) -> &Keyring {
        &self.clients[index]
    }
}

/// Machines that a group whose members change may come to run on, each with a key of its own.
pub(crate) const MACHINES: u16 = 64;

/// The group as its clients know it.
pub(crate) const ROOT: GroupId = GroupId([7; 16]);

/// The secret keys of machine `id`.
pub(crate) fn machine(id: ReplicaId) -> Identity {
    identity(Principal::Replica(id))
}

/// The machine with this key.
pub(crate) fn machine_with(key: &PublicIdentity) -> Option<ReplicaId> {
    static KEYS: OnceLock<BTreeMap<[u8; 64], ReplicaId>> = OnceLock::new();
    let bytes = |id| (machine(id).public().to_bytes(), id);
    KEYS.get_or_init(|| (0..MACHINES).map(ReplicaId).map(bytes).collect()).get(&key.to_bytes()).copied()
}

/// Machine `id` as a member of a group.
pub(crate) fn member(id: ReplicaId) -> Member {
    Member { key: machine(id).public(), address: id.to_string() }
}

/// Who may change the group.
pub(crate) fn admin() -> Identity {
    identity(Principal::Client(ClientId(CLIENTS)))
}

/// The keyring of a machine in a group whose members change, as `me`; it has the keys of no members yet.
pub(crate) fn elastic(me: Principal, identity: Identity) -> Keyring {
    let directory = GroupKeys::of_group(1).clients.iter();
    let directory = directory.filter_map(|ring| match ring.me() {
        Principal::Client(id) => Some((id, ring.identity())),
        Principal::Replica(_) => None,
    });
    Keyring::new(ROOT, me, identity, Vec::new(), directory.collect())
}

/// The keyring of client `index` in such a group.
pub(crate) fn elastic_client(index: usize) -> Keyring {
    let who = Principal::Client(ClientId(index as u64));
    elastic(who, identity(who))
}

pub(crate) fn identity(who: Principal) -> Identity {
    let mut secret = [0; 64];
    let bytes = encode(&who);
    secret[..32].copy_from_slice(&hash("simulated signing key", &bytes).0);
    secret[32..].copy_from_slice(&hash("simulated exchange key", &bytes).0);
    Identity::from_secret_bytes(&secret)
}

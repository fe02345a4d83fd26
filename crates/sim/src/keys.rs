use althing_crypto::{Identity, Keyring, hash};
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
        let ring = |who: &Principal| {
            Keyring::new(GroupId([7; 16]), *who, identity(*who), public.clone(), directory.clone())
        };
        Self { replicas: replicas.iter().map(ring).collect(), clients: clients.iter().map(ring).collect() }
    }

    pub(crate) fn replica(&self, id: ReplicaId) -> &Keyring {
        &self.replicas[usize::from(id.0)]
    }

    pub(crate) fn client(&self, index: usize) -> &Keyring {
        &self.clients[index]
    }
}

fn identity(who: Principal) -> Identity {
    let mut secret = [0; 64];
    let bytes = encode(&who);
    secret[..32].copy_from_slice(&hash("simulated signing key", &bytes).0);
    secret[32..].copy_from_slice(&hash("simulated exchange key", &bytes).0);
    Identity::from_secret_bytes(&secret)
}

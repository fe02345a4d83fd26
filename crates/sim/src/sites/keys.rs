//! The keys of simulated sites. They don't depend on the seed.

use super::server::quorums;
use super::symbolic::{SymbolicSigner, SymbolicVerifier};
use crate::keys::{admin, identity};
use crate::sites::LevelProtocol;
use althing_crypto::site::{SiteDeal, SiteKeys, SiteSigner};
use althing_crypto::{Identity, KeySeed, Keyring, PublicIdentity};
use althing_protocol::Settings;
use althing_replica::EngineSettings;
use althing_replica::membership::{Member, Membership, Reconfigure, SignedReconfigure};
use althing_types::{ClientId, Epoch, GroupId, Principal, Quorums, ReplicaId, SiteId};
use althing_wide::Lane;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The system that the sites make up.
pub(crate) const SYSTEM: GroupId = GroupId([3; 16]);

/// Clients that live in one site.
pub(super) const RESIDENTS: u64 = 2;

/// As which client of its group a server speaks on a lane.
pub(crate) fn lane_client(server: ReplicaId, lane: Lane) -> ClientId {
    let lane = match lane {
        Lane::Control => 0,
        Lane::From(site) => u64::from(site.0) + 1,
    };
    ClientId(1 << 32 | u64::from(server.0) << 16 | lane)
}

/// The server that a client of a group is a lane of, if it is one.
pub(super) fn lane_of(id: ClientId) -> Option<(ReplicaId, Lane)> {
    if id.0 >> 32 != 1 {
        return None;
    }
    let server = ReplicaId(u16::try_from(id.0 >> 16 & 0xffff).ok()?);
    let lane = match u16::try_from(id.0 & 0xffff).ok()? {
        0 => Lane::Control,
        site => Lane::From(SiteId(site - 1)),
    };
    Some((server, lane))
}

/// A client of a site.
pub(super) fn resident(site: SiteId, index: u64) -> ClientId {
    ClientId(u64::from(site.0) * 100 + index + 1)
}

/// Who changes the group of a site.
pub(super) fn operator(site: SiteId) -> ClientId {
    resident(site, 90)
}

/// The secret keys of a client.
pub(crate) fn client_identity(id: ClientId) -> Identity {
    identity(Principal::Client(ClientId(id.0 | 1 << 40)))
}

/// The keys of one site.
pub(super) struct SiteMaterial {
    pub(super) quorums: Quorums,
    group: GroupId,
    signatures: Signatures,
    replicas: Vec<PublicIdentity>,
    clients: BTreeMap<ClientId, PublicIdentity>,
}

impl SiteMaterial {
    pub(super) fn new(
        site: SiteId,
        sites: usize,
        (protocol, servers): (LevelProtocol, usize),
        has_real_signatures: bool,
    ) -> Self {
        let quorums = quorums(protocol, servers);
        let seed = KeySeed::from([site.0.to_le_bytes()[0].wrapping_add(1); 32]);
        let signatures = match protocol {
            _ if !has_real_signatures => Signatures::Symbolic { site, needed: quorums.one_correct() },
            LevelProtocol::Pbft => Signatures::Real(Box::new(SiteDeal::threshold(quorums, &seed))),
            LevelProtocol::Paxos => Signatures::Real(Box::new(SiteDeal::plain(servers, &seed))),
        };
        let lanes =
            || std::iter::once(Lane::Control).chain((0u16..).take(sites).map(|s| Lane::From(SiteId(s))));
        let lanes = quorums.replicas().flat_map(|server| lanes().map(move |lane| lane_client(server, lane)));
        let residents = (0..RESIDENTS).map(|index| resident(site, index));
        let clients = lanes
            .chain(residents)
            .chain([operator(site)])
            .map(|id| (id, client_identity(id).public()))
            .collect();
        let replicas = quorums.replicas().map(|id| identity(Principal::Replica(id)).public()).collect();
        let mut group = [9; 16];
        group[0] = site.0.to_le_bytes()[0];
        Self { quorums, group: GroupId(group), signatures, replicas, clients }
    }

    /// The first epoch of the site's group, where that changes.
    pub(super) fn membership(&self, settings: Settings) -> Membership {
        let member =
            |(id, key): (usize, &PublicIdentity)| Member { key: *key, address: format!("server-{id}") };
        Membership {
            epoch: Epoch(0),
            f: u16::try_from(self.quorums.f()).expect("small"),
            members: self.replicas.iter().enumerate().map(member).collect(),
            admins: vec![admin().public()],
            settings,
            first_primary: ReplicaId(0),
            engine: EngineSettings::default(),
            is_one_machine: true,
        }
    }

    /// A command that the group's administrator gives.
    pub(super) fn signed(&self, command: Reconfigure) -> SignedReconfigure {
        command.sign(self.group, &admin())
    }

    pub(super) fn replica(&self, me: ReplicaId) -> Keyring {
        let who = Principal::Replica(me);
        Keyring::new(self.group, who, identity(who), self.replicas.clone(), self.clients.clone())
    }

    pub(super) fn client(&self, me: ClientId) -> Keyring {
        let who = Principal::Client(me);
        Keyring::new(self.group, who, client_identity(me), self.replicas.clone(), self.clients.clone())
    }

    /// How a server signs with the others.
    pub(super) fn signer(&self, me: ReplicaId) -> Arc<dyn SiteSigner> {
        match &self.signatures {
            Signatures::Real(deal) => {
                Arc::new((deal.secrets[usize::from(me.0)].clone(), deal.shares.clone()))
            }
            Signatures::Symbolic { site, needed } => Arc::new(SymbolicSigner::new(*site, *needed, me)),
        }
    }

    /// The public keys of all sites, for server `me` of one: every other one has several processors.
    pub(super) fn public(all: &[Self], me: ReplicaId) -> SiteKeys {
        let real = |material: &Self| match &material.signatures {
            Signatures::Real(deal) => Some(*deal.shares.public()),
            Signatures::Symbolic { .. } => None,
        };
        match all.iter().map(real).collect() {
            Some(keys) => SiteKeys::new(SYSTEM, keys),
            None => {
                let can_foresee = me.0.is_multiple_of(2);
                SiteKeys::with_verifier(SYSTEM, Arc::new(SymbolicVerifier { can_foresee }))
            }
        }
    }
}

/// How the sites of a run sign.
enum Signatures {
    /// As they do outside: thousands of times slower than all else in a run.
    Real(Box<SiteDeal>),
    /// By digests that anybody could make, and nobody in a simulation does. All that matters to the code around it
    /// is the same: how many shares it takes, and that wrong ones are found.
    Symbolic { site: SiteId, needed: usize },
}

use crate::blink::LinkConfig;
use alloc::collections::BTreeMap;
use althing_crypto::PublicIdentity;
use althing_crypto::site::SiteKeys;
use althing_types::{ClientId, GroupId, Quorums, ReplicaId, SiteId};
use core::time::Duration;

/// Who carries the updates of a site's clients to the other sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dissemination {
    /// The site forwards each to the leading site, which sends it to all (SRDS'07 §4).
    Leader,
    /// The site sends them to all, in bundles, and the leading site orders these by name.
    Origin {
        /// How many bundles may be under way, at least one.
        slots: u16,
        /// How long a bundle may be in bytes; one with a single update may be longer.
        most_bytes: usize,
        /// Bundles leave while less than so many bytes wait, unacknowledged, for as many sites as it takes to decide. So
        /// what the sites agree by does not have to wait for long behind bundles. About as much as is under way on a
        /// link that is busy: its rate times a round trip.
        window_bytes: u64,
        /// Whether the site answers for its clients: their signatures are checked by its own servers, and not carried.
        /// Where no site is Byzantine nothing is lost. A wholly Byzantine site can then invent updates of its own
        /// clients, though not of any others.
        is_vouching: bool,
    },
}

/// A client of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// Where it lives.
    pub site: SiteId,
    /// What its updates are checked with.
    pub public: PublicIdentity,
}

/// What a logical machine has to know from the start: equal at all servers of a site.
#[derive(Debug, Clone)]
pub struct MachineConfig {
    /// Which site it is, and what its links go by.
    pub links: LinkConfig,
    /// The system's quorums, of sites.
    pub sites: Quorums,
    /// As which client of the site's group each server speaks.
    pub lanes: BTreeMap<ClientId, ReplicaId>,
    /// The public keys of all sites, with the system's name. The outpost beside the machine has a clone.
    pub keys: SiteKeys,
    /// The clients of all sites.
    pub residents: BTreeMap<ClientId, Resident>,
    /// Who carries updates.
    pub dissemination: Dissemination,
    /// The longest update in bytes.
    pub max_update_bytes: usize,
    /// The longest result of an update in bytes.
    pub max_reply_bytes: usize,
    /// The longest message between sites in bytes: longer than any batch of the wide-area protocol with all that is
    /// around it, or it is never said. A message has to fit into an operation of each site's group. Equal at all sites,
    /// or correct ones are taken for faulty.
    pub max_message_bytes: usize,
    /// How much may wait for a site that does not answer, in bytes.
    pub max_unacknowledged_bytes: u64,
    /// How long what was received may go without an acknowledgement.
    pub acknowledgement_delay: Duration,
    /// How long an update may wait before it is shown to all sites.
    pub relay_timeout: Duration,
}

impl MachineConfig {
    /// Which site it is.
    pub(super) fn site(&self) -> SiteId {
        self.links.site
    }

    /// The system's name.
    pub(super) fn system(&self) -> GroupId {
        self.keys.system()
    }

    /// How many servers have to say something for it to be true: one of them is correct.
    pub(super) fn enough(&self) -> usize {
        self.links.servers(self.links.site).one_correct()
    }
}

use super::LogicalMachine;
use crate::blink::VirtualLink;
use althing_protocol::Replicable;
use althing_replica::Service;
use althing_types::SiteId;

/// How a site stands with another: for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkStanding {
    /// The other site.
    pub site: SiteId,
    /// How many virtual links to it had their turn before the present one.
    pub turn: u64,
    /// Who has it.
    pub link: VirtualLink,
    /// How many times its timeout the present one gets.
    pub patience: u32,
    /// Up to which number the other site has acknowledged what was said.
    pub acknowledged: u64,
    /// How many messages are not acknowledged.
    pub unacknowledged: usize,
    /// How many bytes these have.
    pub unacknowledged_bytes: u64,
    /// Up to which number this site has received what the other one said.
    pub received: u64,
}

impl<P: Replicable, S: Service> LogicalMachine<P, S> {
    /// How the site stands with each other one that it has said something to or heard from.
    pub fn link_standings(&self) -> impl Iterator<Item = LinkStanding> {
        let links = self.core.links.iter().filter(|(site, _)| *site != self.config.site());
        links.map(|(site, link)| LinkStanding {
            site,
            turn: link.progress.turn().number,
            link: self.config.links.order(site).virtual_link(link.progress.turn()),
            patience: link.progress.patience(),
            acknowledged: link.acknowledged,
            unacknowledged: link.queue.len(),
            unacknowledged_bytes: link.queue.iter().map(|outgoing| outgoing.body.len() as u64).sum(),
            received: link.received,
        })
    }

    /// The site that leads the wide-area view that this one is in or moving to.
    #[must_use]
    pub fn leader(&self) -> SiteId {
        SiteId(self.config.sites.primary(self.core.view).0)
    }
}

use super::{LinkPace, SelectionOrder, Turn};
use alloc::vec::Vec;
use althing_types::{Quorums, SiteId};

/// What the links of a site go by: equal at all its servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkConfig {
    /// Which site it is.
    pub site: SiteId,
    /// The quorums of each site's servers, by the site's id.
    pub groups: Vec<Quorums>,
    /// What is asked of its virtual links.
    pub pace: LinkPace,
}

impl LinkConfig {
    /// The quorums of the servers of a site.
    ///
    /// # Panics
    /// If there is no such site.
    #[must_use]
    pub fn servers(&self, site: SiteId) -> Quorums {
        self.groups[usize::from(site.0)]
    }

    /// The order of the virtual links to a site.
    #[must_use]
    pub fn order(&self, to: SiteId) -> SelectionOrder {
        SelectionOrder::new(self.servers(self.site).into(), self.servers(to).into())
    }

    /// The first turn on the link to a site: links from a site start with different forwarders, and links to one with
    /// different peers, as far as there are so many.
    #[must_use]
    pub fn start(&self, to: SiteId) -> Turn {
        self.order(to).start(u64::from(self.site.0) + u64::from(to.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use core::time::Duration;

    #[test]
    fn the_links_of_a_site_start_with_all_its_servers() {
        let groups = alloc::vec![Quorums::byzantine(4, 1).unwrap(); 4];
        let benign = alloc::vec![Quorums::crash(5, 2).unwrap(); 5];
        for groups in [groups, benign] {
            let pace = LinkPace::new(Duration::from_secs(1), 1).unwrap();
            let links = |site| LinkConfig { site, groups: groups.clone(), pace };
            let link = |from, to| links(from).order(to).virtual_link(links(from).start(to));
            let sites = || (0u16..).take(groups.len()).map(SiteId);
            for site in sites() {
                let forwarders: BTreeSet<_> = sites().map(|to| link(site, to).forwarder).collect();
                let peers: BTreeSet<_> = sites().map(|from| link(from, site).peer).collect();
                assert_eq!((forwarders.len(), peers.len()), (groups.len(), groups.len()));
            }
        }
    }
}

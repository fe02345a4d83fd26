use super::text::COLUMNS;
use crate::spec::{LinkSpec, ReplicationProtocol, SiteService, SiteSpec, SiteSystem, Updates};
use althing_replica::Durability;
use althing_types::{FaultModel, Quorums, ReplicaId, SiteId};
use althing_wide::SelectionOrder;
use serde::{Serialize, Serializer};
use std::collections::BTreeSet;
use std::fmt::Write;

/// What runs a system of sites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SitePlan {
    system: String,
    service: SiteService,
    wide: ReplicationProtocol,
    /// How many sites may be faulty.
    f: usize,
    sites: Vec<PlannedSite>,
    links: LinkSpec,
    updates: Updates,
    durability: Durability,
    bounds: Vec<LinkBound>,
}

/// A site of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedSite {
    /// Names it among the sites.
    #[serde(serialize_with = "serialize_site_id")]
    pub id: SiteId,
    /// Its name.
    pub name: String,
    /// What its servers run.
    pub group: SiteGroup,
    /// The processes of its servers, in their order.
    pub servers: Vec<String>,
}

/// The servers of a site, as far as its links are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SiteGroup {
    /// The protocol among them.
    pub protocol: ReplicationProtocol,
    /// Servers.
    pub n: usize,
    /// How many of them may be faulty.
    pub f: usize,
}

/// What faulty servers can do to the links between two kinds of sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LinkBound {
    /// The sites that send.
    pub from: SiteGroup,
    /// The sites that receive.
    pub to: SiteGroup,
    /// How many virtual links in a row have a faulty server, at most (SRDS'07 §5.1).
    pub most_faulty_in_a_row: u64,
}

impl SitePlan {
    /// The process that imposes delays, rates and faults on the links between sites.
    pub const LINKS: &str = "links";

    /// Plans a system of sites.
    #[must_use]
    pub fn of(system: &SiteSystem) -> Self {
        let sites: Vec<_> =
            (0u16..).map(SiteId).zip(system.sites()).map(|(id, site)| PlannedSite::of(id, site)).collect();
        Self {
            system: system.name().to_owned(),
            service: system.service(),
            wide: system.wide(),
            f: system.quorums().f(),
            bounds: bounds(&sites),
            sites,
            links: system.links(),
            updates: system.updates(),
            durability: system.durability(),
        }
    }

    /// The sites, by id.
    #[must_use]
    pub fn sites(&self) -> &[PlannedSite] {
        &self.sites
    }

    /// What faulty servers can do to the links, for each two kinds of sites between which there are any.
    #[must_use]
    pub fn bounds(&self) -> &[LinkBound] {
        &self.bounds
    }

    /// How many servers there are in all sites.
    #[must_use]
    pub fn server_count(&self) -> usize {
        self.sites.iter().map(|site| site.group.n).sum()
    }

    /// The plan as text for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let (name, service, count) = (&self.system, self.service.name(), self.sites.len());
        let mut text = format!("{name}: {service}, replicated by {count} sites\n\nAmong the sites\n");
        let tolerated = self.wide_faults();
        let _ = writeln!(text, "  {}, right while {tolerated}", self.wide);
        text.push_str("  a site counts as faulty only when more of its servers are than it tolerates\n");
        let _ = writeln!(text, "  {}", self.way_of_updates());
        if let Some(trust) = self.trust_in_sites() {
            let _ = writeln!(text, "  {trust}");
        }
        if self.durability != Durability::Sync {
            let _ = writeln!(text, "  durability {}", self.durability);
        }
        self.write_sites(&mut text);
        self.write_links(&mut text);
        text
    }

    fn wide_faults(&self) -> String {
        let (verb, what) = match (self.wide.faults(), self.f) {
            (FaultModel::Byzantine, 1) => ("is", "down, cut off or taken over as a whole"),
            (FaultModel::Byzantine, _) => ("are", "down, cut off or taken over as a whole"),
            (FaultModel::Crash, 1) => ("is", "down or cut off, and none lies as a whole"),
            (FaultModel::Crash, _) => ("are", "down or cut off, and none lies as a whole"),
        };
        format!("{} of {} {verb} {what}", self.f, self.sites.len())
    }

    fn way_of_updates(&self) -> &'static str {
        match self.updates {
            Updates::Origin | Updates::Vouched => {
                "each site sends its own clients' updates to all, and the leading site orders them by name"
            }
            Updates::Leader => {
                "each site hands its clients' updates to the leading site, which sends them to all"
            }
        }
    }

    /// What the sites believe each other of their clients' updates, beyond what these have signed.
    fn trust_in_sites(&self) -> Option<&'static str> {
        (self.updates == Updates::Vouched).then(|| match self.wide.faults() {
            FaultModel::Byzantine => {
                "a site answers for its clients: one taken over as a whole can invent updates of its own ones"
            }
            FaultModel::Crash => "a site answers for its clients, whose signatures it alone checks",
        })
    }

    fn write_sites(&self, text: &mut String) {
        let _ = writeln!(text, "\nIn the sites: {} servers, a process each", self.server_count());
        let widest = self.sites.iter().map(|site| site.name.len()).max().unwrap_or(0);
        for site in &self.sites {
            let _ = writeln!(text, "  {:widest$}  {}", site.name, site.group.text());
            let mut line = String::new();
            for name in &site.servers {
                if !line.is_empty() && widest + 4 + line.len() + 2 + name.len() > COLUMNS {
                    let _ = writeln!(text, "  {:widest$}  {line}", "");
                    line.clear();
                }
                let separator = if line.is_empty() { "" } else { "  " };
                let _ = write!(line, "{separator}{name}");
            }
            let _ = writeln!(text, "  {:widest$}  {line}", "");
        }
    }

    fn write_links(&self, text: &mut String) {
        text.push_str("\nBetween the sites\n");
        if self.links.is_imposed() {
            let delay = self.links.delay().as_millis();
            let rate = match self.links.uplink_bps() {
                #[expect(clippy::cast_precision_loss, reason = "it is for people")]
                Some(bps) => format!("{} Mbit/s out of each site", bps as f64 / 1e6),
                None => "any rate".to_owned(),
            };
            let _ = writeln!(text, "  {delay} ms one way, {rate}, imposed by the process `{}`", Self::LINKS);
        } else {
            text.push_str("  no delay and no rate is imposed\n");
        }
        text.push_str("  one server forwards to one peer; tried in a row with a faulty one, at most:\n");
        let sizes: Vec<_> = self.bounds.iter().map(|it| (it.from.short(), it.to.short())).collect();
        let widest = sizes.iter().map(|(from, _)| from.len()).max().unwrap_or(0);
        let widest_to = sizes.iter().map(|(_, to)| to.len()).max().unwrap_or(0);
        for ((from, to), bound) in sizes.iter().zip(&self.bounds) {
            let count = bound.most_faulty_in_a_row;
            let _ = writeln!(text, "    {from:widest$} ─▶ {to:widest_to$}  {count}");
        }
    }
}

impl PlannedSite {
    fn of(id: SiteId, site: &SiteSpec) -> Self {
        let quorums = site.quorums();
        let group = SiteGroup { protocol: site.local(), n: quorums.n(), f: quorums.f() };
        let servers = quorums.replicas().map(|server: ReplicaId| site.server_name(server)).collect();
        Self { id, name: site.name().to_owned(), group, servers }
    }
}

impl SiteGroup {
    fn quorums(self) -> Quorums {
        self.protocol.quorums(self.n, self.f).expect("taken from quorums")
    }

    fn text(self) -> String {
        let what = match (self.protocol.faults(), self.f) {
            (FaultModel::Byzantine, 1) => "lies",
            (FaultModel::Byzantine, _) => "lie",
            (FaultModel::Crash, 1) => "has crashed",
            (FaultModel::Crash, _) => "have crashed",
        };
        format!("{}: {} servers, right while {} of them {what}", self.protocol, self.n, self.f)
    }

    fn short(self) -> String {
        format!("{} of {}", self.protocol, self.n)
    }
}

/// For each two kinds of sites between which there is a link, in the order of the kinds.
fn bounds(sites: &[PlannedSite]) -> Vec<LinkBound> {
    let mut pairs = BTreeSet::new();
    for from in sites {
        for to in sites.iter().filter(|to| to.id != from.id) {
            pairs.insert((from.group, to.group));
        }
    }
    let bound = |(from, to): (SiteGroup, SiteGroup)| {
        let order = SelectionOrder::new(from.quorums().into(), to.quorums().into());
        LinkBound { from, to, most_faulty_in_a_row: order.most_faulty_in_a_row() }
    };
    pairs.into_iter().map(bound).collect()
}

fn serialize_site_id<S: Serializer>(id: &SiteId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(id.0)
}

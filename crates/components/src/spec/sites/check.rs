use super::raw::{RawLinks, RawSite, RawSites, RawWide};
use super::system::{LinkSpec, ReplicationProtocol, SiteService, SiteSpec, SiteSystem, Updates};
use super::{LEAST_MBPS, LEAST_SITES, MAX_DELAY_MS, MAX_MBPS, MAX_SITES};
use crate::spec::check::{Checker, shortened};
use crate::spec::nearest::nearest;
use crate::spec::problem::Problems;
use crate::spec::raw::Entries;
use crate::spec::rule::{Choice, Named, Rule};
use althing_replica::Durability;
use althing_types::Quorums;
use serde_saphyr::Spanned;

/// Names of processes that are no servers.
const RESERVED: [&str; 2] = ["links", "operator"];

/// Checks every rule on `raw`, which was read from `text`.
pub(in crate::spec) fn check(text: &str, raw: &RawSites) -> Result<SiteSystem, Problems> {
    let mut checker = Checker::new(text);
    checker.name(&raw.name, Named::System);
    let service = match &raw.service {
        Some(name) => checker.choice(Choice::Service, name, &SiteService::ALL.map(|it| (it.name(), it))),
        None => Some(SiteService::Kv),
    };
    let updates = match &raw.updates {
        Some(name) => checker.choice(Choice::Updates, name, &Updates::ALL.map(|it| (it.name(), it))),
        None => Some(Updates::default()),
    };
    let wide = checker.wide(&raw.wide, &raw.sites);
    let entries = raw.sites.value.0.iter().take(MAX_SITES);
    let sites: Vec<_> = entries.map(|(name, site)| checker.site(name, site)).collect();
    let links = raw.links.as_ref().map_or_else(LinkSpec::default, |links| checker.links(links));
    let durability = checker.durability_of_sites(raw, wide.map(|(protocol, _)| protocol));

    let warnings = checker.finish()?;
    let (wide, quorums) = wide.expect("what is wrong with it is reported");
    Ok(SiteSystem {
        name: raw.name.value.clone(),
        service: service.expect("what is wrong with it is reported"),
        wide,
        quorums,
        sites: sites.into_iter().flatten().collect(),
        links,
        updates: updates.expect("what is wrong with it is reported"),
        durability,
        warnings,
    })
}

impl Checker<'_> {
    /// One of several things with a name.
    fn choice<T: Copy>(
        &mut self,
        what: Choice,
        name: &Spanned<String>,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        if let Some((_, chosen)) = choices.iter().find(|(known, _)| *known == name.value) {
            return Some(*chosen);
        }
        let known: Vec<_> = choices.iter().map(|(known, _)| *known).collect();
        let rule = Rule::UnknownChoice {
            what,
            name: shortened(&name.value),
            nearest: nearest(&name.value, known.iter().copied()),
            known,
        };
        self.report(rule, name);
        None
    }

    fn protocol(&mut self, name: &Spanned<String>) -> Option<ReplicationProtocol> {
        self.choice(Choice::Protocol, name, &ReplicationProtocol::ALL.map(|it| (it.name(), it)))
    }

    /// The protocol among the sites, and their quorums.
    fn wide(
        &mut self,
        raw: &RawWide,
        sites: &Spanned<Entries<RawSite>>,
    ) -> Option<(ReplicationProtocol, Quorums)> {
        let count = sites.value.0.len();
        if !(LEAST_SITES..=MAX_SITES).contains(&count) {
            self.report(Rule::SitesOutOfRange { count }, sites);
            return None;
        }
        let protocol = self.protocol(&raw.protocol)?;
        let most = protocol.most_faulty(count);
        if most == 0 {
            let rule = Rule::TooFewSites { protocol, count, f: 1 };
            self.report(rule, sites);
            return None;
        }
        let f = match &raw.f {
            None => most,
            Some(f) => match usize::try_from(f.value) {
                Ok(asked) if (1..=most).contains(&asked) => asked,
                Ok(asked) if asked > most && asked <= MAX_SITES => {
                    self.report(Rule::TooFewSites { protocol, count, f: asked }, f);
                    return None;
                }
                _ => {
                    let most = protocol.most_faulty(MAX_SITES);
                    self.report(Rule::FaultsAtLevel { protocol, f: f.value, most }, f);
                    return None;
                }
            },
        };
        let quorums = protocol.quorums(count, f).expect("as many as they tolerate");
        Some((protocol, quorums))
    }

    fn site(&mut self, name: &Spanned<String>, raw: &RawSite) -> Option<SiteSpec> {
        self.name(name, Named::Site);
        if RESERVED.contains(&name.value.as_str()) {
            let rule = Rule::ReservedName { what: Named::Site, name: name.value.clone() };
            self.report(rule, name);
        }
        let local = self.protocol(&raw.local)?;
        let most = local.most_faulty(Quorums::MAX_REPLICAS);
        let f = match usize::try_from(raw.f.value) {
            Ok(f) if (1..=most).contains(&f) => f,
            _ => {
                self.report(Rule::FaultsAtLevel { protocol: local, f: raw.f.value, most }, &raw.f);
                return None;
            }
        };
        let servers = match &raw.servers {
            None => local.least(f),
            Some(servers) => match usize::try_from(servers.value) {
                Ok(n) if (local.least(f)..=Quorums::MAX_REPLICAS).contains(&n) => n,
                _ => {
                    let least = local.least(f);
                    self.report(Rule::ServersOutOfRange { servers: servers.value, f, least }, servers);
                    return None;
                }
            },
        };
        let quorums = local.quorums(servers, f).expect("enough of them, and not too many");
        Some(SiteSpec { name: name.value.clone(), local, quorums })
    }

    fn links(&mut self, raw: &RawLinks) -> LinkSpec {
        let mut links = LinkSpec::default();
        if let Some(delay) = &raw.delay_ms {
            match u64::try_from(delay.value) {
                Ok(ms) if delay.value <= MAX_DELAY_MS => links.delay_ms = ms,
                _ => self.report(Rule::DelayOutOfRange { ms: delay.value }, delay),
            }
        }
        if let Some(mbps) = &raw.mbps {
            if (LEAST_MBPS..=MAX_MBPS).contains(&mbps.value) {
                // At most 10^11, and at least 10^4.
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in range")]
                let bps = (mbps.value * 1e6).round() as u64;
                links.uplink_bps = Some(bps);
            } else {
                self.report(Rule::RateOutOfRange { mbps: mbps.value }, mbps);
            }
        }
        links
    }

    fn durability_of_sites(&mut self, raw: &RawSites, wide: Option<ReplicationProtocol>) -> Durability {
        let Some(name) = &raw.durability else { return Durability::default() };
        let Some(durability) = self.durability_named(name) else { return Durability::default() };
        if let (Durability::None, Some(wide)) = (durability, wide) {
            self.report(Rule::ForgetfulSites { wide }, name);
        }
        durability
    }
}

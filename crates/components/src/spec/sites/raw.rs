use super::system::{ReplicationProtocol, SiteService, Updates};
use crate::spec::raw::Entries;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;

/// A system of sites: each site is a group of servers that acts as one machine, and the sites replicate a
/// service among themselves.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Althing system of sites", rename = "Sites")]
pub(in crate::spec) struct RawSites {
    /// The system's name: lower-case letters, digits and `-`.
    #[schemars(with = "String", extend("pattern" = "^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"))]
    pub(super) name: Spanned<String>,
    /// What the sites replicate. The key-value store when this is absent.
    #[serde(default)]
    #[schemars(with = "SiteService")]
    pub(super) service: Option<Spanned<String>>,
    /// How the sites replicate it.
    pub(super) wide: RawWide,
    /// The sites by name.
    #[schemars(with = "BTreeMap<String, RawSite>")]
    pub(super) sites: Spanned<Entries<RawSite>>,
    /// What is imposed on the links between sites. Nothing when this is absent.
    #[serde(default)]
    pub(super) links: Option<RawLinks>,
    /// Who carries the updates of a site's clients to the other sites. `origin` (the default): the site itself;
    /// `vouched`: the site itself, without the clients' signatures; `leader`: the leading site.
    #[serde(default)]
    #[schemars(with = "Updates")]
    pub(super) updates: Option<Spanned<String>>,
    /// What an acknowledged update survives in each site: `sync` (the default), `async` or `none`.
    #[serde(default)]
    #[schemars(with = "String", extend("enum" = ["sync", "async", "none"]))]
    pub(super) durability: Option<Spanned<String>>,
}

/// How the sites replicate a service among themselves.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Wide")]
pub(super) struct RawWide {
    /// `pbft`: a site may be taken over as a whole; `paxos`: a site may fail as a whole.
    #[schemars(with = "ReplicationProtocol")]
    pub(super) protocol: Spanned<String>,
    /// How many sites may be faulty at once. When this is absent, the most that so many sites tolerate.
    #[serde(default)]
    #[schemars(with = "u16", range(min = 1, max = 15))]
    pub(super) f: Option<Spanned<i64>>,
}

/// A site.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Site")]
pub(super) struct RawSite {
    /// The protocol among its servers. `pbft`: servers may do anything; `paxos`: servers may crash.
    #[schemars(with = "ReplicationProtocol")]
    pub(super) local: Spanned<String>,
    /// How many servers may be faulty at once.
    #[schemars(with = "u16", range(min = 1, max = 49))]
    pub(super) f: Spanned<i64>,
    /// How many servers there are: 3f + 1 (pbft) or 2f + 1 (paxos) when this is absent, and at least as many.
    #[serde(default)]
    #[schemars(with = "u16", range(min = 3, max = 100))]
    pub(super) servers: Option<Spanned<i64>>,
}

/// What is imposed on the links between sites.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Links")]
pub(super) struct RawLinks {
    /// How long what a site sends is under way to another, in milliseconds, one way.
    #[serde(default)]
    #[schemars(with = "u64", range(min = 0, max = 1000))]
    pub(super) delay_ms: Option<Spanned<i64>>,
    /// What a site can send to all other sites together, in megabits a second.
    #[serde(default)]
    #[schemars(with = "f64", range(min = 0.1, max = 100_000.0))]
    pub(super) mbps: Option<Spanned<f64>>,
}

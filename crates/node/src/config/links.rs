use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{ConfigError, Rule};
use super::files::{read_json, relative_to};
use super::group::checked_name;

/// The lowest rate of an uplink, in bits a second. Over one that is lower the servers of a site do not connect in time to all
/// others.
const LEAST_BPS: u64 = 100_000;

/// A file of the links between sites, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLinks {
    /// The system's name.
    pub system: String,
    /// The control socket.
    pub control: PathBuf,
    /// How long what a site sends is under way to another, in milliseconds.
    pub delay_ms: u64,
    /// What a site can send to all others together, in bits a second; any rate if absent.
    #[serde(default)]
    pub uplink_bps: Option<u64>,
    /// Whether links can be made faulty over the control socket.
    #[serde(default)]
    pub allow_injection: bool,
    /// The sites by name.
    pub sites: Vec<String>,
    /// The way from each site to each server of each other site.
    pub ways: Vec<RawWay>,
}

/// The way from a site to a server of another one, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawWay {
    /// The site whose servers connect.
    pub from: String,
    /// The site of the server.
    pub to: String,
    /// Where the site's servers connect to.
    pub listen: SocketAddr,
    /// Where the server listens.
    pub server: SocketAddr,
}

/// A checked file of the links between sites.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinksConfig {
    system: String,
    control: PathBuf,
    delay_ms: u64,
    uplink_bps: Option<u64>,
    allows_injection: bool,
    sites: Vec<String>,
    ways: Vec<WayConfig>,
}

/// The way from a site to a server of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WayConfig {
    /// The site whose servers connect, by its place among the sites.
    pub from: usize,
    /// The site of the server.
    pub to: usize,
    /// Where the site's servers connect to.
    pub listen: SocketAddr,
    /// Where the server listens.
    pub server: SocketAddr,
}

impl LinksConfig {
    /// The longest delay of a link, one way, in milliseconds. A handshake takes three ways, and has to be over within
    /// [`Timing::handshake_timeout`](crate::net::Timing::handshake_timeout).
    pub const MAX_DELAY_MS: u64 = 1000;

    /// Reads and checks a file of the links between sites.
    ///
    /// # Errors
    /// When it can't be read or breaks a rule.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let raw: RawLinks = read_json(path)?;
        let control = relative_to(path, &raw.control);
        Self::check(raw, control).map_err(ConfigError::rule(path))
    }

    /// Checks what a file says, whose control socket is at `control`.
    pub(crate) fn check(raw: RawLinks, control: PathBuf) -> Result<Self, Rule> {
        let system = checked_name(raw.system)?;
        let mut sites = Vec::new();
        for site in raw.sites {
            let site = checked_name(site)?;
            if sites.contains(&site) {
                return Err(Rule::DuplicateSite(site));
            }
            sites.push(site);
        }
        if raw.delay_ms > Self::MAX_DELAY_MS {
            return Err(Rule::LinkDelay { ms: raw.delay_ms, most: Self::MAX_DELAY_MS });
        }
        if let Some(bps) = raw.uplink_bps.filter(|bps| *bps < LEAST_BPS) {
            return Err(Rule::UplinkRate { bps, least: LEAST_BPS });
        }
        let mut addresses = BTreeSet::new();
        let mut ways = Vec::new();
        for way in raw.ways {
            let named = |name: String| {
                let place = sites.iter().position(|site| *site == name);
                place.ok_or_else(|| Rule::UnknownSite { name, known: sites.clone() })
            };
            let (from, to) = (named(way.from)?, named(way.to)?);
            if from == to {
                return Err(Rule::LinkToItself(sites[from].clone()));
            }
            if !addresses.insert(way.listen) || way.listen == way.server {
                return Err(Rule::SharedListen(way.listen));
            }
            ways.push(WayConfig { from, to, listen: way.listen, server: way.server });
        }
        let (delay_ms, uplink_bps, allows_injection) = (raw.delay_ms, raw.uplink_bps, raw.allow_injection);
        Ok(Self { system, control, delay_ms, uplink_bps, allows_injection, sites, ways })
    }

    /// The system's name.
    #[must_use]
    pub fn system(&self) -> &str {
        &self.system
    }

    /// The control socket.
    #[must_use]
    pub fn control(&self) -> &Path {
        &self.control
    }

    /// How long what a site sends is under way to another, in milliseconds.
    #[must_use]
    pub fn delay_ms(&self) -> u64 {
        self.delay_ms
    }

    /// What a site can send to all others together, in bits a second; `None` for any rate.
    #[must_use]
    pub fn uplink_bps(&self) -> Option<u64> {
        self.uplink_bps
    }

    /// Whether links can be made faulty.
    #[must_use]
    pub fn allows_injection(&self) -> bool {
        self.allows_injection
    }

    /// The sites by name.
    #[must_use]
    pub fn sites(&self) -> &[String] {
        &self.sites
    }

    /// The ways from sites to servers of others.
    #[must_use]
    pub fn ways(&self) -> &[WayConfig] {
        &self.ways
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> RawLinks {
        let way = |from: &str, to: &str, port: u16| RawWay {
            from: from.to_owned(),
            to: to.to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], port)),
            server: SocketAddr::from(([127, 0, 0, 1], port + 1000)),
        };
        RawLinks {
            system: "s".to_owned(),
            control: "control.sock".into(),
            delay_ms: 25,
            uplink_bps: Some(10_000_000),
            allow_injection: false,
            sites: vec!["a".to_owned(), "b".to_owned()],
            ways: vec![way("a", "b", 1), way("b", "a", 2)],
        }
    }

    fn refusal(change: impl FnOnce(&mut RawLinks)) -> String {
        let mut raw = raw();
        change(&mut raw);
        LinksConfig::check(raw, PathBuf::new()).unwrap_err().to_string()
    }

    #[test]
    fn what_makes_sense_is_taken() {
        let config = LinksConfig::check(raw(), "here".into()).unwrap();
        assert_eq!((config.delay_ms(), config.uplink_bps()), (25, Some(10_000_000)));
        assert_eq!(config.ways().iter().map(|way| (way.from, way.to)).collect::<Vec<_>>(), [(0, 1), (1, 0)]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_remedy() {
        assert!(refusal(|raw| raw.sites.push("a".to_owned())).contains("`a` is there twice"));
        assert!(refusal(|raw| raw.ways[0].to = "c".to_owned()).contains("there are a, b"));
        assert!(refusal(|raw| raw.ways[0].to = "a".to_owned()).contains("leads to itself"));
        assert!(refusal(|raw| raw.ways[1].listen = raw.ways[0].listen).contains("127.0.0.1:1"));
        assert!(refusal(|raw| raw.ways[1].listen = raw.ways[1].server).contains("127.0.0.1:1002"));
        assert!(refusal(|raw| raw.delay_ms = 1001).contains("at most 1000"));
        assert!(refusal(|raw| raw.uplink_bps = Some(99_999)).contains("100000"));
        assert!(refusal(|raw| raw.system = "../x".to_owned()).contains("../x"));
    }
}

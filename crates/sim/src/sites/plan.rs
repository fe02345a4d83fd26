use super::config::{SitesConfig, SitesFamily, SitesPlanted};
use super::server::quorums;
use super::treachery::Treachery;
use crate::config::ProtocolKind;
use crate::dice::{Dice, nanos};
use crate::network::Weather;
use althing_protocol::pbft::PbftSettings;
use althing_replica::Injected;
use althing_types::{ReplicaId, SiteId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Virtual time that a run has after its faults end: view timeouts may have doubled, at both levels.
pub(super) const RECOVERY: Duration = Duration::from_secs(60);

/// Longer than any run.
const NEVER: Duration = Duration::from_secs(100_000);

/// How a server of a site is faulty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServerFault {
    /// It sends nothing to other sites.
    SilentForwarder,
    /// What it sends to other sites comes late, as late as goes unnoticed or later.
    SlowForwarder(Duration),
    /// It forwards nothing that other sites send.
    DeafPeer,
    /// What it tells the other outposts of its site, shares above all, is garbled.
    WrongShares,
    /// It tells wrong results and wrong state.
    Lies,
    /// It contradicts itself in its site's protocol.
    Equivocates,
    /// It says nothing in its site's protocol.
    Mute,
    /// It says of each timer of its site that it has expired as soon as it is set.
    Hasty,
    /// It does nothing at all.
    Down,
}

/// Something that happens to the network or to sites.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SitesFault {
    /// The sites fall into two groups: these, and the others.
    Split(Vec<SiteId>),
    /// These sites fail.
    Fail(Vec<SiteId>),
    /// All of that is over.
    Mend,
}

/// All that is decided before a run starts.
pub(super) struct SitesPlan {
    pub(super) wide: PbftSettings,
    pub(super) local: PbftSettings,
    pub(super) local_retry: Duration,
    pub(super) client_retry: Duration,
    pub(super) relay_timeout: Duration,
    pub(super) acknowledgement_timeout: Duration,
    pub(super) max_unacknowledged_bytes: u64,
    pub(super) lan: Weather,
    pub(super) wan: Weather,
    /// How many bytes a second leave a site.
    pub(super) uplink: u64,
    pub(super) faulty: BTreeMap<(SiteId, ReplicaId), ServerFault>,
    pub(super) treacherous: BTreeMap<SiteId, Treachery>,
    pub(super) script: Vec<(u64, SitesFault)>,
    pub(super) heal_at: u64,
    pub(super) think: Duration,
}

impl ServerFault {
    /// What its replica does, if that is it.
    pub(super) fn lie(self) -> Option<Injected> {
        match self {
            Self::Lies => Some(Injected::Lie),
            Self::Equivocates => Some(Injected::Equivocate),
            Self::Mute => Some(Injected::Mute),
            _ => None,
        }
    }
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

impl SitesPlan {
    pub(super) fn new(config: &SitesConfig) -> Self {
        let mut dice = Dice::new(config.seed.wrapping_mul(37).wrapping_add(config.family as u64));
        let has = |family| config.family == family || config.family == SitesFamily::Chaos;
        let heal_at = nanos(dice.duration(Duration::from_secs(4), Duration::from_secs(12)));
        let checkpoint_period = dice.pick(&[4, 8]);
        let common = PbftSettings {
            tentative_requests: 0,
            piggyback_commits: false,
            primary_slack: 0,
            primary_passes: 0,
            ..PbftSettings::default()
        };
        let mut plan = Self {
            wide: PbftSettings {
                checkpoint_period,
                log_size: 4 * checkpoint_period,
                max_batch_requests: dice.pick(&[1, 4, 16]),
                pipeline: dice.pick(&[1, 4]),
                separate_bytes: usize::from(config.is_disseminating),
                max_batch_bytes: 256 * 1024,
                view_timeout: Duration::from_secs(3),
                status_period: millis(500),
                ..common.clone()
            },
            local: PbftSettings {
                checkpoint_period: 16,
                log_size: 64,
                view_timeout: millis(300),
                status_period: millis(50),
                ..common
            },
            local_retry: millis(150),
            client_retry: Duration::from_secs(1),
            relay_timeout: Duration::from_secs(2),
            acknowledgement_timeout: millis(800),
            max_unacknowledged_bytes: dice.pick(&[20_000, 1_000_000]),
            lan: Weather::fair(),
            wan: Weather {
                least_delay: millis(20),
                most_delay: millis(50),
                is_fifo: false,
                ..Weather::fair()
            },
            uplink: dice.pick(&[200_000, 1_250_000]),
            faulty: BTreeMap::new(),
            treacherous: BTreeMap::new(),
            script: Vec::new(),
            heal_at,
            think: dice.pick(&[millis(10), millis(200)]),
        };
        if has(SitesFamily::FaultyServers) {
            plan.spoil_servers(config, &mut dice);
        }
        if has(SitesFamily::BadLinks) {
            plan.wan.loss = dice.pick(&[20, 100, 250]);
            plan.wan.duplication = 50;
            plan.wan.spikes = 50;
            plan.wan.spike_delay = Duration::from_secs(1);
        }
        if has(SitesFamily::ByzantineSites) {
            plan.betray(config, &mut dice);
        }
        if has(SitesFamily::Partitions) {
            plan.split_sites(config, &mut dice);
        }
        if has(SitesFamily::SitesFail) {
            plan.fail_sites(config, &mut dice);
        }
        plan.script.push((heal_at, SitesFault::Mend));
        if config.planted == Some(SitesPlanted::NoSecondTry) {
            plan.acknowledgement_timeout = NEVER;
        }
        plan
    }

    /// In each site, as many as it tolerates.
    fn spoil_servers(&mut self, config: &SitesConfig, dice: &mut Dice) {
        for (site, group) in (0u16..).map(SiteId).zip(&config.composition.sites) {
            let local = quorums(group.protocol, group.servers);
            let mut servers: Vec<ReplicaId> = local.replicas().collect();
            dice.shuffle(&mut servers);
            for server in servers.into_iter().take(local.f()) {
                let fault = match dice.below(9) {
                    // Where servers only crash they do nothing else.
                    _ if group.protocol == ProtocolKind::Paxos => ServerFault::Down,
                    0 => ServerFault::SilentForwarder,
                    1 => ServerFault::SlowForwarder(dice.duration(millis(100), millis(1500))),
                    2 => ServerFault::DeafPeer,
                    3 => ServerFault::WrongShares,
                    4 => ServerFault::Lies,
                    5 => ServerFault::Equivocates,
                    6 => ServerFault::Mute,
                    7 => ServerFault::Hasty,
                    _ => ServerFault::Down,
                };
                self.faulty.insert((site, server), fault);
            }
        }
    }

    fn betray(&mut self, config: &SitesConfig, dice: &mut Dice) {
        if config.composition.wide == ProtocolKind::Paxos && config.planted != Some(SitesPlanted::Traitor) {
            return;
        }
        let sites = quorums(config.composition.wide, config.composition.sites.len());
        let mut traitors: Vec<ReplicaId> = sites.replicas().collect();
        dice.shuffle(&mut traitors);
        for traitor in traitors.into_iter().take(sites.f()) {
            self.treacherous.insert(SiteId(traitor.0), Treachery::new(traitor, sites, dice));
        }
    }

    fn split_sites(&mut self, config: &SitesConfig, dice: &mut Dice) {
        let mut at = nanos(dice.duration(millis(300), millis(2000)));
        while at < self.heal_at {
            let sites = (0u16..).map(SiteId).take(config.composition.sites.len());
            let group = sites.filter(|_| dice.chance(500)).collect();
            let next = at + nanos(dice.duration(millis(500), millis(4000)));
            self.script.push((at, SitesFault::Split(group)));
            if dice.chance(500) {
                self.script.push((next, SitesFault::Mend));
            }
            at = next + nanos(dice.duration(millis(100), millis(3000)));
        }
    }

    fn fail_sites(&mut self, config: &SitesConfig, dice: &mut Dice) {
        let sites = quorums(config.composition.wide, config.composition.sites.len());
        let mut at = nanos(dice.duration(millis(500), millis(3000)));
        let mut first = 0;
        while at < self.heal_at {
            // The first one leads at first; those that follow may by then.
            let failing =
                (0..sites.f()).map(|i| SiteId(u16::try_from((first + i) % sites.n()).expect("small")));
            self.script.push((at, SitesFault::Fail(failing.collect())));
            let next = at + nanos(dice.duration(millis(2000), millis(8000)));
            self.script.push((next, SitesFault::Mend));
            at = next + nanos(dice.duration(millis(500), millis(2000)));
            first += 1;
        }
    }
}

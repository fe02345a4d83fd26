use super::config::{SitesConfig, SitesFamily, SitesPlanted};
use super::server::quorums;
use crate::dice::{Dice, nanos};
use crate::disk::End;
use crate::network::Weather;
use crate::sites::LevelProtocol;
use althing_protocol::pbft::PbftSettings;
use althing_replica::{Durability, Injected};
use althing_types::{ReplicaId, Seq, SiteId};
use althing_wide::Treachery;
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
    /// It has made-up and repeated things ordered by its site, and sends them to others.
    Fabricates,
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
    /// These servers go down, and start again after this time.
    Crash(Vec<(SiteId, ReplicaId)>, End, Duration),
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
    /// The sites that nothing is expected of.
    pub(super) treacherous: BTreeMap<SiteId, Treachery>,
    /// The servers that go by that: all of those sites, or more than the sites tolerate.
    pub(super) traitors: Vec<(SiteId, ReplicaId)>,
    /// Whether the groups of the sites change.
    pub(super) is_changing: bool,
    pub(super) durability: Durability,
    /// How long a disk takes to write something.
    pub(super) disk_delay: Duration,
    pub(super) script: Vec<(u64, SitesFault)>,
    pub(super) heal_at: u64,
    pub(super) think: Duration,
}

impl ServerFault {
    fn any(dice: &mut Dice) -> Self {
        match dice.below(10) {
            0 => Self::SilentForwarder,
            1 => Self::SlowForwarder(dice.duration(millis(100), millis(1500))),
            2 => Self::DeafPeer,
            3 => Self::WrongShares,
            4 => Self::Lies,
            5 => Self::Equivocates,
            6 => Self::Mute,
            7 => Self::Hasty,
            8 => Self::Fabricates,
            _ => Self::Down,
        }
    }

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

/// The servers of a site.
fn servers(config: &SitesConfig, site: SiteId) -> impl Iterator<Item = ReplicaId> + use<> {
    let group = config.composition.sites[usize::from(site.0)];
    quorums(group.protocol, group.servers).replicas()
}

/// Some way to betray the other sites.
fn any_treachery(config: &SitesConfig, dice: &mut Dice) -> Treachery {
    let (contradicts, keeps_silent) =
        dice.pick(&[(500, 0), (200, 200), (0, 500), (1000, 0), (300, 100), (0, 0)]);
    let sites = config.composition.sites.len() as u64;
    let deaf = SiteId(u16::try_from(dice.below(sites)).expect("small"));
    Treachery {
        from: Seq(dice.pick(&[0, 50])),
        seed: dice.below(u64::MAX),
        contradicts,
        keeps_silent,
        is_deaf_to: dice.chance(300).then_some(deaf),
    }
}

/// How long a site waits for bundles that others name: not so long that another leads before it has asked for them, 5
/// status periods later. Drawn apart, so that it shifts nothing else.
fn patience(config: &SitesConfig) -> Duration {
    Dice::new(config.seed.wrapping_mul(43).wrapping_add(0x7761_6974)).pick(&[
        millis(0),
        millis(150),
        millis(450),
    ])
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

impl SitesPlan {
    pub(super) fn new(config: &SitesConfig) -> Self {
        let mut dice = Dice::new(config.seed.wrapping_mul(37).wrapping_add(config.family as u64));
        let has = |family| config.family == family || config.family == SitesFamily::Chaos;
        let is_changing = config.family == SitesFamily::Reconfigure;
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
                separate_patience: patience(config),
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
            traitors: Vec::new(),
            is_changing,
            durability: if has(SitesFamily::Restarts) || is_changing {
                Durability::Sync
            } else {
                Durability::None
            },
            disk_delay: millis(1),
            script: Vec::new(),
            heal_at,
            think: dice.pick(&[millis(10), millis(200)]),
        };
        if has(SitesFamily::FaultyServers) || (is_changing && dice.chance(500)) {
            plan.spoil_servers(config, &mut dice);
        }
        if has(SitesFamily::BadLinks) || (is_changing && dice.chance(300)) {
            plan.wan.loss = dice.pick(&[20, 100, 250]);
            plan.wan.duplication = 50;
            plan.wan.spikes = 50;
            plan.wan.spike_delay = Duration::from_secs(1);
        }
        let is_overrun = config.family == SitesFamily::OverrunSites
            || (config.family == SitesFamily::Chaos && dice.chance(300));
        if is_overrun {
            plan.overrun_sites(config, &mut dice);
        } else if has(SitesFamily::ByzantineSites) {
            plan.betray(config, &mut dice);
        }
        if has(SitesFamily::Partitions) {
            plan.split_sites(config, &mut dice);
        }
        if has(SitesFamily::SitesFail) {
            plan.fail_sites(config, &mut dice);
        }
        if has(SitesFamily::Restarts) || (is_changing && dice.chance(700)) {
            plan.restart_servers(config, &mut dice);
        }
        plan.script.push((heal_at, SitesFault::Mend));
        plan.plant(config);
        plan
    }

    /// As `local`, for a later epoch of a site's group.
    pub(super) fn other_local(&self, dice: &mut Dice) -> PbftSettings {
        let checkpoint_period = dice.pick(&[8, 16, 24]);
        PbftSettings {
            checkpoint_period,
            log_size: checkpoint_period * dice.pick(&[2, 4]),
            pipeline: dice.pick(&[1, 4, 16]),
            max_batch_requests: dice.pick(&[1, 4, 256]),
            adaptive_batching: dice.pick(&[true, false]),
            view_timeout: dice.duration(millis(200), millis(500)),
            ..self.local.clone()
        }
    }

    fn plant(&mut self, config: &SitesConfig) {
        match config.planted {
            Some(SitesPlanted::NoSecondTry) => self.acknowledgement_timeout = NEVER,
            Some(SitesPlanted::NoRelay) => {
                self.relay_timeout = NEVER;
                let deaf = Treachery {
                    from: Seq(0),
                    seed: 0,
                    contradicts: 0,
                    keeps_silent: 0,
                    is_deaf_to: Some(SiteId(1)),
                };
                self.overtake(config, SiteId(0), deaf);
            }
            _ => {}
        }
    }

    /// In each site, as many as it tolerates.
    fn spoil_servers(&mut self, config: &SitesConfig, dice: &mut Dice) {
        for (site, group) in (0u16..).map(SiteId).zip(&config.composition.sites) {
            let local = quorums(group.protocol, group.servers);
            let mut servers: Vec<ReplicaId> = local.replicas().collect();
            dice.shuffle(&mut servers);
            for server in servers.into_iter().take(local.f()) {
                // Where servers only crash they do nothing else.
                let may_lie = group.protocol == LevelProtocol::Pbft;
                let fault = if may_lie { ServerFault::any(dice) } else { ServerFault::Down };
                self.faulty.insert((site, server), fault);
            }
        }
    }

    /// As many sites as the system tolerates, if it tolerates any that lie.
    fn victims(config: &SitesConfig, dice: &mut Dice) -> Vec<SiteId> {
        if config.composition.wide == LevelProtocol::Paxos && config.planted != Some(SitesPlanted::Traitor) {
            return Vec::new();
        }
        let sites = quorums(config.composition.wide, config.composition.sites.len());
        let mut all: Vec<ReplicaId> = sites.replicas().collect();
        dice.shuffle(&mut all);
        all.into_iter().take(sites.f()).map(|site| SiteId(site.0)).collect()
    }

    /// Has all servers of a site go by this.
    fn overtake(&mut self, config: &SitesConfig, site: SiteId, treachery: Treachery) {
        self.treacherous.insert(site, treachery);
        self.traitors.extend(servers(config, site).map(|server| (site, server)));
    }

    fn betray(&mut self, config: &SitesConfig, dice: &mut Dice) {
        for site in Self::victims(config, dice) {
            let treachery = any_treachery(config, dice);
            self.overtake(config, site, treachery);
        }
    }

    /// More servers than the site tolerates are faulty, but not all of them.
    fn overrun_sites(&mut self, config: &SitesConfig, dice: &mut Dice) {
        for site in Self::victims(config, dice) {
            let group = config.composition.sites[usize::from(site.0)];
            let local = quorums(group.protocol, group.servers);
            let tolerated = if group.protocol == LevelProtocol::Pbft { local.f() } else { 0 };
            let mut all: Vec<ReplicaId> = local.replicas().collect();
            dice.shuffle(&mut all);
            let count = dice.between(tolerated as u64 + 1, local.n() as u64 - 1);
            for server in all.into_iter().take(usize::try_from(count).expect("small")) {
                if dice.chance(600) {
                    self.traitors.push((site, server));
                }
                if dice.chance(600) {
                    self.faulty.insert((site, server), ServerFault::any(dice));
                }
            }
            self.treacherous.insert(site, any_treachery(config, dice));
        }
    }

    /// One server of a site goes down, or all of a site, or all there are.
    fn restart_servers(&mut self, config: &SitesConfig, dice: &mut Dice) {
        let all: Vec<SiteId> = (0u16..).map(SiteId).take(config.composition.sites.len()).collect();
        let mut at = nanos(dice.duration(millis(500), millis(2000)));
        while at < self.heal_at {
            let sites = if dice.chance(200) { all.clone() } else { vec![dice.pick(&all)] };
            let is_whole = sites.len() > 1 || dice.chance(400);
            let mut places = Vec::new();
            for site in sites {
                let servers: Vec<ReplicaId> = servers(config, site).collect();
                let chosen = if is_whole { servers } else { vec![dice.pick(&servers)] };
                places.extend(chosen.into_iter().map(|server| (site, server)));
            }
            let how = dice.pick(&[End::Killed, End::PowerCut, End::PowerCut, End::Orderly]);
            let down = dice.duration(millis(50), millis(3000));
            self.script.push((at, SitesFault::Crash(places, how, down)));
            at += nanos(dice.duration(millis(300), millis(3000)));
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

#[cfg(test)]
mod tests {
    use super::super::{paxos_settings, quorums};
    use super::*;
    use crate::sites::Composition;
    use althing_protocol::paxos::PaxosConfig;
    use althing_protocol::pbft::PbftConfig;

    #[test]
    fn whatever_is_drawn_is_what_the_protocols_take() {
        for seed in 1..=100 {
            let config = SitesConfig {
                composition: Composition::uniform(LevelProtocol::Pbft, 4, LevelProtocol::Pbft, 4),
                is_disseminating: true,
                has_real_signatures: false,
                family: SitesFamily::Chaos,
                planted: None,
                seed,
                trace_lines: 0,
            };
            let SitesPlan { wide, local, .. } = SitesPlan::new(&config);
            for settings in [wide, local] {
                let (pbft, paxos) = (quorums(LevelProtocol::Pbft, 4), quorums(LevelProtocol::Paxos, 4));
                let of_paxos = PaxosConfig::new(ReplicaId(0), paxos, paxos_settings(&settings));
                assert_eq!(of_paxos.err(), None, "seed {seed}");
                assert_eq!(PbftConfig::new(ReplicaId(0), pbft, settings).err(), None, "seed {seed}");
            }
        }
    }
}

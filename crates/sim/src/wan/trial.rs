use super::config::WanConfig;
use super::meter::LEADER;
use crate::dice::nanos;
use althing_types::{ReplicaId, SiteId};
use althing_wide::{LinkConfig, Suspect, VirtualLink};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Which servers fail, and how. All else about them goes on as if they were correct.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkFault {
    /// Who carries what the leading site says to the next sends nothing to other sites any more.
    SilentForwarder,
    /// Who receives it there drops all that comes from other sites.
    DeafPeer,
    /// What the same forwarder sends to other sites leaves late by this much.
    SlowForwarder(Duration),
    /// As many servers of each site as it tolerates are silent and deaf: at the leading site those that carry what it
    /// says to the next one first, there those that would receive it after that, and elsewhere those that receive what
    /// the leading site says.
    AsManyAsTolerated,
}

/// All servers of each site have a part in its links and watch over them, and some fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LinkTrial {
    /// By when a virtual link has to have what it carries acknowledged.
    pub timeout: Duration,
    /// What it has to carry, in bytes a second.
    pub floor_bytes_per_s: u64,
    /// What fails.
    pub fault: LinkFault,
    /// When, from the start of the run on. Before that it has to have warmed up.
    pub at: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TrialReport {
    /// Updates that were answered before, a second.
    pub updates_per_s_before: f64,
    /// How long after the fault as many as nine tenths of that were answered again, over the two seconds from then on.
    /// `None` if they never were.
    pub back_after: Option<Duration>,
    /// As many virtual links as may be faulty in a row, times their timeout.
    pub bound: Duration,
    /// How many virtual links were given up before the fault.
    pub given_up_before: u64,
    /// And how many after it.
    pub given_up: u64,
    /// How many of these from one site to one other, at most.
    pub given_up_in_a_row: u64,
}

/// So long updates have to be answered as before, in tenths of a second: bundles come in bursts.
const BACK_TENTHS: usize = 20;

/// How many virtual links from one site to another had their turn.
pub(super) type Turns = BTreeMap<(SiteId, SiteId), u64>;

/// The servers that fail, once they do.
#[derive(Debug, Default)]
pub(super) struct Faulty {
    silent: BTreeSet<(SiteId, ReplicaId)>,
    deaf: BTreeSet<(SiteId, ReplicaId)>,
    slow: BTreeMap<(SiteId, ReplicaId), u64>,
    /// What the turns were when that began.
    turns: Turns,
}

impl Faulty {
    /// How much later than it should something leaves that a server sends to other sites, in nanoseconds. `None` if it
    /// never does.
    pub(super) fn lag(&self, server: (SiteId, ReplicaId)) -> Option<u64> {
        (!self.silent.contains(&server)).then(|| self.slow.get(&server).copied().unwrap_or_default())
    }

    /// Whether a server drops what comes from other sites.
    pub(super) fn is_deaf(&self, server: (SiteId, ReplicaId)) -> bool {
        self.deaf.contains(&server)
    }

    /// It is time.
    pub(super) fn strike(&mut self, fault: LinkFault, leader: &LinkConfig, turns: Turns) {
        let next = SiteId(LEADER.0 + 1);
        let following = |to: SiteId| following(leader, to, turns.get(&(LEADER, to)).copied());
        let present = following(next).next().expect("there always is one");
        match fault {
            LinkFault::SilentForwarder => drop(self.silent.insert((LEADER, present.forwarder))),
            LinkFault::DeafPeer => drop(self.deaf.insert((next, present.peer))),
            LinkFault::SlowForwarder(lag) => {
                self.slow.insert((LEADER, present.forwarder), nanos(lag));
            }
            LinkFault::AsManyAsTolerated => {
                let tolerated = |site| leader.servers(site).f();
                let own = following(next).take(tolerated(LEADER)).map(|link| (LEADER, link.forwarder));
                let mut faulty: BTreeSet<_> = own.collect();
                for to in (0u16..).map(SiteId).take(leader.groups.len()).filter(|to| *to != LEADER) {
                    let skipped = if to == next { tolerated(LEADER) } else { 0 };
                    let peers = following(to).skip(skipped).take(tolerated(to));
                    faulty.extend(peers.map(|link| (to, link.peer)));
                }
                (self.silent, self.deaf) = (faulty.clone(), faulty);
            }
        }
        self.turns = turns;
    }

    /// What came of it, by the turns in the end and the updates that were answered in each tenth of a second.
    pub(super) fn report(
        &self,
        (config, trial): (&WanConfig, &LinkTrial),
        links: impl Fn(SiteId) -> LinkConfig,
        turns: &Turns,
        answered_per_100_ms: &[u64],
    ) -> TrialReport {
        let tenths = |time: Duration| usize::try_from(time.as_millis() / 100).expect("runs are short");
        let (warm, at) = (tenths(config.warm_up), tenths(trial.at));
        let before: u64 = answered_per_100_ms.iter().take(at).skip(warm).sum();
        let updates_per_s_before = before as f64 * 10.0 / at.saturating_sub(warm).max(1) as f64;
        let mut later = answered_per_100_ms.windows(BACK_TENTHS).skip(at);
        let enough = 0.9 * updates_per_s_before * BACK_TENTHS as f64 / 10.0;
        let back = later.position(|window| window.iter().sum::<u64>() as f64 >= enough);
        let changes = |from: &dyn Fn(SiteId, SiteId) -> u64, to: &Turns| -> Vec<u64> {
            to.iter().map(|((site, other), turn)| turn - from(*site, *other)).collect()
        };
        let first = |site: SiteId, to: SiteId| links(site).start(to).number;
        let then = |site, to| self.turns.get(&(site, to)).copied().unwrap_or_else(|| first(site, to));
        let given_up = changes(&then, turns);
        let in_a_row = links(LEADER).order(SiteId(LEADER.0 + 1)).most_faulty_in_a_row();
        TrialReport {
            updates_per_s_before,
            back_after: back.map(|tenths| Duration::from_millis(100 * tenths as u64)),
            bound: trial.timeout * u32::try_from(in_a_row).expect("sites are small"),
            given_up_before: changes(&first, &self.turns).iter().sum(),
            given_up: given_up.iter().sum(),
            given_up_in_a_row: given_up.into_iter().max().unwrap_or_default(),
        }
    }
}

/// The virtual links to a site, from the one whose turn it is on.
fn following(links: &LinkConfig, to: SiteId, turn: Option<u64>) -> impl Iterator<Item = VirtualLink> + use<> {
    let order = links.order(to);
    let all = std::iter::successors(Some(links.start(to)), move |turn| {
        Some(order.after(*turn, Suspect::Forwarder))
    });
    let present = turn.unwrap_or_else(|| links.start(to).number);
    all.skip_while(move |turn| turn.number < present).map(move |turn| order.virtual_link(turn))
}

use super::config::WanConfig;
use super::report::{Latency, WanReport};
use crate::trace::Trace;
use althing_types::SiteId;
use std::collections::BTreeMap;

/// The site that leads at first, and always where none fails.
pub(super) const LEADER: SiteId = SiteId(0);

/// What a site has done.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SiteCounts {
    /// How long its processor was busy, in nanoseconds.
    pub(super) busy: u64,
    pub(super) orderings: u64,
    pub(super) signatures: u64,
}

/// What is counted in a run.
#[derive(Debug, Clone, Default)]
struct Counts {
    messages: u64,
    /// Those that have a number, and among them those that were sent before.
    numbered: u64,
    repeated: u64,
    leader: SiteCounts,
    /// Bytes that have left each site.
    sent: BTreeMap<SiteId, u64>,
}

/// Measures a run, from when it has warmed up.
pub(super) struct Meter {
    counts: Counts,
    before: Option<Counts>,
    latencies: Vec<u64>,
    answered_per_100_ms: Vec<u64>,
    trace: Trace<()>,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            counts: Counts::default(),
            before: None,
            latencies: Vec::new(),
            answered_per_100_ms: Vec::new(),
            trace: Trace::new(0),
        }
    }
}

impl Meter {
    pub(super) fn is_measuring(&self) -> bool {
        self.before.is_some()
    }

    /// What happens from now on counts.
    pub(super) fn begin(&mut self, leader: SiteCounts, sent: &BTreeMap<SiteId, u64>) {
        self.before = Some(Counts { leader, sent: sent.clone(), ..self.counts.clone() });
    }

    pub(super) fn trace(&mut self, now: u64, what: &[u8]) {
        self.trace.digest(now, 0, 0, what);
    }

    /// A message has left a site, which has a number or none, and may have been sent before.
    pub(super) fn sent(&mut self, is_numbered: bool, is_repeated: bool) {
        self.counts.messages += 1;
        self.counts.numbered += u64::from(is_numbered);
        self.counts.repeated += u64::from(is_repeated);
    }

    /// A client has the answer to an update that it made then.
    pub(super) fn answered(&mut self, now: u64, called: u64) {
        let slot = usize::try_from(now / 100_000_000).expect("runs are short");
        if self.answered_per_100_ms.len() <= slot {
            self.answered_per_100_ms.resize(slot + 1, 0);
        }
        self.answered_per_100_ms[slot] += 1;
        if self.is_measuring() {
            self.latencies.push(now - called);
        }
    }

    /// What was measured.
    pub(super) fn report(
        self,
        config: &WanConfig,
        leader: SiteCounts,
        sent: &BTreeMap<SiteId, u64>,
        executed: u64,
    ) -> WanReport {
        let (now, then) = (&self.counts, self.before.unwrap_or_default());
        let seconds = config.measured.as_secs_f64();
        let updates = self.latencies.len() as f64;
        let of = |count: u64, all: f64| if all > 0.0 { count as f64 / all } else { 0.0 };
        let bytes = |site: SiteId| {
            let at = |sent: &BTreeMap<SiteId, u64>| sent.get(&site).copied().unwrap_or_default();
            at(sent) - at(&then.sent)
        };
        let uplink = |site: SiteId| of(bytes(site) * 8, config.uplink_bits_per_s as f64 * seconds);
        let sites = || (0..config.sites).map(SiteId);
        let (numbered, repeated) = (now.numbered - then.numbered, now.repeated - then.repeated);
        WanReport {
            updates_per_s: updates / seconds,
            latency: Latency::of(self.latencies),
            answered_per_100_ms: self.answered_per_100_ms,
            wide_bytes_per_update: of(sites().map(bytes).sum(), updates),
            wide_messages_per_update: of(now.messages - then.messages, updates),
            copies: of(numbered, numbered.saturating_sub(repeated) as f64),
            leader_uplink: uplink(LEADER),
            busiest_uplink: sites().map(uplink).fold(0.0, f64::max),
            leader_cpu: of(leader.busy - then.leader.busy, seconds * 1e9),
            leader_orderings_per_update: of(leader.orderings - then.leader.orderings, updates),
            leader_signatures_per_update: of(leader.signatures - then.leader.signatures, updates),
            executed,
            trial: None,
            trace_hash: self.trace.hash().to_string(),
            config: config.clone(),
        }
    }
}

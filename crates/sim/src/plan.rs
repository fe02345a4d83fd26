use crate::adversary::Behaviour;
use crate::config::{Family, ProtocolKind, SimConfig};
use crate::dice::{Dice, nanos};
use crate::fault::Fault;
use crate::keys::{admin, member};
use crate::network::Weather;
use crate::script;
use crate::sites::paxos_settings;
use crate::subject::zyzzyva_settings;
use althing_protocol::Settings;
use althing_protocol::pbft::PbftSettings;
use althing_protocol::zyzzyva::Composition;
use althing_replica::membership::Membership;
use althing_replica::{
    AnswerPolicy, Durability, EngineSettings, ReadPolicy, RequestAuthKind, RequestAuthPolicy,
};
use althing_types::{ClientId, Epoch, FaultModel, Quorums, ReplicaId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Virtual time that a run has after its faults end: view timeouts may have doubled a few times, and
/// faulty primaries may follow each other.
pub(crate) const RECOVERY: Duration = Duration::from_secs(120);

/// How long an attack on the group's throughput lasts, in view timeouts.
const ATTACK_TIMEOUTS: u32 = 30;

/// Correct clients of a group under such an attack.
const ATTACKED_CLIENTS: usize = 4;

/// All that is decided before a run starts.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) quorums: Quorums,
    pub(crate) settings: PbftSettings,
    pub(crate) engine: EngineSettings,
    /// How clients authenticate, and whether they read without ordering.
    pub(crate) auth: RequestAuthKind,
    pub(crate) reads: ReadPolicy,
    pub(crate) answers: AnswerPolicy,
    pub(crate) retry: Duration,
    /// Correct clients; they come first.
    pub(crate) clients: usize,
    /// Faulty clients.
    pub(crate) rogues: usize,
    pub(crate) think: Duration,
    /// Keys that the correct clients use.
    pub(crate) keys: u64,
    /// Clocks differ by at most so much at the start.
    pub(crate) skew: Duration,
    pub(crate) disk_delay: Duration,
    /// How often replicas take new keys, if they do.
    pub(crate) key_period: Option<Duration>,
    pub(crate) durability: Durability,
    /// Starts are cut off in so many of 1000 cases.
    pub(crate) cut_off_starts: u64,
    /// Replicas that are faulty all along, and how.
    pub(crate) byzantine: BTreeMap<ReplicaId, BTreeSet<Behaviour>>,
    /// Of those, the ones that run twice.
    pub(crate) twins: BTreeSet<ReplicaId>,
    /// How long what slow replicas send is held back.
    /// Which protocols take turns, for clients.
    pub(crate) composition: Composition,
    pub(crate) lag: Duration,
    /// Whom an unfair primary lets wait; nobody in particular for a slow one.
    pub(crate) victim: Option<ClientId>,
    pub(crate) weather: Weather,
    pub(crate) script: Vec<(u64, Fault)>,
    pub(crate) heal_at: u64,
    /// Whether nothing at all goes wrong.
    pub(crate) is_undisturbed: bool,
    /// Who belongs to the group at first, if that changes. A replica then goes by the number of its machine.
    pub(crate) membership: Option<Arc<Membership>>,
}

impl Plan {
    pub(crate) fn new(config: &SimConfig) -> Self {
        // The family is part of what chance follows from, so that families differ in more than faults.
        let mut dice = Dice::new(config.seed.wrapping_mul(31).wrapping_add(config.family as u64));
        let quorums = match config.protocol {
            ProtocolKind::Pbft | ProtocolKind::Speculative(_) => {
                Quorums::byzantine(config.replicas, config.faults())
            }
            ProtocolKind::Paxos => Quorums::crash(config.replicas, config.faults()),
        };
        let quorums = quorums.expect("f follows from n");
        let settings = witnessed(config, quorums, separating(config, settings(&mut dice)));
        let byzantine = if config.has_liars() { byzantine(config, &mut dice) } else { BTreeMap::new() };
        let has_rogues = matches!(config.family, Family::BadClient | Family::InconsistentMacs)
            || (config.family == Family::Chaos && dice.chance(500));
        let (auth, request_auth) = match dice.below(4) {
            0 => (RequestAuthKind::Signed, RequestAuthPolicy::SignatureOnly),
            1 => (RequestAuthKind::Signed, RequestAuthPolicy::MacsOrSignature),
            _ => (RequestAuthKind::Macs, RequestAuthPolicy::MacsOrSignature),
        };
        let heal_at = match config.family {
            Family::Calm => Duration::from_millis(dice.between(300, 600)),
            family if family.changes_members() => Duration::from_millis(dice.between(1500, 4000)),
            Family::KeyTheft | Family::MobileAdversary => Duration::from_millis(dice.between(2500, 4000)),
            _ => Duration::from_millis(dice.between(800, 2000)),
        };
        let twins = match config.family {
            Family::Twins => byzantine.keys().copied().collect(),
            Family::Chaos if dice.chance(200) => byzantine.keys().copied().collect(),
            _ => BTreeSet::new(),
        };
        let retry = settings.view_timeout * u32::try_from(dice.between(2, 8)).expect("small") / 10;
        let clients = usize::try_from(dice.between(2, 4)).expect("small");
        let mut lag = settings.view_timeout * u32::try_from(dice.between(40, 95)).expect("small") / 100;
        let mut think = Duration::from_millis(dice.between(10, 80));
        let mut heal_at = heal_at;
        let is_attack = config.family.least_share().is_some();
        if is_attack {
            think = Duration::from_millis(dice.between(1, 8));
            heal_at = settings.view_timeout * ATTACK_TIMEOUTS;
            // Just before backups give up, just before clients complain, or less still.
            lag = dice.pick(&[settings.view_timeout * 95 / 100, retry * 9 / 10, retry / 2, retry / 4]);
            if config.family == Family::UnfairPrimary && dice.chance(500) {
                lag = Duration::ZERO;
            }
        }
        let mut plan = Self {
            quorums,
            engine: engine(request_auth),
            auth,
            reads: if dice.chance(300) { ReadPolicy::Fast } else { ReadPolicy::Ordered },
            answers: if dice.chance(700) { AnswerPolicy::Few } else { AnswerPolicy::All },
            retry,
            clients: if is_attack { ATTACKED_CLIENTS } else { clients },
            rogues: if has_rogues { usize::try_from(dice.between(1, 3)).expect("small") } else { 0 },
            think,
            keys: dice.between(1, 4),
            skew: Duration::from_millis(dice.below(150)),
            disk_delay: Duration::from_micros(dice.pick(&[50, 500, 2000, 6000])),
            key_period: None,
            durability: if config.family == Family::AsyncLog { Durability::Async } else { Durability::Sync },
            cut_off_starts: match config.family {
                Family::CrashDisk | Family::DiskFaults | Family::AsyncLog => 120,
                family if family.changes_members() => 40,
                Family::ProactiveRecovery | Family::MobileAdversary => 200,
                _ => 0,
            },
            byzantine,
            twins,
            composition: config.protocol.composition(),
            lag,
            victim: (config.family == Family::UnfairPrimary)
                .then(|| ClientId(dice.below(ATTACKED_CLIENTS as u64))),
            weather: script::weather(config.family, &mut dice),
            script: Vec::new(),
            membership: config.family.changes_members().then(|| {
                Arc::new(first_membership(
                    quorums,
                    agreed(config.protocol, settings.clone()),
                    engine(request_auth),
                ))
            }),
            heal_at: nanos(heal_at),
            is_undisturbed: false,
            settings,
        };
        plan.key_period = key_period(config, &plan);
        plan.script = script::script(config.family, &plan, &mut dice);
        plan
    }

    /// The same without what the family does to it.
    pub(crate) fn undisturbed(config: &SimConfig) -> Self {
        let mut plan = Self::new(config);
        plan.byzantine.clear();
        plan.script.retain(|(_, fault)| matches!(fault, Fault::Heal));
        plan.is_undisturbed = true;
        plan
    }

    /// How many numbers above its stable checkpoint a replica may know something of.
    pub(crate) fn window(&self) -> u64 {
        match self.quorums.model() {
            FaultModel::Byzantine => self.settings.log_size,
            FaultModel::Crash => 2 * self.settings.log_size,
        }
    }

    /// Whether `id` follows the protocol all along.
    pub(crate) fn is_correct(&self, id: ReplicaId) -> bool {
        !self.byzantine.contains_key(&id)
    }
}

/// What the members of a group agree on that runs this protocol. Where it is not PBFT, it goes by what it shares
/// of these settings.
pub(crate) fn agreed(protocol: ProtocolKind, settings: PbftSettings) -> Settings {
    match protocol {
        ProtocolKind::Pbft => Settings::Pbft(settings),
        ProtocolKind::Paxos => Settings::Paxos(paxos_settings(&settings)),
        ProtocolKind::Speculative(composition) => Settings::Zyzzyva(zyzzyva_settings(composition, &settings)),
    }
}

/// As many requests as there are clients find room, so that the bound is met.
fn engine(request_auth: RequestAuthPolicy) -> EngineSettings {
    let max_outstanding_requests = u32::try_from(crate::keys::CLIENTS).expect("small");
    EngineSettings { max_outstanding_requests, request_auth, ..EngineSettings::default() }
}

fn first_membership(quorums: Quorums, settings: Settings, engine: EngineSettings) -> Membership {
    Membership {
        epoch: Epoch(0),
        f: u16::try_from(quorums.f()).expect("small"),
        members: quorums.replicas().map(member).collect(),
        admins: vec![admin().public()],
        settings,
        first_primary: ReplicaId(0),
        engine,
        is_one_machine: false,
    }
}

/// As [`engine`], for a later epoch: now and then with fewer places than there are clients.
pub(crate) fn other_engine(dice: &mut Dice) -> EngineSettings {
    EngineSettings {
        max_outstanding_requests: dice.pick(&[2, 4, 8]),
        outstanding_expiry: Duration::from_millis(dice.pick(&[50, 300, 10_000])),
        request_auth: dice.pick(&[RequestAuthPolicy::MacsOrSignature, RequestAuthPolicy::SignatureOnly]),
    }
}

/// As [`settings`], for a later epoch of a group that began with these.
pub(crate) fn other_settings(first: &PbftSettings, dice: &mut Dice) -> PbftSettings {
    let settings = settings(dice);
    // What a replica waits for by itself has to end before the view does.
    let fits = first.separate_patience + 6 * settings.status_period <= settings.view_timeout;
    PbftSettings {
        separate_bytes: dice.pick(&[0, 0, 1, 22]),
        separate_patience: if fits { first.separate_patience } else { Duration::ZERO },
        primary_slack: first.primary_slack,
        primary_passes: first.primary_passes,
        ..settings
    }
}

/// The largest log of [`settings`], and how many checkpoints lie in one at most.
pub(crate) const LARGEST_LOG: (u64, u64) = (32, 4);

/// Small windows and periods, so that checkpoints, truncation, full pipelines and state transfer all
/// happen within a hundred operations.
fn settings(dice: &mut Dice) -> PbftSettings {
    let checkpoint_period = dice.pick(&[2, 4, 8, 8]);
    PbftSettings {
        checkpoint_period,
        log_size: checkpoint_period * dice.pick(&[2, 2, 4]),
        pipeline: dice.pick(&[1, 2, 4, 16]),
        adaptive_batching: dice.pick(&[true, false]),
        max_batch_requests: dice.pick(&[1, 2, 16]),
        max_batch_bytes: dice.pick(&[128, 1 << 16]),
        tentative_requests: dice.pick(&[0, 1, 4, 16]),
        piggyback_commits: dice.pick(&[true, false]),
        view_timeout: Duration::from_millis(dice.between(100, 300)),
        status_period: Duration::from_millis(dice.between(15, 40)),
        max_clock_skew: Duration::from_millis(500),
        primary_slack: 4,
        primary_passes: 2,
        ..PbftSettings::default()
    }
}

/// In half of the runs some or all requests are proposed by name, and in half of those a replica waits for what it
/// lacks, unless the run is about floors. Drawn apart, so that it shifts nothing else.
fn separating(config: &SimConfig, settings: PbftSettings) -> PbftSettings {
    let mut dice = Dice::new(config.seed.wrapping_mul(41).wrapping_add(0x626f_6479));
    let separate_bytes = dice.pick(&[0, 0, 1, 22]);
    let room = settings.view_timeout.saturating_sub(6 * settings.status_period);
    let separate_patience = room * dice.pick(&[0, 0, 1, 9]) / 10;
    let settings = PbftSettings { separate_bytes, ..settings };
    if separate_patience.is_zero() || config.family.least_share().is_some() {
        return settings;
    }
    PbftSettings { separate_patience, primary_slack: 0, primary_passes: 0, ..settings }
}

/// Where there are to be witnesses, those of the first epoch: one at least. Drawn apart, so that it shifts nothing else.
fn witnessed(config: &SimConfig, quorums: Quorums, settings: PbftSettings) -> PbftSettings {
    if !config.has_witnesses || quorums.most_witnesses() == 0 {
        return settings;
    }
    let mut dice = Dice::new(config.seed.wrapping_mul(43).wrapping_add(0x7769_746e));
    let count = usize::try_from(dice.between(1, quorums.most_witnesses() as u64)).expect("small");
    PbftSettings { witnesses: some_of(quorums.n(), count, &mut dice), ..settings }
}

/// So many of the places of a group of `n`.
pub(crate) fn some_of(n: usize, count: usize, dice: &mut Dice) -> Vec<ReplicaId> {
    let mut places: Vec<_> = (0..n).map(|i| ReplicaId(u16::try_from(i).expect("small"))).collect();
    dice.shuffle(&mut places);
    places.truncate(count);
    places.sort_unstable();
    places
}

/// In half of the runs replicas take new keys. Drawn apart, so that it shifts nothing else.
fn key_period(config: &SimConfig, plan: &Plan) -> Option<Duration> {
    let mut dice = Dice::new(config.seed.wrapping_mul(37).wrapping_add(0x6b65_7973));
    let is_on = match config.family {
        Family::KeyTheft | Family::MobileAdversary => true,
        // Two that share an identity can't both announce a key.
        _ => plan.twins.is_empty() && dice.chance(500),
    };
    is_on.then(|| Duration::from_millis(dice.between(100, 400)))
}

fn byzantine(config: &SimConfig, dice: &mut Dice) -> BTreeMap<ReplicaId, BTreeSet<Behaviour>> {
    let behaviours: &[Behaviour] = match config.family {
        Family::Equivocate => &[Behaviour::Equivocate],
        Family::Mute => &[Behaviour::Mute],
        Family::Selective => &[Behaviour::Selective],
        Family::Slow => &[Behaviour::Slow],
        Family::SlowPrimary => &[Behaviour::SlowPrimary],
        Family::UnfairPrimary => &[Behaviour::UnfairPrimary],
        Family::WrongCheckpoint => &[Behaviour::WrongCheckpoint],
        Family::WrongReply => &[Behaviour::WrongReply],
        Family::Forge => &[Behaviour::Forge],
        Family::Replay => &[Behaviour::Replay],
        Family::LyingViewChange => &[Behaviour::LyingViewChange],
        Family::LyingState => &[Behaviour::LyingState],
        Family::Twins => &[Behaviour::Twin],
        Family::PlannedStops if dice.chance(500) => &[Behaviour::Selective],
        // One that recovers is none of the faulty, of whom there may be as many as ever.
        Family::ProactiveRecovery if dice.chance(500) => &[Behaviour::Mute, Behaviour::Selective],
        Family::Chaos | Family::Reconfigure | Family::RecoveringMembers => &Behaviour::ALL,
        _ => return BTreeMap::new(),
    };
    let most = config.faults();
    // Chaos leaves some of the faults that are tolerated to crashes.
    let leaves_room = config.family == Family::Chaos || config.family.changes_members();
    let count = if leaves_room { dice.index(most + 1) } else { most };
    let mut ids: Vec<_> = (0..config.replicas).map(|i| ReplicaId(u16::try_from(i).expect("small"))).collect();
    dice.shuffle(&mut ids);
    if config.family.least_share().is_some() || dice.chance(500) {
        // The primary of view 0 has most occasions to do harm.
        ids.retain(|id| id.0 != 0);
        ids.insert(0, ReplicaId(0));
    }
    let mut choose = |_| match behaviours {
        [one] => BTreeSet::from([*one]),
        many => (0..dice.between(1, 3)).map(|_| dice.pick(many)).collect(),
    };
    ids.into_iter().take(count).map(|id| (id, choose(id))).collect()
}

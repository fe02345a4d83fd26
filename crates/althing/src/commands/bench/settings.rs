use super::attack::{Attack, Beside};
use super::injection::Injection;
use super::load::{Load, ServiceKind, Workload};
use althing_node::config::{MAX_SESSIONS, ProtocolKind, RawPbft, ReadKind, RequestAuthKind};
use althing_replica::Durability;
use miette::{Result, miette};
use serde::Serialize;
use std::fmt::{Display, Write};
use std::time::Duration;

/// The most load processes: more would only measure themselves.
const MAX_LOAD_PROCESSES: u32 = 64;

/// The highest rate of an open loop, in operations a second.
const HIGHEST_RATE: f64 = 10e6;

/// The most clients of a group.
const MAX_CLIENTS: usize = 10_000;

/// What is compared, under which loads.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Settings {
    pub(super) workload: Workload,
    pub(super) reads: ReadKind,
    /// The first is what the others are set against.
    pub(super) contenders: Vec<ContenderSettings>,
    pub(super) loads: Vec<Load>,
    pub(super) pbft: RawPbft,
    /// Faults during the measured time, of replicated contenders.
    pub(super) injections: Vec<Injection>,
    /// Attacks that the replicated contender is put under, one after the other.
    pub(super) attacks: Vec<Attack>,
    /// For each contender.
    pub(super) load_processes: u32,
    /// So many clients share a connection to each replica.
    pub(super) clients_per_connection: u16,
    pub(super) seed: u64,
    pub(super) warm_up_seconds: f64,
    /// Of each run.
    pub(super) measured_seconds: f64,
    pub(super) rounds: usize,
    /// After so many seconds an operation has failed.
    pub(super) timeout_seconds: f64,
}

/// A group, or a server that nothing backs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ContenderSettings {
    /// Tells it apart; fit for file names.
    pub(super) name: String,
    pub(super) protocol: ProtocolKind,
    /// Faulty replicas that it tolerates.
    pub(super) f: usize,
    pub(super) durability: Durability,
    pub(super) request_auth: RequestAuthKind,
    /// What runs beside the load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) beside: Option<Beside>,
}

impl ContenderSettings {
    /// A server that nothing backs: it has no votes to write to disk.
    pub(super) fn unreplicated(request_auth: RequestAuthKind) -> Self {
        Self {
            name: "unreplicated".to_owned(),
            protocol: ProtocolKind::Unreplicated,
            f: 0,
            durability: Durability::None,
            request_auth,
            beside: None,
        }
    }

    pub(super) fn pbft(name: &str, f: usize, durability: Durability, request_auth: RequestAuthKind) -> Self {
        let (protocol, beside) = (ProtocolKind::Pbft, None);
        Self { name: name.to_owned(), protocol, f, durability, request_auth, beside }
    }

    /// The same group with another protocol.
    pub(super) fn running(self, protocol: ProtocolKind) -> Self {
        Self { protocol, ..self }
    }

    /// The same group, with this beside its load.
    pub(super) fn beside(&self, beside: Beside) -> Self {
        Self { name: beside.name(), beside: Some(beside), ..self.clone() }
    }

    pub(super) fn replicas(&self) -> usize {
        self.protocol.least_replicas(self.f)
    }
}

impl Settings {
    pub(super) fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up_seconds)
    }

    pub(super) fn measured(&self) -> Duration {
        Duration::from_secs_f64(self.measured_seconds)
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.timeout_seconds)
    }

    /// The most clients of any load.
    pub(super) fn clients(&self) -> usize {
        self.loads.iter().map(Load::clients).max().unwrap_or_default()
    }

    /// The command that measures just this.
    pub(super) fn command(&self) -> String {
        let mut command = String::from("althing bench");
        let mut add = |name: &str, value: &dyn Display| {
            let _ = write!(command, " --{name} {value}");
        };
        self.loads_as_arguments(&mut add);
        let Workload { service, request_bytes, reply_bytes, read_share, keys } = &self.workload;
        if *service == ServiceKind::Kv {
            add("service", &"kv");
            add("keys", keys);
        }
        add("request-bytes", request_bytes);
        if *reply_bytes > 0 {
            add("reply-bytes", reply_bytes);
        }
        if *read_share > 0.0 {
            add("read-share", read_share);
            add("reads", &format!("{:?}", self.reads).to_lowercase());
        }
        let replicated: Vec<_> = self.contenders.iter().filter(|contender| contender.f > 0).collect();
        let distinct = |names: Vec<&'static str>| {
            let mut seen = Vec::new();
            names.into_iter().for_each(|name| {
                if !seen.contains(&name) {
                    seen.push(name);
                }
            });
            seen.join(",")
        };
        let protocols = distinct(replicated.iter().map(|contender| contender.protocol.name()).collect());
        if protocols != ProtocolKind::Pbft.name() {
            add("protocol", &protocols);
        }
        add("durability", &distinct(replicated.iter().map(|c| c.durability.name()).collect()));
        if let Some(contender) = replicated.first() {
            add("faults", &contender.f);
        }
        for change in pbft_changes(&self.pbft) {
            add("pbft", &change);
        }
        self.injections.iter().for_each(|injection| add("inject", injection));
        if !self.attacks.is_empty() {
            add("attack", &self.attacks.iter().map(|attack| attack.name()).collect::<Vec<_>>().join(","));
        }
        add("load-processes", &self.load_processes);
        if self.clients_per_connection > 1 {
            add("clients-per-connection", &self.clients_per_connection);
        }
        add("seed", &self.seed);
        add("warm-up", &self.warm_up_seconds);
        add("seconds", &self.measured_seconds);
        add("rounds", &self.rounds);
        add("timeout", &self.timeout_seconds);
        if self.contenders.iter().any(|contender| contender.request_auth == RequestAuthKind::Signatures) {
            command.push_str(" --signatures");
        }
        command
    }

    fn loads_as_arguments(&self, add: &mut impl FnMut(&str, &dyn Display)) {
        let list = |values: Vec<String>| values.join(",");
        let rates = self.loads.iter().filter_map(|load| match load {
            Load::Open { offered_per_second, .. } => Some(offered_per_second.to_string()),
            Load::Closed { .. } => None,
        });
        let rates: Vec<_> = rates.collect();
        if let Some(Load::Open { clients, arrivals, .. }) = self.loads.first() {
            add("rate", &list(rates));
            add("arrivals", &format!("{arrivals:?}").to_lowercase());
            add("clients", clients);
        } else {
            add("clients", &list(self.loads.iter().map(|load| load.clients().to_string()).collect()));
        }
    }

    /// Whether they make sense.
    pub(super) fn check(&self) -> Result<()> {
        for (name, value, least) in [
            ("--seconds", self.measured_seconds, 0.01),
            ("--warm-up", self.warm_up_seconds, 0.0),
            ("--timeout", self.timeout_seconds, 0.01),
        ] {
            if !(least..=86_400.0).contains(&value) {
                return Err(miette!("{name} takes seconds from {least} to 86400, and not {value}"));
            }
        }
        if self.rounds == 0 {
            return Err(miette!("--rounds takes numbers from 1"));
        }
        if !(1..=MAX_LOAD_PROCESSES).contains(&self.load_processes) {
            return Err(miette!("--load-processes takes numbers from 1 to {MAX_LOAD_PROCESSES}"));
        }
        if !(1..=MAX_SESSIONS).contains(&self.clients_per_connection) {
            return Err(miette!("--clients-per-connection takes numbers from 1 to {MAX_SESSIONS}"));
        }
        self.check_workload()?;
        self.check_loads()?;
        let is_alone = self.injections.is_empty() && self.contenders.len() == 1;
        if !self.attacks.is_empty() && !is_alone {
            return Err(miette!(
                "--attack takes one durability, and no --inject: what a flood costs is measured alone"
            ));
        }
        self.check_injections()
    }

    fn check_workload(&self) -> Result<()> {
        let Workload { request_bytes, read_share, keys, .. } = self.workload;
        if !(0.0..=1.0).contains(&read_share) {
            return Err(miette!("--read-share takes numbers from 0 to 1, and not {read_share}"));
        }
        if keys == 0 {
            return Err(miette!("--keys takes numbers from 1"));
        }
        let longest = self.workload.max_request_bytes();
        if request_bytes > longest {
            return Err(miette!("--request-bytes: a value of the store has at most {longest} bytes"));
        }
        Ok(())
    }

    fn check_loads(&self) -> Result<()> {
        if self.loads.is_empty() || self.loads.iter().any(|load| !(1..=MAX_CLIENTS).contains(&load.clients()))
        {
            return Err(miette!("--clients takes numbers from 1 to {MAX_CLIENTS}"));
        }
        for load in &self.loads {
            if load.clients() < self.load_processes as usize {
                return Err(miette!("--load-processes takes no more than there are clients"));
            }
            if let Load::Open { offered_per_second, .. } = load
                && !(*offered_per_second > 0.0 && *offered_per_second <= HIGHEST_RATE)
            {
                return Err(miette!("--rate takes operations a second above 0 and up to {HIGHEST_RATE}"));
            }
        }
        Ok(())
    }

    fn check_injections(&self) -> Result<()> {
        match self.injections.iter().find(|injection| injection.at >= self.measured_seconds) {
            Some(late) => {
                Err(miette!("--inject {late} comes after the {} measured seconds", self.measured_seconds))
            }
            None => Ok(()),
        }
    }
}

/// What is not as it usually is, as arguments name it.
fn pbft_changes(pbft: &RawPbft) -> Vec<String> {
    let fields = |pbft: &RawPbft| match serde_json::to_value(pbft) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => unreachable!("settings are an object in JSON"),
    };
    let usual = fields(&RawPbft::default());
    let changed = fields(pbft).into_iter().filter(|(name, value)| usual.get(name) != Some(value));
    changed.map(|(name, value)| format!("{name}={value}")).collect()
}

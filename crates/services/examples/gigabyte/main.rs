//! What checkpoints and state transfer of a large key-value store cost, in the engine alone: replicas
//! and clients in one process and one thread, without a network.
//!
//! ```text
//! cargo run --release -p althing-services --example gigabyte -- checkpoint 1024
//! cargo run --release -p althing-services --example gigabyte -- pages 1024
//! cargo run --release -p althing-services --example gigabyte -- disk 1024 DIRECTORY
//! cargo run --release -p althing-services --example gigabyte -- recover DIRECTORY
//! cargo run --release -p althing-services --example gigabyte -- transfer 256
//! ```
//!
//! `checkpoint` fills one replica with so many MiB, then writes to as many entries between each two
//! checkpoints as a hundredth of its pages; `pages` takes the store alone, and says what its pages and
//! their digests cost; `disk` does the same with its log and state in an empty
//! directory, and `recover` starts a replica from what that left. `transfer` fills four, changes a hundredth while one of them hears nothing,
//! and lets it catch up.

mod disk;

use althing_crypto::{Identity, Keyring};
use althing_protocol::pbft::{Pbft, PbftConfig, PbftSettings};
use althing_protocol::zyzzyva::Composition;
use althing_replica::storage::LogWrite;
use althing_replica::{
    AnswerPolicy, Client, ClientConfig, ClientInput, ClientOutput, Context, Durability, EngineSettings,
    Input, Limits, OperationKind, Output, Pages, ReadPolicy, Replica, ReplicaConfig, Report, RequestAuthKind,
    Service, Startup, Timer,
};
use althing_services::{Kv, KvOperation};
use althing_types::{ClientId, GroupId, Instant, Principal, Quorums, ReplicaId, RequestNumber, Seq};
use disk::Disk;
use mimalloc::MiMalloc;
use rustix::time::{ClockId, clock_gettime};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// As that of the `althing` command.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Clients that submit at once, and so about the requests of a batch.
const CLIENTS: u64 = 64;
const VALUE_BYTES: usize = 1000;
const CHECKPOINTS: u64 = 10;
/// Operations between two checkpoints: as many batches as by default, with half of what fits into them.
const OPERATIONS: u64 = 128 * 128;

fn keyring(n: usize, me: Principal) -> Keyring {
    let identity = |who: Principal| {
        Identity::from_secret_bytes(&match who {
            Principal::Replica(id) => [1 + id.0 as u8; 64],
            Principal::Client(id) => [128 + id.0 as u8; 64],
        })
    };
    let replicas = (0..n as u16).map(|i| identity(Principal::Replica(ReplicaId(i))).public()).collect();
    let clients = (0..CLIENTS).map(|i| (ClientId(i), identity(Principal::Client(ClientId(i))).public()));
    Keyring::new(GroupId([9; 16]), me, identity(me), replicas, clients.collect())
}

/// Memory of this process, in MiB.
fn resident_mib() -> f64 {
    memory_mib("VmRSS")
}

/// What it had at most.
fn peak_mib() -> f64 {
    memory_mib("VmHWM")
}

fn memory_mib(which: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find(|line| line.starts_with(which)).expect("it has a size");
    line.split_whitespace().nth(1).expect("a figure").parse::<f64>().expect("a number") / 1024.0
}

/// The processor's time that this thread has used: the machine may have other work.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A group and its clients. Messages arrive at once; timers expire when nothing else is left to do.
struct Group {
    now: Instant,
    replicas: Vec<Replica<Pbft, Kv>>,
    clients: Vec<Client>,
    timers: BTreeMap<(ReplicaId, Timer), Instant>,
    wire: VecDeque<(Principal, Principal, Arc<[u8]>)>,
    /// Hears nothing.
    deaf: Option<ReplicaId>,
    /// Time spent in replicas: all, and that of the inputs that made a checkpoint.
    spent: Duration,
    checkpoints: Vec<Duration>,
    period: u64,
    transferred: Option<u64>,
    seed: u64,
    /// The disk of replica 0, if it has one.
    disk: Option<Disk>,
    /// For each state that was kept there: its bytes, and how long that took.
    kept: Vec<(u64, Duration)>,
}

impl Group {
    fn new(n: usize, period: u64) -> Self {
        Self::from(n, period, None)
    }

    /// A group whose replica 0 has this disk, and starts from it.
    fn from(n: usize, period: u64, disk: Option<(Disk, Startup)>) -> Self {
        let (disk, startup) = disk.unzip();
        let quorums = Quorums::byzantine(n, (n - 1) / 3).expect("enough replicas");
        let settings = PbftSettings {
            checkpoint_period: period,
            log_size: 2 * period,
            pipeline: 1,
            tentative_requests: 0,
            ..PbftSettings::default()
        };
        let replica = |id: ReplicaId| {
            let config = ReplicaConfig {
                replica: id,
                quorums,
                keyring: keyring(n, Principal::Replica(id)),
                limits: Limits::default(),
                engine: EngineSettings::default(),
                durability: if disk.is_some() { Durability::Async } else { Durability::None },
                membership: None,
            };
            let protocol = Pbft::new(PbftConfig::new(id, quorums, settings.clone()).expect("good settings"));
            Replica::new(config, protocol, Kv::new())
        };
        let client = |id: u64| {
            Client::new(ClientConfig {
                client: ClientId(id),
                keyring: keyring(n, Principal::Client(ClientId(id))),
                quorums,
                membership: None,
                limits: Limits::default(),
                auth: RequestAuthKind::Macs,
                reads: ReadPolicy::Ordered,
                answers: AnswerPolicy::All,
                separate_bytes: 0,
                composition: Composition::Zyzzyva,
                witnesses: Vec::new(),
                retry: Duration::from_secs(3600),
                first_number: RequestNumber(1),
            })
        };
        let mut group = Self {
            now: Instant(1_000_000_000),
            replicas: quorums.replicas().map(replica).collect(),
            clients: (0..CLIENTS).map(client).collect(),
            timers: BTreeMap::new(),
            wire: VecDeque::new(),
            deaf: None,
            spent: Duration::ZERO,
            checkpoints: Vec::new(),
            period,
            transferred: None,
            seed: 1,
            disk,
            kept: Vec::new(),
        };
        let startup = startup.unwrap_or(Startup::Genesis);
        for id in quorums.replicas() {
            group.input(id, Input::Start(startup.clone()));
        }
        group
    }

    fn input(&mut self, id: ReplicaId, input: Input) {
        if self.deaf == Some(id) {
            return;
        }
        let mut outputs = Vec::new();
        let start = cpu_time();
        self.replicas[usize::from(id.0)].handle(self.now, input, &mut outputs);
        let spent = cpu_time() - start;
        self.spent += spent;
        let mut group = Vec::new();
        let (mut persisted, mut kept) = (None, None);
        for output in outputs {
            match output {
                Output::Append { id, record } => {
                    group.push(LogWrite::Append { id, record });
                    persisted = Some(Input::Persisted(id));
                }
                Output::Rewrite { records, dropped } => {
                    group.push(LogWrite::Rewrite { id: 0, records, dropped });
                }
                Output::Keep { seq, segments } => {
                    let start = std::time::Instant::now();
                    self.disk.as_mut().expect("only what has a disk writes").keep(&segments);
                    let bytes = segments.iter().map(|content| content.segment().len).sum();
                    self.kept.push((bytes, start.elapsed()));
                    kept = Some(Input::Kept(seq));
                }
                Output::Send { to, frame } => self.wire.push_back((Principal::Replica(id), to, frame)),
                Output::SetTimer { timer, after } => drop(self.timers.insert((id, timer), self.now + after)),
                Output::CancelTimer(timer) => drop(self.timers.remove(&(id, timer))),
                Output::Report(Report::Executed { seq, .. }) if seq.0.is_multiple_of(self.period) => {
                    self.checkpoints.push(spent);
                }
                Output::Report(Report::TransferFinished { bytes, .. }) => {
                    *self.transferred.get_or_insert(0) += bytes;
                }
                Output::Evidence(evidence) => panic!("nobody lies here: {evidence:?}"),
                _ => {}
            }
        }
        if let Some(disk) = &mut self.disk {
            disk.commit(&group);
        }
        for done in [persisted, kept].into_iter().flatten() {
            self.input(id, done);
        }
    }

    fn deliver(&mut self) -> bool {
        let Some((from, to, frame)) = self.wire.pop_front() else { return false };
        match (from, to) {
            (_, Principal::Replica(to)) => self.input(to, Input::Frame { from, bytes: frame.to_vec() }),
            (Principal::Replica(from), Principal::Client(to)) => {
                let mut outputs = Vec::new();
                let frame = ClientInput::Frame { from, bytes: frame.to_vec() };
                self.clients[to.0 as usize].handle(self.now, frame, &mut outputs);
            }
            (Principal::Client(_), Principal::Client(_)) => unreachable!("clients do not talk to each other"),
        }
        true
    }

    fn expire(&mut self) {
        let (at, key) = self.timers.iter().map(|(key, at)| (*at, *key)).min().expect("some timer is set");
        self.now = self.now.max(at);
        self.timers.remove(&key);
        self.input(key.0, Input::Timer(key.1));
    }

    /// Puts a value under each of the keys, by all clients.
    fn put(&mut self, keys: impl Iterator<Item = u64>) {
        let mut keys = keys.peekable();
        while keys.peek().is_some() {
            for (client, key) in (0..CLIENTS).zip(keys.by_ref().take(CLIENTS as usize)) {
                let mut value = vec![0; VALUE_BYTES];
                self.seed =
                    self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                value[..8].copy_from_slice(&self.seed.to_le_bytes());
                let operation = KvOperation::Put { key: key.to_be_bytes().to_vec(), value }.encode();
                let mut outputs = Vec::new();
                self.clients[client as usize]
                    .submit(self.now, operation, OperationKind::Ordered, &mut outputs)
                    .expect("it is idle");
                let me = Principal::Client(ClientId(client));
                for output in outputs {
                    if let ClientOutput::Send { to, frame } = output {
                        self.wire.push_back((me, Principal::Replica(to), frame));
                    }
                }
            }
            self.now = self.now + Duration::from_micros(100);
            while self.deliver() {}
            while self.clients.iter().any(|client| client.outstanding().is_some()) {
                self.expire();
                while self.deliver() {}
            }
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["checkpoint", mib] => checkpoint(mib.parse().expect("a number of MiB")),
        ["pages", mib] => pages(mib.parse().expect("a number of MiB")),
        ["disk", mib, directory] => on_disk(mib.parse().expect("a number of MiB"), Path::new(directory)),
        ["recover", directory] => recover(Path::new(directory)),
        ["transfer", mib] => transfer(mib.parse().expect("a number of MiB")),
        _ => {
            eprintln!(
                "usage: gigabyte checkpoint|pages|transfer MIB, gigabyte disk MIB DIRECTORY, gigabyte recover DIRECTORY"
            );
            std::process::exit(2);
        }
    }
}

/// Batches between two checkpoints of the group of four.
const PERIOD: u64 = 16;

/// Entries of a state of so many MiB, and how many a hundredth of its pages of 4 KiB are.
fn sizes(mib: u64) -> (u64, u64) {
    let entries = (mib << 20) / (VALUE_BYTES as u64 + 16);
    (entries, (mib << 20) / 4096 / 100)
}

/// Some of the keys, spread over all of them.
fn spread(entries: u64, count: u64, round: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |i| (i * (entries / count) + round * 7919) % entries)
}

fn checkpoint(mib: u64) {
    let (entries, changed) = sizes(mib);
    // A lone replica decides each request at once, in a batch of its own.
    let mut group = Group::new(1, OPERATIONS);
    change(&mut group, mib);
    println!("state: {entries} entries of {VALUE_BYTES} bytes, {mib} MiB");
    print_checkpoints(&group, changed);
    // What the log's end costs, and whatever else does not follow from the pages.
    write_to(&mut group, mib, 1);
    print_checkpoints(&group, 1);
}

fn print_checkpoints(group: &Group, changed: u64) {
    let made = group.checkpoints.len() as f64;
    let (spent, inputs) =
        (group.spent.as_secs_f64(), group.checkpoints.iter().sum::<Duration>().as_secs_f64());
    println!(
        "a checkpoint after {OPERATIONS} operations on {changed} entries: {:.1} ms; {:.1} us an operation, {:.1} % of all",
        1e3 * inputs / made,
        1e6 * (spent - inputs) / (made * OPERATIONS as f64),
        100.0 * inputs / spent
    );
}

/// Fills the state, and has some checkpoints made after changes to a hundredth of its pages.
fn change(group: &mut Group, mib: u64) {
    let (entries, changed) = sizes(mib);
    let empty = resident_mib();
    group.put(0..entries);
    group.put((0..OPERATIONS - entries % OPERATIONS).map(|_| 0));
    let filled = resident_mib() - empty;
    write_to(group, mib, changed);
    println!(
        "memory: {filled:.0} MiB filled, {:.0} MiB after {CHECKPOINTS} more checkpoints, {:.0} MiB at most",
        resident_mib() - empty,
        peak_mib() - empty
    );
}

/// Has some checkpoints made, each after operations on so many of the entries.
fn write_to(group: &mut Group, mib: u64, changed: u64) {
    let (entries, _) = sizes(mib);
    group.checkpoints.clear();
    group.kept.clear();
    group.spent = Duration::ZERO;
    for round in 0..CHECKPOINTS {
        let keys: Vec<u64> = spread(entries, changed, round).collect();
        group.put(keys.iter().cycle().take(OPERATIONS as usize).copied());
    }
}

/// The service without replication: what a checkpoint's pages and digests cost, and nothing else.
fn pages(mib: u64) {
    let (entries, changed) = sizes(mib);
    let (mut store, mut pages, mut kept) = (Kv::new(), Pages::default(), Pages::default());
    let context = Context {
        client: ClientId(1),
        number: RequestNumber(1),
        seq: Seq(1),
        time: Instant(1),
        seed: [0; 32],
    };
    let put = |store: &mut Kv, key: u64, round: u64| {
        let value = vec![round as u8; VALUE_BYTES];
        store.execute(&KvOperation::Put { key: key.to_be_bytes().to_vec(), value }.encode(), &context);
    };
    (0..entries).for_each(|key| put(&mut store, key, 0));
    store.save(&mut pages);
    pages.differing(&mut kept);
    let [mut saved, mut digested, mut compared, mut dropped] = [Duration::ZERO; 4];
    for round in 1..=CHECKPOINTS {
        let before = std::mem::replace(&mut kept, pages.clone());
        let keys: Vec<u64> = spread(entries, changed, round).collect();
        keys.iter().cycle().take(OPERATIONS as usize).for_each(|key| put(&mut store, *key, round));
        saved += time(|| store.save(&mut pages));
        let first = time(|| drop(pages.differing(&mut kept)));
        // The digests are there now.
        let second = time(|| drop(pages.differing(&mut kept)));
        compared += second;
        digested += first.saturating_sub(second);
        dropped += time(|| drop(before));
    }
    let ms = |time: Duration| 1e3 * time.as_secs_f64() / CHECKPOINTS as f64;
    println!(
        "{} pages, about {changed} changed: {:.1} ms to save them, {:.1} ms for digests, {:.1} ms to find them again, {:.1} ms to drop a checkpoint",
        pages.iter().count(),
        ms(saved),
        ms(digested),
        ms(compared),
        ms(dropped)
    );
}

/// The processor's time that `work` takes.
fn time(work: impl FnOnce()) -> Duration {
    let start = cpu_time();
    work();
    cpu_time() - start
}

fn on_disk(mib: u64, directory: &Path) {
    std::fs::create_dir(directory).expect("the directory is new");
    let mut group = Group::from(1, OPERATIONS, Some(Disk::open(directory)));
    change(&mut group, mib);
    let held = group.disk.as_mut().expect("it has one").segment_bytes() as f64 / (1 << 20) as f64;
    let made = group.kept.len() as f64;
    let megabytes = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    let written: u64 = group.kept.iter().map(|(bytes, _)| bytes).sum();
    let most = group.kept.iter().map(|(bytes, _)| *bytes).max().expect("a state was kept");
    let time: Duration = group.kept.iter().map(|(_, time)| *time).sum();
    println!(
        "a checkpoint on disk: {:.1} MiB written, {:.1} at most, in {:.0} ms; {held:.0} MiB are there",
        megabytes(written) / made,
        megabytes(most),
        1e3 * time.as_secs_f64() / made
    );
}

fn recover(directory: &Path) {
    let start = std::time::Instant::now();
    let (mut disk, startup) = Disk::open(directory);
    let read = start.elapsed();
    let held = disk.segment_bytes() as f64 / (1 << 20) as f64;
    let group = Group::from(1, OPERATIONS, Some((disk, startup)));
    println!(
        "started at {} from {held:.0} MiB in {:.1} s, of which {:.1} s to read them",
        group.replicas[0].status().stable,
        start.elapsed().as_secs_f64(),
        read.as_secs_f64()
    );
    println!("memory: {:.0} MiB, {:.0} MiB at most", resident_mib(), peak_mib());
}

fn transfer(mib: u64) {
    let (entries, changed) = sizes(mib);
    let mut group = Group::new(4, PERIOD);
    group.put(0..entries);
    let lagging = ReplicaId(3);
    group.deaf = Some(lagging);
    // Until what it missed is in nobody's log any more.
    let missed_from = group.replicas[0].status().executed;
    while group.replicas[0].status().stable.0 < missed_from.0 + 4 * PERIOD {
        group.put(spread(entries, changed, 0));
    }
    group.deaf = None;
    let target = group.replicas[0].status().executed;
    let start = cpu_time();
    let began = group.now;
    while group.replicas[usize::from(lagging.0)].status().executed < Seq(target.0.saturating_sub(PERIOD)) {
        group.expire();
        while group.deliver() {}
    }
    let bytes = group.transferred.expect("it has fetched a state");
    println!("state: {entries} entries of {VALUE_BYTES} bytes, {mib} MiB, at four replicas");
    println!(
        "missed: {changed} changes; fetched: {bytes} bytes, {:.2} % of the state",
        100.0 * bytes as f64 / (mib << 20) as f64
    );
    println!(
        "time: {:.0} ms of all replicas' work, {:.0} ms of timers",
        1e3 * (cpu_time() - start).as_secs_f64(),
        1e3 * group.now.since(began).as_secs_f64()
    );
    println!("memory: {:.0} MiB for four replicas", resident_mib());
}

use std::io;
use std::path::{Path, PathBuf};

use althing_components::BuiltinError;
use althing_crypto::KeyError;
use althing_crypto::site::SharesError;
use althing_protocol::ConfigError as SettingsError;
use althing_replica::EngineSettingsError;
use althing_replica::membership::MembershipError;
use althing_types::{ClientId, QuorumsError, ReplicaId};
use althing_wide::LinkPaceError;

use super::group::MAX_SESSIONS;

/// A file of a deployment that can't be used. Each names the file, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file or directory can't be written.
    #[error("{path}: cannot be written: {source}")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Longer than any such file.
    #[error("{path}: longer than {limit} bytes; this is no file of a deployment")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// Not JSON, or not of the expected form.
    #[error("{path}: {source}")]
    Form {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: serde_json::Error,
    },
    /// What it says makes no sense.
    #[error("{path}: {rule}")]
    Rule {
        /// The file.
        path: PathBuf,
        /// The rule that it breaks.
        rule: Rule,
    },
    /// The system gives no random bytes to make keys of.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

impl ConfigError {
    /// The same for every rule of one file.
    pub(super) fn rule(path: &Path) -> impl Fn(Rule) -> Self + '_ {
        |rule| Self::Rule { path: path.to_owned(), rule }
    }
}

/// A rule that a file of a deployment breaks.
#[derive(Debug, thiserror::Error)]
pub enum Rule {
    /// A name that can't name files and groups.
    #[error("the name `{0}` is not 1 to 64 letters, digits, `_` and `-`")]
    Name(String),
    /// A group id that is none.
    #[error("the group id `{0}` is not 32 hexadecimal digits")]
    GroupId(String),
    /// A client id that is none.
    #[error("the client id `{0}` is not a number from 0 to 2⁶⁴ − 1")]
    ClientId(String),
    /// Too few or too many replicas.
    #[error(transparent)]
    Quorums(#[from] QuorumsError),
    /// The protocol without replication was given replicas.
    #[error("protocol `unreplicated` runs in a group of one replica and f: 0, not of {n} and f: {f}")]
    Unreplicated {
        /// Replicas given.
        n: usize,
        /// Faults to tolerate.
        f: usize,
    },
    /// A public key that is none.
    #[error("public key of {who}: {source}")]
    PublicKey {
        /// Whose.
        who: String,
        /// What is wrong.
        source: KeyError,
    },
    /// Two members with one key: their channels could not be told apart.
    #[error("{first} and {second} have the same public key; each member needs its own")]
    SharedKey {
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// Two replicas with one address.
    #[error("{first} and {second} have the same address; each replica needs its own")]
    SharedAddress {
        /// The one.
        first: ReplicaId,
        /// The other.
        second: ReplicaId,
    },
    /// A client that is listed twice.
    #[error("client {0} is listed twice")]
    DuplicateClient(ClientId),
    /// A client without sessions, or with too many.
    #[error("client {client} has {sessions} sessions, and it must be 1 to {MAX_SESSIONS}")]
    Sessions {
        /// The client.
        client: ClientId,
        /// Its sessions.
        sessions: u16,
    },
    /// Two clients whose sessions have ids in common.
    #[error("the sessions of client {first} have ids that reach up to those of client {second}")]
    SharedSessions {
        /// The one.
        first: ClientId,
        /// The other.
        second: ClientId,
    },
    /// Settings of PBFT that make no sense.
    #[error("pbft: {0}")]
    Pbft(SettingsError),
    /// Settings of Paxos that make no sense.
    #[error("paxos: {0}")]
    Paxos(SettingsError),
    /// Settings of Zyzzyva that make no sense.
    #[error("zyzzyva: {0}")]
    Zyzzyva(SettingsError),
    /// Recoveries after which nobody would vote.
    #[error(
        "proactive_recovery_ms: a replica that recovers does not vote in Zyzzyva any more; leave it at 0"
    )]
    RecoveryOfZyzzyva,
    /// Recoveries in a group whose replicas are never taken over.
    #[error(
        "proactive_recovery_ms is against replicas that were taken over, and Paxos tolerates none; leave it at 0"
    )]
    RecoveryOfPaxos,
    /// Recoveries that would never end.
    #[error(
        "proactive_recovery_ms needs {others} others for each replica to recover from: a group of {n} is too \
         small, leave it at 0"
    )]
    NobodyToRecoverFrom {
        /// The group's size.
        n: usize,
        /// How many others there have to be.
        others: usize,
    },
    /// Recoveries that would overlap.
    #[error(
        "proactive_recovery_ms is {ms}, but must be at least {least} in a group of this size; or 0 for never"
    )]
    ProactiveRecovery {
        /// The time given.
        ms: u64,
        /// The shortest.
        least: u64,
    },
    /// Recoveries after which whoever had a replica could still speak for it.
    #[error("proactive_recovery_ms needs new keys: key_refresh_ms must not be 0")]
    RecoveryWithoutKeys,
    /// Keys that are to be replaced too often.
    #[error("key_refresh_ms is {ms}, but must be at least {least}, or 0 for never")]
    KeyRefresh {
        /// The period given.
        ms: u64,
        /// The shortest.
        least: u64,
    },
    /// A secret key that others can read.
    #[error("the secret key file {path} can be read by others (mode {mode:o}); run: chmod 600 {path}")]
    OpenSecret {
        /// The key file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A secret key that is none.
    #[error("the secret key file {path}: {source}")]
    SecretKey {
        /// The key file.
        path: PathBuf,
        /// What is wrong.
        source: KeyError,
    },
    /// A secret key that belongs to somebody else.
    #[error("the secret key file {path} is not the key of {who}, whose public key the group file holds")]
    WrongSecret {
        /// The key file.
        path: PathBuf,
        /// Whose it should be.
        who: String,
    },
    /// A server's secret for its site that is another's.
    #[error("the secret key file {path} is not what {server} of the site `{site}` was dealt")]
    WrongSiteSecret {
        /// The key file.
        path: PathBuf,
        /// Whose it should be.
        server: ReplicaId,
        /// Its site.
        site: String,
    },
    /// A site that is there twice.
    #[error("the site `{0}` is there twice")]
    DuplicateSite(String),
    /// A site that is not there.
    #[error("there is no site `{name}`; there are {}", known.join(", "))]
    UnknownSite {
        /// The site asked for.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A link that leads nowhere.
    #[error("a way of `{0}` leads to itself; servers of one site reach each other without the links")]
    LinkToItself(String),
    /// Two ways that begin at one address, or one that leads there.
    #[error("`listen` {0} is taken; each way needs an address of its own")]
    SharedListen(std::net::SocketAddr),
    /// A delay that is too long.
    #[error("delay_ms is {ms}, but must be at most {most}")]
    LinkDelay {
        /// The delay given.
        ms: u64,
        /// The longest.
        most: u64,
    },
    /// A rate that is too low.
    #[error("uplink_bps is {bps}, but must be at least {least}; leave it out for any rate")]
    UplinkRate {
        /// The rate given.
        bps: u64,
        /// The lowest.
        least: u64,
    },
    /// Keys of a site that don't belong together.
    #[error(transparent)]
    SiteShares(#[from] SharesError),
    /// A threshold key of nobody knows how many.
    #[error("a site with a threshold key needs `f`: f + 1 of its servers sign together")]
    SiteWithoutF,
    /// Sites, or servers of a site, with nothing between them.
    #[error(
        "sites run `pbft` or `paxos`, among themselves and among their servers; not `unreplicated`, and not yet `zyzzyva`"
    )]
    SystemProtocol,
    /// Sites that replicate something that only a group of its own can run.
    #[error(
        "the sites of a system replicate `kv`, `null` or a service of your own, no component and no system"
    )]
    SystemService,
    /// Something among sites that a site can't do as one machine.
    #[error("pbft: {0} must be 0 among sites")]
    SystemSetting(&'static str),
    /// Sites that would not execute.
    #[error("pbft: `witnesses` must be empty among sites: each of them executes")]
    SystemWitnesses,
    /// A key that two sites have.
    #[error("the site `{0}` has the same public key as another one; each deals its own")]
    SharedSiteKey(String),
    /// A key that does not fit what the site's servers may do.
    #[error(
        "the site `{site}` needs a {} key: its servers {}",
        if *may_lie { "threshold" } else { "plain" },
        if *may_lie { "may lie, and f + 1 sign together" } else { "do not lie, and each signs" }
    )]
    SiteKeyKind {
        /// The site.
        site: String,
        /// Whether its servers may lie.
        may_lie: bool,
    },
    /// A client with an id that sites use themselves.
    #[error("client {0}: ids from 2⁶³ on are names for sites; give the client a lower one")]
    ReservedClient(ClientId),
    /// A client that can't ask the site.
    #[error("client {client} does not live in the site `{site}`, as the system file has it")]
    NotAResident {
        /// The client.
        client: ClientId,
        /// The site that it is to ask.
        site: String,
    },
    /// Something that would be dropped each time, since it does not fit into what has to carry it.
    #[error("{what} can have {bytes} bytes with all that goes with it, and what carries it takes {most}")]
    TooLongForSite {
        /// What.
        what: &'static str,
        /// How long it can be.
        bytes: usize,
        /// How long it may be.
        most: usize,
    },
    /// Links that could be held to nothing.
    #[error(transparent)]
    LinkPace(#[from] LinkPaceError),
    /// A group that is another than the system takes the site to be.
    #[error("the group of the site `{0}` has another size, f or protocol than the system file says")]
    OtherSite(String),
    /// Keys of a site that the others do not know it by.
    #[error("the site `{0}` has another public key in the system file; it has been dealt again")]
    OtherSiteKey(String),
    /// Servers of a site that could change: other sites know them by number, and the site's key is shared among them.
    #[error("the servers of a site do not change: its group file has `admins`, so it needs `is_site` too")]
    SiteAdmins,
    /// Servers of a site that recover in turn, while what they hold of the site's key stays the same.
    #[error(
        "the servers of a site keep their part of its key: leave proactive_recovery_ms of its group at 0"
    )]
    SiteRecovery,
    /// A site that could say what it then takes back.
    #[error(
        "pbft: tentative_requests must be 0 in the group of a site: what it has said can't be taken back"
    )]
    SiteTentative,
    /// A witness that would recover in turn.
    #[error(
        "pbft: `witnesses` must be empty where replicas recover in turn: a witness that does starts as one that lost its \
         disk. Leave proactive_recovery_ms at 0 to have witnesses"
    )]
    RecoveryOfWitnesses,
    /// A site that could not say everywhere what it has executed.
    #[error("pbft: `witnesses` must be empty in the group of a site: each of its servers speaks for it")]
    SiteWitnesses,
    /// A component that some replicas would not run.
    #[error(
        "pbft: `witnesses` must be empty in the group of a component: its replicas carry events themselves"
    )]
    ComponentWitnesses,
    /// Not one client of the group for each server.
    #[error("`lanes` lists other servers than 0 to {}, each with a client of its own", n.saturating_sub(1))]
    WrongLanes {
        /// How many servers there are.
        n: usize,
    },
    /// A server's client that can't speak for each site.
    #[error("client {client} needs {needed} sessions to be the lanes of a server, and has {sessions}")]
    LaneSessions {
        /// The client.
        client: ClientId,
        /// The sessions that it has.
        sessions: u16,
        /// One for the site itself, and one for each site.
        needed: u16,
    },
    /// A peer that is no other server of the system, or is there twice.
    #[error("`peers`: {server} of the site `{site}` is listed twice, or is no other server of the system")]
    WrongPeer {
        /// The site.
        site: String,
        /// The server.
        server: ReplicaId,
    },
    /// A server of the system that is no peer.
    #[error("`peers` lacks {server} of the site `{site}`")]
    MissingPeer {
        /// The site.
        site: String,
        /// The server.
        server: ReplicaId,
    },
    /// The group has no such replica.
    #[error("the group `{group}` has no replica {replica}; it has {n}")]
    NoSuchReplica {
        /// The group.
        group: String,
        /// The replica asked for.
        replica: u16,
        /// Replicas it has.
        n: usize,
    },
    /// The group has no such client.
    #[error("the group `{group}` does not know client {client}")]
    NoSuchClient {
        /// The group.
        group: String,
        /// The client asked for.
        client: ClientId,
    },
    /// A process component without a program.
    #[error("a process component needs the program to run in `argv`")]
    NoProgram,
    /// A duration that is zero.
    #[error("{0} must not be zero")]
    Zero(&'static str),
    /// A builtin that does not exist.
    #[error("there is no builtin component `{0}`")]
    NoSuchBuiltin(String),
    /// A builtin with settings that it does not take.
    #[error(transparent)]
    Builtin(#[from] BuiltinError),
    /// A wire at a port that the component does not have.
    #[error("wire {wire} is at the port `{port}`, which the component does not have")]
    NoSuchPort {
        /// The wire.
        wire: u32,
        /// The port.
        port: String,
    },
    /// The group can't change its members so.
    #[error("the group: {0}")]
    Membership(#[from] MembershipError),
    /// The group can't take requests so.
    #[error("the group: {0}")]
    Engine(#[from] EngineSettingsError),
    /// An epoch after the first, of a group whose replicas nobody can have changed.
    #[error("epoch {0}, but the group has no administrators who could have changed it; take `epoch` out")]
    EpochWithoutAdmins(u64),
    /// Administrators of a single replica: one that has lost its disk could not tell that the group has grown.
    #[error(
        "a group of one replica can't have administrators; take `admins` out, or make it of two at least"
    )]
    AdminsOfOne,
    /// Administrators of a group whose replicas are known to others by number.
    #[error("the replicas of a component can't be changed; take `admins` out of the group file")]
    ComponentAdmins,
    /// Nobody leads first.
    #[error("{replica} is to lead the first view (first_primary), but there are {n} replicas, from 0 on")]
    FirstPrimary {
        /// Who is to.
        replica: ReplicaId,
        /// Replicas.
        n: usize,
    },
    /// Settings that no group file can hold.
    #[error(
        "the settings of epoch {epoch} hold a time that is no whole number of milliseconds, which a group file \
         can't say; order settings that have whole ones"
    )]
    FractionsOfMs {
        /// Whose.
        epoch: u64,
    },
    /// A membership names an address at which nobody can listen.
    #[error("{replica} has the address `{address}`, which is no IP address and port")]
    MemberAddress {
        /// Which replica.
        replica: ReplicaId,
        /// The text.
        address: String,
    },
    /// A replica's key that has no place in its group.
    #[error(
        "the key in {} has no place in the group, in no epoch that this file or one beside it tells of; \
         a replica that has left the group can be removed, one that is to join needs a newer group file",
        path.display()
    )]
    NoPlace {
        /// The file with the secret key.
        path: PathBuf,
    },
    /// A wire listed twice on one side.
    #[error("wire {0} is listed twice")]
    DuplicateWire(u32),
    /// A group of producers or couriers that is not one client a replica.
    #[error("wire {wire} lists other replicas than 0 to {}, each once", n.saturating_sub(1))]
    WrongMembers {
        /// The wire.
        wire: u32,
        /// Replicas that there should be.
        n: u16,
    },
    /// A courier for a wire that does not leave this component for a group.
    #[error("a courier is to carry wire {0}, which does not lead from this component to another")]
    WrongCourier(u32),
    /// The service is no component, and yet there are couriers.
    #[error("only the replicas of a component have couriers")]
    UnwantedCourier,
    /// A topic that can't be published to, or a filter that is none.
    #[error("wire {wire}: `{topic}` is no MQTT {kind}")]
    Topic {
        /// The wire.
        wire: u32,
        /// The text.
        topic: String,
        /// `topic` or `topic filter`.
        kind: &'static str,
    },
}

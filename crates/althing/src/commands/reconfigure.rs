use super::named_settings::{self, Changed};
use super::place::Place;
use crate::output;
use crate::running::block_on;
use althing_crypto::PublicIdentity;
use althing_node::config::{
    ClientFile, GroupConfig, ProtocolKind, RawEngine, RawSettings, RawZyzzyva, write_successor,
};
use althing_node::deployment::Deployment;
use althing_node::{GroupClient, InvokeError};
use althing_protocol::Settings;
use althing_replica::membership::{
    Change, Member, Membership, Reconfigure as Command, ReconfigureOutcome, Reconfigured, Refusal,
};
use althing_types::{Epoch, FaultModel, ReplicaId};
use clap::Args;
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use serde::Serialize;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

/// Change a running group: add, remove, replace, rekey or move replicas, and change its protocol and settings
///
/// Numbers are those of the group file. At most f replicas may leave and f join at a time, so to go from
/// four to seven takes three commands. A replica that joins is started once the command is done.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    althing keygen --replica kv-4                    the files of a new replica; prints its public key\n  \
    althing reconfigure --add 127.0.0.1:7104=KEY\n  \
    althing replica --genesis --config .althing/kv/processes/kv-4/config.json\n  \
    althing reconfigure --remove 0\n  \
    althing reconfigure --remove 0 --f 1             where fewer are left than tolerate as many faults\n  \
    althing reconfigure --replace 2=127.0.0.1:7105=KEY\n  \
    althing reconfigure --rekey 1=KEY                the machine is started again with the new key\n  \
    althing reconfigure --move 1=127.0.0.1:7106      the same replica, which is stopped and started again there\n  \
    althing reconfigure --set pipeline=8 --set view_timeout_ms=500\n  \
    althing reconfigure --set request_auth=signatures --set max_outstanding=1024\n  \
    althing reconfigure --set witnesses=[3]          replica 3 agrees and executes nothing; [] for all to execute\n  \
    althing reconfigure --protocol paxos             from now on its replicas crash, and do not lie\n  \
    althing reconfigure --protocol pbft --set pipeline=8\n  \
    althing reconfigure --first-primary 2            replica 2 leads, until it fails or leaves\n  \
    althing reconfigure --site oslo --set pipeline=8 the group of one site of a system\n\n\
    Exit codes: 0 done; 1 refused by the group, nothing has changed; 2 it can't be done.")]
pub(crate) struct Reconfigure {
    #[command(flatten)]
    place: Place,
    /// The client file of an administrator, where that is not the deployment's own
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    admin: Option<PathBuf>,
    /// The group file to write the successor of; needed with --admin alone
    #[arg(long, value_name = "FILE", requires = "admin", conflicts_with = "dir")]
    group: Option<PathBuf>,
    /// The site whose group is to change, in a system of sites; its servers stay who they are
    #[arg(long, value_name = "SITE", conflicts_with = "admin")]
    site: Option<String>,
    /// Another replica, which will listen at ADDRESS and has the public key KEY
    #[arg(long, value_name = "ADDRESS=KEY")]
    add: Vec<Newcomer>,
    /// A replica leaves; those after it move up by one
    #[arg(long, value_name = "NUMBER")]
    remove: Vec<u16>,
    /// Another replica takes the place of this one
    #[arg(long, value_name = "NUMBER=ADDRESS=KEY")]
    replace: Vec<Numbered<Newcomer>>,
    /// A replica stays where it is and has another key, as a new process there
    #[arg(long, value_name = "NUMBER=KEY")]
    rekey: Vec<Numbered<Key>>,
    /// A replica goes to another address, with its key and its directory
    #[arg(long = "move", value_name = "NUMBER=ADDRESS")]
    moves: Vec<Numbered<Address>>,
    /// Run another protocol: `pbft` where replicas may do anything, `paxos` where they crash and do not lie. It goes by
    /// the settings that the group file has for it
    #[arg(long, value_parser = super::protocol, value_name = "NAME")]
    protocol: Option<ProtocolKind>,
    /// Change a setting by its name in the group file's `pbft`, `paxos` or `zyzzyva`, or `max_outstanding`,
    /// `outstanding_expiry_ms` or `request_auth`, at all replicas
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// The replica that leads the first view of the next epoch, and of those after it while it stays
    #[arg(long, value_name = "NUMBER")]
    first_primary: Option<u16>,
    /// Replicas that may be faulty afterwards; if not given, as many as possible where the protocol changes, or
    /// replicas do, there never fewer than now, and else as many as now
    #[arg(long, value_name = "F")]
    f: Option<u16>,
    /// How long to wait for the answer, in seconds
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    within: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone)]
struct Key(PublicIdentity);

/// Where a replica can listen.
#[derive(Debug, Clone)]
struct Address(SocketAddr);

#[derive(Debug, Clone)]
struct Newcomer(Member);

/// Something about the replica with a number.
#[derive(Debug, Clone)]
struct Numbered<T>(ReplicaId, T);

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error| format!("`{text}` is no public key: {error}"))
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("`{text}` is no IP address and port"))
    }
}

impl FromStr for Newcomer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, key) = text.split_once('=').ok_or("it takes ADDRESS=KEY")?;
        let address = address.parse::<Address>()?.0.to_string();
        Ok(Self(Member { key: key.parse::<Key>()?.0, address }))
    }
}

impl<T: FromStr<Err = String>> FromStr for Numbered<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, rest) = text.split_once('=').ok_or("it takes a replica's number, `=`, and more")?;
        let number = number.parse().map_err(|_| format!("`{number}` is no number of a replica"))?;
        Ok(Self(ReplicaId(number), rest.parse()?))
    }
}

/// What came of it, as a program reads it.
#[derive(Serialize)]
struct Report {
    outcome: &'static str,
    refusal: Option<String>,
    epoch: u64,
    f: u16,
    /// What it runs.
    protocol: ProtocolKind,
    members: Vec<MemberReport>,
    first_primary: u16,
    /// By which settings the group goes from now on, that it did not before; empty where it refused.
    settings: Vec<Changed>,
    group_file: PathBuf,
}

#[derive(Serialize)]
struct MemberReport {
    replica: u16,
    address: String,
    public_key: String,
    is_new: bool,
}

impl Reconfigure {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let within = Duration::try_from_secs_f64(self.within)
            .into_diagnostic()
            .wrap_err("--within is no number of seconds that one can wait")?;
        let (admin, group_file) = self.files()?;
        let file = ClientFile::load(&admin).into_diagnostic()?;
        let present = file.group().membership().ok_or_else(|| {
            miette!(
                help = "a group gets administrators when it is made: `althing serve kv` makes one with them",
                "the replicas of the group `{}` are fixed: its file names no administrators",
                file.group().name()
            )
        })?;
        let command = self.command(file.group(), &present)?;
        warn(&command, &present);
        let command = command.sign(file.group().id(), file.identity());
        let (outcome, known) = block_on(async {
            let client = GroupClient::connect(&file).await.into_diagnostic()?;
            let outcome = client.reconfigure_within(&command, within).await;
            let outcome = outcome.map_err(unanswered)?;
            let known = client.membership().borrow().clone().unwrap_or_else(|| present.clone());
            Ok::<_, miette::Report>((outcome, known))
        })?;
        self.show(&group_file, &present, &known, outcome)
    }

    /// The administrator's client file, and the group file whose successor is to be written.
    fn files(&self) -> Result<(PathBuf, PathBuf)> {
        if let Some(admin) = &self.admin {
            let group = self.group.clone().ok_or_else(|| {
                miette!(
                    help = "add --group FILE",
                    "--admin needs the group file whose successor is to be written"
                )
            })?;
            return Ok((admin.clone(), group));
        }
        let deployment = self.place.deployment()?;
        if let Some(site) = &self.site {
            let admin = deployment.client_file(&Deployment::site_admin(site));
            if !admin.exists() {
                return Err(miette!(
                    help = "`althing status` shows what there is",
                    "{} has no site `{site}` whose group can be changed",
                    deployment.directory().display()
                ));
            }
            return Ok((admin, deployment.group_file(site)));
        }
        let admin = deployment.admin_file();
        match deployment.groups() {
            [group] if admin.exists() => Ok((admin, deployment.group_file(group))),
            _ => Err(miette!(
                help = "`althing serve kv` makes groups whose replicas can be changed; in a system of sites add --site NAME",
                "the replicas of {} are fixed: it has no administrator",
                deployment.directory().display()
            )),
        }
    }

    fn command(&self, group: &GroupConfig, present: &Membership) -> Result<Command> {
        let adds = self.add.iter().map(|Newcomer(member)| Change::Add(member.clone()));
        let removes = self.remove.iter().map(|number| Change::Remove(ReplicaId(*number)));
        let replaces = self.replace.iter().map(|Numbered(id, Newcomer(m))| Change::Replace(*id, m.clone()));
        let rekeys = self.rekey.iter().map(|Numbered(id, Key(key))| Change::Rekey(*id, *key));
        let moves = self.moves.iter().map(|Numbered(id, Address(address))| {
            let known =
                present.member(*id).ok_or_else(|| miette!("there is no replica {id} that could move"))?;
            Ok(Change::Replace(*id, Member { key: known.key, address: address.to_string() }))
        });
        let moves: Vec<_> = moves.collect::<Result<_>>()?;
        let n = (present.members.len() + self.add.len()).saturating_sub(self.remove.len());
        let (engine, sets) = named_settings::split(&RawEngine::default(), &self.set)?;
        let settings = self.settings(group, present, &sets)?;
        let engine = (!engine.is_empty())
            .then(|| named_settings::with(&RawEngine::from(&present.engine), "--set", &engine))
            .transpose()?
            .map(|raw| Change::Engine(raw.settings()));
        let (before, after) = (&present.settings, settings.as_ref().unwrap_or(&present.settings));
        let most = u16::try_from(ProtocolKind::from(after).most_faults(n)).unwrap_or(u16::MAX);
        let has_protocol = before.protocol() != after.protocol();
        let first = self.first_primary.map(|number| Change::FirstPrimary(ReplicaId(number)));
        let settings = settings.map(Change::Settings);
        let changes = adds
            .chain(removes)
            .chain(replaces)
            .chain(rekeys)
            .chain(moves)
            .chain(settings)
            .chain(engine)
            .chain(first)
            .collect();
        // Who asks for other settings alone says nothing of faults.
        let has_members = !(self.add.is_empty()
            && self.remove.is_empty()
            && self.replace.is_empty()
            && self.rekey.is_empty()
            && self.moves.is_empty());
        let f = match (has_protocol, has_members) {
            (true, _) => most,
            (false, true) => most.max(present.f),
            (false, false) => present.f,
        };
        Ok(Command { epoch: present.epoch, f: self.f.unwrap_or(f), changes })
    }

    /// The present settings, or those that the file has for the protocol that is asked for, with those changed that
    /// are to be.
    fn settings(
        &self,
        group: &GroupConfig,
        present: &Membership,
        sets: &[String],
    ) -> Result<Option<Settings>> {
        let running = ProtocolKind::from(&present.settings);
        let asked = self.protocol.unwrap_or(running);
        if asked == running && sets.is_empty() {
            return Ok(None);
        }
        if asked.composition().is_some() && group.proactive_recovery().is_some() {
            return Err(miette!(
                help = "leave `proactive_recovery_ms` at 0 in groups that are to run it",
                "the replicas of this group recover in turn, and one that recovers does not vote in {} any more",
                asked.name()
            ));
        }
        let base = if asked == running { Some(present.settings.clone()) } else { group.settings_of(asked) };
        let base = base.ok_or_else(|| miette!("a group that can change does not run `{}`", asked.name()))?;
        let with = |raw: &RawZyzzyva| named_settings::with(raw, "--set", sets);
        let raw = match RawSettings::from(&base) {
            RawSettings::Pbft(raw) => RawSettings::Pbft(named_settings::with(&raw, "--set", sets)?),
            RawSettings::Paxos(raw) => RawSettings::Paxos(named_settings::with(&raw, "--set", sets)?),
            RawSettings::Zyzzyva(raw) => RawSettings::Zyzzyva(with(&raw)?),
            RawSettings::Quorum(raw) => RawSettings::Quorum(with(&raw)?),
            RawSettings::Chain(raw) => RawSettings::Chain(with(&raw)?),
            RawSettings::Aliph(raw) => RawSettings::Aliph(with(&raw)?),
        };
        let settings = raw.settings();
        if !settings.witnesses().is_empty() && group.proactive_recovery().is_some() {
            return Err(miette!(
                help = "leave `proactive_recovery_ms` at 0 in groups that are to have witnesses",
                "the replicas of this group recover in turn, and a witness that does starts as one that lost its disk"
            ));
        }
        Ok(Some(settings))
    }

    fn show(
        &self,
        group_file: &Path,
        present: &Membership,
        known: &Membership,
        outcome: ReconfigureOutcome,
    ) -> Result<ExitCode> {
        let (before, next, refusal) = match outcome {
            Ok(Reconfigured { before, next }) => (before, next, None),
            // The file was out of date: the next try is to start from what the group is now.
            Err(refusal) => (known.clone(), known.clone(), Some(refusal)),
        };
        let mut changed = named_settings::differences(
            &RawSettings::from(&before.settings),
            &RawSettings::from(&next.settings),
        )?;
        let engines = (RawEngine::from(&before.engine), RawEngine::from(&next.engine));
        changed.extend(named_settings::differences(&engines.0, &engines.1)?);
        let file = match next.epoch {
            Epoch(0) => group_file.to_owned(),
            _ => write_successor(group_file, &next).into_diagnostic()?,
        };
        if self.json {
            output::print_json(&report(&next, present, changed, refusal.as_ref(), file))?;
        } else {
            print(&next, present, &changed, refusal.as_ref(), &file);
        }
        Ok(if refusal.is_none() { ExitCode::SUCCESS } else { ExitCode::from(output::FAILED) })
    }
}

fn unanswered(error: InvokeError) -> miette::Report {
    let help = "whether the group changes is unknown: give the same command again, and it is either carried \
                out or refused because it was before";
    miette!(help = help, "{error}")
}

/// Says what is lost in trust, before it is.
fn warn(command: &Command, present: &Membership) {
    let asked = command.changes.iter().find_map(|change| match change {
        Change::Settings(settings) => Some(settings),
        _ => None,
    });
    let stands_lies = |settings: &Settings| settings.fault_model() == FaultModel::Byzantine;
    if stands_lies(&present.settings) && asked.is_some_and(|settings| !stands_lies(settings)) {
        eprintln!(
            "from epoch {} on the replicas are taken at their word: one that lies, or somebody who has its keys, can \
             make the group forget or change what it was told. What was true at the end of that epoch stays so \
             afterwards, also once the group runs PBFT again",
            present.epoch.next()
        );
    }
}

fn report(
    next: &Membership,
    present: &Membership,
    settings: Vec<Changed>,
    refusal: Option<&Refusal>,
    file: PathBuf,
) -> Report {
    let member = |(replica, member): (u16, &Member)| MemberReport {
        replica,
        address: member.address.clone(),
        public_key: member.key.to_string(),
        is_new: present.place_of(&member.key).is_none(),
    };
    Report {
        outcome: if refusal.is_none() { "changed" } else { "refused" },
        refusal: refusal.map(ToString::to_string),
        epoch: next.epoch.0,
        f: next.f,
        protocol: (&next.settings).into(),
        members: (0..).zip(&next.members).map(member).collect(),
        first_primary: next.first_primary.0,
        settings,
        group_file: file,
    }
}

fn print(
    next: &Membership,
    present: &Membership,
    settings: &[Changed],
    refusal: Option<&Refusal>,
    file: &Path,
) {
    match refusal {
        Some(refusal) => eprintln!("refused, and nothing has changed: {refusal}"),
        None => println!("epoch {} follows, and begins within a checkpoint period:", next.epoch),
    }
    if refusal.is_some() && next.epoch == present.epoch {
        return;
    }
    let faults = match next.settings.fault_model() {
        FaultModel::Byzantine => "faulty",
        FaultModel::Crash => "crashed",
    };
    println!("  tolerates {} {faults} of {}", next.f, next.members.len());
    for (place, member) in next.members.iter().enumerate() {
        let remark = match present.place_of(&member.key) {
            None => "  new: start it now",
            Some(before) if usize::from(before.0) != place => "  moved up",
            Some(_) => "",
        };
        println!("  {place}  {}{remark}", member.address);
    }
    let has_left = |member: &&Member| next.place_of(&member.key).is_none();
    for member in present.members.iter().filter(has_left) {
        println!(
            "  -  {}  leaves: stop it once `althing status` shows the others in epoch {}",
            member.address, next.epoch.0
        );
    }
    if next.first_primary != present.first_primary {
        println!("  {} leads first", next.first_primary);
    }
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for Changed { name, before, after } in settings {
        let (was, is) = (shown(before), shown(after));
        match (before.is_null(), after.is_null()) {
            (true, _) => println!("  {name}: {is}"),
            (_, true) => {}
            _ => println!("  {name}: {is}, before {was}"),
        }
    }
    println!("  {} says so to all that are started from now on", file.display());
}

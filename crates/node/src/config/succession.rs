//! What becomes of a group file when the group changes: a successor beside it, `NAME.epoch-3.json` beside
//! `NAME.json`. The file itself stays what it was, since a replica that is not through with an earlier epoch
//! may have to start from there.

use std::fs;
use std::path::{Path, PathBuf};

use althing_crypto::PublicIdentity;
use althing_replica::membership::{Member, Membership};
use althing_types::ReplicaId;

use super::engine::RawEngine;
use super::error::{ConfigError, Rule};
use super::files::{read_json, write_json};
use super::group::{GroupConfig, RawGroup, RawReplicaEntry};
use super::protocols::RawSettings;

impl GroupConfig {
    /// Reads and checks the latest successor of the group file at `path`, or that file if it has none.
    ///
    /// # Errors
    /// When it can't be read or breaks a rule.
    pub fn load_latest(path: &Path) -> Result<Self, ConfigError> {
        Self::load(&latest(path)?)
    }

    /// As [`Self::load_latest`], of those in which a replica has this key: the group of that replica, and
    /// which one it is.
    pub(super) fn load_with(
        path: &Path,
        key: &PublicIdentity,
    ) -> Result<Option<(Self, ReplicaId)>, ConfigError> {
        for file in successors(path)?.into_iter().map(|(_, file)| file).chain([path.to_owned()]) {
            let group = Self::load(&file)?;
            if let Some(replica) = group.replica_with(key) {
                return Ok(Some((group, replica)));
            }
        }
        Ok(None)
    }
}

impl RawGroup {
    /// The same group with other members and settings.
    ///
    /// # Errors
    /// When a member has an address at which nobody can listen, or the file can't hold the settings.
    pub fn succeeded_by(self, membership: &Membership) -> Result<Self, Rule> {
        let entry = |(id, member): (u16, &Member)| {
            let wrong = |_| Rule::MemberAddress { replica: ReplicaId(id), address: member.address.clone() };
            Ok::<_, Rule>(RawReplicaEntry {
                address: member.address.parse().map_err(wrong)?,
                public_key: member.key.to_string(),
            })
        };
        let settings = RawSettings::from(&membership.settings);
        let engine = RawEngine::from(&membership.engine);
        if settings.settings() != membership.settings || engine.settings() != membership.engine {
            return Err(Rule::FractionsOfMs { epoch: membership.epoch.0 });
        }
        // What is not run keeps what it was run with last, for the case that it is again.
        let (pbft, paxos, zyzzyva) = match settings {
            RawSettings::Pbft(pbft) => (pbft, self.paxos, self.zyzzyva),
            RawSettings::Paxos(paxos) => (self.pbft, paxos, self.zyzzyva),
            RawSettings::Zyzzyva(zyzzyva)
            | RawSettings::Quorum(zyzzyva)
            | RawSettings::Chain(zyzzyva)
            | RawSettings::Aliph(zyzzyva) => (self.pbft, self.paxos, zyzzyva),
        };
        Ok(Self {
            epoch: membership.epoch.0,
            first_primary: membership.first_primary.0,
            protocol: (&membership.settings).into(),
            pbft,
            paxos,
            zyzzyva,
            max_outstanding: engine.max_outstanding,
            outstanding_expiry_ms: engine.outstanding_expiry_ms,
            request_auth: engine.request_auth,
            f: membership.f.into(),
            replicas: (0..).zip(&membership.members).map(entry).collect::<Result<_, _>>()?,
            admins: membership.admins.iter().map(ToString::to_string).collect(),
            ..self
        })
    }
}

/// Writes the successor of the group file at `path` for a later membership, and says where. One that is
/// there stays as it is: the members of an epoch never change.
///
/// # Errors
/// When a file can't be read or written, or the membership can't be one of processes.
pub fn write_successor(path: &Path, membership: &Membership) -> Result<PathBuf, ConfigError> {
    let file = successor(path, membership.epoch.0);
    if !file.exists() {
        // What is not run in this epoch stays as it was run with last.
        let before = successors(path)?.into_iter().find(|(epoch, _)| *epoch < membership.epoch.0);
        let raw: RawGroup = read_json(before.as_ref().map_or(path, |(_, file)| file))?;
        let raw = raw.succeeded_by(membership).map_err(ConfigError::rule(path))?;
        GroupConfig::try_from(raw.clone()).map_err(ConfigError::rule(path))?;
        write_json(&file, &raw)?;
    }
    Ok(file)
}

fn successor(path: &Path, epoch: u64) -> PathBuf {
    path.with_extension(format!("epoch-{epoch}.json"))
}

fn latest(path: &Path) -> Result<PathBuf, ConfigError> {
    Ok(successors(path)?.into_iter().next().map_or_else(|| path.to_owned(), |(_, file)| file))
}

/// The successors of the group file at `path` with their epochs, the latest first.
fn successors(path: &Path) -> Result<Vec<(u64, PathBuf)>, ConfigError> {
    let read = |source| ConfigError::Read { path: path.to_owned(), source };
    let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else { return Ok(Vec::new()) };
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory.unwrap_or(Path::new("."))).map_err(read)? {
        let name = entry.map_err(read)?.file_name();
        let epoch = name.to_str().and_then(|name| {
            let epoch = name.strip_prefix(stem)?.strip_prefix(".epoch-")?.strip_suffix(".json")?;
            epoch.parse::<u64>().ok()
        });
        found.extend(epoch);
    }
    found.sort_unstable();
    Ok(found.into_iter().rev().map(|epoch| (epoch, successor(path, epoch))).collect())
}

//! The files of a replica that is to join a group that runs already.

use std::path::PathBuf;

use althing_crypto::PublicIdentity;

use super::{DeployedProcess, Deployment, ProcessKind};
use crate::config::{
    ConfigError, RawReplica, create_directory, generate_identity, read_json, write_json, write_secret,
};

/// A replica that is ready to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newcomer {
    /// Its public key, for the command by which it joins.
    pub key: PublicIdentity,
    /// Its configuration, to be run with once it has joined.
    pub config: PathBuf,
}

/// Why no replica was made.
#[derive(Debug, thiserror::Error)]
pub enum NewcomerError {
    /// A file can't be read or written.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is such a process already.
    #[error("there is a process `{0}` already; take another name")]
    Exists(String),
    /// Nobody whom it could be like.
    #[error(
        "the deployment has no replica of a plain service to be like: components do not change their replicas"
    )]
    NoModel,
}

/// Makes the files of another replica of the group in a deployment: its key, and a configuration like that
/// of the first replica. It is not of the group before a command of an administrator says so.
///
/// # Errors
/// See [`NewcomerError`]; some files may have been written.
pub fn provision_replica(deployment: &mut Deployment, name: &str) -> Result<Newcomer, NewcomerError> {
    if deployment.process(name).is_some() {
        return Err(NewcomerError::Exists(name.to_owned()));
    }
    let is_replica = |process: &&DeployedProcess| matches!(process.runs, ProcessKind::Replica { .. });
    let model = deployment.processes().iter().find(is_replica).ok_or(NewcomerError::NoModel)?;
    let ProcessKind::Replica { group, .. } = model.runs.clone() else { return Err(NewcomerError::NoModel) };
    let raw: RawReplica = read_json(&deployment.config_file(&model.name))?;
    if raw.courier.is_some() || !deployment.admin_file().exists() {
        return Err(NewcomerError::NoModel);
    }
    let identity = generate_identity()?;
    let directory = deployment.process_directory(name);
    create_directory(&directory)?;
    write_secret(&directory.join("replica.key"), &identity)?;
    // Its number follows from its key, once the group file has that.
    let replica = u16::try_from(deployment.processes().len()).unwrap_or(u16::MAX);
    let raw = RawReplica { name: name.to_owned(), replica, ..raw };
    let config = deployment.config_file(name);
    write_json(&config, &raw)?;
    deployment
        .content
        .processes
        .push(DeployedProcess { name: name.to_owned(), runs: ProcessKind::Replica { group, replica } });
    Deployment::save(&deployment.directory, deployment.content.clone())?;
    Ok(Newcomer { key: identity.public(), config })
}

use super::place::Place;
use crate::output;
use althing_crypto::Identity;
use althing_node::deployment::provision_replica;
use clap::Args;
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Make a key pair: a secret key file, and the public key that others get
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  althing keygen --out thermostat-0.key\n  \
    althing keygen --replica kv-4      with all else that a new replica of a deployment needs\n\n\
    The secret key stays on its machine, readable by its owner alone. The public key, on standard\n\
    output, goes into the configuration of all who talk to it.")]
pub(crate) struct Keygen {
    /// Where to write the secret key; an existing file is left alone
    #[arg(long, value_name = "FILE", required_unless_present = "replica", conflicts_with = "replica")]
    out: Option<PathBuf>,
    /// Make a replica of this name, ready to join the group of a deployment (see `reconfigure`)
    #[arg(long, value_name = "NAME")]
    replica: Option<String>,
    #[command(flatten)]
    place: Place,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Made {
    secret_key_file: PathBuf,
    public_key: String,
}

#[derive(Serialize)]
struct MadeReplica {
    config: PathBuf,
    public_key: String,
}

impl Keygen {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match (&self.replica, &self.out) {
            (Some(name), _) => self.make_replica(name),
            (None, Some(out)) => self.make_key(out),
            (None, None) => Err(miette!(help = "--out FILE or --replica NAME", "nothing to make a key for")),
        }
    }

    fn make_replica(&self, name: &str) -> Result<ExitCode> {
        let mut deployment = self.place.deployment()?;
        let newcomer = provision_replica(&mut deployment, name).into_diagnostic()?;
        let public_key = newcomer.key.to_string();
        if self.json {
            output::print_json(&MadeReplica { config: newcomer.config, public_key })?;
        } else {
            println!("{public_key}");
        }
        Ok(ExitCode::SUCCESS)
    }

    fn make_key(&self, out: &Path) -> Result<ExitCode> {
        let mut secret = [0; 64];
        getrandom::fill(&mut secret).map_err(|error| miette!("the system gives no randomness: {error}"))?;
        let identity = Identity::from_secret_bytes(&secret);
        // 0600 from the start: the key is never readable by others, not even for a moment.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(out)
            .into_diagnostic()
            .wrap_err_with(|| {
                format!("cannot create {} (an existing key is never overwritten)", out.display())
            })?;
        writeln!(file, "{}", identity.to_secret_text().as_str())
            .and_then(|()| file.sync_all())
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot write {}", out.display()))?;
        let public_key = identity.public().to_string();
        if self.json {
            output::print_json(&Made { secret_key_file: out.to_owned(), public_key })?;
        } else {
            println!("{public_key}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

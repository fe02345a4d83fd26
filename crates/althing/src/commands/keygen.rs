use super::place::Place;
use crate::output;
use althing_crypto::Identity;
use althing_node::config::deal_site;
use althing_node::deployment::provision_replica;
use clap::{Args, ValueEnum};
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
    althing keygen --replica kv-4      with all else that a new replica of a deployment needs\n  \
    althing keygen --site athens --servers 4 --out keys      what its servers sign with as one\n\n\
    The secret key stays on its machine, readable by its owner alone. The public key, on standard\n\
    output, goes into the configuration of all who talk to it.\n\n\
    With --site, a directory gets a secret file for each server and one for all to know. Whoever deals the keys \n\
    could keep them: do it where the site is set up, bring each secret to its server, and delete it here.")]
pub(crate) struct Keygen {
    /// Where to write the secret key, or a site's keys; an existing file is left alone
    #[arg(long, value_name = "PATH", required_unless_present = "replica", conflicts_with = "replica")]
    out: Option<PathBuf>,
    /// Make a replica of this name, ready to join the group of a deployment (see `reconfigure`)
    #[arg(long, value_name = "NAME")]
    replica: Option<String>,
    /// Deal the keys of a site of this name, into the directory --out
    #[arg(long, value_name = "NAME", conflicts_with = "replica", requires = "servers")]
    site: Option<String>,
    /// How many servers the site has
    #[arg(long, value_name = "N", requires = "site")]
    servers: Option<usize>,
    /// What its servers may do when they are faulty
    #[arg(long, value_enum, default_value_t, requires = "site")]
    faults: SiteFaults,
    /// How many of them may be Byzantine, so that f + 1 sign together; as many as so many servers can tolerate if
    /// left out
    #[arg(long, value_name = "F", requires = "site")]
    f: Option<usize>,
    #[command(flatten)]
    place: Place,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a faulty server of a site may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum SiteFaults {
    /// Anything: f + 1 servers sign together
    #[default]
    Byzantine,
    /// Crash, and never lie: each server holds the site's key
    Crash,
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

#[derive(Serialize)]
struct MadeSite {
    public_key: String,
    public_keys_file: PathBuf,
    secret_key_files: Vec<PathBuf>,
}

impl Keygen {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match (&self.replica, &self.site, &self.out) {
            (Some(name), _, _) => self.make_replica(name),
            (None, Some(site), Some(out)) => self.make_site(site, out),
            (None, None, Some(out)) => self.make_key(out),
            (None, _, None) => {
                Err(miette!(help = "--out PATH or --replica NAME", "nothing to make a key for"))
            }
        }
    }

    fn make_site(&self, name: &str, directory: &Path) -> Result<ExitCode> {
        let servers = self.servers.unwrap_or_default();
        let f = match (self.faults, self.f) {
            (SiteFaults::Byzantine, f) => Some(f.unwrap_or(servers.saturating_sub(1) / 3)),
            (SiteFaults::Crash, None) => None,
            (SiteFaults::Crash, Some(_)) => {
                return Err(miette!(help = "leave --f out", "with --faults crash any one server signs"));
            }
        };
        let dealt = deal_site(directory, name, servers, f).into_diagnostic().wrap_err_with(|| {
            format!("no keys for the site `{name}` (existing ones are never overwritten)")
        })?;
        let public_key = dealt.public.to_string();
        if self.json {
            output::print_json(&MadeSite {
                public_key,
                public_keys_file: dealt.public_file,
                secret_key_files: dealt.secret_files,
            })?;
        } else {
            println!("{public_key}");
        }
        Ok(ExitCode::SUCCESS)
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

use crate::output;
use althing_crypto::Identity;
use clap::Args;
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

/// Make a key pair: a secret key file, and the public key that others get
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  althing keygen --out thermostat-0.key\n\n\
    The secret key stays on its machine, readable by its owner alone. The public key, on standard\n\
    output, goes into the configuration of all who talk to it.")]
pub(crate) struct Keygen {
    /// Where to write the secret key; an existing file is left alone
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Made {
    secret_key_file: PathBuf,
    public_key: String,
}

impl Keygen {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut secret = [0; 64];
        getrandom::fill(&mut secret).map_err(|error| miette!("the system gives no randomness: {error}"))?;
        let identity = Identity::from_secret_bytes(&secret);
        // 0600 from the start: the key is never readable by others, not even for a moment.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.out)
            .into_diagnostic()
            .wrap_err_with(|| {
                format!("cannot create {} (an existing key is never overwritten)", self.out.display())
            })?;
        writeln!(file, "{}", identity.to_secret_text().as_str())
            .and_then(|()| file.sync_all())
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot write {}", self.out.display()))?;
        let public_key = identity.public().to_string();
        if self.json {
            output::print_json(&Made { secret_key_file: self.out, public_key })?;
        } else {
            println!("{public_key}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

use super::place::Place;
use crate::output;
use crate::running::block_on;
use althing_node::GroupClient;
use althing_node::config::ClientFile;
use althing_services::{KvOperation, KvResult};
use clap::{Args, Subcommand};
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use serde::Serialize;
use std::process::ExitCode;
use std::time::Duration;

/// Use a replicated key-value store
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  althing serve kv &\n  althing kv put colour green\n  \
    althing kv get colour\n  althing kv cas colour green blue\n  \
    althing kv put colour green --site vik      in a system of sites")]
pub(crate) struct KvCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Put(Put),
    Get(Get),
    Cas(Cas),
    Delete(Delete),
}

#[derive(Debug, Args)]
struct Access {
    #[command(flatten)]
    place: Place,
    /// Which of the store's clients to be: two at once must be different ones
    #[arg(long, default_value = "client-0", value_name = "NAME")]
    client: String,
    /// The site to ask, in a system of sites: its client of that name
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// How long to wait for the answer, in seconds
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    within: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Give a key a value
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  althing kv put colour green")]
struct Put {
    key: String,
    value: String,
    #[command(flatten)]
    access: Access,
}

/// Print the value of a key; exit code 1 if it has none
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  althing kv get colour")]
struct Get {
    key: String,
    #[command(flatten)]
    access: Access,
}

/// Compare and swap: give a key a new value if it has the one expected; exit code 1 if not
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  althing kv cas colour green blue\n  \
    althing kv cas colour --absent red      only if it has none")]
struct Cas {
    key: String,
    /// The value that it must have
    #[arg(required_unless_present = "absent", conflicts_with = "absent")]
    expected: Option<String>,
    /// The key must have no value
    #[arg(long, value_name = "NEW")]
    absent: Option<String>,
    /// The value that it gets
    #[arg(required_unless_present = "absent", conflicts_with = "absent")]
    new: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// Take a key's value away
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  althing kv delete colour")]
struct Delete {
    key: String,
    #[command(flatten)]
    access: Access,
}

/// An answer as a program reads it.
#[derive(Serialize)]
struct AnswerReport {
    outcome: &'static str,
    value: Option<String>,
}

impl KvCommand {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let bytes = String::into_bytes;
        match self.what {
            What::Put(Put { key, value, access }) => {
                access.carry_out(&KvOperation::Put { key: bytes(key), value: bytes(value) })
            }
            What::Get(Get { key, access }) => access.carry_out(&KvOperation::Get { key: bytes(key) }),
            What::Cas(Cas { key, expected, absent, new, access }) => access.carry_out(&KvOperation::Cas {
                key: bytes(key),
                expected: expected.map(bytes),
                new: new.or(absent).map(bytes),
            }),
            What::Delete(Delete { key, access }) => {
                access.carry_out(&KvOperation::Delete { key: bytes(key) })
            }
        }
    }
}

impl Access {
    fn carry_out(&self, operation: &KvOperation) -> Result<ExitCode> {
        let within = Duration::try_from_secs_f64(self.within)
            .into_diagnostic()
            .wrap_err("--within is no number of seconds that one can wait")?;
        let deployment = self.place.deployment()?;
        let name = self.site.as_ref().map_or(self.client.clone(), |site| format!("{site}-{}", self.client));
        if !deployment.clients().iter().any(|client| client.name == name) {
            let known: Vec<_> = deployment.clients().iter().map(|client| client.name.as_str()).collect();
            return Err(miette!("there is no client `{name}`; there are: {}", known.join(", ")));
        }
        let file = ClientFile::load(&deployment.client_file(&name)).into_diagnostic()?;
        let answer = block_on(async {
            let client = GroupClient::connect(&file).await.into_diagnostic()?;
            client.invoke_within(operation.encode(), within).await.into_diagnostic()
        })?;
        let result = KvResult::decode(&answer.result).into_diagnostic()?;
        self.show(result)
    }

    fn show(&self, result: KvResult) -> Result<ExitCode> {
        let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
        let (outcome, value, is_success) = match result {
            KvResult::Value(None) => ("absent", None, false),
            KvResult::Value(Some(value)) => ("value", Some(text(value)), true),
            KvResult::Stored => ("stored", None, true),
            KvResult::Mismatch { actual } => ("mismatch", actual.map(text), false),
            KvResult::Deleted(was_there) => (if was_there { "deleted" } else { "absent" }, None, true),
            KvResult::Refused(refusal) => return Err(miette!("the store refuses: {refusal}")),
        };
        if self.json {
            output::print_json(&AnswerReport { outcome, value })?;
        } else {
            match (outcome, value) {
                ("value", Some(value)) => println!("{value}"),
                ("mismatch", actual) => {
                    eprintln!("nothing changed: the value is {}", actual.as_deref().unwrap_or("absent"));
                }
                ("absent", _) => eprintln!("absent"),
                _ => println!("{outcome}"),
            }
        }
        Ok(if is_success { ExitCode::SUCCESS } else { ExitCode::from(output::FAILED) })
    }
}

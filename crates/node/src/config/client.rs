use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use althing_crypto::Identity;
use althing_replica::AnswerPolicy;
use althing_types::{ClientId, Principal};
use serde::{Deserialize, Serialize};

use super::error::{ConfigError, Rule};
use super::files::{read_json, relative_to};
use super::group::{GroupConfig, parse_client_id};
use super::system::SystemConfig;

/// How long a client waits before it sends a request again, in milliseconds.
const DEFAULT_RETRY_MS: u64 = 300;

/// A client file as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawClient {
    /// The group file.
    pub group: PathBuf,
    /// The client's id in that group, as decimal text.
    pub client: String,
    /// The file with its secret key.
    pub secret_key: PathBuf,
    /// How long to wait before a request is sent again, at first.
    #[serde(default = "default_retry_ms")]
    pub retry_ms: u64,
    /// Which replicas are asked to answer, at first.
    #[serde(default)]
    pub answers: AnswerKind,
    /// The system file, where the group is a site of one: what is asked is then ordered by all sites.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<PathBuf>,
}

/// Which replicas a client asks to answer, at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerKind {
    /// As few as can convince it: the group has less to do. Where one of them fails, the client waits
    /// once until it asks again.
    #[default]
    Few,
    /// All: for who can't wait when a replica fails.
    All,
}

impl From<AnswerKind> for AnswerPolicy {
    fn from(kind: AnswerKind) -> Self {
        match kind {
            AnswerKind::Few => Self::Few,
            AnswerKind::All => Self::All,
        }
    }
}

fn default_retry_ms() -> u64 {
    DEFAULT_RETRY_MS
}

impl RawClient {
    /// A client with the usual timeout.
    #[must_use]
    pub fn new(group: PathBuf, client: ClientId, secret_key: PathBuf, answers: AnswerKind) -> Self {
        let client = client.0.to_string();
        Self { group, client, secret_key, retry_ms: DEFAULT_RETRY_MS, answers, system: None }
    }
}

/// A checked client file: one client of one group, with its secret key.
#[derive(Debug, Clone)]
pub struct ClientFile {
    group: Arc<GroupConfig>,
    client: ClientId,
    sessions: u16,
    identity: Identity,
    retry: Duration,
    answers: AnswerKind,
    system: Option<Arc<SystemConfig>>,
}

impl ClientFile {
    /// Reads and checks a client file, and the group and key files that it names.
    ///
    /// # Errors
    /// When one of them can't be read or breaks a rule.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::check(read_json::<RawClient>(path)?, path)
    }

    /// Checks what stands in the file at `path`, or a part of it.
    pub(super) fn check(raw: RawClient, path: &Path) -> Result<Self, ConfigError> {
        let rule = ConfigError::rule(path);
        let group = Arc::new(GroupConfig::load_latest(&relative_to(path, &raw.group))?);
        let client = parse_client_id(&raw.client).map_err(&rule)?;
        if raw.retry_ms == 0 {
            return Err(rule(Rule::Zero("retry_ms")));
        }
        // A session other than the first has no file.
        let entry = group.clients().get(&client);
        let no_client = || rule(Rule::NoSuchClient { group: group.name().to_owned(), client });
        let sessions = entry.ok_or_else(no_client)?.sessions;
        let secret = relative_to(path, &raw.secret_key);
        let identity = group.secret_of(Principal::Client(client), path, &secret)?;
        let (retry, answers) = (Duration::from_millis(raw.retry_ms), raw.answers);
        let system = raw.system.map(|file| SystemConfig::load(&relative_to(path, &file))).transpose()?;
        if let Some(system) = &system {
            check_residence(system, &group, client).map_err(&rule)?;
        }
        Ok(Self { group, client, sessions, identity, retry, answers, system: system.map(Arc::new) })
    }

    /// The group to speak to.
    #[must_use]
    pub fn group(&self) -> &Arc<GroupConfig> {
        &self.group
    }

    /// The client to be.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// How many operations it may have under way at a time.
    #[must_use]
    pub fn sessions(&self) -> u16 {
        self.sessions
    }

    /// Its secret keys.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Which replicas are asked to answer, at first.
    #[must_use]
    pub fn answers(&self) -> AnswerKind {
        self.answers
    }

    /// The system, where the group is a site of one.
    #[must_use]
    pub fn system(&self) -> Option<&Arc<SystemConfig>> {
        self.system.as_ref()
    }

    /// How long to wait before a request is sent again, at first.
    #[must_use]
    pub fn retry(&self) -> Duration {
        self.retry
    }
}

/// A client asks the site in which it lives: no other knows it.
fn check_residence(system: &SystemConfig, group: &GroupConfig, client: ClientId) -> Result<(), Rule> {
    let site = group.name().to_owned();
    let id = system.site_named(&site)?;
    let key = group.key_of(Principal::Client(client));
    let resident = system.residents().get(&client);
    if resident.is_some_and(|resident| resident.site == id && Some(&resident.public) == key) {
        return Ok(());
    }
    Err(Rule::NotAResident { client, site })
}

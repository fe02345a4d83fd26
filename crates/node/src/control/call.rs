use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::links::{LinkFault, LinkSelection};
use super::report::Status;
use super::server::{ShortPath, path_error};

/// The longest answer in bytes.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

/// How long a process may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What a process is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Where it stands.
    Status,
    /// To be faulty from now on, where its file allows that.
    Inject {
        /// How.
        fault: Fault,
    },
    /// To make links between sites faulty from now on, where the file allows that.
    InjectLink {
        /// Which.
        links: LinkSelection,
        /// How.
        fault: LinkFault,
    },
    /// To have a bit of its state go bad in memory, where its file allows that.
    Corrupt,
    /// To end in an orderly way.
    Shutdown,
}

/// How a replica can be made faulty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// It is honest.
    #[default]
    None,
    /// It sends nothing.
    Mute,
    /// It falsifies replies, events and state, with its real keys.
    Lie,
    /// It tells some replicas the contrary of what it tells the others.
    Equivocate,
    /// All that it sends leaves late.
    Delay {
        /// By so many milliseconds.
        ms: u64,
    },
    /// It floods the other replicas, beside what it has to say.
    Flood {
        /// With what.
        with: Flood,
    },
    /// As a site's server: it sends nothing to other sites.
    SilentForwarder,
    /// As a site's server: what it sends to other sites leaves late.
    SlowForwarder {
        /// By so many milliseconds.
        ms: u64,
    },
    /// As a site's server: it drops what other sites send.
    DeafPeer,
    /// As a site's server: its shares of the site's signature are wrong.
    WrongShares,
    /// As a site's server: it has its site tell each other site something else, as far as the servers that do
    /// the same are more than the site tolerates.
    Betray {
        /// What chance follows from, the same at all of them.
        seed: u64,
    },
}

impl Fault {
    /// Whether only a site's server can have it.
    #[must_use]
    pub fn is_of_sites(self) -> bool {
        matches!(
            self,
            Self::SilentForwarder
                | Self::SlowForwarder { .. }
                | Self::DeafPeer
                | Self::WrongShares
                | Self::Betray { .. }
        )
    }
}

/// What a replica floods the others with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flood {
    /// Bytes that mean nothing.
    #[default]
    Garbage,
    /// Statements with signatures that don't hold.
    Signatures,
    /// What it said last, again and again.
    Repeats,
}

impl Flood {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Garbage, Self::Signatures, Self::Repeats];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Garbage => "garbage",
            Self::Signatures => "signatures",
            Self::Repeats => "repeats",
        }
    }
}

/// What a process answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "snake_case")]
pub enum Response {
    /// Where it stands.
    Status(Box<Status>),
    /// Done.
    Done,
    /// Not done.
    Refused {
        /// Why.
        reason: String,
    },
}

/// Why a process could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens there.
    #[error("{path}: no process answers here ({source}); is it running?")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The socket can't be opened.
    #[error("{path}: the control socket can not be opened: {source}")]
    Open {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The connection broke off.
    #[error("{path}: the process broke off: {source}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No answer in time.
    #[error("{path}: the process has not answered within {TIMEOUT:?}; it hangs or is overloaded")]
    TimedOut {
        /// The socket.
        path: PathBuf,
    },
    /// An answer that is none.
    #[error("{path}: the process gave an answer that this program does not understand: {source}")]
    Answer {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// Asks the process whose control socket is at `path`.
///
/// # Errors
/// When it can't be asked or does not answer.
pub async fn request(path: &Path, request: &Request) -> Result<Response, ControlError> {
    let line = tokio::time::timeout(TIMEOUT, exchange(path, request))
        .await
        .map_err(|_| ControlError::TimedOut { path: path.to_owned() })??;
    serde_json::from_slice(&line).map_err(|source| ControlError::Answer { path: path.to_owned(), source })
}

async fn exchange(path: &Path, request: &Request) -> Result<Vec<u8>, ControlError> {
    let short = ShortPath::new(path).map_err(path_error(path))?;
    let stream = UnixStream::connect(short.as_path()).await;
    let stream = stream.map_err(|source| ControlError::Connect { path: path.to_owned(), source })?;
    let broken = |source| ControlError::Broken { path: path.to_owned(), source };
    let (read, mut write) = stream.into_split();
    let mut line = serde_json::to_vec(request).expect("requests have a JSON form");
    line.push(b'\n');
    write.write_all(&line).await.map_err(broken)?;
    let mut answer = Vec::new();
    let mut read = BufReader::new(read.take(MAX_ANSWER_BYTES));
    read.read_until(b'\n', &mut answer).await.map_err(broken)?;
    if answer.last() != Some(&b'\n') {
        return Err(broken(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(answer)
}

//! A client of a group on a real network: asks, and gets the answer that enough replicas agree on.

mod sessions;
mod updates;

use std::sync::Arc;
use std::time::Duration;

use althing_replica::membership::{Membership, ReconfigureOutcome, SignedReconfigure};
use althing_replica::{OperationKind, SubmitError};
use althing_types::{DecodeError, ReplicaId, decode, encode};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::config::{ClientFile, GroupConfig};
use crate::net::StartError;
use sessions::Sessions;

/// Operations that wait for a session, at most; who has more waits to hand them over.
const MAX_WAITING: usize = 256;

/// Emissions that wait to be read, at most; what comes on top is dropped and can be asked for.
const MAX_EMISSIONS: usize = 4096;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// The time is over. The operation may or may not take effect.
    #[error(
        "no answer from the group `{group}` within {after:?} ({connected} of {replicas} replicas are \
         connected); whether the operation takes effect is unknown"
    )]
    TimedOut {
        /// The group.
        group: String,
        /// How long was waited.
        after: Duration,
        /// Replicas with a connection.
        connected: usize,
        /// Replicas of the group.
        replicas: usize,
    },
    /// The operation was refused before it was sent.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The operation took effect, but its result is longer than the group allows.
    #[error("the operation was executed, but its result of {bytes} bytes is longer than the group allows")]
    ResultTooLong {
        /// Length of the result.
        bytes: u64,
    },
    /// What the group says about a change of its members can't be read: it runs another version.
    #[error("the group's answer is no outcome of a command: {0}; does it run the same version?")]
    Outcome(DecodeError),
    /// The site does not take the update: its settings are others than this client's file says.
    #[error(
        "the site refuses the update: it does not know this client, or its system takes no update that long; are \
         the system files of site and client the same?"
    )]
    RefusedBySite,
    /// The update is longer than the system allows.
    #[error("the operation of {bytes} bytes is longer than the {most} that the system of sites takes")]
    UpdateTooLong {
        /// Its length.
        bytes: usize,
        /// What the system takes.
        most: usize,
    },
    /// What the site says of an update can't be read: it runs another version.
    #[error("the site's answer is none to an update: {0}; does it run the same version?")]
    SiteAnswer(DecodeError),
    /// Somebody else uses the same client at the same time.
    #[error(
        "another program is using the same client file; whether the operation takes effect is unknown. \
         Give each program a client of its own"
    )]
    Superseded,
    /// The client was closed.
    #[error("the client was closed")]
    Closed,
}

/// An answer of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The service's result.
    pub result: Vec<u8>,
    /// Whether the operation was ordered, or answered without.
    pub was_ordered: bool,
}

/// What one replica says that the service emitted. Only f + 1 of them together are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaEmission {
    /// It was this.
    Event {
        /// Who says so.
        from: ReplicaId,
        /// The channel.
        channel: u32,
        /// The event.
        payload: Vec<u8>,
    },
    /// What this replica has said so far counts no longer, where it was not agreed on.
    Ended {
        /// Who said so.
        from: ReplicaId,
    },
}

/// A client of a group. Clones are the same client. It carries out as many operations at a time as it has
/// sessions, in no certain order; with one session, one after the other in the order of asking. When the
/// last clone is dropped it disconnects.
#[derive(Debug, Clone)]
pub struct GroupClient {
    group: Arc<GroupConfig>,
    commands: mpsc::Sender<Command>,
    /// Says that somebody no longer waits for an answer.
    given_up: Arc<Notify>,
    connected: watch::Receiver<usize>,
    membership: watch::Receiver<Option<Membership>>,
}

#[derive(Debug)]
struct Command {
    operation: Vec<u8>,
    kind: OperationKind,
    answer: oneshot::Sender<Result<Answer, InvokeError>>,
}

impl GroupClient {
    /// Starts the client on the current tokio runtime. It connects in the background, and goes on
    /// trying for ever.
    ///
    /// # Errors
    /// When the network can't be started.
    pub async fn connect(file: &ClientFile) -> Result<Self, StartError> {
        Ok(Self::connect_listening(file).await?.0)
    }

    /// As [`Self::connect`], with what the group emits to this client.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_listening(
        file: &ClientFile,
    ) -> Result<(Self, mpsc::Receiver<ReplicaEmission>), StartError> {
        let (commands, received) = mpsc::channel(MAX_WAITING);
        let (emitting, emissions) = mpsc::channel(MAX_EMISSIONS);
        let (connecting, connected) = watch::channel(0);
        let (entering, membership) = watch::channel(file.group().membership());
        let given_up = Arc::new(Notify::new());
        let (sessions, events) = Sessions::start(file, emitting, (connecting, entering)).await?;
        tokio::spawn(sessions.run(received, events, Arc::clone(&given_up)));
        let group = Arc::clone(file.group());
        Ok((Self { group, commands, given_up, connected, membership }, emissions))
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &GroupConfig {
        &self.group
    }

    /// Who belongs to the group, as far as the client knows, and a way to wait until that changes. `None`
    /// where the members do not change. A client finds out when it asks something.
    #[must_use]
    pub fn membership(&self) -> watch::Receiver<Option<Membership>> {
        self.membership.clone()
    }

    /// How many replicas are connected, and a way to wait until that changes.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<usize> {
        self.connected.clone()
    }

    /// Has the group order and execute an operation, waiting as long as it takes. When the returned
    /// future is dropped, the operation is given up and may or may not take effect.
    ///
    /// # Errors
    /// See [`InvokeError`].
    pub async fn invoke(&self, operation: Vec<u8>) -> Result<Answer, InvokeError> {
        self.ask(operation, OperationKind::Ordered).await
    }

    /// Asks something that changes nothing.
    ///
    /// # Errors
    /// See [`InvokeError`].
    pub async fn query(&self, operation: Vec<u8>) -> Result<Answer, InvokeError> {
        self.ask(operation, OperationKind::ReadOnly).await
    }

    /// As [`Self::invoke`], for at most `within`.
    ///
    /// # Errors
    /// See [`InvokeError`].
    pub async fn invoke_within(&self, operation: Vec<u8>, within: Duration) -> Result<Answer, InvokeError> {
        self.limited(self.invoke(operation), within).await
    }

    /// As [`Self::query`], for at most `within`.
    ///
    /// # Errors
    /// See [`InvokeError`].
    pub async fn query_within(&self, operation: Vec<u8>, within: Duration) -> Result<Answer, InvokeError> {
        self.limited(self.query(operation), within).await
    }

    /// Has the group change its members, within this time. The answer names the next ones, or says why
    /// there are none.
    ///
    /// # Errors
    /// See [`InvokeError`].
    pub async fn reconfigure_within(
        &self,
        command: &SignedReconfigure,
        within: Duration,
    ) -> Result<ReconfigureOutcome, InvokeError> {
        let asking = self.ask(encode(command), OperationKind::Reconfigure);
        let answer = self.limited(asking, within).await?;
        decode(&answer.result, answer.result.len()).map_err(InvokeError::Outcome)
    }

    async fn limited(
        &self,
        asking: impl Future<Output = Result<Answer, InvokeError>>,
        within: Duration,
    ) -> Result<Answer, InvokeError> {
        tokio::time::timeout(within, asking).await.unwrap_or_else(|_| {
            Err(InvokeError::TimedOut {
                group: self.group.name().to_owned(),
                after: within,
                connected: *self.connected.borrow(),
                replicas: match &*self.membership.borrow() {
                    Some(membership) => membership.members.len(),
                    None => self.group.replicas().len(),
                },
            })
        })
    }

    async fn ask(&self, operation: Vec<u8>, kind: OperationKind) -> Result<Answer, InvokeError> {
        let (answer, answered) = oneshot::channel();
        let mut asking = Asking { answered, given_up: &self.given_up, is_over: false };
        let command = Command { operation, kind, answer };
        self.commands.send(command).await.map_err(|_| InvokeError::Closed)?;
        let answer = (&mut asking.answered).await;
        asking.is_over = true;
        answer.map_err(|_| InvokeError::Closed)?
    }
}

/// Waits for an answer; dropped before, it makes room for the next operation.
struct Asking<'a> {
    answered: oneshot::Receiver<Result<Answer, InvokeError>>,
    given_up: &'a Notify,
    is_over: bool,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.answered.close();
            self.given_up.notify_one();
        }
    }
}
